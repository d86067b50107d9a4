//! Erases and tables that group by another key: they are built anew from a repartition log that holds copies of the erased events,
//! and take over. What they hold is what a naive model accepts that knows the erases ahead, whatever the ticks, restarts and lost
//! transactions, in any state that reads the same logs.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod common;

use common::emitted::emitted;
use common::*;
use proptest::prelude::*;
use std::sync::Arc;
use thyme_core::Value;
use thyme_core::key::encode_key;
use thyme_core::record::EventId;
use thyme_core::testing::cases;
use thyme_engine::{Engine, EngineOptions, JobSpec, Role};
use thyme_log::model::FaultyLog;
use thyme_log::{EmbeddedLog, EventLog};
use thyme_state::{StateStore, Table};

const START: i64 = 1_700_000_000_000_000;
/// Ids of tables that take over from `ROUTED`.
const FIRST: u32 = 20;
const SECOND: u32 = 21;
const THIRD: u32 = 22;

/// With the erases below these places left out of the table of cities, which has this id.
fn knowing(places: &[u64], table: u32) -> World {
    let mut definitions = definitions();
    definitions.erased.insert("Order@1".to_string(), places.to_vec());
    let mut world = World::of(&definitions);
    world.routed.id = table;
    world
}

/// What serves, and what is to take over from it.
fn both(live: &World, next: &World) -> JobSpec {
    let mut spec = live.spec(true);
    let mut other = next.spec(true).datasets.remove(0);
    spec.datasets[0].routes[0].pipelines.extend(other.routes.remove(0).pipelines);
    spec
}

fn engine_of(spec: &JobSpec, state: &Arc<StateStore>, log: &Arc<dyn EventLog>, tick: usize, role: Role) -> Engine {
    let options = EngineOptions { tick_records: tick, durable: false, role, ..EngineOptions::default() };
    let mut engine = Engine::open(state.clone(), log.clone(), options).unwrap();
    engine.deploy(spec).unwrap();
    engine
}

fn new_log() -> Arc<dyn EventLog> {
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
    append(&log, Vec::new());
    log
}

fn write(log: &Arc<dyn EventLog>, written: &[Written]) {
    append(log, written.iter().map(Written::batch).collect());
}

/// Works `more` off with engines that vanish in the midst of it and lose transactions; the last comes to the end.
fn storm(
    spec: &JobSpec,
    state: &Arc<StateStore>,
    log: &Arc<dyn EventLog>,
    more: &[Written],
    ticks: &[usize],
    seed: u64,
) -> Engine {
    let faulty = Arc::new(FaultyLog::seeded_commits(log.clone(), seed, 3).with_late_reads(seed, 6));
    let bad: Arc<dyn EventLog> = faulty.clone();
    let share = more.len().div_ceil(ticks.len()).max(1);
    let mut rest = more.chunks(share);
    for size in ticks {
        let mut engine = engine_of(spec, state, &bad, *size, Role::Owner);
        for _ in 0..3 {
            let _ = engine.step();
        }
        write(log, rest.next().unwrap_or_default());
    }
    faulty.heal();
    let mut engine = engine_of(spec, state, log, 7, Role::Owner);
    engine.run_to_end().unwrap();
    engine
}

fn city(name: &str) -> Vec<u8> {
    encode_key(&[Value::str(name)]).unwrap()
}

/// The table of cities against the naive model that knows the erases below `places`.
fn check_cities(state: &impl Held, table: &Table, written: &[Written], places: &[u64]) {
    let kept = accepted_below(written, places);
    for name in ["c0", "c1", "c2"] {
        let found = essence(&stored(state, table, &city(name)), 0);
        assert_eq!(found, expected(&kept, |event| event.city.as_deref() == Some(name)), "{name}, places {places:?}");
    }
}

