//! Pipelines on aggregated datasets: the small world with pipelines on the rows of its two, and one on the rows of these; and what
//! their tables must hold, by brute force over both stages.

use super::emitted::records;
use super::{HOUR, Held, LOG, PARTITIONS, RAW, Sent, check_rebuilt, definitions, digest_of, essence, stored};
use std::collections::BTreeSet;
use std::sync::Arc;
use thyme_core::aggregate::TableLayout;
use thyme_core::definition::{Compiled, CompiledPipeline, Definitions, Emission, compile};
use thyme_core::key::encode_key;
use thyme_core::position::Position;
use thyme_core::record::{Record, decode_row};
use thyme_core::{Decimal, Value};
use thyme_engine::{DatasetJob, Engine, EngineOptions, FeedJob, JobSpec, PipelineJob, Role, RouteJob};
use thyme_log::EventLog;
use thyme_state::{StateStore, Table};

pub const PIPELINES: [&str; 6] = [
    "UserStats.compute",
    "CityStats.compute",
    "UserPeaks.compute",
    "Levels.compute",
    "CityPeaks.compute",
    "Overall.compute",
];

/// `UserPeaks` keeps the key of what it reads, `Levels` groups by a figure that was aggregated, `CityPeaks` reads what was grouped by
/// another key already, and `Overall` reads that.
pub fn chained_definitions() -> Definitions {
    let more: Definitions = serde_json::from_str(
        r#"{
      "format": 1,
      "datasets": [
        {"name": "UserPeaks", "version": 1, "index": true, "fields": [
          {"name": "user", "type": "str", "key": true}, {"name": "ts", "type": "datetime", "timestamp": true},
          {"name": "n", "type": "int"}, {"name": "peak", "type": "float"}, {"name": "peak_exact", "type": "Decimal"}]},
        {"name": "Levels", "version": 1, "index": true, "fields": [
          {"name": "n", "type": "int", "key": true}, {"name": "ts", "type": "datetime", "timestamp": true},
          {"name": "rows", "type": "int"}, {"name": "totals", "type": "float"}]},
        {"name": "CityPeaks", "version": 1, "index": true, "fields": [
          {"name": "city", "type": "str", "key": true}, {"name": "ts", "type": "datetime", "timestamp": true},
          {"name": "rows", "type": "int"}, {"name": "peak", "type": "float"}]},
        {"name": "Overall", "version": 1, "index": true, "fields": [
          {"name": "all", "type": "str", "key": true}, {"name": "ts", "type": "datetime", "timestamp": true},
          {"name": "rows", "type": "int"}, {"name": "high", "type": "float"}]}],
      "pipelines": [
        {"name": "compute", "version": 1, "dataset": "UserPeaks", "input": "UserStats", "group_by": ["user"],
         "aggregates": [{"name": "n", "op": {"kind": "count"}, "window": "1d"},
                        {"name": "peak", "op": {"kind": "max"}, "of": "total", "window": "1d"},
                        {"name": "peak_exact", "op": {"kind": "max"}, "of": "total_exact", "window": "1d"}]},
        {"name": "compute", "version": 1, "dataset": "Levels", "input": "UserStats", "group_by": ["n"],
         "steps": [{"op": "filter", "expr": {"call": {"op": "gt", "args": [{"col": "total"}, {"lit": {"float": 2.0}}]}}}],
         "aggregates": [{"name": "rows", "op": {"kind": "count"}, "window": "1d"},
                        {"name": "totals", "op": {"kind": "sum"}, "of": "total", "window": "forever"}]},
        {"name": "compute", "version": 1, "dataset": "CityPeaks", "input": "CityStats", "group_by": ["city"],
         "aggregates": [{"name": "rows", "op": {"kind": "count"}, "window": "1h"},
                        {"name": "peak", "op": {"kind": "max"}, "of": "biggest", "window": "1d"}]},
        {"name": "compute", "version": 1, "dataset": "Overall", "input": "CityPeaks", "group_by": ["all"],
         "steps": [{"op": "assign", "columns": [{"name": "all", "expr": {"lit": {"str": "all"}}}]}],
         "aggregates": [{"name": "rows", "op": {"kind": "count"}, "window": "1d"},
                        {"name": "high", "op": {"kind": "max"}, "of": "peak", "window": "1d"}]}]
    }"#,
    )
    .unwrap();
    let mut all = definitions();
    all.datasets.extend(more.datasets);
    all.pipelines.extend(more.pipelines);
    all
}

