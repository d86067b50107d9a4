//! What cannot work is refused with the reason and the fix.

use super::*;
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};
use std::net::TcpListener;

fn refused(settings: KafkaSettings) -> Error {
    KafkaLog::open(settings).err().unwrap()
}

#[test]
fn nobody_listens_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = refused(KafkaSettings::parse(&format!("kafka://{free}"), None, BTreeMap::new()).unwrap());
    says(&error, ErrorKind::Unavailable, &[&free.to_string(), "log.url", "check that a Kafka broker listens"]);
}

#[test]
fn a_property_that_librdkafka_does_not_know() {
    let error = refused(settings(&BROKER, "x", &[("sasl.pasword", "hunter2")]));
    says(&error, ErrorKind::InvalidArgument, &["[log.kafka] \"sasl.pasword\"", "CONFIGURATION.md"]);
    assert!(!error.to_string().contains("hunter2"));
    let error = refused(settings(&BROKER, "x", &[("security.protocol", "TLS")]));
    says(&error, ErrorKind::InvalidArgument, &["[log.kafka] \"security.protocol\""]);
}

#[test]
fn another_number_of_partitions() {
    let log = KafkaLog::open(settings(&BROKER, &own_prefix(), &[])).unwrap();
    log.create_topic("t", 2).unwrap();
    let error = log.create_topic("t", 3).unwrap_err();
    says(&error, ErrorKind::Conflict, &["exists with 2 partitions, not 3", "partitions=2", "another prefix"]);
}

#[test]
fn more_copies_than_brokers() {
    let url = format!("kafka://{}/{}", BROKER.address, own_prefix());
    let log = KafkaLog::open(KafkaSettings::parse(&url, Some(3), BTreeMap::new()).unwrap()).unwrap();
    let error = log.create_topic("t", 1).unwrap_err();
    says(&error, ErrorKind::FailedPrecondition, &["log.replication"]);
}

#[tokio::test]
async fn a_record_that_is_too_large() {
    let prefix = own_prefix();
    let log = KafkaLog::open(settings(&BROKER, &prefix, &[])).unwrap();
    log.create_topic("t", 1).unwrap();
    let large = "x".repeat(3 << 20);
    let error = log.append(vec![batch("t", 0, &["small", &large])]).await.unwrap_err();
    says(&error, ErrorKind::ResourceExhausted, &["largest=3145728 bytes", "message.max.bytes"]);
    // The client lets it through, the broker does not.
    let wider = KafkaLog::open(settings(&BROKER, &prefix, &[("message.max.bytes", "8000000")]));
    let error = wider.unwrap().append(vec![batch("t", 0, &[&large])]).await.unwrap_err();
    says(&error, ErrorKind::ResourceExhausted, &["largest=3145728 bytes", "max.message.bytes of the topic"]);
    log.append(vec![batch("t", 0, &["after"])]).await.unwrap();
    assert_eq!(values(&log, "t", 0).last().unwrap(), "after");
}

/// The records of a partition of `t` below an offset, as the broker's retention does away with them.
async fn delete_below(prefix: &str, offset: i64) {
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&format!("{prefix}.t"), 0, Offset::Offset(offset)).unwrap();
    admin().delete_records(&before, &AdminOptions::new()).await.unwrap();
}

#[tokio::test]
async fn retention_has_cut_records_off() {
    let prefix = own_prefix();
    let log = KafkaLog::open(settings(&BROKER, &prefix, &[])).unwrap();
    log.create_topic("t", 1).unwrap();
    log.append(vec![batch("t", 0, &["a", "b", "c", "d"])]).await.unwrap();
    assert_eq!(log.read("t", 0, 0, 2, 1000).unwrap().len(), 2);
    delete_below(&prefix, 3).await;
    let other = KafkaLog::open(settings(&BROKER, &prefix, &[])).unwrap();
    let error = other.read("t", 0, 2, 10, 1000).unwrap_err();
    let parts = [&format!("topic={prefix}.t"), "partition=0", "wanted=2", "first=3", "retention.ms=-1"];
    says(&error, ErrorKind::DataLoss, &parts);
    assert_eq!(other.read("t", 0, 3, 10, 1000).unwrap()[0].value, "d");
}

/// The broker is asked where a partition begins when a place is opened. Whoever has read a place for long must not skip what is cut off
/// ahead of it later, nor wait for it.
#[tokio::test]
async fn retention_has_cut_records_off_ahead_of_who_is_reading() {
    const RECORDS: u64 = 60;
    const KEPT_FROM: u64 = 50;
    let prefix = own_prefix();
    // No more than a record or two is fetched ahead.
    let narrow = [("max.partition.fetch.bytes", "20000"), ("queued.max.messages.kbytes", "1")];
    let log = KafkaLog::open(settings(&BROKER, &prefix, &narrow)).unwrap();
    log.create_topic("t", 1).unwrap();
    // A request each, for the broker never sends less than what came by one.
    let record = "x".repeat(16_000);
    for _ in 0..RECORDS {
        log.append(vec![batch("t", 0, &[&record])]).await.unwrap();
    }
    let mut next = 0;
    while next < 5 {
        next = log.read("t", 0, next, 1, 1).unwrap().last().unwrap().offset + 1;
    }
    delete_below(&prefix, KEPT_FROM as i64).await;
    // What was fetched before is still right.
    let error = loop {
        match log.read("t", 0, next, 1, 1) {
            Ok(records) => next = records.last().unwrap().offset + 1,
            Err(error) => break error,
        }
    };
    assert!((5..KEPT_FROM).contains(&next), "nothing is skipped: {next}");
    let (wanted, first) = (format!("wanted={next}"), format!("first={KEPT_FROM}"));
    says(
        &error,
        ErrorKind::DataLoss,
        &[&format!("topic={prefix}.t"), "partition=0", &wanted, &first, "retention.ms=-1"],
    );
    // It stays so for who asks again, and what is there is read.
    says(&log.read("t", 0, next, 1, 1).unwrap_err(), ErrorKind::DataLoss, &[&wanted, &first]);
    let kept: Vec<u64> = (KEPT_FROM..RECORDS)
        .flat_map(|from| log.read("t", 0, from, 1, 1).unwrap())
        .map(|record| record.offset)
        .collect();
    assert_eq!(kept, (KEPT_FROM..RECORDS).collect::<Vec<u64>>());
}
