//! Rows that ticks wrote lately: the next tick on the same key, and reads of it, need not look for them in RocksDB. Holds committed
//! rows only, each with the place of its commit in the order of all writes (RocksDB's sequence number).
//!
//! A snapshot of place q sees a row that is here and was committed at or before q, once the cache knows of all commits up to q:
//! whatever else was written of the row up to q would have replaced it.

use hashbrown::HashMap;
use parking_lot::{RwLock, RwLockWriteGuard};
use rocksdb::DBPinnableSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a row costs besides its bytes.
const ROW_OVERHEAD: usize = 104;
/// Parts with a lock each, by the first byte of the row's key, which is the key's hash slice.
const PARTS: usize = 16;

pub struct RowCache {
    /// Of a part.
    capacity: usize,
    parts: [RwLock<Generations>; PARTS],
    /// All commits up to this one are here.
    complete: AtomicU64,
}

/// Row key -> row. When the young generation is full, the old one is dropped.
#[derive(Default)]
struct Generations {
    young: HashMap<Box<[u8]>, Committed>,
    old: HashMap<Box<[u8]>, Committed>,
    young_bytes: usize,
}

#[derive(Clone)]
struct Committed {
    row: Arc<[u8]>,
    sequence: u64,
}

/// Rows of a tick that is not yet committed; `None` for a deleted one.
pub type PendingRows = Vec<(Box<[u8]>, Option<Arc<[u8]>>)>;

/// A row as it was committed, from the cache or from RocksDB.
pub enum Row<'a> {
    Cached(Arc<[u8]>),
    Stored(DBPinnableSlice<'a>),
}

impl std::ops::Deref for Row<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Row::Cached(bytes) => bytes,
            Row::Stored(bytes) => bytes,
        }
    }
}

impl RowCache {
    /// Empty, at a place in the order of writes.
    pub fn new(capacity: usize, sequence: u64) -> RowCache {
        RowCache { capacity: capacity / PARTS, parts: Default::default(), complete: AtomicU64::new(sequence) }
    }

    /// Without memory nothing is kept.
    pub fn is_enabled(&self) -> bool {
        self.capacity > 0
    }

    /// Whether a snapshot of this place may look here: from when all that it sees has been taken over.
    pub fn knows(&self, sequence: u64) -> bool {
        self.is_enabled() && self.complete.load(Ordering::Acquire) >= sequence
    }

    /// As of the last commit; for the only writer.
    pub fn newest(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.parts[part_of(key)].read().get(key).map(|found| found.row.clone())
    }

    /// As a snapshot of this place sees it, which the cache [`RowCache::knows`].
    pub fn as_of(&self, key: &[u8], sequence: u64) -> Option<Arc<[u8]>> {
        let part = self.parts[part_of(key)].read();
        part.get(key).filter(|found| found.sequence <= sequence).map(|found| found.row.clone())
    }

    /// Takes over the rows of a tick that was committed at this place.
    pub fn commit(&self, rows: PendingRows, sequence: u64) {
        if self.is_enabled() {
            self.put(rows, sequence);
        }
        self.complete.store(sequence, Ordering::Release);
    }

    /// Forgets everything, when rows went by ranges or a write failed.
    pub fn clear(&self, sequence: u64) {
        self.parts.iter().for_each(|part| *part.write() = Generations::default());
        self.complete.store(sequence, Ordering::Release);
    }

    fn put(&self, rows: PendingRows, sequence: u64) {
        let mut held: Option<(usize, RwLockWriteGuard<'_, Generations>)> = None;
        for (key, row) in rows {
            let part = part_of(&key);
            // Rows of a tick come by key, so that those of a part follow each other.
            let (_, generations) = match &mut held {
                Some(held) if held.0 == part => held,
                _ => {
                    drop(held.take());
                    held.insert((part, self.parts[part].write()))
                }
            };
            generations.put(key, row, sequence, self.capacity);
        }
    }
}

fn part_of(key: &[u8]) -> usize {
    key.first().map_or(0, |first| usize::from(*first) % PARTS)
}

impl Generations {
    fn get(&self, key: &[u8]) -> Option<&Committed> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn put(&mut self, key: Box<[u8]>, row: Option<Arc<[u8]>>, sequence: u64, capacity: usize) {
        let Some(row) = row else {
            self.young.remove(&key);
            self.old.remove(&key);
            return;
        };
        // The bytes of a row that is replaced are counted twice: the generation ends a little early.
        self.young_bytes += key.len() + row.len() + ROW_OVERHEAD;
        self.young.insert(key, Committed { row, sequence });
        if self.young_bytes > capacity / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u8, bytes: usize) -> (Box<[u8]>, Option<Arc<[u8]>>) {
        (vec![0, number].into(), Some(vec![number; bytes].into()))
    }

    #[test]
    fn keeps_the_newest_and_stays_within_its_size() {
        let cache = RowCache::new(4_000 * PARTS, 0);
        cache.commit(vec![row(1, 800)], 1);
        cache.commit(vec![row(2, 800)], 2);
        assert!(cache.newest(&[0, 1]).is_some() && cache.newest(&[0, 2]).is_some());
        cache.commit(vec![row(1, 500), row(3, 800), (vec![0, 2].into(), None)], 3);
        assert_eq!(cache.newest(&[0, 1]).map(|row| row.len()), Some(500));
        assert!(cache.newest(&[0, 2]).is_none());
        cache.commit(vec![row(4, 2_000)], 4);
        cache.commit(vec![row(5, 2_000)], 5);
        assert!(cache.newest(&[0, 1]).is_none());
        cache.clear(6);
        assert!(cache.newest(&[0, 5]).is_none());
    }

    #[test]
    fn a_snapshot_finds_what_it_sees() {
        let cache = RowCache::new(1 << 20, 7);
        assert!(cache.knows(7) && !cache.knows(8));
        cache.commit(vec![row(1, 10), row(2, 10)], 9);
        cache.commit(vec![row(1, 20)], 12);
        assert!(cache.knows(12) && !cache.knows(13));
        assert_eq!(cache.as_of(&[0, 1], 12).map(|row| row.len()), Some(20));
        assert!(cache.as_of(&[0, 1], 11).is_none(), "what it sees was replaced");
        assert_eq!(cache.as_of(&[0, 2], 11).map(|row| row.len()), Some(10));
        assert!(cache.as_of(&[0, 2], 8).is_none());
    }
}
