//! Several engines on one log, each with a slice of it, a state and a producer of its own, in any order of turns, with crashes, lost
//! transactions and lost states: their tables together have the bytes of those of one engine, and hold what a brute force says.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod common;

use common::chained::*;
use common::drawn::*;
use common::emitted::check_emitted;
use common::said::Said;
use common::sliced::Sliced;
use common::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::ErrorKind;
use thyme_core::position::PositionSet;
use thyme_core::record::EventId;
use thyme_core::slice::Slice;
use thyme_core::testing::cases;
use thyme_engine::{DatasetJob, Engine, EngineHandle, EngineOptions, JobSpec, Role, catch_up, is_router};
use thyme_log::model::FaultyLog;
use thyme_log::{Batch, CommitOutcome, EmbeddedLog, EventLog, WORK};
use thyme_state::StateStore;

const USERS: u8 = 6;

fn batches(written: &[Written]) -> Vec<Batch> {
    written.iter().map(Written::batch).collect()
}

/// A storm over a log that loses transactions, and then all that is left; by a spec that is there to stay.
fn storm(sliced: &mut Sliced, spec: &JobSpec, log: &Arc<dyn EventLog>, more: Vec<Batch>, seed: u64) {
    storm_and_look(sliced, spec, log, more, seed, |_| ());
}

fn storm_and_look(
    sliced: &mut Sliced,
    spec: &JobSpec,
    log: &Arc<dyn EventLog>,
    more: Vec<Batch>,
    seed: u64,
    look: impl FnMut(&Sliced),
) {
    let faulty = Arc::new(FaultyLog::seeded_commits(log.clone(), seed, 3).with_late_reads(seed, 6));
    let bad: Arc<dyn EventLog> = faulty.clone();
    sliced.storm(spec, &bad, more, look);
    faulty.heal();
    sliced.start_all(spec, log, 7, Role::Owner);
    sliced.run_to_end();
}

/// A state that knows nothing of the erases of other slices and is worked off to the places of a slice's logs has its rows.
fn check_caught_up(log: &Arc<dyn EventLog>, sliced: &Sliced, world: &Chained) {
    let states = sliced.states();
    for (slice, state) in Slice::all(states.slices()).zip(states.all().into_values()) {
        let progress = state.snapshot().all_progress().unwrap();
        let of_logs = progress.into_iter().filter(|(consumer, ..)| !is_router(*consumer));
        let places = of_logs.map(|(consumer, partition, next)| ((consumer, partition), next)).collect();
        let (copy, options) = (StateStore::in_memory().unwrap(), EngineOptions { slice, ..EngineOptions::default() });
        catch_up(&copy, log, &world.spec(), &places, &options, &mut || true).unwrap();
        for table in PIPELINES.map(|name| world.table(name)) {
            assert_eq!(copy.digest(&table).unwrap(), state.digest(&table).unwrap(), "{slice}, table {}", table.id);
        }
    }
}