/// A table beside erases that it does not know. Of an event that such an erase takes there may be a copy in the repartition log or
/// not, as the ticks were cut: it is there at most, and all others are.
fn check_pending(state: &Arc<StateStore>, table: &Table, written: &[Written], places: &[u64]) {
    let most = accepted_below(written, places);
    let least = accepted_below(written, &[u64::MAX; PARTITIONS as usize]);
    for name in ["c0", "c1", "c2"] {
        let is_there = |event: &Sent| event.city.as_deref() == Some(name);
        let found = essence(&stored(state, table, &city(name)), 0);
        let (most, least) = (expected(&most, is_there), expected(&least, is_there));
        assert!(found.iter().all(|event| most.contains(event)), "{name}: {found:?} beyond {most:?}");
        assert!(least.iter().all(|event| found.contains(event)), "{name}: {found:?} lacks some of {least:?}");
    }
}

/// Other states that read the same logs have the same rows, to the byte.
fn check_others(log: &Arc<dyn EventLog>, state: &impl Held, world: &World) {
    let spec = world.spec(true);
    for (role, tick) in [(Role::Owner, 1), (Role::Owner, 11), (Role::Follower, 3)] {
        let again = StateStore::in_memory().unwrap();
        engine_of(&spec, &again, log, tick, role).run_to_end().unwrap();
        for table in [&world.routed, &world.direct, &world.raw] {
            assert_eq!(again.digest(table).unwrap(), digest_of(state, table), "{role:?} {tick}");
        }
    }
    check_rebuilt(log, state, &spec);
}

/// Tables by the dataset's own key: every erase reaches them at once.
fn check_users(state: &Arc<StateStore>, world: &World, written: &[Written]) {
    let kept = accepted_below(written, &[u64::MAX; PARTITIONS as usize]);
    for user in 0..4 {
        let user = format!("u{user}");
        let key = encode_key(&[Value::str(user.as_str())]).unwrap();
        let found = essence(&stored(state, &world.raw, &key), 2);
        assert_eq!(found, expected(&kept, |event| event.user == user), "{user}");
        let found = essence(&stored(state, &world.direct, &key), 0);
        assert_eq!(found, expected(&kept, |event| event.user == user && event.amount > 1.0), "{user}");
    }
}

fn sent(user: &str, minutes: i64, amount: f64) -> Sent {
    let (user, time) = (user.to_string(), START + minutes * 60_000_000);
    Sent { user, time, amount, city: Some("c1".to_string()), id: EventId::None, append_time: START }
}

fn event(user: &str, minutes: i64) -> Written {
    let base = if user == "ann" { 1000.0 } else { 0.0 };
    Written::Event(sent(user, minutes, base + minutes as f64))
}

fn erased(user: &str) -> Written {
    Written::Erase(user.to_string())
}

