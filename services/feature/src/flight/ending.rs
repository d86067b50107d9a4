//! The last message of an export: an empty batch whose metadata says what came of it. Some clients do not take a message without data.

use super::command::Form;
use crate::summary::{summary, summary_json};
use arrow_array::RecordBatch;
use arrow_flight::FlightData;
use arrow_ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use prost::Message as _;
use thyme_core::{Error, Result};
use thyme_query::ExportSummary;

/// To be sent behind the rows of a stream of this schema.
pub(crate) fn ending(schema: &SchemaRef, told: &ExportSummary, form: Form) -> Result<Vec<FlightData>> {
    let message = summary(told);
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
