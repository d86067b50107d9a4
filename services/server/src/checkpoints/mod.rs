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

/// The copy of the catalog in a checkpoint's directory.
const CATALOG: &str = "catalog.db";

/// The checkpoints that the configuration names; nothing is asked of the store yet.
pub fn open(config: &CheckpointConfig) -> Result<Arc<Checkpoints>> {
    let s3 = S3Options { endpoint: config.s3_endpoint.clone(), region: None };
    Ok(Arc::new(Checkpoints::new(open_store(&config.url, &s3)?)))
}