proptest! {
    // Each is a dozen of engines on three states and more, most in less than a tenth of a second.
    #![proptest_config(ProptestConfig { cases: cases(60, 1_000), ..ProptestConfig::default() })]

    /// Tables by the dataset's key and by another, and the topics that other consumers read.
    #[test]
    fn slices_make_the_tables_and_topics_of_one_engine(
        events in proptest::collection::vec(event(USERS), 1..100),
        slices in 1u16..5,
        seed: u64,
        loses_state: bool,
    ) {
        let (world, log, mut sliced) = (World::emitting(), new_log(), Sliced::new(slices, seed));
        sliced.loses_state = loses_state;
        storm(&mut sliced, &world.spec(true), &log, events.iter().map(Sent::batch).collect(), seed);
        let kept = accepted(&events);
        check_emitted(&log, &world, &kept);
        let one = StateStore::in_memory().unwrap();
        let options = EngineOptions { tick_records: 5, role: Role::Follower, ..EngineOptions::default() };
        let mut engine = Engine::open(one.clone(), log.clone(), options).unwrap();
        engine.deploy(&world.spec(true)).unwrap();
        engine.run_to_end().unwrap();
        for table in [&world.raw, &world.direct, &world.routed] {
            prop_assert_eq!(digest_of(&sliced, table), one.digest(table).unwrap(), "table {}", table.id);
        }
        for city in ["c0", "c1", "c2"] {
            let key = thyme_core::key::encode_key(&[thyme_core::Value::str(city)]).unwrap();
            let wanted = expected(&kept, |event| event.city.as_deref() == Some(city));
            prop_assert_eq!(essence(&stored(&sliced, &world.routed, &key), 0), wanted);
        }
    }

    /// Rows of rows; and what the engines say together on the way is true.
    #[test]
    fn slices_make_the_rows_of_rows_of_one_engine(
        events in proptest::collection::vec(event(USERS), 1..70),
        slices in 1u16..5,
        seed: u64,
    ) {
        let (world, log, mut sliced) = (Chained::new(), new_log(), Sliced::new(slices, seed));
        let mut said = Vec::new();
        let more = events.iter().map(Sent::batch).collect();
        storm_and_look(&mut sliced, &world.spec(), &log, more, seed, |sliced| {
            if sliced.is_whole() {
                said.push(Said::now(&world, sliced, &log, &sliced.handle()));
            }
        });
        let last = Said::now(&world, &sliced, &log, &sliced.handle());
        said.iter().for_each(|said| said.check(&last));
        let ends: Vec<u64> = (0..PARTITIONS).map(|part| log.end_offset("Order.v1", part).unwrap()).collect();
        prop_assert_eq!(&last.applied, &ends);
        for name in PIPELINES {
            prop_assert!(sliced.handle().build_progress(world.table(name).id).caught_up, "{}", name);
        }
        let kept = accepted(&events);
        check_logs(&log, &world, &kept);
        check_tables(&sliced, &log, &world, &kept);
        check_others(&log, &sliced, &world);
    }

    /// Erases, builds without what they took, takeovers: each slice needs the erases of all partitions.
    #[test]
    fn slices_leave_out_what_was_erased(
        all in proptest::collection::vec(written(USERS), 2..80),
        cut in 0usize..80,
        slices in 1u16..5,
        seed: u64,
        loses_state: bool,
    ) {
        let cut = cut % all.len();
        let (log, old, mut sliced) = (new_log(), Chained::new(), Sliced::new(slices, seed));
        sliced.loses_state = loses_state;
        storm(&mut sliced, &old.spec(), &log, batches(&all[..cut]), seed);
        let first = Chained::knowing(&sliced.handle().erased_below(LOG, PARTITIONS));

        // What comes meanwhile may hold erases: those are not this build's to know.
        storm(&mut sliced, &old.with(&first), &log, batches(&all[cut..]), seed ^ 1);
        for name in PIPELINES {
            prop_assert!(sliced.handle().build_progress(first.table(name).id).caught_up, "{}", name);
        }
        check_others(&log, &sliced, &first);
        let last = Chained::knowing(&sliced.handle().erased_below(LOG, PARTITIONS));

        storm(&mut sliced, &first.spec(), &log, Vec::new(), seed ^ 2);
        storm(&mut sliced, &first.with(&last), &log, Vec::new(), seed ^ 3);
        storm(&mut sliced, &last.spec(), &log, Vec::new(), seed ^ 4);
        let gone: Vec<u32> = PIPELINES.iter().map(|name| old.table(name).id).collect();
        let is_used = |id: &u32| PIPELINES.iter().any(|name| last.table(name).id == *id);
        sliced.drop_state(&gone.into_iter().filter(|id| !is_used(id)).collect::<Vec<u32>>());
        let kept = accepted_below(&all, &[u64::MAX; PARTITIONS as usize]);
        check_tables(&sliced, &log, &last, &kept);
        check_others(&log, &sliced, &last);
        check_caught_up(&log, &sliced, &last);
    }

    /// Followers of some slices beside owners of others, and the other way round: who sends is no matter of the rows.
    #[test]
    fn followers_have_the_slices_of_owners(
        events in proptest::collection::vec(event(USERS), 1..60),
        slices in 1u16..5,
        seed: u64,
    ) {
        let (world, log) = (Chained::new(), new_log());
        let (mut owners, mut followers) = (Sliced::new(slices, seed), Sliced::new(slices, seed ^ 1));
        owners.start_all(&world.spec(), &log, 4, Role::Owner);
        followers.start_all(&world.spec(), &log, 3, Role::Follower);
        append(&log, events.iter().map(Sent::batch).collect());
        owners.run_to_end();
        followers.run_to_end();
        for table in PIPELINES.map(|name| world.table(name)) {
            prop_assert_eq!(digest_of(&owners, &table), digest_of(&followers, &table), "table {}", table.id);
        }
        check_tables(&followers, &log, &world, &accepted(&events));
    }
}

