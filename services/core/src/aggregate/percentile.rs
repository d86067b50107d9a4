//! `ApproxPercentile(of, window)`: the mid-rank of the newest value among the window's values, `(less + equal / 2) / n`; with
//! `pct=p` the value at percentile p: the smallest value v such that at least p percent of the values are <= v, for p = 0 the
//! smallest. Both are exact for any number of values, which keeps the promise of their name.

use super::operator::{Inputs, Needs, Operator, Request, ScanShape};
use super::plan::Outcome;
use crate::error::{Error, Result};
use crate::schema::DataType;
use crate::value::Value;
use std::cmp::Ordering;
use std::sync::Arc;

#[derive(Debug)]
struct MidRank;

#[derive(Debug)]
struct ValueAt {
    percentile: Percentile,
}

/// A percentile as the decimal that was written: 99.9 is 999 / 10, which its nearest f64 is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Percentile {
    numerator: u64,
    denominator: u64,
}

const MAX_DECIMALS: usize = 9;

pub(super) fn plan(request: &Request<'_>, pct: Option<f64>) -> Result<Needs> {
    request.required_number("ApproxPercentile")?;
    let operator: Arc<dyn Operator> = match pct {
        None => Arc::new(MidRank),
        Some(pct) => Arc::new(ValueAt { percentile: Percentile::of(pct)? }),
    };
    Ok(Needs {
        operator,
        partials: Vec::new(),
        scan: Some(ScanShape::VALUES),
        result_type: DataType::Float,
        nullable: false,
        empty: Value::Null,
    })
}

impl Percentile {
    fn of(pct: f64) -> Result<Percentile> {
        let wrong = |why: &str| Error::definition(format!("pct is {pct}, but {why}")).field("pct");
        if !(0.0..=100.0).contains(&pct) {
            return Err(wrong("a percentile lies between 0 and 100"));
        }
        // The shortest decimal that reads back as this f64 is the one that was written.
        let text = pct.abs().to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        if fraction.len() > MAX_DECIMALS {
            return Err(wrong("at most 9 decimals are kept"));
        }
        let numerator = format!("{whole}{fraction}").parse().map_err(|_| wrong("it is not a decimal number"))?;
        Ok(Percentile { numerator, denominator: 10u64.pow(fraction.len() as u32) })
    }

    /// Which of `count` sorted values, counted from 0: `ceil(p / 100 * count) - 1`, at least 0.
    fn index(self, count: usize) -> usize {
        let rank = (u128::from(self.numerator) * count as u128).div_ceil(100 * u128::from(self.denominator));
        (rank as usize).saturating_sub(1)
    }
}

impl Operator for MidRank {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        let items = inputs.items()?;
        let Some(newest) = items.first() else { return Some(Outcome::Empty(Value::Null)) };
        let (mut less, mut equal) = (0u64, 0u64);
        for item in items {
            match item.value.cmp(&newest.value) {
                Ordering::Less => less += 1,
                Ordering::Equal => equal += 1,
                Ordering::Greater => {}
            }
        }
        // Both are small integers, so that one division rounds once.
        let rank = (2 * less + equal) as f64 / (2 * items.len()) as f64;
        Some(Outcome::Value(Value::Float(rank)))
    }
}

impl Operator for ValueAt {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        let items = inputs.items()?;
        if items.is_empty() {
            return Some(Outcome::Empty(Value::Null));
        }
        let mut values: Vec<&Value> = items.iter().map(|item| &item.value).collect();
        let index = self.percentile.index(values.len());
        let (_, value, _) = values.select_nth_unstable(index);
        match value {
            Value::Int(number) => Some(Outcome::Value(Value::Float(*number as f64))),
            Value::Float(number) => Some(Outcome::Value(Value::Float(*number))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_decimals_that_were_written() {
        let index = |pct, count| Percentile::of(pct).unwrap().index(count);
        assert_eq!(index(0.0, 5), 0);
        assert_eq!(index(-0.0, 5), 0);
        assert_eq!(index(100.0, 5), 4);
        assert_eq!(index(50.0, 4), 1);
        assert_eq!(index(50.0, 5), 2);
        assert_eq!(index(55.0, 100), 54);
        assert_eq!(index(99.9, 1000), 998);
        assert_eq!(index(0.1, 1000), 0);
        assert_eq!(index(33.3, 1), 0);
    }

    #[test]
    fn other_percentiles_are_refused() {
        for pct in [-0.1, 100.1, f64::NAN, f64::INFINITY, 1e-300, 100.0 / 3.0] {
            let error = Percentile::of(pct).unwrap_err();
            assert_eq!(error.field_name(), Some("pct"), "{pct}");
        }
    }
}
