//! The store: opens the data directory, hands out ticks and snapshots.

use crate::closing::Closing;
use crate::digest::{Digest, digest_of};
use crate::keys::Family;
use crate::model::{Options, Table};
use crate::rocks::{OwnedSnapshot, Rocks};
use crate::snapshot::Snapshot;
use crate::tables::meta;
use crate::tick::Tick;
use crate::trie::blocks::BlockRegistry;
use crate::trie::row_cache::RowCache;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thyme_core::Result;
use thyme_core::failpoint::{Point, pass};

/// The state of one node. One writer (ticks are applied one after the other), any number of readers.
pub struct StateStore {
    rocks: Arc<Rocks>,
    pub(crate) blocks: BlockRegistry,
    pub(crate) row_cache: RowCache,
    /// One commit at a time: each takes its rows over into the cache before the next.
    pub(crate) commits: Mutex<()>,
    rows_read: AtomicU64,
}

impl StateStore {
    /// Opens or creates the state in `path`. Another format version, a second process on the directory, a directory that
    /// cannot be written and a full disk are refused with an error that says so.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Arc<StateStore>> {
        StateStore::start(Rocks::open(path.as_ref(), &options)?, &options)
    }

    /// Opens a directory that stays as it is, such as a checkpoint: for reading only.
    pub fn open_read_only(path: impl AsRef<Path>, options: Options) -> Result<Arc<StateStore>> {
        StateStore::start(Rocks::open_read_only(path.as_ref(), &options)?, &options)
    }

    /// The same code over memory: nothing is kept, nothing is synced.
    pub fn in_memory() -> Result<Arc<StateStore>> {
        let options = Options { block_cache_bytes: 32 << 20, row_cache_bytes: 16 << 20, ..Options::default() };
        StateStore::start(Rocks::in_memory(&options)?, &options)
    }

    fn start(rocks: Arc<Rocks>, options: &Options) -> Result<Arc<StateStore>> {
        meta::check_format_version(&rocks)?;
        let blocks = BlockRegistry::load(&OwnedSnapshot::new(rocks.clone()))?;
        let row_cache = RowCache::new(options.row_cache_bytes, rocks.db().latest_sequence_number());
        Ok(Arc::new(StateStore { rocks, blocks, row_cache, commits: Mutex::new(()), rows_read: AtomicU64::new(0) }))
    }

    /// When its directory is free again: all who hold the store, or a snapshot of it, have let go.
    pub fn closing(&self) -> Closing {
        self.rocks.closing()
    }

    /// Begins a tick: changes that become visible and durable together.
    pub fn tick(self: &Arc<Self>) -> Tick {
        Tick::new(self.clone())
    }

    /// What is committed now; later ticks do not change it.
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        Snapshot::new(self.clone(), OwnedSnapshot::new(self.rocks.clone()))
    }

    /// Deletes all rows of a table. Its id must never be used again.
    pub fn drop_table(self: &Arc<Self>, id: u32) -> Result<()> {
        let mut tick = self.tick();
        tick.drop_table(id)?;
        tick.commit(crate::model::Durability::Synced)
    }

    /// The digest of one table; a snapshot gives those of all at once.
    pub fn digest(&self, table: &Table) -> Result<Digest> {
        digest_of(&OwnedSnapshot::new(self.rocks.clone()), table.id)
    }

    /// Writes a copy of what is committed to `directory`, which must not exist: hard links where the file system allows them, so it
    /// is quick and takes no space at first. Ticks go on meanwhile; a tick is one atomic write, so the copy ends between two.
    pub fn checkpoint(&self, directory: &Path) -> Result<()> {
        self.rocks.checkpoint(directory)?;
        pass(Point::CheckpointCopied)
    }

    /// Trie rows read by all dropped snapshots and live ones so far.
    pub fn rows_read(&self) -> u64 {
        self.rows_read.load(Ordering::Relaxed)
    }

    pub(crate) fn count_rows_read(&self, rows: u64) {
        self.rows_read.fetch_add(rows, Ordering::Relaxed);
    }

    /// Writes all buffers to files; for figures about cost.
    pub fn flush(&self) -> Result<()> {
        self.rocks.flush()
    }

    /// Flushes and compacts everything; for figures about space, and tests.
    pub fn compact(&self) -> Result<()> {
        self.rocks.compact()
    }

    /// Bytes of the files that hold the tries.
    pub fn trie_file_bytes(&self) -> Result<u64> {
        self.rocks.file_bytes(Family::Trie)
    }

    /// Bytes of the files that hold the dedup index.
    pub fn dedup_file_bytes(&self) -> Result<u64> {
        self.rocks.file_bytes(Family::Dedup)
    }

    pub(crate) fn rocks(&self) -> &Arc<Rocks> {
        &self.rocks
    }
}
