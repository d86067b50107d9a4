//! Where the records of a partition are in the journal, and its most recent ones in memory.
//!
//! A large block has a span of its own. Small blocks share one: the stretch of whole frames that holds them, so that the
//! index grows with the bytes of the journal and not with the number of appends.

use super::block::{self, Budget, Extent};
use super::journal::{self, Entry, FRAME_HEADER, FrameHeader};
use super::store::Store;
use crate::LogRecord;
use bytes::Bytes;
use std::collections::VecDeque;
use thyme_core::{Error, ErrorKind, Result};

/// The longest stretch of frames that one span covers.
const RUN_BYTES: u64 = 64 << 10;
/// Spans this near to each other in a segment are read together.
const GAP: u64 = 4 << 10;
/// The longest read that joins spans.
const JOINED: u64 = 1 << 20;

/// Where a block is.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub segment: u32,
    /// The frame's first byte and the byte after its last.
    pub frame: (u64, u64),
    pub position: u64,
}

/// A block's own facts.
#[derive(Debug, Clone, Copy)]
pub struct BlockFacts {
    pub extent: Extent,
    pub length: u32,
    pub crc: u32,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    base: u64,
    count: u32,
    segment: u32,
    start: u64,
    end: u64,
    /// The block if the bytes are one, with its checksum; `None` if they are whole frames.
    block: Option<(Extent, u32)>,
}

/// A block whose bytes are in memory.
#[derive(Debug, Clone)]
struct Cached {
    extent: Extent,
    bytes: Bytes,
}

#[derive(Debug)]
pub struct Partition {
    topic: u32,
    number: u16,
    pub next_offset: u64,
    spans: Vec<Span>,
    /// The last blocks, without a hole.
    tail: VecDeque<Cached>,
}

/// What a read needs, taken under the lock and read without it.
#[derive(Debug)]
pub struct ReadPlan {
    topic: u32,
    partition: u16,
    spans: Vec<Span>,
    cached: Vec<Cached>,
}

impl Partition {
    pub fn new(topic: u32, number: u16) -> Partition {
        Partition { topic, number, next_offset: 0, spans: Vec::new(), tail: VecDeque::new() }
    }

    pub fn add(&mut self, block: BlockFacts, place: Place, bytes: Option<Bytes>) {
        let BlockFacts { extent, length, crc } = block;
        let Extent { base, count, .. } = extent;
        self.next_offset = extent.end();
        match bytes {
            Some(bytes) => self.tail.push_back(Cached { extent, bytes }),
            None => self.tail.clear(),
        }
        let (start, end) = place.frame;
        let segment = place.segment;
        if end - start > RUN_BYTES {
            let start = place.position;
            let end = start + u64::from(length);
            self.spans.push(Span { base, count, segment, start, end, block: Some((extent, crc)) });
            return;
        }
        match self.spans.last_mut() {
            Some(last) if last.block.is_none() && last.segment == segment && end - last.start <= RUN_BYTES => {
                last.count += count;
                last.end = end;
            }
            _ => self.spans.push(Span { base, count, segment, start, end, block: None }),
        }
    }

    /// Forgets the bytes of the oldest block that is in memory.
    pub fn evict(&mut self) {
        self.tail.pop_front();
    }

    pub fn plan(&self, from: u64, budget: &Budget) -> ReadPlan {
        let mut plan = ReadPlan { topic: self.topic, partition: self.number, spans: Vec::new(), cached: Vec::new() };
        let mut records = 0;
        let mut bytes = 0;
        let mut next = from;
        let first_cached = self.tail.front().map_or(self.next_offset, |block| block.extent.base);
        let first_span = self.spans.partition_point(|span| span.base + u64::from(span.count) <= from);
        for span in &self.spans[first_span..] {
            if span.base >= first_cached || next >= first_cached || records >= budget.records || bytes >= budget.bytes {
                break;
            }
            // Of the first span, most may lie before `from`: it counts as one record.
            records += if next == from { 1 } else { span.count as usize };
            bytes += if next == from { 1 } else { (span.end - span.start) as usize };
            next = span.base + u64::from(span.count);
            plan.spans.push(*span);
        }
        let first_block = self.tail.partition_point(|block| block.extent.end() <= next);
        for block in self.tail.range(first_block..) {
            if next < first_cached || records >= budget.records || bytes >= budget.bytes {
                break;
            }
            let skipped = next.max(block.extent.base) - block.extent.base;
            records += (u64::from(block.extent.count) - skipped) as usize;
            bytes += if skipped > 0 { 1 } else { block.bytes.len() };
            next = block.extent.end();
            plan.cached.push(block.clone());
        }
        plan
    }
}

