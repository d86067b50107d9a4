//! `Avg(of, window)`: the exact sum over the count, rounded once to a float. It lies between the values, so it never overflows.

use super::layout::PartialKind;
use super::operator::{Inputs, Needs, Operator, Request};
use super::partial::Partial;
use super::plan::{Number, Outcome};
use crate::error::Result;
use crate::exact::mean_of_ints;
use crate::schema::DataType;
use crate::value::Value;
use std::sync::Arc;

#[derive(Debug)]
struct Avg;

pub(super) fn plan(request: &Request<'_>) -> Result<Needs> {
    let column = request.required_number("Avg")?;
    let sum = match column.data_type {
        DataType::Int => PartialKind::SumInt,
        DataType::Decimal => PartialKind::SumDecimal,
        _ => PartialKind::SumFloat,
    };
    Ok(Needs {
        operator: Arc::new(Avg),
        partials: vec![PartialKind::Count, sum],
        scan: None,
        result_type: DataType::Float,
        nullable: false,
        empty: Value::Null,
    })
}

impl Operator for Avg {
    fn number(&self, inputs: &Inputs<'_>) -> Option<Number> {
        let count = inputs.count(0).filter(|count| *count > 0)?;
        let mean = match inputs.partial(1)? {
            Partial::SumFloat(sum) => sum.mean(count),
            Partial::SumInt(sum) => mean_of_ints(*sum, count),
            Partial::SumDecimal(sum) => sum.mean(count),
            _ => return None,
        };
        mean.ok().map(Number::Float)
    }

    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        if inputs.count(0)? == 0 {
            return Some(Outcome::Empty(Value::Null));
        }
        match inputs.partial(1)? {
            Partial::SumFloat(_) | Partial::SumInt(_) | Partial::SumDecimal(_) => {
                Some(Outcome::beyond_float("average"))
            }
            _ => None,
        }
    }
}
