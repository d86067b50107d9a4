//! Work that must not outlive the call it belongs to, and work that must not hold up others.

use thyme_core::{Error, Result};
use tokio::task::JoinHandle;

pub(crate) struct AbortOnDrop<T>(pub JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Work that waits for a disk, off the threads that serve requests. It is done to its end, also where nobody waits for it any more.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error.to_string()))?
}
