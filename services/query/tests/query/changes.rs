//! Changes: each row is one, none lacks, and the features of any key at any time are those of the last row before.

use crate::ranges::{ask, info, is_same_row, place, rows_of};
use crate::world::{HOUR, World, definitions, functions, wait};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thyme_core::error::ErrorKind;
use thyme_core::pin::Pin;
use thyme_core::position::KnownAt;
use thyme_core::testing::cases;
use thyme_core::time::{ClockMode, format_time};
use thyme_core::value::Value;
use thyme_query::{Asking, ExportQuestion, RangeOf, RangeQuestion};

type Order = (&'static str, i64, i64, Option<f64>, i64);

const BY_USER: &[&str] = &["orders", "items", "spend", "mean", "mean_plain", "biggest", "last_amount", "newest_items"];
/// Some of one table, of the other, of both; one that an extractor gives; those of a table that is routed.
const ASKED: [&[&str]; 6] =
    [BY_USER, &["orders"], &["biggest"], &["newest_items"], &["double", "items"], &["shop_orders", "shop_large"]];
const USERS: [&str; 4] = ["a", "b", "c", "d"];

fn names(features: &[&str]) -> Option<Vec<String>> {
    Some(features.iter().map(|name| name.to_string()).collect())
}

fn asked_for(features: &[&str]) -> RangeQuestion {
    RangeQuestion {
        of: RangeOf::Changes { featureset: "F".to_string(), features: names(features), statuses: true },
        since: None,
        until: None,
        pin: None,
        asking: Asking::default(),
    }
}

/// As [`asked_for`], with a spine.
fn with_spine(features: &[&str], asking: Asking, pin: Option<Pin>) -> ExportQuestion {
    ExportQuestion {
        featureset: "F".to_string(),
        features: names(features),
        timestamp_column: "timestamp".to_string(),
        statuses: true,
        pin,
        asking,
        ..ExportQuestion::default()
    }
}

fn is_by_shop(features: &[&str]) -> bool {
    features.contains(&"shop_orders")
}

/// A spine with one key at some times.
fn spine_of(key: &Value, times: &[i64]) -> RecordBatch {
    let times = TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
    let (name, keys): (&str, ArrayRef) = match key {
        Value::Int(shop) => ("shop", Arc::new(Int64Array::from(vec![*shop; times.len()]))),
        user => ("uid", Arc::new(StringArray::from(vec![user.as_str().unwrap(); times.len()]))),
    };
    RecordBatch::try_from_iter(vec![(name, keys), ("timestamp", Arc::new(times) as ArrayRef)]).unwrap()
}

/// The features of a spine, without its columns.
fn features_of(world: &World, question: ExportQuestion, spine: &RecordBatch) -> Vec<ArrayRef> {
    let joined = wait(async {
        let mut export = world.query.export(question, spine.schema()).await?;
        export.join(spine.clone()).await
    });
    joined.unwrap().columns()[2..].to_vec()
}

fn keys_of(answer: &RecordBatch) -> Vec<Value> {
    match answer.schema().field(0).name().as_str() {
        "shop" => answer.column(0).as_primitive::<Int64Type>().values().iter().map(|shop| Value::Int(*shop)).collect(),
        _ => answer.column(0).as_string::<i32>().iter().flatten().map(Value::str).collect(),
    }
}

fn times_of(answer: &RecordBatch) -> Vec<i64> {
    answer.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

/// The rows that a key should have: time and features, by asking at all instants around those where an event comes in or leaves.
struct Expected<'a> {
    world: &'a World,
    features: &'a [&'a str],
    /// That the question sees.
    orders: &'a [Order],
    asking: Asking,
    since: i64,
    until: i64,
}

