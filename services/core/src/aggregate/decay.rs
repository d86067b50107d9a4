//! `ExpDecaySum(of, window, half_life)`: the sum of `v * 2^-((T - t) / half_life)`, from an exact sum of the values as of one
//! fixed time; see [`DecayedSum`].
//!
//! [`DecayedSum`]: crate::exact::DecayedSum

use super::layout::PartialKind;
use super::operator::{Inputs, Needs, Operator, Request};
use super::partial::Partial;
use super::plan::Outcome;
use crate::error::{Error, Result};
use crate::schema::DataType;
use crate::time::Micros;
use crate::value::Value;
use crate::window::parse_duration;
use std::sync::Arc;

#[derive(Debug)]
struct ExpDecaySum {
    half_life: Micros,
}

pub(super) fn plan(request: &Request<'_>, half_life: &str) -> Result<Needs> {
    request.required_number("ExpDecaySum")?;
    let half_life = parse_duration(half_life).map_err(|_| {
        Error::definition(format!("not a half-life: '{half_life}'"))
            .field("half_life")
            .hint("write one or more <integer><unit> with units s m h d w, such as 90s, 1d12h or 2w")
    })?;
    Ok(Needs {
        operator: Arc::new(ExpDecaySum { half_life }),
        // Values that have faded are not in the sum, but the window is not empty for that.
        partials: vec![PartialKind::Count, PartialKind::DecayedSum { half_life }],
        scan: None,
        result_type: DataType::Float,
        nullable: false,
        empty: Value::Float(0.0),
    })
}

impl Operator for ExpDecaySum {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        if inputs.count(0)? == 0 {
            return Some(Outcome::Empty(Value::Float(0.0)));
        }
        match inputs.partial(1)? {
            Partial::Decayed(sum) => Some(Outcome::rounded(sum.at(self.half_life, inputs.at)?, "sum")),
            _ => None,
        }
    }
}