pub struct Chained {
    pub compiled: Compiled,
}

/// The same for the same identity.
fn id_of(identity: &str) -> u32 {
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    1_000 + identity.bytes().fold(2_166_136_261, hash) % (1 << 24)
}

impl Chained {
    pub fn new() -> Chained {
        Chained::knowing(&[])
    }

    /// Without what the erases below these places take.
    pub fn knowing(places: &[u64]) -> Chained {
        let mut definitions = chained_definitions();
        if !places.is_empty() {
            definitions.erased.insert("Order@1".to_string(), places.to_vec());
        }
        Chained { compiled: compile(&definitions).unwrap() }
    }

    pub fn pipeline(&self, name: &str) -> &Arc<CompiledPipeline> {
        &self.compiled.pipelines[name]
    }

    pub fn table(&self, name: &str) -> Table {
        let pipeline = self.pipeline(name);
        let layout = Arc::new(pipeline.plan.layout.clone());
        Table { id: id_of(&pipeline.table_identity()), layout, routed: pipeline.route.is_some() }
    }

    /// Of the log that a pipeline reads, if it is not the dataset's own.
    pub fn log_id(&self, name: &str) -> Option<u32> {
        self.pipeline(name).route.as_ref().map(|route| id_of(&route.log_identity()))
    }

    pub fn topic(&self, name: &str) -> &str {
        &self.pipeline(name).route.as_ref().unwrap().topic
    }

    /// A pipeline with the logs that its rows go to, one for each of `readers`.
    fn job(&self, name: &str, readers: Vec<PipelineJob>) -> PipelineJob {
        let pipeline = self.pipeline(name);
        let dataset = self.compiled.datasets[&pipeline.dataset].clone();
        let emission = Arc::new(Emission::new(dataset, pipeline.clone()));
        let feed = |reader: PipelineJob| FeedJob { emission: emission.clone(), route: route_of(reader) };
        let feeds = readers.into_iter().map(feed).collect();
        PipelineJob { pipeline: pipeline.clone(), table: self.table(name), emit: None, feeds }
    }

    pub fn spec(&self) -> JobSpec {
        let overall = self.job("Overall.compute", Vec::new());
        let city_peaks = self.job("CityPeaks.compute", vec![overall]);
        let city_stats = self.job("CityStats.compute", vec![city_peaks]);
        let on_users = ["UserPeaks.compute", "Levels.compute"].map(|name| self.job(name, Vec::new()));
        let dataset = self.compiled.datasets["Order"].clone();
        let layout = Arc::new(TableLayout::raw(dataset.types.clone()));
        JobSpec {
            datasets: vec![DatasetJob {
                dataset,
                log_id: LOG,
                raw_table: Some(Table { id: RAW, layout, routed: false }),
                pipelines: vec![self.job("UserStats.compute", on_users.into())],
                routes: vec![route_of(city_stats)],
            }],
            ..JobSpec::default()
        }
    }

    /// What serves, and what is to take over from it.
    pub fn with(&self, next: &Chained) -> JobSpec {
        let (mut spec, mut other) = (self.spec(), next.spec());
        let (live, new) = (&mut spec.datasets[0], other.datasets.remove(0));
        let new_users = new.pipelines.into_iter().next().unwrap();
        for (feed, new) in live.pipelines[0].feeds.iter_mut().zip(new_users.feeds) {
            assert_eq!(feed.route.log_id, new.route.log_id, "rows of one user each stay");
            add(&mut feed.route.pipelines, new.route.pipelines);
        }
        add(&mut live.routes[0].pipelines, new.routes.into_iter().next().unwrap().pipelines);
        spec
    }

    pub fn engine(&self, state: &Arc<StateStore>, log: &Arc<dyn EventLog>, tick_records: usize) -> Engine {
        engine_of(&self.spec(), state, log, tick_records, Role::Owner)
    }
}

/// Those that are there run once.
fn add(live: &mut Vec<PipelineJob>, new: Vec<PipelineJob>) {
    let is_new = |job: &PipelineJob| live.iter().all(|known| known.table.id != job.table.id);
    let new: Vec<PipelineJob> = new.into_iter().filter(is_new).collect();
    live.extend(new);
}

fn route_of(reader: PipelineJob) -> RouteJob {
    let route = Arc::new(reader.pipeline.route.clone().unwrap());
    RouteJob { log_id: id_of(&route.log_identity()), route, pipelines: vec![reader] }
}

