//! `history=`: what a table lets go of depends on the accepted events alone, whatever the ticks, restarts and builds, and nothing goes that
//! an answer may need.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod common;

use common::*;
use proptest::prelude::*;
use std::sync::Arc;
use thyme_core::Value;
use thyme_core::aggregate::{Partial, WindowData, WindowRead};
use thyme_core::key::{encode_key, partition, vnode};
use thyme_core::position::Position;
use thyme_core::record::EventId;
use thyme_core::testing::cases;
use thyme_core::window::Window;
use thyme_engine::Engine;
use thyme_log::chance::Chance;
use thyme_state::{StateStore, Sweeper, Table, Visible};

const USERS: u8 = 9;
const CITIES: u8 = 3;
const START: i64 = 1_700_000_000_000_000;

/// Two days and more of events that come roughly in order; some too late, some into partitions that have been silent for long.
fn events() -> impl Strategy<Value = Vec<Sent>> {
    let event = (0..USERS, -4 * HOUR..4 * HOUR, 0u32..400, proptest::option::weighted(0.9, 0..CITIES));
    proptest::collection::vec(event, 20..160).prop_map(|events| {
        let event = |(index, (user, jitter, cents, city)): (usize, (u8, i64, u32, Option<u8>))| Sent {
            user: format!("u{user}"),
            time: START + index as i64 * HOUR / 3 + jitter,
            amount: f64::from(cents) / 100.0,
            city: city.map(|city| format!("c{city}")),
            id: EventId::None,
            append_time: START + 100 * HOUR,
        };
        events.into_iter().enumerate().map(event).collect()
    })
}

/// A table holds the events from `kept_from` on and no others; that lies below all that a T above the horizon can need.
fn check_key(
    state: &Arc<StateStore>,
    table: &Table,
    name: &str,
    watermark: impl Fn(&[u8]) -> Option<i64>,
    all: Vec<(i64, Position, Value)>,
) -> usize {
    let key = encode_key(&[Value::str(name)]).unwrap();
    let watermark = watermark(&key);
    let from = table.kept_from(vnode(&key), watermark);
    assert_eq!(from.is_some(), watermark.is_some());
    if let (Some(from), Some(watermark)) = (from, watermark) {
        // Two hours of history and two of the longest window; no more than two root blocks (4.8 hours each) beyond.
        assert!(from <= watermark - 4 * HOUR && from > watermark - 14 * HOUR);
    }
    let count = all.len();
    let left = left(table, &key, watermark, all);
    assert_eq!(essence(&stored(state, table, &key), 0), left, "{name}");
    count - left.len()
}

/// How many events have gone.
fn check_against_model(world: &World, state: &Arc<StateStore>, events: &[Sent]) -> usize {
    let kept = accepted(events);
    let watermarks = watermarks(&kept);
    let mut gone = 0;
    for user in 0..USERS {
        let name = format!("u{user}");
        let all = expected(&kept, |event| event.user == name && event.amount > 1.0);
        let own = |key: &[u8]| watermarks.get(&partition(key, PARTITIONS)).copied();
        gone += check_key(state, &world.direct, &name, own, all);
    }
    let slowest = slowest(&watermarks);
    for city in 0..CITIES {
        let name = format!("c{city}");
        let all = expected(&kept, |event| event.city.as_deref() == Some(name.as_str()));
        gone += check_key(state, &world.routed, &name, |_| slowest, all);
    }
    // Rows that are looked up one by one have no window: none goes.
    let rows = expected(&kept, |_| true).len();
    let found: usize = (0..USERS)
        .map(|user| stored(state, &world.raw, &encode_key(&[Value::str(format!("u{user}"))]).unwrap()).len())
        .sum();
    assert_eq!(found, rows);
    gone
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300, 2_000), ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_does_not_depend_on_ticks_restarts_or_builds(
        events in events(),
        ticks in proptest::collection::vec(1usize..20, 1..6),
        built_at in 0usize..160,
        seed: u64,
    ) {
        let world = World::of(&forgetful_definitions());
        let calm = StateStore::in_memory().unwrap();
        world.engine(&calm, &log_with(&events), 1_000).run_to_end().unwrap();
        check_against_model(&world, &calm, &events);

        let (stormy, inner) = after_a_storm(&world, &events, &ticks, seed);
        check_against_model(&world, &stormy, &events);
        prop_assert_eq!(calm.digest(&world.direct).unwrap(), stormy.digest(&world.direct).unwrap());

        // The same repartition log, read again.
        let again = StateStore::in_memory().unwrap();
        world.engine(&again, &inner, 11).run_to_end().unwrap();
        prop_assert_eq!(again.digest(&world.routed).unwrap(), stormy.digest(&world.routed).unwrap());

        // The tables are added when part of the log has been worked off, and built while the rest comes.
        let late = StateStore::in_memory().unwrap();
        let (before, after) = events.split_at(built_at.min(events.len()));
        let log = log_with(before);
        let mut engine: Engine = world.engine(&late, &log, 13);
        engine.deploy(&world.spec(false)).unwrap();
        engine.run_to_end().unwrap();
        engine.deploy(&world.spec(true)).unwrap();
        engine.step().unwrap();
        append(&log, after.iter().map(Sent::batch).collect());
        engine.run_to_end().unwrap();
        check_against_model(&world, &late, &events);
        prop_assert_eq!(calm.digest(&world.direct).unwrap(), late.digest(&world.direct).unwrap());
    }
}

