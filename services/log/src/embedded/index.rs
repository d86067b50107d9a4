//! Where the blocks of a partition are, and its most recent ones in memory.

use super::block::{self, Budget};
use super::store::Store;
use crate::LogRecord;
use bytes::Bytes;
use std::collections::VecDeque;
use thyme_core::{Error, Result};

/// Blocks this near to each other in a segment are read together.
const GAP: u64 = 4 << 10;
/// Longest read that joins blocks.
const JOINED: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlace {
    pub base: u64,
    pub count: u32,
    pub length: u32,
    pub crc: u32,
    pub segment: u32,
    pub position: u64,
}

impl BlockPlace {
    fn end(&self) -> u64 {
        self.position + u64::from(self.length)
    }
}

#[derive(Debug, Default)]
pub struct Partition {
    pub next_offset: u64,
    blocks: Vec<BlockPlace>,
    /// The bytes of the last blocks.
    tail: VecDeque<Bytes>,
}

/// What a read needs, taken under the lock and read without it.
#[derive(Debug, Default)]
pub struct ReadPlan {
    stored: Vec<BlockPlace>,
    cached: Vec<(BlockPlace, Bytes)>,
}

impl Partition {
    pub fn add(&mut self, place: BlockPlace, bytes: Option<Bytes>) {
        self.next_offset = place.base + u64::from(place.count);
        self.blocks.push(place);
        match bytes {
            Some(bytes) => self.tail.push_back(bytes),
            None => self.tail.clear(),
        }
    }

    /// Forgets the bytes of the oldest block that is in memory.
    pub fn evict(&mut self) {
        self.tail.pop_front();
    }

    pub fn plan(&self, from: u64, budget: &Budget) -> ReadPlan {
        let mut plan = ReadPlan::default();
        let first = self.blocks.partition_point(|place| place.base + u64::from(place.count) <= from);
        let first_cached = self.blocks.len() - self.tail.len();
        let mut records = 0;
        let mut bytes = 0;
        for (index, place) in self.blocks.iter().enumerate().skip(first) {
            if records >= budget.records || bytes >= budget.bytes {
                break;
            }
            match index.checked_sub(first_cached) {
                Some(at) => plan.cached.push((*place, self.tail[at].clone())),
                None => plan.stored.push(*place),
            }
            // Of the first block, some may lie before `from`: it counts as one record.
            records += if index == first { 1 } else { place.count as usize };
            bytes += if index == first { 1 } else { place.length as usize };
        }
        plan
    }
}

impl ReadPlan {
    pub fn read(&self, store: &dyn Store, from: u64, mut budget: Budget) -> Result<Vec<LogRecord>> {
        let expected: usize = self
            .stored
            .iter()
            .chain(self.cached.iter().map(|(place, _)| place))
            .map(|place| place.count as usize)
            .sum();
        let mut out = Vec::with_capacity(expected.min(budget.records));
        let mut rest = self.stored.as_slice();
        while !rest.is_empty() && !budget.is_spent() {
            let (joined, tail) = rest.split_at(joinable(rest));
            rest = tail;
            let start = joined[0].position;
            let length = (joined[joined.len() - 1].end() - start) as usize;
            let segment = joined[0].segment;
            let name = || store.name(segment);
            let bytes = store
                .read(segment, start, length)
                .map_err(|error| super::io_error(&format!("cannot read {}", name()), &error))?;
            for place in joined {
                let at = (place.position - start) as usize;
                let block = bytes.slice(at..at + place.length as usize);
                if crc32fast::hash(&block) != place.crc {
                    return Err(super::damaged(&name(), place.position, "a block fails its checksum"));
                }
                block::decode(&block, place.base, place.count, from, &mut budget, &mut out)
                    .map_err(|error| error.context(format_args!("{} at {}", name(), place.position)))?;
            }
        }
        for (place, block) in &self.cached {
            if budget.is_spent() {
                break;
            }
            block::decode(block, place.base, place.count, from, &mut budget, &mut out)?;
        }
        Ok(out)
    }
}

/// How many of the first blocks lie close enough together for one read; at least one.
fn joinable(places: &[BlockPlace]) -> usize {
    let start = places[0].position;
    let near = places.windows(2).take_while(|pair| {
        pair[0].segment == pair[1].segment
            && pair[1].position.saturating_sub(pair[0].end()) <= GAP
            && pair[1].end() - start <= JOINED
    });
    1 + near.count()
}

/// For a message about a partition that was read past its end.
pub fn past_end(topic: &str, partition: u16, from: u64, end: u64) -> Error {
    Error::new(
        thyme_core::ErrorKind::OutOfRange,
        format!("offset {from} is past the end of topic '{topic}' partition {partition}, which is {end}"),
    )
}
