//! What consumer groups have committed. Nobody joins them: a group is a name under which offsets are kept. Each is kept with a mark,
//! since anybody may commit another under that name.

use super::Connection;
use super::context::Context;
use super::topics::ASK;
use crate::Kept;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use thyme_core::{Error, Result};

/// What stands beside an offset that a producer of ours committed. Tools that move offsets leave it empty, and those that carry them to
/// another cluster change the offset and keep the rest: so it names the offset.
pub fn mark(next: u64) -> String {
    format!("thyme {next}")
}

pub struct Groups {
    connection: Weak<Connection>,
    clients: Mutex<HashMap<String, Arc<BaseConsumer<Context>>>>,
}

impl Groups {
    pub fn new(connection: Weak<Connection>) -> Groups {
        Groups { connection, clients: Mutex::default() }
    }

    fn connection(&self) -> Result<Arc<Connection>> {
        self.connection.upgrade().ok_or_else(|| Error::unavailable("the log is closed"))
    }

    fn client(&self, group: &str) -> Result<Arc<BaseConsumer<Context>>> {
        let connection = self.connection()?;
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(group) {
            return Ok(client.clone());
        }
        let config = connection.settings.group(&connection.settings.full_name(group));
        let client: BaseConsumer<Context> = config
            .create_with_context(connection.context())
            .map_err(|error| connection.failed("starting a consumer", &error))?;
        let client = Arc::new(client);
        connection.pump.add(&client);
        clients.insert(group.to_string(), client.clone());
        Ok(client)
    }

    /// What the group has committed; waits for transactions that are being decided.
    pub fn kept(&self, group: &str, topic: &str, partition: u16) -> Result<Option<Kept>> {
        let connection = self.connection()?;
        connection.topics.check(topic, partition)?;
        let name = connection.settings.full_name(topic);
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&name, i32::from(partition));
        let what = format!("reading the offsets of group '{}'", connection.settings.full_name(group));
        let answer =
            self.client(group)?.committed_offsets(asked, ASK).map_err(|error| connection.failed(&what, &error))?;
        let found = answer
            .find_partition(&name, i32::from(partition))
            .ok_or_else(|| Error::internal(format!("{what}: the answer lacks the partition")))?;
        found.error().map_err(|error| connection.failed(&what, &error))?;
        let Offset::Offset(offset) = found.offset() else { return Ok(None) };
        let kept = |next| Kept { next, is_ours: found.metadata() == mark(next) };
        Ok(u64::try_from(offset).ok().map(kept))
    }

    /// What a transaction needs to commit offsets of the group.
    pub fn metadata(&self, group: &str) -> Result<ConsumerGroupMetadata> {
        let metadata = self.client(group)?.group_metadata();
        metadata.ok_or_else(|| Error::internal(format!("group '{group}' has no metadata")))
    }
}
