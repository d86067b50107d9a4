//! A page row: the stretches of time below it that hold events, each with what is known of it as a whole.
//!
//! ```text
//! 02 | per entry, in order of time: node u8 | length varint | count varint | greatest sequence varint
//!      | greatest append time zigzag | partials
//! ```
//! Entries are length-prefixed, so that a tick rewrites only those it touches and copies the rest. The count of all rows stands
//! once: a `Count` without column and predicate is not stored again.

use super::coordinate::Node;
use super::leaf::RawEvent;
use crate::codec::{broken, put_signed, put_varint, take_byte, take_bytes, take_signed, take_varint};
use thyme_core::aggregate::{Partial, PartialKind, PartialSpec, TableLayout};
use thyme_core::{Result, Value};

/// First byte of a page row.
pub const PAGE: u8 = 2;

/// One entry, not yet decoded.
#[derive(Debug, Clone, Copy)]
pub struct EntryBytes<'a> {
    pub node: Node,
    payload: &'a [u8],
    /// The entry as it stands in the row.
    pub whole: &'a [u8],
}

/// The entries of a page row, in order of time.
pub fn entries<'a>(row: &'a [u8], out: &mut Vec<EntryBytes<'a>>) -> Result<()> {
    let mut rest = row;
    if take_byte(&mut rest)? != PAGE {
        return Err(broken());
    }
    while !rest.is_empty() {
        let before = rest;
        let node = take_byte(&mut rest)?;
        let payload = take_bytes(&mut rest)?;
        out.push(EntryBytes { node, payload, whole: &before[..before.len() - rest.len()] });
    }
    Ok(())
}

/// What stands before an entry's partials.
#[derive(Debug, Clone, Copy)]
pub struct EntryHead<'a> {
    pub count: u64,
    /// Greatest log sequence of its events.
    pub sequence: u64,
    /// Greatest append time of its events.
    pub append_time: i64,
    partials: &'a [u8],
}

impl<'a> EntryBytes<'a> {
    #[inline]
    pub fn head(&self) -> Result<EntryHead<'a>> {
        let mut rest = self.payload;
        Ok(EntryHead {
            count: take_varint(&mut rest)?,
            sequence: take_varint(&mut rest)?,
            append_time: take_signed(&mut rest)?,
            partials: rest,
        })
    }
}

/// Whether it is the number of rows, whatever they hold.
#[inline]
pub fn counts_rows(spec: &PartialSpec) -> bool {
    spec.kind == PartialKind::Count && spec.column.is_none() && spec.predicate.is_none()
}

impl EntryHead<'_> {
    /// Decodes the first `upto` partials, in the layout's order.
    #[inline]
    pub fn partials(
        &self,
        layout: &TableLayout,
        upto: usize,
        mut visit: impl FnMut(usize, &PartialSpec, Partial),
    ) -> Result<()> {
        let mut rest = self.partials;
        for (index, spec) in layout.partials.iter().enumerate().take(upto) {
            let partial =
                if counts_rows(spec) { Partial::Count(self.count) } else { Partial::decode(spec, &mut rest)? };
            visit(index, spec, partial);
        }
        Ok(())
    }
}

/// An entry in the making: what is known of a set of events.
pub struct Summary {
    pub count: u64,
    sequence: u64,
    append_time: i64,
    partials: Vec<Partial>,
}

impl Summary {
    pub fn empty(layout: &TableLayout) -> Summary {
        let partials = layout.partials.iter().map(Partial::empty).collect();
        Summary { count: 0, sequence: 0, append_time: i64::MIN, partials }
    }

    pub fn of(layout: &TableLayout, head: &EntryHead<'_>) -> Result<Summary> {
        let mut partials = Vec::with_capacity(layout.partials.len());
        head.partials(layout, layout.partials.len(), |_, _, partial| partials.push(partial))?;
        Ok(Summary { count: head.count, sequence: head.sequence, append_time: head.append_time, partials })
    }

    /// Adds one event.
    #[inline]
    pub fn add(&mut self, layout: &TableLayout, event: &RawEvent<'_>, values: &[Value], predicates: u64) {
        self.count += 1;
        self.sequence = self.sequence.max(event.sequence);
        self.append_time = self.append_time.max(event.append_time);
        for (partial, spec) in self.partials.iter_mut().zip(&layout.partials) {
            add_event(partial, spec, event.time(), values, predicates);
        }
    }

    /// Takes the digests from the entries of the page `row` that holds all its events: how digests were put together shows in
    /// them, so that it follows the pages.
    pub fn take_digests(&mut self, layout: &TableLayout, row: &[u8]) -> Result<()> {
        if !layout.partials.iter().any(|spec| spec.kind.is_digest()) {
            return Ok(());
        }
        for (partial, spec) in self.partials.iter_mut().zip(&layout.partials) {
            if spec.kind.is_digest() {
                *partial = Partial::empty(spec);
            }
        }
        let mut list = Vec::with_capacity(64);
        entries(row, &mut list)?;
        for entry in list {
            entry.head()?.partials(layout, layout.partials.len(), |index, spec, partial| {
                if spec.kind.is_digest() {
                    self.partials[index].merge(spec, &partial);
                }
            })?;
        }
        Ok(())
    }

    /// Appends it as the entry of `node`; `scratch` is cleared.
    pub fn encode(&self, layout: &TableLayout, node: Node, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        put_varint(scratch, self.count);
        put_varint(scratch, self.sequence);
        put_signed(scratch, self.append_time);
        for (partial, spec) in self.partials.iter().zip(&layout.partials) {
            if !counts_rows(spec) {
                partial.encode(scratch);
            }
        }
        out.push(node);
        put_varint(out, scratch.len() as u64);
        out.extend_from_slice(scratch);
    }
}

/// Adds an event to a partial if it fulfils the partial's predicate.
#[inline]
pub fn add_event(partial: &mut Partial, spec: &PartialSpec, time: i64, values: &[Value], predicates: u64) {
    if spec.predicate.is_none_or(|predicate| predicates >> predicate & 1 != 0) {
        let value = spec.column.map_or(&Value::Null, |column| &values[usize::from(column)]);
        partial.add(spec, time, value);
    }
}
