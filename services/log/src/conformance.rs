//! What every event log must do, as tests: `event_log_conformance!(place)` makes a test of each case.
//!
//! A case gets a place of its own, opens the log there, and may drop it and open it again. Offsets need not be dense.

use crate::{Appended, Batch, CommitOutcome, EventLog, Kept, LogRecord, NewRecord};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::{Error, ErrorKind, Result};

/// No log takes so long to say that something can be read.
const LONG: Duration = Duration::from_secs(30);

/// Where one log lives.
pub trait Place: Send + Sync {
    /// Opens the log. Opened again after it was dropped, it is the same log.
    fn open(&self) -> Result<Arc<dyn EventLog>>;
}

/// One test per case, each with a place that `$place` makes.
#[macro_export]
macro_rules! event_log_conformance {
    ($place:expr) => {
        $crate::event_log_conformance!(@cases $place;
            records_come_back_in_order,
            first_offsets_name_the_records,
            empty_batches_keys_and_values,
            headers_come_back_as_they_were,
            records_survive_a_reopen,
            concurrent_appends_are_all_there_once,
            reads_keep_their_limits,
            reads_beside_writes_see_prefixes,
            changes_wake,
            topics_are_created_once,
            topics_are_deleted_with_all_they_hold,
            unknown_names_are_errors,
            transactions_are_atomic,
            transactions_survive_a_reopen,
            aborted_and_dropped_transactions_leave_nothing,
            a_newer_producer_fences_the_older,
            committed_offsets_belong_to_their_group,
            unknown_outcomes_are_resolved_by_committed,
            producers_keep_the_protocol
        );
    };
    (@cases $place:expr; $($case:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::$case(&$place).await.unwrap();
            }
        )*
    };
}

fn record(value: &str) -> NewRecord {
    NewRecord::new(format!("key of {value}"), value.to_string())
}

fn batch(topic: &str, partition: u16, values: &[String]) -> Batch {
    let records = values.iter().map(|value| record(value)).collect();
    Batch { topic: topic.to_string(), partition, records }
}

fn numbered(name: &str, numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("{name} {number}")).collect()
}

/// All records of a partition, read a few at a time: offsets strictly increase, keys fit their values.
fn read_all(log: &dyn EventLog, topic: &str, partition: u16) -> Result<Vec<(u64, String)>> {
    let mut found: Vec<(u64, String)> = Vec::new();
    let mut from = 0;
    loop {
        let records = log.read(topic, partition, from, 7, 1 << 20)?;
        let Some(last) = records.last() else { break };
        from = last.offset + 1;
        for record in records {
            assert!(found.last().is_none_or(|(offset, _)| *offset < record.offset), "offsets increase");
            let value = String::from_utf8(record.value.to_vec()).map_err(|_| Error::internal("a value is no text"))?;
            assert_eq!(record.key, format!("key of {value}"));
            found.push((record.offset, value));
        }
    }
    assert!(from <= log.end_offset(topic, partition)?, "the end is not before the last record");
    Ok(found)
}

fn values(log: &dyn EventLog, topic: &str, partition: u16) -> Result<Vec<String>> {
    Ok(read_all(log, topic, partition)?.into_iter().map(|(_, value)| value).collect())
}

fn is_refused(outcome: &CommitOutcome) -> bool {
    matches!(outcome, CommitOutcome::NotCommitted(_))
}

fn is_committed(outcome: &CommitOutcome) -> bool {
    matches!(outcome, CommitOutcome::Committed)
}

fn kind_of<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

pub async fn records_come_back_in_order(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 2)?;
    let sent = numbered("record", 0..50);
    for part in sent.chunks(6) {
        log.append(vec![batch("t", 1, part)]).await?;
    }
    assert_eq!(values(&*log, "t", 1)?, sent);
    assert_eq!(values(&*log, "t", 0)?, Vec::<String>::new());
    assert_eq!(log.end_offset("t", 0)?, 0);
    Ok(())
}

