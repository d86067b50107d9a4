//! `Last(of, window, dropnull=False)` and `First`: the newest or oldest value by event time, ties by log position.

use super::operator::{Inputs, Needs, Operator, Request, ScanShape};
use super::plan::Outcome;
use crate::error::Result;
use crate::value::Value;
use std::sync::Arc;

#[derive(Debug)]
struct Edge;

pub(super) fn plan_last(request: &Request<'_>, dropnull: bool) -> Result<Needs> {
    plan(request, "Last", dropnull, true)
}

pub(super) fn plan_first(request: &Request<'_>, dropnull: bool) -> Result<Needs> {
    plan(request, "First", dropnull, false)
}

fn plan(request: &Request<'_>, operator: &str, dropnull: bool, newest_first: bool) -> Result<Needs> {
    let column = request.required(operator)?;
    Ok(Needs {
        operator: Arc::new(Edge),
        partials: Vec::new(),
        scan: Some(ScanShape { skip_null: dropnull, newest_first, limit: Some(1) }),
        result_type: column.data_type.clone(),
        nullable: column.nullable && !dropnull,
        empty: Value::Null,
    })
}

impl Operator for Edge {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        Some(match inputs.items()?.first() {
            // A null that an event carried is a value: no default replaces it.
            Some(item) => Outcome::Value(item.value.clone()),
            None => Outcome::Empty(Value::Null),
        })
    }
}
