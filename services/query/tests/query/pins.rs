//! Pins: an export that is asked again with its pin gives the same rows whatever came since, or says what has changed.

use crate::world::{HOUR, NATIVE, World, definitions, functions, wait};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thyme_core::error::{Error, ErrorKind, Result};
use thyme_core::pin::{LogTag, Pin};
use thyme_core::position::{KnownAt, PositionSet};
use thyme_core::testing::cases;
use thyme_core::time::ClockMode;
use thyme_query::{Deployment, ExportQuestion};

const USERS: &[&str] = &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
/// Read from tables by user and by shop, called, and looked up.
const CALLED: &[&str] = &["double", "seen"];

type Order = (&'static str, i64, i64, Option<f64>, i64);

fn asked_for(features: &[&str]) -> ExportQuestion {
    ExportQuestion {
        featureset: "F".to_string(),
        features: Some(features.iter().map(|name| name.to_string()).collect()),
        timestamp_column: "when".to_string(),
        statuses: true,
        ..ExportQuestion::default()
    }
}

/// The same question once more, on what an answer stood on.
fn again(question: &ExportQuestion, answer: &RecordBatch) -> ExportQuestion {
    let mut again = ExportQuestion { pin: Some(pin_of(answer)), ..question.clone() };
    again.asking.known_at = None;
    again
}

fn pin_of(answer: &RecordBatch) -> Pin {
    Pin::decode(&answer.schema().metadata()["thyme.pin"]).unwrap()
}

fn spine(rows: &[(&str, i64)]) -> RecordBatch {
    let users = StringArray::from_iter_values(rows.iter().map(|(user, _)| *user));
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(_, time)| *time)).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("uid", Arc::new(users)),
        ("shop", Arc::new(Int64Array::from(vec![1; rows.len()]))),
        ("when", Arc::new(times)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn export(world: &World, question: &ExportQuestion, spine: &RecordBatch) -> Result<RecordBatch> {
    wait(async {
        let mut export = world.query.export(question.clone(), spine.schema()).await?;
        export.join(spine.clone()).await
    })
}

fn everyone_at(time: i64) -> Vec<Order> {
    USERS.iter().map(|user| (*user, time, 1, Some(1.0), 1)).collect()
}

/// The usual definitions and a featureset more.
fn with_another_featureset() -> serde_json::Value {
    let mut definitions = definitions(None);
    let other = serde_json::json!({"name": "Other", "features": [{"name": "uid", "type": "str"}, {"name": "shop", "type": "int"},
        {"name": "n", "type": "int", "ref": {"dataset": "ShopStats", "field": "orders_1h"}}]});
    definitions["featuresets"].as_array_mut().unwrap().push(other);
    definitions["featuresets"][0]["metadata"] = serde_json::json!({"description": "of users and shops"});
    definitions
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let user = prop::sample::select(vec!["a", "b", "c"]);
    let amount = prop::option::weighted(0.8, prop::sample::select(vec![0.1, 1e16, -1e16, 3.25]));
    let order = (user, (0..6 * HOUR / 900_000).prop_map(|tick| tick * 900_000), 1i64..3, amount, -2i64..9);
    prop::collection::vec(order, 0..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(80, 1_000)))]

    /// After late events and new keys, after a commit of something else, and on a node that was built from the log.
    #[test]
    fn a_pin_gives_the_same_rows_again(
        first in orders(),
        second in orders(),
        late in orders(),
        asked in prop::collection::vec((prop::sample::select(vec!["a", "b", "c", "d"]), 0..8 * HOUR), 1..40),
        known_at in prop::option::of(prop::sample::select(vec![99i64, 100, 200])),
        is_called: bool,
        exclusive: bool,
        slices in 1u16..5,
        others in 1u16..5,
    ) {
        let world = World::sliced(definitions(None), functions(), ClockMode::Event, slices);
        for (appended, orders) in [(100, &first), (200, &second)] {
            world.clock.0.store(appended, Ordering::SeqCst);
            world.orders(orders);
        }
        let mut question = asked_for(if is_called { CALLED } else { NATIVE });
        question.asking.exclusive = exclusive;
        question.asking.known_at = known_at.map(KnownAt::AppendTime);
        let spine = spine(&asked);
        let answer = export(&world, &question, &spine).unwrap();
        // Appended before that `known_at`, and not applied before now.
        world.clock.0.store(50, Ordering::SeqCst);
        world.orders(&late);
        world.orders(&[("d", HOUR, 1, None, 7)]);
        world.recommit(with_another_featureset(), "c2");
        let again = again(&question, &answer);
        let here = export(&world, &again, &spine).unwrap();
        prop_assert_eq!(here.columns(), answer.columns());
        let there = export(&world.follower(others), &again, &spine).unwrap();
        prop_assert_eq!(there.columns(), answer.columns());
        prop_assert_eq!(there.schema(), here.schema(), "the metadata too");
        prop_assert_eq!(pin_of(&here), pin_of(&answer));
    }
}

