//! Transactions: a client of its own per producer, whose blocking calls run on a thread of their own.

use super::Connection;
use super::append::{Deliveries, Delivery, QUEUE_WAIT, hand_over};
use super::context::Context;
use super::errors::code_of;
use super::groups::mark;
use super::settings::TRANSACTION_TIMEOUT_MS;
use super::worker::Worker;
use crate::{Batch, CommitOutcome, Kept, Producer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_core::failpoint::{Point, reach};
use thyme_core::{Error, Result};

type Client = ThreadedProducer<Context>;

/// How long the broker may take to fence, commit or abort.
const DECIDE: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS);
/// How much longer librdkafka may take before it is given up.
const SLACK: Duration = Duration::from_secs(5);
/// A commit that took longer was near the broker's own limit: its producer is not used again.
const SLOW: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS / 3);

pub struct KafkaProducer {
    connection: Arc<Connection>,
    id: String,
    client: Arc<Client>,
    worker: Worker,
    open: Option<Transaction>,
    /// Why this producer must not be used any more.
    spent: Option<String>,
}

struct Transaction {
    deliveries: Arc<Deliveries>,
    sent: Vec<(String, u16, Arc<Delivery>)>,
    /// By group: topic, partition and next offset.
    offsets: BTreeMap<String, Vec<(String, u16, u64)>>,
}

/// Where a commit failed.
enum Failure {
    /// Before the broker was asked to commit.
    Before(KafkaError),
    /// While it was asked.
    Deciding(KafkaError),
}

impl KafkaProducer {
    /// Fences every earlier producer of this id.
    pub fn new(connection: Arc<Connection>, id: &str) -> Result<KafkaProducer> {
        let full = connection.settings.full_name(id);
        let what = format!("starting the transactional producer '{full}'");
        let client: Client = connection
            .settings
            .transactional(&full)
            .create_with_context(connection.context())
            .map_err(|error| connection.failed(&what, &error))?;
        let client = Arc::new(client);
        let worker = Worker::start("kafka-transactions")?;
        let producer = KafkaProducer { connection, id: id.to_string(), client, worker, open: None, spent: None };
        let client = producer.client.clone();
        let fenced = producer.worker.run(DECIDE + SLACK, move || {
            // Where no connection is there yet, it looks for its coordinator again only after half a second.
            let until = Instant::now() + DECIDE;
            let _known = client.client().fetch_cluster_id(left(until));
            client.init_transactions(left(until))
        });
        match fenced {
            Some(Ok(())) => Ok(producer),
            Some(Err(error)) => Err(producer.connection.failed(&what, &error)),
            None => Err(Error::unavailable(format!("{what}: no answer"))),
        }
    }

    fn transaction(&mut self) -> Result<&mut Transaction> {
        self.open.as_mut().ok_or_else(no_transaction)
    }

    fn usable(&self) -> Result<()> {
        match &self.spent {
            None => Ok(()),
            Some(reason) => Err(Error::precondition(format!("producer '{}' must be made anew: {reason}", self.id))),
        }
    }

    fn aborted(&mut self) -> Result<()> {
        let client = self.client.clone();
        match self.worker.run(DECIDE + SLACK, move || client.abort_transaction(DECIDE)) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                self.spent = Some(format!("a transaction could not be aborted: {error}"));
                Err(self.connection.failed("aborting a transaction", &error))
            }
            None => {
                self.spent = Some("a transaction could not be aborted in time".to_string());
                Err(Error::unavailable("aborting a transaction: no answer"))
            }
        }
    }

    /// The commit on the worker's thread; `None` if it is not done at the deadline.
    fn decide(&self, offsets: BTreeMap<String, Vec<(String, u16, u64)>>) -> Result<Option<Result<(), Failure>>> {
        let mut lists = Vec::with_capacity(offsets.len());
        for (group, places) in offsets {
            let mut list = TopicPartitionList::new();
            for (topic, partition, next) in places {
                let name = self.connection.settings.full_name(&topic);
                let offset = Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX));
                let mut place = list.add_partition(&name, i32::from(partition));
                place.set_offset(offset).map_err(|error| self.connection.failed("committing offsets", &error))?;
                place.set_metadata(mark(next));
            }
            lists.push((list, self.connection.groups.metadata(&group)?));
        }
        let until = Instant::now() + DECIDE;
        let client = self.client.clone();
        let sent = self.worker.run(left(until) + SLACK, move || {
            for (list, group) in &lists {
                let sent = persist(until, |left| client.send_offsets_to_transaction(list, group, left));
                sent.map_err(Failure::Before)?;
            }
            client.flush(left(until)).map_err(Failure::Before)
        });
        if !matches!(sent, Some(Ok(()))) {
            return Ok(sent);
        }
        reach(Point::BeforeEnd);
        let client = self.client.clone();
        Ok(self.worker.run(left(until) + SLACK, move || {
            persist(until, |left| client.commit_transaction(left)).map_err(Failure::Deciding)
        }))
    }

    fn resolve(&mut self, failure: Failure) -> CommitOutcome {
        let (error, was_asked) = match failure {
            Failure::Before(error) => (error, false),
            Failure::Deciding(error) => (error, true),
        };
        let told = self.connection.failed("committing a transaction", &error);
        let transaction = match &error {
            KafkaError::Transaction(inner) => Some(inner),
            _ => None,
        };
        if transaction.is_some_and(|inner| inner.txn_requires_abort()) || (!was_asked && !is_fatal(&error)) {
            // An abort that fails leaves a producer that is spent, and a transaction that the next one aborts.
            if let Err(error) = self.aborted() {
                tracing::debug!(%error, "a transaction was left to be aborted by the next producer");
            }
            return CommitOutcome::NotCommitted(told);
        }
        self.spent = Some(format!("a commit failed: {error}"));
        if is_fenced(&error) {
            let fenced =
                Error::precondition(format!("producer '{}' is fenced: a later one with the same id was made", self.id));
            return CommitOutcome::NotCommitted(fenced);
        }
        if was_asked { CommitOutcome::Unknown(told) } else { CommitOutcome::NotCommitted(told) }
    }
}

