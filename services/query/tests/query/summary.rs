//! The summary of an export: its counts are those of the columns, and its plan says how the values were read.

use crate::exports::{export_question, names, spine, times, users};
use crate::world::{HOUR, NATIVE, World, definitions, functions, wait};
use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, Int64Array, RecordBatch};
use arrow_select::concat::concat_batches;
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;
use thyme_core::testing::cases;
use thyme_core::time::ClockMode;
use thyme_core::value::Value;
use thyme_query::{
    Asking, At, Counts, ExportCall, ExportRead, ExportSummary, FeatureValue, Given, GivenMap, Question, ReadCounts,
    RunKind, RunRecord, Status,
};

/// A row of a spine: user, time, shop, limit.
pub type Row = (Option<&'static str>, Option<i64>, Option<i64>, i64);

pub fn order() -> impl Strategy<Value = (&'static str, i64, i64, Option<f64>, i64)> {
    let amount = prop::option::of(prop::sample::select(vec![0.1, 3.25]));
    (prop::sample::select(vec!["a", "b", "c"]), 0..9 * HOUR, 1i64..3, amount, -1i64..9)
}

pub fn row() -> impl Strategy<Value = Row> {
    let user = prop::option::weighted(0.9, prop::sample::select(vec!["a", "b", "c", "d"]));
    let (time, shop) = (prop::option::weighted(0.9, 0..10 * HOUR), prop::option::weighted(0.9, 1i64..4));
    (user, time, shop, 0i64..9)
}

pub fn spine_of(rows: &[Row]) -> RecordBatch {
    let limits: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.3)));
    spine(vec![
        ("uid", users(rows.iter().map(|row| row.0).collect())),
        ("when", times(rows.iter().map(|row| row.1).collect())),
        ("shop", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.2)))),
        ("limit", limits),
    ])
}

/// The same rows as one question.
fn question_of(rows: &[Row], features: &[&str]) -> Question {
    let key = |(user, _, shop, _): &Row| {
        let (user, shop) = (user.map_or(Value::Null, Value::str), shop.map_or(Value::Null, Value::Int));
        GivenMap::from([("uid".to_string(), Given::Value(user)), ("shop".to_string(), Given::Value(shop))])
    };
    let input = |row: &Row| GivenMap::from([("limit".to_string(), Given::Value(Value::Int(row.3)))]);
    Question {
        featureset: "F".to_string(),
        keys: rows.iter().map(key).collect(),
        inputs: rows.iter().map(input).collect(),
        features: names(features),
        at: At::Each(rows.iter().map(|row| row.1).collect()),
        asking: Asking::default(),
        kind: RunKind::Offline,
    }
}

/// Joins a spine in chunks of so many rows.
fn join(world: &World, features: &[&str], rows: &RecordBatch, chunk: usize) -> (RecordBatch, ExportSummary, RunRecord) {
    wait(async {
        let mut export = world.query.export(export_question(features), rows.schema()).await.unwrap();
        let mut joined = Vec::new();
        for from in (0..rows.num_rows()).step_by(chunk) {
            joined.push(export.join(rows.slice(from, chunk.min(rows.num_rows() - from))).await.unwrap());
        }
        let joined = concat_batches(&export.schema(), &joined).unwrap();
        let summary = export.summary();
        (joined, summary, export.finish().remove(0))
    })
}

/// The counts of a feature's values.
fn counted(values: &[FeatureValue]) -> Counts {
    let count = |counts: fn(&&FeatureValue) -> bool| values.iter().filter(counts).count() as u64;
    Counts {
        nulls: count(|feature| feature.value.is_null()),
        defaults: count(|feature| feature.status == Status::Default),
        errors: count(|feature| feature.status.reason().is_some()),
        first_error: values.iter().find_map(|feature| feature.status.reason().map(Arc::from)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(96, 1_000)))]

    #[test]
    fn counts_are_those_of_the_status_columns_and_of_single_answers(
        orders in prop::collection::vec(order(), 0..60),
        rows in prop::collection::vec(row(), 0..60),
        chunk in 1usize..40,
        calls_extractors: bool,
    ) {
        // Times before the horizon and null times are errors, each with a reason of its own.
        let mut definitions = definitions(Some("1h"));
        definitions["datasets"][0]["history"] = "3h".into();
        definitions["pipelines"][0]["aggregates"][4]["window"] = "2h".into();
        let world = World::with(definitions, functions(), ClockMode::Event);
        world.orders(&orders);
        let mut features = NATIVE.to_vec();
        if calls_extractors {
            features.extend(["double", "busy", "seen"]);
        }
        let (joined, summary, run) = join(&world, &features, &spine_of(&rows), chunk);
        prop_assert_eq!((summary.rows, summary.known), (rows.len() as u64, run.hit_count));
        let told: Vec<&str> = summary.features.iter().map(|told| told.name.as_str()).collect();
        prop_assert_eq!(&told, &features);
        for told in &summary.features {
            let values = joined.column_by_name(&told.name).unwrap();
            let statuses = joined.column_by_name(&format!("{}__status", told.name)).unwrap().as_string::<i32>();
            let with = |name: &str| statuses.iter().filter(|status| *status == Some(name)).count() as u64;
            let counts = (told.counts.nulls, told.counts.defaults, told.counts.errors);
            prop_assert_eq!(counts, (values.null_count() as u64, with("DEFAULT"), with("ERROR")), "{}", told.name);
        }
        if !rows.is_empty() {
            let answer = world.ask(question_of(&rows, &features)).unwrap();
            prop_assert_eq!(answer.run.hit_count, summary.known);
            for (told, column) in summary.features.iter().zip(&answer.columns) {
                prop_assert_eq!(&told.counts, &counted(&column.values), "{}", &column.name);
            }
        }
        for read in &summary.plan.reads {
            let done = read.done.unwrap();
            prop_assert_eq!(done.chunks, rows.len().div_ceil(chunk) as u64);
            prop_assert!(done.rows_swept + done.rows_sought <= rows.len() as u64);
        }
    }
}

