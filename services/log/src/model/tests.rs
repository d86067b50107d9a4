use super::*;
use crate::conformance::{self, Place};
use crate::{EmbeddedLog, NewRecord};
use bytes::Bytes;

/// A log in memory behind injected faults; opening it again keeps what the first opening made.
struct Faulty {
    inner: Arc<dyn EventLog>,
    seed: u64,
    one_in: usize,
}

impl Faulty {
    fn new(seed: u64, one_in: usize) -> Faulty {
        Faulty { inner: Arc::new(EmbeddedLog::in_memory().unwrap()), seed, one_in }
    }
}

impl Place for Faulty {
    fn open(&self) -> Result<Arc<dyn EventLog>> {
        Ok(Arc::new(FaultyLog::seeded_commits(self.inner.clone(), self.seed, self.one_in)))
    }
}

mod without_faults {
    use super::*;
    crate::event_log_conformance!(Faulty::new(1, usize::MAX));
}

fn batch(partition: u16, value: &'static str) -> Batch {
    let record = NewRecord::new(Bytes::new(), Bytes::from_static(value.as_bytes()));
    Batch { topic: "t".to_string(), partition, records: vec![record] }
}

#[tokio::test]
async fn a_copy_through_injected_outcomes_is_exact() {
    for seed in 0..40 {
        conformance::unknown_outcomes_are_resolved_by_committed(&Faulty::new(seed, 2)).await.unwrap();
    }
}

#[tokio::test]
async fn seeded_faults_repeat_and_stop_when_healed() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let inner: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
        inner.create_topic("t", 1).unwrap();
        let log = FaultyLog::seeded(inner, 7, 3);
        for _ in 0..60 {
            let _ = log.append(vec![batch(0, "x")]).await;
        }
        let injected = log.injected();
        log.heal();
        for _ in 0..20 {
            log.append(vec![batch(0, "x")]).await.unwrap();
        }
        assert_eq!(log.injected(), injected);
        seen.push(injected);
    }
    assert!((5..40).contains(&seen[0].len()));
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn scripted_commits_end_as_written() {
    use CommitFault::*;
    let inner: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    inner.create_topic("t", 1).unwrap();
    let script = [NotCommitted, None, UnknownCommitted, UnknownNotCommitted, UnknownCommittedLater];
    let log = FaultyLog::scripted(inner.clone(), script, []);
    let mut seen = Vec::new();
    for fault in script {
        let mut producer = log.producer("p").unwrap();
        producer.begin().unwrap();
        producer.send(batch(0, "x")).unwrap();
        let outcome = producer.commit();
        let is_unknown = matches!(outcome, CommitOutcome::Unknown(_));
        assert_eq!(is_unknown, !matches!(fault, None | NotCommitted));
        assert_eq!(producer.begin().is_err(), is_unknown, "an unknown outcome ends the producer");
        seen.push(inner.end_offset("t", 0).unwrap());
    }
    assert_eq!(seen, [0, 1, 2, 2, 2]);
    log.producer("p").unwrap();
    assert_eq!(inner.end_offset("t", 0).unwrap(), 3, "the next producer seals what was left open");
    assert_eq!(log.injected().len(), 4);
}

#[tokio::test]
async fn scripted_appends_fail_as_written() {
    use AppendFault::*;
    let inner: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    inner.create_topic("t", 2).unwrap();
    let log = FaultyLog::scripted(inner.clone(), [], [Before, Halfway, After, None]);
    let mut seen = Vec::new();
    for fault in [Before, Halfway, After, None] {
        let outcome = log.append(vec![batch(0, "x"), batch(1, "x")]).await;
        assert_eq!(outcome.is_ok(), fault == None);
        seen.push((inner.end_offset("t", 0).unwrap(), inner.end_offset("t", 1).unwrap()));
    }
    assert_eq!(seen, [(0, 0), (1, 0), (2, 1), (3, 2)]);
}
