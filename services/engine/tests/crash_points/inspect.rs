//! For `integration/storm.py`, which drives whole servers on a real broker: what a `read_committed` consumer sees of a repartition
//! topic, beside the dataset's topic that it is filled from, of the topic of an aggregated dataset that is made from it, and of logs
//! of its rows that pipelines read.

use std::collections::{BTreeMap, HashMap, HashSet};
use thyme_core::Value;
use thyme_core::key::decode_key;
use thyme_core::position::Position;
use thyme_core::record::{EventId, Record, decode_row};
use thyme_core::schema::DataType;
use thyme_log::{EventLog, KafkaLog, KafkaSettings, LogRecord};

/// Prints one JSON line. Every event must stand in the repartition topic once, however often its id came, and have one row in the
/// topic of the aggregated dataset, whose field `n` counts the key's events up to the event's time that stand before it. So must the
/// rows in each log of rows, in their first field after key and time. `totals` are the sums of these counts by key.
pub fn output(url: &str, dataset: &str, repartition: &str, aggregated: &str, feeds: &[&str]) {
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
    let (mut wanted, mut by_origin) = (HashMap::<Position, u64>::new(), HashMap::<Position, u64>::new());
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    each(&log, repartition, |times: &mut HashMap<Vec<u8>, Vec<i64>>, partition, record| {
        if let Ok(Record::Routed { origin, event_time, .. }) = Record::decode(&record.value) {
            routed += 1;
            doubled += u64::from(!found.insert(origin));
            let before = times.entry(record.key.to_vec()).or_default();
            let place = before.partition_point(|time| *time <= event_time);
            before.insert(place, event_time);
            let count = place as u64 + 1;
            wanted.insert(Position { partition, offset: record.offset }, count);
            by_origin.insert(origin, count);
            *totals.entry(name_of(&record.key)).or_default() += count;
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
    let mut unfed = 0u64;
    for feed in feeds {
        let found = look_at_feed(&log, feed, by_origin.clone());
        (unfed, doubled, wrong) = (unfed + found.missing, doubled + found.doubled, wrong + found.wrong);
    }
    let (lost, unknown) = (accepted.difference(&found).count(), found.difference(&accepted).count());
    let told = serde_json::json!({
        "appended": appended, "accepted": accepted.len(), "routed": routed, "rows": rows, "without_row": wanted.len(),
        "lost": lost, "doubled": doubled, "unknown": unknown, "wrong": wrong,
        "unfed": unfed, "totals": totals,
    });
    println!("{told}");
}

#[derive(Default)]
struct Feed {
    missing: u64,
    doubled: u64,
    wrong: u64,
}

/// A log of rows, which must have one of each event, with its count.
fn look_at_feed(log: &KafkaLog, topic: &str, mut wanted: HashMap<Position, u64>) -> Feed {
    // What a row has no value of is null.
    let types = [DataType::Str, DataType::Time, DataType::Int, DataType::Int];
    let mut found = Feed::default();
    each(log, topic, |_: &mut (), _, record| {
        let Ok(Record::Routed { origin, row, .. }) = Record::decode(&record.value) else { return };
        match wanted.remove(&origin) {
            Some(count) => {
                let values = decode_row(row, &types, None).unwrap();
                found.wrong += u64::from(values[2] != Value::Int(count as i64));
            }
            None => found.doubled += 1,
        }
    });
    found.missing = wanted.len() as u64;
    found
}

/// The one part of a key.
fn name_of(key: &[u8]) -> String {
    match decode_key(key).unwrap().as_slice() {
        [Value::Str(name)] => name.to_string(),
        other => panic!("{other:?}"),
    }
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
