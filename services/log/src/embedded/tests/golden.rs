//! The formats as they were frozen: each golden journal was written by the first build that had its version and never changes.

use super::super::store::Store;
use super::*;

const VERSION_1: &[u8] = include_bytes!("golden.journal");
const VERSION_2: &[u8] = include_bytes!("golden-2.journal");

/// What the golden journal records: every kind of entry.
async fn write(store: &MemoryStore) {
    let log = EmbeddedLog::start(Box::new(store.clone()), Options::default()).unwrap();
    log.create_topic("Order.v1", 4).unwrap();
    log.create_topic("gone", 1).unwrap();
    log.append(vec![batch("Order.v1", 2, &["one", "two"]), batch("gone", 0, &["three"])]).await.unwrap();
    log.delete_topic("gone").unwrap();
    let mut producer = log.producer("engine").unwrap();
    producer.begin().unwrap();
    producer.send(batch("Order.v1", 0, &["four", ""])).unwrap();
    producer.send(batch("Order.v1", 2, &["five"])).unwrap();
    producer.send_offset("shard", "Order.v1", 2, 2).unwrap();
    assert!(matches!(producer.commit(), crate::CommitOutcome::Committed));
    log.append(vec![headed()]).await.unwrap();
}

fn headed() -> Batch {
    let mut record = NewRecord::new("k", "six");
    record.headers = vec![("name".to_string(), Bytes::from_static(b"value")), ("empty".to_string(), Bytes::new())];
    Batch { topic: "Order.v1".to_string(), partition: 1, records: vec![record, NewRecord::new("k", "seven")] }
}

fn check(log: &EmbeddedLog) {
    assert_eq!(log.topics().unwrap(), [("Order.v1".to_string(), 4)]);
    assert_eq!(values(log, "Order.v1", 2).unwrap(), ["one", "two", "five"]);
    assert_eq!(values(log, "Order.v1", 0).unwrap(), ["four", ""]);
    assert_eq!(log.producer("engine").unwrap().committed("shard", "Order.v1", 2).unwrap(), Some(2));
    assert_eq!(log.shared.state.read().epochs["engine"], 1, "the golden producer is fenced");
}

#[tokio::test]
async fn a_journal_of_version_1_opens_and_goes_on_in_a_segment_of_version_2() {
    let store = MemoryStore::default();
    store.create(0, VERSION_1).unwrap();
    let log = EmbeddedLog::start(Box::new(store.clone()), Options::default()).unwrap();
    check(&log);
    log.append(vec![headed()]).await.unwrap();
    drop(log);
    assert_eq!(store.read(0, 0, store.length(0).unwrap() as usize).unwrap(), VERSION_1);
    let log = EmbeddedLog::start(Box::new(store.clone()), Options::default()).unwrap();
    check_headed(&log);
    assert_eq!(store.segments().unwrap(), [0, 1]);
}

#[tokio::test]
async fn a_journal_of_version_2_opens() {
    let store = MemoryStore::default();
    store.create(0, VERSION_2).unwrap();
    let log = EmbeddedLog::start(Box::new(store), Options::default()).unwrap();
    check(&log);
    check_headed(&log);
}

fn check_headed(log: &EmbeddedLog) {
    let read = log.read("Order.v1", 1, 0, usize::MAX, usize::MAX).unwrap();
    let headers: Vec<crate::Headers> = read.into_iter().map(|record| record.headers).collect();
    assert_eq!(headers, [headed().records[0].headers.clone(), Vec::new()]);
    assert_eq!(values(log, "Order.v1", 1).unwrap(), ["six", "seven"]);
}

#[tokio::test]
async fn the_same_calls_still_write_the_same_bytes() {
    let store = MemoryStore::default();
    write(&store).await;
    let written = store.read(0, 0, store.length(0).unwrap() as usize).unwrap();
    assert_eq!(written, VERSION_2);
}
