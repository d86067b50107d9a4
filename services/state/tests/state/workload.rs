//! Random event sets of many shapes, and the brute force that says what must come out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use thyme_core::aggregate::{Partial, PartialKind, PartialSpec, Scan, ScanItem, TableLayout, WindowData, WindowRead};
use thyme_core::position::Position;
use thyme_core::schema::DataType;
use thyme_core::window::Window;
use thyme_core::{Decimal, Value};
use thyme_state::{Durability, Event, StateStore, Table, Visible};

/// A store for a case that needs a table of its own, not a store: opening one takes longer than most cases. After 20 it is another
/// one, for a store that grows is slower. Cases with several take them by number.
pub fn shared_store(number: usize) -> Arc<StateStore> {
    thread_local! {
        static STORES: RefCell<HashMap<usize, (Arc<StateStore>, u32)>> = RefCell::default();
    }
    STORES.with_borrow_mut(|stores| {
        let fresh = || (StateStore::in_memory().unwrap(), 0);
        let entry = stores.entry(number).or_insert_with(fresh);
        if entry.1 == 20 {
            *entry = fresh();
        }
        entry.1 += 1;
        entry.0.clone()
    })
}

/// SplitMix64: the same events for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index as u64 + 1) as usize);
        }
    }
}

pub fn spec(kind: PartialKind, column: Option<u16>, predicate: Option<u16>) -> PartialSpec {
    PartialSpec { kind, column, predicate }
}

/// A table with every kind of partial.
pub fn table(id: u32, routed: bool) -> Table {
    use PartialKind::*;
    let partials = vec![
        spec(Count, None, None),
        spec(Count, Some(0), None),
        spec(SumFloat, Some(0), None),
        spec(SumFloat, Some(0), Some(1)),
        spec(SquaresFloat, Some(0), None),
        spec(Min, Some(0), None),
        spec(Max, Some(0), Some(0)),
        spec(SumInt, Some(1), None),
        spec(SquaresInt, Some(1), None),
        spec(Max, Some(1), None),
        spec(Count, None, Some(0)),
        spec(Count, Some(2), Some(1)),
        spec(Min, Some(2), None),
        spec(Max, Some(3), None),
        spec(DistinctSketch, Some(1), None),
        spec(DecayedSum { half_life: 1_000_000_000 }, Some(0), None),
        spec(DecayedSum { half_life: 86_400_000_000 }, Some(1), Some(1)),
        spec(SumDecimal, Some(5), None),
        spec(SquaresDecimal, Some(5), Some(0)),
        spec(Min, Some(5), Some(1)),
        spec(DigestFloat, Some(0), None),
        spec(DigestInt, Some(1), Some(0)),
        spec(DigestFloat, Some(5), None),
    ];
    use DataType::{Bool, Decimal, Float, Int, Str, Time};
    let columns = vec![Float, Int, Str, Time, Bool, Decimal];
    Table { id, layout: Arc::new(TableLayout { columns, predicates: 2, partials, kept: None }), routed }
}

/// A table with columns of numbers only, whose events are read quicker where all have a value.
pub fn table_of_numbers(id: u32, columns: usize, routed: bool) -> Table {
    use PartialKind::*;
    let partials = vec![
        spec(Count, None, None),
        spec(SumFloat, Some(0), None),
        spec(SumFloat, Some(0), Some(1)),
        spec(Min, Some(0), None),
        spec(Max, Some(0), None),
        spec(Max, Some(0), Some(0)),
        spec(Count, None, Some(1)),
        spec(SumInt, Some(1), None),
        spec(Min, Some(1), Some(1)),
        spec(Max, Some(2), None),
        spec(Count, Some(3), None),
    ];
    let is_there = |spec: &PartialSpec| spec.column.is_none_or(|column| usize::from(column) < columns);
    let partials = partials.into_iter().filter(is_there).collect();
    let columns = [DataType::Float, DataType::Int, DataType::Time, DataType::Bool][..columns].to_vec();
    Table { id, layout: Arc::new(TableLayout { columns, predicates: 2, partials, kept: None }), routed }
}

