//! DoPut of a spine: kept on disk, and told under which id when it is whole.

use super::command::Form;
use super::spines::{PART_ROWS, Spine, Spines};
use super::stream::{Upload, UploadStart};
use crate::task::blocking;
use arrow_flight::PutResult;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use prost::Message as _;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::time::format_time;
use thyme_core::{Error, ErrorKind, Result};
use thyme_proto::convert::time_to_wire;
use thyme_proto::status::to_plain_status;
use thyme_proto::v1;
use tonic::Status;

/// Writes batches as they arrive. Nothing is left of an upload that breaks, or whose client goes.
pub(crate) async fn put_spine(
    spines: Arc<Spines>,
    form: Form,
    start: UploadStart,
    limit: Option<Duration>,
) -> Result<BoxStream<'static, Result<PutResult, Status>>> {
    let upload = start.schema().await?;
    let kept = async move {
        let kept = match limit {
            Some(limit) => tokio::time::timeout(limit, keep(spines, upload)).await.unwrap_or_else(|_| Err(too_late())),
            None => keep(spines, upload).await,
        };
        kept.map(|spine| result(&spine, form)).map_err(|error| to_plain_status(&error))
    };
    Ok(futures::stream::once(kept).boxed())
}

fn too_late() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "the deadline passed before the whole spine was there")
        .hint("send it again with more time")
}

async fn keep(spines: Arc<Spines>, mut upload: Upload) -> Result<Arc<Spine>> {
    let schema = upload.schema();
    let mut incoming = blocking(move || spines.begin(schema)).await?;
    while let Some(rows) = upload.next_chunk(PART_ROWS).await? {
        let written = blocking(move || incoming.write(&rows).map(|()| incoming));
        incoming = written.await?;
    }
    blocking(move || incoming.finish()).await
}

fn result(spine: &Spine, form: Form) -> PutResult {
    let (id, expires) = (spine.id.to_string(), spine.expires());
    let metadata = match form {
        Form::Json => {
            let told = json!({"spine": id, "rows": spine.rows, "expires": format_time(expires)});
            Bytes::from(told.to_string())
        }
        Form::Protobuf => {
            let told = v1::SpineResult { spine: id, rows: spine.rows, expires: Some(time_to_wire(expires)) };
            told.encode_to_vec().into()
        }
    };
    PutResult { app_metadata: metadata }
}
