//! `Sum(of, window)`: the exact sum, an int of ints, a Decimal of Decimals, and a float of floats, rounded once.

use super::layout::PartialKind;
use super::operator::{Inputs, Needs, Operator, Request};
use super::partial::Partial;
use super::plan::{Number, Outcome};
use crate::decimal::{Decimal, WHOLE_DIGITS};
use crate::error::Result;
use crate::exact::Overflow;
use crate::schema::DataType;
use crate::value::Value;
use std::sync::Arc;

#[derive(Debug)]
struct Sum {
    empty: Value,
}

pub(super) fn plan(request: &Request<'_>) -> Result<Needs> {
    let column = request.required_number("Sum")?;
    let (kind, empty) = match column.data_type {
        DataType::Int => (PartialKind::SumInt, Value::Int(0)),
        DataType::Decimal => (PartialKind::SumDecimal, Value::Decimal(Decimal::ZERO)),
        _ => (PartialKind::SumFloat, Value::Float(0.0)),
    };
    Ok(Needs {
        operator: Arc::new(Sum { empty: empty.clone() }),
        partials: vec![PartialKind::Count, kind],
        scan: None,
        result_type: column.data_type.clone(),
        nullable: false,
        empty,
    })
}

impl Operator for Sum {
    fn number(&self, inputs: &Inputs<'_>) -> Option<Number> {
        if inputs.count(0)? == 0 {
            return None;
        }
        match inputs.partial(1)? {
            Partial::SumFloat(sum) => sum.to_f64().ok().map(Number::Float),
            Partial::SumInt(sum) => i64::try_from(*sum).ok().map(Number::Int),
            _ => None,
        }
    }

    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        if inputs.count(0)? == 0 {
            return Some(Outcome::Empty(self.empty.clone()));
        }
        Some(match inputs.partial(1)? {
            Partial::SumInt(sum) => Outcome::Error(format!("the sum {sum} is beyond a 64-bit int")),
            Partial::SumDecimal(sum) => match sum.to_decimal() {
                Ok(sum) => Outcome::Value(Value::Decimal(sum)),
                Err(Overflow) => Outcome::Error(format!(
                    "the sum is beyond a Decimal, which has {WHOLE_DIGITS} digits before the point"
                )),
            },
            Partial::SumFloat(_) => Outcome::beyond_float("sum"),
            _ => return None,
        })
    }
}