pub fn engine_of(spec: &JobSpec, state: &Arc<StateStore>, log: &Arc<dyn EventLog>, tick: usize, role: Role) -> Engine {
    let options = EngineOptions { tick_records: tick, durable: false, role, ..EngineOptions::default() };
    let mut engine = Engine::open(state.clone(), log.clone(), options).unwrap();
    engine.deploy(spec).unwrap();
    engine
}

/// An event as a pipeline sees it, or a row that one made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    pub origin: Position,
    pub time: i64,
    pub key: String,
    pub n: i64,
    pub figure: f64,
}

/// For each event the count of the last hour and a figure of the last day, over the events up to it; `seen` is one partition of the
/// log that is read, in its order.
fn rows_of(seen: &[Made], figure: fn(&[f64]) -> f64) -> Vec<Made> {
    let row = |index: usize| {
        let event = &seen[index];
        let within = |window: i64| -> Vec<f64> {
            let known = seen[..=index].iter().filter(|other| other.key == event.key);
            let inside = known.filter(|other| (event.time - window..=event.time).contains(&other.time));
            inside.map(|other| other.figure).collect()
        };
        Made { n: within(HOUR).len() as i64, figure: figure(&within(24 * HOUR)), ..event.clone() }
    };
    (0..seen.len()).map(row).collect()
}

fn sum(amounts: &[f64]) -> f64 {
    amounts.iter().sum()
}

fn greatest(amounts: &[f64]) -> f64 {
    amounts.iter().copied().fold(f64::MIN, f64::max)
}

/// The rows of `UserStats`: from the dataset's own log.
pub fn rows_of_users(kept: &[(Position, Sent)]) -> Vec<Made> {
    let mut rows = Vec::new();
    for partition in 0..PARTITIONS {
        let there = kept.iter().filter(|(position, event)| position.partition == partition && event.amount > 1.0);
        let mut seen: Vec<Made> = there
            .map(|(position, event)| Made {
                origin: *position,
                time: event.time,
                key: event.user.clone(),
                n: 0,
                figure: event.amount,
            })
            .collect();
        seen.sort_by_key(|event| event.origin);
        rows.extend(rows_of(&seen, sum));
    }
    rows
}

/// The rows of `CityStats` and of `CityPeaks`: the order of the repartition log is what it is; that of the rows is the same.
pub fn rows_of_cities(log: &Arc<dyn EventLog>, world: &Chained, kept: &[(Position, Sent)]) -> (Vec<Made>, Vec<Made>) {
    let types = &world.compiled.datasets["Order"].types;
    let kept: BTreeSet<Position> = kept.iter().map(|(position, _)| *position).collect();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for partition in 0..PARTITIONS {
        let mut seen = Vec::new();
        for record in records(log, world.topic("CityStats.compute"), partition) {
            let Record::Routed { event_time, origin, row, .. } = Record::decode(&record.value).unwrap() else {
                continue;
            };
            let values = decode_row(row, types, None).unwrap();
            let (Value::Float(amount), Value::Str(city)) = (&values[2], &values[3]) else { panic!("{values:?}") };
            if kept.contains(&origin) {
                seen.push(Made { origin, time: event_time, key: city.to_string(), n: 0, figure: *amount });
            }
        }
        let rows = rows_of(&seen, greatest);
        second.extend(rows_of(&rows, greatest));
        first.extend(rows);
    }
    (first, second)
}

/// What a table must hold of a key: (time, place, figure), in order.
fn expected(rows: &[Made], belongs: impl Fn(&Made) -> bool) -> Vec<(i64, Position, Value)> {
    let mut found: Vec<_> = rows.iter().filter(|row| belongs(row)).collect();
    found.sort_by_key(|row| (row.time, row.origin));
    found.into_iter().map(|row| (row.time, row.origin, Value::Float(row.figure))).collect()
}

/// A sum of quarters as a Decimal: the same number.
fn decimal(figure: &Value) -> Value {
    let Value::Float(number) = figure else { panic!("{figure:?}") };
    Value::Decimal(Decimal::from_f64(*number).unwrap())
}

fn column(pipeline: &CompiledPipeline, name: &str) -> usize {
    pipeline.plan.column_sources.iter().position(|source| source == name).unwrap()
}

