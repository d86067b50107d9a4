//! Pipelines on the rows of aggregated datasets: each accepted event's row is in their tables once, as of its own position, whatever
//! the ticks, the restarts, the lost transactions and lost states; through three stages; and without what was erased.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod common;

use common::chained::*;
use common::drawn::*;
use common::emitted::records;
use common::said::Said;
use common::*;
use proptest::prelude::*;
use std::sync::Arc;
use thyme_core::Value;
use thyme_core::key::encode_key;
use thyme_core::position::PositionSet;
use thyme_core::record::{EventId, Record};
use thyme_core::testing::cases;
use thyme_engine::{Engine, JobSpec, Role};
use thyme_log::model::FaultyLog;
use thyme_log::{Batch, EventLog, NewRecord};
use thyme_state::StateStore;

const USERS: u8 = 4;

fn order(user: &str, minute: i64, amount: f64, city: &str) -> Sent {
    let time = START + minute * MINUTE;
    Sent { user: user.into(), time, amount, city: Some(city.into()), id: EventId::None, append_time: START }
}

fn write(log: &Arc<dyn EventLog>, written: &[Written]) {
    append(log, written.iter().map(Written::batch).collect());
}

/// Works `more` off with engines that vanish in the midst of it and lose transactions; the last comes to the end.
fn storm(
    spec: &JobSpec,
    state: &mut Arc<StateStore>,
    log: &Arc<dyn EventLog>,
    more: &[Written],
    ticks: &[usize],
    seed: u64,
    loses_state: bool,
) -> Engine {
    let faulty = Arc::new(FaultyLog::seeded_commits(log.clone(), seed, 3).with_late_reads(seed, 6));
    let bad: Arc<dyn EventLog> = faulty.clone();
    let mut rest = more.chunks(more.len().div_ceil(ticks.len()).max(1));
    for (turn, size) in ticks.iter().enumerate() {
        if loses_state && turn == 2 {
            *state = StateStore::in_memory().unwrap();
        }
        let mut engine = engine_of(spec, state, &bad, *size, Role::Owner);
        for _ in 0..5 {
            let _ = engine.step();
        }
        write(log, rest.next().unwrap_or_default());
    }
    faulty.heal();
    let mut engine = engine_of(spec, state, log, 7, Role::Owner);
    engine.run_to_end().unwrap();
    engine
}

