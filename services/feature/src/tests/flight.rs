use super::stack::{EVERYTHING, NOON, PART, Stack, orders_batch};
use crate::flight::Spines;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array as _, ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightClient, FlightData, FlightDescriptor};
use arrow_schema::DataType as ArrowType;
use arrow_select::concat::concat_batches;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use thyme_core::Value;
use thyme_proto::convert::{time_to_wire, value_from_wire, value_to_wire};
use thyme_proto::v1;
use thyme_proto::v1::feature_service_client::FeatureServiceClient;
use tonic::transport::{Endpoint, Server};

pub(super) fn json_command(command: Json) -> FlightDescriptor {
    FlightDescriptor::new_cmd(command.to_string())
}

pub(super) fn upload(
    descriptor: FlightDescriptor,
    batches: Vec<RecordBatch>,
) -> impl futures::Stream<Item = Result<FlightData, FlightError>> {
    FlightDataEncoderBuilder::new()
        .with_schema(batches[0].schema())
        .with_flight_descriptor(Some(descriptor))
        .with_dictionary_handling(DictionaryHandling::Resend)
        .build(stream::iter(batches.into_iter().map(Ok)))
}

pub(super) async fn put(
    stack: &Stack,
    descriptor: FlightDescriptor,
    batches: Vec<RecordBatch>,
) -> Result<Vec<bytes::Bytes>, String> {
    let mut client = FlightClient::new(stack.channel.clone());
    let results = client.do_put(upload(descriptor, batches)).await.map_err(message)?;
    let results: Vec<_> = results.try_collect().await.map_err(message)?;
    stack.apply();
    Ok(results.into_iter().map(|result| result.app_metadata).collect())
}

pub(super) async fn exchange(stack: &Stack, command: Json, batches: Vec<RecordBatch>) -> Result<RecordBatch, String> {
    exchange_by(stack, json_command(command), batches).await
}

pub(super) async fn exchange_by(
    stack: &Stack,
    descriptor: FlightDescriptor,
    batches: Vec<RecordBatch>,
) -> Result<RecordBatch, String> {
    let mut client = FlightClient::new(stack.channel.clone());
    let mut joined = client.do_exchange(upload(descriptor, batches)).await.map_err(message)?;
    let mut all = Vec::new();
    while let Some(batch) = joined.next().await {
        all.push(batch.map_err(message)?);
    }
    Ok(concat_batches(joined.schema().unwrap(), &all).unwrap())
}

pub(super) fn message(error: FlightError) -> String {
    match error {
        FlightError::Tonic(status) => status.message().to_string(),
        other => panic!("{other}"),
    }
}

