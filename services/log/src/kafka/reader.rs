//! Random access to partitions: each place that is read from has a cursor, a queue that librdkafka fills ahead of the reader.
//!
//! A consumer reads a partition at one place only, so that several places of one partition (a pipeline being built reads from
//! the start while the others read the end) need several consumers: the second cursor of any partition is the second
//! consumer's.

use super::Connection;
use super::context::Context;
use super::cursor::{Budget, Cursor, Patience};
use super::errors::code_of;
use crate::LogRecord;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_core::{Error, ErrorKind, Result};

/// How long the broker may take to say where a partition ends.
const ASK_END: Duration = Duration::from_secs(3);
/// Most places of one partition that are read at once.
const MAX_CURSORS: usize = 4;
/// A cursor that nobody has read from for so long is given to whoever needs one.
const IDLE: Duration = Duration::from_secs(30);

pub struct Reader {
    connection: Arc<Connection>,
    /// The consumers, each with the partitions it reads.
    fetchers: Mutex<Vec<Fetcher>>,
    cursors: Mutex<HashMap<String, HashMap<u16, Vec<Slot>>>>,
    /// Only asks where partitions begin and end.
    asker: Mutex<Arc<BaseConsumer<Context>>>,
}

struct Fetcher {
    consumer: Arc<BaseConsumer<Context>>,
    /// The topics that it knows.
    topics: HashSet<String>,
    reads: HashSet<(String, u16)>,
}

impl Fetcher {
    fn new(consumer: Arc<BaseConsumer<Context>>) -> Fetcher {
        Fetcher { consumer, topics: HashSet::new(), reads: HashSet::new() }
    }
}

struct Slot {
    fetcher: usize,
    last_used: Instant,
    /// Where it stands, and from where what it returned last can be had again.
    next: u64,
    kept_from: u64,
    cursor: Arc<Mutex<Cursor>>,
}

impl Slot {
    fn serves(&self, from: u64) -> bool {
        (self.kept_from..=self.next).contains(&from)
    }
}

impl Reader {
    pub fn new(connection: Arc<Connection>, asker: BaseConsumer<Context>) -> Reader {
        let asker = Arc::new(asker);
        connection.pump.add(&asker);
        Reader { connection, fetchers: Mutex::default(), cursors: Mutex::default(), asker: Mutex::new(asker) }
    }

    pub fn read(
        &self,
        topic: &str,
        partition: u16,
        from: u64,
        budget: Budget,
        patience: Patience,
    ) -> Result<Vec<LogRecord>> {
        self.connection.topics.check(topic, partition)?;
        let mut standing = self.standing_at(topic, partition, from);
        let (cursor, outcome, next, kept_from) = loop {
            let cursor = match standing.take() {
                Some(cursor) => cursor,
                None => self.place(topic, partition, from)?,
            };
            let mut held = cursor.lock();
            // Another thread may have had it first, and moved it on or closed it.
            if held.serves(from) {
                let outcome = held.read(from, budget, patience);
                // It may have taken records that nobody gets: whoever waits for it must not go on behind them.
                if outcome.is_err() {
                    held.close();
                }
                let (next, kept_from) = (held.next(), held.kept_from());
                drop(held);
                break (cursor, outcome, next, kept_from);
            }
        };
        match &outcome {
            Ok(_) => {
                if self.note(topic, partition, &cursor, next, kept_from) > 1 {
                    self.make_room(topic, partition, usize::MAX);
                }
            }
            Err(_) => {
                let fetcher = self.remove(topic, partition, &cursor);
                if cursor.lock().is_starved() {
                    fetcher.into_iter().for_each(|fetcher| self.renew(fetcher));
                }
            }
        }
        outcome
    }

    /// Has a cursor there fetch ahead. What goes wrong is told by the read.
    pub fn expect(&self, topic: &str, partition: u16, from: u64) {
        if self.standing_at(topic, partition, from).is_none()
            && let Err(error) = self.place(topic, partition, from)
        {
            tracing::debug!(%error, topic, partition, "no fetching ahead");
        }
    }

    /// Past the last committed record.
    pub fn end_offset(&self, topic: &str, partition: u16) -> Result<u64> {
        self.connection.topics.check(topic, partition)?;
        Ok(self.bounds(topic, partition)?.1)
    }

