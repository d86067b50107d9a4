//! A leaf row: up to 64 events, newest first, each told by its difference to the newer one. An event that is newer than all goes
//! in front and leaves the rest as it was.
//!
//! ```text
//! 01 | count u8 | partition u8 (not routed) | newest: time - row start varint, sequence varint, append - time zigzag,
//!      (routed: partition u8, offset varint) | body | for each older event: link, body
//! link   time difference varint, sequence difference zigzag, append difference zigzag, (routed: partition u8, offset difference zigzag)
//! ```
//! In a table that is not routed the offset is the sequence and stands once.

use super::body;
use super::coordinate::{Coordinate, coordinate, origin_of, time_of};
use super::loaded::Column;
use crate::codec::{broken, put_signed, put_varint, take_byte, take_signed, take_varint};
use crate::model::Table;
use thyme_core::position::Position;
use thyme_core::{Error, Result};

/// First byte of a leaf row.
pub const LEAF: u8 = 1;
/// Most events of a leaf.
pub const LEAF_EVENTS: usize = 64;

/// An event as it goes between rows: the body stays encoded.
#[derive(Debug, Clone, Copy)]
pub struct RawEvent<'a> {
    pub coordinate: Coordinate,
    pub sequence: u64,
    pub append_time: i64,
    pub body: &'a [u8],
    /// Index among the events being applied, whose values are at hand; `None` if it comes from a row.
    pub incoming: Option<u32>,
}

impl RawEvent<'_> {
    #[inline]
    pub fn time(&self) -> i64 {
        time_of(self.coordinate)
    }
}

/// Writes events (ascending, at least one) as the leaf row that starts at `row_start`.
pub fn encode(table: &Table, row_start: Coordinate, events: &[RawEvent<'_>], out: &mut Vec<u8>) -> Result<()> {
    let Some(oldest) = encode_front(table, row_start, events, events.len(), out)? else {
        return Err(Error::internal("an empty leaf"));
    };
    debug_assert_eq!(oldest.coordinate, events[0].coordinate);
    Ok(())
}

/// Writes the leaf `row` with newer `events` (ascending) in front. `None`, with `out` untouched, if they are not all newer.
pub fn prepend(
    table: &Table,
    row_start: Coordinate,
    row: &[u8],
    events: &[RawEvent<'_>],
    out: &mut Vec<u8>,
) -> Result<Option<()>> {
    let mut cursor = LeafCursor::open(table, row_start, row)?;
    if !cursor.advance()? {
        return Ok(None);
    }
    let coordinate = cursor.coordinate()?;
    if events.first().is_none_or(|first| first.coordinate <= coordinate) {
        return Ok(None);
    }
    let newest =
        RawEvent { coordinate, sequence: cursor.sequence, append_time: cursor.append_time, body: &[], incoming: None };
    let count = events.len() + cursor.count;
    if let Some(oldest) = encode_front(table, row_start, events, count, out)? {
        put_link(table, &oldest, &newest, out)?;
        out.extend_from_slice(cursor.rest);
    }
    Ok(Some(()))
}

/// Writes the head and `events`, newest first; gives the oldest of them.
fn encode_front<'e>(
    table: &Table,
    row_start: Coordinate,
    events: &[RawEvent<'e>],
    count: usize,
    out: &mut Vec<u8>,
) -> Result<Option<RawEvent<'e>>> {
    let Some(newest) = events.last() else { return Ok(None) };
    out.push(LEAF);
    out.push(u8::try_from(count).map_err(|_| Error::internal("a leaf is too full"))?);
    let time = time_of(newest.coordinate);
    let origin = origin_of(newest.coordinate);
    if !table.routed {
        out.push(origin.partition as u8);
    }
    put_varint(out, time.wrapping_sub(time_of(row_start)) as u64);
    put_varint(out, newest.sequence);
    put_signed(out, newest.append_time.wrapping_sub(time));
    if table.routed {
        out.push(origin.partition as u8);
        put_varint(out, origin.offset);
    }
    out.extend_from_slice(newest.body);
    let mut newer = *newest;
    for event in events.iter().rev().skip(1) {
        put_link(table, &newer, event, out)?;
        out.extend_from_slice(event.body);
        newer = *event;
    }
    Ok(Some(newer))
}

#[inline]
fn put_link(table: &Table, newer: &RawEvent<'_>, older: &RawEvent<'_>, out: &mut Vec<u8>) -> Result<()> {
    put_varint(out, time_of(newer.coordinate).wrapping_sub(time_of(older.coordinate)) as u64);
    put_signed(out, newer.sequence.wrapping_sub(older.sequence) as i64);
    put_signed(out, newer.append_time.wrapping_sub(older.append_time));
    let (newer_origin, older_origin) = (origin_of(newer.coordinate), origin_of(older.coordinate));
    if table.routed {
        out.push(older_origin.partition as u8);
        put_signed(out, newer_origin.offset.wrapping_sub(older_origin.offset) as i64);
    } else if newer_origin.partition != older_origin.partition {
        return Err(Error::internal("events of one key come from several partitions"));
    }
    Ok(())
}

/// How many events a leaf row has.
pub fn count(row: &[u8]) -> Result<usize> {
    row.get(1).map(|count| usize::from(*count)).ok_or_else(broken)
}

/// Reads a leaf from its newest event on. After each [`LeafCursor::advance`] the body is taken by exactly one of
/// [`LeafCursor::body`], [`LeafCursor::skip`], [`LeafCursor::decode`] and [`LeafCursor::push`].
pub struct LeafCursor<'a> {
    table: &'a Table,
    row_start_time: i64,
    pub(super) rest: &'a [u8],
    /// Events not yet advanced to.
    pub(super) remaining: usize,
    count: usize,
    started: bool,
    pub time: i64,
    pub sequence: u64,
    pub append_time: i64,
    pub origin: Position,
}

