//! Values and their statuses: OK, DEFAULT, ERROR; defaults; nulls; T at the edges of a window; extractors.

use crate::world::{HOUR, NATIVE, World, question};
use thyme_core::value::Value;
use thyme_query::{At, FeatureValue, Given, Question, Status};

fn value(world: &World, question: Question) -> FeatureValue {
    let answer = world.ask(question).unwrap();
    answer.columns[0].values[0].clone()
}

fn one(world: &World, user: &str, feature: &str, at: i64) -> FeatureValue {
    value(world, question(user, &[feature], At::Time(at)))
}

#[test]
fn a_window_holds_both_its_ends_to_the_microsecond() {
    let world = World::new(None);
    world.orders(&[("a", 10 * HOUR, 1, Some(1.5), 2)]);
    for (at, count) in [(-1, 0), (0, 1), (1, 1), (HOUR - 1, 1), (HOUR, 1), (HOUR + 1, 0)] {
        let got = one(&world, "a", "orders", 10 * HOUR + at);
        assert_eq!(got.value, Value::Int(count), "at {at}");
        assert_eq!(got.status, if count == 1 { Status::Ok } else { Status::Default });
    }
}

#[test]
fn an_exclusive_window_ends_before_t_and_begins_where_it_did() {
    let world = World::new(None);
    world.orders(&[("a", 10 * HOUR, 1, Some(1.5), 2)]);
    for (at, count) in [(0, 0), (1, 1), (HOUR - 1, 1), (HOUR, 1), (HOUR + 1, 0)] {
        let mut asked = question("a", &["orders"], At::Time(10 * HOUR + at));
        asked.asking.exclusive = true;
        assert_eq!(value(&world, asked).value, Value::Int(count), "at {at}");
    }
}

#[test]
fn a_default_replaces_an_empty_window_the_features_own_first() {
    let world = World::new(None);
    world.orders(&[("a", HOUR, 1, None, 2)]);
    for (user, at) in [("a", 9 * HOUR), ("nobody", HOUR)] {
        assert_eq!(one(&world, user, "mean", at), FeatureValue::default_of(Value::Float(-2.0)));
        assert_eq!(one(&world, user, "mean_plain", at), FeatureValue::default_of(Value::Float(-1.0)));
        assert_eq!(one(&world, user, "spend", at), FeatureValue::default_of(Value::Float(0.0)));
        assert_eq!(one(&world, user, "last_amount", at), FeatureValue::default_of(Value::Float(7.0)));
    }
    assert_eq!(one(&world, "nobody", "biggest", HOUR), FeatureValue::default_of(Value::Null));
    assert_eq!(one(&world, "nobody", "newest_items", HOUR), FeatureValue::default_of(Value::Int(-1)));
    assert_eq!(one(&world, "a", "newest_items", HOUR - 1), FeatureValue::default_of(Value::Int(-1)));
}

#[test]
fn a_default_never_replaces_a_null_that_an_event_carried() {
    let world = World::new(None);
    world.orders(&[("a", HOUR, 1, Some(3.0), 2), ("a", HOUR + 1, 1, None, 4)]);
    assert_eq!(one(&world, "a", "last_amount", HOUR), FeatureValue::ok(Value::Float(3.0)));
    assert_eq!(one(&world, "a", "last_amount", HOUR + 1), FeatureValue::ok(Value::Null));
    assert_eq!(one(&world, "a", "newest_items", HOUR + 1), FeatureValue::ok(Value::Int(4)));
}

#[test]
fn a_sum_beyond_64_bits_is_an_error_value_and_nothing_else_fails() {
    let world = World::new(None);
    world.orders(&[("a", HOUR, 1, Some(3.0), i64::MAX), ("a", HOUR + 1, 1, None, i64::MAX)]);
    let answer = world.ask(question("a", &["items", "orders"], At::Time(HOUR + 1))).unwrap();
    assert!(answer.columns[0].values[0].status.reason().is_some());
    assert_eq!(answer.columns[0].values[0].value, Value::Null);
    assert_eq!(answer.columns[1].values[0], FeatureValue::ok(Value::Int(2)));
}