    /// Where the partition's records begin and end, as the broker says now; not before what this process knows.
    fn bounds(&self, topic: &str, partition: u16) -> Result<(u64, u64)> {
        let name = self.connection.settings.full_name(topic);
        let known = self.connection.ends.known(topic, partition);
        let (low, high) = self.watermarks(topic, partition).map_err(|error| {
            self.connection.forget_if_gone(topic, &error);
            self.connection.failed(&format!("asking for the end of topic '{name}' partition {partition}"), &error)
        })?;
        let unsigned = |offset: i64| u64::try_from(offset).unwrap_or_default();
        Ok((unsigned(low), unsigned(high).max(known)))
    }

    /// A partition that was just made, or whose leader moves, has nobody who answers for a moment.
    fn watermarks(&self, topic: &str, partition: u16) -> std::result::Result<(i64, i64), KafkaError> {
        use RDKafkaErrorCode as Code;
        let name = self.connection.settings.full_name(topic);
        let until = Instant::now() + ASK_END;
        loop {
            let asker = self.asker.lock().clone();
            let answer = asker.fetch_watermarks(&name, i32::from(partition), ASK_END);
            let code = answer.as_ref().err().and_then(code_of);
            let may_pass =
                matches!(code, Some(Code::NotLeaderForPartition | Code::LeaderNotAvailable | Code::UnknownPartition));
            if !may_pass || Instant::now() > until {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(20));
            // The broker does list the partition (`Topics::check`): librdkafka keeps what it was told of the topic a moment too
            // early, for minutes. A new client asks anew.
            if code == Some(Code::UnknownPartition)
                && let Ok(fresh) = self.consumer()
            {
                *self.asker.lock() = fresh;
            }
        }
    }

    fn consumer(&self) -> Result<Arc<BaseConsumer<Context>>> {
        let connection = &self.connection;
        let made = connection.settings.reader().create_with_context(connection.context());
        let made = Arc::new(made.map_err(|error| connection.failed("starting a consumer", &error))?);
        connection.pump.add(&made);
        Ok(made)
    }

    fn standing_at(&self, topic: &str, partition: u16, from: u64) -> Option<Arc<Mutex<Cursor>>> {
        let strays = self.connection.pump.strays();
        let mut cursors = self.cursors.lock();
        let slots = cursors.get_mut(topic)?.get_mut(&partition)?;
        // One that stands there exactly is better than one that has been past it.
        let slot = slots.iter_mut().filter(|slot| slot.serves(from)).min_by_key(|slot| slot.next - from)?;
        if slot.cursor.try_lock().is_some_and(|cursor| cursor.strays() != strays) {
            return None;
        }
        slot.last_used = Instant::now();
        Some(slot.cursor.clone())
    }

