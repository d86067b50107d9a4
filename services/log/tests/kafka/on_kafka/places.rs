//! Several places of one partition, each with a consumer that fetches on its own, and records that another process appends.

use super::*;
use rdkafka::admin::{AdminOptions, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::time::Duration;
use thyme_log::CommitOutcome;

/// State is rebuilt from the beginning of the log, whatever a broker keeps unless it is told otherwise.
#[tokio::test]
async fn topics_are_made_to_keep_everything() {
    let prefix = own_prefix();
    let log = KafkaLog::open(settings(&BROKER, &prefix, &[])).unwrap();
    log.create_topic("t", 2).unwrap();
    assert_eq!(log.slices().unwrap(), 1);
    for topic in ["t", "owner"] {
        let name = format!("{prefix}.{topic}");
        let told = admin().describe_configs(&[ResourceSpecifier::Topic(&name)], &AdminOptions::new()).await.unwrap();
        let config = told.into_iter().next().unwrap().unwrap();
        for (property, wanted) in [("retention.ms", "-1"), ("retention.bytes", "-1"), ("cleanup.policy", "delete")] {
            let value = config.get(property).and_then(|entry| entry.value.as_deref());
            assert_eq!(value, Some(wanted), "{name} {property}");
        }
    }
}

/// A pipeline's table has come so far; what follows it from behind must find the same records, or it would lose them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_at_one_place_is_there_at_every_other() {
    let settings = settings(&BROKER, &own_prefix(), &[]);
    let (log, writer) = (KafkaLog::open(settings.clone()).unwrap(), KafkaLog::open(settings).unwrap());
    writer.create_topic("t", 1).unwrap();
    writer.append(vec![batch("t", 0, &["a", "b"])]).await.unwrap();
    let mut end = log.end_offset("t", 0).unwrap();
    // One place at the end, and one that comes there from the start.
    log.expect_reads("t", 0, end);
    let mut from = 0;
    while from < end {
        from = log.read("t", 0, from, 1, 1 << 20).unwrap().last().unwrap().offset + 1;
    }
    for round in 0..100 {
        writer.append(vec![batch("t", 0, &["c"])]).await.unwrap();
        let first = loop {
            let records = log.read("t", 0, end, 10, 1 << 20).unwrap();
            if !records.is_empty() {
                break records;
            }
        };
        let second = log.read("t", 0, end, 10, 1 << 20).unwrap();
        assert_eq!(first, second, "round {round}");
        end = first.last().unwrap().offset + 1;
    }
}

/// What stands behind an open transaction is acknowledged, and nobody can read it before that has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_wait_for_records_is_woken_by_them() {
    let prefix = own_prefix();
    let log = KafkaLog::open(settings(&BROKER, &prefix, &[])).unwrap();
    log.create_topic("t", 1).unwrap();
    let mut producer = log.producer("p").unwrap();
    producer.begin().unwrap();
    producer.send(batch("t", 0, &["open"])).unwrap();
    let of_all = [("bootstrap.servers", BROKER.address.as_str()), ("isolation.level", "read_uncommitted")];
    let of_all: ClientConfig = of_all.map(|(name, value)| (name.to_string(), value.to_string())).into_iter().collect();
    let of_all: BaseConsumer = of_all.create().unwrap();
    while of_all.fetch_watermarks(&format!("{prefix}.t"), 0, Duration::from_secs(10)).map_or(0, |(_, high)| high) < 1 {}
    log.append(vec![batch("t", 0, &["behind"])]).await.unwrap();

    let mut changes = log.changes();
    let read = || log.read_arrived("t", 0, 0, 10, 1 << 20).unwrap();
    assert_eq!(read(), [], "it would wait in vain, and has other things to do");
    assert!(matches!(producer.commit(), CommitOutcome::Committed));
    let arrived = async {
        loop {
            changes.mark_unchanged();
            let records = read();
            if records.len() == 2 {
                return records;
            }
            changes.changed().await.unwrap();
        }
    };
    let arrived = tokio::time::timeout(Duration::from_secs(30), arrived).await.unwrap();
    assert_eq!(arrived, log.read("t", 0, 0, 10, 1 << 20).unwrap());
}

/// Somebody else has deleted a topic and made another of that name: what was known of the first is not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_topic_of_the_same_name_is_read_from_its_start() {
    let settings = settings(&BROKER, &own_prefix(), &[]);
    let (log, owner) = (KafkaLog::open(settings.clone()).unwrap(), KafkaLog::open(settings).unwrap());
    for is_forgotten in [true, false] {
        owner.create_topic("t", 1).unwrap();
        owner.append(vec![batch("t", 0, &["a", "b", "c", "d"])]).await.unwrap();
        assert_eq!(values(&log, "t", 0), ["a", "b", "c", "d"]);
        if is_forgotten {
            log.forget("t");
        }
        owner.delete_topic("t").unwrap();
        owner.create_topic("t", 1).unwrap();
        owner.append(vec![batch("t", 0, &["e"])]).await.unwrap();
        // Who reads on learns by an error that the topic is another one, and then reads that.
        let mut errors = 0;
        let found = loop {
            match log.read("t", 0, 0, 10, 1 << 20) {
                Ok(records) if records.first().is_some_and(|first| first.value == "e") => break records,
                outcome => errors += u32::from(outcome.is_err()),
            }
            assert!(errors < 50, "no end of errors");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let end = found.last().unwrap().offset + 1;
        let after = loop {
            match log.read("t", 0, end, 10, 1 << 20) {
                Ok(records) => break records,
                Err(error) if errors < 50 => {
                    assert_eq!(error.kind(), thyme_core::ErrorKind::Unavailable);
                    errors += 1;
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(after, []);
        assert!(!is_forgotten || errors == 0, "{errors} errors");
        owner.delete_topic("t").unwrap();
        log.forget("t");
    }
}

/// A rebuild beside the engine, engines of several slices: whoever finds a place taken must not get what follows it. So much is read
/// at once that nobody can have it a second time from what was kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_at_the_same_place_each_read_everything() {
    let log = KafkaLog::open(settings(&BROKER, &own_prefix(), &[])).unwrap();
    log.create_topic("t", 1).unwrap();
    let value = "x".repeat(64 << 10);
    for _ in 0..8 {
        log.append(vec![batch("t", 0, &[value.as_str(); 16])]).await.unwrap();
    }
    let all: Vec<u64> = offsets(&log, &std::sync::Barrier::new(1));
    assert_eq!(all.len(), 128);
    for round in 0..5 {
        let together = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| offsets(&log, &together))).collect();
            for reader in readers {
                assert_eq!(reader.join().unwrap(), all, "round {round}");
            }
        });
    }
}

/// Of all records of `t`, read from its start, each time when all are there.
fn offsets(log: &KafkaLog, together: &std::sync::Barrier) -> Vec<u64> {
    let (mut found, mut from) = (Vec::new(), 0);
    let end = log.end_offset("t", 0).unwrap();
    together.wait();
    while from < end {
        let records = log.read("t", 0, from, 1000, 2 << 20).unwrap();
        found.extend(records.iter().map(|record| record.offset));
        from = records.last().map_or(end, |last| last.offset + 1);
    }
    found
}
