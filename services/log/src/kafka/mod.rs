//! The event log on a Kafka broker, through librdkafka. See `docs/decisions/0008-kafka-log.md`.

mod append;
mod context;
mod cursor;
mod errors;
mod groups;
mod member;
mod presence;
mod producer;
mod pump;
mod reader;
mod seat;
mod settings;
mod shares;
mod topics;
mod worker;

#[cfg(test)]
mod settings_tests;

use crate::membership::{Member, Node, Presence, WORK};
use crate::{Appended, Batch, EventLog, LogRecord, Producer};
use append::Appender;
use async_trait::async_trait;
use context::Context;
use cursor::{Budget, Patience};
use groups::Groups;
use parking_lot::Mutex;
use pump::Pump;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use reader::Reader;
use seat::KeptOut;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_core::{Error, Result};
use tokio::sync::watch;
use topics::{ASK, Topics};

pub use settings::KafkaSettings;

/// What the parts of the log share.
pub(crate) struct Connection {
    settings: Arc<KafkaSettings>,
    trouble: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
    topics: Topics,
    groups: Groups,
    pump: Pump,
    ends: Ends,
    kept_out: KeptOut,
    changes: watch::Sender<u64>,
}

impl Connection {
    fn context(&self) -> Context {
        Context::new(self.settings.clone(), self.trouble.clone())
    }

    /// An error of librdkafka with what it said before about the broker, where that says more.
    fn failed(&self, what: &str, error: &KafkaError) -> Error {
        with_trouble(&self.settings, &self.trouble, what, error)
    }

    /// Forgets a topic that turned out to be gone, if the error says so: one of the same name begins anew.
    fn forget_if_gone(&self, topic: &str, error: &KafkaError) {
        if self.topics.forget_if_gone(topic, error) {
            self.ends.forget(topic);
        }
    }

    /// Wakes those who wait for changes.
    fn announce(&self) {
        self.changes.send_modify(|version| *version += 1);
    }
}

fn with_trouble(
    settings: &KafkaSettings,
    trouble: &Mutex<Option<(RDKafkaErrorCode, String)>>,
    what: &str,
    error: &KafkaError,
) -> Error {
    let says_little = errors::code_of(error).is_some_and(|code| {
        use RDKafkaErrorCode as Code;
        let vague = [
            Code::OperationTimedOut,
            Code::BrokerTransportFailure,
            Code::AllBrokersDown,
            Code::MessageTimedOut,
            Code::TimedOutQueue,
        ];
        vague.contains(&code)
    });
    match trouble.lock().as_ref() {
        Some((code, reason)) if says_little => errors::of_code(settings, &format!("{what} ({reason})"), *code),
        _ => errors::translate(settings, what, error),
    }
}

/// Up to where this process knows each partition to be filled, because that was acknowledged, or read: it can be read anywhere.
#[derive(Default)]
struct Ends(Mutex<HashMap<String, HashMap<u16, u64>>>);

impl Ends {
    fn raise(&self, topic: &str, partition: u16, end: u64) {
        let mut topics = self.0.lock();
        if !topics.contains_key(topic) {
            topics.insert(topic.to_string(), HashMap::new());
        }
        if let Some(partitions) = topics.get_mut(topic) {
            let known = partitions.entry(partition).or_default();
            *known = (*known).max(end);
        }
    }

    fn known(&self, topic: &str, partition: u16) -> u64 {
        self.0.lock().get(topic).and_then(|partitions| partitions.get(&partition)).copied().unwrap_or_default()
    }

    fn forget(&self, topic: &str) {
        self.0.lock().remove(topic);
    }
}

pub struct KafkaLog {
    connection: Arc<Connection>,
    appender: Appender,
    reader: Reader,
    identity: String,
}

impl KafkaLog {
    /// Connects; an error if no broker answers or it does not let us in.
    pub fn open(settings: KafkaSettings) -> Result<KafkaLog> {
        let settings = Arc::new(settings);
        let trouble = Arc::new(Mutex::new(None));
        let failed = |what: &str, error: &KafkaError| with_trouble(&settings, &trouble, what, error);
        let context = || Context::new(settings.clone(), trouble.clone());
        let asker: BaseConsumer<Context> =
            settings.reader().create_with_context(context()).map_err(|error| failed("connecting to Kafka", &error))?;
        let cluster = cluster_id(&asker, &trouble)
            .map_err(|error| failed(&format!("connecting to Kafka at {}", settings.brokers), &error))?;
        let admin = settings.admin().create_with_context(context());
        let admin = admin.map_err(|error| failed("connecting to Kafka", &error))?;
        let topics = Topics::new(settings.clone(), admin);
        topics.list()?;
        let identity = format!("kafka:{cluster}/{}", settings.prefix);
        let pump = Pump::start()?;
        let connection = Arc::new_cyclic(|connection| Connection {
            settings: settings.clone(),
            trouble: trouble.clone(),
            topics,
            groups: Groups::new(connection.clone()),
            pump,
            ends: Ends::default(),
            kept_out: KeptOut::default(),
            changes: watch::Sender::new(0),
        });
        let appender = Appender::new(connection.clone())?;
        let reader = Reader::new(connection.clone(), asker);
        Ok(KafkaLog { connection, appender, reader, identity })
    }
}