fn value(random: &mut Random, data_type: &DataType) -> Value {
    if random.below(5) == 0 {
        return Value::Null;
    }
    match data_type {
        DataType::Float => match random.below(4) {
            0 => Value::Float((random.next() as i64 >> 12) as f64 * 1e-7),
            // Now and then one that is too far from the others to be summed in units of one size.
            1 => Value::Float(if random.below(16) == 0 { 1e-30 } else { 1e16 }),
            _ => Value::Float((random.below(2_000_000) as f64 - 1_000_000.0) / 100.0),
        },
        DataType::Int if random.below(10) == 0 => Value::Int(random.next() as i64),
        DataType::Int => Value::Int(random.below(100) as i64),
        DataType::Str => Value::str(["", "a", "bb", "a longer text"][random.below(4) as usize]),
        DataType::Decimal => {
            let digits = i128::from(random.next() as i64) * i128::from(random.next() as i64);
            Value::Decimal(Decimal::from_units(digits / 10i128.pow(random.below(38) as u32)).unwrap_or_default())
        }
        DataType::Time => Value::Time(random.below(1 << 50) as i64),
        _ => Value::Bool(random.below(2) == 0),
    }
}

const DAY: u64 = 86_400_000_000;

/// Events in log order, of a shape picked by the random numbers: dense, tied, over hours or years, around zero, at the ends of time.
pub fn events(random: &mut Random, table: &Table, count: usize) -> Vec<Event> {
    let span = [1, 40, 1_000, 3_600_000_000, 90 * DAY, 3_000 * DAY][random.below(6) as usize];
    let origin_time =
        [0, -(span as i64) / 2, 1_700_000_000_000_000, i64::MAX - span as i64, i64::MIN][random.below(5) as usize];
    let is_ordered = random.below(3) == 0;
    let mut times: Vec<i64> = (0..count).map(|_| origin_time.wrapping_add(random.below(span + 1) as i64)).collect();
    if is_ordered {
        times.sort_unstable();
    }
    let (mut sequence, mut append_time) = (random.below(1 << 40), 1_700_000_000_000_000);
    let partition = random.below(256) as u16;
    let mut seen = std::collections::HashSet::new();
    let mut list = Vec::new();
    for time in times {
        sequence += 1 + random.below(3);
        append_time += random.below(1000) as i64 - 5;
        let offset = if table.routed { random.below(1 << 48) } else { sequence };
        let origin = Position { partition: if table.routed { random.below(256) as u16 } else { partition }, offset };
        if seen.insert((time, origin)) {
            let values = table.layout.columns.iter().map(|data_type| value(random, data_type)).collect();
            list.push(Event { time, origin, sequence, append_time, values, predicates: random.below(4) });
        }
    }
    list
}

/// How many events a case has: mostly few, sometimes enough for several levels.
pub fn size(random: &mut Random) -> usize {
    match random.below(20) {
        0..8 => 1 + random.below(64) as usize,
        8..17 => 60 + random.below(400) as usize,
        17..19 => 1_000 + random.below(1_000) as usize,
        _ => 4_200,
    }
}

/// Applies the events tick by tick, in batches of random size, each batch in random order.
pub fn apply(random: &mut Random, store: &Arc<StateStore>, table: &Table, key: &[u8], events: &[Event]) {
    let batch = 1 + random.below(events.len() as u64 + 1) as usize;
    for chunk in events.chunks(batch) {
        let mut chunk = chunk.to_vec();
        random.shuffle(&mut chunk);
        let mut tick = store.tick();
        tick.apply(table, key, chunk).unwrap();
        tick.commit(Durability::Buffered).unwrap();
    }
}

/// Windows with all partials and some scans; lengths that end near events.
pub fn windows(random: &mut Random, table: &Table, events: &[Event], at: i64) -> Vec<WindowRead> {
    (0..1 + random.below(4))
        .map(|_| {
            let near = events[random.below(events.len() as u64) as usize].time;
            let length = at.saturating_sub(near).saturating_add(random.below(3) as i64 - 1).max(1);
            let window = if random.below(6) == 0 { Window::Forever } else { Window::Length(length) };
            let all = table.layout.partials.len() as u16;
            let partials = match random.below(3) {
                0 => (0..all).collect(),
                1 => (0..all).filter(|_| random.below(2) == 0).rev().collect(),
                _ => Vec::new(),
            };
            let scans = (0..random.below(3)).map(|_| scan(random, table)).collect();
            WindowRead { window, partials, scans }
        })
        .collect()
}

