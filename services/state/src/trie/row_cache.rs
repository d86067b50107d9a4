//! Rows that ticks wrote lately, so that the next tick on the same key does not look them up again. Holds committed rows only.

use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;

/// What a row costs besides its bytes.
const ROW_OVERHEAD: usize = 96;

/// Row key -> row, as of the last commit. Two generations: when the young one is full, the old one is dropped.
pub struct RowCache {
    capacity: usize,
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Box<[u8]>, Arc<[u8]>>,
    old: HashMap<Box<[u8]>, Arc<[u8]>>,
    young_bytes: usize,
}

/// Rows of a tick that is not yet committed; `None` for a deleted one.
pub type PendingRows = Vec<(Box<[u8]>, Option<Arc<[u8]>>)>;

impl RowCache {
    pub fn new(capacity: usize) -> RowCache {
        RowCache { capacity, generations: Mutex::new(Generations::default()) }
    }

    /// Without memory nothing is kept.
    pub fn is_enabled(&self) -> bool {
        self.capacity > 0
    }

    pub fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        let generations = self.generations.lock();
        generations.young.get(key).or_else(|| generations.old.get(key)).cloned()
    }

    /// Takes over the rows of a tick that was committed.
    pub fn commit(&self, rows: PendingRows) {
        let mut generations = self.generations.lock();
        for (key, row) in rows {
            let Some(row) = row else {
                generations.young.remove(&key);
                generations.old.remove(&key);
                continue;
            };
            let bytes = key.len() + row.len() + ROW_OVERHEAD;
            // The bytes of a row that is replaced are counted twice: the generation ends a little early.
            generations.young_bytes += bytes;
            generations.young.insert(key, row);
        }
        if generations.young_bytes > self.capacity / 2 {
            generations.old = std::mem::take(&mut generations.young);
            generations.young_bytes = 0;
        }
    }

    /// Forgets everything, when rows went by ranges or a write failed.
    pub fn clear(&self) {
        *self.generations.lock() = Generations::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u8, bytes: usize) -> (Box<[u8]>, Option<Arc<[u8]>>) {
        (vec![number].into(), Some(vec![number; bytes].into()))
    }

    #[test]
    fn keeps_the_newest_and_stays_within_its_size() {
        let cache = RowCache::new(4_000);
        cache.commit(vec![row(1, 1_000)]);
        cache.commit(vec![row(2, 1_000)]);
        assert!(cache.get(&[1]).is_some() && cache.get(&[2]).is_some());
        cache.commit(vec![row(1, 500), row(3, 1_000), (vec![2].into(), None)]);
        assert_eq!(cache.get(&[1]).map(|row| row.len()), Some(500));
        assert!(cache.get(&[2]).is_none());
        cache.commit(vec![row(4, 2_000)]);
        cache.commit(vec![row(5, 2_000)]);
        assert!(cache.get(&[1]).is_none());
        cache.clear();
        assert!(cache.get(&[5]).is_none());
    }
}
