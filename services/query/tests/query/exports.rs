//! Exports: the spine's rows, order and columns; nulls; column names and types; one call per extractor and chunk.

use crate::world::{HOUR, NATIVE, World, question, wait};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampNanosecondArray,
};
use std::sync::Arc;
use thyme_core::error::Result;
use thyme_query::{At, ExportQuestion};

pub fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| name.to_string()).collect())
}

pub fn export_question(features: &[&str]) -> ExportQuestion {
    ExportQuestion {
        featureset: "F".to_string(),
        features: names(features),
        timestamp_column: "when".to_string(),
        statuses: true,
        ..ExportQuestion::default()
    }
}

fn export(world: &World, question: ExportQuestion, spine: RecordBatch) -> Result<RecordBatch> {
    wait(async {
        let mut export = world.query.export(question, spine.schema()).await?;
        let joined = export.join(spine).await?;
        assert_eq!(joined.schema(), export.schema());
        Ok(joined)
    })
}

pub fn spine(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

pub fn times(times: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
}

pub fn users(users: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(users))
}

#[test]
fn rows_order_and_columns_of_the_spine_are_kept() {
    let world = World::new(None);
    world.orders(&[("a", HOUR, 1, Some(1.0), 2), ("b", HOUR, 1, Some(2.0), 9), ("a", 2 * HOUR, 1, Some(4.0), 3)]);
    let asked_users = ["b", "a", "nobody", "a", "b", "a"];
    let asked_times = [2 * HOUR, HOUR, HOUR, 2 * HOUR, HOUR, HOUR - 1];
    let label: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.5, 2.5, 3.5, 4.5, 5.5]));
    let spine = spine(vec![
        ("label", label.clone()),
        ("uid", users(asked_users.iter().map(|user| Some(*user)).collect())),
        ("when", times(asked_times.iter().map(|time| Some(*time)).collect())),
        ("shop", Arc::new(Int32Array::from(vec![1; 6]))),
    ]);
    let joined = export(&world, export_question(NATIVE), spine.clone()).unwrap();
    assert_eq!(joined.columns()[..4], spine.columns()[..]);
    assert_eq!(joined.num_columns(), 4 + 2 * NATIVE.len());
    for (row, (user, time)) in asked_users.iter().zip(asked_times).enumerate() {
        let answer = world.ask(question(user, NATIVE, At::Time(time))).unwrap();
        let single = answer.to_record_batch(true).unwrap();
        for name in NATIVE.iter().flat_map(|name| [name.to_string(), format!("{name}__status")]) {
            let (of_export, of_single) = (joined.column_by_name(&name), single.column_by_name(&name));
            assert_eq!(&of_export.unwrap().slice(row, 1), of_single.unwrap(), "{name} of {user} at {time}");
        }
    }
}

#[test]
fn a_large_spine_in_no_order_is_the_sum_of_small_ones() {
    const ROWS: usize = 60_000;
    let world = World::new(None);
    let known: Vec<String> = (0..50).map(|user| format!("user{user}")).collect();
    let orders: Vec<_> = (0..400)
        .map(|order: i64| (known[(order % 50) as usize].as_str(), order * HOUR / 7, order % 3, Some(0.1), order))
        .collect();
    world.orders(&orders);
    // A linear congruence: every row another user and time; half of them one user's, a few without a user or a time.
    let mut state = 1_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut asked_users, mut asked_times, mut shops) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROWS {
        let user = if next(2) == 0 { 0 } else { next(60) };
        asked_users.push((next(50) != 0).then(|| format!("user{user}")));
        asked_times.push((next(50) != 0).then(|| next(60 * HOUR as u64) as i64));
        shops.push((next(50) != 0).then(|| next(4) as i64));
    }
    let spine = spine(vec![
        ("uid", users(asked_users.iter().map(Option::as_deref).collect())),
        ("when", times(asked_times)),
        ("shop", Arc::new(Int64Array::from(shops))),
    ]);
    let joined = export(&world, export_question(NATIVE), spine.clone()).unwrap();
    assert_eq!(joined.num_rows(), ROWS);
    for from in (0..ROWS).step_by(1_500) {
        let part = export(&world, export_question(NATIVE), spine.slice(from, 1_500)).unwrap();
        assert_eq!(joined.slice(from, 1_500).columns(), part.columns(), "rows from {from}");
    }
}