impl<'a> LeafCursor<'a> {
    pub fn open(table: &'a Table, row_start: Coordinate, row: &'a [u8]) -> Result<LeafCursor<'a>> {
        let mut rest = row;
        if take_byte(&mut rest)? != LEAF {
            return Err(broken());
        }
        let count = usize::from(take_byte(&mut rest)?);
        let partition = if table.routed { 0 } else { u16::from(take_byte(&mut rest)?) };
        Ok(LeafCursor {
            table,
            row_start_time: time_of(row_start),
            rest,
            remaining: count,
            count,
            started: false,
            time: 0,
            sequence: 0,
            append_time: 0,
            origin: Position { partition, offset: 0 },
        })
    }

    /// Goes to the next older event; false behind the oldest.
    #[inline]
    pub fn advance(&mut self) -> Result<bool> {
        if self.remaining == 0 {
            return Ok(false);
        }
        self.remaining -= 1;
        let rest = &mut self.rest;
        if self.started {
            self.time = self.time.wrapping_sub(take_varint(rest)? as i64);
            self.sequence = self.sequence.wrapping_sub(take_signed(rest)? as u64);
            self.append_time = self.append_time.wrapping_sub(take_signed(rest)?);
            if self.table.routed {
                self.origin.partition = u16::from(take_byte(rest)?);
                self.origin.offset = self.origin.offset.wrapping_sub(take_signed(rest)? as u64);
            }
        } else {
            self.started = true;
            self.time = self.row_start_time.wrapping_add(take_varint(rest)? as i64);
            self.sequence = take_varint(rest)?;
            self.append_time = self.time.wrapping_add(take_signed(rest)?);
            if self.table.routed {
                self.origin.partition = u16::from(take_byte(rest)?);
                self.origin.offset = take_varint(rest)?;
            }
        }
        if !self.table.routed {
            self.origin.offset = self.sequence;
        }
        Ok(true)
    }

    pub fn coordinate(&self) -> Result<Coordinate> {
        coordinate(self.time, self.origin)
    }

    #[inline]
    pub fn skip(&mut self) -> Result<()> {
        body::skip(&self.table.layout, &mut self.rest)
    }

    pub fn body(&mut self) -> Result<&'a [u8]> {
        let before = self.rest;
        self.skip()?;
        Ok(&before[..before.len() - self.rest.len()])
    }

    /// Reads the wanted columns into `values` and gives the predicate bits.
    #[inline]
    pub fn decode(&mut self, wanted: &[bool], values: &mut [thyme_core::Value]) -> Result<u64> {
        body::decode(&self.table.layout, self.time, &mut self.rest, wanted, values)
    }

    /// The same, each value behind those of its column.
    #[inline]
    pub fn push(&mut self, columns: &mut [Column]) -> Result<u64> {
        body::push(&self.table.layout, self.time, &mut self.rest, columns)
    }

    /// Appends all events, oldest first.
    pub fn into_events(mut self, out: &mut Vec<RawEvent<'a>>) -> Result<()> {
        let first = out.len();
        while self.advance()? {
            let (coordinate, body) = (self.coordinate()?, self.body()?);
            out.push(RawEvent {
                coordinate,
                sequence: self.sequence,
                append_time: self.append_time,
                body,
                incoming: None,
            });
        }
        out[first..].reverse();
        Ok(())
    }
}