fn written() -> impl Strategy<Value = Written> {
    let id = prop_oneof![2 => (0u8..60).prop_map(|name| EventId::Given(vec![name].into())), 3 => Just(EventId::None)];
    let city = proptest::option::weighted(0.9, 0u8..3);
    let event = (0u8..4, 0i64..30 * HOUR, 0u32..400, city, id).prop_map(|(user, time, cents, city, id)| {
        Written::Event(Sent {
            user: format!("u{user}"),
            time: START + time / 1_000_000 * 500_000,
            amount: f64::from(cents) / 100.0,
            city: city.map(|city| format!("c{city}")),
            id,
            append_time: START,
        })
    });
    prop_oneof![8 => event, 1 => (0u8..5).prop_map(|user| Written::Erase(format!("u{user}")))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(64, 500), ..ProptestConfig::default() })]

    /// Erases, a build, erases while it is under way, a takeover, another build and takeover; and the same logs read by others.
    #[test]
    fn tables_leave_out_what_was_erased(
        all in proptest::collection::vec(written(), 2..110),
        cuts in (0usize..110, 0usize..110),
        ticks in proptest::collection::vec(1usize..20, 1..5),
        seed: u64,
        loses_state: bool,
    ) {
        let (one, other) = (cuts.0 % all.len(), cuts.1 % all.len());
        let (early, late) = (one.min(other), one.max(other));
        let (log, mut state, old) = (new_log(), StateStore::in_memory().unwrap(), World::new());
        let engine = storm(&old.spec(true), &state, &log, &all[..early], &ticks, seed);
        check_pending(&state, &old.routed, &all[..early], &[]);
        let places = engine.handle().erased_below(LOG, PARTITIONS);
        drop(engine);

        // What comes meanwhile may hold erases: those are not this table's to know.
        let first = knowing(&places, FIRST);
        if loses_state {
            state = StateStore::in_memory().unwrap();
        }
        let engine = storm(&both(&old, &first), &state, &log, &all[early..late], &ticks, seed ^ 1);
        prop_assert!(engine.handle().build_progress(FIRST).caught_up);
        check_pending(&state, &first.routed, &all[..late], &places);
        check_others(&log, &state, &first);
        let places = engine.handle().erased_below(LOG, PARTITIONS);
        drop(engine);

        // The takeover is cut short after the old one has stopped; the next engine drops it.
        drop(engine_of(&first.spec(true), &state, &log, 5, Role::Owner));
        engine_of(&first.spec(true), &state, &log, 5, Role::Owner).drop_state(&[ROUTED]).unwrap();
        check_cities(&state, &old.routed, &[], &[]);

        let second = knowing(&places, SECOND);
        let mut engine = storm(&both(&first, &second), &state, &log, &all[late..], &ticks, seed ^ 2);
        prop_assert!(engine.handle().build_progress(SECOND).caught_up);
        check_pending(&state, &second.routed, &all, &places);
        engine.deploy(&second.spec(true)).unwrap();
        engine.drop_state(&[FIRST]).unwrap();

        // The last one knows all erases there are.
        let places = engine.handle().erased_below(LOG, PARTITIONS);
        let third = knowing(&places, THIRD);
        engine.deploy(&both(&second, &third)).unwrap();
        engine.run_to_end().unwrap();
        engine.deploy(&third.spec(true)).unwrap();
        engine.drop_state(&[SECOND]).unwrap();
        check_cities(&state, &third.routed, &all, &places);
        check_users(&state, &third, &all);
        check_others(&log, &state, &third);
    }

    /// A log that was written before anything ran: the erases are known ahead.
    #[test]
    fn tables_that_know_the_erases_ahead_hold_the_same(all in proptest::collection::vec(written(), 1..110), tick in 1usize..20) {
        let (log, state) = (new_log(), StateStore::in_memory().unwrap());
        write(&log, &all);
        let mut engine = engine_of(&World::new().spec(false), &StateStore::in_memory().unwrap(), &log, 50, Role::Follower);
        engine.run_to_end().unwrap();
        let places = engine.handle().erased_below(LOG, PARTITIONS);
        let world = knowing(&places, FIRST);
        engine_of(&world.spec(true), &state, &log, tick, Role::Owner).run_to_end().unwrap();
        check_cities(&state, &world.routed, &all, &places);
        check_users(&state, &world, &all);
    }
}

/// A repartition log with copies of erased events, and a state that begins anew: no tick may let one of them in, since the next would
/// have to take it out again.
#[test]
fn a_table_waits_until_the_erases_it_knows_were_read() {
    let (log, state, old) = (new_log(), StateStore::in_memory().unwrap(), World::new());
    let mut all: Vec<Written> = (0..40).flat_map(|minute| [event("ann", minute), event("bob", minute)]).collect();
    write(&log, &all);
    engine_of(&old.spec(true), &state, &log, 8, Role::Owner).run_to_end().unwrap();
    all.push(erased("ann"));
    write(&log, &all[80..]);
    let mut engine = engine_of(&old.spec(true), &state, &log, 8, Role::Owner);
    engine.run_to_end().unwrap();
    assert_eq!(stored(&state, &old.routed, &city("c1")).len(), 80, "the table that serves cannot let them go");
    let places = engine.handle().erased_below(LOG, PARTITIONS);
    drop(engine);

    let world = knowing(&places, FIRST);
    for role in [Role::Follower, Role::Owner] {
        let fresh = StateStore::in_memory().unwrap();
        let mut engine = engine_of(&world.spec(true), &fresh, &log, 1, role);
        let (mut waited, mut built) = (0, 0);
        loop {
            let records = engine.step().unwrap();
            let found = stored(&fresh, &world.routed, &city("c1"));
            assert!(found.iter().all(|event| all_of("bob", &all).contains(&event.values[0])), "{found:?}");
            let progress = engine.handle().build_progress(FIRST);
            match progress.caught_up {
                _ if records == 0 => break,
                false if found.is_empty() => waited += 1,
                _ => built += 1,
            }
        }
        assert!(waited >= 40 && built > 0, "{role:?}: {waited} {built}");
        assert!(engine.handle().build_progress(FIRST).caught_up);
        check_cities(&fresh, &world.routed, &all, &places);
    }
}

