//! Changes and rows over Flight: GetFlightInfo, and DoGet of all tickets.

use super::stack::{MINUTE, NOON, Stack, definitions, orders_batch};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightClient, FlightData, FlightDescriptor, FlightInfo, Ticket};
use arrow_select::concat::concat_batches;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use serde_json::{Value as Json, json};
use thyme_core::time::format_time;
use thyme_ingest::{RowIds, Rows};
use thyme_proto::v1;
use thyme_proto::v1::range_ticket::Command;
use tonic::Code;

fn json_command(command: Json) -> FlightDescriptor {
    FlightDescriptor::new_cmd(command.to_string())
}

fn any(name: &str, message: &impl prost::Message) -> Vec<u8> {
    let type_url = format!("type.googleapis.com/thyme.v1.{name}");
    prost_types::Any { type_url, value: message.encode_to_vec() }.encode_to_vec()
}

fn status(error: FlightError) -> tonic::Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => panic!("{other}"),
    }
}

async fn info(stack: &Stack, descriptor: FlightDescriptor) -> Result<FlightInfo, tonic::Status> {
    FlightClient::new(stack.channel.clone()).get_flight_info(descriptor).await.map_err(status)
}

fn tickets(info: &FlightInfo) -> Vec<Ticket> {
    info.endpoint.iter().map(|endpoint| endpoint.ticket.clone().unwrap()).collect()
}

async fn get(stack: &Stack, ticket: Ticket) -> Result<Vec<RecordBatch>, tonic::Status> {
    let mut rows = FlightClient::new(stack.channel.clone()).do_get(ticket).await.map_err(status)?;
    let mut batches = Vec::new();
    while let Some(batch) = rows.next().await {
        batches.push(batch.map_err(status)?);
    }
    batches.insert(0, RecordBatch::new_empty(rows.schema().unwrap().clone()));
    Ok(batches)
}