#[test]
fn a_hot_key_is_sought_by_a_sparse_spine_and_swept_by_a_dense_one() {
    const EVENTS: i64 = 4_000;
    let world = World::sliced(definitions(None), functions(), ClockMode::Event, 1);
    let orders: Vec<_> = (0..EVENTS).map(|order| ("a", order * HOUR / 100, 1, Some(1.0), 2)).collect();
    world.orders(&orders);
    let state = world.states.all()[&0].clone();
    let done = |rows: Vec<(Option<&'static str>, Option<i64>)>, chunk: usize| {
        let rows: Vec<Row> = rows.into_iter().map(|(user, time)| (user, time, None, 0)).collect();
        let before = state.rows_read();
        let (_, summary, _) = join(&world, &["biggest"], &spine_of(&rows), chunk);
        let [read] = summary.plan.reads.as_slice() else { panic!("{:?}", summary.plan.reads) };
        let done = read.done.unwrap();
        assert_eq!(done.trie_rows, state.rows_read() - before);
        ReadCounts { trie_rows: 0, ..done }
    };
    // All of its events are in the window that never ends: more than 128 for each of 10 times, not for each of 100.
    let hot =
        |times: i64| (1..=times).map(|at| (Some("a"), Some(at * EVENTS / times * HOUR / 100))).collect::<Vec<_>>();
    let none = ReadCounts { chunks: 1, keys: 1, ..ReadCounts::default() };
    assert_eq!(done(hot(10), 1_000), ReadCounts { rows_sought: 10, times: 10, ..none });
    assert_eq!(done(hot(100), 1_000), ReadCounts { rows_swept: 100, times: 100, ..none });
    assert_eq!(done(hot(100), 50), ReadCounts { chunks: 2, keys: 2, rows_swept: 100, times: 100, ..none });
    // Rows of the same time are one read; rows without a key or a time are none.
    let mut rows = hot(100);
    rows.extend(hot(100));
    rows.extend([(None, Some(HOUR)), (Some("a"), None), (Some("nobody"), Some(HOUR))]);
    assert_eq!(done(rows, 1_000), ReadCounts { keys: 2, rows_swept: 200, rows_sought: 1, times: 101, ..none });
}

#[test]
fn a_plan_names_tables_windows_features_and_calls() {
    let mut definitions = definitions(None);
    let approx = json!({"kind": "count_distinct", "approx": true});
    let push = |list: &mut serde_json::Value, item: serde_json::Value| list.as_array_mut().unwrap().push(item);
    push(&mut definitions["datasets"][1]["fields"], json!({"name": "shops", "type": "int"}));
    push(
        &mut definitions["pipelines"][0]["aggregates"],
        json!({"name": "shops", "op": approx, "of": "shop", "window": "7d"}),
    );
    push(
        &mut definitions["featuresets"][0]["features"],
        json!({"name": "shops", "type": "int", "ref": {"dataset": "UserStats", "field": "shops"}, "on": {"user": "uid"}}),
    );
    let world = World::with(definitions, functions(), ClockMode::Event);
    let asked = ["orders", "mean", "shops", "newest_items", "shop_large", "busy"];
    let plan = world.query.export_plan("F", names(&asked).as_deref()).unwrap();
    let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let read = |table: &str, key: &str, windows: &[&str], features: &[&str], one_by_one: &[&str]| ExportRead {
        table: table.to_string(),
        key: texts(&[key]),
        windows: texts(windows),
        features: texts(features),
        one_by_one: texts(one_by_one),
        done: None,
    };
    let mut reads = plan.reads.clone();
    reads.iter_mut().for_each(|read| read.features.sort());
    reads.sort_by(|a, b| a.table.cmp(&b.table));
    reads.iter_mut().for_each(|read| read.windows.sort());
    let expected = [
        read("Order", "uid", &[], &["newest_items"], &[]),
        read("ShopStats.compute", "shop", &["1h"], &["shop_large"], &[]),
        read("UserStats.compute", "uid", &["1h", "2h", "7d"], &["mean", "orders", "shops", "spend"], &["shops"]),
    ];
    assert_eq!(reads, expected);
    let call = |extractor: &str, native: bool, inputs: &[&str], output: &str| ExportCall {
        extractor: extractor.to_string(),
        native,
        batch: false,
        inputs: texts(inputs),
        outputs: texts(&[output]),
    };
    let calls = [call("F.twice", true, &["spend"], "double"), call("F.judge", false, &["double", "limit"], "busy")];
    assert_eq!(plan.calls, calls);
    assert!(plan.chunk_rows > 1_000, "{}", plan.chunk_rows);
    let unknown = world.query.export_plan("F", names(&["order"]).as_deref()).unwrap_err().to_string();
    assert!(unknown.contains("did you mean 'orders'?"), "{unknown}");
}
