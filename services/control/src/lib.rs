//! Definitions in, their state out: commits and their takeover, catalog listings, status.
//!
//! [`Controller`] is the one place where versions change. A commit is merged, compiled, planned and its modules loaded before
//! anything is written; then its new state is built beside the old; and when that has caught up, one catalog write makes it live.

mod checkpoints;
mod commit;
mod controller;
mod erases;
pub mod grpc;
mod leftovers;
mod listing;
mod model;
mod nodes;
mod rebuild;
mod rejected;
mod slices;
mod sources;
mod start;
#[cfg(test)]
mod tests;
mod version;

pub use checkpoints::{CheckpointBoard, CheckpointStatus};
pub use commit::{CommitRequest, CommitResult};
pub use controller::{ControlParts, Controller, IngestDataset, IngestTarget};
pub use model::*;
pub use rebuild::{RebuildOutcome, TableDigests};
pub use slices::SliceGoal;
pub use sources::{SourceBoard, SourceGate};
pub use version::{Version, identities, job_spec};
