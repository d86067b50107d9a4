//! The embedded log: one journal of checksummed frames over rolling segments, group commit, an index in memory.
//!
//! - A frame is one atomic write: everything in it (records of several partitions, committed offsets) is there or not.
//! - One frame is written at a time and made durable before the next, so only the last frame of the last segment can be
//!   torn. That one is cut off at open; any other damage is an error (`DataLoss`).
//! - Nothing is visible before it is durable.

mod block;
mod disk;
mod identity;
mod index;
mod journal;
mod memory;
mod producer;
mod queue;
mod recover;
mod state;
mod store;
mod writer;

#[cfg(test)]
mod tests;

use crate::{Appended, Batch, EventLog, LogRecord, Producer};
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use thyme_core::{Error, ErrorKind, Result};
use tokio::sync::{oneshot, watch};
use writer::{Action, EncodedBatch, Failure, Request};

#[derive(Debug, Clone)]
pub struct Options {
    /// A segment that has reached this length is followed by another.
    pub segment_bytes: u64,
    /// How many bytes of the most recent records are kept in memory.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { segment_bytes: 256 << 20, cache_bytes: 64 << 20 }
    }
}

/// What the log, its producers and its writer thread share.
struct Shared {
    store: Box<dyn store::Store>,
    options: Options,
    state: RwLock<state::State>,
    queue: queue::Queue,
    /// The end of a journal that has no writer thread: callers write themselves, one at a time.
    end: Option<Mutex<writer::End>>,
    changes: watch::Sender<u64>,
    /// Set when nothing may be written any more.
    broken: Mutex<Option<Error>>,
}

pub struct EmbeddedLog {
    shared: Arc<Shared>,
    identity: String,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedLog {
    /// Opens the log in a directory, which is made if need be and held until the log is closed or dropped.
    pub fn open(directory: impl AsRef<Path>) -> Result<EmbeddedLog> {
        Self::open_with(directory, Options::default())
    }

    pub fn open_with(directory: impl AsRef<Path>, options: Options) -> Result<EmbeddedLog> {
        let store = disk::DiskStore::open(directory.as_ref())?;
        let identity = identity::of_directory(directory.as_ref())?;
        let mut log = Self::start(Box::new(store), options)?;
        log.identity = identity;
        Ok(log)
    }

    /// The same log over memory: gone when it is dropped. It has no thread: whoever appends writes.
    pub fn in_memory() -> Result<EmbeddedLog> {
        let store = Box::new(memory::MemoryStore::default());
        let (mut shared, end) = Shared::recovered(store, Options::default())?;
        shared.end = Some(Mutex::new(end));
        Ok(EmbeddedLog { shared: Arc::new(shared), identity: identity::KIND.to_string(), writer: Mutex::new(None) })
    }

    fn start(store: Box<dyn store::Store>, options: Options) -> Result<EmbeddedLog> {
        let (shared, end) = Shared::recovered(store, options)?;
        let shared = Arc::new(shared);
        let of_writer = shared.clone();
        let spawned =
            std::thread::Builder::new().name("log-writer".to_string()).spawn(move || writer::run(&of_writer, end));
        let writer = spawned.map_err(|error| io_error("cannot start the log's writer", &error))?;
        Ok(EmbeddedLog { shared, identity: identity::KIND.to_string(), writer: Mutex::new(Some(writer)) })
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn recovered(store: Box<dyn store::Store>, options: Options) -> Result<(Shared, writer::End)> {
        let (state, end) = recover::recover(store.as_ref())?;
        let (changes, queue) = (watch::Sender::new(state.version), queue::Queue::default());
        let (state, broken) = (RwLock::new(state), Mutex::new(None));
        Ok((Shared { store, options, state, queue, end: None, changes, broken }, end))
    }

    /// Has a request written: by the writer, or here and now where there is none. Its reply is called either way.
    fn submit(&self, request: Request) -> Result<(), Failure> {
        self.queue.put(request).map_err(|_| closed())?;
        if let Some(end) = &self.end {
            let mut end = end.lock();
            // Empty if the one before wrote this request with its own.
            writer::serve(self, &mut end, self.queue.take_waiting());
        }
        Ok(())
    }

    /// Hands an action to the writer and blocks until it is durable or failed.
    fn request(&self, action: Action) -> Result<Vec<u64>, Failure> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let reply = Box::new(move |outcome| {
            // The caller waits below; if it is gone, nobody wants to know.
            let _ = sender.send(outcome);
        });
        self.submit(Request { action, reply })?;
        receiver.recv().unwrap_or_else(|_| Err(writer_gone()))
    }
}

fn closed() -> Failure {
    Failure { error: Error::unavailable("the log is closed"), unknown: false }
}

fn writer_gone() -> Failure {
    Failure { error: Error::internal("the log's writer is gone"), unknown: true }
}

fn encode(batches: Vec<Batch>) -> Vec<EncodedBatch> {
    let encoded = batches.into_iter().map(|batch| EncodedBatch {
        chunks: block::encode(&batch.records),
        topic: batch.topic,
        partition: batch.partition,
    });
    encoded.collect()
}

#[async_trait]
impl EventLog for EmbeddedLog {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn create_topic(&self, topic: &str, partitions: u16) -> Result<()> {
        self.shared
            .request(Action::CreateTopic { name: topic.to_string(), partitions })
            .map_err(|failure| failure.error)?;
        Ok(())
    }

