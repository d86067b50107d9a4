//! Adding events to the trie: each row on their way is read once and written once per tick.
//!
//! The result depends only on the set of events: a page's entries are the blocks of at most 64 events whose parent block holds
//! more, whatever order they came in.

use super::coordinate::{Node, PageAt, Roots, coordinate, is_finest, is_left_of, time_of};
use super::leaf::{LEAF, LEAF_EVENTS, LeafCursor, RawEvent};
use super::page::{EntryBytes, PAGE, Summary};
use super::row_cache::{PendingRows, Row, RowCache};
use super::{body, leaf, page};
use crate::codec::broken;
use crate::keys::{Family, MetaKey};
use crate::model::{Event, Table};
use crate::rocks::{Rocks, translate};
use crate::store::StateStore;
use crate::tables::meta::{encode_blocks, table_blocks_key};
use hashbrown::HashMap;
use rocksdb::{ColumnFamily, WriteBatch};
use std::sync::Arc;
use thyme_core::failpoint::{Point, pass};
use thyme_core::{Error, Result, Value};

/// Collects what one tick does to the tries.
#[derive(Default)]
pub struct TrieWriter {
    buffers: Buffers,
    /// Root blocks that no event of the table stood in before.
    new_blocks: HashMap<u32, Vec<u32>>,
    /// What the registry held before this tick, to go back to if the write fails.
    replaced: Vec<(u32, Arc<Vec<u32>>)>,
    forgotten: Vec<u32>,
    pending: PendingRows,
    /// Rows went by ranges: the cache knows nothing of them.
    has_range_deletes: bool,
}

/// Memory reused from key to key.
#[derive(Default)]
struct Buffers {
    key: Vec<u8>,
    row: Vec<u8>,
    scratch: Vec<u8>,
    bodies: Vec<u8>,
    values: Vec<Value>,
}

impl TrieWriter {
    pub fn apply(
        &mut self,
        store: &StateStore,
        batch: &mut WriteBatch,
        table: &Table,
        prefix: &[u8],
        events: Vec<Event>,
        is_erased: bool,
    ) -> Result<()> {
        let mut bodies = std::mem::take(&mut self.buffers.bodies);
        bodies.clear();
        let mut raw_events = Vec::with_capacity(events.len());
        let mut ends = Vec::with_capacity(events.len());
        for event in &events {
            check(table, event)?;
            body::encode(&table.layout, event.time, &event.values, event.predicates, &mut bodies)?;
            ends.push(bodies.len());
        }
        let mut from = 0;
        for (index, (event, end)) in events.iter().zip(&ends).enumerate() {
            raw_events.push(RawEvent {
                coordinate: coordinate(event.time, event.origin)?,
                sequence: event.sequence,
                append_time: event.append_time,
                body: &bodies[from..*end],
                incoming: Some(index as u32),
            });
            from = *end;
        }
        sort(&mut raw_events)?;
        let rocks = store.rocks();
        self.buffers.key.clear();
        self.buffers.key.extend_from_slice(prefix);
        self.buffers.values.clear();
        self.buffers.values.resize(table.layout.columns.len(), Value::Null);
        let mut wanted = vec![false; table.layout.columns.len()];
        for column in table.layout.partials.iter().filter_map(|spec| spec.column) {
            wanted[usize::from(column)] = true;
        }
        let mut insertion = Insertion {
            rocks,
            family: rocks.family(Family::Trie)?,
            batch,
            table,
            prefix_length: prefix.len(),
            incoming: &events,
            wanted,
            is_erased,
            cache: &store.row_cache,
            pending: &mut self.pending,
            buffers: &mut self.buffers,
        };
        let roots = Roots::of(&table.layout);
        let mut rest = raw_events.as_slice();
        while let Some(first) = rest.first() {
            let block = roots.block_of(first.coordinate);
            let length = rest.partition_point(|event| roots.block_of(event.coordinate) == block);
            let (head, tail) = rest.split_at(length);
            if insertion.insert_block(roots.page(block), head)? {
                note_block(&mut self.new_blocks, store, table.id, block);
            }
            rest = tail;
        }
        self.buffers.bodies = bodies;
        Ok(())
    }

