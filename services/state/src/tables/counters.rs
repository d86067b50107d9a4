//! Running totals per log partition (what acceptance did) and per consumer partition (what a pipeline did).

use crate::codec::{put_varint, take_varint};
use crate::keys::{MetaKey, RowKind};
use crate::snapshot::Snapshot;
use crate::tick::Tick;
use thyme_core::Result;

/// Whose totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CounterScope {
    /// A log, by its id.
    Log(u32),
    /// A pipeline version or another consumer, by its id.
    Consumer(u32),
}

/// Totals since the beginning of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub accepted: u64,
    pub late: u64,
    pub duplicate: u64,
    pub dead: u64,
    /// Erase records.
    pub erases: u64,
    /// Events that were not accepted because a later erase covers them.
    pub erased: u64,
    /// Rows that a pipeline's filter left out.
    pub filtered: u64,
    /// Rows with a null group key, skipped by a pipeline.
    pub null_key: u64,
    /// Expressions that came to null by overflow, division by zero or a value that is none.
    pub warnings: u64,
}

impl Counters {
    fn fields(&mut self) -> [&mut u64; 9] {
        [
            &mut self.accepted,
            &mut self.late,
            &mut self.duplicate,
            &mut self.dead,
            &mut self.erases,
            &mut self.erased,
            &mut self.filtered,
            &mut self.null_key,
            &mut self.warnings,
        ]
    }

    /// Adds the totals of another partition.
    pub fn add(&mut self, other: &Counters) {
        let mut other = *other;
        for (total, more) in self.fields().into_iter().zip(other.fields()) {
            *total += *more;
        }
    }
}

fn row_key(scope: CounterScope) -> MetaKey {
    match scope {
        CounterScope::Log(id) => MetaKey::new(RowKind::Counters).u8(0).u32(id),
        CounterScope::Consumer(id) => MetaKey::new(RowKind::Counters).u8(1).u32(id),
    }
}

/// A row written before a counter was added simply ends earlier.
fn decode(mut value: &[u8]) -> Result<Counters> {
    let mut counters = Counters::default();
    for field in counters.fields() {
        if value.is_empty() {
            break;
        }
        *field = take_varint(&mut value)?;
    }
    Ok(counters)
}

impl Tick {
    pub fn put_counters(&mut self, scope: CounterScope, partition: u16, counters: &Counters) -> Result<()> {
        let mut counters = *counters;
        let mut out = Vec::with_capacity(24);
        for field in counters.fields() {
            put_varint(&mut out, *field);
        }
        self.put_meta(row_key(scope).u16(partition), &out)
    }
}

impl Snapshot {
    /// The totals of one partition; zeros if there are none yet.
    pub fn counters(&self, scope: CounterScope, partition: u16) -> Result<Counters> {
        let row = self.meta(row_key(scope).u16(partition))?;
        row.map_or_else(|| Ok(Counters::default()), |bytes| decode(&bytes))
    }

    /// The totals over all partitions.
    pub fn total_counters(&self, scope: CounterScope) -> Result<Counters> {
        let mut total = Counters::default();
        self.scan_meta(row_key(scope), |_, value| {
            total.add(&decode(value)?);
            Ok(true)
        })?;
        Ok(total)
    }
}