pub async fn first_offsets_name_the_records(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("a", 2)?;
    log.create_topic("b", 1)?;
    for round in 0..3 {
        let parts = [("a", 1), ("b", 0), ("a", 1), ("a", 0)];
        let named = |part: usize| numbered(&format!("{round}.{part}"), 0..3);
        let batches = parts.iter().enumerate().map(|(part, (topic, partition))| batch(topic, *partition, &named(part)));
        let offsets = log.append(batches.collect()).await?;
        assert_eq!(offsets.len(), parts.len());
        for (part, (topic, partition)) in parts.iter().enumerate() {
            let records = log.read(topic, *partition, offsets[part].first, 3, 1 << 20)?;
            assert_eq!(records[0].offset, offsets[part].first);
            assert_eq!(records[2].offset + 1, offsets[part].end);
            let read: Vec<Bytes> = records.into_iter().map(|record| record.value).collect();
            assert_eq!(read, named(part));
        }
    }
    Ok(())
}

pub async fn empty_batches_keys_and_values(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 1)?;
    assert_eq!(log.append(Vec::new()).await?, Vec::<Appended>::new());
    log.append(vec![batch("t", 0, &[])]).await?;
    assert!(log.read("t", 0, 0, 10, 10)?.is_empty());
    let empty = NewRecord::new(Bytes::new(), Bytes::new());
    log.append(vec![Batch { topic: "t".to_string(), partition: 0, records: vec![empty; 3] }]).await?;
    let records = log.read("t", 0, 0, 10, 10)?;
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record.key.is_empty() && record.value.is_empty()));
    Ok(())
}

pub async fn headers_come_back_as_they_were(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 1)?;
    let header = |name: &str, value: &'static [u8]| (name.to_string(), Bytes::from_static(value));
    let sent = vec![
        NewRecord { headers: vec![header("a", b"1"), header("b", b""), header("a", b"\x00\xff")], ..record("first") },
        record("without"),
        NewRecord { headers: vec![header("é", b"last")], ..NewRecord::new(Bytes::new(), Bytes::new()) },
    ];
    let send = |records: &[NewRecord]| Batch { topic: "t".to_string(), partition: 0, records: records.to_vec() };
    log.append(vec![send(&[record("plain")])]).await?;
    log.append(vec![send(&sent)]).await?;
    let mut producer = log.producer("p")?;
    producer.begin()?;
    producer.send(send(&sent[..1]))?;
    producer.send(send(&sent[1..]))?;
    assert!(is_committed(&producer.commit()));
    drop((producer, log));
    let log = place.open()?;
    log.append(vec![send(&sent)]).await?;
    let (mut read, mut from) = (Vec::new(), 0);
    loop {
        let records = log.read("t", 0, from, usize::MAX, usize::MAX)?;
        let Some(last) = records.last() else { break };
        from = last.offset + 1;
        let sent = |record: LogRecord| NewRecord { key: record.key, value: record.value, headers: record.headers };
        read.extend(records.into_iter().map(sent));
    }
    assert_eq!(read, [vec![record("plain")], sent.clone(), sent.clone(), sent].concat());
    Ok(())
}

pub async fn records_survive_a_reopen(place: &dyn Place) -> Result<()> {
    let sent = numbered("record", 0..30);
    for (index, part) in sent.chunks(10).enumerate() {
        let log = place.open()?;
        log.create_topic("t", 3)?;
        assert_eq!(values(&*log, "t", 2)?, sent[..index * 10]);
        log.append(vec![batch("t", 2, part)]).await?;
    }
    let log = place.open()?;
    assert_eq!(values(&*log, "t", 2)?, sent);
    assert_eq!(log.topics()?, [("t".to_string(), 3)]);
    Ok(())
}

pub async fn concurrent_appends_are_all_there_once(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 2)?;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let log = log.clone();
        tasks.spawn(async move {
            for round in 0..10 {
                let sent = numbered(&format!("{writer} {round}"), 0..5);
                log.append(vec![batch("t", (writer % 2) as u16, &sent)]).await?;
            }
            Result::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| Error::internal(error.to_string()))??;
    }
    for partition in 0..2 {
        let found = values(&*log, "t", partition)?;
        for writer in (0..8).filter(|writer| writer % 2 == partition) {
            let of_writer = found.iter().filter(|value| value.starts_with(&format!("{writer} ")));
            let expected = (0..10).flat_map(|round| numbered(&format!("{writer} {round}"), 0..5));
            assert!(of_writer.cloned().eq(expected), "each writer's records once, in its order");
        }
        assert_eq!(found.len(), 200);
    }
    Ok(())
}