fn scan(random: &mut Random, table: &Table) -> Scan {
    Scan {
        column: (random.below(5) > 0).then(|| random.below(table.layout.columns.len() as u64) as u16),
        predicate: (random.below(2) == 0).then(|| random.below(2) as u16),
        skip_null: random.below(2) == 0,
        newest_first: random.below(2) == 0,
        limit: (random.below(3) > 0).then(|| [1, 3, 100][random.below(3) as usize]),
    }
}

pub fn visible(random: &mut Random, events: &[Event]) -> Visible {
    let near = &events[random.below(events.len() as u64) as usize];
    match random.below(4) {
        0 => Visible { sequence_below: Some(near.sequence), appended_by: None },
        1 => Visible { sequence_below: None, appended_by: Some(near.append_time) },
        _ => Visible::ALL,
    }
}

/// A time near an event, or anywhere.
pub fn time_near(random: &mut Random, events: &[Event]) -> i64 {
    let near = events[random.below(events.len() as u64) as usize].time;
    match random.below(6) {
        0 => near.saturating_add(random.below(1 << 40) as i64),
        1 => near.saturating_sub(random.below(1 << 40) as i64),
        _ => near.saturating_add(random.below(3) as i64 - 1),
    }
}

/// The seen events of `[from, to]`, by (time, origin).
pub fn expected_events(events: &[Event], from: i64, to: i64, visible: &Visible) -> Vec<Event> {
    seen(events, from, to, visible).into_iter().cloned().collect()
}

fn seen<'a>(events: &'a [Event], from: i64, to: i64, visible: &Visible) -> Vec<&'a Event> {
    let is_seen = |event: &&Event| {
        visible.sequence_below.is_none_or(|limit| event.sequence < limit)
            && visible.appended_by.is_none_or(|limit| event.append_time <= limit)
    };
    let mut found: Vec<&Event> =
        events.iter().filter(|event| event.time >= from && event.time <= to).filter(is_seen).collect();
    found.sort_by_key(|event| (event.time, event.origin));
    found
}

/// The brute force.
pub fn expected(table: &Table, events: &[Event], at: i64, reads: &[WindowRead], visible: &Visible) -> Vec<WindowData> {
    let window_data = |read: &WindowRead| {
        let inside = seen(events, read.window.start(at), at, visible);
        let value = |event: &Event, column: Option<u16>| {
            column.map_or(Value::Null, |column| event.values[usize::from(column)].clone())
        };
        let fulfils =
            |event: &Event, predicate: Option<u16>| predicate.is_none_or(|bit| event.predicates >> bit & 1 == 1);
        let partial = |index: &u16| {
            let spec = &table.layout.partials[usize::from(*index)];
            let mut partial = Partial::empty(spec);
            for event in inside.iter().filter(|event| fulfils(event, spec.predicate)) {
                partial.add(spec, event.time, &value(event, spec.column));
            }
            if spec.kind.is_digest() {
                crate::digests::digest(spec, &inside, read.window.start(at), at)
            } else {
                partial
            }
        };
        let scanned = |scan: &Scan| {
            let mut items: Vec<ScanItem> = inside
                .iter()
                .filter(|event| fulfils(event, scan.predicate))
                .map(|event| ScanItem { time: event.time, origin: event.origin, value: value(event, scan.column) })
                .filter(|item| !(scan.skip_null && item.value.is_null()))
                .collect();
            if scan.newest_first {
                items.reverse();
            }
            items.truncate(scan.limit.map_or(usize::MAX, |limit| limit as usize));
            items
        };
        WindowData {
            partials: read.partials.iter().map(partial).collect(),
            scans: read.scans.iter().map(scanned).collect(),
        }
    };
    reads.iter().map(window_data).collect()
}