    fn delete_topic(&self, topic: &str) -> Result<()> {
        self.shared.request(Action::DeleteTopic { name: topic.to_string() }).map_err(|failure| failure.error)?;
        Ok(())
    }

    fn topics(&self) -> Result<Vec<(String, u16)>> {
        let state = self.shared.state.read();
        Ok(state.topics.iter().map(|(name, topic)| (name.to_string(), topic.partitions.len() as u16)).collect())
    }

    async fn append(&self, batches: Vec<Batch>) -> Result<Vec<Appended>> {
        let lengths: Vec<u64> = batches.iter().map(|batch| batch.records.len() as u64).collect();
        let action = Action::Write { batches: encode(batches), offsets: Vec::new(), producer: None };
        let (sender, receiver) = oneshot::channel();
        let reply = Box::new(move |outcome| {
            let _ = sender.send(outcome);
        });
        self.shared.submit(Request { action, reply }).map_err(|failure| failure.error)?;
        let outcome = receiver.await.unwrap_or_else(|_| Err(writer_gone()));
        let firsts = outcome.map_err(|failure| failure.error)?;
        Ok(firsts.into_iter().zip(lengths).map(|(first, length)| Appended { first, end: first + length }).collect())
    }

    fn read(
        &self,
        topic: &str,
        partition: u16,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>> {
        let budget = block::Budget { records: max_records.max(1), bytes: max_bytes.max(1) };
        let state = self.shared.state.read();
        let (_, found) = state.partition(topic, partition)?;
        if from > found.next_offset {
            return Err(index::past_end(topic, partition, from, found.next_offset));
        }
        let plan = found.plan(from, &budget);
        drop(state);
        plan.read(self.shared.store.as_ref(), from, budget)
    }

    fn end_offset(&self, topic: &str, partition: u16) -> Result<u64> {
        Ok(self.shared.state.read().partition(topic, partition)?.1.next_offset)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        let made = self.shared.request(Action::NewProducer { id: transactional_id.to_string() });
        let epoch = made.map_err(|failure| failure.error)?.first().copied().unwrap_or_default();
        Ok(Box::new(producer::EmbeddedProducer::new(self.shared.clone(), transactional_id.to_string(), epoch)))
    }

    /// Producers need not be dropped first.
    fn close(&self) {
        self.shared.queue.close();
        if let Some(writer) = self.writer.lock().take() {
            if writer.join().is_err() {
                tracing::error!("the log's writer panicked");
            }
            self.shared.store.unlock();
        }
    }
}

/// An I/O error as one of ours: what to do decides the kind.
fn io_error(what: &str, error: &io::Error) -> Error {
    let message = format!("{what}: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::new(ErrorKind::ResourceExhausted, message)
                .hint("free space on the disk; the log goes on by itself then")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::precondition(message).hint("the data directory must be writable by this user")
        }
        io::ErrorKind::UnexpectedEof => Error::data_loss(message),
        _ => Error::unavailable(message),
    }
}

/// Stored bytes are not what was written.
fn damaged(file: &str, position: u64, what: &str) -> Error {
    Error::data_loss(format!("the log is damaged: {what} file={file} offset={position}"))
        .hint("restore the data directory from a copy, or delete it to start empty")
}
