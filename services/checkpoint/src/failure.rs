//! What an error of the object store means to the caller.

use object_store::Error as StoreError;
use std::path::Path;
use thyme_core::{Error, ErrorKind};

/// `doing` says what was tried, such as "reading manifests/1.json".
pub fn store_failed(doing: &str, error: StoreError) -> Error {
    let message = format!("{doing} in the checkpoint store failed: {error}");
    match error {
        StoreError::NotFound { .. } => Error::not_found(message),
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => Error::conflict(message),
        StoreError::PermissionDenied { .. } => Error::new(ErrorKind::PermissionDenied, message)
            .hint("the credentials need to read, list, write and delete under checkpoints.url"),
        StoreError::Unauthenticated { .. } => Error::new(ErrorKind::Unauthenticated, message)
            .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the machine"),
        other if is_full(&other) => Error::new(ErrorKind::ResourceExhausted, message)
            .hint("make room where checkpoints.url points; it is tried again by itself"),
        _ => Error::unavailable(message).hint("is checkpoints.url right, and can this machine reach it?"),
    }
}

/// Of a folder; what an S3 store says when it is full is its own matter.
fn is_full(error: &StoreError) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
}

/// An error of the local disk.
pub fn disk_failed(doing: &str, path: &Path, error: &std::io::Error) -> Error {
    let message = format!("{doing} {} failed: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Error::new(ErrorKind::ResourceExhausted, message).hint("free some disk space")
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            Error::precondition(message).hint("make the data directory writable for the user that runs thyme")
        }
        _ => Error::unavailable(message),
    }
}
