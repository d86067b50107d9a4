//! Every read equals the brute force: at random times, at window edges -1/0/+1 µs, under visible limits, one by one and swept.

use crate::workload::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};
use thyme_core::aggregate::{WindowData, WindowRead};
use thyme_core::testing::cases;
use thyme_core::window::Window;
use thyme_state::{Event, Snapshot, StateStore, Table, Visible};

static NEXT_TABLE: AtomicU32 = AtomicU32::new(1);

struct Case {
    random: Random,
    table: Table,
    events: Vec<Event>,
    snapshot: Snapshot,
}

/// A table with one key full of random events, and a neighbour key that must not show.
fn case(seed: u64, routed: bool) -> Case {
    let mut random = Random(seed);
    let store = shared_store(1);
    let table = table(NEXT_TABLE.fetch_add(1, Ordering::Relaxed), routed);
    let count = size(&mut random);
    let events = events(&mut random, &table, count);
    apply(&mut random, &store, &table, b"key", &events);
    let others = crate::workload::events(&mut random, &table, 3);
    apply(&mut random, &store, &table, b"other", &others);
    Case { random, table, events, snapshot: store.snapshot() }
}

fn swept(case: &Case, times: &[i64], reads: &[WindowRead], visible: &Visible) -> Vec<Vec<WindowData>> {
    let mut found = Vec::new();
    let mut visit = |index: usize, data: &[WindowData]| {
        assert_eq!(index, found.len());
        found.push(data.to_vec());
        Ok(())
    };
    case.snapshot.sweep(&case.table, b"key", times, reads, visible, &mut visit).unwrap();
    found
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
        let mut case = case(seed, routed);
        for count in [1, 7, 150] {
            let mut times: Vec<i64> = (0..count).map(|_| time_near(&mut case.random, &case.events)).collect();
            times.sort_unstable();
            let reads = windows(&mut case.random, &case.table, &case.events, times[0]);
            let visible = visible(&mut case.random, &case.events);
            let found = swept(&case, &times, &reads, &visible);
            prop_assert_eq!(found.len(), times.len());
            for (at, found) in times.iter().zip(found) {
                let single = case.snapshot.read(&case.table, b"key", *at, &reads, &visible).unwrap();
                prop_assert_eq!(found, single);
            }
        }
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
