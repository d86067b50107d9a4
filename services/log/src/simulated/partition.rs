//! A partition: records and markers in one sequence of offsets, and what a `read_committed` reader sees of it.

use crate::{LogRecord, NewRecord};
use std::collections::BTreeMap;

/// Number of a transaction, unique in the broker.
pub type TransactionId = u64;

#[derive(Debug)]
enum Entry {
    Record { record: NewRecord, transaction: Option<TransactionId> },
    Marker,
}

#[derive(Debug, Default)]
pub struct Partition {
    entries: Vec<Entry>,
    /// First offset of each transaction without a marker here.
    open: BTreeMap<TransactionId, usize>,
    /// Whether the marker of a transaction says committed.
    ended: BTreeMap<TransactionId, bool>,
}

impl Partition {
    pub fn next_offset(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn append(&mut self, record: NewRecord, transaction: Option<TransactionId>) {
        if let Some(transaction) = transaction {
            self.open.entry(transaction).or_insert(self.entries.len());
        }
        self.entries.push(Entry::Record { record, transaction });
    }

    /// Ends a transaction here, once.
    pub fn mark(&mut self, transaction: TransactionId, is_commit: bool) {
        if self.open.remove(&transaction).is_some() {
            self.ended.insert(transaction, is_commit);
            self.entries.push(Entry::Marker);
        }
    }

    /// The last stable offset: nothing at or after it can be seen yet.
    pub fn stable_end(&self) -> u64 {
        self.open.values().min().copied().unwrap_or(self.entries.len()) as u64
    }

    pub fn read(&self, from: u64, max_records: usize, max_bytes: usize) -> Vec<LogRecord> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let until = self.stable_end() as usize;
        for offset in from as usize..until {
            let Entry::Record { record, transaction } = &self.entries[offset] else { continue };
            if transaction.is_some_and(|transaction| self.ended.get(&transaction) != Some(&true)) {
                continue;
            }
            bytes += record.key.len() + record.value.len();
            if found.len() == max_records || (bytes > max_bytes && !found.is_empty()) {
                break;
            }
            let NewRecord { key, value, headers } = record.clone();
            found.push(LogRecord { offset: offset as u64, key, value, headers });
        }
        found
    }
}