/// All rows, in the order of the endpoints.
async fn all(stack: &Stack, info: &FlightInfo) -> RecordBatch {
    let mut batches = Vec::new();
    for ticket in tickets(info) {
        batches.extend(get(stack, ticket).await.unwrap());
    }
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

async fn ask(stack: &Stack, descriptor: FlightDescriptor) -> RecordBatch {
    all(stack, &info(stack, descriptor).await.unwrap()).await
}

/// The messages of a ticket's answer, and its run.
async fn messages(stack: &Stack, ticket: Ticket) -> (Vec<FlightData>, String) {
    let response = FlightServiceClient::new(stack.channel.clone()).do_get(ticket).await.unwrap();
    let run = response.metadata().get(crate::grpc::RUN_ID_HEADER).unwrap().to_str().unwrap().to_string();
    (response.into_inner().try_collect().await.unwrap(), run)
}

/// (user, minutes before noon, orders, spend), in no order of users.
fn told(answer: &RecordBatch) -> Vec<(String, i64, i64, f64)> {
    let users = answer.column(0).as_string::<i32>();
    let times = answer.column(1).as_primitive::<TimestampMicrosecondType>();
    let (orders, spend) =
        (answer.column(2).as_primitive::<Int64Type>(), answer.column(3).as_primitive::<Float64Type>());
    let row = |row: usize| {
        (users.value(row).to_string(), (NOON - times.value(row)) / MINUTE, orders.value(row), spend.value(row))
    };
    let mut rows: Vec<_> = (0..answer.num_rows()).map(row).collect();
    rows.sort_by(|one, other| (&one.0, other.1).cmp(&(&other.0, one.1)));
    rows
}

fn rows(rows: &[(&str, i64, i64, f64)]) -> Vec<(String, i64, i64, f64)> {
    rows.iter().map(|(user, minutes, orders, spend)| (user.to_string(), *minutes, *orders, *spend)).collect()
}

#[tokio::test]
async fn changes_are_told_in_parts_that_join_as_their_own_spine() {
    let stack = Stack::start().await;
    stack.order(&[("a", 50, 1.0), ("b", 40, 2.0), ("a", 20, 4.0)]).await;
    let command = json!({"featureset": "UserFeatures"});
    let flight = info(&stack, json_command(command.clone())).await.unwrap();
    assert_eq!((flight.endpoint.len(), flight.total_records, flight.ordered), (16, -1, true));
    let promised = flight.endpoint[0].expiration_time.unwrap().seconds * 1_000_000;
    assert_eq!(promised, NOON + 24 * 60 * MINUTE);
    let schema = flight.clone().try_decode_schema().unwrap();
    assert_eq!(schema.metadata()["thyme.until"], format_time(NOON + 1));
    assert_eq!(schema.metadata()["thyme.ts"], format_time(NOON));
    assert!(!schema.metadata().contains_key("thyme.since"));
    let answer = all(&stack, &flight).await;
    assert_eq!(answer.schema().fields(), schema.fields());
    assert_eq!(told(&answer), rows(&[("a", 50, 1, 1.0), ("a", 20, 2, 5.0), ("b", 40, 1, 2.0)]));

    let joined = joined_again(&stack, &answer).await;
    assert_eq!(&joined[2..], &answer.columns()[2..]);

    let from = |minutes: i64| format_time(NOON - minutes * MINUTE);
    let mut part = command.clone();
    part["since"] = json!(from(30));
    part["until"] = json!(from(20));
    assert_eq!(told(&ask(&stack, json_command(part)).await), rows(&[("a", 30, 1, 1.0), ("b", 30, 1, 2.0)]));
    let mut exclusive = command.clone();
    exclusive["exclusive"] = json!(true);
    exclusive["until"] = json!(from(-30));
    exclusive["statuses"] = json!(true);
    let answer = ask(&stack, json_command(exclusive)).await;
    assert_eq!((answer.num_rows(), answer.num_columns()), (5, 6), "what leaves the hour too");
}

/// The columns of an export whose spine is an answer.
async fn joined_again(stack: &Stack, answer: &RecordBatch) -> Vec<ArrayRef> {
    let spine = answer.project(&[0, 1]).unwrap();
    let data = FlightDataEncoderBuilder::new()
        .with_schema(spine.schema())
        .with_flight_descriptor(Some(json_command(json!({"featureset": "UserFeatures"}))))
        .build(stream::iter([Ok(spine)]));
    let mut joined = FlightClient::new(stack.channel.clone()).do_exchange(data).await.unwrap();
    joined.next().await.unwrap().unwrap().columns().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_answered_the_same_each_time() {
    let stack = Stack::start().await;
    let put = |batch: RecordBatch| Rows::Arrow(vec![batch]);
    for batch in [orders_batch(0, 5_000, 40), orders_batch(5_000, 5_000, 40)] {
        stack.ingestor.ingest("Order", put(batch), &RowIds::default()).await.unwrap();
    }
    stack.apply();
    for command in [json!({"featureset": "UserFeatures", "statuses": true}), json!({"dataset": "Order"})] {
        let flight = info(&stack, json_command(command)).await.unwrap();
        let before = stack.runs.0.lock().len();
        let mut first = Vec::new();
        for ticket in tickets(&flight) {
            first.push(messages(&stack, ticket).await);
        }
        let runs = stack.runs.0.lock()[before..].to_vec();
        assert_eq!(
            runs.iter().map(|run| run.id.to_string()).collect::<Vec<_>>(),
            first.iter().map(|(_, run)| run.clone()).collect::<Vec<_>>()
        );
        assert!(runs.iter().map(|run| run.row_count).sum::<u64>() >= 10_000);
        stack.order(&[("u1", 0, 100.0), ("somebody", 0, 1.0)]).await;
        let mut more = definitions();
        more.featuresets.push(
            serde_json::from_value(json!({"name": "Other", "features": [{"name": "k", "type": "str"},
            {"name": "n", "type": "int", "ref": {"dataset": "UserStats", "field": "orders"}}]}))
            .unwrap(),
        );
        stack.commit("commit-2", &more);
        let again = tickets(&flight).into_iter().map(|ticket| messages(&stack, ticket));
        let again = futures::future::join_all(again).await;
        for ((first, run), (again, other)) in first.iter().zip(&again) {
            assert!(first == again, "byte for byte");
            assert_ne!(run, other);
        }
    }
}

#[tokio::test]
async fn a_command_has_several_forms() {
    let stack = Stack::start().await;
    stack.order(&[("a", 50, 1.0), ("b", 40, 2.0), ("a", 20, 4.0)]).await;
    let path = |name: &str| FlightDescriptor::new_path(vec![name.to_string()]);
    let changes = v1::ChangesCommand { featureset: "UserFeatures".into(), ..v1::ChangesCommand::default() };
    let dataset = v1::RowsCommand { dataset: "Order".into(), ..v1::RowsCommand::default() };
    let forms = [
        (json!({"featureset": "UserFeatures"}), any("ChangesCommand", &changes), path("UserFeatures"), 3),
        (json!({"dataset": "Order"}), any("RowsCommand", &dataset), path("Order"), 3),
    ];
    for (json, protobuf, path, count) in forms {
        let answer = ask(&stack, json_command(json)).await;
        assert_eq!(answer.num_rows(), count);
        assert_eq!(ask(&stack, FlightDescriptor::new_cmd(protobuf)).await, answer);
        assert_eq!(ask(&stack, path).await, answer);
    }
    let answer = ask(&stack, path("Order")).await;
    let columns: Vec<String> = answer.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(columns, ["user_id", "ts", "amount", "items"]);
}

#[tokio::test]
async fn what_is_wrong_with_a_command_or_a_ticket_is_said() {
    let stack = Stack::start().await;
    stack.order(&[("a", 5, 1.0)]).await;
    let commands = [
        (json!({"featureset": "UserFeature"}), Code::NotFound, "did you mean 'UserFeatures'?"),
        (json!({"featureset": "UserFeatures", "label": 1}), Code::InvalidArgument, "unknown field `label`"),
        (json!({"featureset": "UserFeatures", "since": "soon"}), Code::InvalidArgument, "soon"),
        (json!({"dataset": "UserStats"}), Code::InvalidArgument, "ask for the changes of a featureset"),
        (json!({"dataset": "Order", "features": []}), Code::InvalidArgument, "unknown field `features`"),
        (json!({"dataset": "Order", "pin": "x"}), Code::InvalidArgument, "not a pin"),
    ];
    for (command, code, says) in commands {
        let error = info(&stack, json_command(command)).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(says), "{error}");
    }
    let error = info(&stack, FlightDescriptor::new_path(vec!["Oder".into()])).await.unwrap_err();
    assert!(error.message().contains("unknown dataset or featureset 'Oder' (hint: did you mean 'Order'?)"), "{error}");

    let flight = info(&stack, json_command(json!({"dataset": "Order"}))).await.unwrap();
    let ticket = prost_types::Any::decode(tickets(&flight)[0].ticket.clone()).unwrap();
    let right = v1::RangeTicket::decode(ticket.value.as_slice()).unwrap();
    let Some(Command::Rows(rows)) = right.command.clone() else { panic!("{right:?}") };
    let with = |rows: v1::RowsCommand| v1::RangeTicket { command: Some(Command::Rows(rows)), ..right.clone() };
    let wrong = [
        (v1::RangeTicket { last_slice: 256, ..right.clone() }, Code::InvalidArgument, "there are 256 hash slices"),
        (v1::RangeTicket { first_slice: 16, ..right.clone() }, Code::InvalidArgument, "end before they begin"),
        (v1::RangeTicket { command: None, ..right.clone() }, Code::InvalidArgument, "it asks for nothing"),
        (with(v1::RowsCommand { pin: String::new(), ..rows.clone() }), Code::InvalidArgument, "the ticket has no pin"),
        (with(v1::RowsCommand { until: String::new(), ..rows.clone() }), Code::InvalidArgument, "up to when"),
        (with(v1::RowsCommand { known_at: "2024-01-15".into(), ..rows.clone() }), Code::InvalidArgument, "known_at"),
        (with(v1::RowsCommand { dataset: "UserStats".into(), ..rows.clone() }), Code::InvalidArgument, "aggregated"),
    ];
    for (ticket, code, says) in wrong {
        let error = get(&stack, Ticket::new(any("RangeTicket", &ticket))).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(says), "{error}");
    }
    let large = v1::RowsCommand { dataset: "x".repeat(65 << 10), ..rows };
    for (noise, says) in [(any("RangeTicket", &with(large)), "it is too long"), (b"noise".to_vec(), "not readable")] {
        let error = get(&stack, Ticket::new(noise)).await.unwrap_err();
        assert!(error.message().contains(says), "{error}");
    }
}
