//! `LastK(of, window, k=100, dedup=False, dropnull=False)` and `FirstK`: the newest or oldest values, those first; with `dedup`
//! each value once, where it is newest (oldest).

use super::operator::{Inputs, Needs, Operator, Request, ScanShape, checked_k};
use super::plan::Outcome;
use crate::error::Result;
use crate::schema::DataType;
use crate::value::Value;
use std::collections::HashSet;
use std::sync::Arc;

/// The parameters as they are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameters {
    pub k: u32,
    pub dedup: bool,
    pub dropnull: bool,
}

#[derive(Debug)]
struct EdgeList {
    k: usize,
    dedup: bool,
}

pub(super) fn plan_last(request: &Request<'_>, parameters: Parameters) -> Result<Needs> {
    plan(request, "LastK", parameters, true)
}

pub(super) fn plan_first(request: &Request<'_>, parameters: Parameters) -> Result<Needs> {
    plan(request, "FirstK", parameters, false)
}

fn plan(request: &Request<'_>, operator: &str, parameters: Parameters, newest_first: bool) -> Result<Needs> {
    let Parameters { k, dedup, dropnull } = parameters;
    let column = request.required(operator)?;
    Ok(Needs {
        operator: Arc::new(EdgeList { k: checked_k(operator, k)?, dedup }),
        partials: Vec::new(),
        // How many events hold k distinct values is not known beforehand.
        scan: Some(ScanShape { skip_null: dropnull, newest_first, limit: (!dedup).then_some(k) }),
        result_type: DataType::List(Box::new(column.data_type.clone())),
        nullable: false,
        empty: Value::List(Arc::new([])),
    })
}

impl Operator for EdgeList {
    fn finish(&self, inputs: &Inputs<'_>) -> Option<Outcome> {
        let items = inputs.items()?;
        let values: Arc<[Value]> = if self.dedup {
            let mut seen = HashSet::new();
            items.iter().map(|item| &item.value).filter(|value| seen.insert(*value)).take(self.k).cloned().collect()
        } else {
            items.iter().map(|item| item.value.clone()).take(self.k).collect()
        };
        Some(if values.is_empty() { Outcome::Empty(Value::List(values)) } else { Outcome::Value(Value::List(values)) })
    }
}
