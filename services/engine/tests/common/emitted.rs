//! What the topics of aggregated datasets must hold, by brute force over the log that each pipeline reads.

use super::{HOUR, PARTITIONS, Sent, World};
use serde_json::Value as Json;
use std::collections::BTreeSet;
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

/// An event that was accepted, and the place of the erase that took it away.
pub struct Accepted {
    pub position: Position,
    pub event: Sent,
    pub erased_at: Option<u64>,
}

impl Accepted {
    pub fn new(position: Position, event: Sent) -> Accepted {
        Accepted { position, event, erased_at: None }
    }
}

/// One event as a pipeline sees it.
struct Seen {
    /// Its place in the log that is read.
    offset: u64,
    key: String,
    time: i64,
    amount: f64,
    erased_at: Option<u64>,
}

/// For each event the count of the last hour and figures of the amounts of the last day, over the events up to it.
fn rows<const N: usize>(
    seen: &[Seen],
    key_name: &str,
    figures: impl Fn(&[f64]) -> [(&'static str, Json); N],
) -> Vec<(u64, Json)> {
    let row = |index: usize| {
        let event = &seen[index];
        let within = |window: i64| -> Vec<f64> {
            let of_key = seen[..=index].iter().filter(|other| other.key == event.key);
            let known = of_key.filter(|other| other.erased_at.is_none_or(|erased_at| erased_at > event.offset));
            let inside = known.filter(|other| (event.time - window..=event.time).contains(&other.time));
            inside.map(|other| other.amount).collect()
        };
        let mut object = serde_json::Map::new();
        object.insert(key_name.to_string(), event.key.as_str().into());
        object.insert("ts".to_string(), format_time(event.time).into());
        object.insert("n".to_string(), within(HOUR).len().into());
        object.extend(figures(&within(24 * HOUR)).map(|(name, figure)| (name.to_string(), figure)));
        (event.offset, Json::Object(object))
    };
    (0..seen.len()).map(row).collect()
}

fn of_user(amounts: &[f64]) -> [(&'static str, Json); 2] {
    let cents: i64 = amounts.iter().map(|amount| (amount * 100.0).round() as i64).sum();
    let digits = format!("{}.{:02}", cents / 100, cents % 100);
    let exact = digits.trim_end_matches('0').trim_end_matches('.');
    [("total", amounts.iter().sum::<f64>().into()), ("total_exact", exact.into())]
}

fn of_city(amounts: &[f64]) -> [(&'static str, Json); 1] {
    [("biggest", amounts.iter().copied().fold(f64::MIN, f64::max).into())]
}

/// Sums of floats that are no sums of powers of two differ by their order: cents do not.
fn cents(rows: Vec<(u64, Json)>) -> Vec<(u64, Json)> {
    let rounded = |(offset, mut row): (u64, Json)| {
        if let Some(total) = row.get_mut("total") {
            *total = ((total.as_f64().unwrap() * 100.0).round() as i64).into();
        }
        (offset, row)
    };
    rows.into_iter().map(rounded).collect()
}

/// (what, the records there are, the records there must be) for each partition of both topics.
pub type Comparison = (String, Vec<(u64, Json)>, Vec<(u64, Json)>);

/// What both topics hold beside what they must hold, given what must have been accepted. An event that is erased may have had its
/// record before. The repartition log is an input of its own: its order is what it is.
pub fn comparisons(log: &Arc<dyn EventLog>, world: &World, accepted: &[Accepted]) -> Vec<Comparison> {
    let mut found = Vec::new();
    for partition in 0..PARTITIONS {
        let seen = seen_directly(accepted, partition);
        let there = emitted(log, world, "UserStats.compute", "Order.v1", partition);
        let offsets: BTreeSet<u64> = there.iter().map(|(offset, _)| *offset).collect();
        let is_free = |offset: u64| {
            seen.iter().any(|event| event.offset == offset && event.erased_at.is_some()) && !offsets.contains(&offset)
        };
        let mut wanted = rows(&seen, "user", of_user);
        wanted.retain(|(offset, _)| !is_free(*offset));
        found.push((format!("rows of users, partition {partition}"), cents(there), cents(wanted)));

        let route = &world.compiled.pipelines["CityStats.compute"].route.as_ref().unwrap().topic;
        let seen = seen_through(log, world, route, partition);
        let wanted = rows(&seen, "city", of_city);
        let there = emitted(log, world, "CityStats.compute", route, partition);
        found.push((format!("rows of cities, partition {partition}"), there, wanted));
    }
    found
}

fn seen_directly(accepted: &[Accepted], partition: u16) -> Vec<Seen> {
    let passed = |accepted: &&Accepted| accepted.position.partition == partition && accepted.event.amount > 1.0;
    let mut seen: Vec<Seen> = accepted
        .iter()
        .filter(passed)
        .map(|Accepted { position, event, erased_at }| Seen {
            offset: position.offset,
            key: event.user.clone(),
            time: event.time,
            amount: event.amount,
            erased_at: *erased_at,
        })
        .collect();
    seen.sort_by_key(|event| event.offset);
    seen
}

fn seen_through(log: &Arc<dyn EventLog>, world: &World, route: &str, partition: u16) -> Vec<Seen> {
    let types = &world.compiled.datasets["Order"].types;
    let mut seen = Vec::new();
    for record in records(log, route, partition) {
        let Record::Routed { event_time, row, .. } = Record::decode(&record.value).unwrap() else { continue };
        let values = decode_row(row, types, None).unwrap();
        let (Value::Float(amount), Value::Str(city)) = (&values[2], &values[3]) else { panic!("{values:?}") };
        let key = city.to_string();
        seen.push(Seen { offset: record.offset, key, time: event_time, amount: *amount, erased_at: None });
    }
    seen
}

/// Each event of `kept` has its row once, in order, and nothing else is there.
pub fn check_emitted(log: &Arc<dyn EventLog>, world: &World, kept: &[(Position, Sent)]) {
    let accepted: Vec<Accepted> =
        kept.iter().map(|(position, event)| Accepted::new(*position, event.clone())).collect();
    for (what, found, wanted) in comparisons(log, world, &accepted) {
        assert_eq!(found, wanted, "{what}");
    }
}
