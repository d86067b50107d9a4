//! The uploaded half of a Flight call: descriptor, schema, then record batches, merged as they arrive.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use thyme_core::{Error, Result};
use thyme_proto::status::from_status;
use tonic::Streaming;

/// Batches are merged up to this many rows, and larger ones are cut.
pub(crate) const CHUNK_ROWS: usize = 65_536;
/// Merging stops at this many bytes.
const CHUNK_BYTES: usize = 32 << 20;

pub(crate) struct Upload {
    decoder: FlightDataDecoder,
    schema: SchemaRef,
    /// A batch that did not fit into the chunk before.
    waiting: Option<RecordBatch>,
    ended: bool,
}

/// The first message carries the descriptor.
pub(crate) async fn open(mut messages: Streaming<FlightData>) -> Result<(FlightDescriptor, UploadStart)> {
    let first = messages.message().await.map_err(|status| from_status(&status))?;
    let first = first.ok_or_else(|| Error::invalid("the stream ended before its descriptor"))?;
    let descriptor = first
        .flight_descriptor
        .clone()
        .ok_or_else(|| Error::invalid("the first message has no flight descriptor").field("descriptor"))?;
    Ok((descriptor, UploadStart { first, messages }))
}

pub(crate) struct UploadStart {
    first: FlightData,
    messages: Streaming<FlightData>,
}

impl UploadStart {
    /// Reads on up to the schema.
    pub(crate) async fn schema(self) -> Result<Upload> {
        let messages = futures::stream::once(std::future::ready(Ok(self.first))).chain(self.messages);
        // A message without a header carries application metadata only.
        let with_data = messages.try_filter(|data| std::future::ready(!data.data_header.is_empty()));
        let mut decoder = FlightDataDecoder::new(with_data.map_err(|status| FlightError::Tonic(Box::new(status))));
        match decoder.next().await {
            Some(Ok(decoded)) => match decoded.payload {
                DecodedPayload::Schema(schema) => Ok(Upload { decoder, schema, waiting: None, ended: false }),
                DecodedPayload::None | DecodedPayload::RecordBatch(_) => {
                    Err(Error::invalid("the stream does not begin with a schema"))
                }
            },
            Some(Err(error)) => Err(unreadable(error)),
            None => Err(Error::invalid("the stream ended before its schema")),
        }
    }
}

impl Upload {
    pub(crate) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The next rows: what has arrived, at most [`CHUNK_ROWS`]. Waits for the first batch only, so that a client which waits for
    /// the answer to each batch gets it.
    pub(crate) async fn next_chunk(&mut self) -> Result<Option<RecordBatch>> {
        let Some(first) = self.next_batch().await? else { return Ok(None) };
        let (mut rows, mut bytes) = (first.num_rows(), first.get_array_memory_size());
        let mut chunk = vec![first];
        while rows < CHUNK_ROWS && bytes < CHUNK_BYTES {
            let Some(next) = self.next_batch().now_or_never() else { break };
            let Some(next) = next? else { break };
            if rows + next.num_rows() > CHUNK_ROWS {
                self.waiting = Some(next);
                break;
            }
            rows += next.num_rows();
            bytes += next.get_array_memory_size();
            chunk.push(next);
        }
        if let [only] = chunk.as_slice() {
            return Ok(Some(only.clone()));
        }
        let merged = concat_batches(&self.schema, &chunk);
        merged.map(Some).map_err(|error| Error::invalid(format!("batches do not fit together: {error}")))
    }

    async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let batch = match self.waiting.take() {
            Some(batch) => batch,
            None => match self.decode().await? {
                Some(batch) => batch,
                None => return Ok(None),
            },
        };
        if batch.num_rows() <= CHUNK_ROWS {
            return Ok(Some(batch));
        }
        self.waiting = Some(batch.slice(CHUNK_ROWS, batch.num_rows() - CHUNK_ROWS));
        Ok(Some(batch.slice(0, CHUNK_ROWS)))
    }

    async fn decode(&mut self) -> Result<Option<RecordBatch>> {
        while !self.ended {
            match self.decoder.next().await {
                None => self.ended = true,
                Some(Err(error)) => return Err(unreadable(error)),
                Some(Ok(decoded)) => match decoded.payload {
                    DecodedPayload::RecordBatch(batch) => return Ok(Some(batch)),
                    DecodedPayload::Schema(_) => return Err(Error::invalid("the stream has a second schema")),
                    DecodedPayload::None => {}
                },
            }
        }
        Ok(None)
    }
}

fn unreadable(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => from_status(&status),
        other => Error::invalid(format!("the Arrow stream is not readable: {other}")),
    }
}
