//! The extractor DAG: order, types, failures, lookups.

use crate::world::{Functions, HOUR, World, definitions, functions, question};
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::time::ClockMode;
use thyme_core::value::Value;
use thyme_query::{At, FeatureValue, Given, Status};

fn asked(world: &World, features: &[&str], at: i64) -> Vec<FeatureValue> {
    let mut asked = question("a", features, At::Time(at));
    asked.inputs = vec![[("limit".to_string(), Given::Value(Value::Int(3)))].into()];
    let answer = world.ask(asked).unwrap();
    answer.columns.into_iter().map(|column| column.values[0].clone()).collect()
}

fn world(change: impl FnOnce(&mut Functions)) -> World {
    let mut functions = functions();
    change(&mut functions);
    let world = World::with(definitions(None), functions, ClockMode::Event);
    world.orders(&[("a", HOUR, 1, Some(2.0), 1)]);
    world
}

#[test]
fn an_extractor_sees_what_others_made() {
    let world = world(|_| {});
    let values = asked(&world, &["busy", "double", "seen"], HOUR);
    assert_eq!(values[0], FeatureValue::ok(Value::Bool(true)));
    assert_eq!(values[1], FeatureValue::ok(Value::Float(4.0)));
    assert_eq!(values[2], FeatureValue::ok(Value::Int(1)));
}

#[test]
fn only_what_is_needed_is_called() {
    let world = world(|_| {});
    asked(&world, &["orders"], HOUR);
    assert!(world.functions.calls.lock().is_empty());
    asked(&world, &["double"], HOUR);
    assert_eq!(*world.functions.calls.lock(), vec![("twice".to_string(), 1)]);
}

#[test]
fn a_failure_fails_its_outputs_and_what_depends_on_them_only() {
    let world = world(|functions| {
        functions.by_name.insert("twice".into(), Arc::new(|_, _| Err("raised ValueError: no".into())));
    });
    let values = asked(&world, &["busy", "double", "seen", "orders"], HOUR);
    assert_eq!(values[1].status.reason(), Some("extractor F.twice: raised ValueError: no"));
    assert_eq!(values[0].status.reason(), Some("input 'double' failed: extractor F.twice: raised ValueError: no"));
    assert_eq!((values[2].status.clone(), values[3].status.clone()), (Status::Ok, Status::Ok));
}

#[test]
fn outputs_are_typed_by_their_feature() {
    let answers: &[(Value, Result<Value, &str>)] = &[
        (Value::Int(3), Ok(Value::Float(3.0))),
        (Value::Null, Err("extractor F.twice returned None for feature 'double', which is float and not Optional")),
        (Value::str("x"), Err("extractor F.twice returned str for feature 'double', which is float")),
        (Value::Bool(true), Err("extractor F.twice returned bool for feature 'double', which is float")),
    ];
    for (returned, wanted) in answers.iter().cloned() {
        let world = world(|functions| {
            functions.by_name.insert("twice".into(), Arc::new(move |_, _| Ok(vec![Ok(returned.clone())])));
        });
        let value = &asked(&world, &["double"], HOUR)[0];
        match wanted {
            Ok(wanted) => assert_eq!(*value, FeatureValue::ok(wanted)),
            Err(reason) => assert_eq!(value.status.reason(), Some(reason)),
        }
    }
    let world = world(|functions| {
        functions.by_name.insert("twice".into(), Arc::new(|_, _| Ok(vec![Ok(Value::Null), Ok(Value::Null)])));
    });
    let reason = asked(&world, &["double"], HOUR)[0].status.reason().map(str::to_string);
    assert_eq!(reason.as_deref(), Some("extractor F.twice returned 2 values for 1 outputs"));
}

/// Asks for `seen` with an extractor that looks up like this.
fn looked_up(dataset: &'static str, key: &'static str, shift: i64, at: i64, exclusive: bool) -> FeatureValue {
    let world = world(|functions| {
        functions.by_name.insert(
            "look".into(),
            Arc::new(move |call, row| {
                let named = BTreeMap::from([(key.to_string(), call.rows[row][0].clone())]);
                let found = call.lookups.lookup(dataset, call.times[row] + shift, call.times[row], &named);
                let found = found.map_err(|error| Arc::from(error.to_string()))?;
                Ok(vec![Ok(found.map_or(Value::Null, |row| row["orders_1h"].clone()))])
            }),
        );
    });
    let mut question = question("a", &["seen"], At::Time(at));
    question.asking.exclusive = exclusive;
    world.ask(question).unwrap().columns[0].values[0].clone()
}

#[test]
fn lookups_read_as_the_question_reads() {
    assert_eq!(looked_up("UserStats", "user", 0, HOUR, false), FeatureValue::ok(Value::Int(1)));
    assert_eq!(looked_up("UserStats", "user", -1, HOUR, false), FeatureValue::ok(Value::Int(0)));
    assert_eq!(looked_up("UserStats", "user", 0, HOUR, true), FeatureValue::ok(Value::Int(0)));
    assert_eq!(looked_up("UserStats", "user", 0, HOUR + 1, true), FeatureValue::ok(Value::Int(1)));
}

#[test]
fn lookups_refuse_the_future_and_what_was_not_declared() {
    let reason = |value: FeatureValue| value.status.reason().unwrap().to_string();
    let future = reason(looked_up("UserStats", "user", 1, HOUR, false));
    assert!(future.contains("a lookup at 1970-01-01T01:00:00.000001Z is later than"), "{future}");
    let undeclared = reason(looked_up("ShopStats", "shop", 0, HOUR, false));
    assert!(undeclared.contains("'ShopStats' is not among the extractor's deps"), "{undeclared}");
    let unknown = reason(looked_up("UserStats", "usr", 0, HOUR, false));
    assert!(unknown.contains("unknown key 'usr'") && unknown.contains("did you mean 'user'?"), "{unknown}");
}