/// A spine of (user, microseconds before noon), with a column of its own.
pub(super) fn spine(rows: &[(&str, i64)]) -> RecordBatch {
    let users: StringArray = rows.iter().map(|(user, _)| Some(*user)).collect();
    let times: Vec<i64> = rows.iter().map(|(_, before)| NOON - before).collect();
    let labels: Int64Array = (0..rows.len() as i64).map(Some).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("uid", Arc::new(users)),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from(times))),
        ("label", Arc::new(labels)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_comes_back_joined_row_for_row_as_single_answers_say() {
    let stack = Stack::start().await;
    let batches = vec![orders_batch(0, 10, 50), orders_batch(10, 70_000, 50), orders_batch(70_010, 990, 50)];
    let results = put(&stack, json_command(json!({"dataset": "Order"})), batches).await.unwrap();
    let last: Json = serde_json::from_slice(results.last().unwrap()).unwrap();
    assert_eq!((&last["accepted"], &last["rejected"], &last["reasons"]), (&json!(71_000), &json!(0), &json!([])));
    assert!(last["position"].as_str().unwrap().starts_with('p'));

    // 100,000 rows in no order of keys or times, in large and small batches; the client reads after it has written.
    let rows: Vec<(String, i64)> =
        (0..100_000i64).map(|row| (format!("u{}", row * 31 % 60), (row * 104_729) % 3_700_000_000)).collect();
    let rows: Vec<(&str, i64)> = rows.iter().map(|(user, before)| (user.as_str(), *before)).collect();
    let whole = spine(&rows);
    let batches = vec![whole.slice(0, 90_000), whole.slice(90_000, 7), whole.slice(90_007, 9_993)];
    let command = json!({"featureset": "UserFeatures", "statuses": true});
    let joined = exchange(&stack, command, batches).await.unwrap();
    assert_eq!(joined.num_rows(), 100_000);
    assert_eq!(&joined.columns()[..3], whole.columns(), "all of the spine, in its order");
    let names: Vec<String> = joined.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["uid", "timestamp", "label", "orders", "spend", "orders__status", "spend__status"]);
    let metadata = joined.schema().metadata().clone();
    let run = stack.runs.0.lock().last().unwrap().clone();
    assert_eq!((metadata["thyme.query_run_id"].as_str(), run.row_count), (&*run.id, 100_000));

    let mut client = FeatureServiceClient::new(stack.channel.clone());
    for row in (0..100_000).step_by(997) {
        let (user, before) = rows[row];
        let request = v1::GetFeaturesRequest {
            featureset: "UserFeatures".into(),
            key: [("uid".to_string(), value_to_wire(&Value::str(user)))].into(),
            ts: Some(time_to_wire(NOON - before)),
            ..v1::GetFeaturesRequest::default()
        };
        let answer = client.get_features(request).await.unwrap().into_inner();
        let single: Vec<Value> =
            answer.features.iter().map(|feature| value_from_wire(feature.value.clone().unwrap()).unwrap()).collect();
        let orders = joined.column(3).as_primitive::<Int64Type>().value(row);
        let spend = joined.column(4).as_primitive::<Float64Type>().value(row);
        assert_eq!(single, [Value::Int(orders), Value::Float(spend)], "row {row}");
        let status = joined.column(6).as_string::<i32>().value(row);
        assert_eq!(answer.features[1].status().as_str_name(), format!("VALUE_STATUS_{status}"));
    }
}

#[tokio::test]
async fn with_its_pin_an_export_gives_the_same_again() {
    let stack = Stack::start().await;
    stack.order(&[("a", 1, 1.0), ("b", 3, 2.0)]).await;
    let spine = || vec![spine(&[("a", 0), ("b", 0), ("c", 0)])];
    let asked = json!({"featureset": "UserFeatures", "statuses": true});
    let first = exchange(&stack, asked.clone(), spine()).await.unwrap();
    let metadata = first.schema().metadata().clone();
    assert_eq!(metadata["thyme.definition"].len(), 32);
    stack.order(&[("a", 2, 8.0), ("c", 2, 8.0)]).await;
    assert_ne!(exchange(&stack, asked.clone(), spine()).await.unwrap().columns(), first.columns());

    let pin = metadata["thyme.pin"].as_str();
    let pinned = json!({"featureset": "UserFeatures", "statuses": true, "pin": pin});
    let again = exchange(&stack, pinned.clone(), spine()).await.unwrap();
    assert_eq!(again.columns(), first.columns());
    assert_eq!(again.schema().metadata()["thyme.pin"], pin);
    let command = v1::ExportCommand {
        featureset: "UserFeatures".into(),
        statuses: true,
        pin: pin.into(),
        ..v1::ExportCommand::default()
    };
    let any = prost_types::Any {
        type_url: "type.googleapis.com/thyme.v1.ExportCommand".into(),
        value: command.encode_to_vec(),
    };
    let by_protobuf = exchange_by(&stack, FlightDescriptor::new_cmd(any.encode_to_vec()), spine()).await.unwrap();
    assert_eq!(by_protobuf, again, "the same each time, metadata too");

    // Its run is told beside it.
    let data: Vec<FlightData> = upload(json_command(pinned), spine()).try_collect().await.unwrap();
    let mut client = FlightServiceClient::new(stack.channel.clone());
    let response = client.do_exchange(stream::iter(data)).await.unwrap();
    assert_eq!(response.metadata().get("x-query-run-id").unwrap().len(), 36);

    let position = metadata["thyme.position"].as_str();
    let wrong = [
        (json!({"pin": "soon"}), "not a pin (hint: pass the 'pin' of an earlier export unchanged)"),
        (json!({"pin": position}), "not a pin"),
        (json!({"pin": pin, "known_at": position}), "known_at is given beside a pin"),
        (json!({"pin": pin, "at_least": position}), "at_least is given beside a pin"),
    ];
    for (command, says) in wrong {
        let mut all = asked.clone();
        all.as_object_mut().unwrap().extend(command.as_object().unwrap().clone());
        let told = exchange(&stack, all, spine()).await.unwrap_err();
        assert!(told.contains(says), "{told}");
    }
}

