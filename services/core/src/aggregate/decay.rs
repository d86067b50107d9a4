//! `ExpDecaySum(of, window, half_life)`: the sum of `v * 2^-((T - t) / half_life)`.
//!
//! The whole half-lives of an age scale a value exactly; the rest of it, below one, gives a factor by one exp2. So each term is
//! within 2^-51 of itself, and the terms are summed exactly: the order of the events leaves no trace.

use super::operator::{Inputs, Needs, Operator, Request, ScanShape};
use super::plan::Outcome;
use crate::error::{Error, Result};
use crate::exact::ScaledSum;
use crate::schema::DataType;
use crate::value::Value;
use crate::window::parse_duration;
use std::sync::Arc;

#[derive(Debug)]
struct ExpDecaySum {
    half_life: u64,
}

pub(super) fn plan(request: &Request<'_>, half_life: &str) -> Result<Needs> {
    request.required_number("ExpDecaySum")?;
    let parsed = parse_duration(half_life).map_err(|_| {
        Error::definition(format!("not a half-life: '{half_life}'"))
            .field("half_life")
            .hint("write one or more <integer><unit> with units s m h d w, such as 90s, 1d12h or 2w")
    })?;
    Ok(Needs {
        operator: Arc::new(ExpDecaySum { half_life: parsed.unsigned_abs() }),
        partials: Vec::new(),
        scan: Some(ScanShape::VALUES),
        result_type: DataType::Float,
        nullable: false,
        empty: Value::Float(0.0),
    })
}

impl Operator for ExpDecaySum {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        let items = inputs.items()?;
        if items.is_empty() {
            return Some(Outcome::Empty(Value::Float(0.0)));
        }
        let mut sum = ScaledSum::default();
        for item in items {
            let number = match item.value {
                Value::Int(number) => number as f64,
                Value::Float(number) => number,
                _ => return None,
            };
            let age = inputs.at.abs_diff(item.time);
            let fraction = (age % self.half_life) as f64 / self.half_life as f64;
            // The factor is in (1/2, 1], so that a product cannot overflow; near the least f64 it would lose bits, so it is
            // computed among larger numbers.
            let raised = if number.abs() < 1e-200 { 512 } else { 0 };
            let number = if raised > 0 { number * TWO_POW_512 } else { number };
            sum.add(number * libm::exp2(-fraction), (age / self.half_life).saturating_add(raised));
        }
        Some(Outcome::rounded(sum.to_f64(), "sum"))
    }
}

/// 2^512.
const TWO_POW_512: f64 = f64::from_bits((1023 + 512) << 52);
