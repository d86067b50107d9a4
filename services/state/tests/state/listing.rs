//! What is gone over without being asked for by name: the keys of a table, and a key's events from a place on.

use crate::workload::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use thyme_core::Value;
use thyme_core::key::{encode_key, vnode};
use thyme_core::testing::cases;
use thyme_state::{Durability, Event, EventsFrom, Snapshot, StateStore, Table, Visible};

static NEXT_TABLE: AtomicU32 = AtomicU32::new(1);

fn new_table() -> Table {
    table(NEXT_TABLE.fetch_add(1, Ordering::Relaxed), false)
}

/// Texts that begin alike and hold what is escaped, numbers of either sign.
fn component() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[\\x00\\x01\u{7f}ab]{0,3}".prop_map(Value::str),
        prop::sample::select(vec![i64::MIN, -1, 0, 1, 255, 256, i64::MAX]).prop_map(Value::Int),
        any::<bool>().prop_map(Value::Bool),
    ]
}

/// All keys of a hash slice, so many at a time.
fn paged(snapshot: &Snapshot, table: &Table, vnode: u8, key_parts: usize, page: usize) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        let after = all.last().map(Vec::as_slice);
        let some = snapshot.keys(table, vnode, key_parts, after, page).unwrap();
        assert!(some.len() <= page);
        let is_last = some.len() < page;
        all.extend(some);
        if is_last {
            return all;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(120, 1_500)))]

    /// Of a key with one event or with many rows, next to other tables, without what was erased; what comes later is not seen.
    #[test]
    fn keys_are_those_that_have_events(
        key_parts in 1usize..4,
        given in prop::collection::vec((prop::collection::vec(component(), 3), 0usize..4), 1..40),
        erased in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        page in 1usize..7,
        seed: u64,
    ) {
        let mut random = Random(seed);
        let store = shared_store(2);
        let tables = [new_table(), new_table(), new_table()];
        let mut held: [BTreeMap<u8, BTreeSet<Vec<u8>>>; 3] = Default::default();
        let keys: Vec<Vec<u8>> = given.iter().map(|(parts, _)| encode_key(&parts[..key_parts]).unwrap()).collect();
        for (key, (_, place)) in keys.iter().zip(&given) {
            let (place, is_new) = (place % 3, !held[place % 3].values().any(|keys| keys.contains(key)));
            if is_new {
                let count = if random.below(5) == 0 { 300 } else { 1 + random.below(3) as usize };
                let events = events(&mut random, &tables[place], count);
                apply(&mut random, &store, &tables[place], key, &events);
                held[place].entry(vnode(key)).or_default().insert(key.clone());
            }
        }
        let mut tick = store.tick();
        for key in erased.iter().map(|index| index.get(&keys)) {
            tick.erase_key(&tables[1], key).unwrap();
            held[1].entry(vnode(key)).or_default().remove(key);
        }
        tick.commit(Durability::Buffered).unwrap();
        let snapshot = store.snapshot();
        let later = events(&mut random, &tables[0], 1);
        apply(&mut random, &store, &tables[0], &encode_key(&vec![Value::str("later"); key_parts]).unwrap(), &later);
        for (table, held) in tables.iter().zip(&held) {
            for vnode in 0..=u8::MAX {
                let wanted: Vec<Vec<u8>> = held.get(&vnode).into_iter().flatten().cloned().collect();
                prop_assert_eq!(paged(&snapshot, table, vnode, key_parts, page), wanted);
            }
        }
    }

    #[test]
    fn events_piece_by_piece_are_all_of_them(seed: u64, routed: bool, piece in 1usize..200) {
        let mut random = Random(seed);
        let store = shared_store(3);
        let table = Table { routed, ..new_table() };
        let count = size(&mut random);
        let events = events(&mut random, &table, count);
        apply(&mut random, &store, &table, b"key", &events);
        let snapshot = store.snapshot();
        let (from, to) = (time_near(&mut random, &events), time_near(&mut random, &events));
        let visible = visible(&mut random, &events);
        let wanted = expected_events(&events, from, to, &visible);
        let mut found: Vec<Event> = Vec::new();
        let mut place = EventsFrom::Time(from);
        loop {
            let end = found.len() + piece;
            snapshot
                .each_event(&table, b"key", place, to, &visible, &mut |event| {
                    found.push(event);
                    Ok(found.len() < end)
                })
                .unwrap();
            if found.len() < end {
                break;
            }
            place = found.last().map_or(place, |last| EventsFrom::Behind(last.time, last.origin));
        }
        prop_assert_eq!(&found, &wanted);
        let mut instants: Vec<i64> = wanted.iter().map(|event| event.time).collect();
        instants.dedup();
        prop_assert_eq!(snapshot.event_times(&table, b"key", from, to, &visible, usize::MAX).unwrap(), instants.clone());
        instants.truncate(piece);
        prop_assert_eq!(snapshot.event_times(&table, b"key", from, to, &visible, piece).unwrap(), instants);
    }
}

#[test]
fn a_table_without_rows_has_no_keys() {
    let snapshot = StateStore::in_memory().unwrap().snapshot();
    let table = new_table();
    assert_eq!(snapshot.keys(&table, 0, 1, None, 9).unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(snapshot.event_times(&table, b"key", i64::MIN, i64::MAX, &Visible::ALL, 9).unwrap(), Vec::<i64>::new());
}
