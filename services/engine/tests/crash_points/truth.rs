//! What must be in the states, in the repartition log and in the topics for other consumers, from the dataset's log alone, and how
//! what is found differs from it.

use crate::common::chained::{Chained, PIPELINES, compare_logs, compare_tables};
use crate::common::emitted::{Accepted, comparisons};
use crate::common::{DIRECT, HOUR, PARTITIONS, RAW, ROUTED, Sent, World, erase, essence, expected, stored};
use crate::machine::Machine;
use crate::plan::Step;
use crate::work::{Kind, OLD, Work};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use thyme_core::Value;
use thyme_core::aggregate::Outcome;
use thyme_core::definition::Compiled;
use thyme_core::key::encode_key;
use thyme_core::position::Position;
use thyme_core::record::{EventId, Record, decode_row};
use thyme_engine::{Engine, EngineOptions, JobSpec};
use thyme_log::chance::Chance;
use thyme_log::{Batch, EmbeddedLog, EventLog, LogRecord, NewRecord};
use thyme_state::{StateStore, Table, Visible};

pub const TOPIC: &str = "Order.v1";
const START: i64 = 1_700_000_000_000_000;
const EVENTS: u32 = 360;
/// Each of them is a row in four more logs and tables.
const EVENTS_OF_CHAINS: u32 = 150;
const USERS: usize = 6;
const CITIES: usize = 3;

/// The events of a run: half of them of one user, so that leaves fill and split; some late, some far in the future, some twice;
/// two keys are erased, but for chains.
pub fn batches(work: Kind, seed: u64) -> Vec<Batch> {
    let mut chance = Chance::new(seed ^ 0xeb37);
    let mut made = Vec::new();
    let events = if work == Kind::Chains { EVENTS_OF_CHAINS } else { EVENTS };
    for number in 0..events {
        if work != Kind::Chains && (number == events / 3 || number == events / 2) {
            made.push(erase(&format!("u{}", 1 + number % 4), START));
        }
        let around = i64::from(number) * 60_000_000;
        let time = match chance.below(30) {
            0 => START + around - 3 * HOUR,
            1 => START + 40 * HOUR,
            _ => START + around - chance.below(7_000) as i64 * 1_000_000,
        };
        let id = match chance.below(4) {
            0 => EventId::Given(vec![chance.below(60) as u8].into()),
            1 => EventId::None,
            _ => EventId::Call { call: 7, row: number },
        };
        let user = if chance.below(2) == 0 { 0 } else { chance.below(USERS) };
        let city = (chance.below(10) > 0).then(|| format!("c{}", chance.below(CITIES)));
        // Quarters, so that sums are exact however they are added up.
        let amount = chance.below(400) as f64 / 4.0;
        made.push(Sent { user: format!("u{user}"), time, amount, city, id, append_time: START }.batch());
    }
    made
}

/// How what was found differs from what must be.
#[derive(Debug, Default)]
pub struct Differences {
    pub lost: u64,
    pub doubled: u64,
    pub told: Vec<String>,
}

impl Differences {
    pub fn of_panic(panic: &(dyn Any + Send)) -> Differences {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Differences { told: vec![format!("it panicked: {}", text.unwrap_or_default())], ..Differences::default() }
    }

    /// With the plan that it was found after, if there is any difference.
    pub fn after(mut self, steps: &[Step]) -> Differences {
        if !self.told.is_empty() {
            self.told.push(format!("after {steps:?}"));
        }
        self
    }

    fn compare<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: &[T], wanted: &[T]) {
        if found == wanted {
            return;
        }
        let count = |all: &[T], one: &T| all.iter().filter(|other| *other == one).count();
        self.lost += wanted.iter().filter(|one| count(found, one) == 0).count() as u64;
        self.doubled += found.iter().filter(|one| count(found, one) > count(wanted, one)).count() as u64;
        self.told.push(format!("{what}: {} found, {} wanted", found.len(), wanted.len()));
    }

    fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.told.push(what());
        }
    }
}

