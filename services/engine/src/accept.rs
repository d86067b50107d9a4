//! Acceptance: what becomes of each record of a dataset's own log, decided once, in log order, from the record and the
//! partition's own history. No clock, no configuration of the moment: a replay decides the same.

use crate::dedup::DedupPass;
use crate::poison::{event_fault, is_misplaced, key_fault};
use bytes::Bytes;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use thyme_core::Result;
use thyme_core::definition::CompiledDataset;
use thyme_core::record::Record;
use thyme_core::time::{ClockMode, format_time};
use thyme_core::window::format_duration;
use thyme_log::LogRecord;
use thyme_state::{Acceptance, BITMAP_BITS, Bitmap, CounterScope, Counters, Rejected, Snapshot, Tick};

/// Late rows kept as samples per partition; after that every 1,000th.
const LATE_SAMPLES: u64 = 100;

/// An accepted event, its row still encoded.
pub struct Accepted {
    pub offset: u64,
    pub key: Bytes,
    pub append_time: i64,
    pub event_time: i64,
    /// The record's bytes, and where the row begins in them.
    pub value: Bytes,
    pub row_start: usize,
}

impl Accepted {
    pub fn row(&self) -> &[u8] {
        &self.value[self.row_start..]
    }
}

/// What a run of records of one partition came to.
#[derive(Default)]
pub struct Verdict {
    pub accepted: Vec<Accepted>,
    /// Keys erased in this run with the offsets of all their erases.
    pub erased: BTreeMap<Bytes, Vec<u64>>,
    pub next_offset: u64,
    pub acceptance: Acceptance,
    pub counters: Counters,
    /// Rows refused in this run, written at its end: an erase later in the run covers them too.
    dead_letters: Vec<Rejected>,
    late_samples: Vec<Rejected>,
}

/// Who decides, for which partition.
pub struct Judge<'a> {
    pub dataset: &'a CompiledDataset,
    pub log_id: u32,
    pub partition: u16,
    pub clock: ClockMode,
}

