//! The operators, one line each.

use super::AggregateOp;
use super::count;
use super::operator::{Needs, Request};
use crate::error::Result;

pub(super) fn plan(request: &Request<'_>) -> Result<Needs> {
    match &request.aggregate.op {
        AggregateOp::Count => count::plan(request),
        _ => Err(crate::Error::new(crate::ErrorKind::Unimplemented, "this operator is not built yet")),
    }
}