proptest! {
    // Each is a dozen of engines on three states and more, most in less than a tenth of a second.
    #![proptest_config(ProptestConfig { cases: cases(60, 1_000), ..ProptestConfig::default() })]

    #[test]
    fn every_row_is_in_the_tables_once(
        events in proptest::collection::vec(event(USERS), 1..80),
        ticks in proptest::collection::vec(1usize..20, 1..7),
        seed: u64,
        loses_state: bool,
    ) {
        let (world, log, mut state) = (Chained::new(), new_log(), StateStore::in_memory().unwrap());
        let all: Vec<Written> = events.iter().cloned().map(Written::Event).collect();
        storm(&world.spec(), &mut state, &log, &all, &ticks, seed, loses_state);
        let kept = accepted(&events);
        check_logs(&log, &world, &kept);
        check_tables(&state, &log, &world, &kept);
        check_others(&log, &state, &world);
    }

    /// Pipelines that are added later find the rows of all events, and are ready when they have them.
    #[test]
    fn a_pipeline_that_is_added_later_is_whole(
        events in proptest::collection::vec(event(USERS), 1..80),
        before in 0usize..30,
        tick in 1usize..20,
    ) {
        let (world, log, state) = (Chained::new(), new_log(), StateStore::in_memory().unwrap());
        let mut without = world.spec();
        without.datasets[0].pipelines[0].feeds.clear();
        without.datasets[0].routes[0].pipelines[0].feeds.clear();
        append(&log, events.iter().map(Sent::batch).collect());
        let mut engine = engine_of(&without, &state, &log, 3, Role::Owner);
        for _ in 0..before {
            engine.step().unwrap();
        }
        drop(engine);
        let mut engine = engine_of(&world.spec(), &state, &log, tick, Role::Owner);
        engine.run_to_end().unwrap();
        for name in PIPELINES {
            prop_assert!(engine.handle().build_progress(world.table(name).id).caught_up, "{}", name);
        }
        let kept = accepted(&events);
        check_logs(&log, &world, &kept);
        check_tables(&state, &log, &world, &kept);
    }

    /// Below the watermark of a table no row is still to come; and what is applied is in all tables. After every round, wherever the
    /// emitters are.
    #[test]
    fn what_is_said_of_rows_is_true(
        events in proptest::collection::vec(event(USERS), 1..60),
        ticks in proptest::collection::vec(1usize..12, 1..4),
        seed: u64,
    ) {
        let (world, log, state) = (Chained::new(), new_log(), StateStore::in_memory().unwrap());
        let faulty = Arc::new(FaultyLog::seeded_commits(log.clone(), seed, 3));
        let bad: Arc<dyn EventLog> = faulty.clone();
        let mut said = Vec::new();
        for (part, size) in events.chunks(events.len().div_ceil(ticks.len())).zip(&ticks) {
            append(&log, part.iter().map(Sent::batch).collect());
            let mut engine = world.engine(&state, &bad, *size);
            for _ in 0..8 {
                let _ = engine.step();
                said.push(Said::now(&world, &state, &log, &engine.handle()));
            }
        }
        faulty.heal();
        let mut engine = world.engine(&state, &log, 7);
        while engine.step().unwrap() > 0 {
            said.push(Said::now(&world, &state, &log, &engine.handle()));
        }
        let last = Said::now(&world, &state, &log, &engine.handle());
        for said in &said {
            said.check(&last);
        }
        let ends: Vec<u64> = (0..PARTITIONS).map(|part| log.end_offset("Order.v1", part).unwrap()).collect();
        prop_assert_eq!(&last.applied, &ends);
    }

    /// Erases, builds without what they took, takeovers; in the end everything is as if the erased events had never been accepted.
    #[test]
    fn tables_of_rows_are_without_what_was_erased(
        all in proptest::collection::vec(written(USERS), 2..80),
        cut in 0usize..80,
        ticks in proptest::collection::vec(1usize..20, 1..5),
        seed: u64,
        loses_state: bool,
    ) {
        let cut = cut % all.len();
        let (log, mut state, old) = (new_log(), StateStore::in_memory().unwrap(), Chained::new());
        let engine = storm(&old.spec(), &mut state, &log, &all[..cut], &ticks, seed, loses_state);
        let first = Chained::knowing(&engine.handle().erased_below(LOG, PARTITIONS));
        drop(engine);

        // What comes meanwhile may hold erases: those are not this build's to know.
        let engine = storm(&old.with(&first), &mut state, &log, &all[cut..], &ticks, seed ^ 1, loses_state);
        for name in PIPELINES {
            prop_assert!(engine.handle().build_progress(first.table(name).id).caught_up, "{}", name);
        }
        check_others(&log, &state, &first);
        let last = Chained::knowing(&engine.handle().erased_below(LOG, PARTITIONS));
        drop(engine);

        storm(&first.spec(), &mut state, &log, &[], &ticks, seed ^ 2, false);
        storm(&first.with(&last), &mut state, &log, &[], &ticks, seed ^ 3, loses_state);
        storm(&last.spec(), &mut state, &log, &[], &ticks, seed ^ 4, loses_state);
        let kept = accepted_below(&all, &[u64::MAX; PARTITIONS as usize]);
        check_tables(&state, &log, &last, &kept);
        check_others(&log, &state, &last);
    }
}

