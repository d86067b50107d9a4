//! Against a real broker, one for all tests of this binary; each test has a prefix of its own.

mod faults;
mod members;
mod places;
mod refusals;
mod rights;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use thyme_broker::Broker;
use thyme_core::{Error, ErrorKind, Result};
use thyme_log::conformance::Place;
use thyme_log::{Batch, EventLog, KafkaLog, KafkaSettings, NewRecord};

static BROKER: LazyLock<Broker> = LazyLock::new(|| Broker::start().unwrap());

/// A prefix that no other test has.
fn own_prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("case{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

struct OnBroker {
    settings: KafkaSettings,
}

impl OnBroker {
    fn new() -> OnBroker {
        OnBroker { settings: settings(&BROKER, &own_prefix(), &[]) }
    }
}

impl Place for OnBroker {
    fn open(&self) -> Result<Arc<dyn EventLog>> {
        Ok(Arc::new(KafkaLog::open(self.settings.clone())?))
    }
}

fn settings(broker: &Broker, prefix: &str, properties: &[(&str, &str)]) -> KafkaSettings {
    let properties: BTreeMap<String, String> =
        properties.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    KafkaSettings::parse(&format!("kafka://{}/{prefix}", broker.address), None, properties).unwrap()
}

/// The broker's own view of topics.
fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &BROKER.address).create().unwrap()
}

fn batch(topic: &str, partition: u16, values: &[&str]) -> Batch {
    let records = values.iter().map(|value| NewRecord::new(Bytes::new(), value.to_string()));
    Batch { topic: topic.to_string(), partition, records: records.collect() }
}

/// All values of a partition, from the start.
fn values(log: &KafkaLog, topic: &str, partition: u16) -> Vec<String> {
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let records = log.read(topic, partition, from, 1000, 1 << 20).unwrap();
        let Some(last) = records.last() else { return found };
        from = last.offset + 1;
        found.extend(records.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()));
    }
}

#[track_caller]
fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "'{part}' is missing in: {text}");
    }
}

mod conformance {
    use super::*;
    thyme_log::event_log_conformance!(OnBroker::new());
}
