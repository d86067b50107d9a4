//! RocksDB: opening it, a snapshot that owns its database, and what its errors mean to the caller.

use crate::closing::{Closing, Open};
use crate::keys::Family;
use crate::model::Options;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBPinnableSlice,
    DBRawIterator, DataBlockIndexType, Env,
};
use rocksdb::{ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteOptions};
use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;
use thyme_core::{Error, ErrorKind, Result};

const BLOCK_BYTES: usize = 16 << 10;
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// Size of a write buffer's own filter, as a part of the buffer.
const MEMTABLE_BLOOM: f64 = 0.05;
/// A rarely flushed family must not keep old write-ahead logs alive for ever.
const MAX_WAL_BYTES: u64 = 256 << 20;

/// A step to the next row costs a fraction of a seek.
const STEPS_BEFORE_SEEK: usize = 8;

/// An open database with our column families.
pub struct Rocks {
    db: DB,
    in_memory: bool,
    open: Open,
}

impl Rocks {
    pub fn open(path: &Path, options: &Options) -> Result<Arc<Rocks>> {
        std::fs::create_dir_all(path).map_err(|error| io_error(&error, path))?;
        Rocks::open_with(path, options, None)
    }

    /// A directory that nobody writes to while it is open, not even this process.
    pub fn open_read_only(path: &Path, options: &Options) -> Result<Arc<Rocks>> {
        let (database, families) = database_options(options, None)?;
        let db = DB::open_cf_descriptors_read_only(&database, path, families, false)
            .map_err(|error| open_error(error, path))?;
        Ok(Arc::new(Rocks { db, in_memory: false, open: Open::default() }))
    }

    pub fn in_memory(options: &Options) -> Result<Arc<Rocks>> {
        let env = Env::mem_env().map_err(translate)?;
        Rocks::open_with(Path::new("/thyme"), options, Some(&env))
    }

    fn open_with(path: &Path, options: &Options, env: Option<&Env>) -> Result<Arc<Rocks>> {
        let (database, families) = database_options(options, env)?;
        let db = DB::open_cf_descriptors(&database, path, families).map_err(|error| open_error(error, path))?;
        Ok(Arc::new(Rocks { db, in_memory: env.is_some(), open: Open::default() }))
    }

    pub fn db(&self) -> &DB {
        &self.db
    }

    pub fn closing(&self) -> Closing {
        self.open.closing()
    }

    pub fn family(&self, family: Family) -> Result<&ColumnFamily> {
        self.db.cf_handle(family.name()).ok_or_else(|| Error::internal("a column family is missing"))
    }

    pub fn write(&self, batch: WriteBatch, synced: bool) -> Result<()> {
        let mut options = WriteOptions::default();
        if self.in_memory {
            options.disable_wal(true);
        } else {
            options.set_sync(synced);
        }
        self.db.write_opt(batch, &options).map_err(translate)
    }

    /// Writes all buffers to files.
    pub fn flush(&self) -> Result<()> {
        for family in Family::ALL {
            self.db.flush_cf(self.family(family)?).map_err(translate)?;
        }
        Ok(())
    }

