//! Single scenes: erase, builds, dead letters, late rows, at_least.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod common;

use common::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::Value;
use thyme_core::key::{encode_key, partition};
use thyme_core::position::{Position, PositionSet};
use thyme_core::record::{EventId, Record, encode_row};
use thyme_core::time::ClockMode;
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

#[test]
fn on_the_event_clock_no_event_is_too_far_in_the_future() {
    let world = World::new();
    let log = new_log();
    let minutes = [0, 60 * 24 + 1, 60 * 22, 60 * 24 * 400];
    append(&log, minutes.map(|minute| sent("ann", minute, 1.0).batch()).to_vec());
    let state = StateStore::in_memory().unwrap();
    let options = EngineOptions { clock: ClockMode::Event, durable: false, ..EngineOptions::default() };
    let mut engine = Engine::open(state.clone(), log, options).unwrap();
    engine.deploy(&world.spec(true)).unwrap();
    engine.run_to_end().unwrap();
    assert!(dead(&state, LOG).is_empty());
    let kept: Vec<i64> = stored(&state, &world.raw, &key("ann")).iter().map(|event| event.time).collect();
    // The one that is left out is late: the event that is a day ahead counts for the watermark as any other.
    assert_eq!(kept, [0, 60 * 24 + 1, 60 * 24 * 400].map(|minute| START + minute * 60_000_000));
    assert_eq!(state.snapshot().late_samples(LOG, None, 10).unwrap().len(), 1);
}

/// Each at the same event time; the bool: whether it counts.
fn check_dedup(sent_at: &[(i64, EventId, &str, bool)]) {
    let mut definitions = definitions();
    definitions.datasets[0].dedup_window = Some("1h".to_string());
    let world = World::of(&definitions);
    let event = |(append_time, id, user, _): &(i64, EventId, &str, bool)| Sent {
        append_time: *append_time,
        id: id.clone(),
        ..sent(user, 0, 1.0)
    };
    for tick_records in [1, 2, 100] {
        let log = new_log();
        let state = StateStore::in_memory().unwrap();
        for batch in sent_at.iter().map(event) {
            append(&log, vec![batch.batch()]);
        }
        let mut engine = world.engine(&state, &log, tick_records);
        engine.run_to_end().unwrap();
        for user in ["ann", "bob"] {
            let of_user = sent_at.iter().filter(|(_, _, name, _)| *name == user);
            let wanted: Vec<i64> =
                of_user.filter(|(.., counts)| *counts).map(|(append_time, ..)| *append_time).collect();
            let found = stored(&state, &world.raw, &key(user));
            let found: Vec<i64> = found.iter().map(|event| event.append_time).collect();
            assert_eq!(found, wanted, "{user} {tick_records}");
        }
        let counted: u64 = engine.handle().status().unwrap().iter().map(|shard| shard.counters.duplicate).sum();
        assert_eq!(counted, sent_at.iter().filter(|(.., counts)| !counts).count() as u64);
    }
}

#[test]
fn an_id_counts_again_after_twice_the_dedup_window_and_not_within_it() {
    const MINUTE: i64 = 60_000_000;
    let edge = START - START % HOUR;
    let call = |row| EventId::Call { call: 7, row };
    let given = |text: &'static str| EventId::Given(text.as_bytes().into());
    // Where in its bucket the first one comes.
    for phase in [0, 1, 30 * MINUTE, HOUR - 1] {
        let at = |minutes: i64| edge + phase + minutes * MINUTE;
        for (id, other) in [(given("o-1"), given("o-2")), (call(3), call(4))] {
            check_dedup(&[
                (at(0), id.clone(), "ann", true),
                (at(1), id.clone(), "ann", false),
                (at(59), id.clone(), "ann", false),
                (at(59), other.clone(), "ann", true),
                (at(60), id.clone(), "ann", false),
                (at(120), id.clone(), "ann", true),
                (at(179), id.clone(), "ann", false),
                (at(179), other.clone(), "ann", true),
                (at(180), id.clone(), "ann", false),
            ]);
        }
        check_dedup(&[(at(0), given("o-1"), "ann", true), (at(1), given("o-1"), "bob", true)]);
    }
}

