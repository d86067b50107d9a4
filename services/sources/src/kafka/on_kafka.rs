//! On a real broker: the conformance kit, and what only a topic does.

mod histories;
mod refusals;

use super::open;
use crate::conformance::{self, Form, Origin, Refused};
use crate::{Poll, Source};
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use serde_json::{Map, Value as Json, json};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thyme_broker::Broker;
use thyme_core::definition::SourceDef;
use thyme_core::schema::Field;
use thyme_core::{Result, Value};
use tokio::runtime::Runtime;

static BROKER: LazyLock<Broker> = LazyLock::new(|| Broker::start().unwrap());
static TOPICS: AtomicUsize = AtomicUsize::new(0);

/// Remembers what was not delivered: to flush succeeds nevertheless.
#[derive(Default)]
struct Deliveries {
    failed: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            *self.failed.lock() = Some(error.clone());
        }
    }
}

/// A topic of a test's own.
struct Topic {
    name: String,
    address: String,
    fields: Vec<Field>,
    producer: BaseProducer<Deliveries>,
    admin: AdminClient<DefaultClientContext>,
    runtime: Runtime,
}

impl Topic {
    fn new(partitions: i32) -> Topic {
        Topic::on(&BROKER.address, partitions, &[])
    }

    /// With further properties of the test's own clients.
    fn on(address: &str, partitions: i32, properties: &[(&str, &str)]) -> Topic {
        let name = format!("topic-{}", TOPICS.fetch_add(1, Ordering::SeqCst));
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address);
        for (name, value) in properties {
            config.set(*name, *value);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fields = conformance::fields();
        let (producer, admin) = (producer(&config), config.create().unwrap());
        let topic = Topic { name, address: address.to_string(), fields, producer, admin, runtime };
        topic.create(partitions);
        topic
    }

    fn create(&self, partitions: i32) {
        let new = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        let until = Instant::now() + Duration::from_secs(20);
        // One that was just deleted may still be there.
        loop {
            let made = self.runtime.block_on(self.admin.create_topics([&new], &AdminOptions::new())).unwrap();
            match &made[0] {
                Ok(_) => break,
                Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(100)),
                Err(error) => panic!("{error:?}"),
            }
        }
        self.await_leaders(usize::try_from(partitions).unwrap());
    }

    /// Until then a producer takes its records for ones to a partition that there is not.
    fn await_leaders(&self, count: usize) {
        let has_leaders = || {
            let metadata = self.admin.inner().fetch_metadata(Some(&self.name), Duration::from_secs(5)).unwrap();
            let partitions = metadata.topics()[0].partitions();
            partitions.len() == count && partitions.iter().all(|partition| partition.leader() >= 0)
        };
        while !has_leaders() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn delete(&self) {
        self.runtime.block_on(self.admin.delete_topics(&[&self.name], &AdminOptions::new())).unwrap();
    }

    fn grow(&self, partitions: usize) {
        let new = NewPartitions::new(&self.name, partitions);
        self.runtime.block_on(self.admin.create_partitions([&new], &AdminOptions::new())).unwrap();
        self.await_leaders(partitions);
    }

    /// A producer learns of other partitions in its own time; a new one knows them.
    fn with_a_new_producer(self) -> Topic {
        let producer = producer(ClientConfig::new().set("bootstrap.servers", &self.address));
        Topic { producer, ..self }
    }

    /// As retention does it.
    fn delete_records(&self, partition: i32, before: i64) {
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, rdkafka::Offset::Offset(before)).unwrap();
        self.runtime.block_on(self.admin.delete_records(&list, &AdminOptions::new())).unwrap();
    }

    fn send(&self, partition: i32, value: Option<&[u8]>) {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.name).partition(partition).key(b"key");
        record.payload = value;
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
    }

    fn flush(&self) {
        self.producer.flush(Duration::from_secs(20)).unwrap();
        assert_eq!(*self.producer.context().failed.lock(), None, "not delivered");
    }

    fn object(&self, row: &[Value]) -> Vec<u8> {
        let members = self.fields.iter().zip(row).map(|(field, value)| (field.name.clone(), value.to_json()));
        serde_json::to_vec(&members.collect::<Map<String, Json>>()).unwrap()
    }

    fn send_rows(&self, partition: i32, rows: &[Vec<Value>]) {
        rows.iter().for_each(|row| self.send(partition, Some(&self.object(row))));
        self.flush();
    }

    fn definition(&self) -> SourceDef {
        let settings = json!({"topic": self.name, "bootstrap_servers": self.address});
        serde_json::from_value(json!({"kind": "kafka", "settings": settings, "cdc": "append"})).unwrap()
    }

    fn source(&self) -> Box<dyn Source> {
        open(&self.definition(), &self.fields).unwrap()
    }

    /// As after a restart.
    fn poll(&self, cursor: Option<&Poll>, max_rows: usize) -> Result<Poll> {
        self.source().poll(cursor.map(|poll| poll.cursor.as_slice()), max_rows)
    }
}

fn producer(config: &ClientConfig) -> BaseProducer<Deliveries> {
    config.create_with_context(Deliveries::default()).unwrap()
}

fn ids(poll: &Poll) -> Vec<i64> {
    poll.rows.iter().map(|row| row.values[0].as_int().unwrap()).collect()
}

struct TopicOrigin {
    topic: Topic,
    /// With a transaction that is open.
    late: Option<BaseProducer>,
}

impl TopicOrigin {
    fn new(rows: &[Vec<Value>]) -> TopicOrigin {
        let origin = TopicOrigin { topic: Topic::new(1), late: None };
        origin.topic.send_rows(0, rows);
        origin
    }

    fn send(&self, object: &str) {
        self.topic.send(0, Some(object.as_bytes()));
        self.topic.flush();
    }

    /// Up to where others may read.
    fn readable(&self) -> i64 {
        self.topic.admin.inner().fetch_watermarks(&self.topic.name, 0, Duration::from_secs(20)).unwrap().1
    }
}

impl Origin for TopicOrigin {
    fn open(&self) -> Result<Box<dyn Source>> {
        open(&self.topic.definition(), &self.topic.fields)
    }

    fn add(&mut self, rows: &[Vec<Value>]) -> bool {
        self.topic.send_rows(0, rows);
        true
    }

    fn add_at(&mut self, number: i64, time: &str) -> bool {
        self.send(&format!("{{\"id\": {number}, \"ts\": \"{time}\"}}"));
        true
    }

    fn change(&mut self, form: Form, number: i64) -> bool {
        if let Some(object) = conformance::object_in(form, number) {
            self.send(&object);
        }
        true
    }

    fn hold(&mut self, rows: &[Vec<Value>]) -> bool {
        let late = histories::transactional(&self.topic, "late");
        late.begin_transaction().unwrap();
        for row in rows {
            let object = self.topic.object(row);
            let record = BaseRecord::<[u8], [u8]>::to(&self.topic.name).partition(0).payload(&object);
            late.send(record).map_err(|(error, _)| error).unwrap();
        }
        late.flush(Duration::from_secs(20)).unwrap();
        self.late = Some(late);
        true
    }

    fn release(&mut self) {
        let held_at = self.readable();
        self.late.take().unwrap().commit_transaction(Duration::from_secs(20)).unwrap();
        // The broker answers before it has written its mark.
        let until = Instant::now() + Duration::from_secs(60);
        while self.readable() == held_at {
            assert!(Instant::now() < until, "the transaction does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn refused(&self) -> Option<Refused> {
        Some(refusals::refused(&self.topic.name))
    }
}

crate::source_conformance!(|rows: &[Vec<thyme_core::Value>]| TopicOrigin::new(rows));
