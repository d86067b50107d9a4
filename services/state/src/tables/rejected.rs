//! Rows that did not become events: dead letters (could not be processed) and samples of late drops. Both are tables
//! (log, partition, offset) -> reason, entity key, record.

use crate::codec::{broken, key_u16, key_u64, put_bytes, put_signed, take_bytes, take_signed};
use crate::keys::{MetaKey, RowKind};
use crate::snapshot::Snapshot;
use crate::tick::Tick;
use thyme_core::Result;

/// One rejected row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub partition: u16,
    pub offset: u64,
    /// When the row entered the log, microseconds.
    pub append_time: i64,
    /// Why, as a user reads it.
    pub reason: String,
    /// The encoded entity key, by which `erase` finds it; empty if the row had none.
    pub key: Vec<u8>,
    /// The row as it came.
    pub record: Vec<u8>,
}

fn row_key(kind: RowKind, log: u32) -> MetaKey {
    MetaKey::new(kind).u32(log)
}

fn encode(row: &Rejected) -> Vec<u8> {
    let mut out = Vec::with_capacity(row.reason.len() + row.key.len() + row.record.len() + 16);
    put_signed(&mut out, row.append_time);
    put_bytes(&mut out, row.reason.as_bytes());
    put_bytes(&mut out, &row.key);
    put_bytes(&mut out, &row.record);
    out
}

fn decode(key: &[u8], mut value: &[u8]) -> Result<Rejected> {
    Ok(Rejected {
        partition: key_u16(key, 5)?,
        offset: key_u64(key, 7)?,
        append_time: take_signed(&mut value)?,
        reason: String::from_utf8(take_bytes(&mut value)?.to_vec()).map_err(|_| broken())?,
        key: take_bytes(&mut value)?.to_vec(),
        record: take_bytes(&mut value)?.to_vec(),
    })
}

impl Tick {
    pub fn put_dead_letter(&mut self, log: u32, row: &Rejected) -> Result<()> {
        self.put_meta(row_key(RowKind::DeadLetter, log).u16(row.partition).u64(row.offset), &encode(row))
    }
    pub fn put_late_sample(&mut self, log: u32, row: &Rejected) -> Result<()> {
        self.put_meta(row_key(RowKind::LateSample, log).u16(row.partition).u64(row.offset), &encode(row))
    }
    pub fn delete_dead_letter(&mut self, log: u32, partition: u16, offset: u64) -> Result<()> {
        self.delete_meta(row_key(RowKind::DeadLetter, log).u16(partition).u64(offset))
    }
    pub fn delete_late_sample(&mut self, log: u32, partition: u16, offset: u64) -> Result<()> {
        self.delete_meta(row_key(RowKind::LateSample, log).u16(partition).u64(offset))
    }
}

impl Snapshot {
    /// Up to `limit` dead letters of a log, by partition and offset; those of one entity key if it is given.
    pub fn dead_letters(&self, log: u32, key: Option<&[u8]>, limit: usize) -> Result<Vec<Rejected>> {
        self.rejected(RowKind::DeadLetter, log, key, limit)
    }

    /// Up to `limit` samples of late rows of a log, by partition and offset; those of one entity key if it is given.
    pub fn late_samples(&self, log: u32, key: Option<&[u8]>, limit: usize) -> Result<Vec<Rejected>> {
        self.rejected(RowKind::LateSample, log, key, limit)
    }

    fn rejected(&self, kind: RowKind, log: u32, key: Option<&[u8]>, limit: usize) -> Result<Vec<Rejected>> {
        let mut found = Vec::new();
        self.scan_meta(row_key(kind, log), |row, value| {
            if found.len() >= limit {
                return Ok(false);
            }
            let rejected = decode(row, value)?;
            if key.is_none_or(|wanted| wanted == rejected.key) {
                found.push(rejected);
            }
            Ok(true)
        })?;
        Ok(found)
    }
}