impl Expected<'_> {
    fn times(&self, key: &Value, is_known: impl Fn(&Order) -> bool) -> Vec<i64> {
        let is_of_key = |order: &&Order| *key == Value::Int(order.2) || *key == Value::str(order.0);
        self.orders.iter().filter(is_of_key).filter(|order| is_known(order)).map(|order| order.1).collect()
    }

    fn of(&self, key: &Value) -> (Vec<i64>, Vec<ArrayRef>, Vec<usize>) {
        // The pipeline by users leaves out orders of less than nothing; the rows of the dataset and the one by shops do not.
        let all_count = is_by_shop(self.features) || self.features.contains(&"newest_items");
        let known = self.times(key, |order| all_count || order.4 >= 0).into_iter().min();
        let start = known.map(|known| (known + i64::from(self.asking.exclusive)).max(self.since));
        let Some(start) = start.filter(|start| *start < self.until) else { return Default::default() };
        let mut instants = BTreeSet::from([start]);
        for time in self.times(key, |_| true) {
            for after in [0, HOUR, 2 * HOUR].into_iter().flat_map(|window| window - 1..=window + 3) {
                instants.insert(time + after);
            }
        }
        let instants: Vec<i64> = instants.range(start..self.until).copied().collect();
        let question = with_spine(self.features, self.asking.clone(), None);
        let features = features_of(self.world, question, &spine_of(key, &instants));
        let is_change = |row: &usize| *row == 0 || !is_same_row(&features, *row, &features, row - 1);
        let rows = (0..instants.len()).filter(is_change).collect();
        (instants, features, rows)
    }
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let user = prop::sample::select(vec!["a", "b", "c"]);
    let amount = prop::option::weighted(0.8, prop::sample::select(vec![0.1, 1e16, -1e16, 3.25, 0.0]));
    let order = (user, (0..5 * HOUR / 900_000_000).prop_map(|tick| tick * 900_000_000), 1i64..4, amount, -2i64..9);
    prop::collection::vec(order, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(120, 1_500)))]

    #[test]
    fn every_row_is_a_change_and_none_lacks(
        first in orders(),
        second in orders(),
        late in orders(),
        features in prop::sample::select(ASKED.to_vec()),
        since in prop::option::of(-HOUR..6 * HOUR),
        length in prop::option::of(0..4 * HOUR),
        exclusive: bool,
        is_known_at: bool,
        anywhere in prop::collection::vec((any::<prop::sample::Index>(), 0..8 * HOUR), 0..12),
        cuts in prop::collection::vec(any::<u8>(), 0..4),
        slices in 1u16..5,
        others in 1u16..5,
    ) {
        let world = World::sliced(definitions(None), functions(), ClockMode::Event, slices);
        for (appended, orders) in [(100, &first), (200, &second)] {
            world.clock.0.store(appended, Ordering::SeqCst);
            world.orders(orders);
        }
        let all: Vec<Order> = first.iter().chain(&second).copied().collect();
        let seen = if is_known_at { first.clone() } else { all.clone() };
        let known_at = is_known_at.then_some(KnownAt::AppendTime(100));
        let asking = Asking { exclusive, known_at, ..Asking::default() };
        let now = all.iter().map(|order| order.1).max().unwrap_or(0);
        let until = length.map(|length| since.unwrap_or(0) + length);
        // Up to now there is nothing from a time on that has not come.
        let since = since.map(|since| if until.is_none() { since.min(now) } else { since });
        let question = RangeQuestion { since, until, asking: asking.clone(), ..asked_for(features) };
        let settled = info(&world, &question).unwrap();
        prop_assert_eq!(settled.question.until, Some(until.unwrap_or(now + 1)));
        let answer = rows_of(&world, &settled.question, &cuts).unwrap();
        let until = until.unwrap_or(now + 1);

        // Each row is a change, no change lacks, and they are in order.
        let expected = Expected { world: &world, features, orders: &seen, asking: asking.clone(), since: since.unwrap_or(i64::MIN), until };
        let mut keys: Vec<Value> = if is_by_shop(features) { (1..4).map(Value::Int).collect() } else { USERS.map(Value::str).to_vec() };
        keys.sort_by_key(place);
        let (answered, times) = (keys_of(&answer), times_of(&answer));
        let mut row = 0;
        let mut rows_of_key = BTreeMap::new();
        for key in &keys {
            let (instants, values, rows) = expected.of(key);
            rows_of_key.insert(key.clone(), row..row + rows.len());
            for at in rows {
                prop_assert!(row < answer.num_rows(), "no row of {:?} at {}", key, instants[at]);
                prop_assert_eq!((&answered[row], times[row]), (key, instants[at]));
                prop_assert!(is_same_row(&answer.columns()[2..], row, &values, at), "{:?} at {}", key, instants[at]);
                row += 1;
            }
        }
        prop_assert_eq!(row, answer.num_rows());

        // With its keys and times as a spine the same comes out.
        let asked_again = with_spine(features, Asking { exclusive, ..Asking::default() }, settled.question.pin.clone());
        let columns = features_of(&world, asked_again, &answer.project(&[0, 1]).unwrap());
        prop_assert_eq!(columns.as_slice(), &answer.columns()[2..]);

        // At any time it is as the last row before says.
        for (key, time) in &anywhere {
            let key = key.get(&keys);
            let before = rows_of_key[key].clone().rev().find(|row| times[*row] <= *time);
            if let Some(before) = before.filter(|_| *time < until) {
                let single = features_of(&world, with_spine(features, asking.clone(), None), &spine_of(key, &[*time]));
                prop_assert!(is_same_row(&answer.columns()[2..], before, &single, 0), "{:?} at {}", key, time);
            }
        }

        // And so it stays, whatever comes, here and elsewhere, in other parts.
        world.clock.0.store(50, Ordering::SeqCst);
        world.orders(&late);
        world.orders(&[("d", HOUR, 3, None, 7)]);
        prop_assert_eq!(&rows_of(&world, &settled.question, &[]).unwrap(), &answer);
        prop_assert_eq!(&rows_of(&world.follower(others), &settled.question, &cuts).unwrap(), &answer);
    }
}

