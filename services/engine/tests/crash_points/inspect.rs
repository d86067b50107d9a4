//! For `integration/storm.py`, which drives whole servers on a real broker: what a `read_committed` consumer sees of a repartition
//! topic, beside the dataset's topic that it is filled from, and of the topic of an aggregated dataset that is made from it.

use std::collections::{BTreeMap, HashMap, HashSet};
use thyme_core::position::Position;
use thyme_core::record::{EventId, Record};
use thyme_log::{EventLog, KafkaLog, KafkaSettings, LogRecord};

/// Prints one JSON line. Every event must stand in the repartition topic once, however often its id came, and have one row in the
/// topic of the aggregated dataset, whose field `n` counts the key's events up to the event's time that stand before it.
pub fn output(url: &str, dataset: &str, repartition: &str, aggregated: &str) {
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
    let mut wanted: HashMap<Position, u64> = HashMap::new();
    each(&log, repartition, |times: &mut HashMap<Vec<u8>, Vec<i64>>, partition, record| {
        if let Ok(Record::Routed { origin, event_time, .. }) = Record::decode(&record.value) {
            routed += 1;
            doubled += u64::from(!found.insert(origin));
            let before = times.entry(record.key.to_vec()).or_default();
            let place = before.partition_point(|time| *time <= event_time);
            before.insert(place, event_time);
            wanted.insert(Position { partition, offset: record.offset }, place as u64 + 1);
        }
    });
    let (mut rows, mut wrong) = (0u64, 0u64);
    each(&log, aggregated, |_: &mut (), partition, record| {
        rows += 1;
        // One that is taken out already came twice, or belongs to no event.
        match offset_of(record).and_then(|offset| wanted.remove(&Position { partition, offset })) {
            Some(count) => wrong += u64::from(field_n(record) != Some(count)),
            None => doubled += 1,
        }
    });
    let (lost, unknown) = (accepted.difference(&found).count(), found.difference(&accepted).count());
    let told = serde_json::json!({
        "appended": appended, "accepted": accepted.len(), "routed": routed, "rows": rows, "without_row": wanted.len(),
        "lost": lost, "doubled": doubled, "unknown": unknown, "wrong": wrong,
    });
    println!("{told}");
}

/// The place, in the repartition topic, of the event that a row is of.
fn offset_of(record: &LogRecord) -> Option<u64> {
    let (_, value) = record.headers.iter().find(|(name, _)| name == "thyme-offset")?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn field_n(record: &LogRecord) -> Option<u64> {
    let row: serde_json::Value = serde_json::from_slice(&record.value).ok()?;
    row.get("n")?.as_u64()
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