    pub fn forget_table(&mut self, id: u32) {
        self.forgotten.push(id);
        self.forget_rows();
    }

    /// Deletes a row by its key.
    pub fn delete_row(&mut self, family: &ColumnFamily, batch: &mut WriteBatch, key: &[u8]) {
        batch.delete_cf(family, key);
        self.pending.push((key.into(), None));
    }

    /// Rows are deleted by a range.
    pub fn forget_rows(&mut self) {
        self.has_range_deletes = true;
    }

    /// Adds the new root blocks to the batch and shows them to readers, who must not miss them once the batch is written.
    pub fn finish(&mut self, store: &StateStore, batch: &mut WriteBatch) -> Result<()> {
        for (table, mut blocks) in self.new_blocks.drain() {
            let known = store.blocks.get(table);
            blocks.extend_from_slice(&known);
            blocks.sort_unstable();
            blocks.dedup();
            let key = MetaKey::finish(table_blocks_key(table));
            batch.put_cf(store.rocks().family(Family::Meta)?, key, encode_blocks(&blocks));
            self.replaced.push((table, known));
            store.blocks.set(table, Arc::new(blocks));
        }
        Ok(())
    }

    pub fn settle(&mut self, store: &StateStore, is_written: bool) {
        if is_written {
            for table in self.forgotten.drain(..) {
                store.blocks.remove(table);
            }
        } else {
            for (table, known) in self.replaced.drain(..) {
                store.blocks.set(table, known);
            }
        }
        let sequence = store.rocks().db().latest_sequence_number();
        if is_written && !self.has_range_deletes {
            store.row_cache.commit(std::mem::take(&mut self.pending), sequence);
        } else {
            store.row_cache.clear(sequence);
        }
    }
}

fn note_block(new_blocks: &mut HashMap<u32, Vec<u32>>, store: &StateStore, table: u32, block: u32) {
    if store.blocks.contains(table, block) {
        return;
    }
    let blocks = new_blocks.entry(table).or_default();
    if !blocks.contains(&block) {
        blocks.push(block);
    }
}

fn check(table: &Table, event: &Event) -> Result<()> {
    if !table.routed && event.origin.offset != event.sequence {
        return Err(Error::internal("an event of a table that is not routed has another offset than its sequence"));
    }
    Ok(())
}

/// Sorts by coordinate; the same coordinate twice is an event applied twice.
fn sort(events: &mut [RawEvent<'_>]) -> Result<()> {
    if !events.is_sorted_by(|a, b| a.coordinate < b.coordinate) {
        events.sort_unstable_by_key(|event| event.coordinate);
        if let Some(pair) = events.windows(2).find(|pair| pair[0].coordinate == pair[1].coordinate) {
            return Err(Error::internal(format!(
                "an event was applied twice, time={} sequence={}",
                time_of(pair[0].coordinate),
                pair[0].sequence
            )));
        }
    }
    Ok(())
}

/// Adding events to one key.
struct Insertion<'a> {
    rocks: &'a Rocks,
    family: &'a ColumnFamily,
    batch: &'a mut WriteBatch,
    table: &'a Table,
    prefix_length: usize,
    incoming: &'a [Event],
    /// Columns that partials need.
    wanted: Vec<bool>,
    is_erased: bool,
    cache: &'a RowCache,
    pending: &'a mut PendingRows,
    buffers: &'a mut Buffers,
}