#[tokio::test]
async fn rejected_rows_are_counted_and_told_and_ids_name_the_row_of_the_stream() {
    let stack = Stack::start().await;
    let mut second = orders_batch(4, 4, 2);
    let mut columns = second.columns().to_vec();
    columns[2] = Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), None, Some(2.0)]));
    second = RecordBatch::try_new(second.schema(), columns).unwrap();
    let call = "0190f3a0-0000-7000-8000-000000000001";
    let batches = || vec![orders_batch(0, 4, 2), second.clone()];
    let command = v1::IngestCommand { dataset: "Order".into(), event_id_column: String::new(), call_id: call.into() };
    let any = prost_types::Any {
        type_url: "type.googleapis.com/thyme.v1.IngestCommand".into(),
        value: command.encode_to_vec(),
    };
    let results = put(&stack, FlightDescriptor::new_cmd(any.encode_to_vec()), batches()).await.unwrap();
    let last = v1::IngestResult::decode(results.last().unwrap().clone()).unwrap();
    assert_eq!((last.accepted, last.rejected), (6, 2));
    let told: Vec<(u64, &str, &str)> =
        last.reasons.iter().map(|row| (row.index, row.reason.as_str(), row.field.as_str())).collect();
    assert_eq!(told[0], (5, "'amount': NaN is not a value", "amount"));
    assert_eq!((told[1].0, told[1].2), (6, "amount"));
    // The same call again, cut otherwise: nothing counts twice.
    let joined: RecordBatch = concat_batches(&second.schema(), &batches()).unwrap();
    put(
        &stack,
        json_command(json!({"dataset": "Order", "call_id": call})),
        vec![joined.slice(0, 3), joined.slice(3, 5)],
    )
    .await
    .unwrap();
    let spine = spine(&[("u0", 0), ("u1", 0)]);
    let features = exchange(&stack, json!({"featureset": "UserFeatures"}), vec![spine]).await.unwrap();
    let orders = features.column_by_name("orders").unwrap().as_primitive::<Int64Type>();
    assert_eq!(orders.value(0) + orders.value(1), 6);
}

#[tokio::test]
async fn a_client_that_waits_for_each_answer_gets_it() {
    let stack = Stack::start().await;
    stack.order(&[("a", 1, 1.0)]).await;
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    let data = FlightDataEncoderBuilder::new()
        .with_schema(spine(&[]).schema())
        .with_flight_descriptor(Some(json_command(json!({"featureset": "UserFeatures"}))))
        .build(receiver);
    let mut client = FlightClient::new(stack.channel.clone());
    let mut joined = client.do_exchange(data).await.unwrap();
    for rows in [1usize, 3] {
        sender.unbounded_send(Ok(spine(&vec![("a", 0); rows]))).unwrap();
        assert_eq!(joined.next().await.unwrap().unwrap().num_rows(), rows);
    }
    drop(sender);
    assert_eq!(joined.next().await.unwrap().unwrap().num_rows(), 0, "the last message carries the summary");
    assert!(joined.next().await.is_none());
}