pub async fn reads_keep_their_limits(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 1)?;
    let mut sent = numbered("record", 0..20);
    sent.push("long ".repeat(5000));
    sent.extend(numbered("after", 0..3));
    log.append(vec![batch("t", 0, &sent)]).await?;
    let all = read_all(&*log, "t", 0)?;
    assert_eq!(log.read("t", 0, all[3].0, 5, 1 << 20)?.len(), 5);
    assert_eq!(log.read("t", 0, all[3].0, 0, 1 << 20)?.len(), 1, "at least one record");
    assert_eq!(log.read("t", 0, all[3].0, 5, 0)?.len(), 1, "at least one record");
    assert_eq!(log.read("t", 0, all[20].0, 5, 100)?[0].value, sent[20], "also where it is longer than the limit");
    let limited = log.read("t", 0, 0, 1000, 100)?;
    assert!((1..20).contains(&limited.len()), "about 100 bytes");
    assert!(log.read("t", 0, 0, 1000, 1 << 20)?.len() > limited.len());
    let end = log.end_offset("t", 0)?;
    assert!(log.read("t", 0, end, 10, 1000)?.is_empty());
    assert_eq!(kind_of(log.read("t", 0, end + 1000, 10, 1000)), Some(ErrorKind::OutOfRange));
    Ok(())
}

pub async fn reads_beside_writes_see_prefixes(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 1)?;
    let sent = numbered("record", 0..200);
    let of_reader = log.clone();
    let expected = sent.clone();
    let reader = tokio::task::spawn_blocking(move || {
        loop {
            let found = values(&*of_reader, "t", 0)?;
            assert_eq!(found, expected[..found.len()]);
            if found.len() == expected.len() {
                return Result::Ok(());
            }
        }
    });
    for part in sent.chunks(4) {
        log.append(vec![batch("t", 0, part)]).await?;
    }
    reader.await.map_err(|error| Error::internal(error.to_string()))?
}

/// A log may announce one batch twice, also later; but once for every batch after it can be read.
pub async fn changes_wake(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 1)?;
    let mut changes = log.changes();
    for number in 0..3 {
        changes.mark_unchanged();
        let of_writer = log.clone();
        let writer = tokio::spawn(async move { of_writer.append(vec![batch("t", 0, &[number.to_string()])]).await });
        loop {
            let changed = tokio::time::timeout(LONG, changes.changed()).await;
            let changed = changed.map_err(|_| Error::internal("nobody said that a batch can be read"))?;
            changed.map_err(|_| Error::internal("the log ended"))?;
            if values(&*log, "t", 0)?.len() > number {
                break;
            }
        }
        writer.await.map_err(|error| Error::internal(error.to_string()))??;
    }
    Ok(())
}

pub async fn topics_are_created_once(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    assert!(log.topics()?.is_empty());
    log.create_topic("b", 4)?;
    log.create_topic("a", 1)?;
    log.create_topic("b", 4)?;
    assert_eq!(kind_of(log.create_topic("b", 5)), Some(ErrorKind::Conflict));
    assert_eq!(kind_of(log.create_topic("c", 0)), Some(ErrorKind::InvalidArgument));
    assert_eq!(log.topics()?, [("a".to_string(), 1), ("b".to_string(), 4)]);
    Ok(())
}

pub async fn topics_are_deleted_with_all_they_hold(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 1)?;
    log.create_topic("kept", 1)?;
    log.append(vec![batch("t", 0, &numbered("old", 0..5)), batch("kept", 0, &numbered("kept", 0..5))]).await?;
    let mut producer = log.producer("p")?;
    producer.begin()?;
    producer.send_offset("g", "t", 0, 3)?;
    assert!(is_committed(&producer.commit()));
    log.delete_topic("t")?;
    assert_eq!(kind_of(log.delete_topic("t")), Some(ErrorKind::NotFound));
    assert_eq!(kind_of(log.read("t", 0, 0, 10, 1000)), Some(ErrorKind::NotFound));
    log.create_topic("t", 2)?;
    assert_eq!(producer.committed("g", "t", 0)?, None);
    log.append(vec![batch("t", 0, &numbered("new", 0..2))]).await?;
    drop((producer, log));
    let log = place.open()?;
    assert_eq!(values(&*log, "t", 0)?, numbered("new", 0..2));
    assert_eq!(values(&*log, "kept", 0)?, numbered("kept", 0..5));
    Ok(())
}

