//! `Count(window, of=None)`: rows, or with `of=` its values that are not null.

use super::layout::PartialKind;
use super::operator::{Inputs, Needs, Operator, Request};
use super::plan::{Number, Outcome};
use crate::error::Result;
use crate::schema::DataType;
use crate::value::Value;
use std::sync::Arc;

#[derive(Debug)]
struct Count;

pub(super) fn plan(_request: &Request<'_>) -> Result<Needs> {
    Ok(Needs {
        operator: Arc::new(Count),
        partials: vec![PartialKind::Count],
        scan: None,
        result_type: DataType::Int,
        nullable: false,
        empty: Value::Int(0),
    })
}

impl Operator for Count {
    fn number(&self, inputs: &Inputs<'_>) -> Option<Number> {
        let count = i64::try_from(inputs.count(0)?).ok();
        count.filter(|count| *count > 0).map(Number::Int)
    }

    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        Some(match inputs.count(0)? {
            0 => Outcome::Empty(Value::Int(0)),
            _ => Outcome::Error("the count is beyond a 64-bit int".to_string()),
        })
    }
}
