//! Erased keys: (log, partition, key) -> offsets of the erase records, in log order. On a replay, events of the key below the last
//! one are not accepted. The earlier ones tell what a table leaves out that knows the erases up to a place before the last.

use crate::codec::broken;
use crate::keys::{MetaKey, RowKind};
use crate::snapshot::Snapshot;
use crate::tick::Tick;
use thyme_core::Result;

const KEY_AT: usize = 7;

fn row_key(log: u32, partition: u16) -> MetaKey {
    MetaKey::new(RowKind::Erased).u32(log).u16(partition)
}

/// Offsets one after the other. Rows of an older build hold one.
fn decode(bytes: &[u8]) -> Result<Vec<u64>> {
    let (offsets, rest) = bytes.as_chunks::<8>();
    if offsets.is_empty() || !rest.is_empty() {
        return Err(broken());
    }
    Ok(offsets.iter().map(|offset| u64::from_be_bytes(*offset)).collect())
}

impl Tick {
    /// All erases of the key so far, in log order.
    pub fn put_erased(&mut self, log: u32, partition: u16, key: &[u8], offsets: &[u64]) -> Result<()> {
        let value: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        self.put_meta(row_key(log, partition).bytes(key), &value)
    }
}

impl Snapshot {
    /// Offsets of the key's erases, in log order; empty if it was never erased.
    pub fn erased(&self, log: u32, partition: u16, key: &[u8]) -> Result<Vec<u64>> {
        self.meta(row_key(log, partition).bytes(key))?.map_or_else(|| Ok(Vec::new()), |bytes| decode(&bytes))
    }

    /// Whether a key of the partition has an erase at `offset` or behind it.
    pub fn is_erased_from(&self, log: u32, partition: u16, offset: u64) -> Result<bool> {
        let mut is_erased = false;
        self.scan_meta(row_key(log, partition), |_, value| {
            is_erased = decode(value)?.last().is_some_and(|last| *last >= offset);
            Ok(!is_erased)
        })?;
        Ok(is_erased)
    }

    /// All erased keys of a partition with the offsets of their erases, in log order.
    pub fn all_erased(&self, log: u32, partition: u16) -> Result<Vec<(Vec<u8>, Vec<u64>)>> {
        let mut found = Vec::new();
        self.scan_meta(row_key(log, partition), |key, value| {
            found.push((key.get(KEY_AT..).ok_or_else(broken)?.to_vec(), decode(value)?));
            Ok(true)
        })?;
        Ok(found)
    }
}