#[test]
fn a_pin_holds_what_known_at_does_not() {
    let world = World::new(None);
    world.clock.0.store(100, Ordering::SeqCst);
    world.orders(&[("a", HOUR, 1, Some(2.0), 1)]);
    world.clock.0.store(101, Ordering::SeqCst);
    world.orders(&[("a", HOUR, 1, Some(8.0), 1)]);
    let mut question = asked_for(&["spend"]);
    question.asking.known_at = Some(KnownAt::AppendTime(100));
    let spine = spine(&[("a", HOUR)]);
    let answer = export(&world, &question, &spine).unwrap();
    let spent = answer.column_by_name("spend").unwrap();
    assert_eq!(spent.as_primitive::<Float64Type>().value(0), 2.0);
    // It was on its way into the log.
    world.clock.0.store(100, Ordering::SeqCst);
    world.orders(&[("a", HOUR, 1, Some(4.0), 1)]);
    assert_ne!(export(&world, &question, &spine).unwrap().columns(), answer.columns());
    assert_eq!(export(&world, &again(&question, &answer), &spine).unwrap().columns(), answer.columns());
}

#[test]
fn metadata_under_a_pin_does_not_tell_when_it_was_asked() {
    let world = World::new(Some("1h"));
    world.orders(&everyone_at(HOUR));
    let question = asked_for(NATIVE);
    let answer = export(&world, &question, &spine(&[("a", HOUR)])).unwrap();
    let names = |answer: &RecordBatch| {
        let mut names: Vec<String> = answer.schema().metadata().keys().cloned().collect();
        names.sort();
        names.join(" ")
    };
    let always = "thyme.definition thyme.featureset thyme.mode thyme.pin thyme.position";
    assert_eq!(names(&answer), format!("thyme.commit_id {always} thyme.query_run_id thyme.ts thyme.watermark"));
    // A spine that was an answer itself.
    let mut metadata = answer.schema().metadata().clone();
    metadata.insert("mine".to_string(), "kept".to_string());
    let plain = spine(&[("a", HOUR)]);
    let schema = plain.schema().as_ref().clone().with_metadata(metadata);
    let told = RecordBatch::try_new(Arc::new(schema), plain.columns().to_vec()).unwrap();
    assert_eq!(names(&export(&world, &again(&question, &answer), &told).unwrap()), format!("mine {always}"));
    assert_eq!(world.runs.0.lock().len(), 2, "it is a run all the same");
}

/// Kind, field and message.
fn parts(error: &Error) -> (ErrorKind, &str, &str) {
    (error.kind(), error.field_name().unwrap_or_default(), error.message())
}

