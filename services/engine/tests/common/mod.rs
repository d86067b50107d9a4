//! A small world for engine tests: two pipelines over one dataset (one grouped by the dataset's key, one repartitioned), events,
//! and a naive model of what must be accepted.
#![expect(clippy::unwrap_used, dead_code, reason = "helpers of tests; each test file uses its part")]

pub mod chained;
pub mod drawn;
pub mod emitted;
pub mod said;
pub mod sliced;

use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use thyme_core::Value;
use thyme_core::aggregate::TableLayout;
use thyme_core::definition::{Compiled, Definitions, Emission, compile};
use thyme_core::key::{encode_key, partition, vnode};
use thyme_core::position::Position;
use thyme_core::record::{EventId, Record, encode_row};
use thyme_core::window::Window;
use thyme_engine::{DatasetJob, EmitJob, Engine, EngineOptions, JobSpec, PipelineJob, RouteJob};
use thyme_log::model::FaultyLog;
use thyme_log::{Batch, EmbeddedLog, EventLog, NewRecord};
use thyme_state::{Digest, Event, StateStore, States, Table, Visible};

pub const HOUR: i64 = 3_600_000_000;
pub const PARTITIONS: u16 = 3;
pub const LOG: u32 = 1;
pub const RAW: u32 = 2;
pub const DIRECT: u32 = 3;
pub const ROUTE: u32 = 4;
pub const ROUTED: u32 = 5;
pub const EMIT_DIRECT: u32 = 8;
pub const EMIT_ROUTED: u32 = 9;

pub fn definitions() -> Definitions {
    let text = r#"{
      "format": 1,
      "datasets": [
        {"name": "Order", "version": 1, "index": true, "max_lateness": "2h", "partitions": 3, "fields": [
          {"name": "user", "type": "str", "key": true}, {"name": "ts", "type": "datetime", "timestamp": true},
          {"name": "amount", "type": "float"}, {"name": "city", "type": "str", "nullable": true}]},
        {"name": "UserStats", "version": 1, "index": true, "fields": [
          {"name": "user", "type": "str", "key": true}, {"name": "ts", "type": "datetime", "timestamp": true},
          {"name": "n", "type": "int"}, {"name": "total", "type": "float"}, {"name": "total_exact", "type": "Decimal"}]},
        {"name": "CityStats", "version": 1, "index": true, "fields": [
          {"name": "city", "type": "str", "key": true}, {"name": "ts", "type": "datetime", "timestamp": true},
          {"name": "n", "type": "int"}, {"name": "biggest", "type": "float", "nullable": true}]}],
      "pipelines": [
        {"name": "compute", "version": 1, "dataset": "UserStats", "input": "Order", "group_by": ["user"],
         "steps": [{"op": "filter", "expr": {"call": {"op": "gt", "args": [{"col": "amount"}, {"lit": {"float": 1.0}}]}}},
                   {"op": "assign", "columns": [{"name": "exact", "expr": {"call": {"op": "to_decimal", "args": [{"col": "amount"}]}}}]}],
         "aggregates": [{"name": "n", "op": {"kind": "count"}, "window": "1h"},
                        {"name": "total", "op": {"kind": "sum"}, "of": "amount", "window": "1d"},
                        {"name": "total_exact", "op": {"kind": "sum"}, "of": "exact", "window": "1d"}]},
        {"name": "compute", "version": 1, "dataset": "CityStats", "input": "Order", "group_by": ["city"],
         "aggregates": [{"name": "n", "op": {"kind": "count"}, "window": "1h"},
                        {"name": "biggest", "op": {"kind": "max"}, "of": "amount", "window": "1d"}]}]
    }"#;
    serde_json::from_str(text).unwrap()
}

pub struct World {
    pub compiled: Compiled,
    pub raw: Table,
    pub direct: Table,
    pub routed: Table,
    /// Whether both pipelines write their rows to topics.
    pub emits: bool,
}

