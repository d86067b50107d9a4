//! Insertion.

use crate::model::{Event, Table};
use crate::store::StateStore;
use rocksdb::WriteBatch;
use thyme_core::Result;

#[derive(Default)]
pub struct TrieWriter {}

impl TrieWriter {
    pub fn apply(
        &mut self,
        _store: &StateStore,
        _batch: &mut WriteBatch,
        _table: &Table,
        _prefix: &[u8],
        _events: Vec<Event>,
        _is_erased: bool,
    ) -> Result<()> {
        Ok(())
    }
    pub fn forget_table(&mut self, _id: u32) {}
    pub fn finish(&mut self, _store: &StateStore, _batch: &mut WriteBatch) -> Result<()> {
        Ok(())
    }
    pub fn settle(&mut self, _store: &StateStore, _written: bool) {}
}
