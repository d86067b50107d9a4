//! The writer: one thread owns the end of the journal. Requests that wait while a frame is being made durable share the next
//! one: one write, one sync, however many callers (group commit). In memory, where there is no sync to wait for, each caller
//! is the writer in its turn.

use super::block::{Chunk, TARGET_BYTES};
use super::journal::{self, Entry, SEGMENT_HEADER};
use super::state::{FramePlace, State};
use super::{Shared, io_error};
use bytes::Bytes;
use std::collections::BTreeMap;
use thyme_core::failpoint::{Point, reach};
use thyme_core::{Error, ErrorKind, Result};

/// About how much one frame takes together.
const GROUP_BYTES: usize = 16 << 20;
/// The most that one append or transaction may hold.
const MAX_REQUEST_BYTES: usize = 1 << 30;

/// Told once the request is durable, or refused, or failed.
pub type Reply = Box<dyn FnOnce(Result<Vec<u64>, Failure>) + Send>;

#[derive(Debug, Clone)]
pub struct Failure {
    pub error: Error,
    /// Whether the request may nevertheless be found durable at the next open.
    pub unknown: bool,
}

impl Failure {
    fn refused(error: Error) -> Failure {
        Failure { error, unknown: false }
    }
}

pub struct EncodedBatch {
    pub topic: String,
    pub partition: u16,
    pub chunks: Vec<Chunk>,
}

pub struct OffsetCommit {
    pub group: String,
    pub topic: String,
    pub partition: u16,
    pub next: u64,
}

pub enum Action {
    CreateTopic {
        name: String,
        partitions: u16,
    },
    DeleteTopic {
        name: String,
    },
    /// Replies with the new epoch.
    NewProducer {
        id: String,
    },
    /// Replies with the first offset of each batch. `producer`: id and epoch of the transaction's producer.
    Write {
        batches: Vec<EncodedBatch>,
        offsets: Vec<OffsetCommit>,
        producer: Option<(String, u64)>,
    },
}

impl Action {
    fn bytes(&self) -> usize {
        match self {
            Action::Write { batches, .. } => {
                batches.iter().flat_map(|batch| &batch.chunks).map(|chunk| chunk.bytes.len()).sum()
            }
            _ => 0,
        }
    }
}

pub struct Request {
    pub action: Action,
    pub reply: Reply,
}

/// The end of the journal.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub segment: u32,
    pub position: u64,
}

/// What one frame will hold.
#[derive(Default)]
struct Frame {
    entries: Vec<Entry>,
    /// Chunks by topic number and partition, with the offset of the first.
    records: BTreeMap<(u32, u16), (u64, Vec<Chunk>)>,
    bytes: usize,
    waiting: Vec<(Reply, Vec<u64>)>,
}

/// Runs until the log is closed and nothing waits any more.
pub fn run(shared: &Shared, mut end: End) {
    // Also if this thread panics: whoever waits gets an error rather than no answer.
    let _close_at_exit = CloseAtExit(shared);
    while let Some(requests) = shared.queue.take() {
        serve(shared, &mut end, requests);
    }
}

/// Writes what was asked for, in its order, and tells each caller.
pub fn serve(shared: &Shared, end: &mut End, requests: Vec<Request>) {
    let mut frame = Frame::default();
    for request in requests {
        let is_write = matches!(request.action, Action::Write { .. });
        // What changes topics or producers stands alone, so that every frame is checked against a settled state.
        if !is_write || frame.bytes >= GROUP_BYTES {
            write_frame(shared, end, std::mem::take(&mut frame));
        }
        let staged = stage(&mut frame, &shared.state.read(), request.action);
        match staged {
            Ok(answer) => frame.waiting.push((request.reply, answer)),
            Err(error) => (request.reply)(Err(Failure::refused(error))),
        }
        if !is_write {
            write_frame(shared, end, std::mem::take(&mut frame));
        }
    }
    write_frame(shared, end, frame);
}

struct CloseAtExit<'a>(&'a Shared);

impl Drop for CloseAtExit<'_> {
    fn drop(&mut self) {
        self.0.queue.close();
        drop(self.0.queue.take());
    }
}

/// Checks a request and adds it to the frame, all of it or nothing. What the caller will be told.
fn stage(frame: &mut Frame, state: &State, action: Action) -> Result<Vec<u64>> {
    let bytes = action.bytes();
    match action {
        Action::CreateTopic { name, partitions } => {
            if let Some(topic) = state.topics.get(name.as_str()) {
                let present = topic.partitions.len();
                if present != usize::from(partitions) {
                    return Err(Error::conflict(format!(
                        "topic '{name}' exists with {present} partitions, not {partitions}"
                    )));
                }
                return Ok(Vec::new());
            }
            if partitions == 0 || name.is_empty() {
                return Err(Error::invalid(format!(
                    "a topic needs a name and a partition, got '{name}' with {partitions}"
                )));
            }
            frame.entries.push(Entry::CreateTopic { topic: state.next_topic, name, partitions });
            Ok(Vec::new())
        }
        Action::DeleteTopic { name } => {
            frame.entries.push(Entry::DeleteTopic { topic: state.topic(&name)?.id });
            Ok(Vec::new())
        }
        Action::NewProducer { id } => {
            let epoch = state.epochs.get(&id).map_or(0, |last| last + 1);
            frame.entries.push(Entry::Producer { id, epoch });
            Ok(vec![epoch])
        }
        Action::Write { batches, offsets, producer } => {
            if bytes > MAX_REQUEST_BYTES {
                return Err(Error::new(
                    ErrorKind::ResourceExhausted,
                    format!("{bytes} bytes in one append, at most {MAX_REQUEST_BYTES}"),
                )
                .hint("send smaller batches"));
            }
            if let Some((id, epoch)) = producer
                && state.epochs.get(&id) != Some(&epoch)
            {
                return Err(fenced(&id));
            }
            let mut places = Vec::with_capacity(batches.len());
            for batch in &batches {
                let (topic, partition) = state.partition(&batch.topic, batch.partition)?;
                places.push((topic.id, partition.next_offset));
            }
            let mut commits = Vec::with_capacity(offsets.len());
            for OffsetCommit { group, topic, partition, next } in offsets {
                let topic = state.partition(&topic, partition)?.0.id;
                commits.push(Entry::Offset { group, topic, partition, next });
            }
            frame.entries.extend(commits);
            let mut first_offsets = Vec::with_capacity(batches.len());
            for (batch, (topic, next_offset)) in batches.into_iter().zip(places) {
                let (base, chunks) =
                    frame.records.entry((topic, batch.partition)).or_insert_with(|| (next_offset, Vec::new()));
                let staged: u64 = chunks.iter().map(|chunk| u64::from(chunk.count)).sum();
                first_offsets.push(*base + staged);
                chunks.extend(batch.chunks);
            }
            frame.bytes += bytes;
            Ok(first_offsets)
        }
    }
}