#[test]
fn a_null_key_is_unknown_and_a_null_time_an_error() {
    let world = World::new(None);
    world.orders(&[("a", HOUR, 1, Some(1.0), 2)]);
    let spine = spine(vec![
        ("uid", users(vec![None, Some("a"), Some("a")])),
        ("when", times(vec![Some(HOUR), None, Some(HOUR)])),
    ]);
    let joined = export(&world, export_question(&["orders", "double", "seen"]), spine).unwrap();
    let strings = |name: &str| {
        let array = joined.column_by_name(name).unwrap().as_string::<i32>();
        array.iter().map(|text| text.unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(strings("orders__status"), ["DEFAULT", "ERROR", "OK"]);
    assert_eq!(strings("double__status"), ["OK", "ERROR", "OK"]);
    assert_eq!(strings("seen__status"), ["OK", "ERROR", "OK"]);
    let orders = joined.column_by_name("orders").unwrap().as_primitive::<Int64Type>();
    assert_eq!(orders.iter().collect::<Vec<_>>(), [Some(0), None, Some(1)]);
    let double = joined.column_by_name("double").unwrap().as_primitive::<Float64Type>();
    assert_eq!(double.iter().collect::<Vec<_>>(), [Some(0.0), None, Some(2.0)]);
    assert_eq!(*world.functions.calls.lock(), vec![("twice".to_string(), 2), ("look".to_string(), 2)]);
}

#[test]
fn columns_are_mapped_and_read_by_their_declared_types() {
    let world = World::new(None);
    world.orders(&[("a", -HOUR, 1, Some(1.0), 2)]);
    // One nanosecond before the event: floored to the microsecond before it.
    let nanos = vec![-HOUR * 1000, -HOUR * 1000 - 1];
    let spine = spine(vec![
        ("customer", Arc::new(arrow_array::LargeStringArray::from(vec!["a", "a"])) as ArrayRef),
        ("when", Arc::new(TimestampNanosecondArray::from(nanos))),
    ]);
    let mut asked = export_question(&["orders"]);
    asked.entity_columns = [("uid".to_string(), "customer".to_string())].into();
    let joined = export(&world, asked.clone(), spine.clone()).unwrap();
    let orders = joined.column_by_name("orders").unwrap().as_primitive::<Int64Type>();
    assert_eq!(orders.values(), &[1, 0]);
    asked.entity_columns = [("entity_id".to_string(), "customer".to_string())].into();
    assert_eq!(export(&world, asked, spine).unwrap().num_rows(), 2);
}

#[test]
fn a_spine_that_does_not_fit_is_refused() {
    let world = World::new(None);
    let good = || vec![("uid", users(vec![Some("a")])), ("when", times(vec![Some(0)]))];
    let refused = |question: ExportQuestion, columns: Vec<(&str, ArrayRef)>| {
        export(&world, question, spine(columns)).unwrap_err().to_string()
    };
    let mut missing = export_question(&["orders"]);
    missing.timestamp_column = "whenn".to_string();
    let message = refused(missing, good());
    assert_eq!(message, "the spine has no column 'whenn' for the timestamp (hint: did you mean 'when'?)");

    let mut named = good();
    named.push(("orders", Arc::new(Int64Array::from(vec![1]))));
    let message = refused(export_question(&["orders"]), named);
    assert!(message.starts_with("the spine has a column 'orders', which is also an output"), "{message}");

    let message = refused(export_question(&["shop_orders"]), good());
    assert_eq!(message, "the spine has no column 'shop' for key 'shop' (hint: allowed: uid, when)");

    let mut typed = good();
    typed.push(("shop", users(vec![Some("1")])));
    let message = refused(export_question(&["shop_orders"]), typed);
    assert_eq!(message, "column 'shop' is Utf8, expected int");
}

#[test]
fn an_export_reads_as_of_its_beginning_and_is_one_run() {
    let world = World::new(None);
    world.orders(&[("a", HOUR, 1, Some(1.0), 2)]);
    let batch =
        || spine(vec![("uid", users(vec![Some("a"), Some("z")])), ("when", times(vec![Some(HOUR), Some(HOUR)]))]);
    wait(async {
        let mut export = world.query.export(export_question(&["orders"]), batch().schema()).await.unwrap();
        let first = export.join(batch()).await.unwrap();
        world.add_orders(&[("a", HOUR, 1, Some(1.0), 2)]).await;
        let second = export.join(batch()).await.unwrap();
        assert_eq!(first, second);
        assert!(first.schema().metadata()["thyme.position"].starts_with('p'));
        let runs = export.finish();
        let [run] = runs.as_slice() else { panic!("{runs:?}") };
        assert_eq!((run.row_count, run.hit_count), (4, 2));
    });
    assert_eq!(world.runs.0.lock().len(), 1);
}
