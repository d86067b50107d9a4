//! A tick: everything one round of the engine changes, written in one atomic batch.

use crate::keys::{Family, MetaKey, after_prefix, table_slice, write_trie_prefix};
use crate::model::{Durability, Event, Table};
use crate::store::StateStore;
use crate::trie::insert::TrieWriter;
use hashbrown::HashSet;
use rocksdb::WriteBatch;
use std::sync::Arc;
use thyme_core::Result;
use thyme_core::failpoint::{Point, pass};

/// Changes that become visible and durable together at [`Tick::commit`]; dropped without it, they never were.
pub struct Tick {
    store: Arc<StateStore>,
    pub(crate) batch: WriteBatch,
    writer: TrieWriter,
    /// Row prefixes of keys erased in this tick: their committed rows no longer count.
    erased: HashSet<Vec<u8>>,
    events: u64,
}

impl Tick {
    pub(crate) fn new(store: Arc<StateStore>) -> Tick {
        Tick { store, batch: WriteBatch::default(), writer: TrieWriter::default(), erased: HashSet::new(), events: 0 }
    }

    /// Adds events of one key to a table, in any order. At most once per (table, key) and tick: the rows it reads are the
    /// committed ones. (An erase may come before it.)
    pub fn apply(&mut self, table: &Table, key: &[u8], events: Vec<Event>) -> Result<()> {
        self.events += events.len() as u64;
        let mut prefix = Vec::with_capacity(key.len() + 5);
        write_trie_prefix(&mut prefix, table.id, key);
        let is_erased = !self.erased.is_empty() && self.erased.contains(&prefix);
        self.writer.apply(&self.store, &mut self.batch, table, &prefix, events, is_erased)
    }

    /// Deletes all events of a key: those committed, and those applied earlier in this tick.
    pub fn erase_key(&mut self, table: &Table, key: &[u8]) -> Result<()> {
        let mut prefix = Vec::with_capacity(key.len() + 5);
        write_trie_prefix(&mut prefix, table.id, key);
        let end = after_prefix(&prefix);
        self.batch.delete_range_cf(self.store.rocks().family(Family::Trie)?, &prefix, &end);
        self.erased.insert(prefix);
        self.writer.forget_rows();
        Ok(())
    }

    pub(crate) fn delete_row(&mut self, key: &[u8]) -> Result<()> {
        self.writer.delete_row(self.store.rocks().family(Family::Trie)?, &mut self.batch, key);
        Ok(())
    }

    pub(crate) fn drop_table(&mut self, id: u32) -> Result<()> {
        for vnode in 0..=u8::MAX {
            let (from, to) = table_slice(vnode, id);
            self.batch.delete_range_cf(self.store.rocks().family(Family::Trie)?, from, to);
        }
        self.writer.forget_table(id);
        self.delete_meta(crate::tables::meta::table_blocks_key(id))
    }

    /// How many events were applied so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes of the write so far.
    pub fn size_in_bytes(&self) -> usize {
        self.batch.size_in_bytes()
    }

    /// Writes everything, all or nothing. Snapshots taken afterwards see it.
    pub fn commit(mut self, durability: Durability) -> Result<()> {
        let store = self.store.clone();
        let _turn = store.commits.lock();
        self.writer.finish(&store, &mut self.batch)?;
        let batch = std::mem::take(&mut self.batch);
        let written =
            pass(Point::TickReady).and_then(|()| store.rocks().write(batch, durability == Durability::Synced));
        self.writer.settle(&store, written.is_ok());
        written
    }

    pub(crate) fn put_meta(&mut self, key: MetaKey, value: &[u8]) -> Result<()> {
        self.batch.put_cf(self.store.rocks().family(Family::Meta)?, key.finish(), value);
        Ok(())
    }

    pub(crate) fn delete_meta(&mut self, key: MetaKey) -> Result<()> {
        self.batch.delete_cf(self.store.rocks().family(Family::Meta)?, key.finish());
        Ok(())
    }

    pub(crate) fn put(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.put_cf(self.store.rocks().family(family)?, key, value);
        Ok(())
    }

    pub(crate) fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) -> Result<()> {
        self.batch.delete_range_cf(self.store.rocks().family(family)?, from, to);
        Ok(())
    }
}
