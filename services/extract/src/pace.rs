//! How long an extractor takes, as far as it was seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A moving average of the time per row. Threads that record at once may overwrite each other: it is a guess anyway.
pub(crate) struct Pace {
    /// Nanoseconds; `UNSEEN` before the first call.
    per_row: AtomicU64,
}

const UNSEEN: u64 = u64::MAX;
/// Share of a new call in the average: one in so many.
const WEIGHT: u64 = 8;

impl Default for Pace {
    fn default() -> Pace {
        Pace { per_row: AtomicU64::new(UNSEEN) }
    }
}

impl Pace {
    /// What a call of so many rows is expected to take; none before the first.
    pub fn expected(&self, rows: usize) -> Option<Duration> {
        let per_row = self.per_row.load(Ordering::Relaxed);
        (per_row != UNSEEN).then(|| Duration::from_nanos(per_row.saturating_mul(rows as u64)))
    }

    pub fn record(&self, rows: usize, took: Duration) {
        let now = u64::try_from(took.as_nanos()).unwrap_or(UNSEEN - 1) / (rows as u64).max(1);
        let before = self.per_row.load(Ordering::Relaxed);
        let average = if before == UNSEEN { now } else { before - before / WEIGHT + now / WEIGHT };
        self.per_row.store(average, Ordering::Relaxed);
    }
}
