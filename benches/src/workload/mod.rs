//! The standard workload: a stream of events with Zipf keys that arrives up to ten minutes out of order, and a spine of
//! questions, a third of which lie exactly on an event or exactly one window after one. The same for a seed everywhere.

pub mod random;

use random::Random;
use serde::{Deserialize, Serialize};

pub const SECOND: i64 = 1_000_000;
pub const HOUR: i64 = 3600 * SECOND;
pub const DAY: i64 = 24 * HOUR;
/// The windows of the standard features, by the suffix of their names.
pub const WINDOWS: [(&str, i64); 3] = [("1h", HOUR), ("24h", DAY), ("7d", 7 * DAY)];
/// 2024-01-01T00:00:00Z.
const START: i64 = 1_704_067_200 * SECOND;
/// Event times are whole milliseconds.
const STEP: i64 = 1000;
const DISORDER: i64 = 600 * SECOND;
const ZIPF_EXPONENT: f64 = 1.1;
/// No amount is greater, in cents.
const MAX_CENTS: f64 = 5_000_000.0;

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub events: usize,
    pub keys: usize,
    pub spine: usize,
    /// Days of event time.
    pub days: i64,
    pub spread: Spread,
    pub seed: u64,
}

/// How events fall on keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spread {
    /// Some keys have most of them.
    Zipf,
    /// All on one key.
    OneKey,
    /// Each key as many, and none at a window's edge on purpose. One each where there are as many events as keys.
    Even,
}

impl Shape {
    pub const STANDARD: Shape =
        Shape { events: 1_000_000, keys: 50_000, spine: 200_000, days: 30, spread: Spread::Zipf, seed: 20_261_120 };
    /// Ten times the events on the same keys in the same days.
    pub const GROWN: Shape = Shape { events: 10_000_000, ..Shape::STANDARD };
}

/// One event. Times are microseconds; the amount is `cents / 100`.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub key: i64,
    pub time: i64,
    pub cents: i64,
    /// When it enters the system.
    pub arrival: i64,
}

impl Event {
    pub fn amount(&self) -> f64 {
        self.cents as f64 / 100.0
    }
}

/// A key and the time at which to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpineRow {
    pub key: i64,
    pub time: i64,
}

pub struct Workload {
    /// In order of arrival.
    pub events: Vec<Event>,
    pub spine: Vec<SpineRow>,
}

impl Workload {
    pub fn generate(shape: &Shape) -> Workload {
        let mut random = Random::new(shape.seed);
        let events = events(shape, &mut random);
        let spine = spine(shape, &events, &mut random);
        Workload { events, spine }
    }

    /// One event of so many, in the same order, and a spine drawn from those, so that its rows lie on events of both.
    pub fn thinned(&self, shape: &Shape, one_of: usize) -> Workload {
        let events: Vec<Event> = self.events.iter().step_by(one_of).copied().collect();
        let spine = spine(shape, &events, &mut Random::new(shape.seed + 3));
        Workload { events, spine }
    }
}

fn events(shape: &Shape, random: &mut Random) -> Vec<Event> {
    let span = shape.days * DAY;
    let mut times: Vec<i64> = (0..shape.events).map(|_| START + moment(random, span)).collect();
    times.sort_unstable();
    let keys = Zipf::new(shape.keys, random);
    let mut events = Vec::with_capacity(shape.events);
    for (number, time) in times.into_iter().enumerate() {
        let key = match shape.spread {
            Spread::Zipf => keys.draw(random),
            Spread::OneKey => 0,
            Spread::Even => keys.keys[number % keys.keys.len()],
        };
        let cents = ((random.normal() * 1.1 + 3.2).exp() * 100.0).min(MAX_CENTS) as i64 + 1;
        events.push(Event { key, time, cents, arrival: time });
    }
    // Would take events from keys that have but one.
    if shape.spread != Spread::Even {
        put_at_edges(&mut events, START + span, random);
    }
    for event in &mut events {
        let delay = if random.unit() < 0.2 { moment(random, DISORDER) } else { 0 };
        event.arrival = event.time + delay;
    }
    events.sort_by_key(|event| event.arrival);
    events
}

/// Boundary material: 2 % of the events copy the key of another and stand exactly one window after it.
fn put_at_edges(events: &mut [Event], end: i64, random: &mut Random) {
    let count = events.len() / 50;
    let times: Vec<(i64, i64)> = events.iter().map(|event| (event.key, event.time)).collect();
    for target in random.sample(events.len(), count) {
        let (key, time) = times[random.index(times.len())];
        let time = time + WINDOWS[random.index(WINDOWS.len())].1;
        if time < end {
            (events[target].key, events[target].time) = (key, time);
        }
    }
}

/// 60 % up to two days after an event of the key, 20 % exactly at one, 10 % exactly one window after one, 10 % anywhere.
fn spine(shape: &Shape, events: &[Event], random: &mut Random) -> Vec<SpineRow> {
    let mut rows = Vec::with_capacity(shape.spine);
    for _ in 0..shape.spine {
        let event = events[random.index(events.len())];
        let kind = random.unit();
        let (key, time) = if kind < 0.6 {
            (event.key, event.time + moment(random, 2 * DAY))
        } else if kind < 0.8 {
            (event.key, event.time)
        } else if kind < 0.9 {
            (event.key, event.time + WINDOWS[random.index(WINDOWS.len())].1)
        } else {
            (random.below(shape.keys as u64) as i64, START + moment(random, shape.days * DAY))
        };
        rows.push(SpineRow { key, time });
    }
    rows
}

/// A whole number of milliseconds below `span`.
fn moment(random: &mut Random, span: i64) -> i64 {
    random.below((span / STEP) as u64) as i64 * STEP
}

/// Zipf over a bounded number of keys, by the inverse of the distribution; ranks are spread over the keys at random.
struct Zipf {
    cumulative: Vec<f64>,
    keys: Vec<i64>,
}

impl Zipf {
    fn new(count: usize, random: &mut Random) -> Zipf {
        let mut total = 0.0;
        let mut cumulative = Vec::with_capacity(count);
        for rank in 1..=count {
            total += (rank as f64).powf(-ZIPF_EXPONENT);
            cumulative.push(total);
        }
        let mut keys: Vec<i64> = (0..count as i64).collect();
        random.shuffle(&mut keys);
        Zipf { cumulative, keys }
    }

    fn draw(&self, random: &mut Random) -> i64 {
        let total = self.cumulative.last().copied().unwrap_or_default();
        let mass = random.unit() * total;
        let rank = self.cumulative.partition_point(|below| *below <= mass);
        self.keys[rank.min(self.keys.len() - 1)]
    }
}

#[cfg(test)]
mod tests;
