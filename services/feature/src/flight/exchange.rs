//! DoExchange: a spine up, the joined rows down, in step.
//!
//! A task reads, joins and hands on; at most [`WAITING_BYTES`] of joined rows wait for the client, then reading stops until it
//! takes some. So memory is bounded however large the spine, and a client that reads only after it has written everything gets
//! along with spines whose joined rows fit there.

use super::command::{export_command, form};
use super::encoding::encoded;
use super::ending::{Told, with_ending};
use super::limits::{Limits, until_idle};
use super::stream::{Upload, open};
use super::work::{Sender, Work};
use crate::asking::asking;
use arrow_array::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::error::FlightError;
use futures::stream::{BoxStream, Stream};
use std::sync::Arc;
use std::time::Duration;
use thyme_core::pin::Pin;
use thyme_core::{Error, Result};
use thyme_proto::v1;
use thyme_query::{Export, ExportQuestion, ExportSummary, QueryEngine};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

/// Joined rows that may wait for the client.
const WAITING_BYTES: u32 = 64 << 20;

/// A batch with its share of [`WAITING_BYTES`].
type Joined = (RecordBatch, OwnedSemaphorePermit);

/// Checks the command and the spine's schema, then streams. Returns the run's id as well.
pub(crate) async fn exchange(
    engine: Arc<QueryEngine>,
    metadata: MetadataMap,
    messages: Streaming<FlightData>,
    limits: Limits,
) -> Result<(BoxStream<'static, Result<FlightData, Status>>, Arc<str>)> {
    let (descriptor, start) = open(messages, limits.idle).await?;
    let (command, form) = (export_command(&descriptor)?, form(&descriptor)?);
    if !command.spine.is_empty() {
        let error = Error::invalid("a spine is named, and DoExchange brings its own").field("spine");
        return Err(
            error.hint("leave 'spine' out, or ask GetFlightInfo, which tells where the one that was put is joined")
        );
    }
    let question = export_question(command, &metadata)?;
    let deadline = question.asking.deadline;
    let upload = start.schema().await?;
    let export = engine.export(question, upload.schema()).await?;
    let (schema, run_id) = (export.schema(), export.query_run_id());
    let idle = limits.idle;
    let (told, summary) = oneshot::channel();
    let joined = encoded(schema.clone(), join(upload, export, deadline, limits, told));
    Ok((until_idle(with_ending(joined, schema, summary, Told::All(form)), idle), run_id))
}

/// What a command asks.
pub(super) fn export_question(command: v1::ExportCommand, metadata: &MetadataMap) -> Result<ExportQuestion> {
    Ok(ExportQuestion {
        asking: asking(&command.known_at, command.exclusive, &command.at_least, metadata)?,
        featureset: command.featureset,
        featuresets: command.featuresets,
        features: (!command.features.is_empty()).then_some(command.features),
        entity_columns: command.entity_columns,
        timestamp_column: command.timestamp_column,
        statuses: command.statuses,
        pin: (!command.pin.is_empty()).then(|| Pin::decode(&command.pin)).transpose()?,
    })
}

/// The joined batches.
fn join(
    upload: Upload,
    export: Export,
    deadline: Option<Duration>,
    limits: Limits,
    told: oneshot::Sender<ExportSummary>,
) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send {
    let work = Work::begin(deadline, told, |sender| join_all(upload, export, limits, sender));
    futures::stream::try_unfold(work, |mut work| async move {
        let joined = work.next().await;
        // The permit is dropped here: the batch is on its way.
        joined.map(|joined| joined.map(|(batch, _permit)| (batch, work)))
    })
}

async fn join_all(
    mut upload: Upload,
    mut export: Export,
    limits: Limits,
    sender: Sender<Joined>,
) -> Result<Option<ExportSummary>> {
    let waiting = Arc::new(Semaphore::new(WAITING_BYTES as usize));
    let rows_at_once = export.rows_at_once();
    let mut has_begun = false;
    while let Some(chunk) = upload.next_chunk(rows_at_once).await? {
        let place = limits.place(has_begun).await?;
        let joined = export.join(chunk).await?;
        drop(place);
        has_begun = true;
        let bytes = u32::try_from(joined.get_array_memory_size()).unwrap_or(WAITING_BYTES).min(WAITING_BYTES);
        let permit = waiting.clone().acquire_many_owned(bytes).await;
        let permit = permit.map_err(|_| Error::internal("the export's queue is closed"))?;
        if sender.send(Ok(Some((joined, permit)))).is_err() {
            return Ok(None);
        }
    }
    let summary = export.summary();
    export.finish();
    Ok(Some(summary))
}