pub async fn unknown_names_are_errors(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("orders", 2)?;
    assert_eq!(kind_of(log.append(vec![batch("ordesr", 0, &numbered("x", 0..1))]).await), Some(ErrorKind::NotFound));
    assert_eq!(
        kind_of(log.append(vec![batch("orders", 2, &numbered("x", 0..1))]).await),
        Some(ErrorKind::InvalidArgument)
    );
    assert_eq!(kind_of(log.read("ordesr", 0, 0, 1, 1)), Some(ErrorKind::NotFound));
    assert_eq!(kind_of(log.read("orders", 2, 0, 1, 1)), Some(ErrorKind::InvalidArgument));
    assert_eq!(kind_of(log.end_offset("orders", 9)), Some(ErrorKind::InvalidArgument));
    let mut producer = log.producer("p")?;
    assert_eq!(kind_of(producer.committed("g", "ordesr", 0)), Some(ErrorKind::NotFound));
    Ok(())
}

pub async fn transactions_are_atomic(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("a", 2)?;
    log.create_topic("b", 1)?;
    let mut producer = log.producer("p")?;
    for round in 0..3u32 {
        let sent = numbered(&format!("round {round}"), 0..4);
        let before = (values(&*log, "a", 1)?, values(&*log, "b", 0)?);
        producer.begin()?;
        producer.send(batch("a", 1, &sent[..2]))?;
        producer.send(batch("b", 0, &sent))?;
        producer.send(batch("a", 1, &sent[2..]))?;
        producer.send_offset("g", "b", 0, u64::from(round) + 10)?;
        assert_eq!((values(&*log, "a", 1)?, values(&*log, "b", 0)?), before, "invisible until committed");
        assert!(is_committed(&producer.commit()));
        for (topic, partition, mut expected) in [("a", 1, before.0), ("b", 0, before.1)] {
            expected.extend_from_slice(&sent);
            assert_eq!(values(&*log, topic, partition)?, expected);
        }
        assert_eq!(producer.committed("g", "b", 0)?, Some(u64::from(round) + 10));
    }
    producer.begin()?;
    producer.send(batch("a", 0, &numbered("good", 0..1)))?;
    let sent = producer.send(batch("nowhere", 0, &numbered("bad", 0..1)));
    assert!(sent.is_err() || is_refused(&producer.commit()), "a send to an unknown topic fails the transaction");
    assert!(values(&*log, "a", 0)?.is_empty(), "all of it");
    Ok(())
}

pub async fn transactions_survive_a_reopen(place: &dyn Place) -> Result<()> {
    for round in 0..3u64 {
        let log = place.open()?;
        log.create_topic("t", 1)?;
        let mut producer = log.producer("p")?;
        let committed = producer.committed("g", "t", 0)?;
        assert_eq!(committed, (round > 0).then_some(round));
        assert_eq!(values(&*log, "t", 0)?.len() as u64, round * 2);
        producer.begin()?;
        producer.send(batch("t", 0, &numbered(&round.to_string(), 0..2)))?;
        producer.send_offset("g", "t", 0, round + 1)?;
        assert!(is_committed(&producer.commit()));
        producer.begin()?;
        producer.send(batch("t", 0, &numbered("never committed", 0..2)))?;
    }
    Ok(())
}

pub async fn aborted_and_dropped_transactions_leave_nothing(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 1)?;
    let mut producer = log.producer("p")?;
    producer.begin()?;
    producer.send(batch("t", 0, &numbered("aborted", 0..2)))?;
    producer.send_offset("g", "t", 0, 7)?;
    producer.abort()?;
    producer.begin()?;
    producer.send(batch("t", 0, &numbered("kept", 0..2)))?;
    assert!(is_committed(&producer.commit()));
    producer.begin()?;
    producer.send(batch("t", 0, &numbered("dropped", 0..2)))?;
    drop(producer);
    assert_eq!(values(&*log, "t", 0)?, numbered("kept", 0..2));
    assert_eq!(log.producer("p")?.committed("g", "t", 0)?, None);
    Ok(())
}

