//! How far each consumer has read each partition of its log: (consumer, partition) -> next offset.

use crate::codec::{broken, key_u16, key_u32};
use crate::keys::{Family, MetaKey, RowKind, after_prefix};
use crate::snapshot::Snapshot;
use crate::tick::Tick;
use thyme_core::Result;

fn row_key(consumer: u32, partition: u16) -> MetaKey {
    MetaKey::new(RowKind::Progress).u32(consumer).u16(partition)
}

fn decode(bytes: &[u8]) -> Result<u64> {
    bytes.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)).ok_or_else(broken)
}

impl Tick {
    pub fn put_progress(&mut self, consumer: u32, partition: u16, next_offset: u64) -> Result<()> {
        self.put_meta(row_key(consumer, partition), &next_offset.to_be_bytes())
    }

    /// Forgets a consumer that is no more.
    pub fn delete_progress(&mut self, consumer: u32) -> Result<()> {
        let from = MetaKey::new(RowKind::Progress).u32(consumer).finish();
        self.delete_range(Family::Meta, &from, &after_prefix(&from))
    }
}

impl Snapshot {
    /// The next offset to read; `None` if the consumer has never committed on that partition.
    pub fn progress(&self, consumer: u32, partition: u16) -> Result<Option<u64>> {
        self.meta(row_key(consumer, partition))?.map(|bytes| decode(&bytes)).transpose()
    }

    /// All (consumer, partition, next offset).
    pub fn all_progress(&self) -> Result<Vec<(u32, u16, u64)>> {
        let mut found = Vec::new();
        self.scan_meta(MetaKey::new(RowKind::Progress), |key, value| {
            found.push((key_u32(key, 1)?, key_u16(key, 5)?, decode(value)?));
            Ok(true)
        })?;
        Ok(found)
    }
}