impl Judge<'_> {
    /// Judges `records` (never empty), writes verdicts, dedup rows, dead letters, samples and counters into `tick`.
    pub fn run(
        &self,
        snapshot: &Snapshot,
        tick: &mut Tick,
        acceptance: Acceptance,
        counters: Counters,
        records: &[LogRecord],
    ) -> Result<Verdict> {
        let before = acceptance;
        let mut verdict =
            Verdict { acceptance, counters, accepted: Vec::with_capacity(records.len()), ..Verdict::default() };
        let mut dedup = DedupPass::new(snapshot, self.log_id, self.partition, self.dataset.dedup_window);
        let mut refused: HashMap<u64, Bitmap> = HashMap::new();
        for log_record in records {
            let accepted = self.judge(snapshot, tick, &mut dedup, &mut verdict, log_record)?;
            if !accepted {
                let block = log_record.offset / BITMAP_BITS;
                if let std::collections::hash_map::Entry::Vacant(slot) = refused.entry(block) {
                    slot.insert(snapshot.verdicts(self.log_id, self.partition, log_record.offset)?);
                }
                if let Some(bitmap) = refused.get_mut(&block) {
                    bitmap.set(log_record.offset);
                }
            }
            verdict.next_offset = log_record.offset + 1;
        }
        dedup.finish(tick, before.greatest_append_time, verdict.acceptance.greatest_append_time)?;
        let mut blocks: Vec<_> = refused.into_iter().collect();
        blocks.sort_unstable_by_key(|(block, _)| *block);
        for (block, bitmap) in blocks {
            tick.put_verdicts(self.log_id, self.partition, block * BITMAP_BITS, &bitmap)?;
        }
        self.drop_erased(&mut verdict);
        for row in &verdict.dead_letters {
            tick.put_dead_letter(self.log_id, row)?;
        }
        for row in &verdict.late_samples {
            tick.put_late_sample(self.log_id, row)?;
        }
        tick.put_acceptance(self.log_id, self.partition, &verdict.acceptance)?;
        tick.put_counters(CounterScope::Log(self.log_id), self.partition, &verdict.counters)?;
        Ok(verdict)
    }

    fn judge(
        &self,
        snapshot: &Snapshot,
        tick: &mut Tick,
        dedup: &mut DedupPass<'_>,
        verdict: &mut Verdict,
        log_record: &LogRecord,
    ) -> Result<bool> {
        let record = match Record::decode(&log_record.value) {
            Ok(record) => record,
            Err(error) => {
                self.dead_letter(verdict, log_record, 0, error.to_string());
                return Ok(false);
            }
        };
        // What a source could not read may have no key.
        let fault = match &record {
            Record::Unreadable { .. } | Record::Routed { .. } | Record::Progress { .. } => None,
            Record::Event { .. } | Record::Erase { .. } => key_fault(self.dataset, self.partition, &log_record.key),
        };
        if let Some(reason) = fault {
            self.dead_letter(verdict, log_record, 0, reason);
            return Ok(false);
        }
        let (append_time, event_time, id, row) = match record {
            Record::Unreadable { append_time, id, reason, .. } => {
                let append_clock = advance(&mut verdict.acceptance.greatest_append_time, append_time);
                if dedup.first_time(&log_record.key, &id, append_clock)? {
                    self.dead_letter(verdict, log_record, append_time, reason.to_string());
                } else {
                    verdict.counters.duplicate += 1;
                }
                return Ok(false);
            }
            Record::Event { append_time, event_time, id, row } => {
                if let Some(reason) = event_fault(event_time, row, &self.dataset.types) {
                    self.dead_letter(verdict, log_record, append_time, reason);
                    return Ok(false);
                }
                (append_time, event_time, id, row)
            }
            Record::Erase { append_time } => {
                advance(&mut verdict.acceptance.greatest_append_time, append_time);
                self.erase(snapshot, tick, verdict, log_record)?;
                return Ok(false);
            }
            Record::Routed { append_time, .. } | Record::Progress { append_time, .. } => {
                let reason = "a record of a repartition log stands in a dataset's own log".to_string();
                self.dead_letter(verdict, log_record, append_time, reason);
                return Ok(false);
            }
        };
        let append_clock = advance(&mut verdict.acceptance.greatest_append_time, append_time);
        if !dedup.first_time(&log_record.key, &id, append_clock)? {
            verdict.counters.duplicate += 1;
            return Ok(false);
        }
        let too_far = append_time.saturating_add(self.dataset.max_future);
        if self.clock == ClockMode::Wall && event_time > too_far {
            let reason = format!(
                "event time {} is more than {} ahead of its arrival at {}",
                format_time(event_time),
                format_duration(self.dataset.max_future),
                format_time(append_time)
            );
            self.dead_letter(verdict, log_record, append_time, reason);
            return Ok(false);
        }
        if let (Some(lateness), Some(greatest)) = (self.dataset.max_lateness, verdict.acceptance.greatest_event_time) {
            let watermark = greatest.saturating_sub(lateness);
            if event_time < watermark {
                self.late(verdict, log_record, append_time, event_time, watermark);
                return Ok(false);
            }
        }
        advance(&mut verdict.acceptance.greatest_event_time, event_time);
        verdict.counters.accepted += 1;
        verdict.accepted.push(Accepted {
            offset: log_record.offset,
            key: log_record.key.clone(),
            append_time,
            event_time,
            row_start: log_record.value.len() - row.len(),
            value: log_record.value.clone(),
        });
        Ok(true)
    }

    fn late(&self, verdict: &mut Verdict, log_record: &LogRecord, append_time: i64, event_time: i64, watermark: i64) {
        let count = verdict.counters.late;
        verdict.counters.late += 1;
        if count >= LATE_SAMPLES && !count.is_multiple_of(1000) {
            return;
        }
        let reason =
            format!("event time {} is below the watermark {}", format_time(event_time), format_time(watermark));
        verdict.late_samples.push(self.rejected(log_record, append_time, reason));
    }

    fn dead_letter(&self, verdict: &mut Verdict, log_record: &LogRecord, append_time: i64, reason: String) {
        verdict.counters.dead += 1;
        verdict.dead_letters.push(self.rejected(log_record, append_time, reason));
    }

    /// An erase clears a key from the states that read its partition: what stands in another one is kept as a place and a reason.
    fn rejected(&self, log_record: &LogRecord, append_time: i64, reason: String) -> Rejected {
        let (mut key, mut record) = (log_record.key.to_vec(), log_record.value.to_vec());
        if is_misplaced(self.dataset, self.partition, &key) {
            (key, record) = Default::default();
        }
        Rejected { partition: self.partition, offset: log_record.offset, append_time, reason, key, record }
    }

    /// Notes an erase, and clears the key from dead letters and late samples that were stored before this tick.
    fn erase(&self, snapshot: &Snapshot, tick: &mut Tick, verdict: &mut Verdict, log_record: &LogRecord) -> Result<()> {
        let key = &log_record.key;
        verdict.counters.erases += 1;
        let offsets = match verdict.erased.entry(key.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(first) => first.insert(snapshot.erased(self.log_id, self.partition, key)?),
        };
        offsets.push(log_record.offset);
        tick.put_erased(self.log_id, self.partition, key, offsets)?;
        for row in snapshot.dead_letters(self.log_id, Some(key), usize::MAX)? {
            tick.delete_dead_letter(self.log_id, row.partition, row.offset)?;
        }
        for row in snapshot.late_samples(self.log_id, Some(key), usize::MAX)? {
            tick.delete_late_sample(self.log_id, row.partition, row.offset)?;
        }
        Ok(())
    }

    /// Drops what a later erase of this very run covers.
    fn drop_erased(&self, verdict: &mut Verdict) {
        if verdict.erased.is_empty() {
            return;
        }
        let erased = &verdict.erased;
        let survives = |key: &[u8], offset: u64| {
            erased.get(key).and_then(|offsets| offsets.last()).is_none_or(|erased_at| offset > *erased_at)
        };
        verdict.accepted.retain(|event| survives(&event.key, event.offset));
        verdict.dead_letters.retain(|row| survives(&row.key, row.offset));
        verdict.late_samples.retain(|row| survives(&row.key, row.offset));
    }
}

