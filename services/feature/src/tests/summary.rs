//! What the last message of an export says, and the plan that can be asked for beforehand.

use super::flight::{json_command, upload};
use super::stack::{NOON, Stack};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, RecordBatch, TimestampMicrosecondArray};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor};
use futures::{TryStreamExt as _, stream};
use prost::Message as _;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use thyme_core::Value;
use thyme_proto::convert::value_to_wire;
use thyme_proto::v1;
use thyme_proto::v1::feature_service_client::FeatureServiceClient;

/// A known user, an unknown one, and one without a time; the users are a dictionary.
fn spine() -> RecordBatch {
    let users: DictionaryArray<Int32Type> = ["a", "zz", "a"].into_iter().collect();
    let columns: [(&str, ArrayRef); 2] = [
        ("uid", Arc::new(users)),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from(vec![Some(NOON), Some(NOON), None]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

/// All messages that come down.
async fn messages(stack: &Stack, descriptor: FlightDescriptor, spine: RecordBatch) -> Vec<FlightData> {
    let up: Vec<FlightData> = upload(descriptor, vec![spine]).try_collect().await.unwrap();
    let mut client = FlightServiceClient::new(stack.channel.clone());
    client.do_exchange(stream::iter(up)).await.unwrap().into_inner().try_collect().await.unwrap()
}

/// The rows of each batch.
async fn rows(messages: Vec<FlightData>) -> Vec<usize> {
    let batches = FlightRecordBatchStream::new_from_flight_data(stream::iter(messages.into_iter().map(Ok)));
    let batches: Vec<RecordBatch> = batches.try_collect().await.unwrap();
    batches.iter().map(RecordBatch::num_rows).collect()
}

#[tokio::test]
async fn the_last_message_is_an_empty_batch_that_says_what_came_of_the_export() {
    let stack = Stack::start().await;
    stack.order(&[("a", 1, 1.0), ("b", 3, 2.0)]).await;
    let mut down = messages(&stack, json_command(json!({"featureset": "UserFeatures"})), spine()).await;
    let last = down.last().unwrap().app_metadata.clone();
    assert_eq!(rows(down.clone()).await, [3, 0]);
    down.pop();
    assert!(down.iter().all(|message| message.app_metadata.is_empty()));
    let mut told: Json = serde_json::from_slice(&last).unwrap();
    let chunk_rows = told["plan"]["chunk_rows"].take().as_u64().unwrap();
    let trie_rows = told["plan"]["reads"][0]["done"]["trie_rows"].take().as_u64().unwrap();
    assert!(chunk_rows > 1_000 && trie_rows > 0, "{chunk_rows} {trie_rows}");
    let counts = |name: &str| json!({"name": name, "nulls": 1, "defaults": 1, "errors": 1, "first_error": "the timestamp is null"});
    let done = json!({"chunks": 1, "keys": 2, "rows_swept": 0, "rows_sought": 2, "times": 2, "trie_rows": null});
    let read = json!({
        "table": "UserStats.compute", "key": ["uid"], "windows": ["1h", "1d"], "features": ["orders", "spend"],
        "one_by_one": [], "done": done,
    });
    let expected = json!({
        "rows": 3, "known": 1, "features": [counts("orders"), counts("spend")],
        "plan": {"reads": [read], "calls": [], "chunk_rows": null},
    });
    assert_eq!(told, expected);

    let command = v1::ExportCommand { featureset: "UserFeatures".into(), ..v1::ExportCommand::default() };
    let any = prost_types::Any {
        type_url: "type.googleapis.com/thyme.v1.ExportCommand".into(),
        value: command.encode_to_vec(),
    };
    let down = messages(&stack, FlightDescriptor::new_cmd(any.encode_to_vec()), spine()).await;
    let told = v1::ExportSummary::decode(down.last().unwrap().app_metadata.clone()).unwrap();
    let spend = v1::FeatureCounts {
        name: "spend".into(),
        nulls: 1,
        defaults: 1,
        errors: 1,
        first_error: "the timestamp is null".into(),
    };
    assert_eq!((told.rows, told.known, &told.features[1]), (3, 1, &spend));
    let done = told.plan.unwrap().reads[0].done.unwrap();
    assert_eq!((done.chunks, done.keys, done.rows_sought, done.times, done.trie_rows), (1, 2, 2, 2, trie_rows));
}

#[tokio::test]
async fn a_spine_without_rows_has_a_summary_too() {
    let stack = Stack::start().await;
    let none = spine().slice(0, 0);
    let down = messages(&stack, json_command(json!({"featureset": "UserFeatures"})), none).await;
    let told: Json = serde_json::from_slice(&down.last().unwrap().app_metadata).unwrap();
    assert_eq!((&told["rows"], &told["features"][0]["first_error"]), (&json!(0), &Json::Null));
    assert_eq!(rows(down).await, [0]);
}

#[tokio::test]
async fn with_a_pin_the_messages_are_the_same_each_time() {
    let stack = Stack::start().await;
    stack.order(&[("a", 1, 1.0)]).await;
    let asked = |pin: Option<&str>| json_command(json!({"featureset": "UserFeatures", "pin": pin}));
    let first = messages(&stack, asked(None), spine()).await;
    let mut batches = FlightRecordBatchStream::new_from_flight_data(stream::iter(first.into_iter().map(Ok)));
    while batches.try_next().await.unwrap().is_some() {}
    let pin = batches.schema().unwrap().metadata()["thyme.pin"].clone();
    let once = messages(&stack, asked(Some(&pin)), spine()).await;
    let told: Json = serde_json::from_slice(&once.last().unwrap().app_metadata).unwrap();
    assert_eq!((&told["known"], &told["plan"]["reads"][0]["done"]), (&json!(1), &Json::Null));
    stack.order(&(0..200).map(|minutes| ("a", minutes % 60, 1.0)).collect::<Vec<_>>()).await;
    assert_eq!(messages(&stack, asked(Some(&pin)), spine()).await, once);
}

#[tokio::test]
async fn a_plan_is_asked_for_without_a_key() {
    let stack = Stack::start().await;
    let mut client = FeatureServiceClient::new(stack.channel.clone());
    let asked = v1::ExplainRequest {
        name: "UserFeatures".into(),
        features: vec!["spend".into()],
        plan: true,
        ..v1::ExplainRequest::default()
    };
    let answer = client.explain(asked.clone()).await.unwrap().into_inner();
    let read = v1::PlannedRead {
        table: "UserStats.compute".into(),
        key: vec!["uid".into()],
        windows: vec!["1d".into()],
        features: vec!["spend".into()],
        ..v1::PlannedRead::default()
    };
    assert_eq!((answer.plan.unwrap().reads, answer.explanations, answer.info), (vec![read], Vec::new(), None));
    let key = [("uid".to_string(), value_to_wire(&Value::str("a")))].into();
    let wrong = [
        (v1::ExplainRequest { key, ..asked.clone() }, "key is given where a plan is asked for"),
        (v1::ExplainRequest { name: "Order".into(), ..asked.clone() }, "'Order' is a dataset"),
        (v1::ExplainRequest { features: vec!["spent".into()], ..asked }, "unknown feature 'spent'"),
    ];
    for (request, says) in wrong {
        let status = client.explain(request).await.unwrap_err();
        assert!(status.message().contains(says), "{status}");
    }
}
