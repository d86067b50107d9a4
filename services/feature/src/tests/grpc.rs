use super::stack::{MINUTE, NOON, Stack};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type};
use std::collections::BTreeMap;
use thyme_catalog::RunPages;
use thyme_core::schema::DataType;
use thyme_core::{ErrorKind, Value};
use thyme_proto::columns::{column_to_wire, whole_column_from_wire};
use thyme_proto::convert::{time_to_wire, value_from_wire, value_to_wire};
use thyme_proto::status::from_status;
use thyme_proto::v1;
use thyme_proto::v1::feature_service_client::FeatureServiceClient;
use tonic::transport::Channel;

pub async fn start() -> (Stack, FeatureServiceClient<Channel>) {
    let stack = Stack::start().await;
    let client = FeatureServiceClient::new(stack.channel.clone());
    stack.order(&[("a", 90, 1.5), ("a", 30, 2.0), ("a", 0, 0.25), ("b", 60, 8.0)]).await;
    (stack, client)
}

pub fn key(name: &str, value: &str) -> BTreeMap<String, v1::Value> {
    BTreeMap::from([(name.to_string(), value_to_wire(&Value::str(value)))])
}

pub fn get(user: &str) -> v1::GetFeaturesRequest {
    let featureset = "UserFeatures".to_string();
    v1::GetFeaturesRequest { featureset, key: key("uid", user), ..v1::GetFeaturesRequest::default() }
}

fn value(feature: &v1::FeatureValue) -> (String, Value, v1::ValueStatus) {
    (feature.name.clone(), value_from_wire(feature.value.clone().unwrap()).unwrap(), feature.status())
}