fn records(log: &dyn EventLog, topic: &str, partition: u16) -> Vec<LogRecord> {
    log.read(topic, partition, 0, usize::MAX, usize::MAX).unwrap()
}

/// What the dataset's log says.
struct Truth {
    /// What acceptance must accept.
    accepted: Vec<Accepted>,
}

impl Truth {
    fn of(compiled: &Compiled, log: &dyn EventLog) -> Truth {
        let types = &compiled.datasets["Order"].types;
        let mut accepted: Vec<Accepted> = Vec::new();
        for partition in 0..PARTITIONS {
            let mut seen: HashSet<(Vec<u8>, EventId)> = HashSet::new();
            let mut greatest: Option<i64> = None;
            let first = accepted.len();
            for found in records(log, TOPIC, partition) {
                let (append_time, event_time, id, row) = match Record::decode(&found.value).unwrap() {
                    Record::Event { append_time, event_time, id, row } => (append_time, event_time, id, row),
                    Record::Erase { .. } => {
                        let of_key = |accepted: &&mut Accepted| accepted.event.key() == found.key;
                        for accepted in accepted[first..].iter_mut().filter(of_key) {
                            accepted.erased_at.get_or_insert(found.offset);
                        }
                        continue;
                    }
                    other => panic!("{other:?}"),
                };
                let is_new = id == EventId::None || seen.insert((found.key.to_vec(), id.clone()));
                let is_late = greatest.is_some_and(|greatest| event_time < greatest - 2 * HOUR);
                if !is_new || event_time > append_time + 24 * HOUR || is_late {
                    continue;
                }
                greatest = greatest.max(Some(event_time));
                let values = decode_row(row, types, None).unwrap();
                let (Value::Str(user), Value::Float(amount)) = (&values[0], &values[2]) else { panic!("{values:?}") };
                let city = match &values[3] {
                    Value::Str(city) => Some(city.to_string()),
                    _ => None,
                };
                let event = Sent { user: user.to_string(), time: event_time, amount: *amount, city, id, append_time };
                accepted.push(Accepted::new(Position { partition, offset: found.offset }, event));
            }
        }
        Truth { accepted }
    }

    fn kept(&self) -> Vec<(Position, Sent)> {
        let kept = self.accepted.iter().filter(|accepted| accepted.erased_at.is_none());
        kept.map(|accepted| (accepted.position, accepted.event.clone())).collect()
    }
}

/// Compares states, and logs and topics that were filled, with the truth.
pub fn check(kind: Kind, log: &Arc<dyn EventLog>, machines: &[&Machine]) -> Differences {
    let mut found = Differences::default();
    match Work::new(kind) {
        Work::Plain(world) => check_plain(&world, log, machines, &mut found),
        Work::Chains(world) => check_chains(&world, log, machines, &mut found),
    }
    found
}

fn check_plain(world: &World, log: &Arc<dyn EventLog>, machines: &[&Machine], found: &mut Differences) {
    let truth = Truth::of(&world.compiled, log.as_ref());
    let routed = check_outputs(&world.compiled, log.as_ref(), &truth, found);
    for (what, records, wanted) in comparisons(log, world, &truth.accepted) {
        found.compare(&what, &records, &wanted);
    }
    let calm = uninterrupted(world, log.as_ref());
    // The repartition log is an input of its own: whoever reads it again gets the same rows.
    let again = StateStore::in_memory().unwrap();
    run(&world.spec(true), &again, log);
    for (which, machine) in machines.iter().enumerate() {
        let digests = machine.state.snapshot().digest().unwrap();
        for (table, other) in [(RAW, &calm), (DIRECT, &calm), (ROUTED, &again)] {
            let wanted = other.snapshot().digest().unwrap().table(table);
            let is_same = digests.table(table) == wanted;
            found.must(is_same, || format!("machine {which}: the digest of table {table} differs"));
        }
        check_dropped(which, machine, found);
        check_rows(world, &machine.state, &truth, &routed, found);
        check_answers(world, &machine.state, &truth.kept(), &routed, found);
    }
}

