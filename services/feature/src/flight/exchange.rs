//! DoExchange: a spine up, the joined rows down, in step.
//!
//! A task reads, joins and hands on; at most [`WAITING_BYTES`] of joined rows wait for the client, then reading stops until it
//! takes some. So memory is bounded however large the spine, and a client that reads only after it has written everything gets
//! along with spines whose joined rows fit there.

use super::command::{export_command, form};
use super::ending::ending;
use super::stream::{Upload, open};
use crate::asking::asking;
use crate::task::AbortOnDrop;
use arrow_array::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use futures::stream::{BoxStream, Stream, StreamExt as _, once};
use std::sync::Arc;
use std::time::Duration;
use thyme_core::pin::Pin;
use thyme_core::{Error, ErrorKind, Result};
use thyme_proto::status::to_plain_status;
use thyme_query::{Export, ExportQuestion, ExportSummary, QueryEngine};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

/// Joined rows that may wait for the client.
const WAITING_BYTES: u32 = 64 << 20;
/// A message down carries about this much.
const MESSAGE_BYTES: usize = 2 << 20;

type Joined = Result<(RecordBatch, OwnedSemaphorePermit)>;

/// Checks the command and the spine's schema, then streams. Returns the run's id as well.
pub(crate) async fn exchange(
    engine: Arc<QueryEngine>,
    metadata: MetadataMap,
    messages: Streaming<FlightData>,
) -> Result<(BoxStream<'static, Result<FlightData, Status>>, Arc<str>)> {
    let (descriptor, start) = open(messages).await?;
    let (command, form) = (export_command(&descriptor)?, form(&descriptor)?);
    let asking = asking(&command.known_at, command.exclusive, &command.at_least, &metadata)?;
    let deadline = asking.deadline;
    let upload = start.schema().await?;
    let question = ExportQuestion {
        featureset: command.featureset,
        featuresets: command.featuresets,
        features: (!command.features.is_empty()).then_some(command.features),
        entity_columns: command.entity_columns,
        timestamp_column: command.timestamp_column,
        statuses: command.statuses,
        pin: (!command.pin.is_empty()).then(|| Pin::decode(&command.pin)).transpose()?,
        asking,
    };
    let export = engine.export(question, upload.schema()).await?;
    let (schema, run_id) = (export.schema(), export.query_run_id());
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(schema.clone())
        .with_dictionary_handling(DictionaryHandling::Resend)
        .with_max_flight_data_size(MESSAGE_BYTES);
    let (told, summary) = oneshot::channel();
    let joined = encoder.build(join(upload, export, deadline, told)).map(|data| data.map_err(to_status));
    let last = once(summary).flat_map(move |summary| {
        // An export that failed has none.
        let messages = summary.map_or_else(|_| Ok(Vec::new()), |summary| ending(&schema, &summary, form));
        let messages = messages.map(|messages| messages.into_iter().map(Ok).collect());
        futures::stream::iter(messages.unwrap_or_else(|error| vec![Err(to_plain_status(&error))]))
    });
    Ok((joined.chain(last).boxed(), run_id))
}

fn to_status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => to_plain_status(&Error::internal(format!("writing the Arrow stream failed: {other}"))),
    }
}

/// The joined batches; what came of them is told before they end. The work ends when the stream is dropped: the client has gone.
fn join(
    upload: Upload,
    export: Export,
    deadline: Option<Duration>,
    told: oneshot::Sender<ExportSummary>,
) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send {
    let (sender, receiver) = mpsc::unbounded_channel();
    let work = async move {
        let joining = join_all(upload, export, &sender, told);
        let done = match deadline {
            Some(deadline) => tokio::time::timeout(deadline, joining).await.unwrap_or_else(|_| Err(too_late(deadline))),
            None => joining.await,
        };
        if let Err(error) = done {
            let _gone = sender.send(Err(error));
        }
    };
    let task = AbortOnDrop(tokio::spawn(work));
    futures::stream::unfold((receiver, task), |(mut receiver, task): (mpsc::UnboundedReceiver<Joined>, _)| async move {
        let next = receiver.recv().await?;
        // The permit is dropped here: the batch is on its way.
        let batch = next.map(|(batch, _permit)| batch);
        Some((batch.map_err(|error| FlightError::Tonic(Box::new(to_plain_status(&error)))), (receiver, task)))
    })
}

async fn join_all(
    mut upload: Upload,
    mut export: Export,
    sender: &mpsc::UnboundedSender<Joined>,
    told: oneshot::Sender<ExportSummary>,
) -> Result<()> {
    let waiting = Arc::new(Semaphore::new(WAITING_BYTES as usize));
    let rows_at_once = export.rows_at_once();
    while let Some(chunk) = upload.next_chunk(rows_at_once).await? {
        let joined = export.join(chunk).await?;
        let bytes = u32::try_from(joined.get_array_memory_size()).unwrap_or(WAITING_BYTES).min(WAITING_BYTES);
        let permit = waiting.clone().acquire_many_owned(bytes).await;
        let permit = permit.map_err(|_| Error::internal("the export's queue is closed"))?;
        if sender.send(Ok((joined, permit))).is_err() {
            return Ok(());
        }
    }
    let summary = export.summary();
    export.finish();
    let _gone = told.send(summary);
    Ok(())
}

fn too_late(deadline: Duration) -> Error {
    Error::new(ErrorKind::DeadlineExceeded, format!("the export was not done within {} ms", deadline.as_millis()))
}
