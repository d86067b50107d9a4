//! One place in one partition, with the records that librdkafka has fetched ahead of it.

use super::Connection;
use super::context::Context;
use super::errors::code_of;
use super::reader::cut_off;
use super::topics::ASK;
use crate::LogRecord;
use bytes::Bytes;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_core::{Error, Result};

/// How long a record that is known to be there may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);
/// How often it is looked whether it is still waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What was read last is kept up to this size, for readers that took less of it than they asked for.
const KEPT_BYTES: usize = 1 << 20;

/// About how much is read.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub records: usize,
    pub bytes: usize,
}

/// Whether a read waits for a record that is known to be there and has not come yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    UntilArrived,
    None,
}

pub struct Cursor {
    connection: Arc<Connection>,
    consumer: Arc<BaseConsumer<Context>>,
    /// `None` once it is closed.
    queue: Option<PartitionQueue<Context>>,
    topic: String,
    /// As the broker knows it.
    name: String,
    partition: u16,
    next: u64,
    /// The partition's end when the cursor was opened, until the cursor has come to an end once.
    first_end: Option<u64>,
    kept_from: u64,
    kept: Vec<LogRecord>,
    strays: u64,
    /// Since when reads have not got what must be there.
    lacks_since: Option<Instant>,
    /// What must be there did not come.
    is_starved: bool,
}

impl Cursor {
    pub fn open(
        connection: Arc<Connection>,
        consumer: Arc<BaseConsumer<Context>>,
        topic: &str,
        partition: u16,
        from: u64,
        end: u64,
        strays: u64,
    ) -> Result<Cursor> {
        let name = connection.settings.full_name(topic);
        let what = format!("reading topic '{name}' partition {partition}");
        // The queue first: records must not come by the consumer's common one.
        let mut queue = consumer
            .split_partition_queue(&name, i32::from(partition))
            .ok_or_else(|| Error::internal(format!("{what}: no queue")))?;
        let of_queue = Arc::downgrade(&connection);
        queue.set_nonempty_callback(move || {
            if let Some(connection) = of_queue.upgrade() {
                connection.announce();
            }
        });
        let mut assigned = TopicPartitionList::new();
        let offset = Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX));
        assigned
            .add_partition_offset(&name, i32::from(partition), offset)
            .and_then(|()| consumer.incremental_assign(&assigned))
            .map_err(|error| connection.failed(&what, &error))?;
        Ok(Cursor {
            connection,
            consumer,
            queue: Some(queue),
            topic: topic.to_string(),
            name,
            partition,
            next: from,
            first_end: (from < end).then_some(end),
            kept_from: from,
            kept: Vec::new(),
            strays,
            lacks_since: None,
            is_starved: false,
        })
    }

    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn kept_from(&self) -> u64 {
        self.kept_from
    }

    /// Whether it can be read from there.
    pub fn serves(&self, from: u64) -> bool {
        self.queue.is_some() && (self.kept_from..=self.next).contains(&from)
    }

    pub fn strays(&self) -> u64 {
        self.strays
    }

    pub fn is_starved(&self) -> bool {
        self.is_starved
    }

    pub fn close(&mut self) {
        if self.queue.take().is_some() {
            let mut assigned = TopicPartitionList::new();
            assigned.add_partition(&self.name, i32::from(self.partition));
            if let Err(error) = self.consumer.incremental_unassign(&assigned) {
                tracing::debug!(%error, topic = self.name, "a partition could not be let go");
            }
        }
    }

    /// Records from `from` on, which it [serves](Self::serves).
    pub fn read(&mut self, from: u64, budget: Budget, patience: Patience) -> Result<Vec<LogRecord>> {
        let again = self.kept.partition_point(|record| record.offset < from);
        let mut records: Vec<LogRecord> = self.kept[again..].to_vec();
        if from == self.next {
            records.clear();
        }
        let mut bytes: usize = records.iter().map(size).sum();
        if records.len() < budget.records && bytes < budget.bytes.max(1) {
            let left = Budget { records: budget.records - records.len(), bytes: budget.bytes.saturating_sub(bytes) };
            let fresh = self.fetch(left, if records.is_empty() { patience } else { Patience::None })?;
            bytes += fresh.iter().map(size).sum::<usize>();
            records.extend(fresh);
        }
        if let Some(last) = records.last() {
            let next = last.offset + 1;
            let is_kept = bytes <= KEPT_BYTES;
            self.kept_from = if is_kept { from } else { next };
            self.kept = if is_kept { records.clone() } else { Vec::new() };
            self.next = next;
            // Another cursor of the partition may not have fetched these yet.
            self.connection.ends.raise(&self.topic, self.partition, next);
        }
        cut(&mut records, budget);
        Ok(records)
    }

    /// Whether a record or the end must be waited for: what was acknowledged or read elsewhere, or was there when the cursor was opened.
    fn must_wait(&self) -> bool {
        let known = self.connection.ends.known(&self.topic, self.partition);
        self.next < known || self.first_end.is_some_and(|end| self.next < end)
    }

    /// What has come; where that is nothing, but something must be there, what comes, as far as patience goes.
    fn fetch(&mut self, budget: Budget, patience: Patience) -> Result<Vec<LogRecord>> {
        let mut taken = Taken::default();
        loop {
            let lacks = taken.is_empty() && self.must_wait();
            let wait = if lacks && patience == Patience::UntilArrived { LOOK_EVERY } else { Duration::ZERO };
            let Some(queue) = &self.queue else {
                return Err(Error::unavailable("the place in the log is closed"));
            };
            let is_over = match queue.poll(wait) {
                Some(Ok(message)) => {
                    taken.add(&message);
                    taken.places.len() >= budget.records || taken.bytes.len() >= budget.bytes
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.first_end = None;
                    false
                }
                // What was taken is lost to this cursor, which the reader drops: it is read again.
                Some(Err(error)) => match self.fatal(&error) {
                    Some(error) => return Err(error),
                    None => false,
                },
                None => !lacks || patience == Patience::None,
            };
            if !taken.is_empty() || !self.must_wait() {
                self.lacks_since = None;
            } else if self.lacks_since.get_or_insert_with(Instant::now).elapsed() > ARRIVAL {
                return Err(self.starved());
            }
            if is_over {
                return Ok(taken.into_records());
            }
        }
    }

    fn starved(&mut self) -> Error {
        let what = format!("reading topic '{}' partition {} at offset {}", self.name, self.partition, self.next);
        let late = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
        // It may be of another topic of that name, which somebody else has deleted. The next cursor asks the broker.
        self.connection.ends.forget(&self.topic);
        self.is_starved = true;
        self.connection.failed(&what, &late)
    }

    /// Errors that do not go away by waiting.
    fn fatal(&self, error: &KafkaError) -> Option<Error> {
        use RDKafkaErrorCode as Code;
        let what = format!("reading topic '{}' partition {} at offset {}", self.name, self.partition, self.next);
        match code_of(error)? {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => {
                self.connection.ends.forget(&self.topic);
                let bounds = self.consumer.fetch_watermarks(&self.name, i32::from(self.partition), ASK);
                let begin = bounds.ok().and_then(|(low, _)| u64::try_from(low).ok()).unwrap_or_default();
                if begin > self.next {
                    return Some(cut_off(&self.name, self.partition, self.next, begin));
                }
                Some(Error::data_loss(format!("{what}: the broker no longer has that offset")).hint(
                    "the broker has lost the end of the log, or is another one; restore log and state from one backup",
                ))
            }
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed => {
                Some(self.connection.failed(&what, error))
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                self.connection.forget_if_gone(&self.topic, error);
                Some(self.connection.failed(&what, error))
            }
            Code::BadMessage | Code::InvalidMessage | Code::LogTruncation => {
                Some(Error::data_loss(format!("{what}: {error}")))
            }
            _ => None,
        }
    }
}

