//! Every read equals the brute force: at random times, at window edges -1/0/+1 µs, under visible limits, one by one and swept.

use crate::workload::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use thyme_core::aggregate::{WindowData, WindowRead};
use thyme_core::testing::cases;
use thyme_core::window::Window;
use thyme_state::{Event, Options, Snapshot, StateStore, Sweeper, Table, Visible};

static NEXT_TABLE: AtomicU32 = AtomicU32::new(1);

struct Case {
    random: Random,
    table: Table,
    events: Vec<Event>,
    snapshot: Snapshot,
}

fn next_id() -> u32 {
    NEXT_TABLE.fetch_add(1, Ordering::Relaxed)
}

fn case(seed: u64, routed: bool) -> Case {
    case_in(&shared_store(1), seed, table(next_id(), routed))
}

/// A table with one key full of random events, and a neighbour key that must not show.
fn case_in(store: &Arc<StateStore>, seed: u64, table: Table) -> Case {
    let mut random = Random(seed);
    let count = size(&mut random);
    let events = events(&mut random, &table, count);
    apply(&mut random, store, &table, b"key", &events);
    let others = crate::workload::events(&mut random, &table, 3);
    apply(&mut random, store, &table, b"other", &others);
    Case { random, table, events, snapshot: store.snapshot() }
}

/// Of the key, by what has swept another key before.
fn swept(case: &Case, times: &[i64], reads: &[WindowRead], visible: &Visible) -> Vec<Vec<WindowData>> {
    let mut sweeper = Sweeper::new(&case.table, reads).unwrap();
    let mut found = Vec::new();
    for key in [b"other".as_slice(), b"key"] {
        found.clear();
        let mut visit = |index: usize, data: &[WindowData]| {
            assert_eq!(index, found.len());
            found.push(data.to_vec());
            Ok(())
        };
        sweeper.sweep(&case.snapshot, key, times, visible, &mut visit).unwrap();
    }
    found
}

fn sweeps_equal_single_reads(mut case: Case) {
    for count in [1, 7, 150] {
        let mut times: Vec<i64> = (0..count).map(|_| time_near(&mut case.random, &case.events)).collect();
        times.sort_unstable();
        let reads = windows(&mut case.random, &case.table, &case.events, times[0]);
        let visible = visible(&mut case.random, &case.events);
        let found = swept(&case, &times, &reads, &visible);
        assert_eq!(found.len(), times.len());
        for (at, found) in times.iter().zip(found) {
            assert_eq!(found, case.snapshot.read(&case.table, b"key", *at, &reads, &visible).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1_000, 10_000)))]

    #[test]
    fn reads_equal_the_brute_force(seed: u64, routed: bool) {
        let mut case = case(seed, routed);
        for _ in 0..12 {
            let at = time_near(&mut case.random, &case.events);
            let reads = windows(&mut case.random, &case.table, &case.events, at);
            let visible = visible(&mut case.random, &case.events);
            let found = case.snapshot.read(&case.table, b"key", at, &reads, &visible).unwrap();
            prop_assert_eq!(found, expected(&case.table, &case.events, at, &reads, &visible));
        }
    }
}

proptest! {
    #[test]
    fn a_sweep_equals_single_reads(seed: u64, routed: bool) {
        sweeps_equal_single_reads(case(seed, routed));
    }

    #[test]
    fn a_sweep_of_numbers_equals_single_reads(seed: u64, columns in 1usize..5, routed: bool) {
        sweeps_equal_single_reads(case_in(&shared_store(1), seed, table_of_numbers(next_id(), columns, routed)));
    }

    #[test]
    fn lookups_equal_the_brute_force(seed: u64, routed: bool) {
        let mut case = case(seed, routed);
        for _ in 0..8 {
            let at = time_near(&mut case.random, &case.events);
            let from = time_near(&mut case.random, &case.events);
            let visible = visible(&mut case.random, &case.events);
            let (snapshot, table) = (&case.snapshot, &case.table);
            let before = expected_events(&case.events, i64::MIN, at, &visible);
            prop_assert_eq!(&snapshot.newest(table, b"key", at, &visible).unwrap(), &before.last().cloned());
            prop_assert_eq!(snapshot.known(table, b"key", at, &visible).unwrap(), !before.is_empty());
            let all = expected_events(&case.events, i64::MIN, i64::MAX, &visible);
            let oldest = snapshot.oldest_time(table, b"key", &visible).unwrap();
            prop_assert_eq!(oldest, all.first().map(|event| event.time));
            let mut between = expected_events(&case.events, from, at, &visible);
            prop_assert_eq!(&snapshot.events(table, b"key", from, at, &visible, None).unwrap(), &between);
            between.truncate(5);
            prop_assert_eq!(&snapshot.events(table, b"key", from, at, &visible, Some(5)).unwrap(), &between);
        }
    }
}

