//! A transactional producer of the simulated broker.

use super::broker::{End, Ended};
use super::{Shared, unreachable_broker};
use crate::{Batch, CommitOutcome, Kept, Producer};
use std::sync::Arc;
use thyme_core::{Error, Result};

/// Nothing keeps it from being used on after an unknown outcome: what comes of it is the broker's to show.
pub struct SimulatedProducer {
    shared: Arc<Shared>,
    id: String,
    epoch: u64,
    is_open: bool,
    is_spent: bool,
}

impl SimulatedProducer {
    pub fn new(shared: Arc<Shared>, id: String, epoch: u64) -> Self {
        SimulatedProducer { shared, id, epoch, is_open: false, is_spent: false }
    }

    fn check_open(&self) -> Result<()> {
        if self.is_open { Ok(()) } else { Err(no_transaction()) }
    }

    fn end_of(&self, is_commit: bool) -> End {
        End { id: self.id.clone(), epoch: self.epoch, is_commit }
    }

    fn fenced(&self) -> Error {
        Error::precondition(format!("simulated: fenced: id={} epoch={}", self.id, self.epoch))
    }
}

fn no_transaction() -> Error {
    Error::precondition("no transaction was begun")
}

impl Producer for SimulatedProducer {
    fn kept(&mut self, group: &str, topic: &str, partition: u16) -> Result<Option<Kept>> {
        let place = (group.to_string(), topic.to_string(), partition);
        let next = self.shared.broker.lock().committed(&place)?;
        Ok(next.map(|next| Kept { next, is_ours: true }))
    }

    fn begin(&mut self) -> Result<()> {
        if self.is_open {
            return Err(Error::precondition("a transaction is open already"));
        }
        self.is_open = true;
        Ok(())
    }

    fn send(&mut self, batch: Batch) -> Result<()> {
        self.check_open()?;
        self.shared.broker.lock().send(&self.id, self.epoch, batch)
    }

    fn send_offset(&mut self, group: &str, topic: &str, partition: u16, next: u64) -> Result<()> {
        self.check_open()?;
        let place = (group.to_string(), topic.to_string(), partition);
        self.shared.broker.lock().send_offset(&self.id, self.epoch, place, next)
    }

    fn commit(&mut self) -> CommitOutcome {
        if !self.is_open {
            return CommitOutcome::NotCommitted(no_transaction());
        }
        self.is_open = false;
        let mut broker = self.shared.broker.lock();
        let (silent, refused) = (broker.faults.silent_end, broker.faults.refused_end);
        if broker.chance.happens(refused) {
            broker.note(format!("the end of {} is refused", self.id));
            broker.end(&self.end_of(false));
            return CommitOutcome::NotCommitted(Error::unavailable("simulated: refused"));
        }
        let end = self.end_of(true);
        if broker.chance.happens(silent) {
            let what = broker.chance.below(3);
            broker.note(format!("the end of {} gets no answer: {}", self.id, ["lost", "made", "late"][what]));
            match what {
                0 => {}
                1 => {
                    broker.end(&end);
                }
                _ => broker.delay(end),
            }
            return CommitOutcome::Unknown(unreachable_broker());
        }
        match broker.end(&end) {
            Ended::Done => {
                let slow = broker.faults.slow_end;
                if broker.chance.happens(slow) {
                    // It was sent twice; the second may arrive at any time.
                    broker.note(format!("the end of {} is slow", self.id));
                    broker.delay(end);
                    self.is_spent = true;
                }
                drop(broker);
                self.shared.changes.send_modify(|version| *version += 1);
                CommitOutcome::Committed
            }
            Ended::Fenced => CommitOutcome::NotCommitted(self.fenced()),
        }
    }

    fn abort(&mut self) -> Result<()> {
        self.check_open()?;
        self.is_open = false;
        match self.shared.broker.lock().end(&self.end_of(false)) {
            Ended::Done => Ok(()),
            Ended::Fenced => Err(self.fenced()),
        }
    }

    fn is_spent(&self) -> bool {
        self.is_spent
    }
}
