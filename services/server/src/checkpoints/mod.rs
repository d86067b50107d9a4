//! Checkpoints in the running server: taken while ticks go on ([`taker`]), and where a state comes from when there is none
//! ([`restore`]); followers compare theirs with them ([`compare`]). What they are is in `docs/decisions/0010-checkpoints.md`, how the server uses them in
//! `docs/decisions/0011-checkpoints-in-the-server.md`.

mod compare;
mod look;
pub mod restore;
pub mod taker;

use crate::config::CheckpointConfig;
use std::sync::Arc;
use thyme_checkpoint::{Checkpoints, S3Options, open_store};
use thyme_core::Result;
use thyme_core::slice::Slice;

/// The copy of the catalog in a checkpoint's directory.
const CATALOG: &str = "catalog.db";

/// The checkpoints of a slice, where the configuration says; nothing is asked of the store yet. Where there are several slices each has a
/// folder of its own.
pub fn open(config: &CheckpointConfig, slice: Slice) -> Result<Arc<Checkpoints>> {
    let s3 = S3Options { endpoint: config.s3_endpoint.clone(), region: None };
    let url = match slice.is_whole() {
        true => config.url.clone(),
        false => format!("{}/{}", config.url.trim_end_matches('/'), slice.name("slice")),
    };
    Ok(Arc::new(Checkpoints::new(open_store(&url, &s3)?)))
}
