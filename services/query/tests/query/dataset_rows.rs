//! The rows of a dataset: those that were accepted and not erased, in order of key, time and place in the log.

use crate::ranges::{ask, batches_of, info, place, rows_of};
use crate::world::{HOUR, World, definitions, functions};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use thyme_core::error::ErrorKind;
use thyme_core::key::partition_of_vnode;
use thyme_core::position::KnownAt;
use thyme_core::testing::cases;
use thyme_core::time::ClockMode;
use thyme_core::value::Value;
use thyme_query::{Asking, RangeOf, RangeQuestion};

type Order = (&'static str, i64, i64, Option<f64>, i64);
/// Partitions of the dataset's log.
const PARTITIONS: u16 = 4;

fn rows(dataset: &str) -> RangeQuestion {
    let of = RangeOf::Rows { dataset: dataset.to_string() };
    RangeQuestion { of, since: None, until: None, pin: None, asking: Asking::default() }
}

/// What was accepted, in the order in which it was.
#[derive(Default)]
struct Accepted {
    greatest: BTreeMap<u16, i64>,
    /// With the time of its arrival.
    orders: Vec<(Order, i64)>,
}

impl Accepted {
    fn take_in(&mut self, orders: &[Order], arrived: i64) {
        for order in orders {
            let greatest = self.greatest.entry(partition_of_vnode(vnode_of(order), PARTITIONS)).or_insert(i64::MIN);
            if order.1 >= greatest.saturating_sub(HOUR) {
                *greatest = order.1.max(*greatest);
                self.orders.push((*order, arrived));
            }
        }
    }

    /// Of `[since, until)`, as they should come.
    fn between(&self, since: i64, until: i64, arrived_by: i64) -> Vec<Order> {
        let is_asked = |(order, arrived): &&(Order, i64)| (since..until).contains(&order.1) && *arrived <= arrived_by;
        let mut asked: Vec<Order> = self.orders.iter().filter(is_asked).map(|(order, _)| *order).collect();
        asked.sort_by_key(|order| (place(&Value::str(order.0)), order.1));
        asked
    }
}

fn vnode_of(order: &Order) -> u8 {
    place(&Value::str(order.0)).0
}

/// The rows of an answer in words.
fn told(answer: &RecordBatch) -> Vec<(String, i64, i64, Option<f64>, i64)> {
    let ints = |name: &str| answer.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
    let users = answer.column_by_name("user").unwrap().as_string::<i32>().clone();
    let times = answer.column_by_name("ts").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
    let amounts = answer.column_by_name("amount").unwrap().as_primitive::<Float64Type>().clone();
    let (shops, items) = (ints("shop"), ints("items"));
    let amount = |row: usize| amounts.is_valid(row).then(|| amounts.value(row));
    let row =
        |row: usize| (users.value(row).to_string(), times.value(row), shops.value(row), amount(row), items.value(row));
    (0..answer.num_rows()).map(row).collect()
}

fn wanted(orders: &[Order]) -> Vec<(String, i64, i64, Option<f64>, i64)> {
    orders.iter().map(|order| (order.0.to_string(), order.1, order.2, order.3, order.4)).collect()
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let user = prop::sample::select(vec!["a", "b", "c", "d", "e"]);
    let amount = prop::option::weighted(0.8, prop::sample::select(vec![0.1, 3.25]));
    let order = (user, (0..16i64).prop_map(|tick| tick * 900_000_000), 1i64..4, amount, -2i64..9);
    prop::collection::vec(order, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(120, 1_500)))]

    /// Late ones and twins included.
    #[test]
    fn rows_are_what_was_accepted(
        first in orders(),
        second in orders(),
        later in orders(),
        erased in prop::sample::select(vec!["a", "b", "nobody"]),
        since in prop::option::of(-HOUR..5 * HOUR),
        length in prop::option::of(0..4 * HOUR),
        is_known_at: bool,
        cuts in prop::collection::vec(any::<u8>(), 0..5),
        slices in 1u16..5,
        others in 1u16..5,
    ) {
        let world = World::sliced(definitions(Some("1h")), functions(), ClockMode::Event, slices);
        let mut accepted = Accepted::default();
        world.clock.0.store(100, Ordering::SeqCst);
        world.orders(&first);
        accepted.take_in(&first, 100);
        world.erase(erased);
        accepted.orders.retain(|(order, _)| order.0 != erased);
        world.clock.0.store(200, Ordering::SeqCst);
        world.orders(&second);
        accepted.take_in(&second, 200);
        let now = accepted.greatest.values().copied().max().unwrap_or(0);
        let known_at = is_known_at.then_some(KnownAt::AppendTime(100));
        let until = length.map(|length| since.unwrap_or(0) + length);
        let question = RangeQuestion { since, until, asking: Asking { known_at, ..Asking::default() }, ..rows("Order") };
        let settled = info(&world, &question).unwrap().question;
        let answer = rows_of(&world, &settled, &cuts).unwrap();
        let arrived_by = if is_known_at { 100 } else { i64::MAX };
        let asked = accepted.between(since.unwrap_or(i64::MIN), until.unwrap_or(now + 1), arrived_by);
        prop_assert_eq!(told(&answer), wanted(&asked));
        world.clock.0.store(50, Ordering::SeqCst);
        world.orders(&later);
        prop_assert_eq!(&rows_of(&world, &settled, &[]).unwrap(), &answer);
        prop_assert_eq!(&rows_of(&world.follower(others), &settled, &cuts).unwrap(), &answer);
    }
}

