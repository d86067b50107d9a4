//! What was published of a source behind its saved cursor. Rows are published, then the cursor is saved; after a halt in between they
//! are polled again. How long that lasted does not matter: they are looked for in the log itself, from where it ended when the cursor
//! was saved. The engine's memory for ids, which has an end, is for a server that was replaced and wakes up.

use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use thyme_core::Result;
use thyme_core::record::{EventId, Record};
use thyme_ingest::rows::EncodedRows;
use thyme_log::EventLog;

const READ_RECORDS: usize = 10_000;
const READ_BYTES: usize = 8 << 20;

/// What is kept of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// `None`: its beginning.
    pub cursor: Option<String>,
    /// For each partition of the dataset's log a place: what is published behind the cursor lies there or later.
    pub log: BTreeMap<u16, u64>,
}

impl Saved {
    /// A version of before kept the cursor alone.
    pub fn read(text: &str) -> Saved {
        serde_json::from_str(text).unwrap_or_else(|_| Saved { cursor: Some(text.to_string()), log: BTreeMap::new() })
    }

    pub fn written(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| thyme_core::Error::internal(format!("a source's place does not encode: {error}")))
    }
}

/// Where the log ends now, or before.
pub fn ends(log: &dyn EventLog, topic: &str, partitions: u16) -> Result<BTreeMap<u16, u64>> {
    (0..partitions).map(|partition| Ok((partition, log.end_offset(topic, partition)?))).collect()
}

/// The ids that are in the log behind a saved cursor, looked up in the partitions that polled rows go to.
#[derive(Default)]
pub struct Recall {
    known: BTreeMap<u16, HashSet<EventId>>,
}

impl Recall {
    /// Leaves out what is in the log. Blocks.
    pub fn leave_out(
        &mut self,
        log: &dyn EventLog,
        topic: &str,
        from: &BTreeMap<u16, u64>,
        mut rows: EncodedRows,
    ) -> Result<EncodedRows> {
        for (partition, records) in (0u16..).zip(&mut rows.partitions) {
            let Some(from) = from.get(&partition).filter(|_| !records.is_empty()) else { continue };
            let known = match self.known.entry(partition) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(ids_since(log, topic, partition, *from)?),
            };
            records.retain(|record| {
                let decoded = Record::decode(&record.value);
                let is_new = id_of(&decoded).is_none_or(|id| !known.contains(id));
                if !is_new && matches!(decoded, Ok(Record::Event { .. })) {
                    rows.accepted -= 1;
                }
                is_new
            });
        }
        Ok(rows)
    }
}

fn id_of<'a>(record: &'a Result<Record<'_>>) -> Option<&'a EventId> {
    match record {
        Ok(Record::Event { id, .. } | Record::Unreadable { id, .. }) => Some(id),
        _ => None,
    }
}

fn ids_since(log: &dyn EventLog, topic: &str, partition: u16, mut from: u64) -> Result<HashSet<EventId>> {
    let mut ids = HashSet::new();
    // What a server that is gone has written as well.
    log.forget(topic);
    // A log that ends before was made anew.
    while from < log.end_offset(topic, partition)? {
        let records = log.read(topic, partition, from, READ_RECORDS, READ_BYTES)?;
        let Some(last) = records.last() else { break };
        from = last.offset + 1;
        let decoded = records.iter().map(|record| Record::decode(&record.value));
        ids.extend(decoded.filter_map(|record| id_of(&record).filter(|id| matches!(id, EventId::Given(_))).cloned()));
    }
    Ok(ids)
}
