//! The embedded log beyond the conformance suite: damage, crashes, full disks.

use super::*;
use crate::NewRecord;
use bytes::Bytes;

fn record(text: &str) -> NewRecord {
    NewRecord { key: Bytes::copy_from_slice(b"k"), value: Bytes::copy_from_slice(text.as_bytes()) }
}

fn batch(partition: u16, texts: &[&str]) -> Batch {
    Batch { topic: "t".to_string(), partition, records: texts.iter().map(|text| record(text)).collect() }
}

#[tokio::test]
async fn appended_records_are_there_after_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(directory.path()).unwrap();
    log.create_topic("t", 2).unwrap();
    assert_eq!(log.append(vec![batch(0, &["a", "b"]), batch(1, &["c"]), batch(0, &["d"])]).await.unwrap(), [0, 0, 2]);
    drop(log);
    let log = EmbeddedLog::open(directory.path()).unwrap();
    let values: Vec<Bytes> = log.read("t", 0, 1, 10, 1000).unwrap().into_iter().map(|record| record.value).collect();
    assert_eq!(values, ["b", "d"]);
    assert_eq!(log.end_offset("t", 1).unwrap(), 1);
}
