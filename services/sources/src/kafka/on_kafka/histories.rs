//! Topics with a history: several partitions, transactions, records that go, partitions that come.

use super::{Topic, ids};
use crate::conformance::rows;
use crate::{Place, Poll};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use thyme_core::ErrorKind;

#[test]
fn every_record_of_many_partitions_comes_once_however_the_polls_are_cut() {
    let topic = Topic::new(7);
    for partition in 0..7 {
        topic.send_rows(partition, &rows(i64::from(partition) * 1000, 40 + i64::from(partition)));
    }
    let mut seen: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut all_ids = std::collections::BTreeSet::new();
    let (mut source, mut cursor) = (topic.source(), None::<Vec<u8>>);
    for round in 1.. {
        let poll = source.poll(cursor.as_deref(), 1 + round % 23).unwrap();
        for (row, number) in poll.rows.iter().zip(ids(&poll)) {
            assert!(all_ids.insert(format!("{:?}", row.id)), "{number} came twice");
            seen.entry(number / 1000).or_default().push(number);
        }
        cursor = Some(poll.cursor);
        // A restart now and then.
        if round % 5 == 0 {
            source = topic.source();
        }
        if !poll.has_more {
            break;
        }
    }
    for (partition, numbers) in &seen {
        let expected: Vec<i64> = (partition * 1000..partition * 1000 + 40 + partition).collect();
        assert_eq!(*numbers, expected, "in order within partition {partition}");
    }
    assert_eq!(seen.len(), 7);
}

#[test]
fn a_partition_that_is_added_later_is_read_from_its_first_record() {
    let topic = Topic::new(1);
    topic.send_rows(0, &rows(0, 3));
    let mut source = topic.source();
    let first = source.poll(None, 100).unwrap();
    assert_eq!(ids(&first), [0, 1, 2]);
    topic.grow(3);
    let later = topic.with_a_new_producer();
    later.send_rows(2, &rows(10, 2));
    let mut cursor = first.cursor;
    let mut found = Vec::new();
    while found.len() < 2 {
        let poll = source.poll(Some(&cursor), 100).unwrap();
        found.extend(ids(&poll));
        cursor = poll.cursor;
    }
    assert_eq!(found, [10, 11]);
    later.send_rows(0, &rows(3, 1));
    assert_eq!(ids(&source.poll(Some(&cursor), 100).unwrap()), [3]);
}

pub fn transactional(topic: &Topic, id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &topic.address)
        .set("transactional.id", format!("{}-{id}", topic.name))
        .create()
        .unwrap();
    producer.init_transactions(Duration::from_secs(20)).unwrap();
    producer
}