    /// Hard links of all files into a new directory, buffers written to files first.
    pub fn checkpoint(&self, directory: &Path) -> Result<()> {
        if self.in_memory {
            return Err(Error::precondition("a state in memory has no files to checkpoint"));
        }
        let taken = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(directory));
        taken.map_err(|error| translate(error).context(format!("taking a checkpoint in {}", directory.display())))
    }

    /// Writes all buffers to files and merges them down; for figures about space, and tests.
    pub fn compact(&self) -> Result<()> {
        for family in Family::ALL {
            let handle = self.family(family)?;
            self.db.flush_cf(handle).map_err(translate)?;
            self.db.compact_range_cf(handle, None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }

    /// Bytes of the files of one family.
    pub fn file_bytes(&self, family: Family) -> Result<u64> {
        let handle = self.family(family)?;
        let found = self.db.property_int_value_cf(handle, "rocksdb.total-sst-files-size").map_err(translate)?;
        Ok(found.unwrap_or(0))
    }
}

fn database_options(options: &Options, env: Option<&Env>) -> Result<(rocksdb::Options, Vec<ColumnFamilyDescriptor>)> {
    let cache = Cache::new_hyper_clock_cache(options.block_cache_bytes, 0);
    // A file of a few rows is not given the space of the largest first. Without a write-ahead log (an environment of its own) files
    // would be written when it is closed, that nobody will open.
    let text =
        if env.is_some() { "allow_fallocate=false;avoid_flush_during_shutdown=true" } else { "allow_fallocate=false" };
    let mut database = rocksdb::Options::default().get_options_from_string(text).map_err(translate)?;
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    database.set_max_background_jobs(options.background_jobs);
    database.set_max_total_wal_size(MAX_WAL_BYTES);
    database.set_keep_log_file_num(2);
    // RocksDB starts that many threads anew for each family of each state that it opens; 16, if not told.
    database.set_max_file_opening_threads(options.background_jobs);
    database.set_stats_dump_period_sec(0);
    database.set_stats_persist_period_sec(0);
    database.set_bytes_per_sync(1 << 20);
    if let Some(env) = env {
        database.set_env(env);
    }
    let families = Family::ALL
        .iter()
        .map(|family| ColumnFamilyDescriptor::new(family.name(), family_options(*family, options, &cache, env)));
    Ok((database, families.collect()))
}

fn family_options(family: Family, options: &Options, cache: &Cache, env: Option<&Env>) -> rocksdb::Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_block_cache(cache);
    blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    blocks.set_format_version(5);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut settings = rocksdb::Options::default();
    settings.set_block_based_table_factory(&blocks);
    settings.set_compression_type(DBCompressionType::Lz4);
    settings.set_level_compaction_dynamic_level_bytes(true);
    let (buffer, buffers) = match family {
        Family::Trie => (options.write_buffer_bytes, 4),
        Family::Meta | Family::Dedup => (options.write_buffer_bytes.min(16 << 20), 2),
    };
    settings.set_write_buffer_size(buffer);
    settings.set_max_write_buffer_number(buffers);
    if family == Family::Trie {
        // Most rows that are asked for are not in a given write buffer: its filter says so for less than a search.
        settings.set_memtable_whole_key_filtering(true);
        settings.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM);
    }
    if let Some(env) = env {
        settings.set_env(env);
    }
    settings
}

/// A snapshot that keeps its database alive, so that it can be moved and shared freely.
pub struct OwnedSnapshot {
    // Both refer to the database and are dropped before it: fields drop in the order they are declared.
    read_options: ReadOptions,
    sequence: u64,
    snapshot: SnapshotWithThreadMode<'static, DB>,
    rocks: Arc<Rocks>,
}

impl OwnedSnapshot {
    pub fn new(rocks: Arc<Rocks>) -> OwnedSnapshot {
        let borrowed = rocks.db.snapshot();
        #[expect(unsafe_code, reason = "the database lives in the Arc beside the snapshot and is dropped after it")]
        // SAFETY: the snapshot borrows `rocks.db`, whose address is fixed inside the Arc; this struct owns a reference to that
        // Arc, never gives the snapshot out with the longer lifetime, and drops the snapshot first.
        let snapshot = unsafe {
            std::mem::transmute::<SnapshotWithThreadMode<'_, DB>, SnapshotWithThreadMode<'static, DB>>(borrowed)
        };
        let mut read_options = ReadOptions::default();
        read_options.set_snapshot(&snapshot);
        OwnedSnapshot { read_options, sequence: snapshot.sequence_number(), snapshot, rocks }
    }

    pub fn rocks(&self) -> &Arc<Rocks> {
        &self.rocks
    }

    /// Its place in the order of writes.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    #[inline]
    pub fn get(&self, family: &ColumnFamily, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>> {
        self.rocks.db.get_pinned_cf_opt(family, key, &self.read_options).map_err(translate)
    }

    /// The rows of the trie, standing nowhere.
    pub fn trie_rows(&self) -> Result<Rows<'_>> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        Ok(Rows(self.rocks.db.raw_iterator_cf_opt(self.rocks.family(Family::Trie)?, options)))
    }

