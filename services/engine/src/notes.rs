//! What the owners of slices tell each other through the log: each notes which deployment its outputs are of, as an offset that is
//! committed by its producer, so that one that is fenced notes nothing. A log that a later deployment does not fill is deleted once all
//! owners have noted that one; and an owner that finds a later note than its own sends nothing until it is deployed anew. A broker forgets
//! offsets of a group without members after some days, so what an owner has noted it notes again at intervals.

use crate::engine::Engine;
use crate::spec::Role;
use thyme_core::{Error, Result};
use thyme_log::{CommitOutcome, Producer, WORK};

const GROUP: &str = "thyme-deployed";

impl Engine {
    fn notes(&self) -> bool {
        !self.options.slice.is_whole() && self.number > 0
    }

    /// Refuses to send by a deployment that this slice's owner before had left behind: its logs may be deleted.
    pub fn check_note(&self, producer: &mut dyn Producer) -> Result<()> {
        if !self.notes() {
            return Ok(());
        }
        let noted = producer.committed(GROUP, WORK, self.options.slice.index)?.unwrap_or_default();
        if noted > self.number {
            let (slice, own) = (self.options.slice, self.number);
            return Err(Error::unavailable(format!(
                "a later commit is worked on by others: slice={} own={own} noted={noted}",
                slice.index
            ))
            .hint(
                "this server goes on by itself when it has seen that in the catalog, which it looks at twice a second",
            ));
        }
        Ok(())
    }

    /// Notes what is deployed now, if it has not: nothing is sent any more that it does not have. That may be less than the owner before
    /// noted, and then tells no more than that others wait a little longer.
    pub fn note(&mut self) -> Result<()> {
        if self.role != Role::Owner || !self.notes() || self.noted == self.number {
            return Ok(());
        }
        let (slice, number) = (self.options.slice.index, self.number);
        let producer = self.producer()?;
        let filled = producer.begin().and_then(|()| producer.send_offset(GROUP, WORK, slice, number));
        let outcome = filled.map_or_else(CommitOutcome::NotCommitted, |()| producer.commit());
        if let CommitOutcome::NotCommitted(error) | CommitOutcome::Unknown(error) = outcome {
            self.producer = None;
            return Err(error.context("noting what is deployed"));
        }
        self.noted = number;
        Ok(())
    }

    /// Notes once more, with the next round, what is noted.
    pub fn note_again(&mut self) {
        self.noted = 0;
    }

    /// The smallest number that the owners of all slices have noted.
    pub fn noted_by_all(&mut self) -> Result<u64> {
        if self.role != Role::Owner {
            return Err(Error::unavailable("this server does not own the first slice of the work any more")
                .hint("try again in a few seconds, at the server that does: it is named by the error of any other"));
        }
        let slices = self.options.slice.of;
        let producer = self.producer()?;
        let mut least = u64::MAX;
        for slice in 0..slices {
            least = least.min(producer.committed(GROUP, WORK, slice)?.unwrap_or_default());
        }
        Ok(least)
    }
}
