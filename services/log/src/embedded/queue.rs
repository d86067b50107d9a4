//! What waits for the writer.

use super::writer::Request;
use parking_lot::{Condvar, Mutex};

#[derive(Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
}

#[derive(Default)]
struct Inner {
    requests: Vec<Request>,
    closed: bool,
}

impl Queue {
    /// Gives the request back if the log is closed.
    pub fn put(&self, request: Request) -> Result<(), Request> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(request);
        }
        inner.requests.push(request);
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Everything that waits; waits itself while there is nothing. `None` once the queue is closed and empty.
    pub fn take(&self) -> Option<Vec<Request>> {
        let mut inner = self.inner.lock();
        while inner.requests.is_empty() {
            if inner.closed {
                return None;
            }
            self.filled.wait(&mut inner);
        }
        Some(std::mem::take(&mut inner.requests))
    }

    /// Everything that waits, which may be nothing.
    pub fn take_waiting(&self) -> Vec<Request> {
        std::mem::take(&mut self.inner.lock().requests)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.inner.lock().requests.len()
    }

    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.filled.notify_all();
    }
}