/// Of what is there a slice's state has its own share, which is of no use as another.
#[test]
fn the_state_of_another_slice_is_refused() {
    let (world, log, state) = (World::new(), new_log(), StateStore::in_memory().unwrap());
    let open = |index: u16, of: u16| {
        let options = EngineOptions { slice: Slice { index, of }, ..EngineOptions::default() };
        Engine::open(state.clone(), log.clone(), options)
    };
    assert!(open(1, 3).is_ok());
    assert!(open(1, 3).is_ok());
    for (index, of, wanted) in [(0, 3, "slice 0 of 3"), (1, 2, "slice 1 of 2"), (0, 1, "all of it")] {
        let error = open(index, of).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let text = error.to_string();
        assert!(text.contains(&format!("another share of the log: state=slice 1 of 3 wanted={wanted}")), "{text}");
        assert!(text.contains("delete it"), "{text}");
    }
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = Arc::new(EmbeddedLog::open(directory.path()).unwrap());
    let other = Engine::open(state.clone(), elsewhere, EngineOptions::default()).err().unwrap().to_string();
    assert!(other.contains("made from another log") && other.contains("set log.url"), "{other}");
    let whole = StateStore::in_memory().unwrap();
    append(&log, batches(&[Written::Erase("u1".to_string())]));
    world.engine(&whole, &log, 8).run_to_end().unwrap();
    let options = EngineOptions { slice: Slice { index: 0, of: 2 }, ..EngineOptions::default() };
    let error = Engine::open(whole, log, options).err().unwrap();
    assert!(error.message().contains("state=all of it wanted=slice 0 of 2"), "{error}");
}

/// Engines of `Order`'s partitions, one each, over states of their own.
fn one_for_each_partition(log: &Arc<dyn EventLog>, spec: &JobSpec) -> Vec<(Arc<StateStore>, Engine)> {
    let start = |slice: Slice| {
        let state = StateStore::in_memory().unwrap();
        let options = EngineOptions { tick_records: 1, durable: false, slice, ..EngineOptions::default() };
        let mut engine = Engine::open(state.clone(), log.clone(), options).unwrap();
        engine.deploy(spec).unwrap();
        (state, engine)
    };
    Slice::all(PARTITIONS).map(start).collect()
}

/// A log has few places that are read at once in a partition: each slice reads the erases of others one partition after the other,
/// and begins with another one than the others do.
#[test]
fn erases_of_other_slices_are_read_one_partition_after_the_other() {
    let log = new_log();
    let erase = |number: u32| Written::Erase(format!("u{number}"));
    append(&log, batches(&(0..30).map(erase).collect::<Vec<_>>()));
    let ends: Vec<u64> = (0..PARTITIONS).map(|partition| log.end_offset("Order.v1", partition).unwrap()).collect();
    assert!(ends.iter().all(|end| *end > 2), "{ends:?}");
    let world = Chained::knowing(&ends);
    for (slice, (state, mut engine)) in (0..).zip(one_for_each_partition(&log, &world.spec())) {
        // The partitions of other slices that a round moved on in.
        let mut read = Vec::new();
        let places = || -> Vec<(u32, u16, u64)> {
            let all = state.snapshot().all_progress().unwrap();
            all.into_iter().filter(|(reader, ..)| is_router(*reader) && *reader << 1 == LOG << 1).collect()
        };
        let mut before = places();
        while engine.step().unwrap() > 0 {
            let after = places();
            read.extend(after.iter().filter(|place| !before.contains(place)).map(|(_, partition, _)| *partition));
            before = after;
        }
        let others = (1..PARTITIONS).map(|further| (slice + further) % PARTITIONS);
        let wanted: Vec<u16> = others.flat_map(|other| vec![other; ends[usize::from(other)] as usize]).collect();
        assert_eq!(read, wanted, "slice {slice}");
    }
}

/// A foreign producer has put a row into a partition of another slice than the one that reads the erases of its key.
#[test]
fn nothing_of_an_erased_key_is_left_in_another_slice() {
    let (world, log) = (World::new(), new_log());
    let sent = Sent {
        user: "u1".to_string(),
        time: START,
        amount: 2.0,
        city: Some("c1".to_string()),
        id: EventId::None,
        append_time: START,
    };
    let right = sent.batch();
    for partition in 0..PARTITIONS {
        append(&log, vec![Batch { partition, ..right.clone() }]);
    }
    append(&log, batches(&[Written::Erase("u1".to_string())]));
    let mut reasons = 0;
    for (state, mut engine) in one_for_each_partition(&log, &world.spec(true)) {
        engine.run_to_end().unwrap();
        for row in state.snapshot().dead_letters(LOG, None, 10).unwrap() {
            assert!(row.reason.contains(&format!("belongs to partition {}", right.partition)), "{row:?}");
            assert!(row.key.is_empty() && row.record.is_empty(), "{row:?}");
            reasons += 1;
        }
    }
    assert_eq!(reasons, PARTITIONS - 1, "where they are and why is told all the same");
}

