//! How far a topic was read, partition by partition.

use crate::saved::{START_OVER, Saved};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thyme_core::{Error, Result};

/// What a partition holds now: offsets `first <= offset < end`. Records of open transactions are behind the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    pub first: u64,
    pub end: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The offset to read next.
    pub next: u64,
    /// Below it everything was seen. It is behind `next` where the broker's own marks (of transactions) follow the last record: what
    /// retention deletes of those is no loss.
    pub settled: u64,
    /// Hash of the record before `next`, if one was read.
    pub print: Option<u64>,
}

impl Progress {
    fn seen(&self) -> u64 {
        self.next.max(self.settled)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    version: u32,
    /// The cluster's own id, empty if it has none.
    cluster: String,
    topic: String,
    pub partitions: BTreeMap<i32, Progress>,
}

impl Saved for Cursor {
    const VERSION: u32 = 1;
    const OF: &str = "a Kafka topic";

    fn version(&self) -> u32 {
        self.version
    }
}

impl Cursor {
    /// Of a topic that is read for the first time: from what is there now.
    pub fn start(cluster: String, topic: &str, bounds: &BTreeMap<i32, Bounds>) -> Cursor {
        let begin = |bounds: &Bounds| Progress { next: bounds.first, settled: bounds.first, print: None };
        let partitions = bounds.iter().map(|(partition, bounds)| (*partition, begin(bounds))).collect();
        Cursor { version: Cursor::VERSION, cluster, topic: topic.to_string(), partitions }
    }

    /// The cursor for what is there now, with the partitions that are new. Refuses what would leave a gap or mix two topics.
    pub fn go_on(mut self, cluster: String, topic: &str, bounds: &BTreeMap<i32, Bounds>) -> Result<Cursor> {
        let is_other = !self.cluster.is_empty() && !cluster.is_empty() && self.cluster != cluster;
        if self.topic != topic || is_other {
            let message = format!(
                "the source was reading topic '{}' of cluster '{}', and this is topic '{topic}' of cluster '{cluster}'",
                self.topic, self.cluster
            );
            return Err(Error::precondition(message).hint(START_OVER));
        }
        if !cluster.is_empty() {
            self.cluster = cluster;
        }
        if let Some(partition) = self.partitions.keys().find(|partition| !bounds.contains_key(partition)) {
            return Err(made_anew(topic, &format!("partition {partition} is gone")));
        }
        for (partition, bounds) in bounds {
            let seen = self.partitions.entry(*partition).or_default().seen();
            if bounds.end < seen {
                let what = format!("partition {partition} ends at offset {}, and was read up to {seen}", bounds.end);
                return Err(made_anew(topic, &what));
            }
            if bounds.first > seen {
                return Err(cut_off(topic, *partition, seen, bounds.first));
            }
        }
        Ok(self)
    }

    /// Whether there may be something to read in a partition that ends there.
    pub fn is_behind(&self, partition: i32, end: u64) -> bool {
        self.partitions.get(&partition).is_some_and(|progress| progress.seen() < end)
    }
}

pub fn made_anew(topic: &str, what: &str) -> Error {
    let message = format!("topic '{topic}' is not the one that was read, or has lost records: {what}");
    Error::precondition(message).hint(START_OVER)
}

fn cut_off(topic: &str, partition: i32, seen: u64, first: u64) -> Error {
    let message = format!(
        "records were deleted from topic '{topic}' before they were read: offsets {seen} to {} of partition {partition}",
        first - 1
    );
    Error::precondition(message).hint(
        "they are lost to the source; raise retention.ms of the topic, and go on with what is left: thyme sources reset DATASET",
    )
}
