//! Record batches as Flight messages: the schema first, then dictionaries and batches.

use arrow_array::RecordBatch;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, SchemaAsIpc};
use arrow_ipc::writer::IpcWriteOptions;
use arrow_schema::SchemaRef;
use futures::stream::{Stream, StreamExt as _};
use thyme_core::Error;
use thyme_proto::status::to_plain_status;
use tonic::Status;

/// A message carries about this much.
const MESSAGE_BYTES: usize = 2 << 20;

/// The batches must be of the schema.
pub(super) fn encoded(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
) -> impl Stream<Item = Result<FlightData, Status>> + Send + 'static {
    // arrow-flight's own message says List where the schema has a LargeList, and forgets the metadata of unions, in this version
    // (arrow-rs issue 10291): a reader then takes the values for others. The ids of dictionaries follow from the schema alone.
    let first = FlightData::from(SchemaAsIpc::new(&schema, &IpcWriteOptions::default()));
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_dictionary_handling(DictionaryHandling::Resend)
        .with_max_flight_data_size(MESSAGE_BYTES);
    let rest = encoder.build(batches).skip(1).map(|data| data.map_err(to_status));
    futures::stream::once(std::future::ready(Ok(first))).chain(rest)
}

pub(super) fn to_flight(error: Error) -> FlightError {
    FlightError::Tonic(Box::new(to_plain_status(&error)))
}

fn to_status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => to_plain_status(&Error::internal(format!("writing the Arrow stream failed: {other}"))),
    }
}
