//! What the journal amounts to: topics, where their blocks are, producer epochs, committed offsets. Rebuilt at open by
//! applying every frame's entries, kept up to date by the writer applying each frame that became durable.

use super::block::Extent;
use super::index::{BlockFacts, Partition, Place};
use super::journal::Entry;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use thyme_core::{Error, Result, suggest};

#[derive(Debug)]
pub struct Topic {
    pub id: u32,
    pub partitions: Vec<Partition>,
}

/// Where a frame is.
#[derive(Debug, Clone, Copy)]
pub struct FramePlace {
    pub segment: u32,
    pub frame_at: u64,
    pub payload_at: u64,
    pub frame_end: u64,
}

#[derive(Debug, Default)]
pub struct State {
    /// By name.
    pub topics: BTreeMap<Arc<str>, Topic>,
    names: HashMap<u32, Arc<str>>,
    pub next_topic: u32,
    pub epochs: HashMap<String, u64>,
    /// By group, topic and partition.
    pub committed: HashMap<(String, u32, u16), u64>,
    /// How many frames were applied: what `changes` shows.
    pub version: u64,
    /// Blocks whose bytes are in memory, oldest first: topic, partition, length.
    cached: VecDeque<(u32, u16, u32)>,
    cached_bytes: usize,
}

impl State {
    pub fn topic(&self, name: &str) -> Result<&Topic> {
        self.topics.get(name).ok_or_else(|| {
            let error = Error::not_found(format!("no topic '{name}'"));
            match suggest::nearest(name, self.topics.keys().map(AsRef::as_ref)) {
                Some(near) => error.hint(format!("did you mean '{near}'?")),
                None => error,
            }
        })
    }

    pub fn partition(&self, name: &str, partition: u16) -> Result<(&Topic, &Partition)> {
        let topic = self.topic(name)?;
        match topic.partitions.get(usize::from(partition)) {
            Some(found) => Ok((topic, found)),
            None => {
                let count = topic.partitions.len();
                Err(Error::invalid(format!("topic '{name}' has {count} partitions, not a partition {partition}")))
            }
        }
    }

    /// Applies a frame. Where its payload is at hand, the blocks go into the tail cache. Refuses what no writer would have
    /// written.
    pub fn apply(&mut self, entries: &[Entry], at: FramePlace, payload: Option<&Bytes>) -> Result<()> {
        let FramePlace { segment, frame_at, payload_at, frame_end } = at;
        let mut position = payload_at;
        for entry in entries {
            match entry {
                Entry::Block { topic, partition, base, count, length, crc, headers } => {
                    let extent = Extent { base: *base, count: *count, headers: *headers };
                    let block = BlockFacts { extent, length: *length, crc: *crc };
                    let place = Place { segment, frame: (frame_at, frame_end), position };
                    let start = (position - payload_at) as usize;
                    position += u64::from(*length);
                    let found = self.partition_of(*topic, *partition).ok_or_else(broken)?;
                    if *base != found.next_offset {
                        return Err(broken());
                    }
                    found.add(block, place, payload.map(|bytes| bytes.slice(start..start + *length as usize)));
                    if payload.is_some() {
                        self.cached.push_back((*topic, *partition, *length));
                        self.cached_bytes += *length as usize;
                    }
                }
                Entry::CreateTopic { topic, name, partitions } => {
                    let name: Arc<str> = name.as_str().into();
                    let partitions = (0..*partitions).map(|number| Partition::new(*topic, number)).collect();
                    if self.topics.insert(name.clone(), Topic { id: *topic, partitions }).is_some() {
                        return Err(broken());
                    }
                    self.names.insert(*topic, name);
                    self.next_topic = self.next_topic.max(*topic + 1);
                }
                Entry::DeleteTopic { topic } => {
                    let name = self.names.remove(topic).ok_or_else(broken)?;
                    self.topics.remove(&name);
                    self.committed.retain(|(_, of, _), _| of != topic);
                }
                Entry::Producer { id, epoch } => {
                    self.epochs.insert(id.clone(), *epoch);
                }
                Entry::Offset { group, topic, partition, next } => {
                    self.committed.insert((group.clone(), *topic, *partition), *next);
                }
            }
        }
        self.version += 1;
        Ok(())
    }

    /// Forgets the oldest bytes until at most `limit` are in memory.
    pub fn shrink_cache(&mut self, limit: usize) {
        while self.cached_bytes > limit
            && let Some((topic, partition, length)) = self.cached.pop_front()
        {
            self.cached_bytes -= length as usize;
            if let Some(found) = self.partition_of(topic, partition) {
                found.evict();
            }
        }
    }

    fn partition_of(&mut self, topic: u32, partition: u16) -> Option<&mut Partition> {
        let name = self.names.get(&topic)?;
        self.topics.get_mut(name)?.partitions.get_mut(usize::from(partition))
    }
}

fn broken() -> Error {
    Error::data_loss("the log's frames contradict each other")
}
