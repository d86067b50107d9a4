//! What acceptance has decided so far, per log partition; and for a repartition log, how far each source partition has come.

use crate::codec::{broken, key_u16, put_signed, put_varint, take_byte, take_signed, take_varint};
use crate::keys::{MetaKey, RowKind};
use crate::snapshot::Snapshot;
use crate::tick::Tick;
use thyme_core::Result;

/// The lateness state of one partition of a dataset's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acceptance {
    /// Greatest event time over all valid rows so far; `None` before the first. The watermark is this less `max_lateness`.
    pub greatest_event_time: Option<i64>,
    /// Greatest append time so far: the clock of the dedup window.
    pub greatest_append_time: Option<i64>,
}

/// How far one partition of a log has been routed into one partition of a repartition log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceProgress {
    /// Everything below it has been routed.
    pub next_offset: u64,
    /// Greatest event time there; `None` if there was no event.
    pub greatest_event_time: Option<i64>,
    /// Where rows of an aggregated dataset are routed: how far each partition of the raw dataset's log is in them.
    pub covered: Vec<(u16, u64)>,
}

fn put_optional(out: &mut Vec<u8>, number: Option<i64>) {
    match number {
        Some(number) => {
            out.push(1);
            put_signed(out, number);
        }
        None => out.push(0),
    }
}

fn take_optional(rest: &mut &[u8]) -> Result<Option<i64>> {
    match take_byte(rest)? {
        0 => Ok(None),
        1 => Ok(Some(take_signed(rest)?)),
        _ => Err(broken()),
    }
}

fn acceptance_key(log: u32, partition: u16) -> MetaKey {
    MetaKey::new(RowKind::Acceptance).u32(log).u16(partition)
}

fn source_key(log: u32, partition: u16) -> MetaKey {
    MetaKey::new(RowKind::RoutedSource).u32(log).u16(partition)
}

impl Tick {
    pub fn put_acceptance(&mut self, log: u32, partition: u16, state: &Acceptance) -> Result<()> {
        let mut out = Vec::with_capacity(24);
        put_optional(&mut out, state.greatest_event_time);
        put_optional(&mut out, state.greatest_append_time);
        self.put_meta(acceptance_key(log, partition), &out)
    }

    /// `log` and `partition` are the repartition log's, `source` a partition of the log that fills it.
    pub fn put_routed_source(&mut self, log: u32, partition: u16, source: u16, state: &SourceProgress) -> Result<()> {
        let mut out = Vec::with_capacity(16);
        put_varint(&mut out, state.next_offset);
        put_optional(&mut out, state.greatest_event_time);
        for (covered, offset) in &state.covered {
            put_varint(&mut out, u64::from(*covered));
            put_varint(&mut out, *offset);
        }
        self.put_meta(source_key(log, partition).u16(source), &out)
    }
}

impl Snapshot {
    pub fn acceptance(&self, log: u32, partition: u16) -> Result<Option<Acceptance>> {
        let Some(bytes) = self.meta(acceptance_key(log, partition))? else { return Ok(None) };
        let mut rest: &[u8] = &bytes;
        Ok(Some(Acceptance {
            greatest_event_time: take_optional(&mut rest)?,
            greatest_append_time: take_optional(&mut rest)?,
        }))
    }

    /// Progress of every source partition that has been seen, in order of partition.
    pub fn routed_sources(&self, log: u32, partition: u16) -> Result<Vec<(u16, SourceProgress)>> {
        let mut found = Vec::new();
        self.scan_meta(source_key(log, partition), |key, mut value| {
            let next_offset = take_varint(&mut value)?;
            let greatest_event_time = take_optional(&mut value)?;
            let mut covered = Vec::new();
            while !value.is_empty() {
                let partition = u16::try_from(take_varint(&mut value)?).map_err(|_| broken())?;
                covered.push((partition, take_varint(&mut value)?));
            }
            found.push((key_u16(key, 7)?, SourceProgress { next_offset, greatest_event_time, covered }));
            Ok(true)
        })?;
        Ok(found)
    }
}
