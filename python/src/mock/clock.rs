//! The clock of a mock engine: the wall's until it is set.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use thyme_core::time::{Clock, Micros};

const UNSET: i64 = i64::MIN;

/// Stands still where it is set.
pub(crate) struct VirtualClock(AtomicI64);

impl VirtualClock {
    pub fn new() -> VirtualClock {
        VirtualClock(AtomicI64::new(UNSET))
    }
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) != UNSET
    }
    pub fn set(&self, now: Option<Micros>) {
        self.0.store(now.unwrap_or(UNSET), Ordering::Release);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Micros {
        match self.0.load(Ordering::Acquire) {
            UNSET => wall_now(),
            set => set,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the wall clock is passed in")]
fn wall_now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    i64::try_from(since).unwrap_or(i64::MAX)
}
