//! Rows depend on the set of events only.

use crate::workload::{Random, apply, events, shared_store, size, table};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use thyme_core::position::Position;
use thyme_core::testing::cases;
use thyme_state::{Durability, Event, StateStore, Visible};

static NEXT_TABLE: AtomicU32 = AtomicU32::new(1);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1_000, 10_000)))]

    #[test]
    fn batches_and_order_leave_no_trace(seed: u64, routed: bool) {
        let mut random = Random(seed);
        let table = table(NEXT_TABLE.fetch_add(1, Ordering::Relaxed), routed);
        let count = size(&mut random);
        let events = events(&mut random, &table, count);
        let (first, second) = (shared_store(1), shared_store(2));
        apply(&mut random, &first, &table, b"key", &events);
        let mut shuffled = events.clone();
        random.shuffle(&mut shuffled);
        apply(&mut random, &second, &table, b"key", &shuffled);
        prop_assert_eq!(first.digest(&table).unwrap(), second.digest(&table).unwrap());
    }
}

fn at_one_instant(count: u64) -> Vec<Event> {
    let event = |offset: u64| Event {
        time: 1_700_000_000_000_000,
        origin: Position { partition: 3, offset },
        sequence: offset,
        append_time: 1_700_000_000_000_000 + offset as i64,
        values: vec![1.25.into_value(), thyme_core::Value::Int(offset as i64)],
        predicates: 0,
    };
    (0..count).map(|index| event(7 + index * 3)).collect()
}

trait IntoValue {
    fn into_value(self) -> thyme_core::Value;
}
impl IntoValue for f64 {
    fn into_value(self) -> thyme_core::Value {
        thyme_core::Value::Float(self)
    }
}

#[test]
fn ten_thousand_events_of_one_instant() {
    let mut table = table(1, false);
    let mut layout = (*table.layout).clone();
    layout.columns.truncate(2);
    layout.partials.retain(|spec| spec.column.is_none_or(|column| column < 2));
    table.layout = Arc::new(layout);
    let events = at_one_instant(10_000);
    let (one, many) = (StateStore::in_memory().unwrap(), StateStore::in_memory().unwrap());
    let mut tick = one.tick();
    tick.apply(&table, b"k", events.clone()).unwrap();
    tick.commit(Durability::Synced).unwrap();
    let mut random = Random(1);
    let mut shuffled = events.clone();
    random.shuffle(&mut shuffled);
    for chunk in shuffled.chunks(997) {
        let mut tick = many.tick();
        tick.apply(&table, b"k", chunk.to_vec()).unwrap();
        tick.commit(Durability::Synced).unwrap();
    }
    assert_eq!(one.digest(&table).unwrap(), many.digest(&table).unwrap());
    let snapshot = many.snapshot();
    assert_eq!(snapshot.events(&table, b"k", i64::MIN, i64::MAX, &Visible::ALL, None).unwrap(), events);
    let visible = Visible { sequence_below: Some(7 + 3 * 5_000), appended_by: None };
    let seen = snapshot.events(&table, b"k", i64::MIN, i64::MAX, &visible, None).unwrap();
    assert_eq!(seen, events[..5_000]);
    let newest = snapshot.newest(&table, b"k", i64::MAX, &visible).unwrap();
    assert_eq!(newest.as_ref(), events[..5_000].last());
}

#[test]
fn the_same_event_twice_is_refused() {
    let table = table(1, true);
    let store = StateStore::in_memory().unwrap();
    let events = events(&mut Random(3), &table, 10);
    let mut tick = store.tick();
    tick.apply(&table, b"k", events.clone()).unwrap();
    tick.commit(Durability::Synced).unwrap();
    let error = store.tick().apply(&table, b"k", events[..1].to_vec()).unwrap_err();
    assert!(error.message().contains("applied twice"), "{error}");
}
