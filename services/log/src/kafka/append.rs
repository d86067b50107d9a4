//! Appends: one idempotent producer; an append returns when the broker has acknowledged each of its records.

use super::Connection;
use super::context::Context;
use super::errors::{code_of, translate};
use crate::{Appended, Batch};
use parking_lot::{Mutex, RwLock};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thyme_core::{Error, Result};
use tokio::sync::Notify;

/// How long records wait for room in the producer's queue.
pub const QUEUE_WAIT: Duration = Duration::from_secs(10);
/// After so many records in a row other tasks have their turn.
const TURN: usize = 1024;

/// What became of the records that were handed over together.
#[derive(Default)]
pub struct Deliveries {
    waiting: AtomicUsize,
    error: Mutex<Option<KafkaError>>,
    changed: Notify,
}

/// Of one batch of them.
pub struct Delivery {
    first: AtomicU64,
    end: AtomicU64,
    all: Arc<Deliveries>,
}

impl Deliveries {
    /// A batch whose `records` will each be told to be done or failed.
    pub fn expect(self: &Arc<Self>, records: usize) -> Arc<Delivery> {
        self.waiting.fetch_add(records, Ordering::AcqRel);
        Arc::new(Delivery { first: AtomicU64::new(u64::MAX), end: AtomicU64::new(0), all: self.clone() })
    }

    /// Until every expected record is done or failed; the first error.
    async fn finished(&self) -> Option<KafkaError> {
        loop {
            let changed = self.changed.notified();
            if self.waiting.load(Ordering::Acquire) == 0 {
                return self.error();
            }
            changed.await;
        }
    }

    pub fn error(&self) -> Option<KafkaError> {
        self.error.lock().clone()
    }

    fn told(&self, records: usize) {
        if self.waiting.fetch_sub(records, Ordering::AcqRel) == records {
            self.changed.notify_waiters();
            self.changed.notify_one();
        }
    }
}

impl Delivery {
    pub fn done(&self, offset: u64) {
        self.first.fetch_min(offset, Ordering::AcqRel);
        self.end.fetch_max(offset + 1, Ordering::AcqRel);
        self.all.told(1);
    }

    pub fn failed(&self, records: usize, error: KafkaError) {
        self.all.error.lock().get_or_insert(error);
        self.all.told(records);
    }

    /// Where the batch lies; `None` if it has no record.
    pub fn place(&self) -> Option<Appended> {
        let end = self.end.load(Ordering::Acquire);
        (end > 0).then(|| Appended { first: self.first.load(Ordering::Acquire), end })
    }
}

/// Hands a record over. `Ok(false)`: the queue is full, try again.
pub fn hand_over(
    producer: &ThreadedProducer<Context>,
    topic: &str,
    partition: u16,
    record: &crate::NewRecord,
    delivery: &Arc<Delivery>,
) -> Result<bool, KafkaError> {
    let mut message = BaseRecord::with_opaque_to(topic, delivery.clone())
        .partition(i32::from(partition))
        .key(record.key.as_ref())
        .payload(record.value.as_ref());
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        message = message.headers(
            record
                .headers
                .iter()
                .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value.as_ref()) })),
        );
    }
    match producer.send(message) {
        Ok(()) => Ok(true),
        Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => Ok(false),
        Err((error, _)) => Err(error),
    }
}

type Client = ThreadedProducer<Context>;

pub struct Appender {
    connection: Arc<Connection>,
    client: RwLock<Arc<Client>>,
}

impl Appender {
    pub fn new(connection: Arc<Connection>) -> Result<Appender> {
        let client = RwLock::new(Arc::new(made(&connection)?));
        Ok(Appender { connection, client })
    }

    /// One that was refused for good, for want of a right, is of no use even when that is granted.
    fn client(&self) -> Result<Arc<Client>> {
        let client = self.client.read().clone();
        if client.client().fatal_error().is_none() {
            return Ok(client);
        }
        self.renew(&client)
    }