/// Emitters that read less at once than the engine before them are several rounds behind.
#[test]
fn what_is_said_of_rows_is_true_of_emitters_that_are_behind() {
    let (world, log, state) = (Chained::new(), new_log(), StateStore::in_memory().unwrap());
    append(&log, [0, 300, 600, 900].map(|minute| order("u1", minute, 2.0, "c1").batch()).into());
    assert_eq!(world.engine(&state, &log, 4).step().unwrap(), 4);
    let mut engine = world.engine(&state, &log, 1);
    let mut said = Vec::new();
    while engine.step().unwrap() > 0 {
        said.push(Said::now(&world, &state, &log, &engine.handle()));
    }
    let last = Said::now(&world, &state, &log, &engine.handle());
    assert!(last.watermarks[0].contains(&Some(START + 780 * MINUTE)), "that of the last event");
    said.iter().for_each(|said| said.check(&last));
}

#[test]
fn how_far_logs_of_rows_are_behind_is_known() {
    let (world, log, state) = (Chained::new(), new_log(), StateStore::in_memory().unwrap());
    let mut engine = world.engine(&state, &log, 100);
    let handle = engine.handle();
    let unwritten = |name: &str| -> u64 {
        let emissions = handle.emissions().into_iter().filter(|emission| emission.topic == world.topic(name));
        emissions.map(|emission| emission.lag).sum()
    };
    let unread = |name: &str| -> u64 {
        handle.feeds().iter().filter(|feed| feed.topic == world.topic(name)).map(|feed| feed.lag).sum()
    };
    let rows = |name: &str, key: Value| {
        let key = encode_key(std::slice::from_ref(&key)).unwrap();
        stored(&state, &world.table(name), &key).len() as u64
    };
    // Each event is a row at every stage.
    let keys = [("UserPeaks.compute", "u1"), ("CityPeaks.compute", "c1"), ("Overall.compute", "all")];
    let mut most = [0; 3];
    for round in 0.. {
        for ((name, key), most) in keys.into_iter().zip(&mut most) {
            let missing = rows("UserStats.compute", Value::str("u1")) - rows(name, Value::str(key));
            assert_eq!(unread(name), missing, "{name}");
            *most = missing.max(*most);
        }
        let written = log_of(&log, world.topic("UserPeaks.compute"));
        assert_eq!(unwritten("UserPeaks.compute"), rows("UserStats.compute", Value::str("u1")) - written);
        if round < 8 {
            let minutes = 10 * round..10 * (round + 1);
            append(&log, minutes.map(|minute| order("u1", minute, 2.0, "c1").batch()).collect());
        }
        if engine.step().unwrap() == 0 {
            break;
        }
    }
    // A round to the log of rows and one out of it, for each stage; there is one more before cities.
    assert_eq!(most, [20, 30, 50]);
    assert_eq!(handle.feeds().len(), 4 * usize::from(PARTITIONS));
    assert!(handle.emissions().iter().all(|emission| emission.is_feed && emission.lag == 0));

    // The same on a follower, which writes none.
    let replica = StateStore::in_memory().unwrap();
    let mut follower = engine_of(&world.spec(), &replica, &log, 10, Role::Follower);
    follower.step().unwrap();
    let lag = |follower: &Engine| follower.handle().feeds().iter().map(|feed| feed.lag).sum::<u64>();
    assert!(lag(&follower) > 0, "it has read the raw dataset's log and nothing else");
    follower.run_to_end().unwrap();
    assert_eq!((lag(&follower), follower.handle().emissions().len()), (0, 0));
}

/// How many rows stand in a log of rows.
fn log_of(log: &Arc<dyn EventLog>, topic: &str) -> u64 {
    let all = (0..PARTITIONS).flat_map(|partition| records(log, topic, partition));
    all.filter(|record| matches!(Record::decode(&record.value), Ok(Record::Routed { .. }))).count() as u64
}