pub async fn a_newer_producer_fences_the_older(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 1)?;
    let mut older = log.producer("p")?;
    let mut other = log.producer("q")?;
    older.begin()?;
    older.send(batch("t", 0, &numbered("older", 0..2)))?;
    older.send_offset("g", "t", 0, 99)?;
    let mut newer = log.producer("p")?;
    assert!(is_refused(&older.commit()), "fenced");
    assert_eq!(newer.committed("g", "t", 0)?, None);
    for producer in [&mut newer, &mut other] {
        producer.begin()?;
        producer.send(batch("t", 0, &numbered("kept", 0..1)))?;
        assert!(is_committed(&producer.commit()));
    }
    let again = older.begin().and_then(|()| older.send(batch("t", 0, &numbered("older", 0..1))));
    assert!(again.is_err() || is_refused(&older.commit()), "for good");
    assert_eq!(values(&*log, "t", 0)?, ["kept 0", "kept 0"]);
    Ok(())
}

pub async fn committed_offsets_belong_to_their_group(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 2)?;
    let mut producer = log.producer("p")?;
    for next in [5, 9, 7] {
        producer.begin()?;
        producer.send_offset("g", "t", 1, next)?;
        assert!(is_committed(&producer.commit()));
        assert_eq!(producer.committed("g", "t", 1)?, Some(next), "the last one counts");
    }
    assert_eq!(producer.committed("g", "t", 0)?, None);
    assert_eq!(producer.committed("h", "t", 1)?, None);
    let mut another = log.producer("another")?;
    let kept = Kept { next: 7, is_ours: true };
    assert_eq!(another.kept("g", "t", 1)?, Some(kept), "groups are not the producer's own");
    Ok(())
}

/// A copy of one topic to another whose commits may end in any way: every record arrives exactly once, in order.
pub async fn unknown_outcomes_are_resolved_by_committed(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("in", 1)?;
    log.create_topic("out", 1)?;
    let sent = numbered("record", 0..60);
    log.append(vec![batch("in", 0, &sent)]).await?;
    let mut made = 0;
    while log.producer("copy")?.committed("g", "in", 0)?.unwrap_or(0) < log.end_offset("in", 0)? {
        let mut producer = log.producer("copy")?;
        let mut next = producer.committed("g", "in", 0)?.unwrap_or(0);
        made += 1;
        assert!(made < 1000, "the copy makes progress");
        loop {
            let records = log.read("in", 0, next, 4, 1 << 20)?;
            let Some(last) = records.last() else { break };
            let after = last.offset + 1;
            let records = records.into_iter().map(|record| NewRecord::new(record.key, record.value)).collect();
            producer.begin()?;
            producer.send(Batch { topic: "out".to_string(), partition: 0, records })?;
            producer.send_offset("g", "in", 0, after)?;
            match producer.commit() {
                CommitOutcome::Committed => next = after,
                CommitOutcome::NotCommitted(_) => {}
                CommitOutcome::Unknown(_) => break,
            }
        }
    }
    assert_eq!(values(&*log, "out", 0)?, sent);
    Ok(())
}

pub async fn producers_keep_the_protocol(place: &dyn Place) -> Result<()> {
    let log = place.open()?;
    log.create_topic("t", 1)?;
    let mut producer = log.producer("p")?;
    assert_eq!(kind_of(producer.send(batch("t", 0, &numbered("x", 0..1)))), Some(ErrorKind::FailedPrecondition));
    assert_eq!(kind_of(producer.send_offset("g", "t", 0, 1)), Some(ErrorKind::FailedPrecondition));
    assert_eq!(kind_of(producer.abort()), Some(ErrorKind::FailedPrecondition));
    assert!(is_refused(&producer.commit()));
    producer.begin()?;
    assert_eq!(kind_of(producer.begin()), Some(ErrorKind::FailedPrecondition));
    assert!(is_committed(&producer.commit()), "an empty transaction commits");
    assert!(values(&*log, "t", 0)?.is_empty());
    Ok(())
}
