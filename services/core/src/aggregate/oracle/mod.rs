//! What an aggregate must be, computed the most naive way: filter all events, sort them, and do schoolbook arithmetic on exact
//! rationals. Shares no arithmetic with the real thing. Only tests call it; it is no feature of the crate, because crates with other
//! features are compiled a second time for the wheel.

mod rational;

pub use rational::{Integer, round_ratio};

use super::{AggregateDef, AggregateOp, Outcome};
use crate::decimal::Decimal;
use crate::position::Position;
use crate::schema::DataType;
use crate::time::Micros;
use crate::value::Value;
use crate::window::{Window, parse_duration};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One accepted event of a key, as one aggregate sees it.
#[derive(Debug, Clone)]
pub struct OracleEvent {
    pub time: Micros,
    pub origin: Position,
    /// The value in `of`; null without one.
    pub value: Value,
    /// Whether `where=` is true (true without one).
    pub counts: bool,
}

/// The outcome that is expected, and by how much a float may differ from it.
#[derive(Debug, Clone)]
pub struct Expected {
    pub outcome: Outcome,
    /// 0 where the bits must be equal.
    pub tolerance: f64,
    /// Of a percentile of more than 64 values: any value near it in rank will do.
    pub rank: Option<Rank>,
}

/// A percentile asked for, as a share, and the values it is of.
#[derive(Debug, Clone)]
pub struct Rank {
    share: f64,
    values: Vec<f64>,
}

/// How far a rank may be off, as a share of the values.
const RANK_ERROR: f64 = 0.01;
/// Up to so many values percentiles are exact.
const EXACT_VALUES: usize = 64;

impl Rank {
    fn is_near(&self, value: f64) -> bool {
        let share = |count: usize| count as f64 / self.values.len() as f64;
        let less = share(self.values.iter().filter(|other| **other < value).count());
        let up_to = share(self.values.iter().filter(|other| **other <= value).count());
        self.values.contains(&value) && less - RANK_ERROR <= self.share && self.share <= up_to + RANK_ERROR
    }
}

impl Expected {
    /// Whether `actual` is right. Of an error only that it is one.
    pub fn agrees(&self, actual: &Outcome) -> bool {
        match (&self.outcome, actual) {
            (Outcome::Error(_), Outcome::Error(_)) => true,
            (Outcome::Value(_), Outcome::Value(Value::Float(got))) if self.rank.is_some() => {
                self.rank.as_ref().is_some_and(|rank| rank.is_near(*got))
            }
            (Outcome::Value(Value::Float(wanted)), Outcome::Value(Value::Float(got))) if self.tolerance > 0.0 => {
                (wanted - got).abs() <= self.tolerance
            }
            (Outcome::Value(Value::Int(wanted)), Outcome::Value(Value::Int(got))) if self.tolerance > 0.0 => {
                wanted.abs_diff(*got) as f64 <= self.tolerance
            }
            (wanted, got) => wanted == got,
        }
    }
}

