//! Single scenes: erase, builds, dead letters, late rows, at_least.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod common;

use common::*;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::Value;
use thyme_core::key::{encode_key, partition};
use thyme_core::position::PositionSet;
use thyme_core::record::{EventId, Record};
use thyme_engine::{Engine, EngineOptions};
use thyme_log::{Batch, EmbeddedLog, EventLog, NewRecord};
use thyme_state::StateStore;

const START: i64 = 1_700_000_000_000_000;

fn sent(user: &str, minutes: i64, amount: f64) -> Sent {
    Sent {
        user: user.to_string(),
        time: START + minutes * 60_000_000,
        amount,
        city: Some("c".to_string()),
        id: EventId::None,
        append_time: START,
    }
}

fn key(user: &str) -> Vec<u8> {
    encode_key(&[Value::str(user)]).unwrap()
}

fn new_log() -> Arc<dyn EventLog> {
    Arc::new(EmbeddedLog::in_memory().unwrap())
}

#[test]
fn a_pipeline_added_later_has_the_rows_of_one_that_was_there_from_the_start() {
    let world = World::new();
    let events: Vec<Sent> = (0..500).map(|n| sent(&format!("u{}", n % 7), n, n as f64)).collect();
    let log = new_log();
    append(&log, events.iter().map(Sent::batch).collect());
    let early = StateStore::in_memory().unwrap();
    world.engine(&early, &log, 64).run_to_end().unwrap();

    let late_log = new_log();
    append(&late_log, events[..300].iter().map(Sent::batch).collect());
    let late = StateStore::in_memory().unwrap();
    let options = EngineOptions { tick_records: 16, durable: false, ..EngineOptions::default() };
    let mut engine = Engine::open(late.clone(), late_log.clone(), options).unwrap();
    engine.deploy(&world.spec(false)).unwrap();
    engine.run_to_end().unwrap();
    engine.deploy(&world.spec(true)).unwrap();
    engine.step().unwrap();
    let progress = engine.handle().build_progress(ROUTED);
    assert!(!progress.caught_up && progress.total > progress.done, "{progress:?}");
    // Events keep coming while it builds.
    append(&late_log, events[300..].iter().map(Sent::batch).collect());
    engine.run_to_end().unwrap();
    assert!(engine.handle().build_progress(ROUTED).caught_up);
    assert!(engine.handle().build_progress(DIRECT).caught_up);

    assert_eq!(early.digest(&world.direct).unwrap(), late.digest(&world.direct).unwrap());
    assert_eq!(early.digest(&world.raw).unwrap(), late.digest(&world.raw).unwrap());
    let city = encode_key(&[Value::str("c")]).unwrap();
    assert_eq!(essence(&stored(&early, &world.routed, &city), 0), essence(&stored(&late, &world.routed, &city), 0));
}

#[test]
fn an_erase_takes_everything_below_it_and_nothing_above() {
    let world = World::new();
    for tick_records in [1, 2, 100] {
        let log = new_log();
        let mut batches: Vec<_> = (0..10).map(|n| sent("ann", n, 5.0).batch()).collect();
        batches.push(sent("bob", 3, 5.0).batch());
        batches.push(erase("ann", START));
        batches.push(sent("ann", 4, 6.0).batch());
        append(&log, batches);
        let state = StateStore::in_memory().unwrap();
        let options = EngineOptions { tick_records, durable: false, ..EngineOptions::default() };
        let mut engine = Engine::open(state.clone(), log.clone(), options).unwrap();
        let mut spec = world.spec(true);
        spec.datasets[0].routes.clear();
        engine.deploy(&spec).unwrap();
        engine.run_to_end().unwrap();
        for table in [&world.raw, &world.direct] {
            let left = stored(&state, table, &key("ann"));
            assert_eq!(left.len(), 1, "tick_records={tick_records}");
            assert_eq!(left[0].time, START + 4 * 60_000_000);
            assert_eq!(stored(&state, table, &key("bob")).len(), 1);
        }
    }
}

#[test]
fn late_rows_are_sampled_and_far_future_rows_go_to_the_dead_letters() {
    let world = World::new();
    let log = new_log();
    let batches = vec![
        sent("ann", 0, 1.0).batch(),
        sent("ann", 200, 1.0).batch(),
        sent("ann", 79, 1.0).batch(),
        sent("ann", 80, 1.0).batch(),
        sent("ann", 60 * 24 + 1, 1.0).batch(),
    ];
    append(&log, batches);
    let state = StateStore::in_memory().unwrap();
    let mut engine = world.engine(&state, &log, 2);
    engine.run_to_end().unwrap();
    assert_eq!(stored(&state, &world.raw, &key("ann")).len(), 3);
    let snapshot = state.snapshot();
    let late = snapshot.late_samples(LOG, None, 10).unwrap();
    assert_eq!(late.len(), 1);
    assert!(late[0].reason.contains("below the watermark"), "{}", late[0].reason);
    let dead = snapshot.dead_letters(LOG, None, 10).unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].reason.contains("ahead of its arrival"), "{}", dead[0].reason);
    let status = engine.handle().status().unwrap();
    let total: u64 = status.iter().map(|shard| shard.counters.accepted).sum();
    assert_eq!(total, 3);
}

