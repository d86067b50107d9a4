//! `CountDistinct(of, window)`: how many different values, exactly.

use super::operator::{Inputs, Needs, Operator, Request, ScanShape};
use super::plan::Outcome;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::DataType;
use crate::value::Value;
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Debug)]
struct CountDistinct;

pub(super) fn plan(request: &Request<'_>, approx: bool) -> Result<Needs> {
    request.required("CountDistinct")?;
    if approx {
        return Err(Error::new(ErrorKind::Unimplemented, "CountDistinct(approx=True) is not available yet")
            .field("approx")
            .hint("leave approx out: the exact count"));
    }
    Ok(Needs {
        operator: Arc::new(CountDistinct),
        partials: Vec::new(),
        scan: Some(ScanShape::VALUES),
        result_type: DataType::Int,
        nullable: false,
        empty: Value::Int(0),
    })
}

impl Operator for CountDistinct {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        let distinct = inputs.items()?.iter().map(|item| &item.value).collect::<HashSet<_>>().len();
        Some(match distinct {
            0 => Outcome::Empty(Value::Int(0)),
            _ => Outcome::Value(Value::Int(distinct as i64)),
        })
    }
}
