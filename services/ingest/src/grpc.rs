//! IngestService over gRPC.

use crate::ingestor::{EraseReceipt, GivenKey, IngestReceipt, Ingestor, RowIds, Rows, parse_call_id};
use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use futures::stream::{BoxStream, StreamExt as _};
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::{Error, ErrorKind, Result};
use thyme_proto::columns::column_from_wire;
use thyme_proto::convert::row_from_wire;
use thyme_proto::deadline::deadline;
use thyme_proto::status::to_status;
use thyme_proto::v1;
use thyme_proto::v1::ingest_request::Payload;
use thyme_proto::v1::ingest_service_server::{IngestService, IngestServiceServer};
use tonic::{Request, Response, Status, Streaming};

/// The largest message that is read.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

pub struct IngestGrpc {
    ingestor: Arc<Ingestor>,
}

/// The service, with its limits.
pub fn service(ingestor: Arc<Ingestor>) -> IngestServiceServer<IngestGrpc> {
    IngestServiceServer::new(IngestGrpc { ingestor })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

#[tonic::async_trait]
impl IngestService for IngestGrpc {
    async fn ingest(&self, request: Request<v1::IngestRequest>) -> Result<Response<v1::IngestResponse>, Status> {
        let limit = deadline(request.metadata());
        let work = ingest(&self.ingestor, request.into_inner());
        within(limit, work, rows_too_late).await.map(Response::new).map_err(|error| to_status(&error))
    }

    type IngestStreamStream = BoxStream<'static, Result<v1::IngestStreamResponse, Status>>;

    /// One request at a time, so that rows stand in the log in the order they were sent.
    async fn ingest_stream(
        &self,
        request: Request<Streaming<v1::IngestStreamRequest>>,
    ) -> Result<Response<Self::IngestStreamStream>, Status> {
        let ingestor = self.ingestor.clone();
        let limit = deadline(request.metadata());
        let answers = request.into_inner().then(move |message| {
            let ingestor = ingestor.clone();
            async move {
                let v1::IngestStreamRequest { sequence, request } = message?;
                let request = request.ok_or_else(|| {
                    to_status(&Error::invalid(format!("message {sequence} has no request")).field("request"))
                })?;
                let response = ingest(&ingestor, request).await.map_err(|error| to_status(&error))?;
                Ok(v1::IngestStreamResponse { sequence, response: Some(response) })
            }
        });
        let answers = until_first_error(answers).boxed();
        Ok(Response::new(match limit {
            Some(limit) => until_deadline(answers, limit),
            None => answers,
        }))
    }

    async fn erase(&self, request: Request<v1::EraseRequest>) -> Result<Response<v1::EraseResponse>, Status> {
        let limit = deadline(request.metadata());
        let request = request.into_inner();
        let keys: Result<Vec<GivenKey>> =
            request.keys.into_iter().map(|key| row_from_wire(key.fields).map(GivenKey::Named)).collect();
        let keys = keys.map_err(|error| to_status(&error))?;
        let work = self.ingestor.erase(&request.dataset, keys);
        let receipt = within(limit, work, erase_too_late).await.map_err(|error| to_status(&error))?;
        let EraseReceipt { erased, position, pending } = receipt;
        Ok(Response::new(v1::EraseResponse { erased, position: position.encode(), pending }))
    }
}

/// Ends a stream after its first error.
fn until_first_error<T>(
    stream: impl futures::Stream<Item = Result<T, Status>>,
) -> impl futures::Stream<Item = Result<T, Status>> {
    stream.scan(false, |failed, item| {
        let past_error = std::mem::replace(failed, item.is_err());
        futures::future::ready((!past_error).then_some(item))
    })
}

/// The stream; once `limit` has passed one last item that says so, and nothing that was under way goes on.
fn until_deadline<T: Send + 'static>(
    answers: BoxStream<'static, Result<T, Status>>,
    limit: Duration,
) -> BoxStream<'static, Result<T, Status>> {
    let passed = Box::pin(tokio::time::sleep(limit));
    futures::stream::unfold(Some((answers, passed)), |state| async move {
        let (mut answers, mut passed) = state?;
        tokio::select! {
            biased;
            answer = answers.next() => answer.map(|answer| (answer, Some((answers, passed)))),
            () = &mut passed => Some((Err(to_status(&rows_too_late())), None)),
        }
    })
    .boxed()
}

/// The work, or what `too_late` says if it takes longer than the caller waits.
async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T>>,
    too_late: fn() -> Error,
) -> Result<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(too_late())),
        None => work.await,
    }
}

fn erase_too_late() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "the deadline passed before the erase was durable")
        .hint("send it again; erasing twice changes nothing more")
}

fn rows_too_late() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "the deadline passed before the rows were durable")
        .hint("send them again with the same call_id or event_ids; none counts twice")
}

async fn ingest(ingestor: &Ingestor, request: v1::IngestRequest) -> Result<v1::IngestResponse> {
    let call = parse_call_id(&request.call_id)?.map(|call| (call, request.first_row));
    let ids = RowIds { call, event_ids: request.event_ids, event_id_column: None };
    let rows = match request.payload {
        None => return Err(Error::invalid("no rows").field("rows").hint("send rows, columns or arrow_ipc")),
        Some(Payload::Rows(list)) => Rows::Named(list.rows.into_iter().map(|row| row_from_wire(row.fields)).collect()),
        Some(Payload::Columns(list)) => {
            let mut columns = Vec::with_capacity(list.columns.len());
            for column in list.columns {
                columns.push((column.name.clone(), column_from_wire(column)?));
            }
            Rows::Columns(columns)
        }
        Some(Payload::ArrowIpc(bytes)) => Rows::Arrow(read_arrow(&bytes)?),
    };
    Ok(receipt_to_wire(ingestor.ingest(&request.dataset, rows, &ids).await?))
}

/// Reads an Arrow IPC stream.
pub fn read_arrow(bytes: &[u8]) -> Result<Vec<RecordBatch>> {
    let wrong = |error| Error::invalid(format!("not an Arrow IPC stream: {error}")).field("arrow_ipc");
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(wrong)?;
    reader.map(|batch| batch.map_err(wrong)).collect()
}

fn receipt_to_wire(receipt: IngestReceipt) -> v1::IngestResponse {
    let rejected = receipt.rejected.into_iter().map(|row| v1::RejectedRow {
        index: row.index,
        reason: row.reason,
        field: row.field.unwrap_or_default(),
    });
    v1::IngestResponse { accepted: receipt.accepted, rejected: rejected.collect(), position: receipt.position.encode() }
}
