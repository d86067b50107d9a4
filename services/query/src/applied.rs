//! Waiting until the state has applied a position: read your writes.

use async_trait::async_trait;
use std::collections::BTreeSet;
use std::time::Duration;
use thyme_core::error::{Error, Result};
use thyme_core::position::PositionSet;

#[async_trait]
pub trait AppliedWatch: Send + Sync {
    /// Returns when every consumer of these log partitions in `slices`, which are here, has applied what lies below the offsets,
    /// through repartition logs too, and readers see it. `DeadlineExceeded` after `deadline`.
    async fn wait_applied(&self, position: &PositionSet, slices: &BTreeSet<u16>, deadline: Duration) -> Result<()>;

    /// For each partition of a dataset's own log the place after the newest erase that has been applied here.
    fn erased_below(&self, log: u32, partitions: u16) -> Vec<u64>;
}

/// For places where every append is applied before anybody asks (tests, MockContext).
pub struct AlwaysApplied;

#[async_trait]
impl AppliedWatch for AlwaysApplied {
    async fn wait_applied(&self, _: &PositionSet, _: &BTreeSet<u16>, _: Duration) -> Result<()> {
        Ok(())
    }

    fn erased_below(&self, _: u32, partitions: u16) -> Vec<u64> {
        vec![0; usize::from(partitions)]
    }
}

/// The error of a wait that ended without success.
pub fn not_applied(deadline: Duration) -> Error {
    Error::new(
        thyme_core::error::ErrorKind::DeadlineExceeded,
        format!("the position of at_least was not applied within {} ms", deadline.as_millis()),
    )
    .field("at_least")
    .hint("ask again; the engine is behind")
}