/// Rows are in each log and each table once, of all stages; what reads the logs again has the same tables.
fn check_chains(world: &Chained, log: &Arc<dyn EventLog>, machines: &[&Machine], found: &mut Differences) {
    let truth = Truth::of(&world.compiled, log.as_ref());
    check_outputs(&world.compiled, log.as_ref(), &truth, found);
    let kept = truth.kept();
    for (what, records, wanted) in compare_logs(log, world, &kept) {
        found.compare(&what, &records, &wanted);
    }
    let again = StateStore::in_memory().unwrap();
    run(&world.spec(), &again, log);
    let wanted = again.snapshot().digest().unwrap();
    for (which, machine) in machines.iter().enumerate() {
        let digests = machine.state.snapshot().digest().unwrap();
        for table in PIPELINES.map(|name| world.table(name).id).into_iter().chain([RAW]) {
            let is_same = digests.table(table) == wanted.table(table);
            found.must(is_same, || format!("machine {which}: the digest of table {table} differs"));
        }
        check_dropped(which, machine, found);
        for (what, rows, wanted) in compare_tables(&machine.state, log, world, &kept) {
            found.compare(&format!("machine {which}: {what}"), &rows, &wanted);
        }
    }
}

fn check_dropped(which: usize, machine: &Machine, found: &mut Differences) {
    let snapshot = machine.state.snapshot();
    let is_gone = !snapshot.digest().unwrap().tables.contains_key(&OLD) && snapshot.progress(OLD, 0).unwrap().is_none();
    found.must(is_gone, || format!("machine {which}: the dropped table is still there"));
}

fn run(spec: &JobSpec, state: &Arc<StateStore>, log: &Arc<dyn EventLog>) {
    let options = EngineOptions { durable: false, ..EngineOptions::default() };
    let mut engine = Engine::open(state.clone(), log.clone(), options).unwrap();
    engine.deploy(spec).unwrap();
    engine.run_to_end().unwrap();
}

/// The state of an engine that nothing happened to, over the same records.
fn uninterrupted(world: &World, log: &dyn EventLog) -> Arc<StateStore> {
    let copy: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    copy.create_topic(TOPIC, PARTITIONS).unwrap();
    for partition in 0..PARTITIONS {
        let records = records(log, TOPIC, partition).into_iter().map(|record| NewRecord::new(record.key, record.value));
        let batch = Batch { topic: TOPIC.to_string(), partition, records: records.collect() };
        crate::common::futures_block(copy.append(vec![batch])).unwrap();
    }
    let state = StateStore::in_memory().unwrap();
    run(&world.spec(true), &state, &copy);
    state
}

/// Every accepted event that has a city stands in the repartition log once, those of a source partition in their order; one that is
/// erased may have been passed on before. What stands there.
fn check_outputs(
    compiled: &Compiled,
    log: &dyn EventLog,
    truth: &Truth,
    found: &mut Differences,
) -> Vec<(Position, Sent)> {
    let topic = &compiled.pipelines["CityStats.compute"].route.as_ref().unwrap().topic;
    let mut sent: Vec<Position> = Vec::new();
    for partition in 0..PARTITIONS {
        let mut last: BTreeMap<u16, u64> = BTreeMap::new();
        for record in records(log, topic, partition) {
            if let Record::Routed { origin, .. } = Record::decode(&record.value).unwrap() {
                let before = last.insert(origin.partition, origin.offset);
                let is_in_order = before.is_none_or(|before| before < origin.offset);
                found.must(is_in_order, || format!("routed twice, or out of order: {origin:?}"));
                sent.push(origin);
            }
        }
    }
    sent.sort();
    let there: BTreeSet<Position> = sent.iter().copied().collect();
    let may = |accepted: &&Accepted| {
        accepted.event.city.is_some() && (accepted.erased_at.is_none() || there.contains(&accepted.position))
    };
    let passed: Vec<(Position, Sent)> =
        truth.accepted.iter().filter(may).map(|accepted| (accepted.position, accepted.event.clone())).collect();
    let mut wanted: Vec<Position> = passed.iter().map(|(position, _)| *position).collect();
    wanted.sort();
    found.compare("repartition log", &sent, &wanted);
    passed
}

