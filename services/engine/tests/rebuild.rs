//! The state built anew from the log: equal to the one that was, wherever that stands, and different where that is wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod common;

use common::chained::{Chained, engine_of};
use common::*;
use std::collections::HashMap;
use std::sync::Arc;
use thyme_core::Result;
use thyme_core::record::EventId;
use thyme_engine::{Comparison, EngineOptions, JobSpec, Role, catch_up, is_router, rebuild};
use thyme_log::{EmbeddedLog, EventLog};
use thyme_state::{Durability, StateStore};

const START: i64 = 1_700_000_000_000_000;

fn sent(number: i64) -> Sent {
    sent_every(1, number)
}

fn sent_every(minutes: i64, number: i64) -> Sent {
    Sent {
        user: format!("u{}", number % 7),
        // Some late, some dropped.
        time: START + (number * minutes - number % 5 * 40) * 60_000_000,
        amount: number as f64,
        city: (number % 4 > 0).then(|| format!("c{}", number % 3)),
        id: if number % 10 == 0 { EventId::Given(b"again".as_slice().into()) } else { EventId::None },
        append_time: START + number * minutes * 60_000_000,
    }
}

fn rebuilt(world: &World, state: &Arc<StateStore>, log: &Arc<dyn EventLog>) -> (Result<Comparison>, Vec<(u64, u64)>) {
    let options = EngineOptions { tick_records: 50, ..EngineOptions::default() };
    let mut told = Vec::new();
    let fresh = StateStore::in_memory().unwrap();
    let mut progress = |done, total| {
        told.push((done, total));
        true
    };
    let outcome =
        rebuild(&state.snapshot().into(), &fresh.clone().into(), log, &world.spec(true), &options, &mut progress);
    (outcome, told)
}

fn contents(log: &Arc<dyn EventLog>) -> Vec<(String, u16, u64)> {
    let topics = log.topics().unwrap();
    let ends = |(name, partitions): (String, u16)| {
        (0..partitions).map(move |partition| (name.clone(), partition)).collect::<Vec<_>>()
    };
    let places = topics.into_iter().flat_map(ends);
    places.map(|(name, partition)| (name.clone(), partition, log.end_offset(&name, partition).unwrap())).collect()
}

#[test]
fn it_is_equal_wherever_the_state_stands_and_the_log_is_only_read() {
    check_wherever_it_stands(&World::new(), 1);
}

/// In the end, most of what there was is gone.
#[test]
fn it_is_equal_with_a_history_too() {
    check_wherever_it_stands(&World::of(&forgetful_definitions()), 10);
}

fn check_wherever_it_stands(world: &World, minutes: i64) {
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    let state = StateStore::in_memory().unwrap();
    let mut events: Vec<_> = (0..400).map(|number| sent_every(minutes, number).batch()).collect();
    events.insert(300, erase("u3", START));
    append(&log, events);
    let mut engine = world.engine(&state, &log, 37);
    let mut compared = 0;
    while engine.step().unwrap() > 0 {
        let before = contents(&log);
        let (outcome, told) = rebuilt(world, &state, &log);
        let found = outcome.unwrap();
        assert!(found.is_equal(), "{found:?}");
        assert_eq!(contents(&log), before);
        assert!(told.is_sorted() && told.last().is_some_and(|(done, total)| done == total), "{told:?}");
        compared += 1;
    }
    assert!(compared > 3, "{compared}");
    let (found, _) = rebuilt(world, &state, &log);
    assert_eq!(found.unwrap().state.tables.len(), 3);
    // The engine was not fenced.
    append(&log, (400..500).map(|number| sent_every(minutes, number).batch()).collect());
    assert!(engine.step().unwrap() > 0);
}

#[test]
fn a_state_of_before_comes_to_the_place_of_another() {
    check_catches_up(&World::new().spec(true), 1);
    check_catches_up(&World::of(&forgetful_definitions()).spec(true), 10);
    check_catches_up(&Chained::new().spec(), 1);
}

/// A copy that comes to each place of an owner's state, in other ticks, is as that is there.
fn check_catches_up(spec: &JobSpec, minutes: i64) {
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    let (state, copy) = (StateStore::in_memory().unwrap(), StateStore::in_memory().unwrap());
    let mut events: Vec<_> = (0..400).map(|number| sent_every(minutes, number).batch()).collect();
    events.insert(300, erase("u3", START));
    append(&log, events);
    let mut owner = engine_of(spec, &state, &log, 37, Role::Owner);
    let options = EngineOptions { tick_records: 11, ..EngineOptions::default() };
    let mut compared = 0;
    while owner.step().unwrap() > 0 {
        let before = contents(&log);
        let places = places_of_tables(&state);
        let of_logs = places.iter().map(|(log_id, partition, next)| ((*log_id, *partition), *next)).collect();
        catch_up(&copy, &log, spec, &of_logs, &options, &mut || true).unwrap();
        assert_eq!(places_of_tables(&copy), places);
        assert_eq!(copy.snapshot().digest().unwrap(), state.snapshot().digest().unwrap());
        assert_eq!(contents(&log), before);
        compared += 1;
    }
    assert!(compared > 3, "{compared}");

    let nothing_to_do = StateStore::in_memory().unwrap();
    catch_up(&nothing_to_do, &log, spec, &HashMap::new(), &options, &mut || false).unwrap();
    let places = places_of_tables(&state).into_iter().map(|(log_id, partition, next)| ((log_id, partition), next));
    let fresh = StateStore::in_memory().unwrap();
    let given_up = catch_up(&fresh, &log, spec, &places.collect(), &options, &mut || false);
    assert!(given_up.unwrap_err().message().contains("given up"));
}

fn places_of_tables(state: &Arc<StateStore>) -> Vec<(u32, u16, u64)> {
    let all = state.snapshot().all_progress().unwrap();
    all.into_iter().filter(|(consumer, ..)| !is_router(*consumer)).collect()
}

#[test]
fn a_row_more_or_less_shows_in_its_table() {
    let world = World::new();
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    let state = StateStore::in_memory().unwrap();
    append(&log, (0..200).map(|number| sent(number).batch()).collect());
    world.engine(&state, &log, 64).run_to_end().unwrap();
    let key = sent(1).key();
    let mut tick = state.tick();
    tick.erase_key(&world.direct, &key).unwrap();
    tick.commit(Durability::Buffered).unwrap();
    let found = rebuilt(&world, &state, &log).0.unwrap();
    assert!(!found.is_equal());
    assert_ne!(found.state.table(DIRECT), found.rebuilt.table(DIRECT));
    for table in [RAW, ROUTED] {
        assert_eq!(found.state.table(table), found.rebuilt.table(table));
    }
}

#[test]
fn it_ends_when_nobody_wants_it_any_more() {
    let world = World::new();
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    let state = StateStore::in_memory().unwrap();
    append(&log, (0..200).map(|number| sent(number).batch()).collect());
    world.engine(&state, &log, 64).run_to_end().unwrap();
    let fresh = StateStore::in_memory().unwrap();
    let options = EngineOptions { tick_records: 10, ..EngineOptions::default() };
    let outcome =
        rebuild(&state.snapshot().into(), &fresh.into(), &log, &world.spec(true), &options, &mut |done, _| done < 50);
    assert!(outcome.unwrap_err().message().contains("given up"));
}
