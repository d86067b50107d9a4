//! The embedded log beyond the conformance suite: damage, crashes, full disks, random histories.

mod damage;
mod failing;
mod golden;
mod history;
mod killed;

use super::memory::MemoryStore;
use super::*;
use crate::NewRecord;
use crate::conformance::Place;
use bytes::Bytes;

/// Segments and cache so small that every case crosses their borders.
const SMALL: Options = Options { segment_bytes: 400, cache_bytes: 150 };

struct OnDisk(tempfile::TempDir);

impl Place for OnDisk {
    fn open(&self) -> Result<Arc<dyn EventLog>> {
        Ok(Arc::new(EmbeddedLog::open(self.0.path())?))
    }
}

struct SmallInMemory(MemoryStore);

impl Place for SmallInMemory {
    fn open(&self) -> Result<Arc<dyn EventLog>> {
        Ok(Arc::new(EmbeddedLog::start(Box::new(self.0.clone()), SMALL)?))
    }
}

mod on_disk {
    crate::event_log_conformance!(super::OnDisk(tempfile::tempdir().unwrap()));
}

mod in_small_segments {
    crate::event_log_conformance!(super::SmallInMemory(super::MemoryStore::default()));
}

fn batch(topic: &str, partition: u16, values: &[&str]) -> Batch {
    let record = |value: &&str| NewRecord::new(Bytes::from_static(b"k"), Bytes::copy_from_slice(value.as_bytes()));
    Batch { topic: topic.to_string(), partition, records: values.iter().map(record).collect() }
}

fn values(log: &dyn EventLog, topic: &str, partition: u16) -> Result<Vec<String>> {
    let records = log.read(topic, partition, 0, usize::MAX, usize::MAX)?;
    Ok(records.into_iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect())
}

#[tokio::test]
async fn a_second_log_in_one_directory_is_refused_until_the_first_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let first = EmbeddedLog::open(directory.path()).unwrap();
    let error = EmbeddedLog::open(directory.path()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().starts_with("another process uses this data directory: "), "{error}");
    assert!(error.hint_text().is_some());
    let mut producer = first.producer("p").unwrap();
    first.close();
    EmbeddedLog::open(directory.path()).unwrap();
    producer.begin().unwrap();
    assert!(matches!(producer.commit(), crate::CommitOutcome::NotCommitted(_)));
    let error = first.append(vec![batch("t", 0, &["late"])]).await.unwrap_err();
    assert_eq!(error.message(), "the log is closed");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let error = EmbeddedLog::open(file.join("log")).err().unwrap();
    assert!(error.message().starts_with(&format!("cannot write to {}", file.join("log").display())), "{error}");
}

#[tokio::test]
async fn large_batches_are_cut_into_blocks_and_read_from_the_middle() {
    let directory = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..30_000).map(|number| format!("value number {number}")).collect();
    let all: Vec<&str> = texts.iter().map(String::as_str).collect();
    for reopened in [false, true] {
        let log = EmbeddedLog::open(directory.path()).unwrap();
        if !reopened {
            log.create_topic("t", 2).unwrap();
            log.append(vec![batch("t", 0, &all), batch("t", 1, &all[..10])]).await.unwrap();
        }
        for from in [0, 1, 2_999, 15_000, 29_999] {
            let records = log.read("t", 0, from, 5_000, usize::MAX).unwrap();
            assert_eq!(records.len(), 5_000.min(30_000 - from as usize));
            for (index, record) in records.iter().enumerate() {
                assert_eq!(record.offset, from + index as u64);
                assert_eq!(record.value, all[from as usize + index]);
            }
        }
        assert_eq!(values(&log, "t", 1).unwrap(), all[..10]);
    }
}
