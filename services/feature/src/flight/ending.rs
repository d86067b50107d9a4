//! The last message of an export: an empty batch whose metadata says what came of it. Some clients do not take a message without data.

use super::command::Form;
use crate::summary::{summary, summary_json};
use arrow_array::RecordBatch;
use arrow_flight::FlightData;
use arrow_ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use futures::stream::{Stream, StreamExt as _, iter, once};
use prost::Message as _;
use thyme_core::{Error, Result};
use thyme_proto::status::to_plain_status;
use thyme_query::ExportSummary;
use tokio::sync::oneshot;
use tonic::Status;

/// What is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told {
    All(Form),
    /// What was done for the reads is not the same each time.
    WithoutPlan(Form),
}

/// The messages of an export's rows, then its ending. One that fails has none.
pub(crate) fn with_ending(
    rows: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
    schema: SchemaRef,
    summary: oneshot::Receiver<ExportSummary>,
    told: Told,
) -> impl Stream<Item = Result<FlightData, Status>> + Send + 'static {
    let last = once(summary).flat_map(move |summary| {
        let messages = summary.map_or_else(|_| Ok(Vec::new()), |summary| ending(&schema, &summary, told));
        let messages = messages.map(|messages| messages.into_iter().map(Ok).collect());
        iter(messages.unwrap_or_else(|error| vec![Err(to_plain_status(&error))]))
    });
    rows.chain(last)
}

/// To be sent behind the rows of a stream of this schema.
fn ending(schema: &SchemaRef, came: &ExportSummary, told: Told) -> Result<Vec<FlightData>> {
    let mut message = summary(came);
    let form = match told {
        Told::All(form) => form,
        Told::WithoutPlan(form) => {
            message.plan = None;
            form
        }
    };
    let metadata = match form {
        Form::Json => Bytes::from(summary_json(&message).to_string()),
        Form::Protobuf => message.encode_to_vec().into(),
    };
    let (generator, options) = (IpcDataGenerator::default(), IpcWriteOptions::default());
    // The dictionaries get the numbers that the stream's schema has given them.
    let mut dictionaries = DictionaryTracker::new(false);
    generator.schema_to_bytes_with_dictionary_tracker(schema, &mut dictionaries, &options);
    let empty = RecordBatch::new_empty(schema.clone());
    let encoded = generator.encode(&empty, &mut dictionaries, &options, &mut CompressionContext::default());
    let (before, last) = encoded.map_err(|error| Error::internal(format!("writing a batch failed: {error}")))?;
    let mut messages: Vec<FlightData> = before.into_iter().map(FlightData::from).collect();
    messages.push(FlightData::from(last).with_app_metadata(metadata));
    Ok(messages)
}
