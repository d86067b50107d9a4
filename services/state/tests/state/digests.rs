//! What a digest must be, from the stretches of time that it is defined by; and long windows over large keys.

use crate::workload::{Random, spec};
use proptest::prelude::*;
use std::sync::Arc;
use thyme_core::Value;
use thyme_core::aggregate::{Partial, PartialKind, PartialSpec, TableLayout, WindowRead};
use thyme_core::position::Position;
use thyme_core::schema::DataType;
use thyme_core::testing::cases;
use thyme_core::window::Window;
use thyme_state::{Durability, Event, StateStore, Table, Visible};

/// Time, then position, as one number; a root block spans 2^102 of them.
fn coordinate(event: &Event) -> u128 {
    let position = u64::from(event.origin.partition) << 48 | event.origin.offset;
    u128::from(event.time as u64 ^ 1 << 63) << 56 | u128::from(position)
}

fn time_of(coordinate: u128) -> i64 {
    ((coordinate >> 56) as u64 ^ 1 << 63) as i64
}

/// The digest of `[from, to]` over the events that it holds, ascending.
pub fn digest(spec: &PartialSpec, events: &[&Event], from: i64, to: i64) -> Partial {
    let mut whole = Partial::empty(spec);
    for block in events.chunk_by(|one, other| coordinate(one) >> 102 == coordinate(other) >> 102) {
        whole.merge(spec, &below(spec, block, 102, from, to));
    }
    whole
}

/// The digest of a stretch of 2^bits coordinates that a page may stand for.
fn below(spec: &PartialSpec, events: &[&Event], bits: u32, from: i64, to: i64) -> Partial {
    let mut whole = Partial::empty(spec);
    if events.len() <= 64 {
        for event in events.iter().filter(|event| spec.predicate.is_none_or(|bit| event.predicates >> bit & 1 == 1)) {
            whole.add(spec, event.time, &event.values[usize::from(spec.column.unwrap())]);
        }
        return whole;
    }
    let part = |event: &Event| coordinate(event) >> (bits - 6);
    for part in events.chunk_by(|one, other| part(one) == part(other)) {
        whole.merge(spec, &below(spec, part, bits - 6, from, to));
    }
    let start = coordinate(events[0]) >> bits << bits;
    if bits < 102 && from <= time_of(start) && time_of(start + (1 << bits) - 1) <= to {
        whole.cut();
    }
    whole
}

const DAY: i64 = 86_400_000_000;
const START: i64 = 1_700_000_000_000_000;

fn table() -> Table {
    let partials = vec![
        spec(PartialKind::Count, None, None),
        spec(PartialKind::DecayedSum { half_life: DAY }, Some(0), None),
        spec(PartialKind::DecayedSum { half_life: 60_000_000 }, Some(0), None),
        spec(PartialKind::DigestFloat, Some(0), None),
    ];
    Table {
        id: 1,
        layout: Arc::new(TableLayout { columns: vec![DataType::Float], predicates: 0, partials, kept: None }),
        routed: false,
    }
}

/// Events over `days`, in log order; the value of each by its index and a random number.
fn events(count: u64, days: i64, value: impl Fn(u64, u64) -> f64) -> Vec<Event> {
    let mut random = Random(count);
    let event = |sequence: u64| Event {
        time: START + random.below((days * DAY) as u64) as i64,
        origin: Position { partition: 0, offset: sequence },
        sequence,
        append_time: START + sequence as i64,
        values: vec![Value::Float(value(sequence, random.next()))],
        predicates: 0,
    };
    (0..count).map(event).collect()
}

fn store_of(table: &Table, events: &[Event], tick: usize) -> Arc<StateStore> {
    let store = StateStore::in_memory().unwrap();
    for chunk in events.chunks(tick) {
        let mut tick = store.tick();
        tick.apply(table, b"key", chunk.to_vec()).unwrap();
        tick.commit(Durability::Buffered).unwrap();
    }
    store
}

