//! Erased keys: (log, partition, key) -> offset of the erase record. On a replay, events of the key below it are not accepted.

use crate::codec::broken;
use crate::keys::{MetaKey, RowKind};
use crate::snapshot::Snapshot;
use crate::tick::Tick;
use thyme_core::Result;

const KEY_AT: usize = 7;

fn row_key(log: u32, partition: u16) -> MetaKey {
    MetaKey::new(RowKind::Erased).u32(log).u16(partition)
}

fn decode(bytes: &[u8]) -> Result<u64> {
    bytes.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)).ok_or_else(broken)
}

impl Tick {
    pub fn put_erased(&mut self, log: u32, partition: u16, key: &[u8], offset: u64) -> Result<()> {
        self.put_meta(row_key(log, partition).bytes(key), &offset.to_be_bytes())
    }
}

impl Snapshot {
    /// Offset of the newest erase of the key.
    pub fn erased(&self, log: u32, partition: u16, key: &[u8]) -> Result<Option<u64>> {
        self.meta(row_key(log, partition).bytes(key))?.map(|bytes| decode(&bytes)).transpose()
    }

    /// All erased keys of a partition with the offset of their newest erase.
    pub fn all_erased(&self, log: u32, partition: u16) -> Result<Vec<(Vec<u8>, u64)>> {
        let mut found = Vec::new();
        self.scan_meta(row_key(log, partition), |key, value| {
            found.push((key.get(KEY_AT..).ok_or_else(broken)?.to_vec(), decode(value)?));
            Ok(true)
        })?;
        Ok(found)
    }
}