/// The same with a `history=` of two hours and no window beyond that.
pub fn forgetful_definitions() -> Definitions {
    let mut definitions = definitions();
    definitions.datasets[0].history = Some("2h".to_string());
    for pipeline in &mut definitions.pipelines {
        pipeline.aggregates.iter_mut().for_each(|aggregate| aggregate.window = Window::Length(2 * HOUR));
    }
    definitions
}

impl World {
    pub fn new() -> World {
        World::of(&definitions())
    }

    pub fn of(definitions: &Definitions) -> World {
        let compiled = compile(definitions).unwrap();
        let table = |id: u32, name: &str, routed: bool| Table {
            id,
            layout: Arc::new(compiled.pipelines[name].plan.layout.clone()),
            routed,
        };
        World {
            raw: Table {
                id: RAW,
                layout: Arc::new(TableLayout::raw(compiled.datasets["Order"].types.clone())),
                routed: false,
            },
            direct: table(DIRECT, "UserStats.compute", false),
            routed: table(ROUTED, "CityStats.compute", true),
            emits: false,
            compiled,
        }
    }

    pub fn emitting() -> World {
        World { emits: true, ..World::new() }
    }

    pub fn emission(&self, pipeline: &str) -> Emission {
        let pipeline = self.compiled.pipelines[pipeline].clone();
        Emission::new(self.compiled.datasets[&pipeline.dataset].clone(), pipeline)
    }

    /// The whole job, or the dataset with its raw table alone.
    pub fn spec(&self, with_pipelines: bool) -> JobSpec {
        let pipeline = |name: &str, table: &Table, id: u32| PipelineJob {
            pipeline: self.compiled.pipelines[name].clone(),
            table: table.clone(),
            emit: self.emits.then(|| EmitJob { emission: Arc::new(self.emission(name)), id }),
            feeds: Vec::new(),
        };
        let mut job = DatasetJob {
            dataset: self.compiled.datasets["Order"].clone(),
            log_id: LOG,
            raw_table: Some(self.raw.clone()),
            pipelines: Vec::new(),
            routes: Vec::new(),
        };
        if with_pipelines {
            job.pipelines.push(pipeline("UserStats.compute", &self.direct, EMIT_DIRECT));
            job.routes.push(RouteJob {
                route: Arc::new(self.compiled.pipelines["CityStats.compute"].route.clone().unwrap()),
                log_id: ROUTE,
                pipelines: vec![pipeline("CityStats.compute", &self.routed, EMIT_ROUTED)],
            });
        }
        JobSpec { datasets: vec![job], ..JobSpec::default() }
    }

    pub fn engine(&self, state: &Arc<StateStore>, log: &Arc<dyn EventLog>, tick_records: usize) -> Engine {
        let options = EngineOptions { tick_records, durable: false, ..EngineOptions::default() };
        let mut engine = Engine::open(state.clone(), log.clone(), options).unwrap();
        engine.deploy(&self.spec(true)).unwrap();
        engine
    }
}

/// An event as a test sends it.
#[derive(Debug, Clone)]
pub struct Sent {
    pub user: String,
    pub time: i64,
    pub amount: f64,
    pub city: Option<String>,
    pub id: EventId,
    pub append_time: i64,
}

impl Sent {
    pub fn key(&self) -> Vec<u8> {
        encode_key(&[Value::str(self.user.as_str())]).unwrap()
    }

    pub fn partition(&self) -> u16 {
        partition(&self.key(), PARTITIONS)
    }

    pub fn row(&self) -> Vec<Value> {
        let city = self.city.as_deref().map_or(Value::Null, Value::str);
        vec![Value::str(self.user.as_str()), Value::Time(self.time), Value::Float(self.amount), city]
    }