/// The owner of the first slice has not made the log of a new dataset yet.
#[test]
fn an_owner_that_makes_no_logs_waits_for_one_and_holds_up_no_other() {
    let (world, log) = (World::new(), new_log());
    let engine = |index: u16| {
        let slice = Slice { index, of: 2 };
        let options = EngineOptions { slice, durable: false, ..EngineOptions::default() };
        Engine::open(StateStore::in_memory().unwrap(), log.clone(), options).unwrap()
    };
    let (mut first, mut second) = (engine(0), engine(1));
    let mut spec = world.spec(true);
    first.deploy(&spec).unwrap();
    let mut visits = spec.datasets[0].dataset.as_ref().clone();
    visits.name = "Visit".to_string();
    let topic = visits.topic();
    let log_id = 77;
    let (pipelines, routes) = (Vec::new(), Vec::new());
    spec.datasets.push(DatasetJob { dataset: Arc::new(visits), log_id, raw_table: None, pipelines, routes });
    second.deploy(&spec).unwrap();
    assert!(log.topics().unwrap().iter().all(|(name, _)| *name != topic), "it makes none itself");
    let sent = |user: u32| Sent {
        user: format!("u{user}"),
        time: START,
        amount: 1.0,
        city: None,
        id: EventId::None,
        append_time: START,
    };
    let batches = || (0..20).map(|user| sent(user).batch());
    append(&log, batches().collect());
    let check = |second: &mut Engine, topic: &str, log_id: u32| {
        second.run_to_end().unwrap();
        let applied = second.handle().applied();
        for partition in (Slice { index: 1, of: 2 }).partitions(PARTITIONS) {
            let end = log.end_offset(topic, partition).unwrap();
            assert_eq!(applied.get(log_id, partition).unwrap_or_default(), end, "{topic} {partition}");
        }
        assert!(applied.0.keys().any(|(log, _)| *log == log_id));
    };
    check(&mut second, "Order.v1", LOG);
    // Then it is there.
    first.deploy(&spec).unwrap();
    append(&log, batches().map(|batch| Batch { topic: topic.clone(), ..batch }).collect());
    check(&mut second, &topic, log_id);
}

/// A broker has forgotten what owners noted a week ago.
#[test]
fn what_is_noted_is_noted_again() {
    let (world, log) = (World::new(), new_log());
    let engine = |index: u16| {
        let slice = Slice { index, of: 2 };
        let options = EngineOptions { slice, durable: false, ..EngineOptions::default() };
        let mut engine = Engine::open(StateStore::in_memory().unwrap(), log.clone(), options).unwrap();
        engine.deploy(&JobSpec { number: 4, ..world.spec(true) }).unwrap();
        engine.run_to_end().unwrap();
        engine
    };
    let mut engines = [engine(0), engine(1)];
    assert_eq!(engines[0].noted_by_all().unwrap(), 4);
    let mut broker = log.producer("broker").unwrap();
    broker.begin().unwrap();
    for slice in 0..2 {
        broker.send_offset("thyme-deployed", WORK, slice, 0).unwrap();
    }
    assert!(matches!(broker.commit(), CommitOutcome::Committed));
    engines.iter_mut().for_each(|engine| engine.run_to_end().unwrap());
    assert_eq!(engines[0].noted_by_all().unwrap(), 0, "they need not look");
    engines.iter_mut().for_each(Engine::note_again);
    engines.iter_mut().for_each(|engine| engine.run_to_end().unwrap());
    assert_eq!(engines[0].noted_by_all().unwrap(), 4);
}

