//! Which ingested events were seen before. Ids live in buckets of append time, one `dedup_window` long; an id is looked for in the
//! current bucket and the one before, so it is remembered for at least the window and at most twice as long.

use std::collections::BTreeMap;
use thyme_core::Result;
use thyme_core::record::EventId;
use thyme_state::{BITMAP_BITS, Bitmap, DedupId, DedupKey, Snapshot, Tick};
use xxhash_rust::xxh3::xxh3_128;

/// The dedup index of one log partition during one tick: committed rows below, this tick's own on top.
pub struct DedupPass<'a> {
    snapshot: &'a Snapshot,
    log: u32,
    partition: u16,
    window: i64,
    /// Rows read or changed in this tick. `None`: looked for and not there.
    rows: BTreeMap<DedupKey, (Option<Bitmap>, bool)>,
    /// The newest chunk: consecutive rows of one call fall into it.
    last: Option<(DedupKey, DedupKey)>,
}

impl<'a> DedupPass<'a> {
    pub fn new(snapshot: &'a Snapshot, log: u32, partition: u16, window: i64) -> Self {
        DedupPass { snapshot, log, partition, window: window.max(1), rows: BTreeMap::new(), last: None }
    }

    /// The bucket of a moment of append time (never negative).
    pub fn bucket(&self, append_clock: i64) -> u64 {
        (append_clock.max(0) / self.window) as u64
    }

    /// Whether the event is new; if so, it is remembered.
    pub fn first_time(&mut self, key: &[u8], id: &EventId, append_clock: i64) -> Result<bool> {
        let bucket = self.bucket(append_clock);
        let (dedup_id, bit) = match id {
            EventId::None => return Ok(true),
            EventId::Call { call, row } => {
                let chunk = (u64::from(*row) / BITMAP_BITS) as u32;
                (DedupId::Call { call: *call, chunk }, u64::from(*row))
            }
            EventId::Given(bytes) => {
                let mut input = Vec::with_capacity(key.len() + bytes.len());
                input.extend_from_slice(key);
                input.extend_from_slice(bytes);
                (DedupId::Given(xxh3_128(&input).to_be_bytes()), 0)
            }
        };
        let current = DedupKey { log: self.log, partition: self.partition, bucket, id: dedup_id };
        let previous = DedupKey { bucket: bucket.saturating_sub(1), ..current };
        if self.last != Some((current, previous)) {
            self.load(current)?;
            self.load(previous)?;
            self.last = Some((current, previous));
        }
        if previous != current && self.seen(&previous, bit) {
            return Ok(false);
        }
        Ok(self.remember(&current, bit))
    }

    fn load(&mut self, key: DedupKey) -> Result<()> {
        if !self.rows.contains_key(&key) {
            let row = self.snapshot.dedup(&key)?;
            self.rows.insert(key, (row, false));
        }
        Ok(())
    }

    fn seen(&self, key: &DedupKey, bit: u64) -> bool {
        match self.rows.get(key) {
            Some((Some(rows), _)) => matches!(key.id, DedupId::Given(_)) || rows.contains(bit),
            _ => false,
        }
    }

    fn remember(&mut self, key: &DedupKey, bit: u64) -> bool {
        let is_given = matches!(key.id, DedupId::Given(_));
        let Some((row, changed)) = self.rows.get_mut(key) else { return true };
        if row.as_ref().is_some_and(|rows| is_given || rows.contains(bit)) {
            return false;
        }
        row.get_or_insert_with(Bitmap::default).set(bit);
        *changed = true;
        true
    }

    /// Writes what this tick added, and drops the buckets that have left the window.
    pub fn finish(self, tick: &mut Tick, clock_before: Option<i64>, clock_after: Option<i64>) -> Result<()> {
        for (key, (row, changed)) in &self.rows {
            if let (Some(rows), true) = (row, changed) {
                tick.put_dedup(key, rows)?;
            }
        }
        let (Some(before), Some(after)) = (clock_before, clock_after) else { return Ok(()) };
        let keep_from = self.bucket(after).saturating_sub(1);
        if keep_from > self.bucket(before).saturating_sub(1) {
            tick.expire_dedup(self.log, self.partition, keep_from)?;
        }
        Ok(())
    }
}