fn size(record: &LogRecord) -> usize {
    record.key.len() + record.value.len()
}

/// Keeps the first records, as far as the budget reaches, and one at least.
fn cut(records: &mut Vec<LogRecord>, budget: Budget) {
    let mut bytes = 0;
    let within = |record: &&LogRecord| {
        let fits = bytes < budget.bytes.max(1);
        bytes += size(record);
        fits
    };
    let kept = records.iter().take(budget.records).take_while(within).count();
    records.truncate(kept);
}

/// Where a record's bytes lie in the block.
struct Place {
    offset: u64,
    key: Range<usize>,
    value: Range<usize>,
    headers: Vec<(String, Range<usize>)>,
}

/// Records as they are taken from the queue: all bytes in one block.
#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn add(&mut self, message: &BorrowedMessage<'_>) {
        let offset = u64::try_from(message.offset()).unwrap_or_default();
        let key = self.put(message.key());
        let value = self.put(message.payload());
        let headers = message
            .headers()
            .map(|headers| headers.iter().map(|header| (header.key.to_string(), self.put(header.value))).collect());
        self.places.push(Place { offset, key, value, headers: headers.unwrap_or_default() });
    }

    fn put(&mut self, bytes: Option<&[u8]>) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes.unwrap_or_default());
        start..self.bytes.len()
    }

    fn into_records(self) -> Vec<LogRecord> {
        let bytes = Bytes::from(self.bytes);
        let record = |place: Place| LogRecord {
            offset: place.offset,
            key: bytes.slice(place.key),
            value: bytes.slice(place.value),
            headers: place.headers.into_iter().map(|(name, range)| (name, bytes.slice(range))).collect(),
        };
        self.places.into_iter().map(record).collect()
    }
}
