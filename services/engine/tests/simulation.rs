//! Two machines, each with an engine and a state of its own, on one simulated broker that loses, delays and refuses: they crash,
//! stand still, come back as zombies, follow each other and take over from each other. In the end each state, and what a
//! `read_committed` reader sees of the repartition log and of the topics of the aggregated datasets, is what a brute force over the
//! dataset's log says. `SEEDS` sets the number of runs.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod common;

use common::chained::{Chained, PIPELINES, check_logs, check_tables};
use common::emitted::check_emitted;
use common::*;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use thyme_core::Value;
use thyme_core::key::{encode_key, partition};
use thyme_core::position::Position;
use thyme_core::record::{EventId, Record, decode_row};
use thyme_core::slice::Slice;
use thyme_engine::{Engine, EngineOptions, JobSpec, Role};
use thyme_log::chance::Chance;
use thyme_log::simulated::{Faults, SimulatedLog};
use thyme_log::{EventLog, LogRecord};
use thyme_state::{StateStore, States, Table};

const TOPIC: &str = "Order.v1";
const START: i64 = 1_700_000_000_000_000;
const MINUTE: i64 = HOUR / 60;
const MACHINES: usize = 2;
/// Of each machine, where it has several engines.
const SLICES: u16 = 2;
const ACTIONS: usize = 150;
/// Many times what it takes to work off what is left.
const MOST_ROUNDS: usize = 10_000;

fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200)
}

/// An engine on a slice of the log, with its disk.
struct Machine {
    slice: Slice,
    state: Arc<StateStore>,
    /// None while it is down.
    engine: Option<Engine>,
}