    /// Takes down where a cursor stands now. How many there are of its partition.
    fn note(&self, topic: &str, partition: u16, cursor: &Arc<Mutex<Cursor>>, next: u64, kept_from: u64) -> usize {
        let mut cursors = self.cursors.lock();
        let Some(slots) = cursors.get_mut(topic).and_then(|partitions| partitions.get_mut(&partition)) else {
            return 0;
        };
        if let Some(slot) = slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.cursor, cursor)) {
            slot.next = next;
            slot.kept_from = kept_from;
        }
        slots.len()
    }

    /// A cursor at `from`: a new one, or one that nobody needs any more.
    fn place(&self, topic: &str, partition: u16, from: u64) -> Result<Arc<Mutex<Cursor>>> {
        let name = self.connection.settings.full_name(topic);
        let (begin, end) = self.bounds(topic, partition)?;
        if from > end {
            return Err(Error::new(
                ErrorKind::OutOfRange,
                format!("offset {from} is past the end of the log: topic={topic} partition={partition} end={end}"),
            ));
        }
        if from < begin {
            return Err(cut_off(&name, partition, from, begin));
        }
        self.make_room(topic, partition, MAX_CURSORS);
        let strays = self.connection.pump.strays();
        let (fetcher, consumer) = self.fetcher_for(topic, partition)?;
        let made = Cursor::open(self.connection.clone(), consumer, topic, partition, from, end, strays);
        let cursor = match made {
            Ok(cursor) => Arc::new(Mutex::new(cursor)),
            Err(error) => {
                self.give_back(fetcher, topic, partition);
                return Err(error);
            }
        };
        let slot = Slot { fetcher, last_used: Instant::now(), next: from, kept_from: from, cursor: cursor.clone() };
        let mut cursors = self.cursors.lock();
        cursors.entry(topic.to_string()).or_default().entry(partition).or_default().push(slot);
        Ok(cursor)
    }

    /// Drops cursors of the partition that are idle, and those not used for longest until there are less than `limit`.
    fn make_room(&self, topic: &str, partition: u16, limit: usize) {
        let mut dropped = Vec::new();
        {
            let mut cursors = self.cursors.lock();
            let Some(slots) = cursors.get_mut(topic).and_then(|partitions| partitions.get_mut(&partition)) else {
                return;
            };
            slots.sort_by_key(|slot| slot.last_used);
            while slots.first().is_some_and(|slot| slots.len() >= limit || slot.last_used.elapsed() > IDLE) {
                dropped.push(slots.remove(0));
            }
        }
        for slot in dropped {
            self.close(slot, topic, partition);
        }
    }

    fn close(&self, slot: Slot, topic: &str, partition: u16) {
        slot.cursor.lock().close();
        self.give_back(slot.fetcher, topic, partition);
    }

    fn give_back(&self, fetcher: usize, topic: &str, partition: u16) {
        if let Some(fetcher) = self.fetchers.lock().get_mut(fetcher) {
            fetcher.reads.remove(&(topic.to_string(), partition));
        }
    }

    /// The consumer it had, if it was still there.
    fn remove(&self, topic: &str, partition: u16, cursor: &Arc<Mutex<Cursor>>) -> Option<usize> {
        let mut removed = None;
        if let Some(slots) = self.cursors.lock().get_mut(topic).and_then(|partitions| partitions.get_mut(&partition))
            && let Some(index) = slots.iter().position(|slot| Arc::ptr_eq(&slot.cursor, cursor))
        {
            removed = Some(slots.remove(index));
        }
        let slot = removed?;
        let fetcher = slot.fetcher;
        self.close(slot, topic, partition);
        Some(fetcher)
    }

    /// librdkafka may lose sight of a partition that had no leader for a moment, and never ask for it again (its issue 5430). What is
    /// placed from now on gets a client that has not; who reads by the old one and is served goes on with it.
    fn renew(&self, fetcher: usize) {
        match self.consumer() {
            Ok(fresh) => {
                let mut fetchers = self.fetchers.lock();
                let old = fetchers.get_mut(fetcher).map(|fetcher| {
                    fetcher.topics.clear();
                    std::mem::replace(&mut fetcher.consumer, fresh)
                });
                drop(fetchers);
                drop(old);
            }
            Err(error) => tracing::debug!(%error, "no new consumer for a partition that is not served"),
        }
    }

    /// The first consumer that does not read the partition yet.
    fn fetcher_for(&self, topic: &str, partition: u16) -> Result<(usize, Arc<BaseConsumer<Context>>)> {
        let wanted = (topic.to_string(), partition);
        let (index, consumer, is_new) = {
            let mut fetchers = self.fetchers.lock();
            let free = fetchers.iter().position(|fetcher| !fetcher.reads.contains(&wanted));
            let index = free.unwrap_or(fetchers.len());
            if free.is_none() {
                fetchers.push(Fetcher::new(self.consumer()?));
            }
            let fetcher = &mut fetchers[index];
            fetcher.reads.insert(wanted);
            (index, fetcher.consumer.clone(), fetcher.topics.insert(topic.to_string()))
        };
        // A consumer that does not know the topic when a partition of it is assigned asks for it only when a second is over. Nobody waits
        // for the lock meanwhile.
        if is_new {
            let name = self.connection.settings.full_name(topic);
            if let Err(error) = consumer.fetch_metadata(Some(&name), ASK_END) {
                tracing::debug!(%error, topic, "a consumer has not found the topic yet");
            }
        }
        Ok((index, consumer))
    }

    /// Cursors know what was there when they were opened; the next read opens another.
    pub fn forget(&self, topic: &str) {
        let removed = self.cursors.lock().remove(topic);
        for (partition, slots) in removed.into_iter().flatten() {
            for slot in slots {
                self.close(slot, topic, partition);
            }
        }
    }
}

/// Records that were wanted are no longer in the log.
pub fn cut_off(name: &str, partition: u16, wanted: u64, begin: u64) -> Error {
    Error::data_loss(format!(
        "records are gone from the log: topic={name} partition={partition} wanted={wanted} first={begin}"
    ))
    .hint(
        "the broker's retention has deleted them: set retention.ms=-1 and retention.bytes=-1 on the topic; state that needs them can only be \
         had from a checkpoint or a copy of the data directory",
    )
}