#[test]
fn old_events_go_and_an_erase_does_not_bring_them_back() {
    let world = World::of(&forgetful_definitions());
    let state = StateStore::in_memory().unwrap();
    let event = |index: i64| Sent {
        user: format!("u{}", index % i64::from(USERS)),
        time: START + index * HOUR / 8,
        amount: 2.0,
        city: Some(format!("c{}", index % i64::from(CITIES))),
        id: EventId::None,
        append_time: START + 100 * HOUR,
    };
    // 100 hours, some 33 events an hour and key.
    let events: Vec<Sent> = (0..800).map(event).collect();
    let log = log_with(&events[..400]);
    let mut engine = world.engine(&state, &log, 50);
    engine.run_to_end().unwrap();
    append(&log, events[400..].iter().map(Sent::batch).collect());
    engine.run_to_end().unwrap();
    let gone = check_against_model(&world, &state, &events);
    assert!(gone > 1_200, "of 1600 only {gone}");

    append(&log, vec![erase("u3", START + 101 * HOUR)]);
    engine.run_to_end().unwrap();
    assert_eq!(stored(&state, &world.direct, &encode_key(&[Value::str("u3")]).unwrap()), Vec::new());
}

/// An export reads its snapshots for as long as it takes, while ticks delete whole blocks: what it reads is as of its beginning.
#[test]
fn a_snapshot_has_what_ticks_let_go_of_since() {
    let world = World::of(&forgetful_definitions());
    let state = StateStore::in_memory().unwrap();
    let mut chance = Chance::new(5);
    let mut event = |index: i64| Sent {
        user: format!("u{}", chance.below(usize::from(USERS))),
        time: START + index * HOUR / 8 - chance.below(7_000) as i64 * 1_000_000,
        amount: 2.0,
        city: None,
        id: EventId::None,
        append_time: START + 300 * HOUR,
    };
    let events: Vec<Sent> = (0..1_200).map(&mut event).collect();
    let (before, after) = events.split_at(400);
    let log = log_with(before);
    let mut engine = world.engine(&state, &log, 20);
    engine.run_to_end().unwrap();
    let (snapshot, kept) = (state.snapshot(), accepted(before));
    let watermarks = watermarks(&kept);
    let windows = [WindowRead { window: Window::Length(2 * HOUR), partials: vec![0], scans: Vec::new() }];
    let check = || {
        let mut compared = 0;
        for user in (0..USERS).map(|user| format!("u{user}")) {
            let key = encode_key(&[Value::str(user.as_str())]).unwrap();
            let horizon = watermarks[&partition(&key, PARTITIONS)] - 2 * HOUR;
            let times: Vec<i64> = (0..24).map(|step| horizon + step * HOUR / 4).collect();
            let count = |at: i64| {
                let inside = |event: &Sent| event.user == user && at - 2 * HOUR <= event.time && event.time <= at;
                kept.iter().filter(|(_, event)| inside(event)).count() as u64
            };
            let mut seen = Vec::new();
            let mut visit = |which: usize, data: &[WindowData]| {
                seen.push((times[which], data[0].partials.clone()));
                Ok(())
            };
            Sweeper::new(&world.direct, &windows)
                .unwrap()
                .sweep(&snapshot, &key, &times, &Visible::ALL, &mut visit)
                .unwrap();
            for (at, swept) in seen {
                let read = snapshot.read(&world.direct, &key, at, &windows, &Visible::ALL).unwrap();
                assert_eq!(swept, read[0].partials);
                assert_eq!(swept, [Partial::Count(count(at))], "{user} at {at}");
                compared += count(at);
            }
        }
        compared
    };
    let compared = check();
    assert!(compared > 200, "{compared}");
    for part in after.chunks(50) {
        append(&log, part.iter().map(Sent::batch).collect());
        engine.run_to_end().unwrap();
        assert_eq!(check(), compared);
    }
    assert!(check_against_model(&world, &state, &events) > 800);
}
