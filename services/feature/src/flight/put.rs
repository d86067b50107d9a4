//! DoPut: bulk ingest. Results are cumulative: a client that does not read them loses nothing, and the last one says it all.

use super::command::Form;
use super::stream::{Upload, UploadStart};
use crate::task::AbortOnDrop;
use arrow_flight::PutResult;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use prost::Message as _;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::position::PositionSet;
use thyme_core::{Error, ErrorKind, Result};
use thyme_ingest::rows::{Ids, RejectedRow};
use thyme_ingest::{Ingestor, Target, parse_call_id};
use thyme_proto::status::to_plain_status;
use thyme_proto::v1;
use tokio::sync::watch;
use tonic::Status;

/// Rejections that are told with their reasons; the others are counted.
const MAX_REASONS: usize = 1000;

/// Rows that are appended at once.
const CHUNK_ROWS: usize = 65_536;

/// How the call stands.
#[derive(Debug, Clone, Default)]
struct Progress {
    accepted: u64,
    rejected: u64,
    reasons: Arc<Vec<RejectedRow>>,
    position: PositionSet,
    /// Set at the end.
    ended: Option<Result<()>>,
}

/// Checks the command, then appends as batches arrive.
pub(crate) async fn put(
    ingestor: Arc<Ingestor>,
    command: v1::IngestCommand,
    form: Form,
    start: UploadStart,
    limit: Option<Duration>,
) -> Result<BoxStream<'static, Result<PutResult, Status>>> {
    let target = ingestor.target(&command.dataset)?;
    let mut ids = Ids::None;
    if let Some(call) = parse_call_id(&command.call_id)? {
        ids = Ids::Call { call, first_row: 0 };
    }
    let event_id_column = (!command.event_id_column.is_empty()).then_some(command.event_id_column);
    let upload = start.schema().await?;
    let call = Call { ingestor, target, ids, event_id_column };
    let (sender, receiver) = watch::channel(Progress::default());
    let task = AbortOnDrop(tokio::spawn(async move {
        let appending = call.append_all(upload, &sender);
        let ended = match limit {
            Some(limit) => tokio::time::timeout(limit, appending).await.unwrap_or_else(|_| Err(too_late())),
            None => appending.await,
        };
        sender.send_modify(|progress| progress.ended = Some(ended));
    }));
    Ok(futures::stream::unfold(Some((receiver, task)), move |state| next_result(state, form)).boxed())
}

fn too_late() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "the deadline passed before all rows were durable")
        .hint("send them again with the same call_id or event ids; none counts twice")
}

/// Waits for news and tells them; after the end there is nothing more.
async fn next_result(
    state: Option<(watch::Receiver<Progress>, AbortOnDrop<()>)>,
    form: Form,
) -> Option<(Result<PutResult, Status>, Option<(watch::Receiver<Progress>, AbortOnDrop<()>)>)> {
    let (mut receiver, task) = state?;
    if receiver.changed().await.is_err() {
        let error = Error::internal("the ingest ended without a result");
        return Some((Err(to_plain_status(&error)), None));
    }
    let progress = receiver.borrow_and_update().clone();
    match &progress.ended {
        Some(Err(error)) => {
            let told = format!("after {} accepted and {} rejected rows", progress.accepted, progress.rejected);
            Some((Err(to_plain_status(&error.clone().context(told))), None))
        }
        Some(Ok(())) => Some((Ok(result(&progress, form)), None)),
        None => Some((Ok(result(&progress, form)), Some((receiver, task)))),
    }
}

struct Call {
    ingestor: Arc<Ingestor>,
    target: Arc<Target>,
    ids: Ids,
    event_id_column: Option<String>,
}

impl Call {
    async fn append_all(self, mut upload: Upload, progress: &watch::Sender<Progress>) -> Result<()> {
        let mut rows: u64 = 0;
        while let Some(chunk) = upload.next_chunk(CHUNK_ROWS).await? {
            let mut encoder = self.ingestor.encoder(&self.target, self.ids);
            encoder.skip(rows);
            encoder.arrow(&chunk, self.event_id_column.as_deref(), &[])?;
            rows = encoder.rows();
            let receipt = self.ingestor.append(&self.target, encoder.finish()).await?;
            progress.send_modify(|progress| {
                progress.accepted += receipt.accepted;
                progress.rejected += receipt.rejected.len() as u64;
                let room = MAX_REASONS.saturating_sub(progress.reasons.len());
                if room > 0 && !receipt.rejected.is_empty() {
                    Arc::make_mut(&mut progress.reasons).extend(receipt.rejected.into_iter().take(room));
                }
                for ((log, partition), next) in receipt.position.0 {
                    progress.position.set(log, partition, next);
                }
            });
        }
        Ok(())
    }
}

/// Reasons travel with the last result.
fn result(progress: &Progress, form: Form) -> PutResult {
    let is_last = progress.ended.is_some();
    let reasons = progress.reasons.iter().filter(|_| is_last);
    let position = progress.position.encode();
    let metadata = match form {
        Form::Json => {
            let reasons = reasons.map(|row| json!({"index": row.index, "reason": row.reason, "field": row.field}));
            let told = json!({
                "accepted": progress.accepted,
                "rejected": progress.rejected,
                "reasons": reasons.collect::<Vec<_>>(),
                "position": position,
            });
            Bytes::from(told.to_string())
        }
        Form::Protobuf => {
            let reasons = reasons.map(|row| v1::RejectedStreamRow {
                index: row.index,
                reason: row.reason.clone(),
                field: row.field.clone().unwrap_or_default(),
            });
            let told = v1::IngestResult {
                accepted: progress.accepted,
                rejected: progress.rejected,
                reasons: reasons.collect(),
                position,
            };
            told.encode_to_vec().into()
        }
    };
    PutResult { app_metadata: metadata }
}