    /// Standing at the first row from `from` on; it ends before `to`.
    fn rows(&self, family: Family, from: &[u8], to: &[u8]) -> Result<Rows<'_>> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options.set_iterate_upper_bound(to);
        let mut rows = self.rocks.db.raw_iterator_cf_opt(self.rocks.family(family)?, options);
        rows.seek(from);
        Ok(Rows(rows))
    }

    /// Goes over the keys from `from` up to (not including) `to`; where `visit` gives a key, it goes on there.
    pub fn leap(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        mut visit: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>>,
    ) -> Result<()> {
        let mut rows = self.rows(family, from, to)?;
        while let Some(key) = rows.0.key() {
            match visit(key)? {
                Some(next) => rows.go_on_at(&next),
                None => rows.0.next(),
            }
        }
        rows.0.status().map_err(translate)
    }

    /// Calls `visit` with every row from `from` up to (not including) `to`, until it returns false.
    pub fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut rows = self.rows(family, from, to)?.0;
        while let Some((key, value)) = rows.item() {
            if !visit(key, value)? {
                break;
            }
            rows.next();
        }
        rows.status().map_err(translate)
    }
}

/// Rows one after the other.
pub struct Rows<'a>(DBRawIterator<'a>);

impl Rows<'_> {
    /// To the first row from `target` on, which lies ahead: step by step if it is near.
    fn go_on_at(&mut self, target: &[u8]) {
        if !self.step_to(target) {
            self.0.seek(target);
        }
    }

    /// Goes ahead by a few steps until the first row from `target` on, which lies ahead; false if it is farther.
    pub fn step_to(&mut self, target: &[u8]) -> bool {
        (0..STEPS_BEFORE_SEEK).any(|_| {
            self.0.next();
            self.0.key().is_none_or(|key| key >= target)
        })
    }

    /// Where the row on which it stands is, seen from `target`.
    pub fn place(&self, target: &[u8]) -> Option<Ordering> {
        self.0.key().map(|key| key.cmp(target))
    }

    /// To the first row from `target` on.
    pub fn seek(&mut self, target: &[u8]) {
        self.0.seek(target);
    }

    /// The same, which mostly is a little ahead.
    pub fn go_to(&mut self, target: &[u8]) {
        match self.place(target) {
            Some(Ordering::Equal) => {}
            Some(Ordering::Less) => self.go_on_at(target),
            Some(Ordering::Greater) | None => self.0.seek(target),
        }
    }

    /// The row on which it stands, if it has this key.
    pub fn get(&self, key: &[u8]) -> Result<Option<&[u8]>> {
        match self.0.item() {
            Some((found, row)) => Ok(Some(row).filter(|_| found == key)),
            None => self.0.status().map(|()| None).map_err(translate),
        }
    }
}

/// What a RocksDB error means: its kind tells the caller what to do.
pub fn translate(error: rocksdb::Error) -> Error {
    let kind = error.kind();
    meaning(&kind, &error.into_string())
}

fn meaning(kind: &rocksdb::ErrorKind, text: &str) -> Error {
    let lower = text.to_lowercase();
    if lower.contains("file too large") {
        return Error::new(
            ErrorKind::ResourceExhausted,
            format!("a file of the state reached a limit of size: {text}"),
        )
        .hint("raise the limit of file size (ulimit -f) and restart thyme; nothing acknowledged is lost");
    }
    if lower.contains("no space left") || lower.contains("disk quota") {
        return Error::new(ErrorKind::ResourceExhausted, format!("the disk of the state directory is full: {text}"))
            .hint("free at least 64 MB; the state goes on by itself then, and nothing acknowledged is lost");
    }
    if lower.contains("read-only file system") || lower.contains("permission denied") {
        return Error::precondition(format!("the state directory cannot be written: {text}"))
            .hint("make the data directory writable for the user that runs thyme");
    }
    match kind {
        rocksdb::ErrorKind::Corruption => Error::data_loss(format!("the state directory is damaged: {text}")),
        rocksdb::ErrorKind::Busy | rocksdb::ErrorKind::TryAgain | rocksdb::ErrorKind::TimedOut => {
            Error::unavailable(format!("the state is busy: {text}"))
        }
        rocksdb::ErrorKind::IOError => Error::unavailable(format!("the state directory failed: {text}")),
        _ => Error::internal(format!("rocksdb failed: {text}")),
    }
}

