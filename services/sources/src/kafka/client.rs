//! A consumer that assigns partitions itself, and the questions it is asked: which partitions, what do they hold.

use super::context::{Context, Trouble};
use super::cursor::Bounds;
use super::errors::{code_of, is_final, lacks_certificate, of_code, of_settings};
use super::settings::Settings;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use thyme_core::{Error, Result};

/// How long the brokers may take to answer a question.
const ASK: Duration = Duration::from_secs(10);
/// After so long it is looked at whether waiting on helps.
const STEP: Duration = Duration::from_secs(1);

pub struct Client {
    /// `None` only while it is dropped.
    consumer: Option<BaseConsumer<Context>>,
    pub topic: String,
    brokers: String,
    lacks_certificate: bool,
    trouble: Trouble,
    /// Partitions whose last record was found to be what it was.
    pub verified: BTreeSet<i32>,
}

impl Drop for Client {
    /// A source may be dropped where blocking is not allowed, and closing a consumer waits for its connections.
    fn drop(&mut self) {
        let consumer = self.consumer.take();
        let closing = std::thread::Builder::new().name("kafka-close".to_string()).spawn(move || drop(consumer));
        if let Err(error) = closing {
            tracing::debug!(%error, "a Kafka consumer was closed in place");
        }
    }
}

impl Client {
    /// Nothing is asked yet.
    pub fn connect(settings: &Settings) -> Result<Client> {
        let (config, secrets) = settings.client()?;
        let trouble = Trouble::default();
        let context = Context { secrets: secrets.clone(), trouble: trouble.clone() };
        let consumer = config.create_with_context(context).map_err(|error| match &error {
            KafkaError::ClientConfig(_, reason, name, _) => of_settings(name, &secrets.hide(reason)),
            KafkaError::ClientCreation(reason) => of_settings("", &secrets.hide(reason)),
            other => of_settings("", &secrets.hide(&other.to_string())),
        });
        let brokers = config.get("bootstrap.servers").unwrap_or_default().to_string();
        let topic = settings.topic.clone();
        let lacks_certificate = lacks_certificate(&config);
        let consumer = Some(consumer?);
        Ok(Client { consumer, topic, brokers, lacks_certificate, trouble, verified: BTreeSet::new() })
    }

    fn consumer(&self) -> Result<&BaseConsumer<Context>> {
        self.consumer.as_ref().ok_or_else(|| Error::internal("the Kafka consumer is closed"))
    }

    /// The partitions of the topic.
    pub fn partitions(&self) -> Result<Vec<i32>> {
        let what = format!("looking for topic '{}'", self.topic);
        let consumer = self.consumer()?;
        self.patiently(&what, || {
            let metadata = consumer.fetch_metadata(Some(&self.topic), STEP)?;
            of_topic(&metadata, &self.topic).map_err(KafkaError::MetadataFetch)
        })
    }

    /// The cluster's own id, empty if it tells none.
    pub fn cluster(&self) -> Result<String> {
        Ok(self.consumer()?.client().fetch_cluster_id(STEP).unwrap_or_default())
    }

    pub fn bounds(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Bounds>> {
        // The ends last: whatever is deleted in between, no partition ends before it begins.
        let firsts = self.offsets(partitions, Offset::Beginning)?;
        let ends = self.offsets(partitions, Offset::End)?;
        let bounds = |(partition, first): (i32, u64)| {
            let end = ends.get(&partition).copied().unwrap_or(first);
            (partition, Bounds { first, end: end.max(first) })
        };
        Ok(firsts.into_iter().map(bounds).collect())
    }

    /// One question to each leader. An end is that of the last stable record: nothing is asked that a reader does not see.
    fn offsets(&self, partitions: &[i32], which: Offset) -> Result<BTreeMap<i32, u64>> {
        let what = format!("asking for the offsets of topic '{}'", self.topic);
        let consumer = self.consumer()?;
        self.patiently(&what, || {
            let mut asked = TopicPartitionList::with_capacity(partitions.len());
            for partition in partitions {
                asked.add_partition_offset(&self.topic, *partition, which)?;
            }
            let told = consumer.offsets_for_times(asked, STEP)?;
            let mut offsets = BTreeMap::new();
            for element in told.elements() {
                element.error()?;
                let offset = match element.offset() {
                    Offset::Offset(offset) => u64::try_from(offset).ok(),
                    _ => None,
                };
                let offset = offset.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable))?;
                offsets.insert(element.partition(), offset);
            }
            Ok(offsets)
        })
    }

    /// Reads these partitions from these offsets, and no others. What was fetched for an earlier assignment does not come any more.
    pub fn assign(&self, places: &BTreeMap<i32, u64>) -> Result<()> {
        let what = format!("reading topic '{}'", self.topic);
        let consumer = self.consumer()?;
        let mut assigned = TopicPartitionList::with_capacity(places.len());
        for (partition, offset) in places {
            let offset = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
            let added = assigned.add_partition_offset(&self.topic, *partition, offset);
            added.map_err(|error| self.failed(&what, &error))?;
        }
        let done = if places.is_empty() { consumer.unassign() } else { consumer.assign(&assigned) };
        done.map_err(|error| self.failed(&what, &error))
    }

    pub fn next(&self, wait: Duration) -> Result<Option<Result<BorrowedMessage<'_>, KafkaError>>> {
        Ok(self.consumer()?.poll(wait))
    }

    /// Asks until there is an answer, an error that waiting does not help, or too much time has passed.
    fn patiently<T>(&self, what: &str, mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T> {
        let until = Instant::now() + ASK;
        loop {
            let error = match ask() {
                Ok(answer) => {
                    *self.trouble.lock() = None;
                    return Ok(answer);
                }
                Err(error) => error,
            };
            self.listen()?;
            let is_final = code_of(&error).is_some_and(is_final) || self.has_final_trouble();
            if is_final || Instant::now() > until {
                return Err(self.failed(what, &error));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Errors are told to the context when somebody polls.
    fn listen(&self) -> Result<()> {
        while self.consumer()?.poll(Duration::ZERO).is_some() {}
        Ok(())
    }

    fn has_final_trouble(&self) -> bool {
        self.trouble.lock().as_ref().is_some_and(|(code, _)| is_final(*code))
    }

    /// The error, or what the connection says about it if that is more.
    pub fn failed(&self, what: &str, error: &KafkaError) -> Error {
        let known = self.trouble.lock().clone();
        let code = code_of(error).unwrap_or(RDKafkaErrorCode::Fail);
        let (code, reason) = match known {
            Some((cause, reason)) if !is_final(code) => (cause, format!("{cause}: {reason}")),
            _ => (code, code.to_string()),
        };
        of_code(format!("{what} at {}: {reason}", self.brokers), code, self.lacks_certificate)
    }
}

fn of_topic(metadata: &Metadata, name: &str) -> Result<Vec<i32>, RDKafkaErrorCode> {
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
        return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
    };
    if let Some(error) = topic.error() {
        return Err(error.into());
    }
    let partitions: Vec<i32> = topic.partitions().iter().map(|partition| partition.id()).collect();
    if partitions.is_empty() { Err(RDKafkaErrorCode::LeaderNotAvailable) } else { Ok(partitions) }
}