#[test]
fn an_answer_tells_what_it_stands_on() {
    let world = World::new(Some("1h"));
    world.orders(&[("a", HOUR, 1, Some(2.0), 1), ("b", 2 * HOUR, 1, Some(2.0), 1)]);
    let question = RangeQuestion { since: Some(HOUR), ..asked_for(&["orders"]) };
    let asked = info(&world, &question).unwrap();
    let metadata = asked.schema.metadata();
    let names: BTreeSet<&str> = metadata.keys().map(String::as_str).collect();
    let always =
        ["definition", "featureset", "mode", "pin", "position", "since", "until"].map(|name| format!("thyme.{name}"));
    let first = ["commit_id", "ts"].map(|name| format!("thyme.{name}"));
    assert_eq!(names, always.iter().chain(&first).map(String::as_str).collect());
    assert_eq!(metadata["thyme.until"], format_time(2 * HOUR + 1));
    let answer = rows_of(&world, &asked.question, &[]).unwrap();
    let schema = answer.schema();
    assert_eq!(
        schema.metadata().keys().map(String::as_str).collect::<BTreeSet<_>>(),
        always.iter().map(String::as_str).collect()
    );
    assert_eq!(schema.metadata()["thyme.pin"], metadata["thyme.pin"]);
    assert_eq!(schema.fields(), asked.schema.fields());
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(columns, ["uid", "timestamp", "orders", "orders__status"]);
    let runs = world.runs.0.lock();
    assert_eq!((runs.len(), runs[0].kind.name(), runs[0].row_count, &*runs[0].featureset), (1, "offline", 2, "F"));
}