/// Without a cache of rows all are stepped to.
#[test]
fn a_sweep_of_rows_that_are_not_in_memory_equals_single_reads() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { row_cache_bytes: 0, ..Options::default() };
    let store = StateStore::open(directory.path(), options).unwrap();
    for seed in 0..u64::from(cases(60, 600)) {
        let (id, routed) = (next_id(), seed % 4 == 0);
        let table = if seed % 2 == 0 { table(id, routed) } else { table_of_numbers(id, 2, routed) };
        sweeps_equal_single_reads(case_in(&store, seed, table));
    }
}

/// In the order of rows or not, near each other or not, known or not.
#[test]
fn keys_are_swept_as_they_are_read_whatever_comes_before_them() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { row_cache_bytes: 0, ..Options::default() };
    let store = StateStore::open(directory.path(), options).unwrap();
    let (mut random, table) = (Random(3), table_of_numbers(next_id(), 2, false));
    let mut of_keys = Vec::new();
    for number in 0..120 {
        let count = if number % 10 == 0 { 600 } else { 1 + random.below(70) as usize };
        let events = events(&mut random, &table, count);
        apply(&mut random, &store, &table, format!("key{number:03}").as_bytes(), &events);
        of_keys.push(events);
    }
    let known = |number: u64| format!("key{number:03}");
    let mut keys: Vec<String> = (0..120).flat_map(|number| [known(number), format!("not{number:03}")]).collect();
    keys.sort_by_key(|key| (thyme_core::key::vnode(key.as_bytes()), key.clone()));
    let each = |nth: usize| keys.iter().step_by(nth).cloned().collect::<Vec<_>>();
    let mut orders = vec![each(1), each(2), each(17), each(60)];
    orders.push((0..200).map(|_| keys[random.below(240) as usize].clone()).collect());
    let snapshot = store.snapshot();
    let partials: Vec<u16> = (0..table.layout.partials.len() as u16).collect();
    let window = |window| WindowRead { window, partials: partials.clone(), scans: Vec::new() };
    let reads = [Window::Length(1_000), Window::Length(86_400_000_000), Window::Forever].map(window);
    let mut sweeper = Sweeper::new(&table, &reads).unwrap();
    for key in orders.iter().flatten() {
        let events = &of_keys[key[3..].parse::<usize>().unwrap()];
        let mut times: Vec<i64> = (0..1 + random.below(12)).map(|_| time_near(&mut random, events)).collect();
        times.sort_unstable();
        let mut found = Vec::new();
        let mut visit = |_: usize, data: &[WindowData]| {
            found.push(data.to_vec());
            Ok(())
        };
        sweeper.sweep(&snapshot, key.as_bytes(), &times, &Visible::ALL, &mut visit).unwrap();
        let read = |at: &i64| snapshot.read(&table, key.as_bytes(), *at, &reads, &Visible::ALL).unwrap();
        assert_eq!(found, times.iter().map(read).collect::<Vec<_>>(), "{key}");
    }
}

#[test]
fn an_unknown_key_is_empty() {
    let case = case(5, false);
    let reads = windows(&mut Random(9), &case.table, &case.events, i64::MAX);
    let found = case.snapshot.read(&case.table, b"nobody", i64::MAX, &reads, &Visible::ALL).unwrap();
    assert_eq!(found, expected(&case.table, &[], i64::MAX, &reads, &Visible::ALL));
    assert!(!case.snapshot.known(&case.table, b"nobody", i64::MAX, &Visible::ALL).unwrap());
}

/// The bound on a long window over a large key; the million of `make bench` is asserted there.
#[test]
fn a_long_window_reads_few_rows() {
    let mut random = Random(11);
    let table = table(NEXT_TABLE.fetch_add(1, Ordering::Relaxed), false);
    let day = 86_400_000_000i64;
    let mut events = events(&mut random, &table, 100_000);
    for event in &mut events {
        event.time = 1_700_000_000_000_000 + random.below(200 * day as u64) as i64;
    }
    let store = StateStore::in_memory().unwrap();
    let mut tick = store.tick();
    tick.apply(&table, b"key", events).unwrap();
    tick.commit(thyme_state::Durability::Buffered).unwrap();
    let read = WindowRead { window: Window::Length(90 * day), partials: vec![0, 1, 2, 6], scans: Vec::new() };
    for _ in 0..300 {
        let at = 1_700_000_000_000_000 + random.below(300 * day as u64) as i64;
        let snapshot = store.snapshot();
        snapshot.read(&table, b"key", at, std::slice::from_ref(&read), &Visible::ALL).unwrap();
        assert!(snapshot.rows_read() <= 40, "{} rows", snapshot.rows_read());
    }
}