/// The cluster's id. The first question that is asked: whether anybody answers, and lets us in.
fn cluster_id(
    asker: &BaseConsumer<Context>,
    trouble: &Mutex<Option<(RDKafkaErrorCode, String)>>,
) -> Result<String, KafkaError> {
    let until = Instant::now() + ASK;
    loop {
        let answer = asker.fetch_metadata(None, Duration::from_millis(500));
        let id = answer.and_then(|_| {
            let id = asker.client().fetch_cluster_id(ASK);
            id.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut))
        });
        // What librdkafka says of the connection goes to the context.
        while asker.poll(Duration::ZERO).is_some() {}
        let is_locked_out = trouble.lock().as_ref().is_some_and(|(code, _)| {
            use RDKafkaErrorCode as Code;
            matches!(code, Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism)
        });
        match id {
            Err(_) if !is_locked_out && Instant::now() < until => {}
            outcome => return outcome,
        }
    }
}

impl KafkaLog {
    /// Refuses settings that say another number.
    fn check_slices(&self, slices: u16) -> Result<u16> {
        if let Some(other) = self.connection.settings.slices.filter(|wanted| *wanted != slices) {
            let topic = self.connection.settings.full_name(WORK);
            return Err(Error::precondition(format!("log.slices is {other}, and the work on this log has {slices}"))
                .field("log.slices")
                .hint(format!(
                    "leave log.slices out, or set it to {slices}; to have more, stop all servers, add partitions to the topic {topic} and \
                     delete the servers' states: they are built anew"
                )));
        }
        Ok(slices)
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn create_topic(&self, topic: &str, partitions: u16) -> Result<()> {
        self.connection.topics.create(topic, partitions)
    }

    fn delete_topic(&self, topic: &str) -> Result<()> {
        self.connection.topics.delete(topic)?;
        self.forget(topic);
        Ok(())
    }

    fn topics(&self) -> Result<Vec<(String, u16)>> {
        let mut topics = self.connection.topics.list()?;
        topics.retain(|(topic, _)| topic != WORK);
        Ok(topics)
    }

    async fn append(&self, batches: Vec<Batch>) -> Result<Vec<Appended>> {
        self.appender.append(batches).await
    }

    fn read(
        &self,
        topic: &str,
        partition: u16,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>> {
        let budget = Budget { records: max_records.max(1), bytes: max_bytes };
        self.reader.read(topic, partition, from, budget, Patience::UntilArrived)
    }

    fn read_arrived(
        &self,
        topic: &str,
        partition: u16,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>> {
        let budget = Budget { records: max_records.max(1), bytes: max_bytes };
        self.reader.read(topic, partition, from, budget, Patience::None)
    }

    fn expect_reads(&self, topic: &str, partition: u16, from: u64) {
        self.reader.expect(topic, partition, from);
    }

    fn forget(&self, topic: &str) {
        self.reader.forget(topic);
        self.connection.ends.forget(topic);
    }

    fn end_offset(&self, topic: &str, partition: u16) -> Result<u64> {
        self.reader.end_offset(topic, partition)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.connection.changes.subscribe()
    }

    /// The partitions of the group's topic, which is made with as many as the settings say; beside topics of before there was such a
    /// group, and where they say nothing, with one.
    fn slices(&self) -> Result<u16> {
        let wanted = self.connection.settings.slices;
        let of_new = if self.topics()?.is_empty() { wanted.unwrap_or(1) } else { 1 };
        let slices = self.connection.topics.present_or_new(WORK, of_new)?;
        self.check_slices(slices)
    }

    fn begun_slices(&self) -> Result<Option<u16>> {
        let topics = self.connection.topics.list()?;
        let of_group = topics.iter().find(|(name, _)| name == WORK).map(|(_, slices)| *slices);
        let of_before = || topics.first().map(|_| 1);
        of_group.or_else(of_before).map(|slices| self.check_slices(slices)).transpose()
    }

    fn join(&self, node: Node) -> Result<Box<dyn Member>> {
        let slices = self.slices()?;
        Ok(Box::new(member::KafkaMember::join(self.connection.clone(), node, slices)?))
    }

    fn presence(&self, node: Node) -> Result<Box<dyn Presence>> {
        Ok(Box::new(presence::KafkaPresence::start(self.connection.clone(), node)?))
    }

    fn trouble(&self) -> Option<Error> {
        self.connection.kept_out.first()
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        Ok(Box::new(producer::KafkaProducer::new(self.connection.clone(), transactional_id)?))
    }
}
