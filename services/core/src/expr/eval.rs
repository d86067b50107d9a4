//! Evaluates bound expressions, with SQL's three-valued logic: a function of a null is null, except where noted.

use super::Warnings;
use super::functions::json::JsonPath;
use crate::value::Value;
use std::borrow::Cow;

/// Never called with a null.
pub(super) type Unary = fn(&Value, &mut Warnings) -> Value;
/// Never called with a null.
pub(super) type Binary = fn(&Value, &Value, &mut Warnings) -> Value;
/// Never called with a null.
pub(super) type Variadic = fn(&[Value], &mut Warnings) -> Value;

/// An expression bound to column indices.
#[derive(Debug, Clone)]
pub enum Bound {
    /// A column of the row.
    Row(usize),
    /// A column computed by an earlier step.
    Computed(usize),
    Literal(Value),
    And(Vec<Bound>),
    Or(Vec<Bound>),
    IsNull(Box<Bound>),
    /// The first that is not null.
    Coalesce(Vec<Bound>),
    /// SQL's `IN`.
    IsIn(Box<Bound>, Vec<Bound>),
    When(Vec<(Bound, Bound)>, Box<Bound>),
    Unary(Unary, Box<Bound>),
    Binary(Binary, Box<(Bound, Bound)>),
    Variadic(Variadic, Vec<Bound>),
    JsonExtract(JsonPath, Box<Bound>),
    TimeAndLength(fn(i64, i64, &mut Warnings) -> Value, i64, Box<Bound>),
}

impl Bound {
    /// The value over a row and the columns computed so far. Terms of `and`, `or`, `when` and `fill_null` that cannot change
    /// the result are not evaluated.
    pub fn eval<'a>(&'a self, row: &'a [Value], computed: &'a [Value], warnings: &mut Warnings) -> Cow<'a, Value> {
        match self {
            Bound::Row(index) => Cow::Borrowed(&row[*index]),
            Bound::Computed(index) => Cow::Borrowed(&computed[*index]),
            Bound::Literal(value) => Cow::Borrowed(value),
            Bound::And(terms) => decided_by(false, terms, row, computed, warnings),
            Bound::Or(terms) => decided_by(true, terms, row, computed, warnings),
            Bound::IsNull(inner) => {
                let is_null = inner.eval(row, computed, warnings).is_null();
                Cow::Owned(Value::Bool(is_null))
            }
            Bound::Coalesce(terms) => {
                for term in terms {
                    let value = term.eval(row, computed, warnings);
                    if !value.is_null() {
                        return value;
                    }
                }
                Cow::Owned(Value::Null)
            }
            Bound::IsIn(needle, items) => {
                let needle = needle.eval(row, computed, warnings);
                Cow::Owned(is_in(&needle, items, row, computed, warnings))
            }
            Bound::When(branches, otherwise) => {
                for (condition, value) in branches {
                    if condition.is_true(row, computed, warnings) {
                        return value.eval(row, computed, warnings);
                    }
                }
                otherwise.eval(row, computed, warnings)
            }
            Bound::Unary(function, inner) => {
                let value = inner.eval(row, computed, warnings);
                Cow::Owned(if value.is_null() { Value::Null } else { function(&value, warnings) })
            }
            Bound::Binary(function, pair) => {
                let left = pair.0.eval(row, computed, warnings);
                if left.is_null() {
                    return Cow::Owned(Value::Null);
                }
                let right = pair.1.eval(row, computed, warnings);
                Cow::Owned(if right.is_null() { Value::Null } else { function(&left, &right, warnings) })
            }
            Bound::Variadic(function, terms) => {
                let mut values = Vec::with_capacity(terms.len());
                for term in terms {
                    let value = term.eval(row, computed, warnings);
                    if value.is_null() {
                        return Cow::Owned(Value::Null);
                    }
                    values.push(value.into_owned());
                }
                Cow::Owned(function(&values, warnings))
            }
            Bound::JsonExtract(path, inner) => {
                let value = inner.eval(row, computed, warnings);
                Cow::Owned(match value.as_str() {
                    Some(text) => path.extract(text, warnings),
                    None => Value::Null,
                })
            }
            Bound::TimeAndLength(function, length, inner) => {
                let value = inner.eval(row, computed, warnings);
                Cow::Owned(match *value {
                    Value::Time(time) => function(time, *length, warnings),
                    _ => Value::Null,
                })
            }
        }
    }

    /// Whether the value is true: not false, not null.
    pub fn is_true(&self, row: &[Value], computed: &[Value], warnings: &mut Warnings) -> bool {
        matches!(*self.eval(row, computed, warnings), Value::Bool(true))
    }

    /// Calls `visit` with every column this reads.
    pub(crate) fn visit_columns(&self, visit: &mut dyn FnMut(Column)) {
        match self {
            Bound::Row(index) => visit(Column::Row(*index)),
            Bound::Computed(index) => visit(Column::Computed(*index)),
            Bound::Literal(_) => {}
            Bound::And(terms) | Bound::Or(terms) | Bound::Coalesce(terms) | Bound::Variadic(_, terms) => {
                terms.iter().for_each(|term| term.visit_columns(visit));
            }
            Bound::IsNull(inner)
            | Bound::Unary(_, inner)
            | Bound::JsonExtract(_, inner)
            | Bound::TimeAndLength(_, _, inner) => inner.visit_columns(visit),
            Bound::IsIn(needle, items) => {
                needle.visit_columns(visit);
                items.iter().for_each(|item| item.visit_columns(visit));
            }
            Bound::When(branches, otherwise) => {
                for (condition, value) in branches {
                    condition.visit_columns(visit);
                    value.visit_columns(visit);
                }
                otherwise.visit_columns(visit);
            }
            Bound::Binary(_, pair) => {
                pair.0.visit_columns(visit);
                pair.1.visit_columns(visit);
            }
        }
    }

    /// Renumbers the computed columns.
    pub(crate) fn renumber_computed(&mut self, new_index: &dyn Fn(usize) -> usize) {
        match self {
            Bound::Computed(index) => *index = new_index(*index),
            Bound::Row(_) | Bound::Literal(_) => {}
            Bound::And(terms) | Bound::Or(terms) | Bound::Coalesce(terms) | Bound::Variadic(_, terms) => {
                terms.iter_mut().for_each(|term| term.renumber_computed(new_index));
            }
            Bound::IsNull(inner)
            | Bound::Unary(_, inner)
            | Bound::JsonExtract(_, inner)
            | Bound::TimeAndLength(_, _, inner) => {
                inner.renumber_computed(new_index);
            }
            Bound::IsIn(needle, items) => {
                needle.renumber_computed(new_index);
                items.iter_mut().for_each(|item| item.renumber_computed(new_index));
            }
            Bound::When(branches, otherwise) => {
                for (condition, value) in branches {
                    condition.renumber_computed(new_index);
                    value.renumber_computed(new_index);
                }
                otherwise.renumber_computed(new_index);
            }
            Bound::Binary(_, pair) => {
                pair.0.renumber_computed(new_index);
                pair.1.renumber_computed(new_index);
            }
        }
    }
}