/// As a source appends it, again and again if it crashes before it has saved its cursor.
fn unreadable(user: Option<&str>, line: u32) -> Batch {
    let key = user.map(key).unwrap_or_default();
    let id = EventId::Given(format!("file:{line}").into_bytes().into());
    let reason = format!("line {line}: expected float");
    let text = if user.is_some() { b"the row".as_slice() } else { b"" };
    let value = Record::Unreadable { append_time: START, id, reason: &reason, text }.encode();
    let partition = partition(&key, PARTITIONS);
    Batch { topic: "Order.v1".to_string(), partition, records: vec![NewRecord::new(key, value)] }
}

#[test]
fn rows_that_a_source_cannot_read_are_dead_letters_once_and_go_with_their_key() {
    let world = World::new();
    for tick_records in [1, 100] {
        let log = new_log();
        let polled = [unreadable(Some("ann"), 2), unreadable(None, 3), unreadable(Some("bob"), 5)];
        append(&log, vec![sent("ann", 0, 1.0).batch(), sent("bob", 1, 1.0).batch()]);
        append(&log, polled.to_vec());
        let state = StateStore::in_memory().unwrap();
        world.engine(&state, &log, tick_records).run_to_end().unwrap();
        // A crash: polled again, into an engine that has started again.
        append(&log, polled.to_vec());
        let mut engine = world.engine(&state, &log, tick_records);
        engine.run_to_end().unwrap();
        let reasons = |user: Option<&str>| {
            let wanted = user.map(key);
            let mut found = state.snapshot().dead_letters(LOG, wanted.as_deref(), 10).unwrap();
            found.sort_by(|a, b| a.reason.cmp(&b.reason));
            found.into_iter().map(|row| row.reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(None), ["line 2: expected float", "line 3: expected float", "line 5: expected float"]);
        let total = |read: fn(&thyme_state::Counters) -> u64| -> u64 {
            engine.handle().status().unwrap().iter().map(|shard| read(&shard.counters)).sum()
        };
        assert_eq!((total(|all| all.dead), total(|all| all.duplicate), total(|all| all.accepted)), (3, 3, 2));
        append(&log, vec![erase("ann", START)]);
        engine.run_to_end().unwrap();
        assert_eq!(reasons(None), ["line 3: expected float", "line 5: expected float"]);
        assert_eq!(reasons(Some("bob")).len(), 1);
        assert_eq!(stored(&state, &world.raw, &key("bob")).len(), 1);
    }
}

#[test]
fn a_position_is_applied_only_when_repartition_logs_have_worked_it_off() {
    let world = World::new();
    let log = new_log();
    let state = StateStore::in_memory().unwrap();
    let mut engine = world.engine(&state, &log, 100);
    let handle = engine.handle();
    let event = sent("ann", 0, 1.0);
    append(&log, vec![event.batch()]);
    let mut position = PositionSet::default();
    position.set(LOG, event.partition(), 1);
    assert!(!handle.is_applied(&position));
    engine.step().unwrap();
    assert!(!handle.is_applied(&position), "accepted, but the city's shard has not read it");
    engine.run_to_end().unwrap();
    assert!(handle.is_applied(&position));
    futures_block(handle.wait_applied(&position, Duration::from_secs(5))).unwrap();
    position.set(LOG, event.partition(), 2);
    let error = futures_block(handle.wait_applied(&position, Duration::from_millis(20))).unwrap_err();
    assert!(error.message().contains("at_least"), "{error}");
}

#[test]
fn a_state_ahead_of_its_log_is_refused() {
    let world = World::new();
    let log = new_log();
    append(&log, vec![sent("ann", 0, 1.0).batch()]);
    let state = StateStore::in_memory().unwrap();
    world.engine(&state, &log, 100).run_to_end().unwrap();
    let other_log = new_log();
    let mut engine = Engine::open(state, other_log, EngineOptions::default()).unwrap();
    let error = engine.deploy(&world.spec(true)).unwrap_err();
    assert!(error.message().contains("ahead of the log"), "{error}");
}