fn send(producer: &BaseProducer, topic: &Topic, first: i64, count: i64) {
    for row in rows(first, count) {
        let value = format!("{{\"id\": {}, \"ts\": \"2024-01-01T00:00:00Z\"}}", row[0].as_int().unwrap());
        let record = BaseRecord::<[u8], [u8]>::to(&topic.name).partition(0).payload(value.as_bytes());
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

/// The broker answers the end of a transaction before it has written its marks: only then can others read what is below `end`.
fn wait_for_end(topic: &Topic, end: i64) {
    let until = Instant::now() + Duration::from_secs(60);
    while topic.admin.inner().fetch_watermarks(&topic.name, 0, Duration::from_secs(20)).unwrap().1 < end {
        assert!(Instant::now() < until, "the transaction does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn only_committed_records_are_read_and_marks_of_transactions_are_no_gap() {
    let topic = Topic::new(1);
    let wait = Duration::from_secs(20);
    let producer = transactional(&topic, "a");
    producer.begin_transaction().unwrap();
    send(&producer, &topic, 0, 3);
    producer.commit_transaction(wait).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, &topic, 100, 3);
    producer.abort_transaction(wait).unwrap();
    wait_for_end(&topic, 8);
    let mut source = topic.source();
    let first = source.poll(None, 100).unwrap();
    assert_eq!((ids(&first), first.has_more), (vec![0, 1, 2], false));
    // An open transaction holds back what is behind it, and nothing is skipped when it ends.
    producer.begin_transaction().unwrap();
    send(&producer, &topic, 3, 2);
    let other = transactional(&topic, "b");
    other.begin_transaction().unwrap();
    send(&other, &topic, 5, 2);
    other.commit_transaction(wait).unwrap();
    let held = source.poll(Some(&first.cursor), 100).unwrap();
    assert!(held.rows.is_empty() && !held.has_more);
    assert_eq!(held.cursor, first.cursor);
    producer.commit_transaction(wait).unwrap();
    wait_for_end(&topic, 14);
    let ended = source.poll(Some(&held.cursor), 100).unwrap();
    assert_eq!(ids(&ended), [3, 4, 5, 6]);
    // Retention takes all records, and the broker's marks behind the last of them: nothing was lost.
    let end = topic.admin.inner().fetch_watermarks(&topic.name, 0, wait).unwrap().1;
    let settled = topic.poll(Some(&ended), 100).unwrap();
    assert!(settled.rows.is_empty());
    topic.delete_records(0, end);
    topic.send_rows(0, &rows(7, 2));
    assert_eq!(ids(&topic.poll(Some(&settled), 100).unwrap()), [7, 8]);
}

#[test]
fn records_that_are_none_go_to_the_dead_letters_and_the_source_goes_on() {
    let topic = Topic::new(1);
    topic.send_rows(0, &rows(0, 1));
    topic.send(0, None);
    topic.send(0, Some(b""));
    topic.send(0, Some(b"\xff\xfe"));
    topic.send(0, Some(b"[1]"));
    topic.send(0, Some(b"{\"id\": 5, \"ts\": \"soon\"}"));
    topic.send(0, Some(b"{\"id\": 6, \"ts\": null}"));
    topic.send(0, Some(b"{\"id\": 7, \"ts\": \"2024-01-01T00:00:00Z\", \"amount\": 1.5, \"more\": {\"x\": 1}}"));
    topic.send(0, Some(b"\0\0\0\0\x09{\"id\": 8, \"ts\": \"2024-01-01T02:00:00+02:00\"}"));
    topic.flush();
    let poll = topic.poll(None, 100).unwrap();
    assert_eq!(ids(&poll), [0, 7, 8]);
    assert_eq!(poll.rows[2].values[1], poll.rows[1].values[1], "one moment in two time zones");
    let reasons: Vec<(u64, String)> = poll
        .rejected
        .iter()
        .map(|row| match row.place {
            Place::Record { partition: 0, offset } => (offset, row.reason.message().to_string()),
            ref other => panic!("{other:?}"),
        })
        .collect();
    let parts = [
        (1, "no value (a tombstone)"),
        (2, "not valid JSON"),
        (3, "not valid JSON"),
        (4, "not a JSON object"),
        (5, "field 'ts'"),
        (6, "field 'ts' is null"),
    ];
    assert_eq!(reasons.len(), parts.len(), "{reasons:?}");
    for ((offset, reason), (expected, part)) in reasons.iter().zip(parts) {
        assert!(*offset == expected && reason.contains(part), "{offset}: {reason}");
    }
    assert_eq!(poll.rejected[4].values[0].as_int(), Some(5));
    assert_eq!(poll.rejected[0].place.to_string(), "partition 0 offset 1");
    // Reported again after a crash, each under its own id.
    let again = topic.poll(None, 100).unwrap();
    assert_eq!((again.rejected, again.rows), (poll.rejected, poll.rows));
}

fn refused(polled: thyme_core::Result<Poll>, parts: &[&str]) {
    let error = polled.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    for part in parts.iter().chain(&["thyme sources reset"]) {
        assert!(error.to_string().contains(part), "no '{part}' in {error}");
    }
}

#[test]
fn records_that_were_deleted_unread_are_an_error_and_a_reset_reads_what_is_left() {
    let topic = Topic::new(2);
    topic.send_rows(1, &rows(0, 10));
    let first = topic.poll(None, 4).unwrap();
    assert_eq!(ids(&first), [0, 1, 2, 3]);
    topic.delete_records(1, 4);
    let second = topic.poll(Some(&first), 2).unwrap();
    assert_eq!(ids(&second), [4, 5]);
    topic.delete_records(1, 8);
    refused(topic.poll(Some(&second), 100), &["offsets 6 to 7 of partition 1", "retention.ms"]);
    assert_eq!(ids(&topic.poll(None, 100).unwrap()), [8, 9]);
}

#[test]
fn a_topic_that_was_made_anew_is_refused_and_its_records_have_ids_of_their_own() {
    let topic = Topic::new(2);
    topic.send_rows(0, &rows(0, 5));
    topic.send_rows(1, &rows(5, 5));
    let read = topic.poll(None, 100).unwrap();
    topic.delete();
    topic.create(1);
    refused(topic.poll(Some(&read), 100), &["partition 1 is gone"]);
    topic.delete();
    topic.create(2);
    let fresh = topic.with_a_new_producer();
    refused(fresh.poll(Some(&read), 100), &["ends at offset 0, and was read up to 5"]);
    fresh.send_rows(0, &rows(50, 8));
    fresh.send_rows(1, &rows(60, 8));
    refused(fresh.poll(Some(&read), 100), &["holds another record"]);
    let anew = fresh.poll(None, 100).unwrap();
    assert_eq!(anew.rows.len(), 16);
    for row in &anew.rows {
        assert!(read.rows.iter().all(|old| old.id != row.id));
    }
    let cursor = String::from_utf8(anew.cursor.clone()).unwrap().replace("-", "_");
    refused(fresh.source().poll(Some(cursor.as_bytes()), 10), &["was reading topic"]);
}

#[test]
fn a_broker_that_goes_and_comes_back_loses_nothing() {
    let broker = thyme_broker::Broker::start().unwrap();
    let topic = Topic::on(&broker.address, 1, &[]);
    topic.send_rows(0, &rows(0, 6));
    let mut source = topic.source();
    let first = source.poll(None, 3).unwrap();
    broker.kill().unwrap();
    let error = topic.poll(Some(&first), 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("bootstrap_servers"), "{error}");
    broker.restart().unwrap();
    // What was fetched ahead may come at once; all of it comes, and once.
    let mut read = Vec::new();
    let mut cursor = first.cursor;
    while read.len() < 3 {
        let Ok(poll) = source.poll(Some(&cursor), 3) else { continue };
        read.extend(ids(&poll));
        cursor = poll.cursor;
    }
    assert_eq!(read, [3, 4, 5]);
}
