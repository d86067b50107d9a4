//! Shards of logs that are filled from another one: by routers with a dataset's events, by emitters with the rows of a pipeline. How
//! far each partition of that is in them, and what may stand in them.

use crate::consume::Row;
use crate::poison::{event_fault, routed_fault};
use crate::shard::{Advance, Shard};
use bytes::Bytes;
use std::collections::BTreeMap;
use thyme_core::Result;
use thyme_core::record::{Record, decode_row};
use thyme_log::LogRecord;
use thyme_state::{CounterScope, Counters, Rejected, SourceProgress, Tick};

/// How a log is filled from another one.
#[derive(Clone, Copy, Default)]
pub struct Filling {
    /// With rows that a pipeline makes, not with a raw dataset's events.
    pub is_feed: bool,
    /// Each partition from the partition of the same number alone.
    pub is_aligned: bool,
    /// Each partition of what it is filled from holds events of the raw dataset's partition of that number alone.
    pub of_aligned: bool,
}

impl Shard {
    /// The greatest event time that moves the watermark, at the shard's own place: of a repartition log that of the source partition
    /// that is furthest behind, `None` until all have said theirs.
    pub fn greatest_event_time(&self) -> Option<i64> {
        if self.is_repartition { self.routed_greatest(&self.sources) } else { self.acceptance.greatest_event_time }
    }

    fn routed_greatest(&self, sources: &BTreeMap<u16, SourceProgress>) -> Option<i64> {
        let expected = if self.filling.is_aligned { 1 } else { usize::from(self.dataset.partitions) };
        if sources.len() < expected {
            return None;
        }
        sources.values().map(|progress| progress.greatest_event_time).min().flatten()
    }

    /// How far a partition of the raw dataset's log is in what this shard has read; `None` if nothing of it ever is.
    pub fn covered(&self, root_partition: u16) -> Option<u64> {
        if !self.is_repartition {
            return (root_partition == self.partition).then_some(self.next);
        }
        let Filling { is_feed, is_aligned, of_aligned } = self.filling;
        let fills = |source: &u16| !is_aligned || *source == self.partition;
        let holds = |source: &u16| !of_aligned || *source == root_partition;
        let by_source = |source: u16| {
            let progress = self.sources.get(&source)?;
            let known = progress.covered.iter().find(|(partition, _)| *partition == root_partition);
            if is_feed { known.map(|(_, offset)| *offset) } else { Some(progress.next_offset) }
        };
        let sources = (0..self.dataset.partitions).filter(fills).filter(holds);
        sources.map(|source| by_source(source).unwrap_or_default()).min()
    }

    /// Of a repartition log, after `changed`.
    pub fn routed_watermark(&self, changed: &[(u16, SourceProgress)]) -> Option<i64> {
        let mut sources = self.sources.clone();
        sources.extend(changed.iter().cloned());
        Some(self.routed_greatest(&sources)?.saturating_sub(self.dataset.max_lateness?))
    }

    /// Rows of a repartition log. Of records read for the first time, what they say of their sources goes into `advance`, and so
    /// do those that none of our routers can have written.
    pub fn repartition_rows(
        &self,
        records: &[LogRecord],
        group: &[usize],
        mut advance: Option<&mut Advance>,
    ) -> Result<Vec<Row>> {
        let wanted = self.wanted(group);
        let mut rows = Vec::with_capacity(records.len());
        for log_record in records {
            match self.routed(log_record) {
                Ok(Record::Routed { append_time, event_time, origin, row }) => rows.push(Row {
                    key: log_record.key.clone(),
                    time: event_time,
                    origin,
                    sequence: log_record.offset,
                    append_time,
                    values: decode_row(row, &self.dataset.types, Some(&wanted))?,
                    encoded: Bytes::new(),
                }),
                Ok(Record::Progress { partition, next_offset, max_event_time, covered, .. }) => {
                    let Some(advance) = advance.as_deref_mut() else { continue };
                    let known = advance.sources.iter().position(|(source, _)| *source == partition);
                    let before = known.map(|known| advance.sources.swap_remove(known).1);
                    let mut progress = before.or_else(|| self.sources.get(&partition).cloned()).unwrap_or_default();
                    // What it does not say is as it was.
                    progress.next_offset = next_offset;
                    if max_event_time != i64::MIN {
                        progress.greatest_event_time = Some(max_event_time);
                    }
                    if !covered.is_empty() {
                        progress.covered = covered;
                    }
                    advance.sources.push((partition, progress));
                }
                Ok(Record::Event { .. } | Record::Erase { .. } | Record::Unreadable { .. }) => {}
                Err(reason) => {
                    if let Some(advance) = advance.as_deref_mut() {
                        advance.dead_letters.push(self.dead_letter(log_record, &reason));
                    }
                }
            }
        }
        Ok(rows)
    }

    /// A record that a router of ours may have written, or why it cannot be.
    fn routed<'a>(&self, log_record: &'a LogRecord) -> Result<Record<'a>, String> {
        let record = Record::decode(&log_record.value).map_err(|error| error.to_string())?;
        let fault = match &record {
            Record::Routed { event_time, origin, row, .. } => {
                routed_fault(&self.dataset, self.partition, &log_record.key, *origin)
                    .or_else(|| event_fault(*event_time, row, &self.dataset.types))
            }
            Record::Progress { partition, covered, .. } => {
                let mut partitions = covered.iter().map(|(partition, _)| partition).chain([partition]);
                let wrong = partitions.find(|partition| **partition >= self.dataset.partitions);
                wrong.map(|partition| format!("the dataset's log has no partition {partition}"))
            }
            Record::Event { .. } | Record::Erase { .. } | Record::Unreadable { .. } => {
                Some("an unrouted record stands in a repartition log".to_string())
            }
        };
        fault.map_or(Ok(record), Err)
    }

    fn dead_letter(&self, log_record: &LogRecord, reason: &str) -> Rejected {
        Rejected {
            partition: self.partition,
            offset: log_record.offset,
            append_time: 0,
            reason: format!("{}: {reason}", self.topic),
            key: log_record.key.to_vec(),
            record: log_record.value.to_vec(),
        }
    }

    /// Notes what could not be worked off in a repartition log.
    pub fn put_dead_letters(&self, tick: &mut Tick, advance: &mut Advance) -> Result<()> {
        let dead = advance.dead_letters.len() as u64;
        if dead == 0 {
            return Ok(());
        }
        let (topic, partition) = (&self.topic, self.partition);
        tracing::warn!(topic, partition, dead, "records that no router wrote were put to the dead letters");
        for row in advance.dead_letters.drain(..) {
            tick.put_dead_letter(self.log_id, &row)?;
        }
        let counters = Counters { dead: self.counters.dead + dead, ..self.counters };
        tick.put_counters(CounterScope::Log(self.log_id), self.partition, &counters)?;
        advance.counters = Some(counters);
        Ok(())
    }
}
