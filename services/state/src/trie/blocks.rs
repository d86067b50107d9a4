//! Which root blocks each table has, so that a reader of a long window asks only for rows that may exist.

use crate::rocks::OwnedSnapshot;
use crate::tables::meta::read_all_blocks;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;
use thyme_core::Result;

/// Per table the root blocks that hold events of any key, ascending. May name more than a snapshot sees, never less.
#[derive(Default)]
pub struct BlockRegistry {
    tables: RwLock<HashMap<u32, Arc<Vec<u32>>>>,
}

impl BlockRegistry {
    pub fn load(snapshot: &OwnedSnapshot) -> Result<BlockRegistry> {
        let tables = read_all_blocks(snapshot)?.into_iter().map(|(table, blocks)| (table, Arc::new(blocks))).collect();
        Ok(BlockRegistry { tables: RwLock::new(tables) })
    }

    pub fn get(&self, table: u32) -> Arc<Vec<u32>> {
        self.tables.read().get(&table).cloned().unwrap_or_default()
    }

    pub fn contains(&self, table: u32, block: u32) -> bool {
        self.tables.read().get(&table).is_some_and(|blocks| blocks.binary_search(&block).is_ok())
    }

    pub fn set(&self, table: u32, blocks: Arc<Vec<u32>>) {
        self.tables.write().insert(table, blocks);
    }

    pub fn remove(&self, table: u32) {
        self.tables.write().remove(&table);
    }
}