/// What to do with a state that this build does not read.
pub fn to_be_built_anew(path: &Path) -> String {
    let path = path.display();
    format!(
        "all that is in it can be had from the log: stop thyme, move the state away (mv {path} {path}.old) and start thyme again, which builds \
         it anew; or run the version of thyme that wrote it"
    )
}

fn open_error(error: rocksdb::Error, path: &Path) -> Error {
    let text = error.to_string().to_lowercase();
    let is_locked = text.contains("lock hold by current process") || text.contains("while lock file");
    if is_locked && !text.contains("permission denied") && !text.contains("read-only") {
        return Error::conflict(format!("another process has the state directory open, path={}", path.display()))
            .hint("stop the other thyme process, or give this one another data directory");
    }
    if text.contains("column families not opened") || text.contains("column family not found") {
        return Error::precondition(format!("the state directory is of an unknown format: {text}"))
            .hint(to_be_built_anew(path));
    }
    translate(error).context(format!("cannot open the state, path={}", path.display()))
}

fn io_error(error: &std::io::Error, path: &Path) -> Error {
    let what = format!("cannot create the state directory, path={}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            Error::precondition(what).hint("make the data directory writable for the user that runs thyme")
        }
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Error::new(ErrorKind::ResourceExhausted, what).hint("free some space")
        }
        _ => Error::unavailable(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_read_only_directory_are_told_apart() {
        let cases = [
            (
                "IO error: No space left on deviceWhile appending to file: state/000009.log",
                ErrorKind::ResourceExhausted,
            ),
            ("IO error: While appending to file: state/000009.log: File too large", ErrorKind::ResourceExhausted),
            (
                "IO error: While open a file for appending: state/LOG: Read-only file system",
                ErrorKind::FailedPrecondition,
            ),
            ("IO error: While lock file: state/LOCK: Permission denied", ErrorKind::FailedPrecondition),
            ("IO error: While fsync: state/000009.log: Input/output error", ErrorKind::Unavailable),
        ];
        for (text, kind) in cases {
            let error = meaning(&rocksdb::ErrorKind::IOError, text);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().ends_with(text));
        }
        let damaged = meaning(&rocksdb::ErrorKind::Corruption, "Corruption: block checksum mismatch");
        assert_eq!(damaged.kind(), ErrorKind::DataLoss);
    }

    #[test]
    fn a_leap_passes_what_it_should_however_many_rows_that_are() -> Result<()> {
        let rocks = Rocks::in_memory(&Options::default())?;
        let mut batch = WriteBatch::default();
        let groups = [1u8, 7, 8, 9, 10, 40, 1, 9];
        for (group, rows) in (0u8..).zip(groups) {
            for row in 0..rows {
                batch.put_cf(rocks.family(Family::Meta)?, [group, row], []);
            }
        }
        rocks.write(batch, false)?;
        let mut seen = Vec::new();
        // Of every other group all rows, of the rest the first one.
        let visit = |key: &[u8]| {
            seen.push(key.to_vec());
            Ok(key[0].is_multiple_of(2).then(|| vec![key[0] + 1]))
        };
        OwnedSnapshot::new(rocks).leap(Family::Meta, &[0], &[7], visit)?;
        let visited = |(group, rows): (u8, u8)| {
            let count = if group.is_multiple_of(2) { 1 } else { rows };
            (0..count).map(move |row| vec![group, row])
        };
        let wanted: Vec<Vec<u8>> = (0u8..7).zip(groups).flat_map(visited).collect();
        assert_eq!(seen, wanted);
        Ok(())
    }
}
