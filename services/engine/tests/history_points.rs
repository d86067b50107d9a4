//! Tables with a `history=` at the crash points: at every named point that the work comes to, early, late and in between, the engine
//! gets an error and is dropped, or its process is killed (SIGKILL, state and log on disk). Who goes on ends with the rows of an engine that
//! nothing happened to, which are those of a brute force: all that is kept, and nothing below.
//!
//! A program of its own, as it drives child processes that end in the middle. Ends with one JSON line.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod common;
#[path = "crash_points/plan.rs"]
#[expect(dead_code, reason = "nobody stands still here")]
mod plan;

use common::*;
use plan::{Deed, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use thyme_core::failpoint::Point;
use thyme_core::key::{encode_key, partition};
use thyme_core::position::Position;
use thyme_core::record::EventId;
use thyme_core::{Error, Result, Value};
use thyme_engine::{Engine, EngineOptions};
use thyme_log::chance::Chance;
use thyme_log::{EmbeddedLog, EventLog};
use thyme_state::{Digest, Options, StateStore, Table};

const START: i64 = 1_700_000_000_000_000;
const EVENTS: i64 = 240;
const TICK_RECORDS: usize = 6;
const USERS: usize = 9;
const CITIES: usize = 3;
/// How many of the times that a point is come to are tried.
const TRIES: u64 = 6;

/// Five days, half an hour apart; some late, none too late to count.
fn events() -> Vec<Sent> {
    let mut chance = Chance::new(11);
    let mut event = |index: i64| Sent {
        user: format!("u{}", chance.below(USERS)),
        time: START + index * HOUR / 2 - chance.below(5_000) as i64 * 1_000_000,
        amount: 2.0 + chance.below(40) as f64 / 4.0,
        city: Some(format!("c{}", chance.below(CITIES))),
        id: EventId::None,
        append_time: START + 200 * HOUR,
    };
    (0..EVENTS).map(&mut event).collect()
}

/// To the end of the log, from wherever the state is.
fn work(world: &World, state: &Arc<StateStore>, log: &Arc<dyn EventLog>) -> Result<()> {
    let options = EngineOptions { tick_records: TICK_RECORDS, durable: false, ..EngineOptions::default() };
    let mut engine = Engine::open(state.clone(), log.clone(), options)?;
    engine.deploy(&world.spec(true))?;
    engine.run_to_end()
}

fn insist(world: &World, state: &Arc<StateStore>, log: &Arc<dyn EventLog>) {
    while let Err(error) = work(world, state, log) {
        assert!(error.message().contains("a crash at"), "{error}");
    }
}

/// Rows of a table that are missing or too many; how many have gone.
fn check(world: &World, state: &Arc<StateStore>, kept: &[(Position, Sent)]) -> Result<usize> {
    let watermarks = watermarks(kept);
    let slowest = slowest(&watermarks);
    let mut gone = 0;
    let mut check_key = |table: &Table, name: String, watermark: Option<i64>, belongs: &dyn Fn(&Sent) -> bool| {
        let key = encode_key(&[Value::str(name.as_str())]).unwrap();
        let all = expected(kept, belongs);
        let count = all.len();
        let left = left(table, &key, watermark, all);
        gone += count - left.len();
        let found = essence(&stored(state, table, &key), 0);
        if found == left { Ok(()) } else { Err(Error::internal(format!("{name}: {found:?}, not {left:?}"))) }
    };
    for name in (0..USERS).map(|user| format!("u{user}")) {
        let own = watermarks.get(&partition(&encode_key(&[Value::str(name.as_str())]).unwrap(), PARTITIONS)).copied();
        check_key(&world.direct, name.clone(), own, &|event| event.user == name)?;
    }
    for name in (0..CITIES).map(|city| format!("c{city}")) {
        check_key(&world.routed, name.clone(), slowest, &|event| event.city.as_ref() == Some(&name))?;
    }
    Ok(gone)
}

/// State and log of a process that may be killed.
fn on_disk(directory: &Path) -> (Arc<StateStore>, Arc<dyn EventLog>) {
    let options = Options {
        block_cache_bytes: 8 << 20,
        write_buffer_bytes: 1 << 20,
        row_cache_bytes: 1 << 20,
        background_jobs: 1,
    };
    let state = StateStore::open(directory.join("state"), options).unwrap();
    (state, Arc::new(EmbeddedLog::open(directory.join("log")).unwrap()))
}

/// What a child process does.
fn live(world: &World, directory: &Path, dies_at: &str) {
    let (name, hit) = dies_at.split_once(':').unwrap();
    let point = *Point::ALL.iter().find(|point| point.name() == name).unwrap();
    let (state, log) = on_disk(directory);
    plan::arm(&[Step { point, hit: hit.parse().unwrap(), deed: Deed::Kill }]);
    insist(world, &state, &log);
}

struct Runs {
    world: World,
    kept: Vec<(Position, Sent)>,
    events: Vec<Sent>,
    /// Of the table under the dataset's own key, after a run that nothing happened to.
    direct: Digest,
}

impl Runs {
    fn compare(&self, state: &Arc<StateStore>, log: &Arc<dyn EventLog>, what: &str) -> bool {
        let found = check(&self.world, state, &self.kept);
        // The repartition log is an input of its own: whoever reads it again gets the same rows.
        let again = StateStore::in_memory().unwrap();
        insist(&self.world, &again, log);
        let wanted = [self.direct, again.digest(&self.world.routed).unwrap()];
        let digests = [&self.world.direct, &self.world.routed].map(|table| state.digest(table).unwrap());
        if found.is_ok() && digests == wanted {
            return true;
        }
        eprintln!("{what}: {found:?}, digests {digests:?}, not {wanted:?}");
        false
    }

    fn failed(&self, point: Point, hit: u64) -> bool {
        let (state, log) = (StateStore::in_memory().unwrap(), log_with(&self.events));
        plan::arm(&[Step { point, hit, deed: Deed::Fail }]);
        insist(&self.world, &state, &log);
        assert!(plan::is_done(), "{point:?} was not reached {hit} times");
        plan::arm(&[]);
        self.compare(&state, &log, &format!("an error at {point:?}, time {hit}"))
    }

    fn killed(&self, point: Point, hit: u64) -> bool {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (state, log) = on_disk(directory.path());
        append(&log, self.events.iter().map(Sent::batch).collect());
        drop((state, log));
        let dies_at = format!("{}:{hit}", point.name());
        let program = std::env::current_exe().unwrap();
        let status = Command::new(program).arg("life").arg(directory.path()).arg(dies_at).status().unwrap();
        assert!(status.code().is_none(), "{point:?} time {hit}: it was not killed: {status}");
        let (state, log) = on_disk(directory.path());
        plan::arm(&[]);
        insist(&self.world, &state, &log);
        self.compare(&state, &log, &format!("killed at {point:?}, time {hit}"))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    plan::obey();
    let world = World::of(&forgetful_definitions());
    if let [life, directory, dies_at] = arguments.as_slice()
        && life == "life"
    {
        live(&world, Path::new(directory), dies_at);
        return ExitCode::SUCCESS;
    }
    let events = events();
    let kept = accepted(&events);
    let (state, log) = (StateStore::in_memory().unwrap(), log_with(&events));
    plan::arm(&[]);
    insist(&world, &state, &log);
    let counts: BTreeMap<Point, u64> = plan::counts();
    let gone = check(&world, &state, &kept).unwrap();
    let runs = Runs { direct: state.digest(&world.direct).unwrap(), world, kept, events };
    let (mut errors, mut kills, mut differences) = (0, 0, 0);
    for (&point, &count) in &counts {
        let hits: BTreeSet<u64> = (0..TRIES).map(|part| 1 + part * (count - 1) / (TRIES - 1)).collect();
        for hit in hits {
            errors += 1;
            differences += u64::from(!runs.failed(point, hit));
            kills += 1;
            differences += u64::from(!runs.killed(point, hit));
        }
    }
    let points = counts.len();
    println!(
        "{{\"points\":{points},\"errors\":{errors},\"kills\":{kills},\"gone\":{gone},\"differences\":{differences}}}"
    );
    if differences == 0 && points > 8 && gone > 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
