//! A pipeline's steps, bound to the columns of its input: what runs per row.

use crate::expr::{Bound, Warnings};
use crate::key::encode_key;
use crate::value::Value;
use std::borrow::Cow;

/// What a pipeline makes of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// One per column of the plan's layout.
    pub values: Vec<Value>,
    /// Bit i: the plan's predicate i is true.
    pub predicates: u64,
}

/// Steps over a frame: the row's columns, then one slot per computed column.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    /// How many computed columns there are.
    pub(super) computed: usize,
    /// Which columns of the row are read.
    pub(super) wanted: Vec<bool>,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Filter(Bound),
    /// The next computed column.
    Compute(Bound),
}

/// Filters, assigns, and the values and predicates the aggregates need.
#[derive(Debug, Clone)]
pub struct RowProgram {
    pub(super) steps: Steps,
    pub(super) values: Vec<Bound>,
    pub(super) predicates: Vec<Bound>,
}

/// The group key of a row for a repartition log; filters are not applied.
#[derive(Debug, Clone)]
pub struct KeyProgram {
    pub(super) steps: Steps,
    pub(super) components: Vec<Bound>,
}

impl Steps {
    /// The computed columns; `None` if a filter drops the row.
    fn run(&self, row: &[Value], warnings: &mut Warnings) -> Option<Vec<Value>> {
        let mut computed = Vec::with_capacity(self.computed);
        for step in &self.steps {
            match step {
                Step::Filter(predicate) => {
                    if !predicate.is_true(row, &computed, warnings) {
                        return None;
                    }
                }
                Step::Compute(expr) => {
                    let value = expr.eval(row, &computed, warnings).into_owned();
                    computed.push(value);
                }
            }
        }
        Some(computed)
    }
}

impl RowProgram {
    /// One flag per stored field of the input: the columns that [`RowProgram::run`] reads, for `record::decode_row`.
    pub fn wanted_columns(&self) -> &[bool] {
        &self.steps.wanted
    }

    /// Runs one row (in the input's stored field order). `None` if a filter drops it.
    pub fn run(&self, row: &[Value], warnings: &mut Warnings) -> Option<Evaluated> {
        let computed = self.steps.run(row, warnings)?;
        let mut values = Vec::with_capacity(self.values.len());
        for expr in &self.values {
            values.push(expr.eval(row, &computed, warnings).into_owned());
        }
        let mut predicates = 0u64;
        for (bit, predicate) in self.predicates.iter().enumerate() {
            if predicate.is_true(row, &computed, warnings) {
                predicates |= 1 << bit;
            }
        }
        Some(Evaluated { values, predicates })
    }
}

impl KeyProgram {
    /// One flag per stored field of the input: the columns that [`KeyProgram::run`] reads.
    pub fn wanted_columns(&self) -> &[bool] {
        &self.steps.wanted
    }

    /// The encoded group key of one row; `None` if a component is null: the row is skipped for this route, and counted.
    pub fn run(&self, row: &[Value], warnings: &mut Warnings) -> Option<Vec<u8>> {
        let computed = self.steps.run(row, warnings)?;
        let components: Vec<Value> =
            self.components.iter().map(|expr| expr.eval(row, &computed, warnings)).map(Cow::into_owned).collect();
        encode_key(&components)
    }
}