/// An owner that comes back as one of an earlier deployment than its successor has noted sends nothing: its logs may be deleted.
#[test]
fn an_owner_of_an_earlier_deployment_sends_nothing() {
    let (world, log) = (World::new(), new_log());
    let spec = |number: u64| JobSpec { number, ..world.spec(true) };
    let engine = |index: u16| {
        let slice = Slice { index, of: 2 };
        let options = EngineOptions { slice, durable: false, ..EngineOptions::default() };
        Engine::open(StateStore::in_memory().unwrap(), log.clone(), options).unwrap()
    };
    let (mut first, mut second) = (engine(0), engine(1));
    first.deploy(&spec(4)).unwrap();
    second.deploy(&spec(4)).unwrap();
    first.run_to_end().unwrap();
    assert_eq!(first.noted_by_all().unwrap(), 0, "the second has not said anything");
    second.run_to_end().unwrap();
    assert_eq!(first.noted_by_all().unwrap(), 4);
    // Another owner of the second slice goes on to the next deployment.
    let mut other = engine(1);
    other.deploy(&spec(4)).unwrap();
    other.deploy(&spec(5)).unwrap();
    first.deploy(&spec(5)).unwrap();
    other.run_to_end().unwrap();
    first.run_to_end().unwrap();
    assert_eq!(first.noted_by_all().unwrap(), 5);
    let sent = |user: u32| Sent {
        user: format!("u{user}"),
        time: START,
        amount: 1.0,
        city: Some("c1".to_string()),
        id: EventId::None,
        append_time: START,
    };
    append(&log, (0..20).map(|user| sent(user).batch()).collect());
    // It is fenced, makes a producer again, and finds the note.
    let errors: Vec<_> = (0..5).filter_map(|_| second.step().err()).collect();
    let refused = errors.last().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.message().contains("own=4 noted=5"), "{refused}");
    second.deploy(&spec(5)).unwrap();
    second.run_to_end().unwrap();
    first.run_to_end().unwrap();
    let route = &world.compiled.pipelines["CityStats.compute"].route.as_ref().unwrap().topic;
    let routed = |partition: u16| log.read(route, partition, 0, 1_000, 1 << 20).unwrap();
    let events = (0..PARTITIONS).flat_map(routed).filter(|record| !record.key.is_empty()).count();
    assert_eq!(events, 20);
}

/// An owner had built what is being built; whoever comes after it has not, and works on all the same.
#[test]
fn who_comes_after_an_owner_that_had_a_build_done_goes_on_without() {
    use thyme_engine::number::{begun, built, over};
    let (world, log) = (World::new(), new_log());
    let at = |index: u16, number: u64| {
        let options = EngineOptions { slice: Slice { index, of: 2 }, durable: false, ..EngineOptions::default() };
        let mut engine = Engine::open(StateStore::in_memory().unwrap(), log.clone(), options).unwrap();
        engine.deploy(&JobSpec { number, ..world.spec(true) }).unwrap();
        engine
    };
    let (mut first, mut second) = (at(0, built(7)), at(1, built(7)));
    first.run_to_end().unwrap();
    second.run_to_end().unwrap();
    assert_eq!(first.noted_by_all().unwrap(), built(7));
    // Whoever makes a producer again looks at the note.
    let mut asking = log.producer("asking").unwrap();
    for number in [over(6), begun(7)] {
        at(1, number).check_note(asking.as_mut()).unwrap();
    }
    let mut later = at(1, over(7));
    later.run_to_end().unwrap();
    let refused = at(1, built(7)).check_note(asking.as_mut()).unwrap_err();
    assert!(refused.message().contains("own=22 noted=23"), "{refused}");
}

/// A node that holds some slices waits for what these have of a position, and for what comes to them from other slices.
#[test]
fn what_some_slices_have_of_a_position_is_waited_for() {
    let (world, log) = (World::new(), new_log());
    let mut engines = one_for_each_partition(&log, &world.spec(true));
    let handle = EngineHandle::of_all(engines.iter().map(|(_, engine)| engine.handle()));
    let batch = Sent {
        user: "u1".to_string(),
        time: START,
        amount: 2.0,
        city: Some("c1".to_string()),
        id: EventId::None,
        append_time: START,
    }
    .batch();
    let own = batch.partition;
    append(&log, vec![batch]);
    let mut position = PositionSet::default();
    position.set(LOG, own, 1);
    let is_position_applied = |position: &PositionSet, slices: &[u16]| {
        let slices = slices.iter().copied().collect();
        futures_block(handle.wait_applied(&slices, position, Duration::ZERO)).is_ok()
    };
    let is_applied = |slices: &[u16]| is_position_applied(&position, slices);
    let others: Vec<u16> = (0..PARTITIONS).filter(|slice| *slice != own).collect();
    assert!((0..PARTITIONS).all(|slice| !is_applied(&[slice])));
    engines[usize::from(own)].1.run_to_end().unwrap();
    assert!(is_applied(&[own]));
    assert!(others.iter().all(|slice| !is_applied(&[*slice]) && !is_applied(&[own, *slice])), "nor is it routed there");
    for slice in &others {
        engines[usize::from(*slice)].1.run_to_end().unwrap();
        assert!(is_applied(&[*slice]) && is_applied(&[own, *slice]));
        assert_eq!(handle.is_applied(&position), Some(slice) == others.last());
    }
    // Of a log that they do not know nobody can say that it is another slice's.
    let mut unknown = PositionSet::default();
    unknown.set(99, own, 1);
    assert!((0..PARTITIONS).all(|slice| !is_position_applied(&unknown, &[slice])));
}