    pub fn batch(&self) -> Batch {
        let mut row = Vec::new();
        encode_row(&self.row(), &mut row);
        let record =
            Record::Event { append_time: self.append_time, event_time: self.time, id: self.id.clone(), row: &row };
        let record = NewRecord::new(self.key(), record.encode());
        Batch { topic: "Order.v1".to_string(), partition: self.partition(), records: vec![record] }
    }
}

pub fn append(log: &Arc<dyn EventLog>, batches: Vec<Batch>) {
    log.create_topic("Order.v1", PARTITIONS).unwrap();
    for batch in batches {
        futures_block(log.append(vec![batch])).unwrap();
    }
}

pub fn futures_block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn erase(user: &str, append_time: i64) -> Batch {
    let key = encode_key(&[Value::str(user)]).unwrap();
    let value: Bytes = Record::Erase { append_time }.encode().into();
    let partition = partition(&key, PARTITIONS);
    Batch { topic: "Order.v1".to_string(), partition, records: vec![NewRecord::new(key, value)] }
}

/// A record of the dataset's log as a test writes it.
#[derive(Debug, Clone)]
pub enum Written {
    Event(Sent),
    /// Of a user.
    Erase(String),
}

impl Written {
    fn key(&self) -> Vec<u8> {
        match self {
            Written::Event(event) => event.key(),
            Written::Erase(user) => encode_key(&[Value::str(user.as_str())]).unwrap(),
        }
    }

    pub fn batch(&self) -> Batch {
        match self {
            Written::Event(event) => event.batch(),
            Written::Erase(user) => erase(user, 1_700_000_000_000_000),
        }
    }
}

/// What must be accepted, naively: partition by partition, one event after the other.
pub fn accepted(sent: &[Sent]) -> Vec<(Position, Sent)> {
    let written: Vec<Written> = sent.iter().cloned().map(Written::Event).collect();
    accepted_below(&written, &[])
}

/// The same where all erases below these places (one of each partition) are known ahead.
pub fn accepted_below(written: &[Written], places: &[u64]) -> Vec<(Position, Sent)> {
    let mut offsets: BTreeMap<u16, u64> = BTreeMap::new();
    let mut positions = Vec::new();
    for record in written {
        let partition = partition(&record.key(), PARTITIONS);
        let next = offsets.entry(partition).or_default();
        positions.push(Position { partition, offset: *next });
        *next += 1;
    }
    let erases = |record: &Written, place: &Position| {
        matches!(record, Written::Erase(_))
            && places.get(usize::from(place.partition)).is_some_and(|end| place.offset < *end)
    };
    let is_erased = |index: usize| {
        let later = written.iter().zip(&positions).skip(index + 1);
        later.into_iter().any(|(other, place)| erases(other, place) && other.key() == written[index].key())
    };
    let mut seen: HashSet<(Vec<u8>, EventId)> = HashSet::new();
    let mut greatest: BTreeMap<u16, i64> = BTreeMap::new();
    let mut kept = Vec::new();
    for (index, record) in written.iter().enumerate() {
        let Written::Event(event) = record else { continue };
        let (position, partition) = (positions[index], positions[index].partition);
        let is_new = event.id == EventId::None || seen.insert((event.key(), event.id.clone()));
        let in_future = event.time > event.append_time + 24 * HOUR;
        let is_late = greatest.get(&partition).is_some_and(|greatest| event.time < greatest - 2 * HOUR);
        if !is_new || in_future || is_late {
            continue;
        }
        let top = greatest.entry(partition).or_insert(event.time);
        *top = (*top).max(event.time);
        if !is_erased(index) {
            kept.push((position, event.clone()));
        }
    }
    kept
}

pub fn log_with(events: &[Sent]) -> Arc<dyn EventLog> {
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    append(&log, events.iter().map(Sent::batch).collect());
    log
}

