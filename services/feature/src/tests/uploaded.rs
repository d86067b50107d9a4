//! Spines that are put before they are joined: DoPut, GetFlightInfo, DoGet, drop_spine.

use super::flight::{exchange, json_command, message, put, spine, upload};
use super::stack::{EVERYTHING, MINUTE, NOON, PART, Stack, definitions, orders_batch};
use crate::flight::limits::Limits;
use crate::flight::room::Bounds;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{Array as _, ArrayRef, DictionaryArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightClient, FlightData, FlightDescriptor, FlightInfo, Ticket};
use arrow_select::concat::concat_batches;
use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use thyme_core::Value;
use thyme_core::time::parse_time;
use thyme_proto::convert::{time_to_wire, value_from_wire, value_to_wire};
use thyme_proto::v1;
use thyme_proto::v1::feature_service_client::FeatureServiceClient;
use tonic::{Code, Status, Streaming};

const LONG: Duration = Duration::from_secs(60);

async fn put_spine(stack: &Stack, batches: Vec<RecordBatch>) -> Result<String, String> {
    let results = put(stack, json_command(json!({"spine": "new"})), batches).await?;
    assert_eq!(results.len(), 1);
    let told: Json = serde_json::from_slice(&results[0]).unwrap();
    Ok(told["spine"].as_str().unwrap().to_string())
}

fn command(id: &str) -> Json {
    json!({"featureset": "UserFeatures", "statuses": true, "spine": id})
}

async fn info(stack: &Stack, command: Json) -> Result<FlightInfo, String> {
    FlightClient::new(stack.channel.clone()).get_flight_info(json_command(command)).await.map_err(message)
}

fn tickets(info: &FlightInfo) -> Vec<Ticket> {
    info.endpoint.iter().map(|endpoint| endpoint.ticket.clone().unwrap()).collect()
}

fn pin(info: &FlightInfo) -> String {
    info.clone().try_decode_schema().unwrap().metadata()["thyme.pin"].clone()
}

fn client(stack: &Stack) -> FlightServiceClient<tonic::transport::Channel> {
    FlightServiceClient::new(stack.channel.clone()).max_decoding_message_size(usize::MAX)
}

async fn open(stack: &Stack, ticket: &Ticket) -> Result<Streaming<FlightData>, Status> {
    Ok(client(stack).do_get(ticket.clone()).await?.into_inner())
}

async fn messages(stack: &Stack, ticket: &Ticket) -> Result<Vec<FlightData>, Status> {
    open(stack, ticket).await?.try_collect().await
}

async fn decoded(messages: Vec<FlightData>) -> RecordBatch {
    let mut decoder = FlightRecordBatchStream::new_from_flight_data(stream::iter(messages.into_iter().map(Ok)));
    let mut batches = Vec::new();
    while let Some(batch) = decoder.next().await {
        batches.push(batch.unwrap());
    }
    concat_batches(decoder.schema().unwrap(), &batches).unwrap()
}

/// All parts in their order.
async fn joined(stack: &Stack, info: &FlightInfo) -> RecordBatch {
    let mut parts = Vec::new();
    for ticket in tickets(info) {
        parts.push(decoded(messages(stack, &ticket).await.unwrap()).await);
    }
    concat_batches(&parts[0].schema(), &parts).unwrap()
}

/// Rows of sixty users in no order.
fn rows(count: usize) -> Vec<(String, i64)> {
    (0..count as i64).map(|row| (format!("u{}", row * 31 % 60), (row * 104_729) % 3_700_000_000)).collect()
}

fn spine_of(rows: &[(String, i64)]) -> RecordBatch {
    spine(&rows.iter().map(|(user, before)| (user.as_str(), *before)).collect::<Vec<_>>())
}

/// As a client happens to cut it.
fn cut(whole: &RecordBatch, sizes: &[usize]) -> Vec<RecordBatch> {
    let (mut batches, mut from, mut sizes) = (vec![whole.slice(0, 0)], 0, sizes.iter().cycle());
    while let Some(size) = sizes.next().filter(|_| from < whole.num_rows()) {
        let count = (*size).min(whole.num_rows() - from);
        batches.push(whole.slice(from, count));
        from += count;
    }
    batches
}