pub fn fenced(id: &str) -> Error {
    Error::precondition(format!("producer '{id}' is fenced: a later one with the same id was made"))
}

fn write_frame(shared: &Shared, end: &mut End, frame: Frame) {
    let Frame { mut entries, records, waiting, .. } = frame;
    let mut payload = Vec::new();
    for ((topic, partition), (mut base, chunks)) in records {
        for chunk in blocks_of(chunks) {
            let (count, length, headers) = (chunk.count, chunk.bytes.len() as u32, chunk.headers);
            let crc = crc32fast::hash(&chunk.bytes);
            entries.push(Entry::Block { topic, partition, base, count, length, crc, headers });
            base += u64::from(count);
            payload.push(chunk.bytes);
        }
    }
    let outcome = if entries.is_empty() { Ok(()) } else { persist(shared, end, &entries, &payload) };
    for (reply, answer) in waiting {
        reply(outcome.clone().map(|()| answer));
    }
}

/// Joins small chunks, so that many small appends make few blocks.
fn blocks_of(chunks: Vec<Chunk>) -> Vec<Chunk> {
    let mut blocks: Vec<Chunk> = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        match blocks.last_mut() {
            Some(last) if last.headers == chunk.headers && last.bytes.len() + chunk.bytes.len() <= TARGET_BYTES => {
                last.bytes.extend_from_slice(&chunk.bytes);
                last.count += chunk.count;
            }
            _ => blocks.push(chunk),
        }
    }
    blocks
}

/// Makes a frame durable, then visible. After an error the journal is as before and usable, unless `unknown` is set.
fn persist(shared: &Shared, end: &mut End, entries: &[Entry], payload: &[Vec<u8>]) -> Result<(), Failure> {
    if let Some(error) = shared.broken.lock().as_ref() {
        return Err(Failure::refused(error.clone()));
    }
    let store = shared.store.as_ref();
    if end.position >= shared.options.segment_bytes {
        let next = end.segment + 1;
        let made = store.create(next, &journal::segment_header(next));
        made.map_err(|error| Failure::refused(io_error(&format!("cannot write {}", store.name(next)), &error)))?;
        *end = End { segment: next, position: SEGMENT_HEADER as u64 };
    }
    let parts: Vec<&[u8]> = payload.iter().map(Vec::as_slice).collect();
    let frame = Bytes::from(journal::encode_frame(end.segment, end.position, entries, &parts));
    let written = store.append(end.segment, end.position, &frame).and_then(|()| {
        reach(Point::FrameWritten);
        store.sync(end.segment)
    });
    if let Err(error) = written {
        return Err(undo(shared, *end, &error));
    }
    reach(Point::FrameSynced);
    let payload_length: usize = parts.iter().map(|part| part.len()).sum();
    let payload_start = frame.len() - payload_length;
    let frame_at = end.position;
    end.position += frame.len() as u64;
    let payload_at = frame_at + payload_start as u64;
    let place = FramePlace { segment: end.segment, frame_at, payload_at, frame_end: end.position };
    let mut state = shared.state.write();
    let applied = state.apply(entries, place, Some(&frame.slice(payload_start..)));
    state.shrink_cache(shared.options.cache_bytes);
    let version = state.version;
    drop(state);
    if let Err(error) = applied {
        *shared.broken.lock() = Some(error.clone());
        return Err(Failure { error, unknown: true });
    }
    shared.changes.send_replace(version);
    Ok(())
}

/// Takes a frame that could not be written off the end again. If even that fails, nobody knows what the next open will find,
/// and nothing more is written: the log has to be opened anew.
fn undo(shared: &Shared, end: End, cause: &std::io::Error) -> Failure {
    let name = shared.store.name(end.segment);
    let error = io_error(&format!("cannot write {name}"), cause);
    match shared.store.truncate(end.segment, end.position) {
        Ok(()) => Failure::refused(error),
        Err(second) => {
            tracing::error!(%error, %second, "the log stops: a partial frame could not be removed");
            let stopped = Error::unavailable(format!("the log stopped after a failed write to {name}"))
                .hint("free space or repair the disk, then restart");
            *shared.broken.lock() = Some(stopped);
            Failure { error, unknown: true }
        }
    }
}
