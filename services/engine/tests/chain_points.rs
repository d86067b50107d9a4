//! Pipelines on the rows of others, and an engine that ends with an error at every named point it comes to: the next one goes on, and
//! each row is in every log and table once. (A program of its own: the hook is the process's.)

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod common;

use common::chained::*;
use common::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use thyme_core::failpoint::{Point, install};
use thyme_core::record::EventId;
use thyme_core::{Error, Result};
use thyme_engine::{Engine, EngineOptions, JobSpec};
use thyme_log::chance::Chance;
use thyme_log::{EmbeddedLog, EventLog};
use thyme_state::StateStore;

const START: i64 = 1_700_000_000_000_000;

/// Where the next error is due, and how often each point was come to.
#[derive(Default)]
struct Plan {
    due: Option<(Point, u64)>,
    counts: BTreeMap<Point, u64>,
}

static PLAN: Mutex<Plan> = Mutex::new(Plan { due: None, counts: BTreeMap::new() });

fn at(point: Point) -> Result<()> {
    let mut plan = PLAN.lock().unwrap();
    let count = plan.counts.entry(point).or_default();
    *count += 1;
    let reached = (point, *count);
    // In the journal's writer no error can be returned.
    if plan.due == Some(reached) && !matches!(point, Point::FrameWritten | Point::FrameSynced) {
        plan.due = None;
        return Err(Error::unavailable(format!("a crash at {}", point.name())));
    }
    Ok(())
}

fn events(seed: u64) -> Vec<Sent> {
    let mut chance = Chance::new(seed);
    let event = |number: i64, chance: &mut Chance| Sent {
        user: format!("u{}", chance.below(4)),
        time: START + (number * 20 - chance.below(300) as i64) * 60_000_000,
        amount: chance.below(16) as f64 / 4.0,
        city: (chance.below(8) > 0).then(|| format!("c{}", chance.below(3))),
        id: EventId::None,
        append_time: START + number * 20 * 60_000_000,
    };
    (0..60).map(|number| event(number, &mut chance)).collect()
}

/// Opens an engine again after each error, until there is nothing left to do.
fn insist(spec: &JobSpec, state: &Arc<StateStore>, log: &Arc<dyn EventLog>, tick_records: usize) {
    let options = EngineOptions { tick_records, durable: false, ..EngineOptions::default() };
    let work = || {
        let mut engine = Engine::open(state.clone(), log.clone(), options.clone())?;
        engine.deploy(spec)?;
        engine.run_to_end()
    };
    while work().is_err() {}
}

/// The points that the run came to.
fn run(due: Option<(Point, u64)>, tick_records: usize) -> BTreeMap<Point, u64> {
    let world = Chained::new();
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    append(&log, Vec::new());
    let state = StateStore::in_memory().unwrap();
    let events = events(tick_records as u64);
    append(&log, events[..30].iter().map(Sent::batch).collect());
    let mut early = world.spec();
    early.datasets[0].pipelines[0].feeds.clear();
    *PLAN.lock().unwrap() = Plan { due, ..Plan::default() };
    // One of them has a beginning to make up for.
    insist(&early, &state, &log, tick_records);
    append(&log, events[30..].iter().map(Sent::batch).collect());
    insist(&world.spec(), &state, &log, tick_records);
    let plan = std::mem::take(&mut *PLAN.lock().unwrap());
    let kept = accepted(&events);
    check_logs(&log, &world, &kept);
    check_tables(&state, &log, &world, &kept);
    check_others(&log, &state, &world);
    assert!(due.is_none() || plan.due.is_none(), "never came to {due:?}");
    plan.counts
}

#[test]
fn an_error_at_any_point_loses_and_doubles_nothing() {
    assert!(install(Box::new(at)));
    for tick_records in [4, 13] {
        let calm = run(None, tick_records);
        for point in [Point::Emitted, Point::MidSend, Point::AfterOffsets, Point::AfterEnd, Point::BeforeTick] {
            assert!(calm.get(&point).is_some_and(|count| *count > 10), "{point:?}: {calm:?}");
        }
        for (point, count) in calm {
            if matches!(point, Point::FrameWritten | Point::FrameSynced) {
                continue;
            }
            // The first, the last, and some between.
            for hit in [1, count / 3, count / 2, count * 3 / 4, count] {
                if hit > 0 {
                    run(Some((point, hit)), tick_records);
                }
            }
        }
    }
}
