//! Calls that block, with a deadline that holds: librdkafka may exceed its own.

use std::sync::mpsc;
use std::time::Duration;
use thyme_core::{Error, Result};

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs one call after the other. Dropped, it ends by itself after the call under way.
pub struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    pub fn start(name: &str) -> Result<Worker> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name(name.to_string())
            .spawn(move || waiting.into_iter().for_each(|job| job()))
            .map_err(|error| Error::internal(format!("starting a thread: {error}")))?;
        Ok(Worker { jobs })
    }

    /// What the call returned; `None` if it was still under way at the deadline, and then the worker must not be used again.
    pub fn run<T: Send + 'static>(&self, deadline: Duration, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, answer) = mpsc::sync_channel(1);
        let job = Box::new(move || {
            // Whoever asked may have given up.
            let _ = sender.send(call());
        });
        self.jobs.send(job).ok()?;
        answer.recv_timeout(deadline).ok()
    }

    /// Runs it some time; nobody waits.
    pub fn leave(&self, call: impl FnOnce() + Send + 'static) {
        let _ = self.jobs.send(Box::new(call));
    }
}
