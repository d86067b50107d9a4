//! What a machine did, call by call: told when it does not come to its end.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Many times what a machine needs, whatever happens to it: in 870 runs none made more than 131. Calls are counted and not seconds, so
/// that a slow computer changes nothing.
const MOST_CALLS: usize = 2_000;
/// How much of the end is told.
const TOLD: usize = 16;

/// The most calls that a machine of this process has made.
static GREATEST: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, Default)]
pub struct Diary {
    calls: usize,
    /// What was done last, and how often one after the other.
    last: VecDeque<(String, usize)>,
}

impl Diary {
    /// One more call and what came of it. Whoever makes too many makes no progress: that panics.
    pub fn note(&mut self, what: String) {
        match self.last.back_mut() {
            Some((text, times)) if *text == what => *times += 1,
            _ => self.last.push_back((what, 1)),
        }
        if self.last.len() > TOLD {
            self.last.pop_front();
        }
        self.calls += 1;
        GREATEST.fetch_max(self.calls, Ordering::Relaxed);
        assert!(self.calls < MOST_CALLS, "it does not come to its end, {self}");
    }

    pub fn greatest() -> u64 {
        GREATEST.load(Ordering::Relaxed) as u64
    }
}

impl fmt::Display for Diary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "after {} calls, the last:", self.calls)?;
        for (what, times) in &self.last {
            write!(out, "\n    {times} x {what}")?;
        }
        Ok(())
    }
}
