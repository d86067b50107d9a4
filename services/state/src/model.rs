//! What goes into the state and what is asked of it.

use std::sync::Arc;
use thyme_core::Value;
use thyme_core::aggregate::TableLayout;
use thyme_core::position::Position;

/// One accepted event as a table keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Event time, microseconds.
    pub time: i64,
    /// Place in the dataset's own log; breaks ties. (time, origin) never repeats within a key. In a table that is not routed,
    /// `origin.offset` equals `sequence` and `origin.partition` is the same for all events of a key.
    pub origin: Position,
    /// Offset in the log that the shard reads, for `known_at` by position.
    pub sequence: u64,
    /// When it entered the log, microseconds, for `known_at` by time.
    pub append_time: i64,
    /// One value per column of the layout.
    pub values: Vec<Value>,
    /// One bit per predicate of the layout, lowest first.
    pub predicates: u64,
}

/// A stored table: the trie of one pipeline version, or the rows of one indexed dataset.
#[derive(Debug, Clone)]
pub struct Table {
    /// Given out by the catalog, never reused.
    pub id: u32,
    pub layout: Arc<TableLayout>,
    /// The shard reads a repartition log: events keep their original position beside the sequence.
    pub routed: bool,
}

/// `known_at`: which events a question may see. The default sees all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Visible {
    /// Only events with `sequence <` this.
    pub sequence_below: Option<u64>,
    /// Only events with `append_time <=` this.
    pub appended_by: Option<i64>,
}

impl Visible {
    pub const ALL: Visible = Visible { sequence_below: None, appended_by: None };

    /// Whether an event, or a node whose greatest figures these are, is seen.
    #[inline]
    pub fn sees(&self, sequence: u64, append_time: i64) -> bool {
        self.sequence_below.is_none_or(|limit| sequence < limit)
            && self.appended_by.is_none_or(|limit| append_time <= limit)
    }
}

/// How far a committed tick has travelled when `commit` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk: survives a power failure. (In memory there is no disk, and nothing is synced.)
    Synced,
    /// Handed to the operating system: survives a killed process.
    Buffered,
}

/// Sizes of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Memory for blocks read from disk, shared by all tables.
    pub block_cache_bytes: usize,
    /// Size of one write buffer; the trie has up to four.
    pub write_buffer_bytes: usize,
    /// Memory for rows that were written lately and are likely to be written again.
    pub row_cache_bytes: usize,
    /// Threads that flush and compact.
    pub background_jobs: i32,
}

impl Options {
    /// Of one of so many stores that share the memory.
    pub fn shared_by(self, stores: u16) -> Options {
        let share = |bytes: usize, least: usize| (bytes / usize::from(stores.max(1))).max(least.min(bytes));
        Options {
            block_cache_bytes: share(self.block_cache_bytes, 8 << 20),
            write_buffer_bytes: share(self.write_buffer_bytes, 8 << 20),
            row_cache_bytes: share(self.row_cache_bytes, 4 << 20),
            ..self
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            block_cache_bytes: 256 << 20,
            write_buffer_bytes: 32 << 20,
            row_cache_bytes: 128 << 20,
            background_jobs: 2,
        }
    }
}