#[test]
fn erased_keys_break_a_pin() {
    let world = World::new(None);
    world.orders(&everyone_at(HOUR));
    world.erase("p");
    let spine = spine(&[("a", HOUR), ("b", HOUR), ("p", HOUR)]);
    let (by_user, by_shop, looked_up) = (asked_for(&["orders"]), asked_for(&["shop_orders"]), asked_for(&["seen"]));
    let questions = [by_user.clone(), by_shop, looked_up, asked_for(&["newest_items"])];
    let answers = questions.each_ref().map(|question| export(&world, question, &spine).unwrap());
    // What was erased before the pin is none of its business.
    for (question, answer) in questions.iter().zip(&answers) {
        assert_eq!(export(&world, &again(question, answer), &spine).unwrap().columns(), answer.columns());
    }
    world.erase("b");
    for (question, answer) in questions.iter().zip(&answers) {
        let told = export(&world, &again(question, answer), &spine);
        if question.features == Some(vec!["shop_orders".to_string()]) {
            // Until the table by shop is built anew without the key, questions are answered as before.
            assert_eq!(told.unwrap().columns(), answer.columns());
            continue;
        }
        let message = "keys of 'Order' were erased since the pin was made";
        assert_eq!(parts(&told.unwrap_err()), (ErrorKind::FailedPrecondition, "pin", message));
    }
    // A pin that is made now holds.
    let answer = export(&world, &by_user, &spine).unwrap();
    assert_eq!(export(&world, &again(&by_user, &answer), &spine).unwrap().columns(), answer.columns());
}

#[test]
fn a_table_that_is_built_anew_breaks_a_pin() {
    let world = World::new(None);
    world.orders(&everyone_at(HOUR));
    let spine = spine(&[("a", HOUR)]);
    let question = asked_for(&["shop_orders"]);
    let answer = export(&world, &question, &spine).unwrap();
    let mut rebuilt: Deployment = world.deployment.clone();
    let served = rebuilt.tables.iter_mut().find(|(identity, _)| identity.starts_with("pipeline:ShopStats"));
    served.unwrap().1.table.id += 100;
    world.query.deploy(rebuilt);
    let error = export(&world, &again(&question, &answer), &spine).unwrap_err();
    let message = "the pin does not have the table of 'ShopStats.compute' as it is now";
    assert_eq!(parts(&error), (ErrorKind::FailedPrecondition, "pin", message));
    assert!(error.to_string().contains("built anew since"), "{error}");
    // The same for other features than the pin's.
    let error = export(&world, &again(&asked_for(&["orders"]), &answer), &spine).unwrap_err();
    assert_eq!(error.message(), "the pin does not have the table of 'UserStats.compute' as it is now");
}

#[test]
fn another_definition_breaks_a_pin() {
    let world = World::new(None);
    world.orders(&everyone_at(HOUR));
    let spine = spine(&[("a", HOUR)]);
    let question = asked_for(&["mean"]);
    let answer = export(&world, &question, &spine).unwrap();
    let mut changed = definitions(None);
    changed["featuresets"][0]["features"][6]["default"] = serde_json::json!({"float": -3.0});
    world.recommit(changed, "c2");
    let error = export(&world, &again(&question, &answer), &spine).unwrap_err();
    let message = "the pin is of another definition of featureset 'F'";
    assert_eq!(parts(&error), (ErrorKind::FailedPrecondition, "pin", message));
    let now = export(&world, &question, &spine).unwrap();
    let definition = |answer: &RecordBatch| answer.schema().metadata()["thyme.definition"].clone();
    assert_ne!(definition(&now), definition(&answer));
    // As it was.
    world.recommit(with_another_featureset(), "c3");
    let told = export(&world, &again(&question, &answer), &spine).unwrap();
    assert_eq!((told.columns(), definition(&told)), (answer.columns(), definition(&answer)));
}

#[test]
fn a_pin_is_of_one_log_and_of_what_a_node_has_applied() {
    let world = World::new(None);
    let behind = world.follower(2);
    world.orders(&everyone_at(HOUR));
    let spine = spine(&[("a", HOUR)]);
    let question = asked_for(&["orders"]);
    let answer = export(&world, &question, &spine).unwrap();
    let error = export(&behind, &again(&question, &answer), &spine).unwrap_err();
    assert_eq!((error.kind(), error.field_name()), (ErrorKind::Unavailable, Some("pin")));
    assert!(error.message().starts_with("the pin is ahead of this node's state of 'UserStats.compute'"), "{error}");
    behind.run_to_end();
    assert_eq!(export(&behind, &again(&question, &answer), &spine).unwrap().columns(), answer.columns());

    let mut foreign = again(&question, &answer);
    foreign.pin = Some(Pin { log: LogTag::of("embedded:another"), ..pin_of(&answer) });
    let error = export(&world, &foreign, &spine).unwrap_err();
    assert_eq!(parts(&error), (ErrorKind::FailedPrecondition, "pin", "the pin is of another log"));
}

