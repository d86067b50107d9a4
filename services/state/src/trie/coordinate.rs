//! Where an event stands in the trie: its time, then its position, as one number that is split bit by bit.
//!
//! ```text
//! coordinate   time 64 bits (order-preserving) | partition 8 bits | offset 48 bits
//! root block   2^46 µs of time and all positions: 102 bits, 17 pages of 6 bits deep
//! ```
//! So when time bits run out (many events of one instant), pages simply go on with position bits.

use crate::codec::broken;
use thyme_core::aggregate::TableLayout;
use thyme_core::position::Position;
use thyme_core::{Error, Result};

pub type Coordinate = u128;

const OFFSET_BITS: u32 = 48;
const POSITION_BITS: u32 = 56;
const ROOT_BITS: u32 = 46 + POSITION_BITS;
/// A page splits this many bits.
pub const PAGE_BITS: u32 = 6;
/// From this depth on, the start of a row needs its position too.
const FIRST_POSITION_DEPTH: u8 = 8;
const SIGN: u64 = 1 << 63;

pub fn coordinate(time: i64, origin: Position) -> Result<Coordinate> {
    if origin.partition > u16::from(u8::MAX) || origin.offset >> OFFSET_BITS != 0 {
        return Err(Error::internal(format!(
            "a log position is out of range, partition={} offset={}",
            origin.partition, origin.offset
        )));
    }
    let position = (u64::from(origin.partition) << OFFSET_BITS) | origin.offset;
    Ok(first_of_time(time) | u128::from(position))
}

/// The least coordinate of an instant.
#[inline]
pub fn first_of_time(time: i64) -> Coordinate {
    u128::from(time as u64 ^ SIGN) << POSITION_BITS
}

#[inline]
pub fn time_of(coordinate: Coordinate) -> i64 {
    ((coordinate >> POSITION_BITS) as u64 ^ SIGN) as i64
}

#[inline]
pub fn origin_of(coordinate: Coordinate) -> Position {
    let position = coordinate as u64 & ((1 << POSITION_BITS) - 1);
    Position { partition: (position >> OFFSET_BITS) as u16, offset: position & ((1 << OFFSET_BITS) - 1) }
}

/// Where the rows of a table begin. Root blocks span 2^46 µs (2.2 years); those of a table that keeps its events for a while only,
/// where they are what goes, a 64th or a 4,096th of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roots {
    depth: u8,
}

/// A table keeps at most about so many root blocks, where smaller ones would do.
const KEPT_BLOCKS: i64 = 32;
const ROOT_TIME_BITS: u32 = ROOT_BITS - POSITION_BITS;
const DEEPEST_ROOT: u8 = 2;

impl Roots {
    #[inline]
    pub fn of(layout: &TableLayout) -> Roots {
        let Some(kept) = layout.kept else { return Roots { depth: 0 } };
        let is_enough = |depth: &u8| kept / KEPT_BLOCKS < Roots { depth: *depth }.span();
        Roots { depth: (1..=DEEPEST_ROOT).rev().find(is_enough).unwrap_or(0) }
    }

    #[inline]
    fn bits(self) -> u32 {
        ROOT_BITS - PAGE_BITS * u32::from(self.depth)
    }

    /// Length of a root block in microseconds.
    pub fn span(self) -> i64 {
        1 << (ROOT_TIME_BITS - PAGE_BITS * u32::from(self.depth))
    }

    /// The first instant of the root block that holds `time`.
    pub fn block_start(self, time: i64) -> i64 {
        time & !(self.span() - 1)
    }

    /// The root block of a coordinate; blocks are numbered in order of time.
    #[inline]
    pub fn block_of(self, coordinate: Coordinate) -> u32 {
        (coordinate >> self.bits()) as u32
    }

    /// The root row of a block.
    #[inline]
    pub fn page(self, block: u32) -> PageAt {
        PageAt { start: u128::from(block) << self.bits(), depth: self.depth }
    }

    /// The root block that a row belongs to, from its key behind the prefix.
    pub fn block_of_row(self, key: &[u8]) -> Result<u32> {
        Ok(self.block_of(first_of_time(start_of_row(key)?)))
    }
}

/// The first instant that a row covers, from its key behind the prefix.
pub fn start_of_row(key: &[u8]) -> Result<i64> {
    let time = key.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)).ok_or_else(broken)?;
    Ok((time ^ SIGN) as i64)
}

/// A page: the row at `depth` that covers `2^bits` coordinates from `start` on.
#[derive(Debug, Clone, Copy)]
pub struct PageAt {
    pub start: Coordinate,
    pub depth: u8,
}

/// A node of the binary trie inside a page, numbered as in a heap: 1 is the whole page, `2n` and `2n + 1` are its halves.
pub type Node = u8;