    /// Another client in place of this one, unless there is one already.
    fn renew(&self, worn: &Arc<Client>) -> Result<Arc<Client>> {
        let mut current = self.client.write();
        if Arc::ptr_eq(&current, worn) {
            let old = std::mem::replace(&mut *current, Arc::new(made(&self.connection)?));
            leave(old)?;
        }
        Ok(current.clone())
    }

    pub async fn append(&self, batches: Vec<Batch>) -> Result<Vec<Appended>> {
        for batch in &batches {
            self.connection.topics.check(&batch.topic, batch.partition)?;
        }
        let client = self.client()?;
        let deliveries = Arc::new(Deliveries::default());
        let mut places = Vec::with_capacity(batches.len());
        for batch in &batches {
            let delivery = deliveries.expect(batch.records.len());
            self.hand_over_all(&client, batch, &delivery).await;
            places.push(delivery);
        }
        if let Some(error) = deliveries.finished().await {
            // librdkafka may lose sight of a partition that had no leader for a moment, and never ask for it again (its issue 5430).
            if code_of(&error) == Some(RDKafkaErrorCode::MessageTimedOut)
                && let Err(error) = self.renew(&client)
            {
                tracing::debug!(%error, "no new producer in place of one that was not answered");
            }
            return Err(self.refused(&client, &batches, &error));
        }
        let mut appended = Vec::with_capacity(batches.len());
        for (batch, delivery) in batches.iter().zip(places) {
            appended.push(match delivery.place() {
                Some(place) => {
                    self.connection.ends.raise(&batch.topic, batch.partition, place.end);
                    place
                }
                None => {
                    let end = self.connection.ends.known(&batch.topic, batch.partition);
                    Appended { first: end, end }
                }
            });
        }
        self.connection.announce();
        Ok(appended)
    }

    /// What cannot be handed over is told to the delivery as failed.
    async fn hand_over_all(&self, client: &Client, batch: &Batch, delivery: &Arc<Delivery>) {
        let topic = self.connection.settings.full_name(&batch.topic);
        let until = Instant::now() + QUEUE_WAIT;
        for (index, record) in batch.records.iter().enumerate() {
            if index % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            loop {
                let error = match hand_over(client, &topic, batch.partition, record, delivery) {
                    Ok(true) => break,
                    Ok(false) if Instant::now() < until => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        continue;
                    }
                    Ok(false) => KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                    Err(error) => error,
                };
                delivery.failed(batch.records.len() - index, error);
                return;
            }
        }
    }

    fn refused(&self, client: &Client, batches: &[Batch], error: &KafkaError) -> Error {
        let names: Vec<&str> = batches.iter().map(|batch| batch.topic.as_str()).collect();
        let topic = names.first().copied().unwrap_or_default();
        if code_of(error) == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
            let sizes = batches.iter().flat_map(|batch| &batch.records);
            let largest = sizes.map(|record| record.key.len() + record.value.len()).max().unwrap_or_default();
            let what = format!("a record of topic '{topic}' is too large for the broker: largest={largest} bytes");
            return translate(&self.connection.settings, &what, error);
        }
        let what = format!("appending to topic '{topic}'");
        // What became of the records then says only that they were not sent.
        match client.client().fatal_error() {
            Some((code, _)) => self.connection.failed(&what, &KafkaError::Global(code)),
            None => self.connection.failed(&what, error),
        }
    }
}

/// Ends a client once nobody sends by it any more; that may take a while, which nobody who answers calls is to wait for.
fn leave(client: Arc<Client>) -> Result<()> {
    let wait = move || {
        while Arc::strong_count(&client) > 1 {
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let begun = std::thread::Builder::new().name("kafka-leaving".to_string()).spawn(wait);
    begun.map(drop).map_err(|error| Error::internal(format!("starting a thread: {error}")))
}

fn made(connection: &Arc<Connection>) -> Result<Client> {
    let made = connection.settings.appender().create_with_context(connection.context());
    made.map_err(|error| connection.failed("starting the producer", &error))
}
