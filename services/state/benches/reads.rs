//! Windows of one key: a single read, and the times of an export swept, beside the same times read one by one. By how many events the key
//! has for each time asked: at 128 a sweep turns into single reads by itself (`EVENTS_PER_READ`). Run by hand (`benches/README.md`).

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use std::sync::{Arc, LazyLock};
use thyme_core::aggregate::{PartialKind, PartialSpec, TableLayout, WindowRead};
use thyme_core::position::Position;
use thyme_core::schema::DataType;
use thyme_core::window::Window;
use thyme_core::{Result, Value, key};
use thyme_state::{Durability, Event, Snapshot, StateStore, Sweeper, Table, Visible};

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const START: i64 = 1_704_067_200_000_000;
/// Of the key, one a minute: eleven days.
const EVENTS: u64 = 16_384;
const EVENTS_PER_TIME: [u64; 6] = [1, 4, 16, 64, 128, 512];

fn main() {
    divan::main();
}

/// A table with one key.
struct OneKey {
    snapshot: Snapshot,
    table: Table,
    key: Vec<u8>,
    /// Count, Sum and Max over 1h, 24h and 7d.
    windows: Vec<WindowRead>,
}

static ONE_KEY: LazyLock<OneKey> =
    LazyLock::new(|| OneKey::filled().unwrap_or_else(|error| panic!("no state to read: {error}")));

impl OneKey {
    fn filled() -> Result<OneKey> {
        let spec = |kind, column| PartialSpec { kind, column, predicate: None };
        let partials =
            vec![spec(PartialKind::Count, None), spec(PartialKind::SumFloat, Some(0)), spec(PartialKind::Max, Some(0))];
        let asked: Vec<u16> = (0..partials.len() as u16).collect();
        let layout = TableLayout { columns: vec![DataType::Float], predicates: 0, partials, kept: None };
        let table = Table { id: 1, layout: Arc::new(layout), routed: false };
        let key = key::encode_key(&[Value::Int(7)]).unwrap_or_default();
        let store = StateStore::in_memory()?;
        let event = |sequence: u64| Event {
            time: time_of(sequence),
            origin: Position { partition: 0, offset: sequence },
            sequence,
            append_time: time_of(sequence),
            values: vec![Value::Float((sequence * 7919 % 100_003) as f64 / 100.0)],
            predicates: 0,
        };
        let mut tick = store.tick();
        tick.apply(&table, &key, (0..EVENTS).map(event).collect())?;
        tick.commit(Durability::Buffered)?;
        let window = |hours: i64| WindowRead {
            window: Window::Length(hours * HOUR),
            partials: asked.clone(),
            scans: Vec::new(),
        };
        Ok(OneKey { snapshot: store.snapshot(), table, key, windows: [1, 24, 168].map(window).to_vec() })
    }

    fn read(&self, at: i64) {
        let read = self.snapshot.read(&self.table, &self.key, at, &self.windows, &Visible::ALL);
        black_box(read).unwrap_or_else(|error| panic!("not read: {error}"));
    }
}

fn time_of(event: u64) -> i64 {
    START + event as i64 * MINUTE
}

/// Spread over the key's events, between two of them.
fn times(events_per_time: u64) -> Vec<i64> {
    (0..EVENTS / events_per_time).map(|index| time_of(index * events_per_time) + MINUTE / 2).collect()
}

#[divan::bench]
fn read_at_the_end(bencher: Bencher<'_, '_>) {
    let one_key = &*ONE_KEY;
    bencher.bench(|| one_key.read(black_box(time_of(EVENTS))));
}

#[divan::bench]
fn read_in_the_past(bencher: Bencher<'_, '_>) {
    let one_key = &*ONE_KEY;
    bencher.bench(|| one_key.read(black_box(time_of(EVENTS * 3 / 4) + MINUTE / 2)));
}

#[divan::bench(args = EVENTS_PER_TIME, max_time = 2)]
fn swept(bencher: Bencher<'_, '_>, events_per_time: u64) {
    let (OneKey { snapshot, table, key, windows }, times) = (&*ONE_KEY, times(events_per_time));
    let mut sweeper = Sweeper::new(table, windows).unwrap_or_else(|error| panic!("nothing to sweep: {error}"));
    bencher.counter(ItemsCount::new(times.len())).bench_local(|| {
        let swept = sweeper.sweep(snapshot, key, black_box(&times), &Visible::ALL, &mut |_, data| {
            black_box(data);
            Ok(())
        });
        swept.unwrap_or_else(|error| panic!("not swept: {error}"));
    });
}

#[divan::bench(args = EVENTS_PER_TIME, max_time = 2)]
fn read_one_by_one(bencher: Bencher<'_, '_>, events_per_time: u64) {
    let (one_key, times) = (&*ONE_KEY, times(events_per_time));
    bencher.counter(ItemsCount::new(times.len())).bench(|| times.iter().for_each(|at| one_key.read(*at)));
}