#[test]
fn what_a_pipeline_leaves_out_is_counted_once() {
    let mut definitions = definitions();
    let steps = |city: &str| {
        let text = format!(
            r#"[{{"op": "filter", "expr": {{"call": {{"op": "gt", "args": [{{"col": "amount"}}, {{"lit": {{"float": 1.0}}}}]}}}}}},
                {{"op": "assign", "columns": [
                  {{"name": "amount", "expr": {{"call": {{"op": "div", "args": [{{"col": "amount"}},
                     {{"call": {{"op": "sub", "args": [{{"col": "amount"}}, {{"lit": {{"float": 5.0}}}}]}}}}]}}}}}}{city}]}}]"#
        );
        serde_json::from_str::<Vec<thyme_core::definition::StepDef>>(&text).unwrap()
    };
    definitions.pipelines[0].steps.remove(0);
    definitions.pipelines[0].steps.extend(steps(""));
    let city = r#", {"name": "city", "expr": {"call": {"op": "json_extract", "args": [{"col": "city"}, {"lit": {"str": "$.name"}}]}}}"#;
    definitions.pipelines[1].steps = steps(city);
    let world = World::of(&definitions);

    let order =
        |user: &str, amount: f64, city: Option<&str>| Sent { city: city.map(str::to_string), ..sent(user, 0, amount) };
    let (rome, oslo) = (Some(r#"{"name": "Rome"}"#), Some(r#"{"name": "Oslo"}"#));
    let events = [
        order("ann", 2.0, rome),
        order("bob", 3.0, rome),
        order("ann", 7.0, oslo),
        order("bob", 1.0, rome),
        // The division is by zero.
        order("ann", 5.0, rome),
        order("bob", 5.0, None),
        order("ann", 2.0, None),
        order("ann", 1.0, None),
        // The group key is not JSON.
        order("cid", 2.0, Some("Rome")),
    ];
    let log = new_log();
    let state = StateStore::in_memory().unwrap();
    // Accepted, filtered, without a group key, expressions that came to null.
    let counters = |engine: &Engine| {
        let of = |table, log| {
            let found = engine.handle().pipeline_counters(table, log).unwrap();
            (found.accepted, found.filtered, found.null_key, found.warnings)
        };
        (of(DIRECT, None), of(ROUTED, Some(ROUTE)))
    };
    append(&log, events[..4].iter().map(Sent::batch).collect());
    world.engine(&state, &log, 2).run_to_end().unwrap();
    append(&log, events[4..].iter().map(Sent::batch).collect());
    let mut engine = world.engine(&state, &log, 2);
    engine.run_to_end().unwrap();
    assert_eq!(counters(&engine), ((7, 2, 0, 2), (4, 1, 4, 2)));

    // From the start of the log into another state, whose repartition log is there already.
    let again = StateStore::in_memory().unwrap();
    let mut engine = world.engine(&again, &log, 100);
    engine.run_to_end().unwrap();
    assert_eq!(counters(&engine), ((7, 2, 0, 2), (4, 1, 4, 2)));
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
    let whole = BTreeSet::from([0]);
    futures_block(handle.wait_applied(&whole, &position, Duration::from_secs(5))).unwrap();
    position.set(LOG, event.partition(), 2);
    let error = futures_block(handle.wait_applied(&whole, &position, Duration::from_millis(20))).unwrap_err();
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

/// What a foreign producer may write: bytes that are none of our records, and records that are not of this dataset.
fn poison() -> Vec<(Vec<u8>, Vec<u8>, &'static str)> {
    let good = sent("ann", 7, 5.0);
    let mut row = Vec::new();
    encode_row(&good.row(), &mut row);
    let event =
        |event_time: i64, row: &[u8]| Record::Event { append_time: START, event_time, id: EventId::None, row }.encode();
    let mut nan = Vec::new();
    encode_row(&[Value::str("ann"), Value::Time(START), Value::Float(f64::NAN), Value::Null], &mut nan);
    let erase = Record::Erase { append_time: START }.encode();
    let routed = |row: &[u8], partition: u16| {
        let origin = Position { partition, offset: 1 << 40 };
        Record::Routed { append_time: START, event_time: START, origin, row }.encode()
    };
    vec![
        (Vec::new(), Vec::new(), "does not decode"),
        (key("ann"), b"{\"user\": \"ann\"}".to_vec(), "format version"),
        (key("ann"), event(START, &row[..row.len() - 3]), "does not decode"),
        (key("ann"), event(START, &[9]), "does not decode"),
        (key("ann"), event(START, &nan), "no value"),
        (key("ann"), event(i64::MAX, &row), "out of range"),
        (b"ann".to_vec(), event(START, &row), "key does not decode"),
        (Vec::new(), erase.clone(), "key does not decode"),
        (key("ann")[..2].to_vec(), erase, "key does not decode"),
        (key("ann"), routed(&row, 200), "no such place"),
        (key("ann"), routed(&row[..5], 0), "does not decode"),
    ]
}

fn put(log: &Arc<dyn EventLog>, topic: &str, partition: u16, key: &[u8], value: &[u8]) {
    let records = vec![NewRecord::new(key.to_vec(), value.to_vec())];
    futures_block(log.append(vec![Batch { topic: topic.to_string(), partition, records }])).unwrap();
}

fn dead(state: &Arc<StateStore>, log: u32) -> Vec<String> {
    state.snapshot().dead_letters(log, None, 100).unwrap().into_iter().map(|row| row.reason).collect()
}

#[test]
fn poisoned_records_in_a_datasets_log_are_dead_letters_and_the_shard_goes_on() {
    let world = World::new();
    for tick_records in [1, 100] {
        let log = new_log();
        append(&log, vec![sent("ann", 0, 2.0).batch(), sent("bob", 1, 2.0).batch()]);
        let right = partition(&key("ann"), PARTITIONS);
        // A row of a key that lives elsewhere, and an erase of it: both would break what holds of a key's rows.
        let elsewhere = (right + 1) % PARTITIONS;
        let good = sent("ann", 9, 4.0).batch().records.remove(0);
        put(&log, "Order.v1", elsewhere, &good.key, &good.value);
        put(&log, "Order.v1", elsewhere, &key("ann"), &erase("ann", START).records[0].value);
        let all = poison();
        let wanted = all.iter().filter(|(_, value, _)| !matches!(Record::decode(value), Ok(Record::Routed { .. })));
        for (key, value, _) in &all {
            put(&log, "Order.v1", right, key, value);
        }
        append(&log, vec![sent("ann", 2, 3.0).batch(), sent("bob", 3, 3.0).batch()]);
        let state = StateStore::in_memory().unwrap();
        let mut engine = world.engine(&state, &log, tick_records);
        engine.run_to_end().unwrap();
        for table in [&world.raw, &world.direct] {
            assert_eq!(stored(&state, table, &key("ann")).len(), 2, "tick_records={tick_records}");
            assert_eq!(stored(&state, table, &key("bob")).len(), 2);
        }
        let reasons = dead(&state, LOG);
        assert_eq!(reasons.len(), all.len() + 2, "{reasons:#?}");
        for (_, value, reason) in wanted {
            assert!(reasons.iter().any(|told| told.contains(reason)), "{reason} ({value:?}): {reasons:#?}");
        }
        assert_eq!(reasons.iter().filter(|told| told.contains(&format!("belongs to partition {right}"))).count(), 2);
        // What is built from the start of the log sees the same events.
        let again = StateStore::in_memory().unwrap();
        world.engine(&again, &log, 3).run_to_end().unwrap();
        assert_eq!(again.digest(&world.raw).unwrap(), state.digest(&world.raw).unwrap());
        assert_eq!(again.digest(&world.direct).unwrap(), state.digest(&world.direct).unwrap());
    }
}

#[test]
fn poisoned_records_in_a_repartition_log_are_dead_letters_and_the_shard_goes_on() {
    let world = World::new();
    let topic = world.compiled.pipelines["CityStats.compute"].route.as_ref().unwrap().topic.clone();
    for tick_records in [1, 100] {
        let log = new_log();
        let state = StateStore::in_memory().unwrap();
        append(&log, vec![sent("ann", 0, 2.0).batch()]);
        world.engine(&state, &log, tick_records).run_to_end().unwrap();
        let city = encode_key(&[Value::str("c")]).unwrap();
        let right = partition(&city, PARTITIONS);
        let all = poison();
        for (key, value, _) in &all {
            put(&log, &topic, right, key, value);
            // `found_in_output` looks at the first partition.
            put(&log, &topic, 0, key, value);
        }
        append(&log, vec![sent("ann", 2, 3.0).batch(), sent("bob", 3, 3.0).batch()]);
        let mut engine = world.engine(&state, &log, tick_records);
        engine.run_to_end().unwrap();
        assert_eq!(stored(&state, &world.routed, &city).len(), 3, "tick_records={tick_records}");
        let reasons = dead(&state, ROUTE);
        let partitions = if right == 0 { 1 } else { 2 };
        assert_eq!(reasons.len(), partitions * if right == 0 { 2 * all.len() } else { all.len() }, "{reasons:#?}");
        assert!(reasons.iter().all(|reason| reason.starts_with(&topic)), "{reasons:#?}");
        for reason in ["does not decode", "format version", "unrouted record", "no such place"] {
            assert!(reasons.iter().any(|told| told.contains(reason)), "{reason}: {reasons:#?}");
        }
        let status = engine.handle().status().unwrap();
        let counted: u64 = status.iter().filter(|shard| shard.is_repartition).map(|shard| shard.counters.dead).sum();
        assert_eq!(counted, reasons.len() as u64);
        // The next engine has nothing to say about them again, and counts on.
        world.engine(&state, &log, tick_records).run_to_end().unwrap();
        assert_eq!(dead(&state, ROUTE).len(), reasons.len());
        let again = StateStore::in_memory().unwrap();
        world.engine(&again, &log, 3).run_to_end().unwrap();
        assert_eq!(again.digest(&world.routed).unwrap(), state.digest(&world.routed).unwrap());
    }
}
