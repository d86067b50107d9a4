//! Topics: what there is, and how they are made and deleted.

use super::context::Context;
use super::errors::{code_of, translate};
use super::settings::KafkaSettings;
use parking_lot::RwLock;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_core::{Error, Result};

/// How long the broker may take to answer a question.
pub const ASK: Duration = Duration::from_secs(10);
/// How long a topic may take to appear or to disappear.
const SETTLE: Duration = Duration::from_secs(30);

pub struct Topics {
    settings: Arc<KafkaSettings>,
    admin: AdminClient<Context>,
    /// Number of partitions by name without the prefix.
    known: RwLock<BTreeMap<String, u16>>,
}

impl Topics {
    pub fn new(settings: Arc<KafkaSettings>, admin: AdminClient<Context>) -> Topics {
        Topics { settings, admin, known: RwLock::default() }
    }

    /// For questions about the cluster.
    pub fn client(&self) -> &Client<Context> {
        self.admin.inner()
    }

    /// All topics below the prefix, asked anew.
    pub fn list(&self) -> Result<Vec<(String, u16)>> {
        let metadata = self
            .admin
            .inner()
            .fetch_metadata(None, ASK)
            .map_err(|error| translate(&self.settings, "listing the broker's topics", &error))?;
        let start = self.settings.full_name("");
        let mut known = self.known.write();
        let mut found = BTreeMap::new();
        for topic in metadata.topics() {
            let Some(name) = topic.name().strip_prefix(&start) else { continue };
            let leaders: Vec<i32> = topic.partitions().iter().map(MetadataPartition::leader).collect();
            if topic.error().is_none()
                && let Some(partitions) = usable(&leaders, known.contains_key(name))
            {
                found.insert(name.to_string(), partitions);
            }
        }
        *known = found.clone();
        Ok(found.into_iter().collect())
    }

    fn partitions(&self, topic: &str) -> Result<Option<u16>> {
        if let Some(partitions) = self.known.read().get(topic) {
            return Ok(Some(*partitions));
        }
        self.list()?;
        Ok(self.known.read().get(topic).copied())
    }

    /// Errors if there is no such topic or partition.
    pub fn check(&self, topic: &str, partition: u16) -> Result<()> {
        match self.partitions(topic)? {
            None => Err(self.no_topic(topic)),
            Some(partitions) if partition >= partitions => Err(Error::invalid(format!(
                "topic '{topic}' has {partitions} partitions, there is none of number {partition}"
            ))),
            Some(_) => Ok(()),
        }
    }

    /// The broker lists no topic to whom it does not grant anything on it.
    fn no_topic(&self, topic: &str) -> Error {
        let prefix = &self.settings.prefix;
        Error::not_found(format!("no topic '{topic}' under the prefix '{prefix}'")).hint(format!(
            "it is gone, or the principal of [log.kafka] may not read topics with the prefix '{prefix}.'"
        ))
    }

