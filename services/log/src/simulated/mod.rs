//! A broker in memory that behaves as a real one may at its worst, decided by a seed: transactions whose end is lost, delayed or
//! answered by silence, markers that are written partition by partition, fencing, isolation, appends that fail halfway.
//!
//! Nothing happens by itself: the network and the coordinator go on when a call is made or [`SimulatedLog::pass_time`] is, so
//! that the same seed and the same calls give the same run. What is modelled follows the transaction protocol of Kafka before
//! version 2 of transactions (KIP-98, KIP-447): an end that comes late applies to whatever transaction its producer has open by
//! then (KIP-890), so that a producer that is used on after an unknown outcome does harm here, as it does there.

mod broker;
mod faults;
mod partition;
mod producer;
#[cfg(test)]
mod tests;

use crate::{Appended, Batch, EventLog, LogRecord, Producer};
use async_trait::async_trait;
use broker::Broker;
pub use faults::Faults;
use parking_lot::Mutex;
use std::sync::Arc;
use thyme_core::{Error, Result};
use tokio::sync::watch;

pub struct SimulatedLog {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    broker: Mutex<Broker>,
    changes: watch::Sender<u64>,
}

impl SimulatedLog {
    pub fn new(seed: u64, faults: Faults) -> SimulatedLog {
        let broker = Mutex::new(Broker::new(seed, faults));
        SimulatedLog { shared: Arc::new(Shared { broker, changes: watch::Sender::new(0) }) }
    }

    /// Requests under way may arrive, markers may be written, an open transaction may run into its timeout.
    pub fn pass_time(&self) {
        self.shared.broker.lock().pass_time();
    }

    /// No more faults. Requests under way have arrived, decided transactions are complete; an undecided one waits for its fence.
    pub fn heal(&self) {
        self.shared.broker.lock().heal();
    }

    /// What the broker did so far, in order.
    pub fn trace(&self) -> Vec<String> {
        self.shared.broker.lock().trace.clone()
    }
}

fn unreachable_broker() -> Error {
    Error::unavailable("simulated: the broker did not answer")
}

#[async_trait]
impl EventLog for SimulatedLog {
    fn identity(&self) -> &str {
        "simulated"
    }

    fn create_topic(&self, topic: &str, partitions: u16) -> Result<()> {
        self.shared.broker.lock().create_topic(topic, partitions)
    }

    fn delete_topic(&self, topic: &str) -> Result<()> {
        self.shared.broker.lock().delete_topic(topic)
    }

    fn topics(&self) -> Result<Vec<(String, u16)>> {
        Ok(self.shared.broker.lock().topics())
    }

    async fn append(&self, batches: Vec<Batch>) -> Result<Vec<Appended>> {
        let appended = self.shared.broker.lock().append(batches);
        self.shared.changes.send_modify(|version| *version += 1);
        appended
    }

    fn read(
        &self,
        topic: &str,
        partition: u16,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>> {
        self.shared.broker.lock().read(topic, partition, from, max_records.max(1), max_bytes)
    }

    fn read_arrived(
        &self,
        topic: &str,
        partition: u16,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>> {
        let mut broker = self.shared.broker.lock();
        let rate = broker.faults.late_arrival;
        if broker.chance.happens(rate) {
            return Ok(Vec::new());
        }
        broker.read(topic, partition, from, max_records.max(1), max_bytes)
    }

    fn end_offset(&self, topic: &str, partition: u16) -> Result<u64> {
        Ok(self.shared.broker.lock().partition(topic, partition)?.stable_end())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        let epoch = self.shared.broker.lock().fence(transactional_id)?;
        Ok(Box::new(producer::SimulatedProducer::new(self.shared.clone(), transactional_id.to_string(), epoch)))
    }
}
