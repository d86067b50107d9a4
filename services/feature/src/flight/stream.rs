//! The uploaded half of a Flight call: descriptor, schema, then record batches, merged as they arrive. A task of its own reads
//! ahead while a chunk is being worked on, so that the next one is as large as the client is fast.

use super::limits::sent;
use crate::task::AbortOnDrop;
use arrow_array::RecordBatch;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use futures::{StreamExt as _, TryStreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use thyme_core::{Error, Result};
use thyme_proto::status::from_status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::Streaming;

/// Merging stops at this many bytes.
const CHUNK_BYTES: usize = 32 << 20;
/// A batch that comes so soon after the one before goes into the same chunk: a key's events are read once per chunk.
const LINGER: Duration = Duration::from_millis(5);
/// Batches read ahead hold at most this many bytes.
const AHEAD_BYTES: usize = 32 << 20;

/// A batch read ahead, with its share of [`AHEAD_BYTES`].
type Arrived = Result<(RecordBatch, OwnedSemaphorePermit)>;

pub(crate) struct Upload {
    arrived: mpsc::UnboundedReceiver<Arrived>,
    schema: SchemaRef,
    /// A batch that did not fit into the chunk before.
    waiting: Option<RecordBatch>,
    /// How long a client may send nothing.
    idle: Duration,
    _reader: AbortOnDrop<()>,
}

/// The first message carries the descriptor. A client that sends nothing for so long ends the call, now and later.
pub(crate) async fn open(
    mut messages: Streaming<FlightData>,
    idle: Duration,
) -> Result<(FlightDescriptor, UploadStart)> {
    let first = sent(idle, messages.message()).await?.map_err(|status| from_status(&status))?;
    let first = first.ok_or_else(|| Error::invalid("the stream ended before its descriptor"))?;
    let descriptor = first
        .flight_descriptor
        .clone()
        .ok_or_else(|| Error::invalid("the first message has no flight descriptor").field("descriptor"))?;
    Ok((descriptor, UploadStart { first, messages, idle }))
}

pub(crate) struct UploadStart {
    first: FlightData,
    messages: Streaming<FlightData>,
    idle: Duration,
}

impl UploadStart {
    /// Reads on up to the schema.
    pub(crate) async fn schema(self) -> Result<Upload> {
        let messages = futures::stream::once(std::future::ready(Ok(self.first))).chain(self.messages);
        // A message without a header carries application metadata only.
        let with_data = messages.try_filter(|data| std::future::ready(!data.data_header.is_empty()));
        let mut decoder = FlightDataDecoder::new(with_data.map_err(|status| FlightError::Tonic(Box::new(status))));
        match sent(self.idle, decoder.next()).await? {
            Some(Ok(decoded)) => match decoded.payload {
                DecodedPayload::Schema(schema) => {
                    let (sender, arrived) = mpsc::unbounded_channel();
                    let reader = AbortOnDrop(tokio::spawn(read_ahead(decoder, sender)));
                    Ok(Upload { arrived, schema, waiting: None, idle: self.idle, _reader: reader })
                }
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

    /// The next rows, at most `most_rows`: what has arrived and keeps arriving; batches are merged up to that, and larger ones cut.
    /// A client may wait for the answer to each batch: it gets it after [`LINGER`].
    pub(crate) async fn next_chunk(&mut self, most_rows: usize) -> Result<Option<RecordBatch>> {
        let first = match self.waiting.take() {
            Some(batch) => Some(batch),
            None => taken(sent(self.idle, self.arrived.recv()).await?)?,
        };
        let Some(first) = first.map(|batch| self.cut(batch, most_rows)) else { return Ok(None) };
        let (mut rows, mut bytes) = (first.num_rows(), first.get_array_memory_size());
        let mut chunk = vec![first];
        while rows < most_rows && bytes < CHUNK_BYTES && self.waiting.is_none() {
            let Ok(arrived) = tokio::time::timeout(LINGER, self.arrived.recv()).await else { break };
            // An end is found again by the next call.
            let Some(next) = taken(arrived)? else { break };
            if rows + next.num_rows() > most_rows {
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

    /// The first `most_rows` of a batch; the rest waits.
    fn cut(&mut self, batch: RecordBatch, most_rows: usize) -> RecordBatch {
        if batch.num_rows() <= most_rows {
            return batch;
        }
        self.waiting = Some(batch.slice(most_rows, batch.num_rows() - most_rows));
        batch.slice(0, most_rows)
    }
}

fn taken(arrived: Option<Arrived>) -> Result<Option<RecordBatch>> {
    arrived.transpose().map(|arrived| arrived.map(|(batch, _share)| batch))
}

/// Decodes batches until the stream ends, fails or is dropped.
async fn read_ahead(mut decoder: FlightDataDecoder, sender: mpsc::UnboundedSender<Arrived>) {
    let room = Arc::new(Semaphore::new(AHEAD_BYTES));
    loop {
        let arrived = match next_batch(&mut decoder).await {
            Ok(None) => return,
            Ok(Some(batch)) => {
                let share = batch.get_array_memory_size().min(AHEAD_BYTES) as u32;
                let permit = room.clone().acquire_many_owned(share).await;
                permit.map(|permit| (batch, permit)).map_err(|_| Error::internal("the upload's queue is closed"))
            }
            Err(error) => Err(error),
        };
        let is_last = arrived.is_err();
        if sender.send(arrived).is_err() || is_last {
            return;
        }
    }
}

async fn next_batch(decoder: &mut FlightDataDecoder) -> Result<Option<RecordBatch>> {
    loop {
        match decoder.next().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(unreadable(error)),
            Some(Ok(decoded)) => match decoded.payload {
                DecodedPayload::RecordBatch(batch) => return Ok(Some(batch)),
                DecodedPayload::Schema(_) => return Err(Error::invalid("the stream has a second schema")),
                DecodedPayload::None => {}
            },
        }
    }
}

fn unreadable(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => from_status(&status),
        other => Error::invalid(format!("the Arrow stream is not readable: {other}")),
    }
}
