//! Checkpoints of the state in an object store: a local folder or an S3-compatible service.
//!
//! ```text
//! files/SHA256-SIZE                 a file of the state, named by what is in it: written once, shared by checkpoints
//! manifests/00000000000000000042.json   a checkpoint: its files and what is to be known of it; never changed
//! ```
//!
//! The newest checkpoint is the manifest with the greatest number. It is written last, under the number after the newest, and
//! only if there is none of that number: so of two writers one wins, the other is told, and nobody ever goes back. (A local folder
//! knows no other conditional write, and one object less can be out of step.) A crash anywhere before it leaves files that no
//! manifest names; [`Checkpoints::prune`] takes them away after a grace.
//!
//! See `docs/decisions/0010-checkpoints.md`. This crate knows no state and no log: a directory and what is to be said of it come in.

mod checkpoints;
mod failure;
mod fetch;
mod files;
mod manifest;
mod prune;
mod store;

pub use checkpoints::{Checkpoints, Saved, Upload};
pub use fetch::{Check, Restored, Unusable};
pub use manifest::{Facts, FileEntry, Manifest, Place};
pub use prune::Pruned;
pub use store::{S3Options, open_store};
