//! Blocks: the records of one partition as bytes. A block is the unit of reading, checking and indexing.

use crate::{Headers, LogRecord, NewRecord};
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
    /// Whether the records carry headers.
    pub headers: bool,
    pub bytes: Vec<u8>,
}

/// Encodes records into chunks of about [`TARGET_BYTES`].
pub fn encode(records: &[NewRecord]) -> Vec<Chunk> {
    let total: usize = records.iter().map(|record| record.key.len() + record.value.len() + 6).sum();
    let headers = records.iter().any(|record| !record.headers.is_empty());
    let mut chunks = Vec::with_capacity(total / TARGET_BYTES + 1);
    let mut chunk = Chunk { count: 0, headers, bytes: Vec::with_capacity(total.min(TARGET_BYTES + 1024)) };
    for record in records {
        put_span(&mut chunk.bytes, &record.key);
        put_span(&mut chunk.bytes, &record.value);
        if headers {
            put_varint(&mut chunk.bytes, record.headers.len() as u64);
            for (name, value) in &record.headers {
                put_span(&mut chunk.bytes, name.as_bytes());
                put_span(&mut chunk.bytes, value);
            }
        }
        chunk.count += 1;
        if chunk.bytes.len() >= TARGET_BYTES {
            let next = Chunk { count: 0, headers, bytes: Vec::with_capacity(TARGET_BYTES + 1024) };
            chunks.push(std::mem::replace(&mut chunk, next));
        }
    }
    if chunk.count > 0 {
        chunks.push(chunk);
    }
    chunks
}

fn put_span(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The offsets of a block's records, and their form.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub base: u64,
    pub count: u32,
    /// Whether the records carry headers.
    pub headers: bool,
}

impl Extent {
    pub fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }
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
pub fn decode(block: &Bytes, extent: Extent, from: u64, budget: &mut Budget, out: &mut Vec<LogRecord>) -> Result<()> {
    let whole = block.as_ref();
    let mut rest = whole;
    for offset in extent.base..extent.end() {
        let (key_at, key_length) = take_span(whole, &mut rest)?;
        let (value_at, value_length) = take_span(whole, &mut rest)?;
        let headers = if extent.headers { take_headers(block, &mut rest)? } else { Headers::new() };
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
            headers,
        });
        budget.records -= 1;
        budget.bytes = budget.bytes.saturating_sub(size.max(1));
    }
    Ok(())
}

fn take_headers(block: &Bytes, rest: &mut &[u8]) -> Result<Headers> {
    let count = take_varint(rest)? as usize;
    let mut headers = Headers::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        let (name_at, name_length) = take_span(block, rest)?;
        let (value_at, value_length) = take_span(block, rest)?;
        let name = std::str::from_utf8(&block[name_at..name_at + name_length]).map_err(|_| broken())?;
        headers.push((name.to_string(), block.slice(value_at..value_at + value_length)));
    }
    Ok(headers)
}

fn broken() -> Error {
    Error::data_loss("a block of the log does not decode")
}

fn take_span(whole: &[u8], rest: &mut &[u8]) -> Result<(usize, usize)> {
    let length = take_varint(rest)? as usize;
    let at = whole.len() - rest.len();
    *rest = rest.get(length..).ok_or_else(broken)?;
    Ok((at, length))
}