/// The running maximum with one more value.
fn advance(greatest: &mut Option<i64>, value: i64) -> i64 {
    let now = greatest.map_or(value, |before| before.max(value));
    *greatest = Some(now);
    now
}

/// A stretch of the log that acceptance has judged before: its accepted events, for consumers that are being built.
pub fn judged_before(
    snapshot: &Snapshot,
    log_id: u32,
    partition: u16,
    records: &[LogRecord],
    erased: &HashMap<Vec<u8>, u64>,
) -> Result<Vec<Accepted>> {
    let mut accepted = Vec::with_capacity(records.len());
    let mut bitmap: Option<(u64, Bitmap)> = None;
    for log_record in records {
        let block = log_record.offset / BITMAP_BITS;
        if bitmap.as_ref().is_none_or(|(loaded, _)| *loaded != block) {
            bitmap = Some((block, snapshot.verdicts(log_id, partition, log_record.offset)?));
        }
        let is_refused = bitmap.as_ref().is_some_and(|(_, refused)| refused.contains(log_record.offset));
        if is_refused {
            continue;
        }
        let Record::Event { append_time, event_time, row, .. } = Record::decode(&log_record.value)? else { continue };
        if erased.get(log_record.key.as_ref()).is_some_and(|offset| log_record.offset < *offset) {
            continue;
        }
        accepted.push(Accepted {
            offset: log_record.offset,
            key: log_record.key.clone(),
            append_time,
            event_time,
            row_start: log_record.value.len() - row.len(),
            value: log_record.value.clone(),
        });
    }
    Ok(accepted)
}
