//! The brute force: every answer recomputed from all events of the key, in exact arithmetic that shares nothing with the
//! product's.

use crate::failure::Outcome;
use crate::workload::{Event, SpineRow, WINDOWS};
use std::collections::HashMap;

/// Amounts are multiples of 2^-60: the least is 0.01, whose last bit stands at 2^-59.
const SCALE: f64 = (1u64 << 60) as f64;
/// More bits below the point for quotients, so that the one rounding sees what it needs.
const QUOTIENT_BITS: u32 = 24;

/// What one window must hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    pub count: i64,
    pub sum: f64,
    /// Null (`None`) of an empty window, as is the greatest.
    pub average: Option<f64>,
    pub greatest: Option<f64>,
}

/// All events by key.
pub struct Oracle<'a> {
    by_key: HashMap<i64, Vec<&'a Event>>,
}

impl<'a> Oracle<'a> {
    /// Of the events of the keys asked for.
    pub fn new(events: &'a [Event], questions: &[SpineRow]) -> Oracle<'a> {
        let mut by_key: HashMap<i64, Vec<&Event>> = questions.iter().map(|row| (row.key, Vec::new())).collect();
        for event in events {
            if let Some(list) = by_key.get_mut(&event.key) {
                list.push(event);
            }
        }
        Oracle { by_key }
    }

    /// The window of `length` that ends at the row's time, both ends included.
    pub fn window(&self, row: SpineRow, length: i64) -> Expected {
        let events = self.by_key.get(&row.key).map(Vec::as_slice).unwrap_or_default();
        let mut scaled_sum = 0u128;
        let mut count = 0u128;
        let mut greatest: Option<f64> = None;
        for event in events {
            if event.time >= row.time - length && event.time <= row.time {
                count += 1;
                scaled_sum += (event.amount() * SCALE) as u128;
                greatest = Some(greatest.map_or(event.amount(), |before| before.max(event.amount())));
            }
        }
        let average = (count > 0).then(|| {
            let (dividend, divisor) = (scaled_sum << QUOTIENT_BITS, count);
            // A remainder only decides ties.
            let quotient = (dividend / divisor) | u128::from(dividend % divisor != 0);
            quotient as f64 / SCALE / f64::from(1u32 << QUOTIENT_BITS)
        });
        Expected { count: count as i64, sum: scaled_sum as f64 / SCALE, average, greatest }
    }
}

/// One answered row, by feature name: `count_1h` and so on; null is `None`.
pub type Answer = HashMap<String, Option<f64>>;

/// Compares answers with the brute force, bit by bit. `windows` are the suffixes that were asked for.
pub fn check(events: &[Event], questions: &[SpineRow], answers: &[Answer], windows: &[&str]) -> Outcome<()> {
    if questions.len() != answers.len() {
        return Err(format!("{} answers to {} questions", answers.len(), questions.len()).into());
    }
    let oracle = Oracle::new(events, questions);
    let mut differences = Vec::new();
    for (row, answer) in questions.iter().zip(answers) {
        for (suffix, length) in WINDOWS.iter().filter(|(suffix, _)| windows.contains(suffix)) {
            let expected = oracle.window(*row, *length);
            let wanted = [
                ("count", Some(expected.count as f64)),
                ("sum", Some(expected.sum)),
                ("avg", expected.average),
                ("max", expected.greatest),
            ];
            for (name, value) in wanted {
                let name = format!("{name}_{suffix}");
                let found = answer.get(&name);
                if found.is_none_or(|found| found.map(f64::to_bits) != value.map(f64::to_bits)) {
                    differences.push(format!("{name} of {row:?}: expected {value:?}, found {found:?}"));
                }
            }
        }
    }
    match differences.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} values differ from the brute force, first: {first}", differences.len()).into()),
    }
}
