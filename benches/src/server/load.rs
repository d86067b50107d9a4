//! Definitions and events into a server: commit, bulk ingest over Flight, and waiting until everything is in state.

use super::process::Server;
use crate::definitions::{self, DATASET};
use crate::failure::Outcome;
use crate::workload::Event;
use arrow_array::{Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_flight::FlightDescriptor;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures::channel::mpsc;
use futures::future::try_join;
use futures::{SinkExt as _, TryStreamExt as _};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use thyme_proto::v1;
use thyme_proto::v1::control_service_client::ControlServiceClient;

/// Rows of one Arrow batch of an upload.
const UPLOAD_ROWS: usize = 10_000;
/// Batches that wait to be sent: the rest is made when it is due.
const WAITING: usize = 4;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Commits the definitions and waits until they answer.
pub async fn commit(server: &Server, windows: &[&str]) -> Outcome<()> {
    let mut control = ControlServiceClient::new(server.control.clone());
    let definitions = definitions::json_of(windows, server.has_python).to_string();
    let request = v1::CommitRequest { definitions_json: definitions.into(), ..Default::default() };
    let committed = control.commit(request).await?.into_inner();
    let id = committed.commit.ok_or("no commit came back")?.id;
    loop {
        let answer = control.get_commit(v1::GetCommitRequest { id: id.clone() }).await?.into_inner();
        let commit = answer.commit.ok_or("no commit came back")?;
        match commit.state() {
            v1::CommitState::Active => return Ok(()),
            v1::CommitState::Building => tokio::time::sleep(LOOK_AGAIN).await,
            other => return Err(format!("the commit is {other:?}: {}", commit.error).into()),
        }
    }
}

/// Sends all events in one Flight `DoPut`, and waits until the last is in state.
pub async fn ingest(server: &Server, events: &[Event]) -> Outcome<()> {
    let command = json!({"dataset": DATASET, "call_id": uuid::Uuid::now_v7().to_string()}).to_string();
    let schema = event_schema();
    let (mut sender, receiver) = mpsc::channel(WAITING);
    let upload = FlightDataEncoderBuilder::new()
        .with_schema(schema.clone())
        .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command)))
        .build(receiver);
    let send = async move {
        for rows in events.chunks(UPLOAD_ROWS) {
            // Where nobody takes them any more the call has ended, and its result says why.
            if sender.send(Ok(event_batch(&schema, rows)?)).await.is_err() {
                break;
            }
        }
        Outcome::Ok(())
    };
    let mut flight = arrow_flight::FlightClient::new(server.query.clone());
    let put = async {
        let results: Vec<_> = flight.do_put(upload).await?.try_collect().await?;
        Outcome::Ok(results)
    };
    let ((), results) = try_join(send, put).await?;
    let last = results.last().ok_or("the ingest ended without a result")?;
    let told: serde_json::Value = serde_json::from_slice(&last.app_metadata)?;
    if told["accepted"] != json!(events.len()) {
        return Err(format!("not every event was accepted: {told}").into());
    }
    wait_until_applied(server, events.len() as u64).await
}

async fn wait_until_applied(server: &Server, events: u64) -> Outcome<()> {
    let mut control = ControlServiceClient::new(server.control.clone());
    loop {
        let status = control.get_status(v1::GetStatusRequest {}).await?.into_inner();
        if status.lag == 0 {
            let dataset = status.datasets.iter().find(|dataset| dataset.name == DATASET);
            let counts = dataset.and_then(|dataset| dataset.counts).unwrap_or_default();
            if counts.accepted != events {
                return Err(format!("{} events were sent, and this became of them: {counts:?}", events).into());
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

pub fn event_schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("ts", time, false),
        Field::new("amount", DataType::Float64, false),
    ]))
}

fn event_batch(schema: &SchemaRef, rows: &[Event]) -> Outcome<RecordBatch> {
    let keys: Int64Array = rows.iter().map(|event| event.key).collect::<Vec<_>>().into();
    let times: TimestampMicrosecondArray = rows.iter().map(|event| event.time).collect::<Vec<_>>().into();
    let amounts: Float64Array = rows.iter().map(Event::amount).collect::<Vec<_>>().into();
    let columns: Vec<arrow_array::ArrayRef> =
        vec![Arc::new(keys), Arc::new(times.with_timezone("UTC")), Arc::new(amounts)];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