fn key(name: &str) -> Vec<u8> {
    encode_key(&[Value::str(name)]).unwrap()
}

fn check_rows(
    world: &World,
    state: &Arc<StateStore>,
    truth: &Truth,
    routed: &[(Position, Sent)],
    found: &mut Differences,
) {
    let kept = truth.kept();
    for user in (0..USERS).map(|user| format!("u{user}")) {
        let raw = essence(&stored(state, &world.raw, &key(&user)), 2);
        found.compare(&format!("raw rows of {user}"), &raw, &expected(&kept, |event| event.user == user));
        let direct = essence(&stored(state, &world.direct, &key(&user)), 0);
        let wanted = expected(&kept, |event| event.user == user && event.amount > 1.0);
        found.compare(&format!("rows of {user}"), &direct, &wanted);
    }
    for city in (0..CITIES).map(|city| format!("c{city}")) {
        let rows = essence(&stored(state, &world.routed, &key(&city)), 0);
        found.compare(&format!("rows of {city}"), &rows, &expected(routed, |event| event.city.as_ref() == Some(&city)));
    }
}

/// Counts and sums of users, maxima and counts of cities (outputs go by name), at several times.
fn check_answers(
    world: &World,
    state: &Arc<StateStore>,
    kept: &[(Position, Sent)],
    routed: &[(Position, Sent)],
    found: &mut Differences,
) {
    let window = |events: &[(Position, Sent)], from: i64, to: i64, belongs: &dyn Fn(&Sent) -> bool| -> Vec<f64> {
        let inside = events.iter().filter(|(_, event)| belongs(event) && from <= event.time && event.time <= to);
        inside.map(|(_, event)| event.amount).collect()
    };
    for at in (1..=8).map(|eighth| START + eighth * HOUR) {
        for user in (0..USERS).map(|user| format!("u{user}")) {
            let belongs = |event: &Sent| event.user == user && event.amount > 1.0;
            let count = window(kept, at - HOUR, at, &belongs).len();
            let sum = window(kept, at - 24 * HOUR, at, &belongs).iter().fold(0.0, |sum, amount| sum + amount);
            let wanted = [Value::Int(count as i64), Value::Float(sum)];
            let answer = answers(state, &world.direct, world, "UserStats.compute", &key(&user), at);
            found.must(answer == wanted, || format!("{user} at {at}: {answer:?}, not {wanted:?}"));
        }
        for city in (0..CITIES).map(|city| format!("c{city}")) {
            let belongs = |event: &Sent| event.city.as_ref() == Some(&city);
            let count = window(routed, at - HOUR, at, &belongs).len();
            let most = window(routed, at - 24 * HOUR, at, &belongs).into_iter().reduce(f64::max);
            let wanted = [most.map_or(Value::Null, Value::Float), Value::Int(count as i64)];
            let answer = answers(state, &world.routed, world, "CityStats.compute", &key(&city), at);
            found.must(answer == wanted, || format!("{city} at {at}: {answer:?}, not {wanted:?}"));
        }
    }
}

fn answers(state: &Arc<StateStore>, table: &Table, world: &World, pipeline: &str, key: &[u8], at: i64) -> Vec<Value> {
    let plan = &world.compiled.pipelines[pipeline].plan;
    let read = plan.read_plan(&[0, 1]);
    let data = state.snapshot().read(table, key, at, &read.windows, &Visible::ALL).unwrap();
    let mut values = Vec::new();
    read.finish(plan, at, &data, |_, outcome| match outcome {
        Outcome::Value(value) | Outcome::Empty(value) => values.push(value.clone()),
        Outcome::Error(reason) => panic!("{reason}"),
    });
    values
}