async fn with_orders() -> Stack {
    let stack = Stack::start().await;
    put(&stack, json_command(json!({"dataset": "Order"})), vec![orders_batch(0, 10_000, 50)]).await.unwrap();
    stack
}

async fn until(what: impl Fn() -> bool) {
    let holds = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, holds).await.expect("it should come to that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_parts_in_order_are_what_one_exchange_gives() {
    let stack = with_orders().await;
    for count in [0, 1, PART - 1, PART, PART + 1, 3 * PART] {
        let rows = rows(count);
        let whole = spine_of(&rows);
        let id = put_spine(&stack, cut(&whole, &[7, 9000, 1])).await.unwrap();
        let asked = info(&stack, command(&id)).await.unwrap();
        assert_eq!((asked.total_records, asked.ordered), (count as i64, true));
        assert_eq!(asked.endpoint.len(), count.div_ceil(PART).max(1), "an empty one has its schema");
        assert!(asked.endpoint.iter().all(|endpoint| endpoint.location.is_empty()));
        let pinned = pin(&asked);
        stack.order(&[("u1", 30, 1000.0), ("u7", 30, 1000.0)]).await;
        let at_once = json!({"featureset": "UserFeatures", "statuses": true, "pin": pinned});
        let expected = exchange(&stack, at_once, cut(&whole, &[count.max(1)])).await.unwrap();
        let by_parts = joined(&stack, &asked).await;
        assert_eq!(by_parts, expected, "{count} rows, metadata too");
        assert_eq!((by_parts.num_rows(), &by_parts.columns()[..3]), (count, whole.columns()));
        let run = stack.runs.0.lock().last().unwrap().clone();
        assert_eq!(run.row_count, (count - (asked.endpoint.len() - 1) * PART) as u64, "of the last part");

        let metadata = asked.clone().try_decode_schema().unwrap().metadata().clone();
        for name in ["thyme.ts", "thyme.commit_id", "thyme.query_run_id", "thyme.position"] {
            assert!(metadata.contains_key(name), "{name}");
        }
        let mut client = FeatureServiceClient::new(stack.channel.clone());
        for row in (0..count).step_by(9973) {
            let request = v1::GetFeaturesRequest {
                featureset: "UserFeatures".into(),
                key: [("uid".to_string(), value_to_wire(&Value::str(rows[row].0.as_str())))].into(),
                ts: Some(time_to_wire(NOON - rows[row].1)),
                known_at: metadata["thyme.position"].clone(),
                ..v1::GetFeaturesRequest::default()
            };
            let answer = client.get_features(request).await.unwrap().into_inner();
            let value = |feature: &v1::FeatureValue| value_from_wire(feature.value.clone().unwrap()).unwrap();
            let single: Vec<Value> = answer.features.iter().map(value).collect();
            let orders = by_parts.column(3).as_primitive::<Int64Type>().value(row);
            let spend = by_parts.column(4).as_primitive::<Float64Type>().value(row);
            assert_eq!(single, [Value::Int(orders), Value::Float(spend)], "row {row}");
        }
    }
}

