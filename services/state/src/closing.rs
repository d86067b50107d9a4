//! When a database is closed, which is when the last of those who hold it lets go: before that nobody can open its directory again.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

#[derive(Default)]
struct Shared {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

/// Held beside the database, and dropped after it.
#[derive(Default)]
pub struct Open(Arc<Shared>);

impl Open {
    pub fn closing(&self) -> Closing {
        Closing(self.0.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        *self.0.is_closed.lock() = true;
        self.0.changed.notify_all();
    }
}

/// Holds nothing open itself.
pub struct Closing(Arc<Shared>);

impl Closing {
    /// Waits until the directory is free; false if it is not by then. Blocks.
    pub fn wait(&self, at_most: Duration) -> bool {
        let mut is_closed = self.0.is_closed.lock();
        self.0.changed.wait_while_for(&mut is_closed, |is_closed| !*is_closed, at_most);
        *is_closed
    }
}
