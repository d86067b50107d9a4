//! What a machine did, call by call: told when it does not come to its end.

use std::collections::VecDeque;
use std::fmt;

/// Many times what a machine needs, whatever happens to it. Calls are counted and not seconds, so that a slow computer changes nothing.
const MOST_CALLS: usize = 20_000;
/// How much of the end is told.
const TOLD: usize = 16;

#[derive(Debug, Default)]
pub struct Diary {
    calls: usize,
    /// What was done last, and how often one after the other.
    last: VecDeque<(String, usize)>,
}

impl Diary {
    /// One more call; false when there were too many.
    pub fn count(&mut self) -> bool {
        self.calls += 1;
        self.calls <= MOST_CALLS
    }

    pub fn note(&mut self, what: String) {
        match self.last.back_mut() {
            Some((text, times)) if *text == what => *times += 1,
            _ => self.last.push_back((what, 1)),
        }
        if self.last.len() > TOLD {
            self.last.pop_front();
        }
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
