//! `Variance(of, window, sample=False)` from the exact sums of x and x², rounded once; `Stddev` is the square root of that f64.

use super::layout::PartialKind;
use super::operator::{Inputs, Needs, Operator, Request};
use super::partial::Partial;
use super::plan::Outcome;
use crate::error::Result;
use crate::exact::{variance_of_decimals, variance_of_floats, variance_of_ints};
use crate::schema::DataType;
use crate::value::Value;
use std::sync::Arc;

#[derive(Debug)]
struct Variance {
    sample: bool,
    root: bool,
}

pub(super) fn plan_variance(request: &Request<'_>, sample: bool) -> Result<Needs> {
    plan(request, "Variance", Variance { sample, root: false })
}

pub(super) fn plan_stddev(request: &Request<'_>, sample: bool) -> Result<Needs> {
    plan(request, "Stddev", Variance { sample, root: true })
}

fn plan(request: &Request<'_>, name: &str, operator: Variance) -> Result<Needs> {
    let column = request.required_number(name)?;
    let (sum, squares) = match column.data_type {
        DataType::Int => (PartialKind::SumInt, PartialKind::SquaresInt),
        DataType::Decimal => (PartialKind::SumDecimal, PartialKind::SquaresDecimal),
        _ => (PartialKind::SumFloat, PartialKind::SquaresFloat),
    };
    Ok(Needs {
        nullable: operator.sample,
        operator: Arc::new(operator),
        partials: vec![PartialKind::Count, sum, squares],
        scan: None,
        result_type: DataType::Float,
        empty: Value::Null,
    })
}

impl Operator for Variance {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        let count = inputs.count(0)?;
        if count == 0 {
            return Some(Outcome::Empty(Value::Null));
        }
        if self.sample && count == 1 {
            // The window is not empty: one value has no sample variance, and no default stands in for it.
            return Some(Outcome::Value(Value::Null));
        }
        let variance = match (inputs.partial(1)?, inputs.partial(2)?) {
            (Partial::SumInt(sum), Partial::SquaresInt(squares)) => variance_of_ints(count, *sum, squares, self.sample),
            (Partial::SumDecimal(sum), Partial::SquaresDecimal(squares)) => {
                variance_of_decimals(count, sum, squares, self.sample)
            }
            (Partial::SumFloat(sum), Partial::SquaresFloat(squares)) => {
                variance_of_floats(count, sum, squares, self.sample)
            }
            _ => return None,
        };
        // IEEE 754 square root: correctly rounded, the same bits on every platform.
        Some(Outcome::rounded(if self.root { variance.map(f64::sqrt) } else { variance }, "variance"))
    }
}
