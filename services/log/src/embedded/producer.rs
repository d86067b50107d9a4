//! Transactions: collected in memory, written as one frame at commit.

use super::writer::{Action, OffsetCommit};
use super::{Shared, encode};
use crate::{Batch, CommitOutcome, Kept, Producer};
use std::sync::Arc;
use thyme_core::{Error, Result};

pub struct EmbeddedProducer {
    shared: Arc<Shared>,
    id: String,
    epoch: u64,
    open: Option<Transaction>,
}

#[derive(Default)]
struct Transaction {
    batches: Vec<Batch>,
    offsets: Vec<OffsetCommit>,
}

impl EmbeddedProducer {
    pub fn new(shared: Arc<Shared>, id: String, epoch: u64) -> Self {
        EmbeddedProducer { shared, id, epoch, open: None }
    }

    fn transaction(&mut self) -> Result<&mut Transaction> {
        self.open.as_mut().ok_or_else(no_transaction)
    }
}

fn no_transaction() -> Error {
    Error::precondition("no transaction was begun")
}

impl Producer for EmbeddedProducer {
    fn kept(&mut self, group: &str, topic: &str, partition: u16) -> Result<Option<Kept>> {
        let state = self.shared.state.read();
        let topic = state.partition(topic, partition)?.0.id;
        let next = state.committed.get(&(group.to_string(), topic, partition));
        Ok(next.map(|next| Kept { next: *next, is_ours: true }))
    }

    fn begin(&mut self) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::precondition("a transaction is open already"));
        }
        self.open = Some(Transaction::default());
        Ok(())
    }

    fn send(&mut self, batch: Batch) -> Result<()> {
        self.transaction()?.batches.push(batch);
        Ok(())
    }

    fn send_offset(&mut self, group: &str, topic: &str, partition: u16, next: u64) -> Result<()> {
        let commit = OffsetCommit { group: group.to_string(), topic: topic.to_string(), partition, next };
        self.transaction()?.offsets.push(commit);
        Ok(())
    }

    fn commit(&mut self) -> CommitOutcome {
        let Some(Transaction { batches, offsets }) = self.open.take() else {
            return CommitOutcome::NotCommitted(no_transaction());
        };
        let producer = Some((self.id.clone(), self.epoch));
        match self.shared.request(Action::Write { batches: encode(batches), offsets, producer }) {
            Ok(_) => CommitOutcome::Committed,
            Err(failure) if failure.unknown => CommitOutcome::Unknown(failure.error),
            Err(failure) => CommitOutcome::NotCommitted(failure.error),
        }
    }

    fn abort(&mut self) -> Result<()> {
        self.open.take().map(|_| ()).ok_or_else(no_transaction)
    }
}