#[tokio::test]
async fn features_are_typed_with_a_status_each() {
    let (stack, mut client) = start().await;
    let response = client.get_features(get("a")).await.unwrap();
    let run_id = response.metadata().get("x-query-run-id").unwrap().to_str().unwrap().to_string();
    let answer = response.into_inner();
    assert_eq!(
        answer.features.iter().map(value).collect::<Vec<_>>(),
        [
            ("orders".to_string(), Value::Int(2), v1::ValueStatus::Ok),
            ("spend".to_string(), Value::Float(3.75), v1::ValueStatus::Ok)
        ]
    );
    assert_eq!(answer.key, key("uid", "a"));
    let info = answer.info.unwrap();
    assert_eq!((info.mode(), info.ts), (v1::AnswerMode::Online, Some(time_to_wire(NOON))));
    assert_eq!(info.watermark.is_some(), info.r#final || info.watermark.is_some());
    assert_eq!((info.query_run_id.as_str(), info.commit_id.as_str()), (run_id.as_str(), "commit-1"));
    assert_eq!(*stack.runs.0.lock().last().unwrap().id, *run_id);

    let unknown = client.get_features(get("nobody")).await.unwrap().into_inner();
    assert!(unknown.features.iter().all(|feature| feature.status() == v1::ValueStatus::Default));

    let then = v1::GetFeaturesRequest { ts: Some(time_to_wire(NOON - 30 * MINUTE)), ..get("a") };
    let exclusive = v1::GetFeaturesRequest { exclusive: true, features: vec!["orders".into()], ..then.clone() };
    let orders = |answer: v1::GetFeaturesResponse| value(&answer.features[0]).1;
    let answer = client.get_features(then).await.unwrap().into_inner();
    assert_eq!(answer.info.as_ref().unwrap().mode(), v1::AnswerMode::PointInTime);
    assert_eq!(orders(answer), Value::Int(2), "both ends of the hour count");
    assert_eq!(orders(client.get_features(exclusive).await.unwrap().into_inner()), Value::Int(1));

    let position = info.position;
    stack.order(&[("a", 10, 100.0)]).await;
    let known = v1::GetFeaturesRequest { ts: Some(time_to_wire(NOON)), known_at: position.clone(), ..get("a") };
    let before = client.get_features(known).await.unwrap().into_inner();
    assert_eq!(value(&before.features[1]).1, Value::Float(3.75));
    let now = v1::GetFeaturesRequest { at_least: position, ..get("a") };
    assert_eq!(value(&client.get_features(now).await.unwrap().into_inner().features[1]).1, Value::Float(103.75));
}

#[tokio::test]
async fn a_batch_is_what_its_keys_are_one_by_one() {
    let (_stack, mut client) = start().await;
    let users = ["b", "nobody", "a", "b"];
    let keys = column_to_wire("uid", &DataType::Str, &users.map(Value::str));
    let request = v1::BatchGetFeaturesRequest {
        featureset: "UserFeatures".into(),
        keys: vec![keys.clone()],
        ..v1::BatchGetFeaturesRequest::default()
    };
    let batch = client.batch_get_features(request.clone()).await.unwrap().into_inner();
    assert_eq!((batch.rows, batch.keys), (4, vec![keys.clone()]));
    let arrow_request = v1::BatchGetFeaturesRequest { encoding: v1::BatchEncoding::ArrowIpc.into(), ..request.clone() };
    let arrow = client.batch_get_features(arrow_request).await.unwrap().into_inner();
    let batches = thyme_ingest::grpc::read_arrow(&arrow.arrow_ipc).unwrap();
    assert_eq!(batches.len(), 1);
    let columns: Vec<Vec<Value>> =
        batch.features.iter().map(|feature| whole_column_from_wire(feature.column.clone().unwrap()).unwrap()).collect();
    for (row, user) in users.iter().enumerate() {
        let one = client.get_features(get(user)).await.unwrap().into_inner();
        for (column, feature) in one.features.iter().enumerate() {
            let (name, expected, status) = value(feature);
            assert_eq!(batch.features[column].column.as_ref().unwrap().name, name);
            assert_eq!(columns[column][row], expected);
            assert_eq!(batch.features[column].statuses[row], i32::from(status));
        }
        let orders = batches[0].column_by_name("orders").unwrap().as_primitive::<Int64Type>();
        let spend = batches[0].column_by_name("spend").unwrap().as_primitive::<Float64Type>();
        assert_eq!(Value::Int(orders.value(row)), columns[0][row]);
        assert_eq!(Value::Float(spend.value(row)), columns[1][row]);
    }

    let at = |minutes: i64| NOON - minutes * MINUTE;
    let each = v1::BatchGetFeaturesRequest { row_ts_micros: vec![at(0), at(0), at(80), at(60)], ..request.clone() };
    let answer = client.batch_get_features(each).await.unwrap().into_inner();
    assert_eq!(answer.info.as_ref().unwrap().ts, None, "each row has its own");
    let spend = whole_column_from_wire(answer.features[1].column.clone().unwrap()).unwrap();
    assert_eq!((&spend[0], &spend[2], &spend[3]), (&Value::Float(8.0), &Value::Float(1.5), &Value::Float(8.0)));

    let both = v1::BatchGetFeaturesRequest { ts: Some(time_to_wire(NOON)), row_ts_micros: vec![1], ..request.clone() };
    let short = v1::BatchGetFeaturesRequest { row_ts_micros: vec![1], ..request.clone() };
    let odd = v1::BatchGetFeaturesRequest { encoding: 9, ..request };
    for (request, field) in [(both, "row_ts_micros"), (short, "row_ts_micros"), (odd, "encoding")] {
        let error = from_status(&client.batch_get_features(request).await.unwrap_err());
        assert_eq!((error.kind(), error.field_name()), (ErrorKind::InvalidArgument, Some(field)), "{error}");
    }
}

#[tokio::test]
async fn a_lookup_is_a_row_or_nothing() {
    let (_stack, mut client) = start().await;
    let request = |dataset: &str, user: &str| v1::LookupRequest {
        dataset: dataset.into(),
        key: key("user_id", user),
        ..v1::LookupRequest::default()
    };
    let row = client.lookup(request("Order", "a")).await.unwrap().into_inner();
    assert!(row.found);
    let fields: Vec<(String, Value)> = row.fields.iter().map(|field| (field.name.clone(), value(field).1)).collect();
    assert!(fields.contains(&("amount".to_string(), Value::Float(0.25))), "{fields:?}");
    assert!(fields.contains(&("ts".to_string(), Value::Time(NOON))), "{fields:?}");
    let none = client.lookup(request("Order", "nobody")).await.unwrap().into_inner();
    assert_eq!((none.found, none.fields.len()), (false, 0));
    let empty = client.lookup(request("UserStats", "nobody")).await.unwrap().into_inner();
    assert!(empty.found, "an aggregated dataset always has a row");
    let status = client.lookup(request("Ordr", "a")).await.unwrap_err();
    assert_eq!(from_status(&status).hint_text(), Some("did you mean 'Order'?"));
}

#[tokio::test]
async fn an_explanation_shows_the_window_and_its_events() {
    let (_stack, mut client) = start().await;
    let request = v1::ExplainRequest {
        name: "UserFeatures".into(),
        key: key("uid", "a"),
        features: vec!["orders".into()],
        max_events: 1,
        ..v1::ExplainRequest::default()
    };
    let explained = client.explain(request.clone()).await.unwrap().into_inner();
    let orders = &explained.explanations[0];
    assert_eq!(value(orders.value.as_ref().unwrap()).1, Value::Int(2));
    assert_eq!(orders.window_end, Some(time_to_wire(NOON)));
    assert_eq!(orders.window_start, Some(time_to_wire(NOON - 60 * MINUTE)));
    assert_eq!((orders.event_count, orders.events.len(), orders.truncated), (1, 1, true));
    assert_eq!(orders.events[0].event_time, Some(time_to_wire(NOON)), "the newest first");
    let all = client.explain(v1::ExplainRequest { max_events: 0, ..request }).await.unwrap().into_inner();
    assert_eq!((all.explanations[0].event_count, all.explanations[0].truncated), (2, false));
    let row = v1::ExplainRequest {
        name: "UserStats".into(),
        key: key("user_id", "b"),
        features: vec!["spend".into()],
        ..v1::ExplainRequest::default()
    };
    let explained = client.explain(row.clone()).await.unwrap().into_inner();
    assert_eq!(explained.explanations.len(), 1);
    assert_eq!(value(explained.explanations[0].value.as_ref().unwrap()).1, Value::Float(8.0));
    let wrong = v1::ExplainRequest { features: vec!["spent".into()], ..row };
    let error = from_status(&client.explain(wrong).await.unwrap_err());
    assert_eq!(error.hint_text(), Some("did you mean 'spend'?"));
}

#[tokio::test]
async fn a_mistyped_question_is_an_error_that_names_what_was_meant() {
    let (_stack, mut client) = start().await;
    let cases = [
        (v1::GetFeaturesRequest { featureset: "UserFeature".into(), ..get("a") }, ErrorKind::NotFound, "UserFeatures"),
        (
            v1::GetFeaturesRequest { features: vec!["oders".into()], ..get("a") },
            ErrorKind::NotFound,
            "did you mean 'orders'?",
        ),
        (v1::GetFeaturesRequest { key: key("ui", "a"), ..get("a") }, ErrorKind::InvalidArgument, "uid"),
        (v1::GetFeaturesRequest { key: BTreeMap::new(), ..get("a") }, ErrorKind::InvalidArgument, "uid"),
        (v1::GetFeaturesRequest { known_at: "soon".into(), ..get("a") }, ErrorKind::InvalidArgument, "known_at"),
        (v1::GetFeaturesRequest { at_least: "soon".into(), ..get("a") }, ErrorKind::InvalidArgument, "position"),
        (
            v1::GetFeaturesRequest { key: BTreeMap::from([("uid".into(), value_to_wire(&Value::Int(1)))]), ..get("a") },
            ErrorKind::InvalidArgument,
            "expected str, got int",
        ),
        (
            v1::GetFeaturesRequest { ts: Some(prost_types::Timestamp { seconds: 1, nanos: -1 }), ..get("a") },
            ErrorKind::InvalidArgument,
            "not a time",
        ),
    ];
    for (request, kind, says) in cases {
        let error = from_status(&client.get_features(request).await.unwrap_err());
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn runs_are_listed_as_the_catalog_keeps_them() {
    let (stack, mut client) = start().await;
    let run = |id: &str, kind: &str| thyme_catalog::QueryRun {
        id: id.into(),
        featureset: "UserFeatures".into(),
        entity_ids: vec!["a".into(), serde_json::json!({"x": 1})],
        requested_timestamp: Some(NOON),
        kind: kind.into(),
        row_count: 2,
        hit_count: 1,
        latency_us: 1500,
        api_key_fingerprint: None,
        commit_id: "commit-1".into(),
        watermark: None,
        error: None,
        created_at: NOON,
    };
    let runs = [run("r1", "online"), run("r2", "batch"), run("r3", "online")];
    stack.catalog.add_runs(&RunPages::of(&runs).unwrap(), 100).await.unwrap();
    let list = |cursor: String| v1::ListQueryRunsRequest {
        limit: 1,
        featureset: String::new(),
        kind: "online".into(),
        cursor,
    };
    let first = client.list_query_runs(list(String::new())).await.unwrap().into_inner();
    assert_eq!((first.runs.len(), first.runs[0].id.as_str()), (1, "r3"));
    let second = client.list_query_runs(list(first.next_cursor)).await.unwrap().into_inner();
    assert_eq!(second.runs[0].id, "r1");
    assert_eq!(second.runs[0].entity_ids, ["\"a\"", "{\"x\":1}"]);
    let got = client.get_query_run(v1::GetQueryRunRequest { id: "r1".into() }).await.unwrap().into_inner();
    assert_eq!(got.run.as_ref(), Some(&second.runs[0]));
    let status = client.get_query_run(v1::GetQueryRunRequest { id: "r9".into() }).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
}