impl<'a> Insertion<'a> {
    /// Adds events (ascending, all of one root block). True if the key had none there.
    fn insert_block(&mut self, root: PageAt, events: &[RawEvent<'_>]) -> Result<bool> {
        let Some(row) = self.get(root)? else {
            self.put_events(root, events)?;
            return Ok(true);
        };
        match row.first() {
            Some(&LEAF) if leaf::count(&row)? + events.len() <= LEAF_EVENTS => self.extend_leaf(root, &row, events)?,
            Some(&LEAF) => {
                let merged = self.merged(root, &row, events)?;
                pass(Point::LeafSplit)?;
                self.put_page(root, &merged)?;
            }
            Some(&PAGE) => {
                self.update_page(root, &row, events)?;
            }
            _ => return Err(broken()),
        }
        Ok(false)
    }

    /// Writes the row of a block that was empty; gives it if it is a page.
    fn put_events(&mut self, at: PageAt, events: &[RawEvent<'_>]) -> Result<Option<Vec<u8>>> {
        if events.len() > LEAF_EVENTS {
            self.put_page(at, events).map(Some)
        } else {
            self.put_leaf(at, events).map(|()| None)
        }
    }

    fn put_leaf(&mut self, at: PageAt, events: &[RawEvent<'_>]) -> Result<()> {
        let mut row = std::mem::take(&mut self.buffers.row);
        row.clear();
        leaf::encode(self.table, at.start, events, &mut row)?;
        self.put(at, &row);
        self.buffers.row = row;
        Ok(())
    }

    fn put_page(&mut self, at: PageAt, events: &[RawEvent<'_>]) -> Result<Vec<u8>> {
        let mut row = vec![PAGE];
        self.build_halves(at, 1, events, &mut row)?;
        self.put(at, &row);
        Ok(row)
    }

    /// Writes a leaf that has room for the events.
    fn extend_leaf(&mut self, at: PageAt, row: &[u8], events: &[RawEvent<'_>]) -> Result<()> {
        let mut out = std::mem::take(&mut self.buffers.row);
        out.clear();
        if leaf::prepend(self.table, at.start, row, events, &mut out)?.is_none() {
            let merged = self.merged(at, row, events)?;
            leaf::encode(self.table, at.start, &merged, &mut out)?;
        }
        self.put(at, &out);
        self.buffers.row = out;
        Ok(())
    }

    fn merged<'e>(&self, at: PageAt, row: &'e [u8], events: &[RawEvent<'e>]) -> Result<Vec<RawEvent<'e>>>
    where
        'a: 'e,
    {
        let mut merged = Vec::with_capacity(LEAF_EVENTS + events.len());
        LeafCursor::open(self.table, at.start, row)?.into_events(&mut merged)?;
        merged.extend_from_slice(events);
        sort(&mut merged)?;
        Ok(merged)
    }

    fn update_page(&mut self, at: PageAt, row: &[u8], events: &[RawEvent<'_>]) -> Result<Vec<u8>> {
        let mut entries = Vec::with_capacity(64);
        page::entries(row, &mut entries)?;
        let mut out = Vec::with_capacity(row.len() + 64 * events.len().min(8));
        out.push(PAGE);
        self.place(at, 1, &entries, events, &mut out)?;
        self.put(at, &out);
        Ok(out)
    }

    /// Writes the entries of `node` with the events added.
    fn place(
        &mut self,
        page: PageAt,
        node: Node,
        entries: &[EntryBytes<'_>],
        events: &[RawEvent<'_>],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if events.is_empty() {
            for entry in entries {
                out.extend_from_slice(entry.whole);
            }
            return Ok(());
        }
        match entries {
            [] => self.build(page, node, events, out),
            [entry] if entry.node == node => self.extend_entry(page, entry, events, out),
            _ => {
                if is_finest(node) {
                    return Err(broken());
                }
                let middle = page.start_of(2 * node + 1)?;
                let (left, right) = entries.split_at(entries.partition_point(|entry| is_left_of(node, entry.node)));
                let (before, after) = events.split_at(events.partition_point(|event| event.coordinate < middle));
                self.place(page, 2 * node, left, before, out)?;
                self.place(page, 2 * node + 1, right, after, out)
            }
        }
    }

    /// Writes the entries and rows of a node that was empty.
    fn build(&mut self, page: PageAt, node: Node, events: &[RawEvent<'_>], out: &mut Vec<u8>) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        if events.len() > LEAF_EVENTS && !is_finest(node) {
            return self.build_halves(page, node, events, out);
        }
        let child = self.put_events(page.child(node)?, events)?;
        let summary = Summary::empty(&self.table.layout);
        self.put_entry(node, summary, events, child.as_deref(), out)
    }

    fn build_halves(&mut self, page: PageAt, node: Node, events: &[RawEvent<'_>], out: &mut Vec<u8>) -> Result<()> {
        let middle = page.start_of(2 * node + 1)?;
        let (before, after) = events.split_at(events.partition_point(|event| event.coordinate < middle));
        self.build(page, 2 * node, before, out)?;
        self.build(page, 2 * node + 1, after, out)
    }

    fn extend_entry(
        &mut self,
        page: PageAt,
        entry: &EntryBytes<'_>,
        events: &[RawEvent<'_>],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let head = entry.head()?;
        let at = page.child(entry.node)?;
        let row = self.get(at)?.ok_or_else(broken)?;
        let is_page = head.count > LEAF_EVENTS as u64;
        let mut child = None;
        if is_page {
            child = Some(self.update_page(at, &row, events)?);
        } else if head.count as usize + events.len() <= LEAF_EVENTS {
            self.extend_leaf(at, &row, events)?;
        } else {
            let merged = self.merged(at, &row, events)?;
            if !is_finest(entry.node) {
                return self.split(page, entry.node, &merged, out);
            }
            child = Some(self.put_page(at, &merged)?);
        }
        let summary = Summary::of(&self.table.layout, &head)?;
        self.put_entry(entry.node, summary, events, child.as_deref(), out)
    }

    /// Replaces a leaf that has become too full by the leaves of its halves.
    fn split(&mut self, page: PageAt, node: Node, events: &[RawEvent<'_>], out: &mut Vec<u8>) -> Result<()> {
        let first_entry_at = out.len();
        self.build_halves(page, node, events, out)?;
        pass(Point::LeafSplit)?;
        let first_entry = *out.get(first_entry_at).ok_or_else(broken)?;
        let is_overwritten = page.start_of(first_entry)? == page.start_of(node)?;
        if !is_overwritten {
            self.write_key(page.child(node)?);
            self.batch.delete_cf(self.family, &self.buffers.key);
            self.pending.push((self.buffers.key.as_slice().into(), None));
        }
        Ok(())
    }

    /// Writes the entry of a node with the events added; `child` is its row if that is a page.
    fn put_entry(
        &mut self,
        node: Node,
        mut summary: Summary,
        events: &[RawEvent<'_>],
        child: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let layout = &self.table.layout;
        for event in events {
            if let Some(incoming) = event.incoming.and_then(|index| self.incoming.get(index as usize)) {
                summary.add(layout, event, &incoming.values, incoming.predicates);
            } else {
                let time = time_of(event.coordinate);
                let values = &mut self.buffers.values;
                let predicates = body::decode(layout, time, &mut &*event.body, &self.wanted, values)?;
                summary.add(layout, event, values, predicates);
            }
        }
        if let Some(row) = child {
            summary.take_digests(layout, row)?;
        }
        summary.encode(layout, node, &mut self.buffers.scratch, out);
        Ok(())
    }

    fn write_key(&mut self, at: PageAt) {
        self.buffers.key.truncate(self.prefix_length);
        at.write_key(&mut self.buffers.key);
    }

    fn get(&mut self, at: PageAt) -> Result<Option<Row<'a>>> {
        if self.is_erased {
            return Ok(None);
        }
        self.write_key(at);
        if self.cache.is_enabled()
            && let Some(row) = self.cache.newest(&self.buffers.key)
        {
            return Ok(Some(Row::Cached(row)));
        }
        let stored = self.rocks.db().get_pinned_cf(self.family, &self.buffers.key).map_err(translate)?;
        Ok(stored.map(Row::Stored))
    }

    fn put(&mut self, at: PageAt, row: &[u8]) {
        self.write_key(at);
        self.batch.put_cf(self.family, &self.buffers.key, row);
        if self.cache.is_enabled() {
            self.pending.push((self.buffers.key.as_slice().into(), Some(row.into())));
        }
    }
}
