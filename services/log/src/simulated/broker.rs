//! The broker: topics, the transaction coordinator, the group coordinator, and requests under way.

use super::partition::{Partition, TransactionId};
use super::{Faults, unreachable_broker};
use crate::chance::Chance;
use crate::{Appended, Batch, LogRecord};
use std::collections::BTreeMap;
use thyme_core::suggest;
use thyme_core::{Error, ErrorKind, Result};

/// (group, topic, partition)
type GroupPlace = (String, String, u16);

pub struct Broker {
    pub chance: Chance,
    pub faults: Faults,
    pub trace: Vec<String>,
    topics: BTreeMap<String, Vec<Partition>>,
    committed: BTreeMap<GroupPlace, u64>,
    coordinators: BTreeMap<String, Coordinator>,
    /// Ends of transactions that have been sent and not yet arrived.
    under_way: Vec<End>,
    next_transaction: TransactionId,
}

/// What the coordinator knows of one transactional id.
#[derive(Default)]
struct Coordinator {
    epoch: u64,
    transaction: Option<Transaction>,
}

struct Transaction {
    id: TransactionId,
    partitions: Vec<(String, u16)>,
    offsets: BTreeMap<GroupPlace, u64>,
    /// Committed or aborted; the markers that are still to be written are `partitions`, the offsets `offsets`.
    decided: Option<bool>,
}

#[derive(Debug, Clone)]
pub struct End {
    pub id: String,
    pub epoch: u64,
    pub is_commit: bool,
}

/// What the coordinator answers to the end of a transaction.
pub enum Ended {
    Done,
    Fenced,
}

impl Broker {
    pub fn new(seed: u64, faults: Faults) -> Broker {
        Broker {
            chance: Chance::new(seed),
            faults,
            trace: Vec::new(),
            topics: BTreeMap::new(),
            committed: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            under_way: Vec::new(),
            next_transaction: 0,
        }
    }

    pub fn note(&mut self, what: String) {
        self.trace.push(what);
    }

    fn is_silent(&mut self) -> bool {
        let rate = self.faults.silent_other;
        self.chance.happens(rate)
    }

    // Topics.

    pub fn create_topic(&mut self, topic: &str, partitions: u16) -> Result<()> {
        if partitions == 0 {
            return Err(Error::invalid(format!("a topic needs partitions: topic={topic}")));
        }
        let found = self.topics.entry(topic.to_string()).or_insert_with(|| {
            let mut made = Vec::new();
            made.resize_with(usize::from(partitions), Partition::default);
            made
        });
        if found.len() != usize::from(partitions) {
            let message = format!("the topic has {} partitions, not {partitions}: topic={topic}", found.len());
            return Err(Error::conflict(message));
        }
        Ok(())
    }

    pub fn delete_topic(&mut self, topic: &str) -> Result<()> {
        self.topics.remove(topic).ok_or_else(|| no_topic(topic, self.topics.keys()))?;
        self.committed.retain(|(_, of, _), _| of != topic);
        Ok(())
    }

    pub fn topics(&self) -> Vec<(String, u16)> {
        self.topics.iter().map(|(name, partitions)| (name.clone(), partitions.len() as u16)).collect()
    }