/// What was found and what must be there, and of what.
type Compared<T> = (String, Vec<T>, Vec<T>);

/// All tables of rows, given what must have been accepted: (time, place, figure) of each row.
pub fn compare_tables(
    state: &impl Held,
    log: &Arc<dyn EventLog>,
    world: &Chained,
    kept: &[(Position, Sent)],
) -> Vec<Compared<(i64, Position, Value)>> {
    let mut all = Vec::new();
    let mut compare = |(pipeline, of): (&str, &str), key: Value, wanted: Vec<(i64, Position, Value)>| {
        let found = stored(state, &world.table(pipeline), &encode_key(std::slice::from_ref(&key)).unwrap());
        let found = essence(&found, column(world.pipeline(pipeline), of));
        all.push((format!("{of} in {pipeline} of {key:?}"), found, wanted));
    };
    let users = rows_of_users(kept);
    for user in 0..6 {
        let user = format!("u{user}");
        let wanted = expected(&users, |row| row.key == user);
        let exact = wanted.iter().map(|(time, origin, figure)| (*time, *origin, decimal(figure))).collect();
        compare(("UserPeaks.compute", "total"), Value::str(user.as_str()), wanted);
        compare(("UserPeaks.compute", "total_exact"), Value::str(user.as_str()), exact);
    }
    let highest = users.iter().map(|row| row.n).max().unwrap_or_default();
    for level in 0..=highest + 1 {
        let wanted = expected(&users, |row| row.n == level && row.figure > 2.0);
        compare(("Levels.compute", "total"), Value::Int(level), wanted);
    }
    let (cities, peaks) = rows_of_cities(log, world, kept);
    for city in 0..3 {
        let city = format!("c{city}");
        let wanted = expected(&cities, |row| row.key == city);
        compare(("CityPeaks.compute", "biggest"), Value::str(city.as_str()), wanted);
    }
    compare(("Overall.compute", "peak"), Value::str("all"), expected(&peaks, |_| true));
    all
}

/// Every row stands in each log that pipelines read once, and nothing else does: (place, time) of each.
pub fn compare_logs(
    log: &Arc<dyn EventLog>,
    world: &Chained,
    kept: &[(Position, Sent)],
) -> Vec<Compared<(Position, i64)>> {
    let users = rows_of_users(kept);
    let (cities, peaks) = rows_of_cities(log, world, kept);
    let logs = [
        ("UserPeaks.compute", &users),
        ("Levels.compute", &users),
        ("CityPeaks.compute", &cities),
        ("Overall.compute", &peaks),
    ];
    let compare = |(reader, rows): (&str, &Vec<Made>)| {
        let mut found: Vec<(Position, i64)> = Vec::new();
        for record in (0..PARTITIONS).flat_map(|partition| records(log, world.topic(reader), partition)) {
            if let Record::Routed { origin, event_time, .. } = Record::decode(&record.value).unwrap() {
                found.push((origin, event_time));
            }
        }
        found.sort();
        let mut wanted: Vec<(Position, i64)> = rows.iter().map(|row| (row.origin, row.time)).collect();
        wanted.sort();
        (format!("rows for {reader}"), found, wanted)
    };
    logs.into_iter().map(compare).collect()
}

pub fn check_tables(state: &impl Held, log: &Arc<dyn EventLog>, world: &Chained, kept: &[(Position, Sent)]) {
    for (what, found, wanted) in compare_tables(state, log, world, kept) {
        assert_eq!(found, wanted, "{what}");
    }
}

pub fn check_logs(log: &Arc<dyn EventLog>, world: &Chained, kept: &[(Position, Sent)]) {
    for (what, found, wanted) in compare_logs(log, world, kept) {
        assert_eq!(found, wanted, "{what}");
    }
}

/// Another state that reads the same logs has the same rows, to the byte.
pub fn check_others(log: &Arc<dyn EventLog>, state: &impl Held, world: &Chained) {
    for (role, tick) in [(Role::Owner, 1), (Role::Owner, 11), (Role::Follower, 3)] {
        let again = StateStore::in_memory().unwrap();
        engine_of(&world.spec(), &again, log, tick, role).run_to_end().unwrap();
        for table in PIPELINES.map(|name| world.table(name)) {
            assert_eq!(again.digest(&table).unwrap(), digest_of(state, &table), "{role:?} {tick} {}", table.id);
        }
    }
    check_rebuilt(log, state, &world.spec());
}