struct Simulation {
    world: World,
    /// Runs instead of the world, if it is there: pipelines on the rows of its pipelines.
    chained: Option<Chained>,
    broker: Arc<SimulatedLog>,
    log: Arc<dyn EventLog>,
    chance: Chance,
    /// Those of all slices, twice.
    machines: Vec<Machine>,
    sent: u32,
    /// How far event time moves on with each event.
    pace: i64,
    /// What was done and what came of it.
    trace: Vec<String>,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        Simulation::of(World::emitting(), seed, MINUTE)
    }

    /// Tables that let go of what is hours old, and days of events.
    fn forgetful(seed: u64) -> Simulation {
        Simulation::of(World::of(&forgetful_definitions()), seed, HOUR / 2)
    }

    /// Pipelines on the rows of others.
    fn chained(seed: u64) -> Simulation {
        Simulation { chained: Some(Chained::new()), ..Simulation::of(World::new(), seed, MINUTE) }
    }

    /// The same on engines that share the work.
    fn sliced(self) -> Simulation {
        Simulation { machines: machines(SLICES), ..self }
    }

    fn of(world: World, seed: u64, pace: i64) -> Simulation {
        let broker = Arc::new(SimulatedLog::new(seed, Faults::STORM));
        broker.create_topic(TOPIC, PARTITIONS).unwrap();
        Simulation {
            world,
            chained: None,
            log: broker.clone(),
            broker,
            chance: Chance::new(seed ^ 0x5eed),
            machines: machines(1),
            sent: 0,
            pace,
            trace: Vec::new(),
        }
    }

    fn run(&mut self) {
        for _ in 0..ACTIONS {
            self.broker.pass_time();
            let which = self.chance.below(self.machines.len());
            let done = match self.chance.below(100) {
                0..20 => self.send(),
                20..91 if self.machines[which].engine.is_some() => self.step(which),
                20..93 => self.start(which),
                93..96 => self.change_role(which),
                96..99 => self.crash(which),
                _ => self.lose_disk(which),
            };
            self.trace.push(done);
        }
    }

    /// Sends some events; what fails is sent again, as clients do.
    fn send(&mut self) -> String {
        let events: Vec<Sent> = (0..self.chance.below(12) + 1).map(|_| self.event()).collect();
        let mut tries = 0;
        loop {
            tries += 1;
            if futures_block(self.log.append(events.iter().map(Sent::batch).collect())).is_ok() || tries == 4 {
                return format!("sent {} in {tries} tries", events.len());
            }
        }
    }

    fn event(&mut self) -> Sent {
        self.sent += 1;
        let chance = &mut self.chance;
        // Drifts, with late and a few far too late rows, and some from the far future.
        let around = i64::from(self.sent) * self.pace;
        let time = match chance.below(20) {
            0 => START + around - 3 * HOUR,
            1 => START + 40 * HOUR,
            _ => START + around - chance.below(7_000) as i64 * 1_000_000,
        };
        let id = match chance.below(4) {
            0 => EventId::Given(vec![chance.below(60) as u8].into()),
            1 => EventId::None,
            _ => EventId::Call { call: 7, row: self.sent },
        };
        let user = format!("u{}", chance.below(6));
        let amount = chance.below(400) as f64 / 100.0;
        Sent {
            user,
            time,
            // Quarters have the same sum in any order.
            amount: if self.chained.is_some() { (amount * 4.0).floor() / 4.0 } else { amount },
            city: (chance.below(10) > 0).then(|| format!("c{}", chance.below(3))),
            id,
            // Where hours count, events come when they happen.
            append_time: if self.pace == MINUTE { START } else { START + around },
        }
    }

    fn step(&mut self, which: usize) -> String {
        match &mut self.machines[which].engine {
            None => format!("{which} is down"),
            Some(engine) => match engine.step() {
                Ok(records) => format!("{which} worked off {records}"),
                Err(error) => format!("{which} failed: {error}"),
            },
        }
    }

    /// Starts a machine, or the one that runs anew.
    fn start(&mut self, which: usize) -> String {
        let role = if self.chance.below(3) == 0 { Role::Follower } else { Role::Owner };
        self.start_as(which, role)
    }

    fn spec(&self) -> JobSpec {
        self.chained.as_ref().map_or_else(|| self.world.spec(true), Chained::spec)
    }

    fn start_as(&mut self, which: usize, role: Role) -> String {
        let tick_records = self.chance.below(20) + 1;
        let spec = self.spec();
        let machine = &mut self.machines[which];
        machine.engine = None;
        let options = EngineOptions {
            tick_records,
            durable: false,
            role,
            slice: machine.slice,
            awaits_log: false,
            ..EngineOptions::default()
        };
        let opened = Engine::open(machine.state.clone(), self.log.clone(), options)
            .and_then(|mut engine| engine.deploy(&spec).map(|()| engine));
        match opened {
            Ok(engine) => {
                machine.engine = Some(engine);
                format!("{which} started as {role:?} with ticks of {tick_records}")
            }
            Err(error) => format!("{which} did not start: {error}"),
        }
    }

    /// A follower is promoted, an owner stands down; the other machine may not know of it yet.
    fn change_role(&mut self, which: usize) -> String {
        let Some(engine) = &mut self.machines[which].engine else { return format!("{which} is down") };
        let role = match engine.role() {
            Role::Owner => Role::Follower,
            Role::Follower => Role::Owner,
        };
        match engine.set_role(role) {
            Ok(()) => format!("{which} became {role:?}"),
            Err(error) => format!("{which} did not become {role:?}: {error}"),
        }
    }

    fn crash(&mut self, which: usize) -> String {
        self.machines[which].engine = None;
        format!("{which} crashed")
    }

    fn lose_disk(&mut self, which: usize) -> String {
        let slice = self.machines[which].slice;
        self.machines[which] = Machine { slice, state: StateStore::in_memory().unwrap(), engine: None };
        format!("{which} lost its disk")
    }

    /// No more faults; one machine for each slice and then the other work off what is left.
    fn settle(&mut self) {
        self.broker.heal();
        for which in 0..self.machines.len() {
            self.crash(which);
        }
        let slices = self.machines.len() / MACHINES;
        for first in (0..self.machines.len()).step_by(slices) {
            for which in first..first + slices {
                // The first send what is left; the second may do no more than follow.
                let follows = first > 0 && self.chance.below(2) == 0;
                let started = self.start_as(which, if follows { Role::Follower } else { Role::Owner });
                assert!(self.machines[which].engine.is_some(), "{started}");
            }
            let mut rounds = 0;
            while self.machines.iter_mut().filter_map(|machine| machine.engine.as_mut()).any(works) {
                rounds += 1;
                assert!(rounds < MOST_ROUNDS, "the machines from {first} on do not come to their end");
            }
            for which in first..first + slices {
                self.crash(which);
            }
        }
    }

    fn records(&self, topic: &str, partition: u16) -> Vec<LogRecord> {
        self.log.read(topic, partition, 0, usize::MAX, usize::MAX).unwrap()
    }

    /// What must be accepted, from the log itself.
    fn accepted(&self) -> Vec<(Position, Sent)> {
        let types = &self.world.compiled.datasets["Order"].types;
        let mut kept = Vec::new();
        for partition in 0..PARTITIONS {
            let mut seen: HashSet<(Vec<u8>, EventId)> = HashSet::new();
            let mut greatest: Option<i64> = None;
            for found in self.records(TOPIC, partition) {
                let Record::Event { append_time, event_time, id, row } = Record::decode(&found.value).unwrap() else {
                    panic!("not an event");
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
                let (user, amount) = (user.to_string(), *amount);
                let event = Sent { user, time: event_time, amount, city, id, append_time };
                kept.push((Position { partition, offset: found.offset }, event));
            }
        }
        kept
    }

    fn check_state(&self, state: &States, kept: &[(Position, Sent)]) {
        let World { direct, routed, .. } = &self.world;
        let watermarks = watermarks(kept);
        for user in 0..6 {
            let user = format!("u{user}");
            let key = encode_key(&[Value::str(user.as_str())]).unwrap();
            assert_eq!(essence(&stored(state, &self.world.raw, &key), 2), expected(kept, |event| event.user == user));
            let own = watermarks.get(&partition(&key, PARTITIONS)).copied();
            let all = expected(kept, |event| event.user == user && event.amount > 1.0);
            assert_eq!(essence(&stored(state, direct, &key), 0), left(direct, &key, own, all));
        }
        for city in 0..3 {
            let city = format!("c{city}");
            let key = encode_key(&[Value::str(city.as_str())]).unwrap();
            let all = expected(kept, |event| event.city.as_ref() == Some(&city));
            assert_eq!(essence(&stored(state, routed, &key), 0), left(routed, &key, slowest(&watermarks), all));
        }
    }

    /// Every accepted event that has a city stands in the repartition log once, those of a source partition in their order.
    fn check_outputs(&self, kept: &[(Position, Sent)]) {
        let topic = &self.world.compiled.pipelines["CityStats.compute"].route.as_ref().unwrap().topic;
        let mut found: Vec<Position> = Vec::new();
        for partition in 0..PARTITIONS {
            let mut last: BTreeMap<u16, u64> = BTreeMap::new();
            for record in self.records(topic, partition) {
                if let Record::Routed { origin, .. } = Record::decode(&record.value).unwrap() {
                    let before = last.insert(origin.partition, origin.offset);
                    assert!(before.is_none_or(|before| before < origin.offset), "twice, or out of order: {origin:?}");
                    found.push(origin);
                }
            }
        }
        found.sort();
        let mut wanted: Vec<Position> =
            kept.iter().filter(|(_, event)| event.city.is_some()).map(|(position, _)| *position).collect();
        wanted.sort();
        assert_eq!(found, wanted);
    }

    fn check_chained(&self, chained: &Chained, kept: &[(Position, Sent)]) {
        check_logs(&self.log, chained, kept);
        let replicas = self.replicas();
        replicas.iter().for_each(|states| check_tables(states, &self.log, chained, kept));
        self.check_alike(&replicas, &PIPELINES.map(|name| chained.table(name)));
    }

    /// The states of all slices, for each machine.
    fn replicas(&self) -> Vec<States> {
        let machines = self.machines.chunks(self.machines.len() / MACHINES);
        machines.map(|of_one| States::new(of_one.iter().map(|machine| machine.state.clone()).collect())).collect()
    }

    /// The machines have the same rows, and an engine that reads all of the log has them too.
    fn check_alike(&self, replicas: &[States], tables: &[Table]) {
        let whole = StateStore::in_memory().unwrap();
        let options = EngineOptions { durable: false, role: Role::Follower, ..EngineOptions::default() };
        let mut engine = Engine::open(whole.clone(), self.log.clone(), options).unwrap();
        engine.deploy(&self.spec()).unwrap();
        engine.run_to_end().unwrap();
        for table in tables {
            for states in replicas {
                assert_eq!(digest_of(states, table), digest_of(&whole, table), "table {}", table.id);
            }
        }
    }

    fn check(&self) {
        let kept = self.accepted();
        if let Some(chained) = &self.chained {
            return self.check_chained(chained, &kept);
        }
        self.check_outputs(&kept);
        if self.world.emits {
            check_emitted(&self.log, &self.world, &kept);
        }
        let replicas = self.replicas();
        replicas.iter().for_each(|states| self.check_state(states, &kept));
        self.check_alike(&replicas, &[&self.world.raw, &self.world.direct, &self.world.routed].map(Table::clone));
    }
}