/// The outcome of `definition` at `at` over all accepted events of a key, in any order. `of_type` is the type of its column.
pub fn expected(
    definition: &AggregateDef,
    of_type: Option<&DataType>,
    events: &[OracleEvent],
    at: Micros,
    exclusive: bool,
) -> Expected {
    let first = match definition.window {
        Window::Length(length) => i128::from(at) - i128::from(length),
        Window::Forever => i128::MIN,
    };
    let inside =
        |event: &&OracleEvent| i128::from(event.time) >= first && (event.time < at || (event.time == at && !exclusive));
    let mut rows: Vec<&OracleEvent> = events.iter().filter(inside).filter(|event| event.counts).collect();
    rows.sort_by_key(|event| (event.time, event.origin));
    let all: Vec<Value> = rows.iter().map(|row| row.value.clone()).collect();
    let values: Vec<Value> = all.iter().filter(|value| !value.is_null()).cloned().collect();
    let kept = |dropnull: bool, newest_first: bool| {
        let mut kept = if dropnull { values.clone() } else { all.clone() };
        if newest_first {
            kept.reverse();
        }
        kept
    };
    let outcome = match &definition.op {
        AggregateOp::Count => {
            let count = if definition.of.is_some() { values.len() } else { all.len() };
            if count == 0 { Outcome::Empty(Value::Int(0)) } else { Outcome::Value(Value::Int(count as i64)) }
        }
        AggregateOp::Sum => match (values.is_empty(), of_type) {
            (true, Some(DataType::Int)) => Outcome::Empty(Value::Int(0)),
            (true, Some(DataType::Decimal)) => Outcome::Empty(Value::Decimal(Decimal::ZERO)),
            (true, _) => Outcome::Empty(Value::Float(0.0)),
            (false, Some(DataType::Int)) => match total(&values).to_i64() {
                Some(sum) => Outcome::Value(Value::Int(sum)),
                None => Outcome::Error("sum".to_string()),
            },
            (false, Some(DataType::Decimal)) => match total(&values).to_i128().and_then(Decimal::from_units) {
                Some(sum) => Outcome::Value(Value::Decimal(sum)),
                None => Outcome::Error("sum".to_string()),
            },
            (false, _) => rounded(&total(&values), &unit(&values)),
        },
        AggregateOp::Avg if values.is_empty() => Outcome::Empty(Value::Null),
        AggregateOp::Avg => rounded(&total(&values), &unit(&values).times(&count(&values))),
        AggregateOp::Min => {
            values.iter().min().map_or(Outcome::Empty(Value::Null), |value| Outcome::Value(value.clone()))
        }
        AggregateOp::Max => {
            values.iter().max().map_or(Outcome::Empty(Value::Null), |value| Outcome::Value(value.clone()))
        }
        AggregateOp::ApproxPercentile { pct: None } => {
            let tolerance = if values.len() > EXACT_VALUES { RANK_ERROR } else { 0.0 };
            return Expected { outcome: mid_rank(&values), tolerance, rank: None };
        }
        AggregateOp::ApproxPercentile { pct: Some(pct) } => {
            let numbers = values.iter().filter_map(number).collect();
            let rank = (values.len() > EXACT_VALUES).then_some(Rank { share: pct / 100.0, values: numbers });
            return Expected { outcome: value_at(&values, *pct), tolerance: 0.0, rank };
        }
        AggregateOp::Last { dropnull } => edge(&kept(*dropnull, true)),
        AggregateOp::First { dropnull } => edge(&kept(*dropnull, false)),
        AggregateOp::LastK { k, dedup, dropnull } => edges(&kept(*dropnull, true), *k, *dedup),
        AggregateOp::FirstK { k, dedup, dropnull } => edges(&kept(*dropnull, false), *k, *dedup),
        AggregateOp::Variance { sample } => variance(&values, *sample),
        AggregateOp::Stddev { sample } => match variance(&values, *sample) {
            Outcome::Value(Value::Float(variance)) => Outcome::Value(Value::Float(variance.sqrt())),
            other => other,
        },
        AggregateOp::CountDistinct { approx } => {
            let mut distinct = values;
            distinct.sort();
            distinct.dedup();
            let count = distinct.len();
            // Six times the stated error: the hash is fixed, so that a set is always as far off as it is.
            let sketched = *approx && count > 64;
            let tolerance = if sketched { 6.0 * 0.01625 * count as f64 } else { 0.0 };
            let value = Value::Int(count as i64);
            let outcome = if count == 0 { Outcome::Empty(value) } else { Outcome::Value(value) };
            return Expected { outcome, tolerance, rank: None };
        }
        AggregateOp::TopK { k } => top_k(values, *k),
        AggregateOp::ExpDecaySum { half_life } => return decayed(&rows, half_life, at),
    };
    Expected { outcome, tolerance: 0.0, rank: None }
}

/// The values' unit: ints count in ones, decimals in 10^-18, floats in 2^-1074.
fn unit(values: &[Value]) -> Integer {
    match values.first() {
        Some(Value::Decimal(_)) => Integer::from_i64(1_000_000_000_000_000_000),
        Some(Value::Float(_)) => Integer::power_of_two(1074),
        _ => Integer::from_i64(1),
    }
}

/// A value in that unit.
fn units(value: &Value) -> Integer {
    match value {
        Value::Int(number) => Integer::from_i64(*number),
        Value::Float(number) => Integer::from_f64_units(*number),
        Value::Decimal(number) => Integer::from_i128(number.units()),
        other => unreachable!("{} is not a number", other.type_name()),
    }
}

fn total(values: &[Value]) -> Integer {
    values.iter().fold(Integer::default(), |sum, value| sum.plus(&units(value)))
}

fn count(values: &[Value]) -> Integer {
    Integer::from_i64(values.len() as i64)
}

fn rounded(numerator: &Integer, denominator: &Integer) -> Outcome {
    match round_ratio(numerator, denominator) {
        Some(number) => Outcome::Value(Value::Float(number)),
        None => Outcome::Error("beyond f64".to_string()),
    }
}