/// The children of the page's finest nodes are pages themselves.
#[inline]
pub fn is_finest(node: Node) -> bool {
    level(node) == PAGE_BITS
}

#[inline]
fn level(node: Node) -> u32 {
    u32::from(node).ilog2()
}

/// Whether `inner` (a descendant of `node`) lies in its left half.
#[inline]
pub fn is_left_of(node: Node, inner: Node) -> bool {
    let steps = level(inner) - level(node) - 1;
    inner >> steps == node << 1
}

impl PageAt {
    fn bits_of(self, node: Node) -> Result<u32> {
        if node == 0 || node >= 128 {
            return Err(broken());
        }
        (ROOT_BITS.checked_sub(PAGE_BITS * u32::from(self.depth) + level(node))).ok_or_else(broken)
    }

    /// The first coordinate of a node.
    #[inline]
    pub fn start_of(self, node: Node) -> Result<Coordinate> {
        let bits = self.bits_of(node)?;
        let index = u32::from(node) - (1 << level(node));
        Ok(self.start + (u128::from(index) << bits))
    }

    /// First coordinate, first time and last time of a node.
    #[inline]
    pub fn span_of(self, node: Node) -> Result<(Coordinate, i64, i64)> {
        let start = self.start_of(node)?;
        let last = start + ((1u128 << self.bits_of(node)?) - 1);
        Ok((start, time_of(start), time_of(last)))
    }

    /// The row of a node: a leaf, or for a full node at the finest level a page.
    pub fn child(self, node: Node) -> Result<PageAt> {
        Ok(PageAt { start: self.start_of(node)?, depth: self.depth + 1 })
    }

    /// Appends the part of the row key that follows the (table, key) prefix.
    #[inline]
    pub fn write_key(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&((self.start >> POSITION_BITS) as u64).to_be_bytes());
        out.push(self.depth);
        if self.depth >= FIRST_POSITION_DEPTH {
            let position = self.start as u64 & ((1 << POSITION_BITS) - 1);
            out.extend_from_slice(&position.to_be_bytes()[1..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_order_as_time_then_position() {
        let at = |time, partition, offset| coordinate(time, Position { partition, offset }).unwrap();
        let ordered = [
            at(i64::MIN, 0, 0),
            at(-1, 255, 9),
            at(0, 0, 7),
            at(0, 1, 3),
            at(1, 0, 0),
            at(i64::MAX, 255, (1 << 48) - 1),
        ];
        assert!(ordered.is_sorted());
        for (time, partition, offset) in [(i64::MIN, 0, 0), (-5, 3, 77), (i64::MAX, 255, (1 << 48) - 1)] {
            let found = at(time, partition, offset);
            assert_eq!((time_of(found), origin_of(found)), (time, Position { partition, offset }));
        }
        assert!(coordinate(0, Position { partition: 256, offset: 0 }).is_err());
        assert!(coordinate(0, Position { partition: 0, offset: 1 << 48 }).is_err());
    }

    #[test]
    fn roots_are_smaller_where_events_go() {
        let day = 86_400_000_000;
        let depth = |kept| Roots::of(&TableLayout { kept, ..TableLayout::default() }).depth;
        assert_eq!([None, Some(1_000 * day), Some(37 * day), Some(day)].map(depth), [0, 0, 1, 2]);
        for (depth, time) in
            [(0u8, -1i64), (1, 1_700_000_000_000_000), (2, 1_700_000_000_000_000), (2, -5), (1, i64::MIN)]
        {
            let roots = Roots { depth };
            let block = roots.block_of(first_of_time(time));
            let (_, first, last) = roots.page(block).span_of(1).unwrap();
            assert!(first <= time && time <= last);
            assert_eq!(roots.block_start(time), first);
            let mut key = Vec::new();
            roots.page(block).write_key(&mut key);
            assert_eq!((roots.block_of_row(&key).unwrap(), start_of_row(&key).unwrap()), (block, first));
        }
    }

    #[test]
    fn nodes_halve_their_page() {
        let page = Roots { depth: 0 }.page(131_072);
        let (_, first, last) = page.span_of(1).unwrap();
        assert_eq!((first, last), (0, (1 << 46) - 1));
        let (_, first, last) = page.span_of(3).unwrap();
        assert_eq!((first, last), (1 << 45, (1 << 46) - 1));
        let (_, first, last) = page.span_of(127).unwrap();
        assert_eq!((first, last), ((1 << 46) - (1 << 40), (1 << 46) - 1));
        assert!(is_left_of(1, 2) && is_left_of(1, 5) && !is_left_of(1, 7) && is_left_of(3, 12));
        let deepest = PageAt { start: 0, depth: 16 };
        let (_, first, last) = deepest.span_of(127).unwrap();
        assert_eq!(first, last);
        assert!(PageAt { start: 0, depth: 17 }.span_of(2).is_err());
    }
}