/// A row of an event that is erased between its emission and the next build.
#[test]
fn an_erase_reaches_rows_of_rows() {
    let (log, state, old) = (new_log(), StateStore::in_memory().unwrap(), Chained::new());
    append(&log, vec![order("u1", 0, 2.0, "c1").batch(), order("u2", 1, 3.0, "c1").batch()]);
    let mut engine = old.engine(&state, &log, 8);
    engine.run_to_end().unwrap();
    append(&log, vec![erase("u2", START), order("u1", 2, 1.5, "c1").batch(), order("u2", 3, 2.5, "c1").batch()]);
    engine.run_to_end().unwrap();
    let city = encode_key(&[Value::str("c1")]).unwrap();
    let biggest = |world: &Chained| {
        let found = stored(&state, &world.table("CityPeaks.compute"), &city);
        found.iter().map(|event| event.values[0].clone()).collect::<Vec<_>>()
    };
    let floats = |values: &[f64]| values.iter().copied().map(Value::Float).collect::<Vec<_>>();
    assert_eq!(biggest(&old), floats(&[2.0, 3.0, 3.0, 3.0]));

    let next = Chained::knowing(&engine.handle().erased_below(LOG, PARTITIONS));
    engine.deploy(&old.with(&next)).unwrap();
    assert!(!engine.handle().build_progress(next.table("Overall.compute").id).caught_up);
    engine.run_to_end().unwrap();
    for name in PIPELINES {
        assert!(engine.handle().build_progress(next.table(name).id).caught_up, "{name}");
    }
    engine.deploy(&next.spec()).unwrap();
    // Also the rows of others' events are without it.
    assert_eq!(biggest(&next), floats(&[2.0, 2.0, 2.5]));
    // Rows of one user each need no new log.
    for (name, is_anew) in [("UserPeaks.compute", false), ("Levels.compute", false), ("CityPeaks.compute", true)] {
        assert_eq!(old.topic(name) != next.topic(name), is_anew, "{name}");
    }
}

/// The owner deletes the logs that it reads no more when it has taken over. A follower may not be that far.
#[test]
fn a_follower_goes_on_without_a_log_that_is_deleted() {
    let (log, state, old) = (new_log(), StateStore::in_memory().unwrap(), Chained::new());
    append(&log, vec![order("u1", 0, 2.0, "c1").batch(), order("u2", 1, 3.0, "c1").batch(), erase("u2", START)]);
    let mut owner = old.engine(&state, &log, 8);
    owner.run_to_end().unwrap();
    let replica = StateStore::in_memory().unwrap();
    let mut follower = engine_of(&old.spec(), &replica, &log, 8, Role::Follower);
    follower.run_to_end().unwrap();

    let next = Chained::knowing(&owner.handle().erased_below(LOG, PARTITIONS));
    owner.deploy(&old.with(&next)).unwrap();
    owner.run_to_end().unwrap();
    owner.deploy(&next.spec()).unwrap();
    for name in ["CityPeaks.compute", "Overall.compute"] {
        log.delete_topic(old.topic(name)).unwrap();
    }
    append(&log, vec![order("u1", 2, 1.5, "c1").batch()]);
    owner.run_to_end().unwrap();
    follower.deploy(&old.with(&next)).unwrap();
    follower.run_to_end().unwrap();
    for table in PIPELINES.map(|name| next.table(name)) {
        assert!(follower.handle().build_progress(table.id).caught_up, "{}", table.id);
        assert_eq!(replica.digest(&table).unwrap(), state.digest(&table).unwrap(), "{}", table.id);
    }

    // What would be built from a log that is gone is never done.
    let peaks = old.table("CityPeaks.compute").id;
    follower.deploy(&JobSpec::default()).unwrap();
    follower.drop_state(&[peaks]).unwrap();
    follower.deploy(&old.spec()).unwrap();
    follower.run_to_end().unwrap();
    assert!(!follower.handle().build_progress(peaks).caught_up);
}