#[test]
fn what_a_pin_has_already_is_not_given_beside_it() {
    let world = World::new(None);
    world.orders(&everyone_at(HOUR));
    let spine = spine(&[("a", HOUR)]);
    let question = asked_for(&["orders"]);
    let asked = again(&question, &export(&world, &question, &spine).unwrap());
    let (mut known_at, mut at_least) = (asked.clone(), asked);
    known_at.asking.known_at = Some(KnownAt::AppendTime(1));
    at_least.asking.at_least = Some(PositionSet::default());
    for (asked, field) in [(known_at, "known_at"), (at_least, "at_least")] {
        let error = export(&world, &asked, &spine).unwrap_err();
        assert_eq!((error.kind(), error.field_name()), (ErrorKind::InvalidArgument, Some(field)));
    }
}

/// `history=5h` below a watermark that is an hour behind the newest event.
fn world_with_history() -> World {
    let mut definitions = definitions(Some("1h"));
    definitions["datasets"][0]["history"] = "5h".into();
    let aggregates = definitions["pipelines"][0]["aggregates"].as_array_mut().unwrap();
    let endless = aggregates.iter_mut().filter(|aggregate| aggregate["window"] == "forever");
    endless.for_each(|aggregate| aggregate["window"] = "2h".into());
    World::with(definitions, functions(), ClockMode::Event)
}

#[test]
fn the_horizon_of_a_pin_is_that_of_then() {
    let horizon = 123 * HOUR;
    let native: &[&str] = &["orders", "shop_orders", "newest_items"];
    for features in [native, CALLED] {
        let world = world_with_history();
        (100..130).for_each(|hour| world.orders(&everyone_at(hour * HOUR)));
        let question = asked_for(features);
        let early = spine(&[("a", horizon - 1), ("a", horizon + 3 * HOUR), ("b", 1)]);
        let near = spine(&[("a", horizon - 1), ("a", horizon)]);
        let of_early = export(&world, &question, &early).unwrap();
        let of_near = export(&world, &question, &near).unwrap();
        for name in features.iter().map(|feature| format!("{feature}__status")) {
            let statuses: Vec<_> = of_near.column_by_name(&name).unwrap().as_string::<i32>().iter().flatten().collect();
            assert_eq!(statuses, ["ERROR", "OK"], "{name}");
        }
        world.orders(&everyone_at(129 * HOUR));
        assert_eq!(export(&world, &again(&question, &of_near), &near).unwrap().columns(), of_near.columns());
        // The horizon moves on by an hour.
        world.orders(&everyone_at(130 * HOUR));
        // What was ERROR is ERROR, and what is answered still is.
        let told = export(&world, &again(&question, &of_early), &early).unwrap();
        assert_eq!(told.columns(), of_early.columns());
        // What was answered and would be ERROR fails all of it. The lookup of an extractor would be told as an ERROR of its row.
        for feature in features {
            let mut question = again(&question, &of_near);
            question.features = Some(vec![feature.to_string()]);
            let error = export(&world, &question, &near).unwrap_err();
            assert_eq!((error.kind(), error.field_name()), (ErrorKind::OutOfRange, Some("pin")), "{feature}");
            assert!(error.message().ends_with("which has moved on since the pin was made"), "{error}");
        }
        assert!(export(&world, &question, &near).is_ok(), "without the pin it is an ERROR in its row");
    }
}

#[test]
fn a_partition_without_a_horizon_may_get_one() {
    let world = world_with_history();
    let question = asked_for(&["orders", "shop_orders"]);
    let spine = spine(&[("a", HOUR)]);
    let answer = export(&world, &question, &spine).unwrap();
    world.orders(&everyone_at(6 * HOUR));
    assert_eq!(export(&world, &again(&question, &answer), &spine).unwrap().columns(), answer.columns());
    world.orders(&everyone_at(9 * HOUR));
    let error = export(&world, &again(&question, &answer), &spine).unwrap_err();
    assert_eq!((error.kind(), error.field_name()), (ErrorKind::OutOfRange, Some("pin")));
}