/// More instants than a chunk holds, of keys with more of them than are read at once.
#[test]
fn chunks_follow_each_other_without_a_seam() {
    const EACH: i64 = 30_000;
    let world = World::new(None);
    let orders = (0..EACH).flat_map(|index| USERS[..3].iter().map(move |user| (*user, index * 1_000, 1, Some(1.0), 1)));
    world.orders(&orders.collect::<Vec<Order>>());
    // Nothing changes but when a key comes to be known.
    let answer = ask(&world, &asked_for(&["biggest"]), &[]).unwrap();
    assert_eq!(times_of(&answer), [0; 3]);
    let first: Vec<f64> = answer.column(2).as_primitive::<Float64Type>().values().to_vec();
    assert_eq!(first, [1.0; 3]);
    // Up, and down again.
    let question = RangeQuestion { until: Some(2 * HOUR), ..asked_for(&["orders"]) };
    let answer = ask(&world, &question, &[100]).unwrap();
    let comes = (0..EACH).map(|index| (index * 1_000, index + 1));
    let goes = (0..EACH).map(|index| (index * 1_000 + HOUR + 1, EACH - index - 1));
    let of_key: Vec<(i64, i64)> = comes.chain(goes).collect();
    let counts = answer.column(2).as_primitive::<Int64Type>().values().to_vec();
    let found: Vec<(i64, i64)> = times_of(&answer).into_iter().zip(counts).collect();
    assert!(found == of_key.repeat(3), "{} rows", found.len());
}

fn world_with_history() -> World {
    let mut definitions = definitions(Some("1h"));
    definitions["datasets"][0]["history"] = "5h".into();
    let aggregates = definitions["pipelines"][0]["aggregates"].as_array_mut().unwrap();
    let endless = aggregates.iter_mut().filter(|aggregate| aggregate["window"] == "forever");
    endless.for_each(|aggregate| aggregate["window"] = "2h".into());
    World::with(definitions, functions(), ClockMode::Event)
}

/// Users enough that each partition has some.
fn everyone_at(time: i64) -> Vec<Order> {
    const MANY: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
    MANY.iter().map(|user| (*user, time, 1, Some(1.0), 1)).collect()
}

#[test]
fn a_stretch_begins_at_the_horizon_or_later() {
    let world = world_with_history();
    world.orders(&[("old", 100 * HOUR, 1, Some(1.0), 1)]);
    (100..=106).for_each(|hour| world.orders(&everyone_at(hour * HOUR)));
    let (horizon, features) = (100 * HOUR, &["orders", "spend"]);
    let from = |since: i64| RangeQuestion { since: Some(since), ..asked_for(features) };
    let error = info(&world, &from(horizon - 1)).unwrap_err();
    assert_eq!((error.kind(), error.field_name()), (ErrorKind::OutOfRange, Some("since")), "{error}");
    let unset = info(&world, &asked_for(features)).unwrap();
    assert_eq!(unset.schema.metadata()["thyme.since"], format_time(horizon));
    let answer = ask(&world, &from(horizon), &[]).unwrap();
    assert_eq!(rows_of(&world, &unset.question, &[]).unwrap().columns(), answer.columns());
    let of_old = |answer: &RecordBatch| keys_of(answer).iter().filter(|key| **key == Value::str("old")).count();
    assert_eq!(of_old(&answer), 3, "known, out of an hour, out of two");
    // What was let go by then makes no key known, whether it has gone or not.
    let later = info(&world, &from(103 * HOUR)).unwrap().question;
    let of_later = rows_of(&world, &later, &[]).unwrap();
    assert_eq!(of_old(&of_later), 0);
    // The horizon moves on: what begins behind it is as it was, the rest is no longer there.
    (107..=109).for_each(|hour| world.orders(&everyone_at(hour * HOUR)));
    assert_eq!(rows_of(&world, &later, &[]).unwrap(), of_later);
    let error = rows_of(&world, &unset.question, &[]).unwrap_err();
    assert_eq!((error.kind(), error.field_name()), (ErrorKind::OutOfRange, Some("pin")), "{error}");
}