/// The digest of a window is within 0.01 of the rank of every value, its edges cutting through stretches of any size.
fn check_ranks(events: &[Event], digest: &Partial, from: i64, to: i64) {
    let Partial::Digest(digest) = digest else { panic!("{digest:?} is no digest") };
    let held = events.iter().filter(|event| event.time >= from && event.time <= to);
    let mut values: Vec<f64> = held
        .map(|event| match event.values[0] {
            Value::Float(value) => value,
            _ => unreachable!("all values are floats"),
        })
        .collect();
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len() as f64;
    assert_eq!(digest.count(), values.len() as u64);
    for value in values.iter().step_by(values.len() / 200 + 1) {
        let less = values.partition_point(|other| other < value) as f64;
        let up_to = values.partition_point(|other| other <= value) as f64;
        let standing = digest.standing(&Value::Float(*value)).unwrap();
        let found = (2 * standing.less + standing.equal) as f64 / (2 * standing.all) as f64;
        let expected = (less + up_to) / 2.0 / count;
        assert!((found - expected).abs() <= 0.01, "{found} for {expected} of {count}");
        if values.len() <= 64 {
            assert_eq!(found, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(256, 400)))]

    #[test]
    fn digests_stay_within_their_error(seed: u64, count in 65u64..6_000, days in 1i64..100, shape in 0u8..5) {
        let value = |index: u64, word: u64| match shape {
            0 => (word >> 11) as f64,
            1 => index as f64,
            2 => (word % 500) as f64 / 100.0,
            3 => if word.is_multiple_of(10) { word as f64 } else { 0.0 },
            _ => 1.0 / ((word >> 11) as f64 + 1.0),
        };
        let (table, events) = (table(), events(count, days, value));
        let store = store_of(&table, &events, 1_000);
        let mut random = Random(seed);
        for _ in 0..10 {
            let near = |random: &mut Random| events[random.below(count) as usize].time + random.below(3) as i64 - 1;
            let (one, other) = (near(&mut random), near(&mut random));
            let (from, to) = (one.min(other), one.max(other).max(one.min(other) + 1));
            let read = WindowRead { window: Window::Length(to - from), partials: vec![3], scans: Vec::new() };
            let found = store.snapshot().read(&table, b"key", to, &[read], &Visible::ALL).unwrap();
            check_ranks(&events, &found[0].partials[0], from, to);
        }
    }
}

/// The bound on a 90-day window, for the partials that are put together along the way.
#[test]
fn a_long_window_reads_few_rows() {
    // A soak asks for more events.
    let count = if std::env::var_os("THYME_SOAK").is_some() { 1_000_000 } else { 200_000 };
    let (table, events) = (table(), events(count, 200, |_, word| (word % 100_000) as f64 / 100.0));
    let store = store_of(&table, &events, 5_000);
    let mut random = Random(3);
    let mut worst = [0; 3];
    for round in 0..300 {
        let at = START + random.below((300 * DAY) as u64) as i64;
        // A day's half-life reaches beyond the window, a minute's not nearly as far.
        for (index, (partial, length)) in
            [(1, 90 * DAY), (2, 2_300 * 60_000_000), (3, 90 * DAY)].into_iter().enumerate()
        {
            let read = WindowRead { window: Window::Length(length), partials: vec![partial], scans: Vec::new() };
            let snapshot = store.snapshot();
            let found = snapshot.read(&table, b"key", at, &[read], &Visible::ALL).unwrap();
            worst[index] = worst[index].max(snapshot.rows_read());
            assert!(!found[0].partials[0].is_unknown());
            if partial == 3 && round % 30 == 0 {
                check_ranks(&events, &found[0].partials[0], at - length, at);
            }
        }
    }
    assert!(worst.iter().all(|rows| *rows <= 40), "{worst:?} rows");
}

/// A window's digest is the same whatever else is asked for in the same question.
#[test]
fn other_windows_leave_no_trace() {
    let (table, events) = (table(), events(30_000, 60, |_, word| word as f64));
    let store = store_of(&table, &events, 700);
    let mut random = Random(8);
    let read = |days: i64| WindowRead { window: Window::Length(days * DAY), partials: vec![3, 1], scans: Vec::new() };
    for _ in 0..40 {
        let at = START + random.below((60 * DAY) as u64) as i64;
        let reads: Vec<WindowRead> = [1, 7, 30, 45].map(read).to_vec();
        let together = store.snapshot().read(&table, b"key", at, &reads, &Visible::ALL).unwrap();
        for (read, found) in reads.iter().zip(together) {
            let alone = store.snapshot().read(&table, b"key", at, std::slice::from_ref(read), &Visible::ALL).unwrap();
            assert_eq!(found, alone[0]);
        }
    }
}

/// `known_at` gives what a state gave that held only the events known then.
#[test]
fn what_came_later_leaves_no_trace() {
    let (table, events) = (table(), events(20_000, 60, |_, word| word as f64));
    let early = store_of(&table, &events[..9_000], 500);
    let late = store_of(&table, &events, 20_000);
    let visible = Visible { sequence_below: Some(9_000), appended_by: None };
    let mut random = Random(8);
    for _ in 0..40 {
        let at = START + random.below((70 * DAY) as u64) as i64;
        let read = WindowRead { window: Window::Length(30 * DAY), partials: vec![3, 1, 2], scans: Vec::new() };
        let reads = std::slice::from_ref(&read);
        let then = early.snapshot().read(&table, b"key", at, reads, &Visible::ALL).unwrap();
        assert_eq!(late.snapshot().read(&table, b"key", at, reads, &visible).unwrap(), then);
    }
}
