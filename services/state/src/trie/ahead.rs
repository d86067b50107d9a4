//! Rows that are needed in about the order in which RocksDB holds them: where they were not written lately they are stepped to, which
//! costs a tenth of a lookup.

use crate::rocks::Rows;
use crate::snapshot::Snapshot;
use std::cmp::Ordering;
use thyme_core::Result;

/// Behind a key that was not near the one before, so many are not tried.
const FAR_KEYS: u32 = 8;

/// How the rows of walks are found.
pub struct Ahead<'s> {
    /// Whether the walks go in the order of rows.
    ascends: bool,
    /// Whether this walk steps from row to row already: the rest of a key's rows are mostly where the first is that was not in memory.
    steps: bool,
    rows: Option<(&'s Snapshot, Rows<'s>)>,
    /// Whether the rows stand where another key's walk left them.
    is_elsewhere: bool,
    /// How many keys' first rows are looked up before one is gone to again.
    far: u32,
    /// Whether the rows stand far behind.
    is_lost: bool,
}

impl<'s> Ahead<'s> {
    /// For walks whose rows ascend, best of keys in their order.
    pub fn ascending() -> Ahead<'s> {
        Ahead { ascends: true, steps: false, rows: None, is_elsewhere: false, far: 0, is_lost: false }
    }

    /// Looks up each row.
    pub fn never() -> Ahead<'s> {
        Ahead { ascends: false, ..Ahead::ascending() }
    }

    /// Begins with another key.
    pub fn begin(&mut self, snapshot: &Snapshot) {
        self.steps = false;
        self.is_elsewhere = true;
        self.rows.take_if(|(of, _)| !std::ptr::eq(*of, snapshot));
    }

    /// Whether the rows of this walk are stepped to from now on.
    #[inline]
    pub fn steps(&self) -> bool {
        self.steps
    }

    /// A row is not in memory: whether it is to be stepped to.
    #[inline]
    pub fn step(&mut self) -> bool {
        self.steps = self.ascends;
        self.steps
    }

    /// The first row of another key, stepped to; `None` if that is too far from the one before.
    pub fn first_row(&mut self, snapshot: &'s Snapshot, key: &[u8]) -> Result<Option<Option<&[u8]>>> {
        if self.far > 0 {
            self.far -= 1;
            return Ok(None);
        }
        let rows = self.rows.as_mut().filter(|_| !self.is_lost);
        match rows.and_then(|(_, rows)| Some((rows.place(key)?, rows))) {
            Some((Ordering::Equal, _)) => {}
            Some((Ordering::Less, rows)) => {
                if !rows.step_to(key) {
                    (self.far, self.is_lost) = (FAR_KEYS, true);
                    return Ok(None);
                }
            }
            Some((Ordering::Greater, _)) | None => self.seek(snapshot, key)?,
        }
        self.is_elsewhere = false;
        self.standing(key).map(Some)
    }

    /// The row with this key.
    pub fn row(&mut self, snapshot: &'s Snapshot, key: &[u8]) -> Result<Option<&[u8]>> {
        match &mut self.rows {
            // Within a key, rows stand by time but for those of one instant, which stand by depth first.
            Some((_, rows)) if !self.is_elsewhere => rows.go_to(key),
            _ => self.seek(snapshot, key)?,
        }
        self.is_elsewhere = false;
        self.standing(key)
    }

    fn seek(&mut self, snapshot: &'s Snapshot, key: &[u8]) -> Result<()> {
        let (_, rows) = match &mut self.rows {
            Some(rows) => rows,
            none => none.insert((snapshot, snapshot.inner().trie_rows()?)),
        };
        rows.seek(key);
        self.is_lost = false;
        Ok(())
    }

    /// The row on which the rows stand, if it has this key.
    fn standing(&self, key: &[u8]) -> Result<Option<&[u8]>> {
        self.rows.as_ref().map_or(Ok(None), |(_, rows)| rows.get(key))
    }
}