impl ReadPlan {
    pub fn read(&self, store: &dyn Store, from: u64, mut budget: Budget) -> Result<Vec<LogRecord>> {
        let in_spans = self.spans.iter().map(|span| span.count as usize);
        let in_memory = self.cached.iter().map(|block| block.extent.count as usize);
        let expected: usize = in_spans.chain(in_memory).sum();
        let mut out = Vec::with_capacity(expected.min(budget.records));
        let mut rest = self.spans.as_slice();
        while !rest.is_empty() && !budget.is_spent() {
            let (joined, tail) = rest.split_at(joinable(rest));
            rest = tail;
            let (segment, start) = (joined[0].segment, joined[0].start);
            let length = joined.iter().map(|span| span.end - start).max().unwrap_or_default();
            let bytes = store
                .read(segment, start, length as usize)
                .map_err(|error| super::io_error(&format!("cannot read {}", store.name(segment)), &error))?;
            for span in joined {
                let slice = bytes.slice((span.start - start) as usize..(span.end - start) as usize);
                let read = match span.block {
                    Some((extent, crc)) => read_block(&slice, extent, crc, from, &mut budget, &mut out),
                    None => self.read_frames(&slice, span, from, &mut budget, &mut out),
                };
                read.map_err(|what| super::damaged(&store.name(segment), span.start, what.message()))?;
            }
        }
        for block in &self.cached {
            if budget.is_spent() {
                break;
            }
            // A span may reach into what is in memory as well.
            let next = out.last().map_or(from, |record| record.offset + 1);
            block::decode(&block.bytes, block.extent, next, &mut budget, &mut out)?;
        }
        Ok(out)
    }

    /// The blocks of this partition in a stretch of whole frames.
    fn read_frames(
        &self,
        bytes: &Bytes,
        span: &Span,
        from: u64,
        budget: &mut Budget,
        out: &mut Vec<LogRecord>,
    ) -> Result<()> {
        let mut at = 0;
        while at < bytes.len() && !budget.is_spent() {
            let position = span.start + at as u64;
            let header = FrameHeader::decode(&bytes[at..], span.segment, position)
                .ok_or_else(|| Error::data_loss("a frame has no valid header"))?;
            let end = at + header.frame_length() as usize;
            let meta = at + FRAME_HEADER..at + FRAME_HEADER + header.meta_length as usize;
            let mut block_at = meta.end;
            if end > bytes.len() || crc32fast::hash(&bytes[meta.clone()]) != header.meta_crc {
                return Err(Error::data_loss("a frame's meta fails its checksum"));
            }
            for entry in journal::decode_entries(&bytes[meta])? {
                let Entry::Block { topic, partition, base, count, length, crc, headers } = entry else { continue };
                let block_end = block_at + length as usize;
                let extent = Extent { base, count, headers };
                if topic == self.topic && partition == self.partition && extent.end() > from {
                    read_block(&bytes.slice(block_at..block_end), extent, crc, from, budget, out)?;
                }
                block_at = block_end;
            }
            at = end;
        }
        Ok(())
    }
}

fn read_block(
    block: &Bytes,
    extent: Extent,
    crc: u32,
    from: u64,
    budget: &mut Budget,
    out: &mut Vec<LogRecord>,
) -> Result<()> {
    if crc32fast::hash(block) != crc {
        return Err(Error::data_loss("a block fails its checksum"));
    }
    block::decode(block, extent, from, budget, out)
}

/// How many of the first spans lie close enough together for one read; at least one.
fn joinable(spans: &[Span]) -> usize {
    let start = spans[0].start;
    let near = spans.windows(2).take_while(|pair| {
        pair[0].segment == pair[1].segment
            && pair[1].start >= start
            && pair[1].start.saturating_sub(pair[0].end) <= GAP
            && pair[1].end - start <= JOINED
    });
    1 + near.count()
}

/// A read that begins beyond the last record.
pub fn past_end(topic: &str, partition: u16, from: u64, end: u64) -> Error {
    let message = format!("offset {from} is past the end of topic '{topic}' partition {partition}, which is {end}");
    Error::new(ErrorKind::OutOfRange, message)
}
