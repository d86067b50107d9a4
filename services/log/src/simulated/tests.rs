use super::*;
use crate::conformance::Place;
use crate::{CommitOutcome, NewRecord};
use bytes::Bytes;

/// One broker; it is the same however often it is opened.
struct Calm(Arc<SimulatedLog>);

impl Place for Calm {
    fn open(&self) -> Result<Arc<dyn EventLog>> {
        Ok(self.0.clone())
    }
}

crate::event_log_conformance!(Calm(Arc::new(SimulatedLog::new(1, Faults::default()))));

fn batch(value: &str) -> Batch {
    let record = NewRecord::new(Bytes::new(), Bytes::from(value.to_string()));
    Batch { topic: "t".to_string(), partition: 0, records: vec![record] }
}

fn values(log: &SimulatedLog) -> Vec<Bytes> {
    log.read("t", 0, 0, 100, 1 << 20).unwrap().into_iter().map(|record| record.value).collect()
}

/// A commit that gets no answer and arrives late.
fn late_commit(faults: Faults) -> (SimulatedLog, Box<dyn Producer>) {
    for seed in 0.. {
        let log = SimulatedLog::new(seed, faults);
        log.create_topic("t", 1).unwrap();
        let mut producer = log.producer("p").unwrap();
        producer.begin().unwrap();
        producer.send(batch("first")).unwrap();
        let outcome = producer.commit();
        if log.trace().last().is_some_and(|last| last.ends_with("late")) {
            assert!(matches!(outcome, CommitOutcome::Unknown(_)));
            assert!(values(&log).is_empty());
            return (log, producer);
        }
    }
    unreachable!()
}

const SILENT_ENDS: Faults = Faults {
    silent_end: 1000,
    refused_end: 0,
    slow_end: 0,
    silent_send: 0,
    silent_other: 0,
    append: 0,
    late_markers: 0,
    timeout: 0,
    late_arrival: 0,
};

#[test]
fn a_late_end_commits_half_of_the_next_transaction_of_a_producer_used_on() {
    let (log, mut producer) = late_commit(SILENT_ENDS);
    producer.begin().unwrap();
    producer.send(batch("half")).unwrap();
    for _ in 0..100 {
        log.pass_time();
    }
    assert_eq!(values(&log), ["first", "half"], "committed though nobody asked for it");
}

#[test]
fn a_fence_keeps_a_late_end_out() {
    let (log, _producer) = late_commit(SILENT_ENDS);
    let _newer = log.producer("p").unwrap();
    for _ in 0..100 {
        log.pass_time();
    }
    assert!(values(&log).is_empty());
}

#[tokio::test]
async fn an_open_transaction_hides_what_comes_after_it_until_it_ends() {
    let (log, _producer) = late_commit(SILENT_ENDS);
    log.append(vec![batch("plain")]).await.unwrap();
    assert!(values(&log).is_empty());
    let _newer = log.producer("p").unwrap();
    assert_eq!(values(&log), ["plain"]);
}

#[test]
fn committed_offsets_are_withheld_while_a_transaction_has_them_open() {
    let log = SimulatedLog::new(1, Faults { late_markers: 1000, ..Faults::default() });
    log.create_topic("t", 1).unwrap();
    let mut producer = log.producer("p").unwrap();
    producer.begin().unwrap();
    producer.send_offset("g", "t", 0, 7).unwrap();
    let mut other = log.producer("q").unwrap();
    assert!(other.committed("g", "t", 0).is_err());
    assert!(matches!(producer.commit(), CommitOutcome::Committed));
    assert_eq!(other.committed("g", "t", 0).unwrap(), Some(7), "its markers were late");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let log = SimulatedLog::new(seed, Faults::STORM);
        while log.create_topic("t", 1).is_err() {}
        for round in 0..50 {
            log.pass_time();
            let Ok(mut producer) = log.producer("p") else { continue };
            if producer.begin().and_then(|()| producer.send(batch(&round.to_string()))).is_ok() {
                producer.commit();
            }
        }
        log.heal();
        (log.trace(), log.end_offset("t", 0).unwrap())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