/// With dictionaries that differ, nulls, and long texts.
fn mixed(count: usize) -> RecordBatch {
    let rows = rows(count);
    let users: DictionaryArray<Int32Type> = rows.iter().map(|(user, _)| Some(user.as_str())).collect();
    let times = rows.iter().enumerate().map(|(row, (_, before))| (row % 11 != 0).then_some(NOON - before));
    let texts = (0..count).map(|row| (row % 7 != 0).then(|| "x".repeat(row % 900)));
    let columns: [(&str, ArrayRef); 3] = [
        ("uid", Arc::new(users)),
        ("timestamp", Arc::new(times.collect::<TimestampMicrosecondArray>())),
        ("text", Arc::new(texts.collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_asked_again_is_the_same_byte_for_byte() {
    let stack = with_orders().await;
    let whole = mixed(2 * PART + 5);
    let batches = vec![mixed(3000), whole.clone(), mixed(10)];
    let id = put_spine(&stack, batches.clone()).await.unwrap();
    let asked = info(&stack, command(&id)).await.unwrap();
    assert_eq!(asked.endpoint.len(), 3);
    let mut first = Vec::new();
    for ticket in tickets(&asked) {
        first.push(messages(&stack, &ticket).await.unwrap());
    }
    assert!(first[0].len() > 5, "several batches and dictionaries: {}", first[0].len());
    let mut all = Vec::new();
    for messages in &first {
        all.push(decoded(messages.clone()).await);
    }
    let all = concat_batches(&all[0].schema(), &all).unwrap();
    assert_eq!(all.column(2), concat_batches(&whole.schema(), &batches).unwrap().column(2));
    assert!(all.column(1).null_count() > 0);

    // More events, a commit of the same, and all parts at once.
    stack.order(&[("u1", 30, 1000.0), ("u7", 30, 1000.0)]).await;
    stack.commit("commit-2", &definitions());
    let twice = [tickets(&asked), tickets(&asked)].concat();
    let at_once = join_all(twice.iter().map(|ticket| messages(&stack, ticket))).await;
    for (part, again) in at_once.into_iter().enumerate() {
        assert!(again.unwrap() == first[part % 3], "part {}", part % 3);
    }
    // GetFlightInfo with the pin tells the same tickets, and another one tells others.
    let mut with_pin = command(&id);
    with_pin["pin"] = json!(pin(&asked));
    assert_eq!(tickets(&info(&stack, with_pin).await.unwrap()), tickets(&asked));
    assert_ne!(tickets(&info(&stack, command(&id)).await.unwrap()), tickets(&asked));

    // Cut off after every message, and asked again.
    let ticket = &tickets(&asked)[1];
    for count in 0..first[1].len() {
        let cut: Vec<FlightData> = open(&stack, ticket).await.unwrap().take(count).try_collect().await.unwrap();
        assert!(cut == first[1][..count], "{count} messages");
    }
    assert!(messages(&stack, ticket).await.unwrap() == first[1]);
}

#[tokio::test]
async fn the_protobuf_forms_say_the_same() {
    let stack = Stack::start().await;
    stack.order(&[("a", 1, 1.0)]).await;
    let any = |name: &str, value: Vec<u8>| {
        let any = prost_types::Any { type_url: format!("type.googleapis.com/thyme.v1.{name}"), value };
        FlightDescriptor::new_cmd(any.encode_to_vec())
    };
    let told = put(&stack, any("SpineCommand", Vec::new()), vec![spine(&[("a", 0), ("b", 0)])]).await.unwrap();
    let told = v1::SpineResult::decode(told.last().unwrap().clone()).unwrap();
    assert_eq!((told.rows, told.expires), (2, Some(time_to_wire(NOON + 60 * MINUTE))));
    let asked = v1::ExportCommand {
        featureset: "UserFeatures".into(),
        features: vec!["orders".into()],
        spine: told.spine.clone(),
        ..v1::ExportCommand::default()
    };
    let descriptor = any("ExportCommand", asked.encode_to_vec());
    let response = client(&stack).get_flight_info(descriptor.clone()).await.unwrap();
    assert_eq!(response.metadata().get("x-query-run-id").unwrap().len(), 36);
    let asked = response.into_inner();
    assert_eq!(asked.flight_descriptor, Some(descriptor));
    let response = client(&stack).do_get(tickets(&asked)[0].clone()).await.unwrap();
    assert_eq!(response.metadata().get("x-query-run-id").unwrap().len(), 36);
    let all: Vec<FlightData> = response.into_inner().try_collect().await.unwrap();
    let summary = v1::ExportSummary::decode(all.last().unwrap().app_metadata.clone()).unwrap();
    assert_eq!((summary.rows, summary.known, summary.features.len(), summary.plan), (2, 1, 1, None));
    assert_eq!(decoded(all).await.column(3).as_primitive::<Int64Type>().values(), &[1, 0]);
    let by_json = info(&stack, command(&told.spine)).await.unwrap();
    let in_json = messages(&stack, &tickets(&by_json)[0]).await.unwrap();
    let summary: Json = serde_json::from_slice(&in_json.last().unwrap().app_metadata).unwrap();
    assert_eq!((&summary["rows"], &summary["features"][0]["name"]), (&json!(2), &json!("orders")));
}

#[tokio::test]
async fn it_expires_an_hour_after_it_was_last_asked_about() {
    let stack = Stack::start().await;
    let minutes = |minutes: i64| stack.spine_clock.0.store(NOON + minutes * MINUTE, Ordering::SeqCst);
    let told = put(&stack, json_command(json!({"spine": "new"})), vec![spine(&[("a", 0)])]).await.unwrap();
    let told: Json = serde_json::from_slice(told.last().unwrap()).unwrap();
    assert_eq!(told["rows"], 1);
    assert_eq!(parse_time(told["expires"].as_str().unwrap()).unwrap(), NOON + 60 * MINUTE);
    let id = told["spine"].as_str().unwrap();
    minutes(59);
    let asked = info(&stack, command(id)).await.unwrap();
    assert_eq!(asked.endpoint[0].expiration_time, Some(time_to_wire(NOON + 119 * MINUTE)));
    minutes(118);
    messages(&stack, &tickets(&asked)[0]).await.unwrap();
    minutes(119);
    let gone = messages(&stack, &tickets(&asked)[0]).await.unwrap_err();
    let says = format!(
        "no spine {id} here; it was dropped, has expired or is on another node (hint: put it again (DoPut), then ask GetFlightInfo with \
         the same pin)"
    );
    assert_eq!((gone.code(), gone.message()), (Code::NotFound, says.as_str()));
    assert_eq!(info(&stack, command(id)).await.unwrap_err(), says);
    assert_eq!(stack.spines_on_disk(), 0);
}

#[tokio::test]
async fn what_is_wrong_with_spines_and_tickets_is_said() {
    let stack = with_orders().await;
    let id = put_spine(&stack, vec![spine(&[("u1", 0)])]).await.unwrap();
    let with = |name: &str, value: Json| {
        let mut command = command(&id);
        command[name] = value;
        command
    };
    let nobody = "0190f3a0-0000-4000-8000-000000000001";
    let wrong = [
        (json!({"featureset": "UserFeatures", "timestamp_column": "ts"}), "no spine is named (hint: put one first"),
        (command(nobody), "no spine 0190f3a0-0000-4000-8000-000000000001 here"),
        (command("../spines"), "not the id of a spine"),
        (with("featureset", json!("UserFeature")), "did you mean 'UserFeatures'?"),
        (with("timestamp_column", json!("ts")), "no column 'ts'"),
        (with("features", json!(["order"])), "did you mean 'orders'?"),
        (with("pin", json!("soon")), "not a pin"),
    ];
    for (command, says) in wrong {
        let told = info(&stack, command).await.unwrap_err();
        assert!(told.contains(says), "{told}");
    }
    let told = exchange(&stack, command(&id), vec![spine(&[("u1", 0)])]).await.unwrap_err();
    assert!(told.contains("a spine is named, and DoExchange brings its own"), "{told}");
    let long = "t".repeat(70_000);
    let columns = spine(&[("u1", 0)]).columns()[..2].to_vec();
    let named_so = RecordBatch::try_from_iter(["uid", &long].into_iter().zip(columns)).unwrap();
    let mut long_command = command(&put_spine(&stack, vec![named_so]).await.unwrap());
    long_command["timestamp_column"] = json!(long);
    let told = info(&stack, long_command).await.unwrap_err();
    assert!(told.contains("a ticket of 70") && told.contains("(hint: name fewer features"), "{told}");
    let told = put(&stack, json_command(json!({"spine": id})), vec![spine(&[])]).await.unwrap_err();
    assert!(told.contains("put one with {\"spine\": \"new\"}"), "{told}");

    let asked = info(&stack, command(&id)).await.unwrap();
    let ticket = tickets(&asked)[0].clone();
    let any = prost_types::Any::decode(ticket.ticket.clone()).unwrap();
    let inner = v1::ExportTicket::decode(any.value.as_slice()).unwrap();
    let forged = |change: &dyn Fn(&mut v1::ExportTicket)| {
        let mut inner = inner.clone();
        change(&mut inner);
        Ticket::new(prost_types::Any { value: inner.encode_to_vec(), ..any.clone() }.encode_to_vec())
    };
    let command_of = |ticket: &mut v1::ExportTicket, change: fn(&mut v1::ExportCommand)| {
        change(ticket.command.as_mut().unwrap());
    };
    let forgeries = [
        (Ticket::new("UserFeatures"), "not a ticket of GetFlightInfo"),
        (Ticket::new(vec![0; 70_000]), "it is too long"),
        (
            Ticket::new(prost_types::Any { type_url: "x".into(), ..any.clone() }.encode_to_vec()),
            "it is of another kind",
        ),
        (forged(&|ticket| ticket.command = None), "it has no spine or no pin"),
        (forged(&|ticket| command_of(ticket, |command| command.pin.clear())), "it has no spine or no pin"),
        (forged(&|ticket| ticket.part = 1), "part 1 of a spine that has 1"),
        (forged(&|ticket| command_of(ticket, |command| command.spine = "../x".into())), "not the id of a spine"),
        (
            forged(&|ticket| command_of(ticket, |command| command.known_at = "2024-01-15T12:00:00Z".into())),
            "beside a pin",
        ),
        (
            forged(&|ticket| command_of(ticket, |command| command.featureset = "Order".into())),
            "unknown featureset 'Order'",
        ),
    ];
    for (ticket, says) in forgeries {
        let told = messages(&stack, &ticket).await.unwrap_err();
        assert_eq!(told.code(), if says.starts_with("unknown") { Code::NotFound } else { Code::InvalidArgument });
        assert!(told.message().contains(says), "{told}");
    }
    // What it stands on is no more.
    let mut others = definitions();
    others.featuresets[0].features.pop();
    stack.commit("commit-2", &others);
    let told = messages(&stack, &ticket).await.unwrap_err();
    assert_eq!(told.code(), Code::FailedPrecondition);
    assert!(told.message().contains("another definition of featureset 'UserFeatures'"), "{told}");
    stack.commit("commit-3", &definitions());
    messages(&stack, &ticket).await.unwrap();

    let mut client = FlightClient::new(stack.channel.clone());
    let actions: Vec<_> = client.list_actions().await.unwrap().try_collect().await.unwrap();
    assert_eq!(actions.iter().map(|action| action.r#type.as_str()).collect::<Vec<_>>(), ["drop_spine"]);
    let dropped: Vec<_> =
        client.do_action(Action::new("drop_spine", id.clone())).await.unwrap().try_collect().await.unwrap();
    assert_eq!((dropped.len(), stack.spines_on_disk()), (0, 1), "but for the other one");
    for (action, says) in
        [("drop_spine", "no spine"), ("drop", "the action 'drop' is not offered (hint: there is drop_spine)")]
    {
        let told = message(client.do_action(Action::new(action, id.clone())).await.err().unwrap());
        assert!(told.contains(says), "{told}");
    }
    assert_eq!(messages(&stack, &ticket).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn an_upload_that_breaks_leaves_nothing() {
    let stack = Stack::start().await;
    let url = stack.url.clone();
    let (broken, breaks) = tokio::sync::oneshot::channel::<()>();
    // A client with a runtime of its own: when that stops, its connection breaks in the middle of an endless spine.
    let client = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.spawn(async move {
            let endless = stream::repeat_with(|| Ok(spine(&vec![("a", 0); 1000])));
            let data = FlightDataEncoderBuilder::new()
                .with_schema(spine(&[]).schema())
                .with_flight_descriptor(Some(json_command(json!({"spine": "new"}))))
                .build(endless);
            let channel = tonic::transport::Endpoint::from_shared(url).unwrap().connect().await.unwrap();
            let mut told = FlightClient::new(channel).do_put(data).await.unwrap();
            told.next().await
        });
        runtime.block_on(breaks).unwrap();
        runtime.shutdown_background();
    });
    until(|| stack.spines_on_disk() == 1).await;
    broken.send(()).unwrap();
    client.await.unwrap();
    until(|| stack.spines_on_disk() == 0).await;
}

#[tokio::test]
async fn a_spine_that_does_not_fit_is_refused_and_leaves_nothing() {
    let stack = Stack::start_within(Bounds { bytes: 1 << 20, ..EVERYTHING }, Limits::of_a_server()).await;
    let told = put_spine(&stack, vec![spine_of(&rows(3 * PART))]).await.unwrap_err();
    assert!(told.starts_with("uploaded spines may take 1 MiB together on this node (hint: drop those"), "{told}");
    assert_eq!(stack.spines_on_disk(), 0);
    put_spine(&stack, vec![spine_of(&rows(100))]).await.unwrap();
    let stack = Stack::start_within(Bounds { free_bytes: u64::MAX, ..EVERYTHING }, Limits::of_a_server()).await;
    let told = put_spine(&stack, vec![spine(&[("a", 0)])]).await.unwrap_err();
    assert!(told.starts_with("the disk of this node has "), "{told}");
    assert_eq!(stack.spines_on_disk(), 0);
}

/// So wide that what a client has not taken does not fit into its window.
fn wide(count: usize) -> RecordBatch {
    let narrow = spine_of(&rows(count));
    let texts: StringArray = (0..count).map(|row| Some(format!("{row:01000}"))).collect();
    let mut columns = narrow.columns().to_vec();
    columns[2] = Arc::new(texts);
    RecordBatch::try_from_iter(["uid", "timestamp", "text"].into_iter().zip(columns)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_are_opened_and_read_one_after_the_other() {
    let stack = Stack::start_within(EVERYTHING, Limits::of(1, LONG, LONG)).await;
    stack.order(&[("u1", 1, 1.0)]).await;
    let id = put_spine(&stack, cut(&wide(2 * PART), &[5000])).await.unwrap();
    let asked = info(&stack, command(&id)).await.unwrap();
    // Each has a connection of its own: what is not taken of one would fill the window of all.
    let mut opened = Vec::new();
    for ticket in tickets(&asked).iter().cycle().take(12) {
        let channel = tonic::transport::Endpoint::from_shared(stack.url.clone()).unwrap().connect().await.unwrap();
        let mut client = FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        opened.push(client.do_get(ticket.clone()).await.unwrap().into_inner());
    }
    // One that is hardly begun is joined up to its first chunk: its run tells, when it is given up.
    let mut given_up = opened.pop().unwrap();
    for _ in 0..2 {
        given_up.message().await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = stack.runs.0.lock().len();
    drop(given_up);
    until(|| stack.runs.0.lock().len() > before).await;
    assert_eq!(stack.runs.0.lock().last().unwrap().row_count, 8192);
    for reader in opened.into_iter().rev() {
        let messages: Vec<FlightData> = tokio::time::timeout(LONG, reader.try_collect()).await.unwrap().unwrap();
        assert_eq!(decoded(messages).await.num_rows(), PART);
    }
}

#[tokio::test]
async fn more_exports_than_there_are_places_wait_and_are_told() {
    let stack = Stack::start_within(EVERYTHING, Limits::of(1, Duration::from_millis(200), LONG)).await;
    let id = put_spine(&stack, vec![spine(&[("a", 0)])]).await.unwrap();
    let ticket = tickets(&info(&stack, command(&id)).await.unwrap())[0].clone();
    let place = stack.limits.place(false).await.unwrap();
    let says = "1 exports are under way (hint: ask again when one of them is done)";
    let told = messages(&stack, &ticket).await.unwrap_err();
    assert_eq!((told.code(), told.message()), (Code::ResourceExhausted, says));
    let at_once = json!({"featureset": "UserFeatures"});
    assert_eq!(exchange(&stack, at_once.clone(), vec![spine(&[("a", 0)])]).await.unwrap_err(), says);
    drop(place);
    messages(&stack, &ticket).await.unwrap();
    exchange(&stack, at_once, vec![spine(&[("a", 0)])]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stop_are_let_go() {
    let idle = Duration::from_secs(2);
    let stack = Stack::start_within(EVERYTHING, Limits::of(8, LONG, idle)).await;
    let id = put_spine(&stack, cut(&wide(PART), &[5000])).await.unwrap();
    let ticket = tickets(&info(&stack, command(&id)).await.unwrap())[0].clone();
    let before = stack.runs.0.lock().len();
    let mut reader = open(&stack, &ticket).await.unwrap();
    reader.message().await.unwrap().unwrap();
    until(|| stack.runs.0.lock().len() > before).await;
    let told = loop {
        match reader.message().await {
            Ok(message) => assert!(message.is_some(), "it ended as if it were whole"),
            Err(status) => break status,
        }
    };
    assert_eq!(told.code(), Code::DeadlineExceeded, "{told}");
    assert!(told.message().starts_with("nothing was taken of the answer for 2 s"), "{told}");

    // One that sends nothing more.
    let begun = || {
        let data = upload(json_command(json!({"spine": "new"})), vec![spine(&[("a", 0)])]);
        data.chain(stream::pending())
    };
    let mut put = FlightClient::new(stack.channel.clone()).do_put(begun()).await.unwrap();
    let told = message(put.next().await.unwrap().unwrap_err());
    assert!(told.starts_with("nothing was sent for 2 s"), "{told}");
    until(|| stack.spines_on_disk() == 1).await;
}
