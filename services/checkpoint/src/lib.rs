//! Checkpoints of the state in an object store: a local folder or an S3-compatible service.

mod store;

pub use store::{S3Options, open_store};