#[tokio::test]
async fn an_export_whose_client_goes_away_ends() {
    let stack = Stack::start().await;
    stack.order(&[("a", 1, 1.0)]).await;
    let url = stack.url.clone();
    // A client with a runtime of its own: when that stops, its connection breaks in the middle of an endless spine.
    let client = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let read = runtime.block_on(async {
            let endless = stream::repeat_with(|| Ok(spine(&vec![("a", 0); 1000])));
            let data = FlightDataEncoderBuilder::new()
                .with_schema(spine(&[]).schema())
                .with_flight_descriptor(Some(json_command(json!({"featureset": "UserFeatures"}))))
                .build(endless);
            let channel = tonic::transport::Endpoint::from_shared(url).unwrap().connect().await.unwrap();
            let mut joined = FlightClient::new(channel).do_exchange(data).await.unwrap();
            joined.next().await.unwrap().unwrap().num_rows()
        });
        runtime.shutdown_background();
        read
    });
    assert!(client.await.unwrap() > 0);
    // The run is recorded when the export is dropped.
    while stack.runs.0.lock().is_empty() {
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(stack.runs.0.lock()[0].error.as_deref(), Some("broken off before its end"));
}

#[tokio::test]
async fn spine_columns_keep_their_types_and_names_can_be_mapped() {
    let stack = Stack::start().await;
    stack.order(&[("a", 1, 1.0)]).await;
    let plane: DictionaryArray<Int32Type> = ["a", "zz", "a"].into_iter().collect();
    let columns: [(&str, ArrayRef); 2] = [
        ("plane", Arc::new(plane)),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(NOON), Some(NOON), None]))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    let command = json!({"featureset": "UserFeatures", "entity_columns": {"uid": "plane"}, "timestamp_column": "at",
        "features": ["orders"], "statuses": true});
    let joined = exchange(&stack, command, vec![batch.clone(), batch]).await.unwrap();
    assert!(matches!(joined.column(0).data_type(), ArrowType::Dictionary(..)));
    assert_eq!(joined.column(1).as_primitive::<TimestampMicrosecondType>().null_count(), 2);
    let statuses: Vec<_> = joined.column(3).as_string::<i32>().iter().flatten().collect();
    assert_eq!(statuses, ["OK", "DEFAULT", "ERROR", "OK", "DEFAULT", "ERROR"]);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_message() {
    let stack = Stack::start().await;
    let spine = spine(&[("a", 0)]);
    let no_time = spine.project(&[0, 2]).unwrap();
    let mut renamed = spine.columns().to_vec();
    let clash = RecordBatch::try_from_iter(vec![
        ("uid", renamed.remove(0)),
        ("timestamp", renamed.remove(0)),
        ("orders", renamed.remove(0)),
    ])
    .unwrap();
    let exports = [
        (json!({"featureset": "UserFeature"}), &spine, "did you mean 'UserFeatures'?"),
        (json!({"featureset": "UserFeatures", "feature": ["x"]}), &spine, "unknown field `feature`"),
        (json!({"featureset": "UserFeatures"}), &no_time, "no column 'timestamp'"),
        (json!({"featureset": "UserFeatures"}), &clash, "the spine has a column 'orders', which is also an output"),
        (json!({"featureset": "UserFeatures", "entity_columns": {"uid": "user"}}), &spine, "no column 'user'"),
        (json!({"featureset": "UserFeatures", "known_at": "soon"}), &spine, "not a known_at: 'soon'"),
    ];
    for (command, batch, says) in exports {
        let told = exchange(&stack, command, vec![batch.clone()]).await.unwrap_err();
        assert!(told.contains(says), "{told}");
    }
    let orders = orders_batch(0, 2, 2);
    let mut wrong = orders.columns().to_vec();
    wrong[2] = Arc::new(StringArray::from(vec!["1", "2"]));
    let names = ["user_id", "ts", "amount", "items"];
    let wrong = RecordBatch::try_from_iter(names.into_iter().zip(wrong)).unwrap();
    let puts = [
        (json!({"dataset": "Ordr"}), orders.clone(), "unknown dataset 'Ordr' (hint: did you mean 'Order'?)"),
        (json!({"dataset": "UserStats"}), orders.clone(), "send rows to what they read: Order"),
        (json!({"dataset": "Order", "call_id": "x"}), orders.clone(), "not a call id: 'x'"),
        (json!({"dataset": "Order", "event_id_column": "id"}), orders.clone(), "no column 'id' for the event ids"),
        (json!({"dataset": "Order"}), orders.project(&[0, 1]).unwrap(), "missing column 'amount' (float)"),
        (json!({"dataset": "Order"}), wrong, "column 'amount' of dataset 'Order': expected float, got Arrow type Utf8"),
        (json!([1]), orders.clone(), "neither a JSON object nor a google.protobuf.Any"),
    ];
    for (command, batch, says) in puts {
        let told = put(&stack, json_command(command), vec![batch]).await.unwrap_err();
        assert!(told.contains(says), "{told}");
    }
    let told = put(&stack, FlightDescriptor::new_path(vec!["a".into(), "b".into()]), vec![orders]).await.unwrap_err();
    assert!(told.contains("a path names one dataset or featureset"), "{told}");
    let mut client = FlightClient::new(stack.channel.clone());
    let told = message(client.poll_flight_info(FlightDescriptor::new_path(vec!["Order".into()])).await.unwrap_err());
    assert!(told.starts_with("PollFlightInfo is not offered (hint: "), "{told}");
}

