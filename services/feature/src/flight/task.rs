//! Work that must not outlive the call it belongs to.

use tokio::task::JoinHandle;

pub(crate) struct AbortOnDrop(pub JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
