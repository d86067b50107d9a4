//! `CountDistinct(of, window)`: how many different values, exactly; with `approx=True` by HyperLogLog, see [`DistinctSketch`].
//!
//! [`DistinctSketch`]: super::DistinctSketch

use super::layout::PartialKind;
use super::operator::{Inputs, Needs, Operator, Request, ScanShape};
use super::partial::Partial;
use super::plan::Outcome;
use crate::error::Result;
use crate::schema::DataType;
use crate::value::Value;
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Debug)]
struct Exact;

#[derive(Debug)]
struct Sketched;

pub(super) fn plan(request: &Request<'_>, approx: bool) -> Result<Needs> {
    request.required("CountDistinct")?;
    let operator: Arc<dyn Operator> = if approx { Arc::new(Sketched) } else { Arc::new(Exact) };
    Ok(Needs {
        operator,
        partials: if approx { vec![PartialKind::DistinctSketch] } else { Vec::new() },
        scan: (!approx).then_some(ScanShape::VALUES),
        result_type: DataType::Int,
        nullable: false,
        empty: Value::Int(0),
    })
}

fn outcome(distinct: u64) -> Outcome {
    match distinct {
        0 => Outcome::Empty(Value::Int(0)),
        _ => Outcome::Value(Value::Int(distinct as i64)),
    }
}

impl Operator for Exact {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        let distinct = inputs.items()?.iter().map(|item| &item.value).collect::<HashSet<_>>();
        Some(outcome(distinct.len() as u64))
    }
}

impl Operator for Sketched {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        match inputs.partial(0)? {
            Partial::Distinct(sketch) => Some(outcome(sketch.estimate())),
            _ => None,
        }
    }
}