#[tokio::test]
async fn without_the_ingest_role_spines_are_taken_and_rows_are_not() {
    let stack = Stack::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (root, clock) = (directory.path().join("spines"), stack.spine_clock.clone());
    let spines = Spines::open_within(&root, clock, EVERYTHING, PART).unwrap();
    let listener = tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Server::builder().add_service(crate::flight::service(stack.query.clone(), None, spines));
    tokio::spawn(router.serve_with_incoming(listener));
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let mut client = FlightClient::new(channel);
    let rows = upload(json_command(json!({"dataset": "Order"})), vec![orders_batch(0, 2, 2)]);
    let told = message(client.do_put(rows).await.err().unwrap());
    assert_eq!(told, "this process does not take rows (hint: it runs without the ingest role)");
    let spine = upload(json_command(json!({"spine": "new"})), vec![spine(&[("a", 0)])]);
    let told: Vec<_> = client.do_put(spine).await.unwrap().try_collect().await.unwrap();
    let told: Json = serde_json::from_slice(&told[0].app_metadata).unwrap();
    let command = json!({"featureset": "UserFeatures", "spine": told["spine"]});
    let info = client.get_flight_info(json_command(command)).await.unwrap();
    let joined = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    let joined: Vec<RecordBatch> = joined.try_collect().await.unwrap();
    assert_eq!(joined.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

#[tokio::test]
async fn flights_are_listed_with_their_schemas() {
    let stack = Stack::start().await;
    let mut client = FlightClient::new(stack.channel.clone());
    let flights: Vec<_> = client.list_flights("").await.unwrap().try_collect().await.unwrap();
    let names: Vec<String> = flights.iter().flat_map(|info| info.flight_descriptor.clone().unwrap().path).collect();
    assert_eq!(names, ["Order", "UserStats", "UserFeatures"]);
    let schema = client.get_schema(FlightDescriptor::new_path(vec!["Order".into()])).await.unwrap();
    assert_eq!(schema.field_with_name("amount").unwrap().data_type(), &ArrowType::Float64);
    assert_eq!(schema.field_with_name("user_id").unwrap().metadata()["thyme.role"], "key");
    let schema = client.get_schema(json_command(json!({"featureset": "UserFeatures"}))).await.unwrap();
    assert_eq!(schema.fields().len(), 3);
    let told = message(client.get_schema(FlightDescriptor::new_path(vec!["Oder".into()])).await.unwrap_err());
    assert!(told.contains("did you mean 'Order'?"), "{told}");
}
