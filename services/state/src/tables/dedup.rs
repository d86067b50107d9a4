//! Event ids that were accepted, kept for the dedup window. Rows stand in buckets of append time, so that a bucket that has left
//! the window goes by one range delete. What a bucket is, the engine decides.

use super::bitmap::Bitmap;
use crate::keys::{Family, after_prefix};
use crate::snapshot::Snapshot;
use crate::tick::Tick;
use thyme_core::Result;

/// Which ids a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DedupId {
    /// Rows `chunk * 4096 ..` of an SDK call; the row's bits are the row numbers seen.
    Call { call: u128, chunk: u32 },
    /// One id given by the caller, hashed together with the entity key; the row's being there says it was seen.
    Given([u8; 16]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DedupKey {
    pub log: u32,
    pub partition: u16,
    pub bucket: u64,
    pub id: DedupId,
}

impl DedupKey {
    fn encode(&self) -> Vec<u8> {
        let mut key = partition_prefix(self.log, self.partition);
        key.extend_from_slice(&self.bucket.to_be_bytes());
        match &self.id {
            DedupId::Call { call, chunk } => {
                key.push(0);
                key.extend_from_slice(&call.to_be_bytes());
                key.extend_from_slice(&chunk.to_be_bytes());
            }
            DedupId::Given(hash) => {
                key.push(1);
                key.extend_from_slice(hash);
            }
        }
        key
    }
}

fn partition_prefix(log: u32, partition: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(40);
    key.extend_from_slice(&log.to_be_bytes());
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

impl Tick {
    /// Stores the rows of a call seen so far (`DedupId::Call`; the caller adds to what was there), or that an id was seen
    /// (`DedupId::Given`; the bitmap is not kept).
    pub fn put_dedup(&mut self, key: &DedupKey, rows: &Bitmap) -> Result<()> {
        match key.id {
            DedupId::Call { .. } => self.put(Family::Dedup, &key.encode(), &rows.encode()),
            DedupId::Given(_) => self.put(Family::Dedup, &key.encode(), &[]),
        }
    }

    /// Drops all buckets below `bucket`.
    pub fn expire_dedup(&mut self, log: u32, partition: u16, bucket: u64) -> Result<()> {
        let from = partition_prefix(log, partition);
        let mut to = from.clone();
        to.extend_from_slice(&bucket.to_be_bytes());
        self.delete_range(Family::Dedup, &from, &to)
    }

    /// Drops all ids of a log.
    pub fn delete_dedup(&mut self, log: u32) -> Result<()> {
        let from = log.to_be_bytes();
        self.delete_range(Family::Dedup, &from, &after_prefix(&from))
    }
}

impl Snapshot {
    /// The rows seen of a call's chunk (empty bitmap for a `Given` id that was seen); `None` if there is no such row.
    pub fn dedup(&self, key: &DedupKey) -> Result<Option<Bitmap>> {
        self.row(Family::Dedup, &key.encode())?.map(|bytes| Bitmap::decode(&bytes)).transpose()
    }
}
