//! For `integration/storm.py`, which drives whole servers on a real broker: what a `read_committed` consumer sees of a repartition
//! topic, beside the dataset's topic that it is filled from.

use std::collections::{BTreeMap, HashSet};
use thyme_core::position::Position;
use thyme_core::record::{EventId, Record};
use thyme_log::{EventLog, KafkaLog, KafkaSettings, LogRecord};

/// Prints one JSON line. Every event must stand in the repartition topic once, however often its id came.
pub fn output(url: &str, dataset: &str, repartition: &str) {
    let log = KafkaLog::open(KafkaSettings::parse(url, None, BTreeMap::new()).unwrap()).unwrap();
    let mut accepted: HashSet<Position> = HashSet::new();
    let mut appended = 0u64;
    each(&log, dataset, |seen: &mut HashSet<(Vec<u8>, EventId)>, partition, record| {
        if let Ok(Record::Event { id, .. }) = Record::decode(&record.value) {
            appended += 1;
            if id == EventId::None || seen.insert((record.key.to_vec(), id)) {
                accepted.insert(Position { partition, offset: record.offset });
            }
        }
    });
    let (mut found, mut routed, mut doubled) = (HashSet::new(), 0u64, 0u64);
    each(&log, repartition, |_: &mut (), _, record| {
        if let Ok(Record::Routed { origin, .. }) = Record::decode(&record.value) {
            routed += 1;
            doubled += u64::from(!found.insert(origin));
        }
    });
    let (lost, unknown) = (accepted.difference(&found).count(), found.difference(&accepted).count());
    let told = serde_json::json!({
        "appended": appended, "accepted": accepted.len(), "routed": routed,
        "lost": lost, "doubled": doubled, "unknown": unknown,
    });
    println!("{told}");
}

/// Every committed record of a topic; what is remembered begins anew with each partition.
fn each<Memory: Default>(log: &KafkaLog, topic: &str, mut visit: impl FnMut(&mut Memory, u16, &LogRecord)) {
    let partitions = log.topics().unwrap().into_iter().find(|(name, _)| name == topic);
    let (_, partitions) = partitions.unwrap_or_else(|| panic!("no topic {topic}"));
    for partition in 0..partitions {
        let (mut from, mut memory) = (0, Memory::default());
        loop {
            let records = log.read(topic, partition, from, 10_000, 8 << 20).unwrap();
            let Some(last) = records.last() else { break };
            from = last.offset + 1;
            records.iter().for_each(|record| visit(&mut memory, partition, record));
        }
    }
}