#[test]
fn an_erased_key_ends_what_stood_on_it() {
    let world = World::new(None);
    world.orders(&everyone_at(HOUR));
    let settled = info(&world, &asked_for(&["orders"])).unwrap().question;
    assert_eq!(rows_of(&world, &settled, &[]).unwrap().num_rows(), 16);
    world.erase("c");
    let error = rows_of(&world, &settled, &[]).unwrap_err();
    assert_eq!((error.kind(), error.field_name()), (ErrorKind::FailedPrecondition, Some("pin")));
    assert_eq!(ask(&world, &asked_for(&["orders"]), &[]).unwrap().num_rows(), 15);
}

/// What was asked last says from when on the next one is asked, and that may be of a clock that is ahead.
#[test]
fn from_a_time_on_that_has_not_come_there_is_nothing() {
    let world = World::new(None);
    world.orders(&everyone_at(HOUR));
    let since = Some(1_000_000 * HOUR);
    let changes = RangeQuestion { since, ..asked_for(&["orders"]) };
    let rows = RangeQuestion { of: RangeOf::Rows { dataset: "Order".to_string() }, ..changes.clone() };
    for question in [changes, rows] {
        let settled = info(&world, &question).unwrap().question;
        assert_eq!(settled.until, since, "so that the next one begins there again");
        assert_eq!(rows_of(&world, &settled, &[]).unwrap().num_rows(), 0);
    }
}

#[test]
fn an_export_that_is_broken_off_is_no_run_that_went_well() {
    let world = World::new(None);
    world.orders(&everyone_at(HOUR));
    let settled = info(&world, &asked_for(&["orders"])).unwrap().question;
    wait(async { world.query.range(&settled, 0..=u8::MAX).await.map(drop) }).unwrap();
    let schema = spine_of(&Value::str("a"), &[HOUR]).schema();
    let joined = with_spine(&["orders"], Asking::default(), None);
    wait(async { world.query.export(joined, schema).await.map(drop) }).unwrap();
    assert_eq!(rows_of(&world, &settled, &[]).unwrap().num_rows(), 16);
    let runs = world.runs.0.lock();
    let errors: Vec<Option<&str>> = runs.iter().map(|run| run.error.as_deref()).collect();
    let broken_off = Some("broken off before its end");
    assert_eq!(errors, [broken_off, broken_off, None]);
}

#[test]
fn what_has_no_changes_of_its_own_is_refused() {
    let world = World::new(None);
    world.orders(&everyone_at(HOUR));
    let refused = |question: &RangeQuestion| info(&world, question).unwrap_err();
    let cases: [(&[&str], &str); 5] = [
        (&["orders", "shop_orders"], "'F' reads 'UserStats.compute' and 'ShopStats.compute' under different keys"),
        (&["busy"], "'limit' is given with each question, so 'F' changes at no time of its own"),
        (&["seen"], "extractor F.look looks up: any key may change what it gives"),
        (&["uid"], "nothing that is asked of 'F' is read from a dataset"),
        (&["uid", "orders"], "two columns would be called 'uid'"),
    ];
    for (features, message) in cases {
        let error = refused(&asked_for(features));
        assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidArgument, message));
        assert!(error.hint_text().is_some_and(|hint| hint.contains("features=[…]")), "{error}");
    }
    let orders = asked_for(&["orders"]);
    let turned = RangeQuestion { since: Some(2), until: Some(1), ..orders.clone() };
    assert_eq!(refused(&turned).field_name(), Some("since"));
    let settled = info(&world, &orders).unwrap().question;
    assert_eq!(refused(&RangeQuestion { until: None, ..settled.clone() }).field_name(), Some("until"));
    let known_at = Asking { known_at: Some(KnownAt::AppendTime(1)), ..Asking::default() };
    assert_eq!(refused(&RangeQuestion { asking: known_at, ..settled.clone() }).field_name(), Some("known_at"));
    let unpinned = RangeQuestion { pin: None, ..settled };
    assert_eq!(rows_of(&world, &unpinned, &[]).unwrap_err().field_name(), Some("pin"));
}