    pub fn partition(&mut self, topic: &str, partition: u16) -> Result<&mut Partition> {
        if !self.topics.contains_key(topic) {
            return Err(no_topic(topic, self.topics.keys()));
        }
        self.topics.get_mut(topic).and_then(|found| found.get_mut(usize::from(partition))).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, format!("no such partition: topic={topic} partition={partition}"))
        })
    }

    // Plain appends and reads.

    pub fn append(&mut self, mut batches: Vec<Batch>) -> Result<Vec<Appended>> {
        for batch in &batches {
            self.partition(&batch.topic, batch.partition)?;
        }
        let rate = self.faults.append;
        let fails = self.chance.happens(rate);
        if fails {
            let keep = self.chance.below(batches.len() + 1);
            self.note(format!("append answers nothing after {keep} of {} batches", batches.len()));
            batches.truncate(keep);
        }
        let mut places = Vec::with_capacity(batches.len());
        for batch in batches {
            let partition = self.partition(&batch.topic, batch.partition)?;
            let first = partition.next_offset();
            for record in batch.records {
                partition.append(record, None);
            }
            places.push(Appended { first, end: partition.next_offset() });
        }
        if fails { Err(unreachable_broker()) } else { Ok(places) }
    }

    pub fn read(
        &mut self,
        topic: &str,
        partition: u16,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>> {
        if self.is_silent() {
            return Err(unreachable_broker());
        }
        let found = self.partition(topic, partition)?;
        if from > found.next_offset() {
            let end = found.next_offset();
            let message = format!("past the end: topic={topic} partition={partition} offset={from} end={end}");
            return Err(Error::new(ErrorKind::OutOfRange, message));
        }
        Ok(found.read(from, max_records, max_bytes))
    }

    // Transactions.

    /// A new epoch. What the earlier one had open is aborted, what it had decided is completed.
    pub fn fence(&mut self, id: &str) -> Result<u64> {
        if self.is_silent() {
            return Err(unreachable_broker());
        }
        let coordinator = self.coordinators.entry(id.to_string()).or_default();
        coordinator.epoch += 1;
        let epoch = coordinator.epoch;
        if let Some(transaction) = &mut coordinator.transaction {
            transaction.decided.get_or_insert(false);
        }
        self.complete(id);
        self.note(format!("{id} is fenced by epoch {epoch}"));
        // It may have been fenced without the one who asked hearing of it.
        if self.is_silent() { Err(unreachable_broker()) } else { Ok(epoch) }
    }

    fn check_epoch(&self, id: &str, epoch: u64) -> Result<()> {
        let now = self.coordinators.get(id).map_or(0, |coordinator| coordinator.epoch);
        if now == epoch {
            return Ok(());
        }
        Err(Error::precondition(format!("simulated: fenced: id={id} epoch={epoch} now={now}")))
    }

    /// The open transaction of an id; its last one is completed first, as a client waits for that.
    fn open_transaction(&mut self, id: &str, epoch: u64) -> Result<&mut Transaction> {
        self.check_epoch(id, epoch)?;
        self.complete(id);
        let number = self.next_transaction;
        let coordinator = self.coordinators.entry(id.to_string()).or_default();
        if coordinator.transaction.is_none() {
            self.next_transaction += 1;
        }
        Ok(coordinator.transaction.get_or_insert_with(|| Transaction {
            id: number,
            partitions: Vec::new(),
            offsets: BTreeMap::new(),
            decided: None,
        }))
    }

    pub fn send(&mut self, id: &str, epoch: u64, batch: Batch) -> Result<()> {
        self.partition(&batch.topic, batch.partition)?;
        let transaction = self.open_transaction(id, epoch)?;
        let place = (batch.topic.clone(), batch.partition);
        if !transaction.partitions.contains(&place) {
            transaction.partitions.push(place);
        }
        let number = transaction.id;
        let rate = self.faults.silent_send;
        let is_silent = self.chance.happens(rate);
        let keep = if is_silent { self.chance.below(batch.records.len() + 1) } else { batch.records.len() };
        let partition = self.partition(&batch.topic, batch.partition)?;
        for record in batch.records.into_iter().take(keep) {
            partition.append(record, Some(number));
        }
        if is_silent {
            self.note(format!("a send of {id} answers nothing after {keep} records"));
            return Err(unreachable_broker());
        }
        Ok(())
    }

    pub fn send_offset(&mut self, id: &str, epoch: u64, place: GroupPlace, next: u64) -> Result<()> {
        self.partition(&place.1, place.2)?;
        self.open_transaction(id, epoch)?.offsets.insert(place, next);
        Ok(())
    }

    /// An end arrives: it applies to the transaction that is open by now.
    pub fn end(&mut self, end: &End) -> Ended {
        if self.check_epoch(&end.id, end.epoch).is_err() {
            return Ended::Fenced;
        }
        if let Some(transaction) =
            self.coordinators.get_mut(&end.id).and_then(|coordinator| coordinator.transaction.as_mut())
        {
            transaction.decided.get_or_insert(end.is_commit);
        }
        let rate = self.faults.late_markers;
        if !self.chance.happens(rate) {
            self.complete(&end.id);
        }
        Ended::Done
    }

    pub fn delay(&mut self, end: End) {
        self.under_way.push(end);
    }

    /// The last committed offset, once no decided transaction has it in hand; a transaction that is still open withholds it.
    pub fn committed(&mut self, place: &GroupPlace) -> Result<Option<u64>> {
        self.partition(&place.1, place.2)?;
        if self.is_silent() {
            return Err(unreachable_broker());
        }
        for id in self.ids() {
            let transaction = self.coordinators.get(&id).and_then(|coordinator| coordinator.transaction.as_ref());
            let Some(transaction) = transaction.filter(|transaction| transaction.offsets.contains_key(place)) else {
                continue;
            };
            if transaction.decided.is_none() {
                return Err(Error::unavailable(format!("simulated: unstable offsets, {id} has a transaction open")));
            }
            self.complete(&id);
        }
        Ok(self.committed.get(place).copied())
    }

    fn ids(&self) -> Vec<String> {
        self.coordinators.keys().cloned().collect()
    }

    /// Writes all markers of a decided transaction; an undecided one stays.
    fn complete(&mut self, id: &str) {
        while self.write_marker(id) {}
    }

    /// Writes one marker of a decided transaction, or its offsets when no marker is left. False when there is nothing to do.
    fn write_marker(&mut self, id: &str) -> bool {
        let Some(coordinator) = self.coordinators.get_mut(id) else { return false };
        let Some(transaction) = &mut coordinator.transaction else { return false };
        let Some(is_commit) = transaction.decided else { return false };
        let number = transaction.id;
        if let Some((topic, partition)) = transaction.partitions.pop() {
            // The topic may have been deleted meanwhile.
            if let Some(found) = self.topics.get_mut(&topic).and_then(|found| found.get_mut(usize::from(partition))) {
                found.mark(number, is_commit);
            }
            return true;
        }
        let offsets = std::mem::take(&mut transaction.offsets);
        coordinator.transaction = None;
        if is_commit {
            self.committed.extend(offsets);
        }
        false
    }

    // Time.

    pub fn pass_time(&mut self) {
        if !self.under_way.is_empty() && self.chance.happens(500) {
            let which = self.chance.below(self.under_way.len());
            let end = self.under_way.remove(which);
            let arrived = matches!(self.end(&end), Ended::Done);
            self.note(format!("a late end arrives: {} epoch {} accepted {arrived}", end.id, end.epoch));
        }
        for id in self.ids() {
            if self.chance.happens(500) {
                self.write_marker(&id);
            }
            let rate = self.faults.timeout;
            let is_over = self.chance.happens(rate);
            let Some(coordinator) = self.coordinators.get_mut(&id) else { continue };
            let is_open = coordinator.transaction.as_ref().is_some_and(|transaction| transaction.decided.is_none());
            if is_over && is_open {
                // The coordinator fences a producer whose transaction it aborts.
                coordinator.epoch += 1;
                if let Some(transaction) = &mut coordinator.transaction {
                    transaction.decided = Some(false);
                }
                self.note(format!("the transaction of {id} runs into its timeout"));
            }
        }
    }

    pub fn heal(&mut self) {
        self.faults = Faults::default();
        for end in std::mem::take(&mut self.under_way) {
            self.end(&end);
        }
        for id in self.ids() {
            self.complete(&id);
        }
        self.note("healed".to_string());
    }
}

fn no_topic<'a>(topic: &str, names: impl Iterator<Item = &'a String>) -> Error {
    Error::not_found(format!("no such topic: {topic}")).hint(suggest::hint(topic, names.map(String::as_str)))
}
