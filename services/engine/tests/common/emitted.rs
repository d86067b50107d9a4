//! What the topics of aggregated datasets must hold, by brute force over the log that each pipeline reads.

use super::{HOUR, PARTITIONS, Sent, World};
use serde_json::Value as Json;
use std::sync::Arc;
use thyme_core::key::encode_key;
use thyme_core::position::Position;
use thyme_core::record::{Record, decode_row};
use thyme_core::time::format_time;
use thyme_core::{Value, key};
use thyme_log::{EventLog, LogRecord};

pub fn records(log: &Arc<dyn EventLog>, topic: &str, partition: u16) -> Vec<LogRecord> {
    let (mut from, mut found) = (0, Vec::new());
    loop {
        let records = log.read(topic, partition, from, 1_000, 1 << 20).unwrap();
        let Some(last) = records.last() else { return found };
        from = last.offset + 1;
        found.extend(records);
    }
}

/// (offset in the log that the pipeline reads, the row), as a consumer sees them.
pub fn emitted(
    log: &Arc<dyn EventLog>,
    world: &World,
    pipeline: &str,
    source: &str,
    partition: u16,
) -> Vec<(u64, Json)> {
    let topic = world.emission(pipeline).topic();
    let rows = records(log, &topic, partition).into_iter().map(|record| {
        let header = |name: &str| {
            let (_, value) = record.headers.iter().find(|(found, _)| found == name).unwrap();
            String::from_utf8(value.to_vec()).unwrap()
        };
        assert_eq!(header("thyme-log"), source);
        assert_eq!(header("thyme-partition"), partition.to_string());
        assert_eq!(key::partition(&record.key, PARTITIONS), partition);
        let row: Json = serde_json::from_slice(&record.value).unwrap();
        let key_field = row.get("user").or_else(|| row.get("city")).unwrap();
        assert_eq!(record.key, encode_key(&[Value::str(key_field.as_str().unwrap())]).unwrap());
        (header("thyme-offset").parse().unwrap(), row)
    });
    rows.collect()
}

/// One event as a pipeline sees it: its place in the log that is read, group key, event time, amount.
type Seen = (u64, String, i64, f64);

/// For each event the count of the last hour and a figure of the amounts of the last day, over the events up to it.
fn rows(seen: &[Seen], key_name: &str, name: &str, figure: impl Fn(&[f64]) -> f64) -> Vec<(u64, Json)> {
    let row = |index: usize| {
        let (offset, key, time, _) = &seen[index];
        let within = |window: i64| {
            let known = seen[..=index].iter().filter(move |(_, other, at, _)| other == key && at <= time);
            known.filter(move |(_, _, at, _)| *at >= time - window).map(|(.., amount)| *amount).collect::<Vec<f64>>()
        };
        let mut object = serde_json::Map::new();
        object.insert(key_name.to_string(), key.as_str().into());
        object.insert("ts".to_string(), format_time(*time).into());
        object.insert("n".to_string(), within(HOUR).len().into());
        object.insert(name.to_string(), figure(&within(24 * HOUR)).into());
        (*offset, Json::Object(object))
    };
    (0..seen.len()).map(row).collect()
}

/// Sums of floats that are no sums of powers of two differ by their order: cents do not.
fn cents(row: &(u64, Json)) -> (u64, Json) {
    let (offset, mut row) = row.clone();
    if let Some(total) = row.get_mut("total") {
        *total = ((total.as_f64().unwrap() * 100.0).round() as i64).into();
    }
    (offset, row)
}

/// `kept` is what must have been accepted. The repartition log is an input of its own: its order is what it is.
pub fn check_emitted(log: &Arc<dyn EventLog>, world: &World, kept: &[(Position, Sent)]) {
    for partition in 0..PARTITIONS {
        let mine = kept.iter().filter(|(position, event)| position.partition == partition && event.amount > 1.0);
        let mut seen: Vec<Seen> =
            mine.map(|(position, event)| (position.offset, event.user.clone(), event.time, event.amount)).collect();
        seen.sort_by_key(|(offset, ..)| *offset);
        let wanted = rows(&seen, "user", "total", |amounts| amounts.iter().sum());
        let found = emitted(log, world, "UserStats.compute", "Order.v1", partition);
        let (found, wanted): (Vec<_>, Vec<_>) = (found.iter().map(cents).collect(), wanted.iter().map(cents).collect());
        assert_eq!(found, wanted);

        let route = &world.compiled.pipelines["CityStats.compute"].route.as_ref().unwrap().topic;
        let types = &world.compiled.datasets["Order"].types;
        let mut seen: Vec<Seen> = Vec::new();
        for record in records(log, route, partition) {
            let Record::Routed { event_time, row, .. } = Record::decode(&record.value).unwrap() else { continue };
            let values = decode_row(row, types, None).unwrap();
            let (Value::Float(amount), Value::Str(city)) = (&values[2], &values[3]) else { panic!("{values:?}") };
            seen.push((record.offset, city.to_string(), event_time, *amount));
        }
        let wanted = rows(&seen, "city", "biggest", |amounts| amounts.iter().copied().fold(f64::MIN, f64::max));
        assert_eq!(emitted(log, world, "CityStats.compute", route, partition), wanted);
    }
}