fn no_transaction() -> Error {
    Error::precondition("no transaction was begun")
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// Calls again while the error says that this may help.
fn persist(until: Instant, mut call: impl FnMut(Duration) -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match call(left(until)) {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}

fn is_fatal(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(inner) if inner.is_fatal())
}

fn is_fenced(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    code_of(error).is_some_and(|code| matches!(code, Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced))
}

impl Producer for KafkaProducer {
    fn kept(&mut self, group: &str, topic: &str, partition: u16) -> Result<Option<Kept>> {
        self.connection.groups.kept(group, topic, partition)
    }

    fn begin(&mut self) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::precondition("a transaction is open already"));
        }
        self.usable()?;
        if let Err(error) = self.client.begin_transaction() {
            self.spent = Some(error.to_string());
            return Err(self.connection.failed("beginning a transaction", &error));
        }
        let deliveries = Arc::new(Deliveries::default());
        self.open = Some(Transaction { deliveries, sent: Vec::new(), offsets: BTreeMap::new() });
        Ok(())
    }

    fn send(&mut self, batch: Batch) -> Result<()> {
        self.transaction()?;
        self.usable()?;
        self.connection.topics.check(&batch.topic, batch.partition)?;
        let name = self.connection.settings.full_name(&batch.topic);
        let (connection, client) = (self.connection.clone(), self.client.clone());
        let transaction = self.transaction()?;
        let delivery = transaction.deliveries.expect(batch.records.len());
        transaction.sent.push((batch.topic.clone(), batch.partition, delivery.clone()));
        let until = Instant::now() + QUEUE_WAIT;
        for (index, record) in batch.records.iter().enumerate() {
            loop {
                let error = match hand_over(&client, &name, batch.partition, record, &delivery) {
                    Ok(true) => break,
                    Ok(false) if Instant::now() < until => {
                        std::thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    Ok(false) => KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                    Err(error) => error,
                };
                delivery.failed(batch.records.len() - index, error.clone());
                return Err(connection.failed(&format!("sending to topic '{}'", batch.topic), &error));
            }
        }
        Ok(())
    }

    fn send_offset(&mut self, group: &str, topic: &str, partition: u16, next: u64) -> Result<()> {
        let transaction = self.transaction()?;
        transaction.offsets.entry(group.to_string()).or_default().push((topic.to_string(), partition, next));
        Ok(())
    }

    fn commit(&mut self) -> CommitOutcome {
        let Some(Transaction { deliveries, sent, offsets }) = self.open.take() else {
            return CommitOutcome::NotCommitted(no_transaction());
        };
        if let Err(error) = self.usable() {
            return CommitOutcome::NotCommitted(error);
        }
        // A record that could not be sent fails the whole.
        if let Some(error) = deliveries.error() {
            return self.resolve(Failure::Before(error));
        }
        let started = Instant::now();
        match self.decide(offsets) {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(failure))) => return self.resolve(failure),
            Ok(None) => {
                self.spent = Some("a commit did not end in time".to_string());
                return CommitOutcome::Unknown(Error::unavailable("committing a transaction: no answer in time"));
            }
            Err(error) => {
                // Nothing was asked yet; what the broker has of it is aborted by the next producer.
                self.spent = Some(error.to_string());
                return CommitOutcome::NotCommitted(error);
            }
        }
        if started.elapsed() > SLOW {
            self.spent = Some("its last commit was slow".to_string());
        }
        for (topic, partition, delivery) in &sent {
            if let Some(place) = delivery.place() {
                self.connection.ends.raise(topic, *partition, place.end);
            }
        }
        self.connection.announce();
        CommitOutcome::Committed
    }

    fn abort(&mut self) -> Result<()> {
        self.open.take().ok_or_else(no_transaction)?;
        self.usable()?;
        self.aborted()
    }

    fn is_spent(&self) -> bool {
        self.spent.is_some()
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        // The client takes its time to go; nobody should wait for it.
        let client = self.client.clone();
        self.worker.leave(move || drop(client));
    }
}