#[test]
fn only_what_passed_the_filter_makes_a_key_known() {
    let world = World::new(None);
    world.orders(&[("a", HOUR, 1, Some(3.0), -5), ("b", HOUR, 1, Some(3.0), 5)]);
    let hits = |user: &str, features: &[&str], at: i64| {
        world.ask(question(user, features, At::Time(at))).unwrap().run.hit_count
    };
    assert_eq!(hits("a", &["orders"], 100 * HOUR), 0);
    assert_eq!(hits("b", &["orders"], 100 * HOUR), 1);
    assert_eq!(hits("b", &["orders"], HOUR - 1), 0);
    assert_eq!(hits("a", &["newest_items"], HOUR), 1);
}

#[test]
fn a_batch_gives_what_single_questions_give() {
    let world = World::new(None);
    world.orders(&[("a", HOUR, 1, Some(1.0), 2), ("b", HOUR, 1, Some(2.0), 9), ("a", 2 * HOUR, 2, Some(4.0), 3)]);
    let users = ["b", "nobody", "a", "b"];
    let mut asked = question("a", NATIVE, At::Time(2 * HOUR));
    let all: Vec<_> = users.iter().flat_map(|user| question(user, NATIVE, At::Now).keys).collect();
    asked.keys = all;
    let batch = world.ask(asked).unwrap();
    assert_eq!(batch.row_count, 4);
    for (row, user) in users.iter().enumerate() {
        let single = world.ask(question(user, NATIVE, At::Time(2 * HOUR))).unwrap();
        for (of_batch, of_single) in batch.columns.iter().zip(&single.columns) {
            assert_eq!(of_batch.values[row], of_single.values[0], "{} of {user}", of_batch.name);
        }
    }
}

#[test]
fn a_batch_that_is_read_in_turns_is_the_sum_of_small_ones() {
    let world = World::new(None);
    let known: Vec<String> = (0..300).map(|user| format!("user{user}")).collect();
    let orders =
        (0..900).map(|order: i64| (known[order as usize % 300].as_str(), order * HOUR / 90, 1, Some(0.1), order));
    world.orders(&orders.collect::<Vec<_>>());
    // Most are unknown, and each comes twice or three times.
    let users: Vec<String> = (0..20_000).map(|row| format!("user{}", row * 7_919 % 8_000)).collect();
    let ask = |users: &[String]| {
        let mut asked = question("", NATIVE, At::Time(10 * HOUR));
        asked.keys = users.iter().flat_map(|user| question(user, NATIVE, At::Now).keys).collect();
        world.ask(asked).unwrap()
    };
    let large = ask(&users);
    for (part, users) in users.chunks(500).enumerate() {
        let small = ask(users);
        for (of_large, of_small) in large.columns.iter().zip(&small.columns) {
            assert_eq!(of_large.values[part * 500..][..500], of_small.values, "{} in part {part}", of_large.name);
        }
    }
    assert!(large.columns[0].values.iter().any(|found| found.value != large.columns[0].values[0].value));
}

#[test]
fn keys_come_typed_or_as_text_or_json() {
    let world = World::new(None);
    world.orders(&[("a", HOUR, 7, Some(1.0), 2)]);
    let mut asked = question("a", &["shop_orders"], At::Time(HOUR));
    for shop in [Given::Text("7".into()), Given::Value(Value::Int(7)), Given::Json(serde_json::json!(7))] {
        asked.keys[0].insert("shop".to_string(), shop);
        let answer = world.ask(asked.clone()).unwrap();
        assert_eq!(answer.columns[0].values[0], FeatureValue::ok(Value::Int(1)));
        assert_eq!(answer.keys, vec![("shop".into(), vec![Value::Int(7)])]);
    }
    asked.keys[0] = [("entity_id".to_string(), Given::Json(serde_json::json!({"shop": 7})))].into();
    assert_eq!(value(&world, asked.clone()), FeatureValue::ok(Value::Int(1)));
    asked.keys[0] = [("entity_id".to_string(), Given::Text("7".into()))].into();
    assert_eq!(value(&world, asked), FeatureValue::ok(Value::Int(1)));
}
