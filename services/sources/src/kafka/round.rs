//! A round: from the cursor to the ends that the partitions had when it began. It may take several polls.

use super::client::Client;
use super::cursor::{Bounds, Cursor, made_anew};
use super::errors::{code_of, is_final};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use thyme_core::{Error, Result};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// About so many bytes of values come by one poll.
const POLL_BYTES: usize = 16 << 20;
/// How long records that are known to be there may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);
/// Records that have arrived do not wait longer for more.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

/// A record of the topic.
pub struct Record {
    pub partition: i32,
    pub offset: u64,
    /// Of topic, key, value and time.
    pub hash: u64,
    /// `None` for a tombstone.
    pub value: Option<Vec<u8>>,
}

pub struct Round {
    /// After what was read.
    pub cursor: Cursor,
    /// The end of each partition that is still to be read.
    ends: BTreeMap<i32, u64>,
}

impl Round {
    pub fn begin(client: &mut Client, saved: Option<Cursor>) -> Result<Round> {
        // Nothing of an earlier round comes any more.
        client.assign(&BTreeMap::new())?;
        let partitions = client.partitions()?;
        let cluster = client.cluster()?;
        let bounds = client.bounds(&partitions)?;
        let cursor = match saved {
            None => Cursor::start(cluster, &client.topic, &bounds),
            Some(saved) => saved.go_on(cluster, &client.topic, &bounds)?,
        };
        let ends: BTreeMap<i32, u64> = bounds
            .iter()
            .filter(|(partition, bounds)| cursor.is_behind(**partition, bounds.end))
            .map(|(partition, bounds)| (*partition, bounds.end))
            .collect();
        let round = Round { cursor, ends };
        if !round.is_over() {
            client.assign(&round.places(client, &bounds))?;
        }
        Ok(round)
    }

    pub fn is_over(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where to begin. A new connection begins with the last record that was read, to see that it is still the same.
    fn places(&self, client: &Client, bounds: &BTreeMap<i32, Bounds>) -> BTreeMap<i32, u64> {
        let place = |partition: &i32| {
            let progress = self.cursor.partitions.get(partition)?;
            let first = bounds.get(partition)?.first;
            let looks_back = progress.print.is_some() && progress.next > first && !client.verified.contains(partition);
            let next = if looks_back { progress.next - 1 } else { progress.next.max(first) };
            Some((*partition, next))
        };
        self.ends.keys().filter_map(place).collect()
    }

    /// Records up to the limits. If some were read before something failed, those: the failure comes again.
    pub fn read(&mut self, client: &mut Client, max_rows: usize) -> Result<Vec<Record>> {
        let seed = xxh3_64(client.topic.as_bytes());
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut last = Instant::now();
        let mut verified = Vec::new();
        while !self.is_over() && records.len() < max_rows && bytes < POLL_BYTES {
            let failure = match client.next(STEP)? {
                Some(Ok(message)) => {
                    last = Instant::now();
                    verified.push(message.partition());
                    if let Some(record) = self.take(&message, seed, &client.topic)? {
                        bytes += record.value.as_ref().map_or(0, Vec::len);
                        records.push(record);
                    }
                    continue;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    last = Instant::now();
                    self.ended(partition);
                    continue;
                }
                Some(Err(error)) if code_of(&error).is_some_and(is_final) => error,
                _ if !records.is_empty() && last.elapsed() > PATIENCE => break,
                _ if last.elapsed() > ARRIVAL => KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut),
                _ => continue,
            };
            if records.is_empty() {
                let what = format!("reading topic '{}'", client.topic);
                return Err(client.failed(&what, &failure));
            }
            break;
        }
        client.verified.extend(verified);
        if self.is_over() {
            client.assign(&BTreeMap::new())?;
        }
        Ok(records)
    }

    /// The record, unless it was read before.
    fn take(&mut self, message: &BorrowedMessage<'_>, seed: u64, topic: &str) -> Result<Option<Record>> {
        let partition = message.partition();
        let offset = u64::try_from(message.offset()).map_err(|_| Error::internal("a record without an offset"))?;
        let Some(progress) = self.cursor.partitions.get_mut(&partition) else { return Ok(None) };
        let hash = hash(message, seed);
        if offset < progress.next {
            if offset + 1 == progress.next && progress.print.is_some_and(|print| print != hash) {
                return Err(made_anew(
                    topic,
                    &format!("offset {offset} of partition {partition} holds another record"),
                ));
            }
            return Ok(None);
        }
        progress.next = offset + 1;
        progress.settled = progress.settled.max(progress.next);
        progress.print = Some(hash);
        if self.ends.get(&partition).is_some_and(|end| offset + 1 >= *end) {
            self.ends.remove(&partition);
        }
        Ok(Some(Record { partition, offset, hash, value: message.payload().map(<[u8]>::to_vec) }))
    }

    /// Behind the last record there are only marks of transactions, or records that were compacted away.
    fn ended(&mut self, partition: i32) {
        let Some(end) = self.ends.remove(&partition) else { return };
        if let Some(progress) = self.cursor.partitions.get_mut(&partition) {
            progress.settled = progress.settled.max(end);
        }
    }
}

fn hash(message: &BorrowedMessage<'_>, seed: u64) -> u64 {
    let mut hash = Xxh3::with_seed(seed);
    for part in [message.key(), message.payload()] {
        hash.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.update(&message.timestamp().to_millis().unwrap_or(-1).to_le_bytes());
    hash.digest()
}