/// The mean square distance from the mean: the sum of (n·x − Σx)², over n²·n, for a sample over n²·(n − 1).
fn variance(values: &[Value], sample: bool) -> Outcome {
    let divisor = values.len() as i64 - i64::from(sample);
    if values.is_empty() {
        return Outcome::Empty(Value::Null);
    }
    if divisor == 0 {
        return Outcome::Value(Value::Null);
    }
    let (sum, count, unit) = (total(values), count(values), unit(values));
    let mut squares = Integer::default();
    for value in values {
        let distance = units(value).times(&count).minus(&sum);
        squares = squares.plus(&distance.times(&distance));
    }
    let scale = unit.times(&count);
    rounded(&squares, &scale.times(&scale).times(&Integer::from_i64(divisor)))
}

/// Ranks are those of the nearest floats.
fn mid_rank(values: &[Value]) -> Outcome {
    let values = &values.iter().map(as_float).collect::<Vec<Value>>();
    let Some(newest) = values.last() else { return Outcome::Empty(Value::Null) };
    let less = values.iter().filter(|value| *value < newest).count() as i64;
    let equal = values.iter().filter(|value| *value == newest).count() as i64;
    rounded(&Integer::from_i64(2 * less + equal), &Integer::from_i64(2 * values.len() as i64))
}

/// The smallest value such that at least `pct` percent of the values are at most that.
fn value_at(values: &[Value], pct: f64) -> Outcome {
    let mut sorted: Vec<Value> = values.iter().map(as_float).collect();
    sorted.sort();
    let billionths = (pct * 1e9).round() as u128;
    let enough = |rank: usize| rank as u128 * 100_000_000_000 >= billionths * sorted.len() as u128;
    match (0..sorted.len()).find(|index| enough(index + 1)).map(|index| &sorted[index]) {
        Some(Value::Int(number)) => Outcome::Value(Value::Float(*number as f64)),
        Some(value) => Outcome::Value(value.clone()),
        None => Outcome::Empty(Value::Null),
    }
}

fn edge(values: &[Value]) -> Outcome {
    values.first().map_or(Outcome::Empty(Value::Null), |value| Outcome::Value(value.clone()))
}

fn edges(values: &[Value], k: u32, dedup: bool) -> Outcome {
    let mut kept: Vec<Value> = Vec::new();
    for value in values {
        if !(dedup && kept.contains(value)) {
            kept.push(value.clone());
        }
    }
    kept.truncate(k as usize);
    list(kept)
}

fn list(values: Vec<Value>) -> Outcome {
    if values.is_empty() {
        Outcome::Empty(Value::List(values.into()))
    } else {
        Outcome::Value(Value::List(values.into()))
    }
}

fn top_k(mut values: Vec<Value>, k: u32) -> Outcome {
    values.sort();
    let mut runs: Vec<(i64, Value)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((count, last)) if *last == value => *count += 1,
            _ => runs.push((1, value)),
        }
    }
    // Stable: values of one count stay in order.
    runs.sort_by_key(|(count, _)| -count);
    runs.truncate(k as usize);
    let entry = |(count, value): (i64, Value)| {
        Value::Map(Arc::new(BTreeMap::from([("count".into(), Value::Int(count)), ("value".into(), value)])))
    };
    list(runs.into_iter().map(entry).collect())
}

/// A decimal as its nearest float; others as they are.
fn as_float(value: &Value) -> Value {
    match value {
        Value::Decimal(_) => Value::Float(number(value).unwrap_or_default()),
        other => other.clone(),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Decimal(_) => round_ratio(&units(value), &unit(std::slice::from_ref(value))),
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

fn decayed(rows: &[&OracleEvent], half_life: &str, at: Micros) -> Expected {
    let half_life = parse_duration(half_life).unwrap_or(1) as f64;
    let (mut sum, mut magnitude, mut any) = (0.0, 0.0, false);
    for row in rows {
        let Some(number) = number(&row.value) else { continue };
        any = true;
        // Half the decay twice, so that a weight does not leave the range before its product does.
        let half_weight = (-((at - row.time) as f64) / half_life / 2.0).exp2();
        sum += number * half_weight * half_weight;
        magnitude += (number * half_weight * half_weight).abs();
    }
    let outcome = if any { Outcome::Value(Value::Float(sum)) } else { Outcome::Empty(Value::Float(0.0)) };
    Expected { outcome, tolerance: magnitude * 1e-12 + f64::MIN_POSITIVE, rank: None }
}