/// State and log after one engine after another has vanished in the midst of its work and transactions were lost; the last one
/// came to the end.
pub fn after_a_storm(
    world: &World,
    events: &[Sent],
    ticks: &[usize],
    seed: u64,
) -> (Arc<StateStore>, Arc<dyn EventLog>) {
    let state = StateStore::in_memory().unwrap();
    let inner = log_with(events);
    let faulty = Arc::new(FaultyLog::seeded_commits(inner.clone(), seed, 3).with_late_reads(seed, 6));
    let log: Arc<dyn EventLog> = faulty.clone();
    for size in ticks {
        let mut engine = world.engine(&state, &log, *size);
        for _ in 0..3 {
            let _ = engine.step();
        }
    }
    faulty.heal();
    world.engine(&state, &log, 7).run_to_end().unwrap();
    (state, inner)
}

/// The watermark of each partition of the dataset's log, naively.
pub fn watermarks(kept: &[(Position, Sent)]) -> BTreeMap<u16, i64> {
    let mut found = BTreeMap::new();
    for (position, event) in kept {
        let watermark = found.entry(position.partition).or_insert(event.time - 2 * HOUR);
        *watermark = (*watermark).max(event.time - 2 * HOUR);
    }
    found
}

/// That of the partition that is furthest behind, once all have one.
pub fn slowest(watermarks: &BTreeMap<u16, i64>) -> Option<i64> {
    watermarks.values().min().copied().filter(|_| watermarks.len() == usize::from(PARTITIONS))
}

/// What `history=` leaves in a table of all events of a key, the watermark being there.
pub fn left(
    table: &Table,
    key: &[u8],
    watermark: Option<i64>,
    mut all: Vec<(i64, Position, Value)>,
) -> Vec<(i64, Position, Value)> {
    if let Some(from) = table.kept_from(vnode(key), watermark) {
        all.retain(|(time, ..)| *time >= from);
    }
    all
}

/// One state, or those of all slices.
pub trait Held {
    fn states(&self) -> States;
}

impl Held for Arc<StateStore> {
    fn states(&self) -> States {
        self.clone().into()
    }
}

impl Held for States {
    fn states(&self) -> States {
        self.clone()
    }
}

/// All events of a key in a table, in order.
pub fn stored(state: &impl Held, table: &Table, key: &[u8]) -> Vec<Event> {
    let snapshot = state.states().snapshot();
    let state = snapshot.of(partition(key, PARTITIONS), PARTITIONS).unwrap();
    state.events(table, key, i64::MIN, i64::MAX, &Visible::ALL, None).unwrap()
}

/// The digest of a table's rows in all slices.
pub fn digest_of(state: &impl Held, table: &Table) -> Digest {
    state.states().snapshot().digest().unwrap().table(table.id)
}

/// The state once more, slice by slice, has the same digests.
pub fn check_rebuilt(log: &Arc<dyn EventLog>, state: &impl Held, spec: &JobSpec) {
    let (states, options) = (state.states(), EngineOptions::default());
    let fresh = states_of(states.slices());
    let compared = thyme_engine::rebuild(&states.snapshot(), &fresh, log, spec, &options, &mut |_, _| true).unwrap();
    assert!(compared.is_equal(), "{compared:?}");
}

/// Empty ones.
pub fn states_of(slices: u16) -> States {
    States::new((0..slices).map(|_| StateStore::in_memory().unwrap()).collect())
}

/// (time, origin, amount) of what a table holds for a key.
pub fn essence(events: &[Event], amount: usize) -> Vec<(i64, Position, Value)> {
    events.iter().map(|event| (event.time, event.origin, event.values[amount].clone())).collect()
}

/// The naive model's events of one key, by (time, position).
pub fn expected(kept: &[(Position, Sent)], belongs: impl Fn(&Sent) -> bool) -> Vec<(i64, Position, Value)> {
    let mut found: Vec<_> = kept
        .iter()
        .filter(|(_, event)| belongs(event))
        .map(|(position, event)| (event.time, *position, Value::Float(event.amount)))
        .collect();
    found.sort_by_key(|(time, position, _)| (*time, *position));
    found
}
