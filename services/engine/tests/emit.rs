//! Topics of aggregated datasets: each accepted event has its row once, as of its own position, whatever the ticks, the restarts
//! and the lost transactions.

mod common;

use common::emitted::{check_emitted, emitted, records};
use common::*;
use proptest::prelude::*;
use std::sync::Arc;
use thyme_core::record::EventId;
use thyme_core::testing::cases;
use thyme_engine::{Engine, EngineOptions, Role};
use thyme_log::EventLog;
use thyme_log::model::FaultyLog;
use thyme_state::StateStore;

const START: i64 = 1_700_000_000_000_000;

fn event() -> impl Strategy<Value = Sent> {
    let city = proptest::option::weighted(0.9, 0u8..3);
    (0u8..4, 0i64..30 * HOUR, 0u32..400, city).prop_map(|(user, time, cents, city)| Sent {
        user: format!("u{user}"),
        // Minutes, so that events lie at the ends of windows.
        time: START + time / 60_000_000 * 60_000_000,
        amount: f64::from(cents) / 100.0,
        city: city.map(|city| format!("c{city}")),
        id: EventId::None,
        append_time: START,
    })
}

fn order(user: &str, minute: i64, amount: f64) -> Sent {
    let time = START + minute * 60_000_000;
    Sent { user: user.into(), time, amount, city: Some("c1".into()), id: EventId::None, append_time: START }
}

#[test]
fn how_far_a_topic_is_behind_its_pipeline_is_known() {
    let events: Vec<Sent> = (0..40).map(|minute| order("u1", minute, 2.0)).collect();
    let log = log_with(&events);
    let world = World::emitting();
    let state = StateStore::in_memory().unwrap();
    let mut engine = world.engine(&state, &log, 10);
    let handle = engine.handle();
    let lag = |topic: &str| {
        let emissions = handle.emissions().into_iter().filter(|emission| emission.topic == topic);
        let lags: Vec<u64> = emissions.map(|emission| emission.lag).collect();
        (lags.len(), lags.iter().sum::<u64>())
    };
    let partitions = usize::from(PARTITIONS);
    assert_eq!(lag("UserStats.v1.compute.v1"), (partitions, 0));
    engine.step().unwrap();
    // A round behind.
    assert_eq!(lag("UserStats.v1.compute.v1"), (partitions, 10));
    engine.run_to_end().unwrap();
    assert_eq!(lag("UserStats.v1.compute.v1"), (partitions, 0));
    assert_eq!(lag("CityStats.v1.compute.v1"), (partitions, 0));

    engine.set_role(Role::Follower).unwrap();
    assert!(handle.emissions().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300, 1_000), ..ProptestConfig::default() })]

    #[test]
    fn every_event_has_its_row_once(
        events in proptest::collection::vec(event(), 1..80),
        ticks in proptest::collection::vec(1usize..20, 1..6),
        seed: u64,
        loses_state: bool,
    ) {
        let world = World::emitting();
        let inner = log_with(&events);
        let faulty = Arc::new(FaultyLog::seeded_commits(inner.clone(), seed, 3).with_late_reads(seed, 6));
        let log: Arc<dyn EventLog> = faulty.clone();
        let mut state = StateStore::in_memory().unwrap();
        for (turn, size) in ticks.iter().enumerate() {
            if loses_state && turn == 2 {
                state = StateStore::in_memory().unwrap();
            }
            let mut engine = world.engine(&state, &log, *size);
            for _ in 0..4 {
                let _ = engine.step();
            }
        }
        faulty.heal();
        world.engine(&state, &log, 7).run_to_end().unwrap();
        check_emitted(&inner, &world, &accepted(&events));
    }

    #[test]
    fn an_emission_that_is_asked_for_later_is_whole(
        events in proptest::collection::vec(event(), 1..80),
        before in 0usize..30,
        tick in 1usize..20,
    ) {
        let log = log_with(&events);
        let state = StateStore::in_memory().unwrap();
        let mut engine = World::new().engine(&state, &log, 3);
        for _ in 0..before {
            engine.step().unwrap();
        }
        drop(engine);
        let world = World::emitting();
        world.engine(&state, &log, tick).run_to_end().unwrap();
        check_emitted(&log, &world, &accepted(&events));
    }
}

#[test]
fn a_later_late_event_changes_no_record() {
    let (world, state) = (World::emitting(), StateStore::in_memory().unwrap());
    let mut events = vec![order("u", 0, 2.0), order("u", 30, 3.0)];
    let log = log_with(&events);
    let mut engine = world.engine(&state, &log, 100);
    engine.run_to_end().unwrap();
    let partition = events[0].partition();
    let read = || emitted(&log, &world, "UserStats.compute", "Order.v1", partition);
    let first = read();
    events.push(order("u", 10, 4.0));
    append(&log, vec![events[2].batch()]);
    engine.run_to_end().unwrap();
    let rows = read();
    assert_eq!(rows[..2], first);
    assert_eq!(rows[2].1["n"], 2);
    assert_eq!(rows[2].1["total"], 6.0);
    check_emitted(&log, &world, &accepted(&events));
}

