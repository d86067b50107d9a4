//! Figures of the state layer alone, for profiling: a Zipf workload into a store on disk, then reads and sweeps.
//!
//! `trie_profile [events] [keys] [events per tick] [row cache MB] [more partials: 1 fading sum, 2 digest, 3 both]`; prints one
//! line per measure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use thyme_core::aggregate::{PartialKind, PartialSpec, TableLayout, WindowRead};
use thyme_core::position::Position;
use thyme_core::schema::DataType;
use thyme_core::window::Window;
use thyme_core::{Result, Value};
use thyme_state::{Durability, Event, Options, StateStore, Sweeper, Table, Visible};

const HOUR: i64 = 3_600_000_000;
const START: i64 = 1_704_067_200_000_000;
const SPAN: u64 = 30 * 24 * HOUR as u64;
const DISORDER: u64 = 600_000_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// (key, event time, amount) in order of arrival.
fn workload(random: &mut Random, events: usize, keys: usize) -> Vec<(u32, i64, f64)> {
    let mut total = 0.0;
    let cumulated: Vec<f64> = (1..=keys)
        .map(|rank| {
            total += 1.0 / (rank as f64).powf(1.1);
            total
        })
        .collect();
    let mut rows: Vec<(i64, u32, i64, f64)> = (0..events)
        .map(|_| {
            let point = random.unit() * total;
            let rank = cumulated.partition_point(|sum| *sum < point).min(keys - 1) as u32;
            let time = START + random.below(SPAN) as i64 / 1000 * 1000;
            let delay = if random.below(5) == 0 { random.below(DISORDER) as i64 } else { 0 };
            let spread = (random.unit() + random.unit() + random.unit() - 1.5) * 2.2;
            let amount = ((3.2 + spread).exp() * 100.0).floor() / 100.0 + 0.01;
            (time + delay, rank.wrapping_mul(2_654_435_761), time, (amount * 100.0).round() / 100.0)
        })
        .collect();
    rows.sort_unstable_by_key(|row| row.0);
    rows.into_iter().map(|(_, key, time, amount)| (key, time, amount)).collect()
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn key_bytes(key: u32) -> Vec<u8> {
    thyme_core::key::encode_key(&[Value::Int(i64::from(key))]).unwrap_or_default()
}

fn main() -> Result<()> {
    let arguments: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let argument = |index: usize, default: usize| arguments.get(index).copied().unwrap_or(default);
    let (count, keys, per_tick) = (argument(0, 1_000_000), argument(1, 50_000), argument(2, 5_000));
    let mut random = Random(7);
    let rows = workload(&mut random, count, keys);
    let spec = |kind, column| PartialSpec { kind, column, predicate: None };
    let mut partials = vec![
        spec(PartialKind::Count, None),
        spec(PartialKind::Count, Some(0)),
        spec(PartialKind::SumFloat, Some(0)),
        spec(PartialKind::Max, Some(0)),
    ];
    if argument(4, 0) & 1 != 0 {
        partials.push(spec(PartialKind::DecayedSum { half_life: 24 * HOUR }, Some(0)));
    }
    if argument(4, 0) & 2 != 0 {
        partials.push(spec(PartialKind::DigestFloat, Some(0)));
    }
    let asked: Vec<u16> = (0..partials.len() as u16).collect();
    let layout = TableLayout { columns: vec![DataType::Float], predicates: 0, partials, kept: None };
    let table = Table { id: 1, layout: Arc::new(layout), routed: false };
    let directory = std::env::temp_dir().join(format!("thyme-trie-profile-{}", std::process::id()));
    let options = Options { row_cache_bytes: argument(3, 128) << 20, ..Options::default() };
    let store = StateStore::open(&directory, options)?;

    let mut load = (0.0, 0.0);
    for (index, chunk) in rows.chunks(per_tick).enumerate() {
        let mut by_key: BTreeMap<Vec<u8>, Vec<Event>> = BTreeMap::new();
        for (row, (key, time, amount)) in chunk.iter().enumerate() {
            let sequence = (index * per_tick + row) as u64;
            by_key.entry(key_bytes(*key)).or_default().push(Event {
                time: *time,
                origin: Position { partition: 0, offset: sequence },
                sequence,
                append_time: START + 40 * 24 * HOUR + (sequence as i64 / 500) * 1_700,
                values: vec![Value::Float(*amount)],
                predicates: 0,
            });
        }
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        let mut tick = store.tick();
        for (key, events) in by_key {
            tick.apply(&table, &key, events)?;
        }
        tick.commit(Durability::Synced)?;
        load = (load.0 + cpu_seconds() - cpu, load.1 + wall.elapsed().as_secs_f64());
    }
    println!(
        "load: {:.2} µs CPU per event, {:.0} events per CPU-s, wall {:.2} s",
        load.0 * 1e6 / count as f64,
        count as f64 / load.0,
        load.1
    );

    let reads: Vec<WindowRead> = [1, 24, 7 * 24]
        .map(|hours| WindowRead { window: Window::Length(hours * HOUR), partials: asked.clone(), scans: vec![] })
        .to_vec();
    let snapshot = store.snapshot();
    let mut timings = Vec::new();
    for _ in 0..50_000 {
        let (key, _, _) = rows[random.below(count as u64) as usize];
        let key = key_bytes(key);
        let begun = Instant::now();
        snapshot.read(&table, &key, START + SPAN as i64, &reads, &Visible::ALL)?;
        timings.push(begun.elapsed());
    }
    timings.sort_unstable();
    println!(
        "read, key of an event, at the end: p50 {:?} p99 {:?}",
        timings[timings.len() / 2],
        timings[timings.len() * 99 / 100]
    );
    let mut timings = Vec::new();
    let mut most = 0;
    let long = [WindowRead { window: Window::Length(90 * 24 * HOUR), partials: asked, scans: vec![] }];
    let hottest = key_bytes(0);
    for _ in 0..3_000 {
        let at = START + random.below(SPAN) as i64;
        let snapshot = store.snapshot();
        let begun = Instant::now();
        snapshot.read(&table, &hottest, at, &long, &Visible::ALL)?;
        timings.push(begun.elapsed());
        most = most.max(snapshot.rows_read());
    }
    timings.sort_unstable();
    println!(
        "read, hottest key, past: p50 {:?} p99 {:?}, most rows {most}",
        timings[timings.len() / 2],
        timings[timings.len() * 99 / 100]
    );

    let mut spine: BTreeMap<Vec<u8>, Vec<i64>> = BTreeMap::new();
    for _ in 0..count / 5 {
        let (key, time, _) = rows[random.below(count as u64) as usize];
        spine.entry(key_bytes(key)).or_default().push(time + random.below(48 * HOUR as u64) as i64);
    }
    let (cpu, mut answered) = (cpu_seconds(), 0u64);
    let mut sweeper = Sweeper::new(&table, &reads)?;
    for (key, times) in &mut spine {
        times.sort_unstable();
        sweeper.sweep(&snapshot, key, times, &Visible::ALL, &mut |_, _| {
            answered += 1;
            Ok(())
        })?;
    }
    println!("sweep: {:.0} rows per CPU-s over {} keys", answered as f64 / (cpu_seconds() - cpu), spine.len());
    store.compact()?;
    println!("kept: {:.1} bytes per event", store.trie_file_bytes()? as f64 / count as f64);
    drop(sweeper);
    drop((snapshot, store));
    let _ = std::fs::remove_dir_all(&directory);
    Ok(())
}
