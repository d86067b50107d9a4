//! Every way in which a crash or a bad disk may leave the journal.

use super::super::journal;
use super::super::store::Store;
use super::*;

const BEFORE: [&str; 3] = ["first", "second", "third"];

/// A journal of some frames, the last of which begins at the position returned.
async fn sample() -> (MemoryStore, u64) {
    let store = MemoryStore::default();
    let log = EmbeddedLog::start(Box::new(store.clone()), Options::default()).unwrap();
    log.create_topic("t", 2).unwrap();
    for value in BEFORE {
        log.append(vec![batch("t", 0, &[value])]).await.unwrap();
    }
    let last_frame = store.length(0).unwrap();
    log.append(vec![batch("t", 0, &["last"]), batch("t", 1, &["last", "of all"])]).await.unwrap();
    (store, last_frame)
}

fn bytes_of(store: &MemoryStore) -> Vec<u8> {
    store.read(0, 0, store.length(0).unwrap() as usize).unwrap().to_vec()
}

fn opened(bytes: &[u8]) -> Result<EmbeddedLog> {
    let store = MemoryStore::default();
    store.create(0, bytes).unwrap();
    EmbeddedLog::start(Box::new(store), Options::default())
}

#[tokio::test]
async fn a_journal_cut_at_any_byte_of_its_last_frame_opens_without_it() {
    let (store, last_frame) = sample().await;
    let bytes = bytes_of(&store);
    for length in last_frame as usize..bytes.len() {
        let log = opened(&bytes[..length]).unwrap();
        assert_eq!(values(&log, "t", 0).unwrap(), BEFORE, "cut at {length}");
        assert_eq!(log.end_offset("t", 1).unwrap(), 0, "all of the frame is gone");
        assert_eq!(log.append(vec![batch("t", 0, &["next"])]).await.unwrap()[0].first, 3);
        assert_eq!(values(&log, "t", 0).unwrap(), ["first", "second", "third", "next"]);
    }
}

#[tokio::test]
async fn a_last_frame_whose_pages_arrived_in_part_is_cut_off() {
    let (store, last_frame) = sample().await;
    let bytes = bytes_of(&store);
    for damaged in last_frame as usize..bytes.len() {
        let mut torn = bytes.clone();
        torn[damaged] ^= 0x40;
        let log = opened(&torn).unwrap();
        assert_eq!(values(&log, "t", 0).unwrap(), BEFORE, "damaged at {damaged}");
    }
    let mut zeroed = bytes.clone();
    zeroed[last_frame as usize..].fill(0);
    assert_eq!(values(&opened(&zeroed).unwrap(), "t", 0).unwrap(), BEFORE);
}

#[tokio::test]
async fn damage_before_the_last_frame_is_data_loss_and_names_the_place() {
    let (store, last_frame) = sample().await;
    let bytes = bytes_of(&store);
    for damaged in 0..last_frame as usize {
        if damaged == 8 {
            continue; // The version byte: see below.
        }
        let mut rotten = bytes.clone();
        rotten[damaged] ^= 0x40;
        // Payloads are checked when they are read.
        let read = opened(&rotten).and_then(|log| values(&log, "t", 0));
        let error = read.expect_err(&format!("damage at {damaged} is found"));
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{damaged}: {error}");
        assert!(error.message().contains("file=segment 0 in memory offset="), "{error}");
    }
}

#[tokio::test]
async fn damage_in_an_earlier_segment_is_never_cut_off() {
    let store = MemoryStore::default();
    let log = EmbeddedLog::start(Box::new(store.clone()), SMALL).unwrap();
    log.create_topic("t", 1).unwrap();
    for _ in 0..20 {
        log.append(vec![batch("t", 0, &["some value"])]).await.unwrap();
    }
    drop(log);
    assert!(store.segments().unwrap().len() > 2);
    let length = store.length(1).unwrap();
    store.truncate(1, length - 1).unwrap();
    let error = EmbeddedLog::start(Box::new(store.clone()), SMALL).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(error.message().contains("segment 1 in memory"), "{error}");
}

#[tokio::test]
async fn a_segment_that_was_being_made_is_made_anew() {
    let (store, _) = sample().await;
    let header = journal::segment_header(1);
    for unfinished in [&header[..0], &header[..10], &[0; journal::SEGMENT_HEADER]] {
        store.create(1, unfinished).unwrap();
        let log = EmbeddedLog::start(Box::new(store.clone()), SMALL).unwrap();
        assert_eq!(values(&log, "t", 1).unwrap(), ["last", "of all"]);
        log.append(vec![batch("t", 0, &["next"])]).await.unwrap();
    }
    let log = EmbeddedLog::start(Box::new(store), SMALL).unwrap();
    assert_eq!(log.end_offset("t", 0).unwrap(), 7);
}

#[tokio::test]
async fn an_unknown_version_is_refused_and_both_are_named() {
    let (store, _) = sample().await;
    let mut later = bytes_of(&store);
    later[8] = 9;
    let error = opened(&later).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert_eq!(error.message(), "segment 0 in memory has log format version 9, this build reads version 2");
}

#[tokio::test]
async fn a_missing_segment_is_data_loss() {
    let directory = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(directory.path(), SMALL).unwrap();
    log.create_topic("t", 1).unwrap();
    for _ in 0..20 {
        log.append(vec![batch("t", 0, &["some value"])]).await.unwrap();
    }
    drop(log);
    std::fs::remove_file(directory.path().join("0000000001.journal")).unwrap();
    let error = EmbeddedLog::open_with(directory.path(), SMALL).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(error.message().contains("0000000001.journal"), "{error}");
}

/// A value that holds a copy of the journal itself is not mistaken for frames.
#[tokio::test]
async fn a_copy_of_the_journal_inside_a_torn_record_is_no_frame() {
    let (store, _) = sample().await;
    let copy = Bytes::from(bytes_of(&store));
    let log = EmbeddedLog::start(Box::new(store.clone()), Options::default()).unwrap();
    let record = NewRecord::new(Bytes::new(), copy);
    log.append(vec![Batch { topic: "t".to_string(), partition: 0, records: vec![record] }]).await.unwrap();
    drop(log);
    let whole = bytes_of(&store);
    let log = opened(&whole[..whole.len() - 1]).unwrap();
    assert_eq!(log.end_offset("t", 0).unwrap(), 4);
}
