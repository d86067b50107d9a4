//! What is said of tables of rows while work goes on, to be compared with what comes.

use super::chained::Chained;
use super::{HOUR, Held, LOG, PARTITIONS, stored};
use std::sync::Arc;
use thyme_core::Value;
use thyme_core::key::encode_key;
use thyme_core::position::{Position, PositionSet};
use thyme_engine::EngineHandle;
use thyme_log::EventLog;

const OF_ROWS: [&str; 4] = ["UserPeaks.compute", "Levels.compute", "CityPeaks.compute", "Overall.compute"];

/// What a state says of the tables of rows, and what is in them.
pub struct Said {
    /// For each table and partition, below what time no row is to come any more.
    pub watermarks: Vec<Vec<Option<i64>>>,
    /// For each table, the partition of the key, time and place of each row.
    rows: Vec<Vec<(u16, i64, Position)>>,
    /// For each partition of the dataset's own log, below what offset everything is in state.
    pub applied: Vec<u64>,
}

impl Said {
    pub fn now(world: &Chained, state: &impl Held, log: &Arc<dyn EventLog>, engine: &EngineHandle) -> Said {
        let snapshots = state.states().snapshot();
        let watermark = |name: &str, partition: u16| {
            let snapshot = snapshots.of(partition, PARTITIONS).unwrap();
            let sources = snapshot.routed_sources(world.log_id(name).unwrap(), partition).unwrap();
            let is_aligned = world.pipeline(name).route.as_ref().unwrap().is_aligned;
            let is_whole = sources.len() == if is_aligned { 1 } else { usize::from(PARTITIONS) };
            let slowest = sources.iter().map(|(_, progress)| progress.greatest_event_time).min().flatten();
            slowest.filter(|_| is_whole).map(|greatest| greatest - 2 * HOUR)
        };
        let names = |start: &str, count: u8| (0..count).map(|number| Value::str(format!("{start}{number}"))).collect();
        let keys: [Vec<Value>; 4] =
            [names("u", 6), (1..80).map(Value::Int).collect(), names("c", 3), vec![Value::str("all")]];
        let rows_of = |name: &str, keys: &[Value]| {
            let mut rows = Vec::new();
            for key in keys.iter().map(|key| encode_key(std::slice::from_ref(key)).unwrap()) {
                let partition = thyme_core::key::partition(&key, PARTITIONS);
                let events = stored(state, &world.table(name), &key);
                rows.extend(events.iter().map(|event| (partition, event.time, event.origin)));
            }
            rows.sort();
            rows
        };
        let applied = |partition: u16| {
            let end = log.end_offset("Order.v1", partition).unwrap();
            let is_applied = |next: &u64| {
                let mut position = PositionSet::default();
                position.set(LOG, partition, *next);
                engine.is_applied(&position)
            };
            (0..=end).rev().find(is_applied).unwrap_or_default()
        };
        let of_partitions = |name: &&str| (0..PARTITIONS).map(|partition| watermark(name, partition)).collect();
        Said {
            watermarks: OF_ROWS.iter().map(of_partitions).collect(),
            rows: OF_ROWS.iter().zip(&keys).map(|(name, keys)| rows_of(name, keys)).collect(),
            applied: (0..PARTITIONS).map(applied).collect(),
        }
    }

    pub fn check(&self, last: &Said) {
        for (index, name) in OF_ROWS.iter().enumerate() {
            for row in &last.rows[index] {
                let (partition, time, origin) = row;
                let watermark = self.watermarks[index][usize::from(*partition)];
                let is_said = watermark.is_some_and(|watermark| *time < watermark)
                    || origin.offset < self.applied[usize::from(origin.partition)];
                assert!(!is_said || self.rows[index].contains(row), "{name} lacks {row:?}");
            }
        }
    }
}
