//! `Min(of, window)` and `Max(of, window)` of numbers, datetimes and texts (by code point).

use super::layout::PartialKind;
use super::operator::{Inputs, Needs, Operator, Request};
use super::partial::Partial;
use super::plan::{Number, Outcome};
use crate::error::Result;
use crate::schema::DataType;
use crate::value::Value;
use std::sync::Arc;

#[derive(Debug)]
struct Extreme;

pub(super) fn plan_min(request: &Request<'_>) -> Result<Needs> {
    plan(request, "Min", PartialKind::Min)
}

pub(super) fn plan_max(request: &Request<'_>) -> Result<Needs> {
    plan(request, "Max", PartialKind::Max)
}

fn plan(request: &Request<'_>, operator: &str, kind: PartialKind) -> Result<Needs> {
    let ordered = |of: &DataType| of.is_number() || matches!(of, DataType::Time | DataType::Str);
    let column = request.required_type(operator, "int, float, Decimal, datetime or str", ordered)?;
    Ok(Needs {
        operator: Arc::new(Extreme),
        partials: vec![kind],
        scan: None,
        result_type: column.data_type.clone(),
        nullable: false,
        empty: Value::Null,
    })
}

impl Operator for Extreme {
    fn number(&self, inputs: &Inputs<'_>) -> Option<Number> {
        match inputs.partial(0)? {
            Partial::Extreme(Value::Float(number)) => Some(Number::Float(*number)),
            Partial::Extreme(Value::Int(number)) => Some(Number::Int(*number)),
            _ => None,
        }
    }

    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        match inputs.partial(0)? {
            Partial::Extreme(Value::Null) => Some(Outcome::Empty(Value::Null)),
            Partial::Extreme(value) => Some(Outcome::Value(value.clone())),
            _ => None,
        }
    }
}
