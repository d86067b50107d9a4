//! Random histories against the simplest model: vectors of values and a map of offsets.

use super::*;
use crate::{CommitOutcome, Headers, Producer};
use proptest::prelude::*;
use std::collections::BTreeMap;
use thyme_core::testing::cases;

const TOPICS: [&str; 2] = ["a", "b"];
const PARTITIONS: u16 = 2;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Sent>),
    /// Records and offsets in one transaction; ends as told.
    Transaction(Vec<Sent>, Vec<(usize, u16, u64)>, Ending),
    Recreate(usize),
    Reopen,
    /// Reads a partition from a share of its length on, with limits.
    Read(usize, u16, u8, usize, usize),
}

#[derive(Debug, Clone)]
struct Sent {
    topic: usize,
    partition: u16,
    sizes: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Commit,
    Abort,
    Fenced,
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let size = prop_oneof![8 => 0usize..40, 1 => 60_000usize..70_000];
    let one = (0..TOPICS.len(), 0..PARTITIONS, proptest::collection::vec(size, 0..5));
    proptest::collection::vec(one.prop_map(|(topic, partition, sizes)| Sent { topic, partition, sizes }), 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![3 => Just(Ending::Commit), 1 => Just(Ending::Abort), 1 => Just(Ending::Fenced)];
    let offsets = proptest::collection::vec((0..TOPICS.len(), 0..PARTITIONS, 0u64..100), 0..3);
    prop_oneof![
        6 => sent().prop_map(Step::Append),
        3 => (sent(), offsets, ending).prop_map(|(sent, offsets, ending)| Step::Transaction(sent, offsets, ending)),
        1 => (0..TOPICS.len()).prop_map(Step::Recreate),
        2 => Just(Step::Reopen),
        6 => (0..TOPICS.len(), 0..PARTITIONS, any::<u8>(), 0usize..10, 0usize..400)
            .prop_map(|(topic, partition, share, records, bytes)| Step::Read(topic, partition, share, records, bytes)),
    ]
}

#[derive(Default)]
struct Model {
    records: BTreeMap<(usize, u16), Vec<(Bytes, Headers)>>,
    committed: BTreeMap<(usize, u16), u64>,
    /// Makes every value different.
    sent: u8,
}

impl Model {
    fn batches(&mut self, sent: &[Sent]) -> Vec<Batch> {
        let one = |sent: &Sent| {
            self.sent = self.sent.wrapping_add(1);
            let record = |size: &usize| {
                let mut record = NewRecord::new(vec![self.sent], vec![self.sent; *size]);
                if size.is_multiple_of(3) {
                    record.headers.push((format!("size {size}"), record.value.clone()));
                }
                record
            };
            Batch {
                topic: TOPICS[sent.topic].to_string(),
                partition: sent.partition,
                records: sent.sizes.iter().map(record).collect(),
            }
        };
        sent.iter().map(one).collect()
    }

    /// The offsets that the batches get.
    fn apply(&mut self, sent: &[Sent], batches: &[Batch]) -> Vec<u64> {
        let mut offsets = Vec::new();
        for (sent, batch) in sent.iter().zip(batches) {
            let records = self.records.entry((sent.topic, sent.partition)).or_default();
            offsets.push(records.len() as u64);
            records.extend(batch.records.iter().map(|record| (record.value.clone(), record.headers.clone())));
        }
        offsets
    }

    fn check(&self, log: &EmbeddedLog) {
        for (topic, name) in TOPICS.iter().enumerate() {
            for partition in 0..PARTITIONS {
                let expected = self.records.get(&(topic, partition)).cloned().unwrap_or_default();
                let found = log.read(name, partition, 0, usize::MAX, usize::MAX).unwrap();
                assert!(found.iter().enumerate().all(|(index, record)| record.offset == index as u64));
                assert!(found.into_iter().map(|record| (record.value, record.headers)).eq(expected));
            }
        }
    }
}

fn transact(producer: &mut Box<dyn Producer>, batches: Vec<Batch>, offsets: &[(usize, u16, u64)]) {
    producer.begin().unwrap();
    for batch in batches {
        producer.send(batch).unwrap();
    }
    for (topic, partition, next) in offsets {
        producer.send_offset("g", TOPICS[*topic], *partition, *next).unwrap();
    }
}

fn open(store: &MemoryStore) -> EmbeddedLog {
    EmbeddedLog::start(Box::new(store.clone()), SMALL).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300, 3_000), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_history_matches_the_model(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = MemoryStore::default();
        let mut model = Model::default();
        let mut log = open(&store);
        for topic in TOPICS {
            log.create_topic(topic, PARTITIONS).unwrap();
        }
        for step in steps {
            match step {
                Step::Append(sent) => {
                    let batches = model.batches(&sent);
                    let expected = model.apply(&sent, &batches);
                    let appended = runtime.block_on(log.append(batches)).unwrap();
                    let firsts: Vec<u64> = appended.into_iter().map(|place| place.first).collect();
                    prop_assert_eq!(firsts, expected);
                }
                Step::Transaction(sent, offsets, ending) => {
                    let mut producer = log.producer("p").unwrap();
                    let batches = model.batches(&sent);
                    transact(&mut producer, batches.clone(), &offsets);
                    match ending {
                        Ending::Commit => {
                            prop_assert!(matches!(producer.commit(), CommitOutcome::Committed));
                            model.apply(&sent, &batches);
                            model.committed.extend(offsets.into_iter().map(|(topic, partition, next)| ((topic, partition), next)));
                        }
                        Ending::Abort => producer.abort().unwrap(),
                        Ending::Fenced => {
                            log.producer("p").unwrap();
                            prop_assert!(matches!(producer.commit(), CommitOutcome::NotCommitted(_)));
                        }
                    }
                }
                Step::Recreate(topic) => {
                    log.delete_topic(TOPICS[topic]).unwrap();
                    log.create_topic(TOPICS[topic], PARTITIONS).unwrap();
                    model.records.retain(|(of, _), _| *of != topic);
                    model.committed.retain(|(of, _), _| *of != topic);
                }
                Step::Reopen => {
                    drop(log);
                    log = open(&store);
                }
                Step::Read(topic, partition, share, max_records, max_bytes) => {
                    let expected = model.records.get(&(topic, partition)).cloned().unwrap_or_default();
                    let from = expected.len() * usize::from(share) / 255;
                    let found = log.read(TOPICS[topic], partition, from as u64, max_records, max_bytes).unwrap();
                    prop_assert_eq!(found.is_empty(), from == expected.len());
                    prop_assert!(found.len() <= max_records.max(1));
                    for (index, record) in found.iter().enumerate() {
                        prop_assert_eq!(record.offset, (from + index) as u64);
                        prop_assert_eq!((&record.value, &record.headers), (&expected[from + index].0, &expected[from + index].1));
                    }
                }
            }
            for (topic, name) in TOPICS.iter().enumerate() {
                for partition in 0..PARTITIONS {
                    let committed = log.shared.state.read();
                    let id = committed.topics[*name].id;
                    let found = committed.committed.get(&("g".to_string(), id, partition));
                    prop_assert_eq!(found, model.committed.get(&(topic, partition)));
                }
            }
        }
        model.check(&log);
        drop(log);
        model.check(&open(&store));
    }
}
