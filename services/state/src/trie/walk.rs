//! Going through the events of one key, row by row, from either end. What to open and what to take as a whole is the visitor's.

use super::ahead::Ahead;
use super::coordinate::{PageAt, Roots, first_of_time};
use super::leaf::{LEAF, LeafCursor};
use super::page::{self, EntryHead, PAGE};
use super::row_cache::Row;
use crate::codec::broken;
use crate::keys::{Family, after_prefix, write_trie_prefix};
use crate::model::Table;
use crate::snapshot::Snapshot;
use rocksdb::ColumnFamily;
use std::cell::{Cell, Ref, RefCell};
use thyme_core::{Error, Result};

/// Up to this many root blocks are asked for one by one; beyond, the rows that exist are sought.
const MAX_BLOCK_GETS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    OldestFirst,
    NewestFirst,
}

/// What to do with a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Go on behind it: not needed, or taken as a whole.
    Skip,
    /// Look at its events.
    Open,
    /// Nothing more is needed.
    Stop,
}

/// Looks at the rows that a walk comes to.
pub trait Visitor {
    /// A stretch `[first, last]` of time that touches the walk's range.
    fn entry(&mut self, first: i64, last: i64, head: &EntryHead<'_>) -> Result<Step>;
    /// A leaf that touches the walk's range; it may hold events outside. False: nothing more is needed.
    fn leaf(&mut self, leaf: LeafCursor<'_>) -> Result<bool>;
    /// All that was opened by the last [`Visitor::entry`] that has not been left yet has been shown.
    fn leave(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A root row of the key.
pub struct Root<'s> {
    at: PageAt,
    row: Row<'s>,
}

impl Root<'_> {
    /// How many events of `[from, to]` it may hold at most.
    pub fn events_within(&self, from: i64, to: i64) -> Result<u64> {
        if self.row.first() == Some(&LEAF) {
            return super::leaf::count(&self.row).map(|count| count as u64);
        }
        let mut entries = Vec::with_capacity(64);
        page::entries(&self.row, &mut entries)?;
        let mut total = 0;
        for entry in entries {
            let (_, first, last) = self.at.span_of(entry.node)?;
            if last >= from && first <= to {
                total += entry.head()?.count;
            }
        }
        Ok(total)
    }
}

/// Reads the rows of one (table, key).
pub struct Walker<'s> {
    snapshot: &'s Snapshot,
    family: &'s ColumnFamily,
    pub table: &'s Table,
    roots: Roots,
    key: RefCell<Vec<u8>>,
    prefix_length: usize,
    rows: Cell<u64>,
}

impl Drop for Walker<'_> {
    fn drop(&mut self) {
        self.snapshot.count_rows_read(self.rows.get());
    }
}

