//! The format as it was frozen: `golden.journal` was written by the first build that had it and never changes.

use super::super::store::Store;
use super::*;

const GOLDEN: &[u8] = include_bytes!("golden.journal");

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
}

#[tokio::test]
async fn the_golden_journal_opens() {
    let store = MemoryStore::default();
    store.create(0, GOLDEN).unwrap();
    let log = EmbeddedLog::start(Box::new(store), Options::default()).unwrap();
    assert_eq!(log.topics().unwrap(), [("Order.v1".to_string(), 4)]);
    assert_eq!(values(&log, "Order.v1", 2).unwrap(), ["one", "two", "five"]);
    assert_eq!(values(&log, "Order.v1", 0).unwrap(), ["four", ""]);
    assert_eq!(log.producer("engine").unwrap().committed("shard", "Order.v1", 2).unwrap(), Some(2));
    assert_eq!(log.shared.state.read().epochs["engine"], 1, "the golden producer is fenced");
}

#[tokio::test]
async fn the_same_calls_still_write_the_same_bytes() {
    let store = MemoryStore::default();
    write(&store).await;
    let written = store.read(0, 0, store.length(0).unwrap() as usize).unwrap();
    assert_eq!(written, GOLDEN);
}