fn works(engine: &mut Engine) -> bool {
    engine.step().unwrap() > 0
}

/// Of all slices, twice.
fn machines(slices: u16) -> Vec<Machine> {
    let machine = |slice| Machine { slice, state: StateStore::in_memory().unwrap(), engine: None };
    (0..MACHINES).flat_map(|_| Slice::all(slices).map(machine)).collect()
}

fn trace_of(seed: u64) -> Vec<String> {
    let mut simulation = Simulation::new(seed);
    simulation.run();
    simulation.settle();
    let mut trace = std::mem::take(&mut simulation.trace);
    trace.extend(simulation.broker.trace());
    trace
}

fn run_all(make: impl Fn(u64) -> Simulation) {
    run_some(seeds(), make);
}

fn run_some(seeds: u64, make: impl Fn(u64) -> Simulation) {
    for seed in 0..seeds {
        let mut simulation = make(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            simulation.run();
            simulation.settle();
            simulation.check();
        }));
        if let Err(panic) = result {
            eprintln!("seed {seed}:\n{}\n{}", simulation.trace.join("\n"), simulation.broker.trace().join("\n"));
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn states_and_outputs_are_what_a_brute_force_says() {
    run_all(Simulation::new);
}

#[test]
fn what_a_history_lets_go_of_is_what_a_brute_force_says() {
    run_all(Simulation::forgetful);
}

#[test]
fn rows_of_rows_are_what_a_brute_force_says() {
    run_all(Simulation::chained);
}

/// Two machines with an engine for each slice: a run of several engines, so there are fewer.
fn run_sliced(make: impl Fn(u64) -> Simulation) {
    run_some(seeds().div_ceil(8), make);
}

#[test]
fn slices_are_what_a_brute_force_says() {
    run_sliced(|seed| Simulation::new(seed).sliced());
}

#[test]
fn what_a_history_lets_go_of_in_slices_is_what_a_brute_force_says() {
    run_sliced(|seed| Simulation::forgetful(seed).sliced());
}

#[test]
fn rows_of_rows_in_slices_are_what_a_brute_force_says() {
    run_sliced(|seed| Simulation::chained(seed).sliced());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 17] {
        assert_eq!(trace_of(seed), trace_of(seed));
    }
    assert_ne!(trace_of(1), trace_of(17));
}

#[test]
fn the_storm_blows() {
    let traces: Vec<String> = (0..100).flat_map(trace_of).collect();
    for part in [
        "gets no answer: lost",
        "gets no answer: made",
        "gets no answer: late",
        "is refused",
        "is slow",
        "runs into its timeout",
        "accepted true",
        "accepted false",
        "a send of",
        "append answers nothing",
        "fenced:",
        "lost its disk",
        "became Follower",
        "became Owner",
        "did not become",
    ] {
        assert!(traces.iter().any(|line| line.contains(part)), "never: {part}");
    }
}
