//! Blocks: the records of one partition as bytes. A block is the unit of reading, checking and indexing.

use crate::{LogRecord, NewRecord};
use bytes::Bytes;
use thyme_core::record::{put_varint, take_varint};
use thyme_core::{Error, Result};

/// Where a block is cut: small enough that reading from its middle wastes little, large enough that an index entry per block
/// costs little.
pub const TARGET_BYTES: usize = 64 << 10;

/// Encoded records that stay together.
#[derive(Debug)]
pub struct Chunk {
    pub count: u32,
    pub bytes: Vec<u8>,
}

/// Encodes records into chunks of about [`TARGET_BYTES`].
pub fn encode(records: &[NewRecord]) -> Vec<Chunk> {
    let total: usize = records.iter().map(|record| record.key.len() + record.value.len() + 6).sum();
    let mut chunks = Vec::with_capacity(total / TARGET_BYTES + 1);
    let mut chunk = Chunk { count: 0, bytes: Vec::with_capacity(total.min(TARGET_BYTES + 1024)) };
    for record in records {
        put_varint(&mut chunk.bytes, record.key.len() as u64);
        chunk.bytes.extend_from_slice(&record.key);
        put_varint(&mut chunk.bytes, record.value.len() as u64);
        chunk.bytes.extend_from_slice(&record.value);
        chunk.count += 1;
        if chunk.bytes.len() >= TARGET_BYTES {
            let next = Chunk { count: 0, bytes: Vec::with_capacity(TARGET_BYTES + 1024) };
            chunks.push(std::mem::replace(&mut chunk, next));
        }
    }
    if chunk.count > 0 {
        chunks.push(chunk);
    }
    chunks
}

/// How much more a read may take.
#[derive(Debug)]
pub struct Budget {
    pub records: usize,
    pub bytes: usize,
}

impl Budget {
    pub fn is_spent(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }
}

/// Adds the records of a block at `from` or later to `out`, as slices of `block`, until the budget is spent. The first record
/// of `out` is always taken.
pub fn decode(
    block: &Bytes,
    base: u64,
    count: u32,
    from: u64,
    budget: &mut Budget,
    out: &mut Vec<LogRecord>,
) -> Result<()> {
    let whole = block.as_ref();
    let mut rest = whole;
    for offset in base..base + u64::from(count) {
        let (key_at, key_length) = take_span(whole, &mut rest)?;
        let (value_at, value_length) = take_span(whole, &mut rest)?;
        if offset < from {
            continue;
        }
        let size = key_length + value_length;
        if budget.is_spent() || (size > budget.bytes && !out.is_empty()) {
            budget.bytes = 0;
            return Ok(());
        }
        out.push(LogRecord {
            offset,
            key: block.slice(key_at..key_at + key_length),
            value: block.slice(value_at..value_at + value_length),
        });
        budget.records -= 1;
        budget.bytes = budget.bytes.saturating_sub(size.max(1));
    }
    Ok(())
}

fn take_span(whole: &[u8], rest: &mut &[u8]) -> Result<(usize, usize)> {
    let length = take_varint(rest)? as usize;
    let at = whole.len() - rest.len();
    *rest = rest.get(length..).ok_or_else(|| Error::data_loss("a block of the log does not decode"))?;
    Ok((at, length))
}
