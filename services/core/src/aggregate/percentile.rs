//! `ApproxPercentile(of, window)`: the mid-rank of the newest value among the window's values, `(less + equal / 2) / n`; with
//! `pct=p` the value at percentile p: the smallest value v such that at least p percent of the values are <= v, for p = 0 the
//! smallest. Both are exact while the window is read from few values, else within 0.01 of the rank; see [`ValueDigest`].
//!
//! [`ValueDigest`]: super::ValueDigest

use super::layout::PartialKind;
use super::operator::{Inputs, Needs, Operator, Request, ScanShape};
use super::partial::Partial;
use super::plan::Outcome;
use crate::error::{Error, Result};
use crate::schema::DataType;
use crate::value::Value;
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
    let column = request.required_number("ApproxPercentile")?;
    let digest = match column.data_type {
        DataType::Int => PartialKind::DigestInt,
        _ => PartialKind::DigestFloat,
    };
    let operator: Arc<dyn Operator> = match pct {
        None => Arc::new(MidRank),
        Some(pct) => Arc::new(ValueAt { percentile: Percentile::of(pct)? }),
    };
    Ok(Needs {
        operator,
        // The count leads the search for the newest value past stretches that have none.
        partials: if pct.is_none() { vec![digest, PartialKind::Count] } else { vec![digest] },
        scan: pct.is_none().then_some(ScanShape::NEWEST),
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
    fn index(self, count: u64) -> u64 {
        let rank = (u128::from(self.numerator) * u128::from(count)).div_ceil(100 * u128::from(self.denominator));
        (rank as u64).saturating_sub(1)
    }
}

impl Operator for MidRank {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        let Some(newest) = inputs.items()?.first() else { return Some(Outcome::Empty(Value::Null)) };
        let Partial::Digest(digest) = inputs.partial(0)? else { return None };
        let standing = digest.standing(&newest.value)?;
        // Both are integers below 2^53 as long as the window has fewer than 2^42 values, so that one division rounds once.
        let rank = (2 * standing.less + standing.equal) as f64 / (2 * standing.all) as f64;
        Some(Outcome::Value(Value::Float(rank)))
    }
}

impl Operator for ValueAt {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        let Partial::Digest(digest) = inputs.partial(0)? else { return None };
        let count = digest.count();
        if count == 0 {
            return Some(Outcome::Empty(Value::Null));
        }
        let value = digest.value_at(self.percentile.index(count))?;
        Some(Outcome::Value(Value::Float(value)))
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