    pub fn create(&self, topic: &str, partitions: u16) -> Result<()> {
        if partitions == 0 || topic.is_empty() {
            return Err(Error::invalid(format!(
                "a topic needs a name and a partition, got '{topic}' with {partitions}"
            )));
        }
        if self.partitions(topic)?.is_none() {
            self.ask_to_create(topic, partitions)?;
        }
        let until = Instant::now() + SETTLE;
        loop {
            match self.partitions(topic)? {
                Some(present) if present == partitions => return Ok(()),
                Some(present) => return Err(self.other_partitions(topic, present, partitions)),
                None if Instant::now() > until => {
                    return Err(Error::unavailable(format!("the new topic '{topic}' has no leader yet"))
                        .hint("look at the broker's log; it is tried again by itself"));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// The partitions of a topic that may be there with any number of them; a new one gets so many.
    pub fn present_or_new(&self, topic: &str, partitions: u16) -> Result<u16> {
        if let Some(present) = self.partitions(topic)? {
            return Ok(present);
        }
        // Another node may have made it meanwhile, of an older build with another number.
        match self.create(topic, partitions) {
            Ok(()) => Ok(partitions),
            Err(error) => self.partitions(topic)?.ok_or(error),
        }
    }

    fn ask_to_create(&self, topic: &str, partitions: u16) -> Result<()> {
        let name = self.settings.full_name(topic);
        let replication = TopicReplication::Fixed(self.settings.replication.map_or(-1, i32::from));
        let new = NewTopic::new(&name, i32::from(partitions), replication)
            .set("cleanup.policy", "delete")
            .set("retention.ms", "-1")
            .set("retention.bytes", "-1");
        let what = format!("creating topic '{name}' with {partitions} partitions");
        let results = futures::executor::block_on(self.admin.create_topics([&new], &options()));
        let results = results.map_err(|error| translate(&self.settings, &what, &error))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(translate(&self.settings, &what, &KafkaError::AdminOp(code))),
            }
        }
        Ok(())
    }

    fn other_partitions(&self, topic: &str, present: u16, wanted: u16) -> Error {
        let name = self.settings.full_name(topic);
        Error::conflict(format!("topic '{name}' exists with {present} partitions, not {wanted}")).hint(format!(
            "the number of partitions belongs to the definition: set partitions={present} there, choose another prefix in log.url, or \
             delete the topic (its records are lost)"
        ))
    }

    pub fn delete(&self, topic: &str) -> Result<()> {
        let name = self.settings.full_name(topic);
        let what = format!("deleting topic '{name}'");
        if self.partitions(topic)?.is_none() {
            return Err(self.no_topic(topic));
        }
        let results = futures::executor::block_on(self.admin.delete_topics(&[&name], &options()));
        for result in results.map_err(|error| translate(&self.settings, &what, &error))? {
            if let Err((_, code)) = result {
                return Err(translate(&self.settings, &what, &KafkaError::AdminOp(code)));
            }
        }
        let until = Instant::now() + SETTLE;
        self.known.write().remove(topic);
        while self.partitions(topic)?.is_some() {
            if Instant::now() > until {
                return Err(Error::unavailable(format!("topic '{name}' is still there after it was deleted")));
            }
            std::thread::sleep(Duration::from_millis(20));
            self.known.write().remove(topic);
        }
        Ok(())
    }

    /// Forgets a topic that turned out to be gone, if the error says so.
    pub fn forget_if_gone(&self, topic: &str, error: &KafkaError) -> bool {
        let gone = [RDKafkaErrorCode::UnknownTopic, RDKafkaErrorCode::UnknownTopicOrPartition];
        let is_gone = code_of(error).is_some_and(|code| gone.contains(&code));
        if is_gone {
            self.known.write().remove(topic);
        }
        is_gone
    }
}

/// The number of partitions of a topic that is listed with these leaders; `None` while it is not to be used. One that is being made has
/// partitions without a leader for a moment. So has every topic of a broker that has just come up, and those that were known before are
/// no less there for it: what is sent to them waits for a leader.
fn usable(leaders: &[i32], is_known: bool) -> Option<u16> {
    let is_led = leaders.iter().all(|leader| *leader >= 0);
    let partitions = u16::try_from(leaders.len()).unwrap_or(u16::MAX);
    (partitions > 0 && (is_led || is_known)).then_some(partitions)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK))
}

#[cfg(test)]
mod tests {
    use super::usable;

    #[test]
    fn a_topic_that_was_known_is_there_while_its_broker_comes_up_and_one_that_is_being_made_is_not() {
        assert_eq!(usable(&[1, 2, 1], false), Some(3));
        assert_eq!(usable(&[1, -1, 1], false), None, "it is being made");
        assert_eq!(usable(&[-1, -1, -1], true), Some(3), "no leader yet");
        assert_eq!(usable(&[1, -1], true), Some(2));
        assert_eq!(usable(&[], true), None);
    }
}