#[test]
fn a_position_is_applied_when_the_last_pipeline_has_it() {
    let (log, state, world) = (new_log(), StateStore::in_memory().unwrap(), Chained::new());
    let mut engine = world.engine(&state, &log, 100);
    let handle = engine.handle();
    // One partition alone: the others stay empty, and nothing waits for them.
    let event = order("u1", 0, 2.0, "c1");
    append(&log, vec![event.batch()]);
    let mut position = PositionSet::default();
    position.set(LOG, event.partition(), 1);
    let overall = world.table("Overall.compute");
    let key = encode_key(&[Value::str("all")]).unwrap();
    let mut steps = 0;
    while !handle.is_applied(&position) {
        assert!(engine.step().unwrap() > 0, "never applied");
        steps += 1;
    }
    assert_eq!(stored(&state, &overall, &key).len(), 1);
    // To the repartition log, to the rows of cities, of their peaks, and out of each: nothing may be skipped.
    assert!(steps >= 5, "{steps}");

    // The same on a follower, which has no emitters.
    let fresh = StateStore::in_memory().unwrap();
    let mut follower = engine_of(&world.spec(), &fresh, &log, 100, Role::Follower);
    follower.run_to_end().unwrap();
    assert!(follower.handle().is_applied(&position));
}

/// While events go on coming, a position does not wait for them too.
#[test]
fn a_position_is_applied_under_load() {
    let (log, state, world) = (new_log(), StateStore::in_memory().unwrap(), Chained::new());
    let mut engine = world.engine(&state, &log, 100);
    let handle = engine.handle();
    let event = order("u1", 0, 2.0, "c1");
    append(&log, vec![event.batch()]);
    let mut position = PositionSet::default();
    position.set(LOG, event.partition(), 1);
    for minute in 1..20 {
        append(&log, (0..4).map(|user| order(&format!("u{user}"), minute, 2.0, "c1").batch()).collect());
        engine.step().unwrap();
    }
    assert!(handle.is_applied(&position));
    // So does a build.
    let later = Chained::new();
    let mut spec = later.spec();
    spec.datasets[0].pipelines[0].feeds.clear();
    engine.deploy(&spec).unwrap();
    engine.deploy(&later.spec()).unwrap();
    let levels = later.table("Levels.compute").id;
    let is_built = (20..60).any(|minute| {
        append(&log, (0..4).map(|user| order(&format!("u{user}"), minute, 2.0, "c1").batch()).collect());
        engine.step().unwrap();
        handle.build_progress(levels).caught_up
    });
    assert!(is_built);
}

/// What a foreign producer writes to a log of rows.
#[test]
fn poison_in_a_log_of_rows_is_a_dead_letter() {
    let (log, state, world) = (new_log(), StateStore::in_memory().unwrap(), Chained::new());
    let event = order("u1", 0, 2.0, "c1");
    append(&log, vec![event.batch()]);
    let mut engine = world.engine(&state, &log, 4);
    engine.run_to_end().unwrap();
    let progress = |partition: u16, covered: Vec<(u16, u64)>| {
        Record::Progress { append_time: 0, partition, next_offset: 1, max_event_time: START, covered }.encode()
    };
    let poison = [vec![7], progress(PARTITIONS, Vec::new()), progress(0, vec![(PARTITIONS, 5)])];
    let records = poison.into_iter().map(|value| NewRecord::new(event.key(), value)).collect();
    let topic = world.topic("Levels.compute").to_string();
    futures_block(log.append(vec![Batch { topic: topic.clone(), partition: 1, records }])).unwrap();
    append(&log, vec![order("u1", 1, 2.0, "c1").batch()]);
    engine.run_to_end().unwrap();
    let dead: u64 = engine
        .handle()
        .status()
        .unwrap()
        .iter()
        .filter(|shard| shard.topic == topic)
        .map(|shard| shard.counters.dead)
        .sum();
    assert_eq!(dead, 3);
    let kept = accepted(&[event, order("u1", 1, 2.0, "c1")]);
    check_tables(&state, &log, &world, &kept);
}
