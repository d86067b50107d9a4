//! Questions that cannot be answered: each error names what is wrong and what is nearest.

use crate::world::{HOUR, World, question};
use thyme_core::error::{Error, ErrorKind};
use thyme_core::value::Value;
use thyme_query::{At, Given, LookupQuestion, Question};

fn refused(world: &World, asked: Question) -> Error {
    world.ask(asked).unwrap_err()
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    let world = World::new(None);
    let mut asked = question("a", &["orders"], At::Now);
    asked.featureset = "G".to_string();
    let error = refused(&world, asked);
    assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, "unknown featureset 'G'"));

    let error = refused(&world, question("a", &["ordres"], At::Now));
    assert_eq!(error.to_string(), "unknown feature 'ordres' of featureset 'F' (hint: did you mean 'orders'?)");

    let mut asked = question("a", &["orders"], At::Now);
    asked.keys[0].insert("shopp".to_string(), Given::Text("1".to_string()));
    let error = refused(&world, asked);
    assert_eq!(error.to_string(), "unknown key 'shopp' of featureset 'F' (hint: did you mean 'shop'?)");

    let mut asked = question("a", &["orders"], At::Now);
    asked.inputs = vec![[("limti".to_string(), Given::Text("1".to_string()))].into()];
    let error = refused(&world, asked);
    assert_eq!(error.to_string(), "unknown input 'limti' of featureset 'F' (hint: did you mean 'limit'?)");
}

#[test]
fn keys_and_inputs_must_be_there_and_of_their_type() {
    let world = World::new(None);
    let mut asked = question("a", &["orders", "shop_orders"], At::Now);
    asked.keys[0].remove("shop");
    let error = refused(&world, asked.clone());
    assert_eq!((error.message(), error.field_name()), ("missing key 'shop'", Some("shop")));
    asked.features = Some(vec!["orders".to_string()]);
    assert!(world.ask(asked).is_ok(), "a key that the features do not need may be missing");

    let mut asked = question("a", &["shop_orders"], At::Now);
    asked.keys[0].insert("shop".to_string(), Given::Text("one".to_string()));
    assert_eq!(refused(&world, asked.clone()).message(), "key 'shop': expected int, got 'one'");
    asked.keys[0].insert("shop".to_string(), Given::Value(Value::Null));
    assert_eq!(refused(&world, asked.clone()).message(), "the key 'shop' is null");
    asked.keys[0] = [("entity_id".to_string(), Given::Text("1".to_string()))].into();
    assert!(world.ask(asked).is_ok(), "one needed key may come as entity_id");

    let error = refused(&world, question("a", &["busy"], At::Now));
    assert_eq!((error.message(), error.field_name()), ("missing input 'limit'", Some("limit")));
}

#[test]
fn what_is_not_there_yet_says_so() {
    let world = World::new(None);
    world.orders(&[("a", HOUR, 1, Some(1.0), 2)]);
    let lookup = |dataset: &str| LookupQuestion {
        dataset: dataset.to_string(),
        key: [("entity_id".to_string(), Given::Text("a".to_string()))].into(),
        at: None,
        asking: Default::default(),
    };
    let error = crate::world::wait(world.query.lookup(lookup("UserStat"))).unwrap_err();
    assert_eq!(error.to_string(), "unknown dataset 'UserStat' (hint: did you mean 'UserStats'?)");
    assert!(crate::world::wait(world.query.lookup(lookup("UserStats"))).is_ok());
}

#[test]
fn a_failed_question_is_recorded_with_its_error() {
    let world = World::new(None);
    refused(&world, question("a", &["ordres"], At::Time(5)));
    let runs = world.runs.0.lock();
    assert_eq!(runs.len(), 1);
    assert!(runs[0].error.as_ref().unwrap().contains("ordres"));
    assert_eq!(runs[0].requested_timestamp, Some(5));
}