/// Amounts of a user that tell their events from others'.
fn all_of(user: &str, written: &[Written]) -> Vec<Value> {
    let own = written.iter().filter_map(|record| match record {
        Written::Event(event) if event.user == user => Some(Value::Float(event.amount)),
        _ => None,
    });
    own.collect()
}

#[test]
fn an_empty_repartition_log_is_nothing_to_wait_for() {
    let (log, state) = (new_log(), StateStore::in_memory().unwrap());
    write(&log, &[erased("ann")]);
    let mut engine = engine_of(&World::new().spec(false), &state, &log, 8, Role::Owner);
    engine.run_to_end().unwrap();
    let world = knowing(&engine.handle().erased_below(LOG, PARTITIONS), FIRST);
    engine.deploy(&world.spec(true)).unwrap();
    engine.run_to_end().unwrap();
    assert!(engine.handle().build_progress(FIRST).caught_up);
    // Later events of the key count.
    write(&log, &[event("ann", 3)]);
    engine.run_to_end().unwrap();
    assert_eq!(stored(&state, &world.routed, &city("c1")).len(), 1);
}

/// The topic of an aggregated dataset goes on over the takeover: what was written stays, nothing is written twice, and an event that an
/// erase reached first has no row.
#[test]
fn rows_for_other_consumers_go_on_without_what_was_erased() {
    let old = World::emitting();
    let (log, state) = (new_log(), StateStore::in_memory().unwrap());
    let mut all = vec![event("ann", 1), event("bob", 2)];
    write(&log, &all);
    let mut engine = engine_of(&old.spec(true), &state, &log, 8, Role::Owner);
    engine.run_to_end().unwrap();
    all.extend([erased("ann"), event("bob", 3), event("ann", 4)]);
    write(&log, &all[2..]);
    engine.run_to_end().unwrap();
    let places = engine.handle().erased_below(LOG, PARTITIONS);
    let silent = knowing(&places, FIRST);
    let next = World { emits: true, ..knowing(&places, FIRST) };
    engine.deploy(&both(&old, &silent)).unwrap();
    engine.run_to_end().unwrap();
    engine.deploy(&next.spec(true)).unwrap();
    engine.drop_state(&[ROUTED]).unwrap();
    all.push(event("bob", 5));
    write(&log, &all[5..]);
    engine.run_to_end().unwrap();
    let route = &old.compiled.pipelines["CityStats.compute"].route.as_ref().unwrap().topic;
    let partition = thyme_core::key::partition(&city("c1"), PARTITIONS);
    let rows = emitted(&log, &old, "CityStats.compute", route, partition);
    let counts: Vec<u64> = rows.iter().map(|(_, row)| row["n"].as_u64().unwrap()).collect();
    assert_eq!(counts.len(), 5, "{rows:?}");
    // Before the takeover with the event of ann, after it without.
    assert_eq!(counts.last(), Some(&4), "{rows:?}");

    // A topic that is asked for only now: the copy of the erased event in the repartition log has no row.
    let (log, state, quiet) = (new_log(), StateStore::in_memory().unwrap(), World::new());
    write(&log, &all[..2]);
    let mut engine = engine_of(&quiet.spec(true), &state, &log, 8, Role::Owner);
    engine.run_to_end().unwrap();
    write(&log, &all[2..]);
    engine.run_to_end().unwrap();
    engine.deploy(&next.spec(true)).unwrap();
    engine.run_to_end().unwrap();
    let rows = emitted(&log, &old, "CityStats.compute", route, partition);
    assert_eq!(rows.len(), 4, "{rows:?}");
}