#[test]
fn more_rows_than_a_chunk_holds_come_once_each() {
    let world = World::new(None);
    let user = |index: i64| ["a", "b"][usize::from(index % 3 == 0)];
    // Many of one instant, too.
    let orders: Vec<Order> = (0..150_000).map(|index| (user(index), index / 50_000 * HOUR, 1, None, index)).collect();
    world.orders(&orders);
    let answer = ask(&world, &rows("Order"), &[]).unwrap();
    let mut expected = orders;
    expected.sort_by_key(|order| (place(&Value::str(order.0)), order.1));
    assert!(told(&answer) == wanted(&expected), "{} rows", answer.num_rows());
}

#[test]
fn long_texts_make_small_chunks() {
    let world = World::new(None);
    let long: &'static str = Box::leak("x".repeat(1 << 18).into_boxed_str());
    world.orders(&(0..200).map(|index| (long, index, 1, None, 1)).collect::<Vec<Order>>());
    let settled = info(&world, &rows("Order")).unwrap().question;
    let batches = batches_of(&world, &settled, &[]).unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 200);
    assert!(batches.iter().all(|batch| batch.num_rows() <= 129), "32 MB each");
}

#[test]
fn rows_are_of_a_dataset_that_keeps_them() {
    let mut definitions = definitions(None);
    let plain = serde_json::json!({"name": "Plain", "version": 1, "index": false, "fields": [
        {"name": "id", "type": "int", "key": true}, {"name": "ts", "type": "datetime", "timestamp": true}]});
    definitions["datasets"].as_array_mut().unwrap().push(plain);
    let world = World::with(definitions, functions(), ClockMode::Event);
    let refused = |dataset: &str| info(&world, &rows(dataset)).unwrap_err();
    let error = refused("UserStats");
    assert_eq!((error.kind(), error.field_name()), (ErrorKind::InvalidArgument, Some("dataset")));
    assert!(error.hint_text().is_some_and(|hint| hint.contains("the changes of a featureset")), "{error}");
    let error = refused("Plain");
    assert_eq!((error.kind(), error.field_name()), (ErrorKind::FailedPrecondition, Some("dataset")));
    assert_eq!(refused("Ordr").to_string(), "unknown dataset 'Ordr' (hint: did you mean 'Order'?)");
    let schema = info(&world, &rows("Order")).unwrap().schema;
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(columns, ["user", "ts", "shop", "amount", "items"]);
    assert_eq!(schema.metadata()["thyme.dataset"], "Order");
    assert!(!schema.metadata().contains_key("thyme.featureset"));
}

#[test]
fn a_pin_is_of_the_definition_of_its_dataset() {
    let world = World::new(None);
    world.orders(&[("a", HOUR, 1, Some(1.0), 1)]);
    let settled = info(&world, &rows("Order")).unwrap().question;
    let mut described = definitions(None);
    described["datasets"][0]["fields"][3]["description"] = "what it cost".into();
    described["featuresets"] = serde_json::json!([]);
    world.recommit(described, "c2");
    assert_eq!(rows_of(&world, &settled, &[]).unwrap().num_rows(), 1);
    world.recommit(definitions(Some("1h")), "c3");
    let error = rows_of(&world, &settled, &[]).unwrap_err();
    assert_eq!(error.message(), "the pin is of another definition of dataset 'Order'");
    let of_changes = RangeOf::Changes {
        featureset: "F".to_string(),
        features: Some(vec!["newest_items".to_string()]),
        statuses: false,
    };
    let error = rows_of(&world, &RangeQuestion { of: of_changes, ..settled }, &[]).unwrap_err();
    assert_eq!(error.message(), "the pin is of another definition of featureset 'F'");
}