/// Where a column stands in the frame that an expression reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Of the row.
    Row(usize),
    /// Computed by an earlier step.
    Computed(usize),
}

/// `and` (decided by false) and `or` (decided by true): the deciding value wins over null, null wins over the other.
fn decided_by<'a>(
    deciding: bool,
    terms: &'a [Bound],
    row: &'a [Value],
    computed: &'a [Value],
    warnings: &mut Warnings,
) -> Cow<'a, Value> {
    let mut saw_null = false;
    for term in terms {
        match *term.eval(row, computed, warnings) {
            Value::Bool(flag) if flag == deciding => return Cow::Owned(Value::Bool(deciding)),
            Value::Bool(_) => {}
            _ => saw_null = true,
        }
    }
    Cow::Owned(if saw_null { Value::Null } else { Value::Bool(!deciding) })
}

/// True if an item equals the needle; else null if the needle or an item is null; else false. Nothing is in no items.
fn is_in(needle: &Value, items: &[Bound], row: &[Value], computed: &[Value], warnings: &mut Warnings) -> Value {
    if items.is_empty() {
        return Value::Bool(false);
    }
    if needle.is_null() {
        return Value::Null;
    }
    let mut saw_null = false;
    for item in items {
        let item = item.eval(row, computed, warnings);
        if item.is_null() {
            saw_null = true;
        } else if super::functions::compare::compare(needle, &item).is_eq() {
            return Value::Bool(true);
        }
    }
    if saw_null { Value::Null } else { Value::Bool(false) }
}