impl<'s> Walker<'s> {
    pub fn new(snapshot: &'s Snapshot, table: &'s Table, key: &[u8]) -> Result<Walker<'s>> {
        let family = snapshot.inner().rocks().family(Family::Trie)?;
        let mut bytes = Vec::with_capacity(key.len() + 24);
        write_trie_prefix(&mut bytes, table.id, key);
        let prefix_length = bytes.len();
        let roots = Roots::of(&table.layout);
        Ok(Walker { snapshot, family, table, roots, key: RefCell::new(bytes), prefix_length, rows: Cell::new(0) })
    }

    /// Shows `visitor` what lies in `[from, to]`.
    pub fn walk(&self, direction: Direction, from: i64, to: i64, visitor: &mut impl Visitor) -> Result<()> {
        self.each_block(direction, from, to, &mut |block| {
            let at = self.roots.page(block);
            match self.get(at)? {
                Some(row) => self.visit(at, &row, (direction, from, to), &mut Ahead::never(), visitor),
                None => Ok(true),
            }
        })
    }

    /// The root rows that touch `[from, to]`, oldest first.
    pub fn roots(&self, from: i64, to: i64, ahead: &mut Ahead<'s>) -> Result<Vec<Root<'s>>> {
        let mut roots = Vec::new();
        self.each_block(Direction::OldestFirst, from, to, &mut |block| {
            let at = self.roots.page(block);
            let row = match self.cached(at) {
                Some(row) => Some(row),
                None if roots.is_empty() => self.first_row(at, ahead)?,
                None => self.looked_up(at)?,
            };
            roots.extend(row.map(|row| Root { at, row }));
            Ok(true)
        })?;
        Ok(roots)
    }

    /// The first row of a key, which is mostly near those of the key before.
    fn first_row(&self, at: PageAt, ahead: &mut Ahead<'s>) -> Result<Option<Row<'s>>> {
        let found = ahead.first_row(self.snapshot, &self.key_of(at))?;
        let Some(row) = found else { return self.looked_up(at) };
        self.rows.set(self.rows.get() + u64::from(row.is_some()));
        Ok(row.map(|row| Row::Cached(row.into())))
    }

    /// As [`Walker::walk`], oldest first, from roots that were read before.
    pub fn walk_roots(
        &self,
        roots: &[Root<'s>],
        from: i64,
        to: i64,
        ahead: &mut Ahead<'s>,
        visitor: &mut impl Visitor,
    ) -> Result<()> {
        for root in roots {
            if !self.visit(root.at, &root.row, (Direction::OldestFirst, from, to), ahead, visitor)? {
                break;
            }
        }
        Ok(())
    }

    fn each_block(
        &self,
        direction: Direction,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(u32) -> Result<bool>,
    ) -> Result<()> {
        if from > to {
            return Ok(());
        }
        let (first, last) = (self.roots.block_of(first_of_time(from)), self.roots.block_of(first_of_time(to)));
        let known = self.snapshot.store().blocks.get(self.table.id);
        let begin = known.partition_point(|block| *block < first);
        let end = known.partition_point(|block| *block <= last);
        let found;
        let blocks = if end - begin > MAX_BLOCK_GETS {
            found = self.seek_blocks(first, last)?;
            found.as_slice()
        } else {
            &known[begin..end]
        };
        match direction {
            Direction::OldestFirst => {
                for block in blocks {
                    if !visit(*block)? {
                        break;
                    }
                }
            }
            Direction::NewestFirst => {
                for block in blocks.iter().rev() {
                    if !visit(*block)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The root blocks of this key between two, found by seeking from one to the next.
    fn seek_blocks(&self, first: u32, last: u32) -> Result<Vec<u32>> {
        let mut blocks = Vec::new();
        let mut next = Some(first);
        let prefix = self.key.borrow()[..self.prefix_length].to_vec();
        let end = after_prefix(&prefix);
        while let Some(block) = next.filter(|block| *block <= last) {
            let mut from = prefix.clone();
            self.roots.page(block).write_key(&mut from);
            next = None;
            self.snapshot.inner().scan(Family::Trie, &from, &end, |row_key, _| {
                let found = self.roots.block_of_row(row_key.get(prefix.len()..).ok_or_else(broken)?)?;
                if found <= last {
                    blocks.push(found);
                    next = found.checked_add(1);
                }
                Ok(false)
            })?;
        }
        Ok(blocks)
    }

    fn visit(
        &self,
        at: PageAt,
        row: &[u8],
        (direction, from, to): (Direction, i64, i64),
        ahead: &mut Ahead<'s>,
        visitor: &mut impl Visitor,
    ) -> Result<bool> {
        match row.first() {
            Some(&LEAF) => visitor.leaf(LeafCursor::open(self.table, at.start, row)?),
            Some(&PAGE) => {
                let mut entries = Vec::with_capacity(64);
                page::entries(row, &mut entries)?;
                if direction == Direction::NewestFirst {
                    entries.reverse();
                }
                for entry in &entries {
                    let (_, first, last) = at.span_of(entry.node)?;
                    if last < from || first > to {
                        continue;
                    }
                    match visitor.entry(first, last, &entry.head()?)? {
                        Step::Skip => {}
                        Step::Stop => return Ok(false),
                        Step::Open => {
                            if !self.open(at.child(entry.node)?, (direction, from, to), ahead, visitor)? {
                                return Ok(false);
                            }
                            visitor.leave()?;
                        }
                    }
                }
                Ok(true)
            }
            _ => Err(broken()),
        }
    }

    /// Visits a row that a page told of.
    fn open(
        &self,
        at: PageAt,
        span: (Direction, i64, i64),
        ahead: &mut Ahead<'s>,
        visitor: &mut impl Visitor,
    ) -> Result<bool> {
        let missing = || Error::data_loss("a row of the trie is missing");
        if !ahead.steps() {
            let row = match self.cached(at) {
                Some(row) => Some(row),
                None if ahead.step() => None,
                None => Some(self.looked_up(at)?.ok_or_else(missing)?),
            };
            if let Some(row) = row {
                return self.visit(at, &row, span, ahead, visitor);
            }
        }
        self.rows.set(self.rows.get() + 1);
        let row = ahead.row(self.snapshot, &self.key_of(at))?.ok_or_else(missing)?;
        if row.first() == Some(&LEAF) {
            return visitor.leaf(LeafCursor::open(self.table, at.start, row)?);
        }
        let page = row.to_vec();
        self.visit(at, &page, span, ahead, visitor)
    }

    /// The key of a row.
    fn key_of(&self, at: PageAt) -> Ref<'_, [u8]> {
        let mut key = self.key.borrow_mut();
        key.truncate(self.prefix_length);
        at.write_key(&mut key);
        drop(key);
        Ref::map(self.key.borrow(), Vec::as_slice)
    }

    fn get(&self, at: PageAt) -> Result<Option<Row<'s>>> {
        match self.cached(at) {
            Some(row) => Ok(Some(row)),
            None => self.looked_up(at),
        }
    }

    fn looked_up(&self, at: PageAt) -> Result<Option<Row<'s>>> {
        let row = self.snapshot.inner().get(self.family, &self.key_of(at))?.map(Row::Stored);
        self.rows.set(self.rows.get() + u64::from(row.is_some()));
        Ok(row)
    }

    /// A row that was written lately.
    fn cached(&self, at: PageAt) -> Option<Row<'s>> {
        let row = self.snapshot.cached(&self.key_of(at)).map(Row::Cached);
        self.rows.set(self.rows.get() + u64::from(row.is_some()));
        row
    }
}