#[test]
fn rows_after_an_erase_start_afresh_and_those_before_stay() {
    let (world, state) = (World::emitting(), StateStore::in_memory().unwrap());
    let log = log_with(&[order("u", 0, 2.0), order("u", 1, 3.0)]);
    let mut engine = world.engine(&state, &log, 100);
    engine.run_to_end().unwrap();
    append(&log, vec![erase("u", START), order("u", 2, 5.0).batch()]);
    engine.run_to_end().unwrap();
    let rows = emitted(&log, &world, "UserStats.compute", "Order.v1", order("u", 0, 0.0).partition());
    let essence: Vec<_> =
        rows.iter().map(|(offset, row)| (*offset, row["n"].as_i64(), row["total"].as_f64())).collect();
    assert_eq!(essence, [(0, Some(1), Some(2.0)), (1, Some(2), Some(5.0)), (3, Some(1), Some(5.0))]);
}

#[test]
fn an_event_that_was_erased_before_its_record_was_written_has_none() {
    let (world, state) = (World::emitting(), StateStore::in_memory().unwrap());
    let log = log_with(&[order("u", 0, 2.0)]);
    append(&log, vec![erase("u", START), order("u", 2, 5.0).batch()]);
    world.engine(&state, &log, 100).run_to_end().unwrap();
    let rows = emitted(&log, &world, "UserStats.compute", "Order.v1", order("u", 0, 0.0).partition());
    assert_eq!(rows.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [2]);
}

/// No record says that the topic has been past the event: the committed offset alone does.
#[test]
fn an_event_that_was_erased_first_has_no_record_from_a_new_state_either() {
    let world = World::emitting();
    let log = log_with(&[order("u", 0, 2.0)]);
    append(&log, vec![erase("u", START)]);
    let rows = || emitted(&log, &world, "UserStats.compute", "Order.v1", order("u", 0, 0.0).partition());
    world.engine(&StateStore::in_memory().unwrap(), &log, 100).run_to_end().unwrap();
    assert_eq!(rows(), []);
    // It takes in the event a round before the erase.
    world.engine(&StateStore::in_memory().unwrap(), &log, 1).run_to_end().unwrap();
    assert_eq!(rows(), []);
}

#[test]
fn what_the_log_has_already_is_not_written_again_by_a_new_state() {
    let world = World::emitting();
    let events = [order("u", 0, 2.0), order("v", 5, 0.5), order("u", 9, 3.0)];
    let log = log_with(&events);
    world.engine(&StateStore::in_memory().unwrap(), &log, 2).run_to_end().unwrap();
    let topic = world.emission("UserStats.compute").topic();
    let before: Vec<_> = (0..PARTITIONS).map(|partition| records(&log, &topic, partition)).collect();
    world.engine(&StateStore::in_memory().unwrap(), &log, 1).run_to_end().unwrap();
    let after: Vec<_> = (0..PARTITIONS).map(|partition| records(&log, &topic, partition)).collect();
    assert_eq!(before, after);
    check_emitted(&log, &world, &accepted(&events));
}

#[test]
fn a_follower_writes_nothing_and_goes_on_where_the_owner_ended() {
    let world = World::emitting();
    let events: Vec<Sent> = (0..40).map(|index| order(&format!("u{}", index % 5), index, 2.0 + index as f64)).collect();
    let log = log_with(&events[..20]);
    let mut owner = world.engine(&StateStore::in_memory().unwrap(), &log, 3);
    // It stops in the middle.
    for _ in 0..3 {
        owner.step().unwrap();
    }
    let options = EngineOptions { tick_records: 4, durable: false, role: Role::Follower, ..EngineOptions::default() };
    let mut follower = Engine::open(StateStore::in_memory().unwrap(), log.clone(), options).unwrap();
    follower.deploy(&world.spec(true)).unwrap();
    let topics = ["UserStats.compute", "CityStats.compute"].map(|pipeline| world.emission(pipeline).topic());
    let written = || -> usize {
        let places = topics.iter().flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic, partition)));
        places.map(|(topic, partition)| records(&log, topic, partition).len()).sum()
    };
    let before = written();
    assert!(before > 0, "the owner has not begun");
    append(&log, events[20..30].iter().map(Sent::batch).collect());
    follower.run_to_end().unwrap();
    assert_eq!(written(), before);

    follower.set_role(Role::Owner).unwrap();
    follower.run_to_end().unwrap();
    check_emitted(&log, &world, &accepted(&events[..30]));
    // The old one believes to be the owner for a while; then it is again.
    append(&log, events[30..].iter().map(Sent::batch).collect());
    while owner.step().is_err() || owner.step().is_ok_and(|records| records > 0) {}
    owner.run_to_end().unwrap();
    check_emitted(&log, &world, &accepted(&events));
    follower.set_role(Role::Follower).unwrap();
    follower.run_to_end().unwrap();
    check_emitted(&log, &world, &accepted(&events));
}
