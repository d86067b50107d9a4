//! Statements and expressions, in Python's order and with Python's short cuts.

use super::number::{self, Number, number};
use super::program::{Builtin, Comparison, Expr, Operator, Program, Statement};
use super::{Sure, Unsure, text};
use std::cmp::Ordering;
use thyme_core::value::Value;

/// The outputs of one row. Floats are those that values hold: -0.0 is 0.0.
pub(crate) fn run(program: &Program, inputs: &[Value]) -> Sure<Vec<Value>> {
    let mut row = Row { inputs, locals: vec![Value::Null; program.locals] };
    let outputs = row.block(&program.body)?.ok_or(Unsure)?;
    outputs.iter().map(|output| plain(row.value(output)?)).collect()
}

fn plain(value: Value) -> Sure<Value> {
    match value {
        Value::Float(number) => Value::float(number).ok_or(Unsure),
        other => Ok(other),
    }
}

struct Row<'r> {
    inputs: &'r [Value],
    locals: Vec<Value>,
}

impl Row<'_> {
    /// What is returned, if these statements return.
    fn block<'p>(&mut self, statements: &'p [Statement]) -> Sure<Option<&'p [Expr]>> {
        for statement in statements {
            match statement {
                Statement::Assign(slot, expr) => {
                    let value = self.value(expr)?;
                    *self.locals.get_mut(*slot).ok_or(Unsure)? = value;
                }
                Statement::If(test, body, other) => {
                    let branch = if self.truth(test)? { body } else { other };
                    if let Some(outputs) = self.block(branch)? {
                        return Ok(Some(outputs));
                    }
                }
                Statement::Return(outputs) => return Ok(Some(outputs)),
            }
        }
        Ok(None)
    }

    fn value(&self, expr: &Expr) -> Sure<Value> {
        Ok(match expr {
            Expr::None => Value::Null,
            Expr::Bool(flag) => Value::Bool(*flag),
            Expr::Int(number) => Value::Int(*number),
            Expr::Float(number) => Value::Float(*number),
            Expr::Str(text) => Value::Str(text.clone()),
            Expr::Input(position) => self.inputs.get(*position).ok_or(Unsure)?.clone(),
            Expr::Local(slot) => self.locals.get(*slot).ok_or(Unsure)?.clone(),
            Expr::Negative(operand) => number::negative(number(&self.value(operand)?)?)?,
            Expr::Positive(operand) => number(&self.value(operand)?)?.value(),
            Expr::Not(operand) => Value::Bool(!self.truth(operand)?),
            Expr::Binary(operator, left, right) => binary(*operator, &self.value(left)?, &self.value(right)?)?,
            Expr::Compare(left, rights) => Value::Bool(self.chain(left, rights)?),
            Expr::IsNone(operand) => Value::Bool(self.value(operand)?.is_null()),
            Expr::And(operands) => self.first_with(operands, false)?,
            Expr::Or(operands) => self.first_with(operands, true)?,
            Expr::IfElse(test, value, other) => self.value(if self.truth(test)? { value } else { other })?,
            Expr::Call(builtin, arguments) => self.call(*builtin, arguments)?,
        })
    }

    fn truth(&self, expr: &Expr) -> Sure<bool> {
        truth(&self.value(expr)?)
    }

    /// The first operand with this truth, or else the last.
    fn first_with(&self, operands: &[Expr], wanted: bool) -> Sure<Value> {
        let (last, before) = operands.split_last().ok_or(Unsure)?;
        for operand in before {
            let value = self.value(operand)?;
            if truth(&value)? == wanted {
                return Ok(value);
            }
        }
        self.value(last)
    }

    fn chain(&self, left: &Expr, rights: &[(Comparison, Expr)]) -> Sure<bool> {
        let mut left = self.value(left)?;
        for (comparison, right) in rights {
            let right = self.value(right)?;
            if !compare(*comparison, &left, &right)? {
                return Ok(false);
            }
            left = right;
        }
        Ok(true)
    }

    fn call(&self, builtin: Builtin, arguments: &[Expr]) -> Sure<Value> {
        match builtin {
            Builtin::Min => return self.extreme(arguments, Ordering::Less),
            Builtin::Max => return self.extreme(arguments, Ordering::Greater),
            _ => {}
        }
        let first = self.value(arguments.first().ok_or(Unsure)?)?;
        match builtin {
            Builtin::Min | Builtin::Max => Err(Unsure),
            Builtin::Abs => number::absolute(number(&first)?),
            Builtin::Round => number::rounded(number(&first)?),
            Builtin::Int => number::truncated(number(&first)?),
            Builtin::Float => Ok(Value::Float(number(&first)?.float()?)),
            Builtin::Bool => Ok(Value::Bool(truth(&first)?)),
            Builtin::Len => text::length(&first),
            Builtin::Lower => text::lower(&first),
            Builtin::Upper => text::upper(&first),
            Builtin::Strip => text::strip(&first),
            Builtin::StartsWith => text::starts_with(&first, &self.value(arguments.get(1).ok_or(Unsure)?)?),
            Builtin::EndsWith => text::ends_with(&first, &self.value(arguments.get(1).ok_or(Unsure)?)?),
        }
    }

    /// The first of the least or greatest, as it is.
    fn extreme(&self, arguments: &[Expr], wanted: Ordering) -> Sure<Value> {
        let values: Vec<Value> = arguments.iter().map(|argument| self.value(argument)).collect::<Sure<_>>()?;
        let mut values = values.into_iter();
        let mut best = values.next().ok_or(Unsure)?;
        for value in values {
            if order(&value, &best)? == wanted {
                best = value;
            }
        }
        Ok(best)
    }
}

fn truth(value: &Value) -> Sure<bool> {
    match value {
        Value::Null => Ok(false),
        Value::Str(text) => Ok(!text.is_empty()),
        other => Ok(match number(other)? {
            Number::Int(int) => int != 0,
            Number::Float(float) => float != 0.0,
        }),
    }
}

fn binary(operator: Operator, left: &Value, right: &Value) -> Sure<Value> {
    if let (Operator::Add, Value::Str(left), Value::Str(right)) = (operator, left, right) {
        return Ok(text::joined(left, right));
    }
    let (left, right) = (number(left)?, number(right)?);
    match operator {
        Operator::Add => number::sum(left, right),
        Operator::Sub => number::difference(left, right),
        Operator::Mult => number::product(left, right),
        Operator::Div => number::quotient(left, right),
        Operator::FloorDiv => number::floor_quotient(left, right),
        Operator::Mod => number::modulo(left, right),
    }
}

fn compare(comparison: Comparison, left: &Value, right: &Value) -> Sure<bool> {
    match comparison {
        Comparison::Eq => equal(left, right),
        Comparison::NotEq => Ok(!equal(left, right)?),
        Comparison::Lt => Ok(order(left, right)?.is_lt()),
        Comparison::LtE => Ok(order(left, right)?.is_le()),
        Comparison::Gt => Ok(order(left, right)?.is_gt()),
        Comparison::GtE => Ok(order(left, right)?.is_ge()),
        Comparison::In => text::holds(right, left),
        Comparison::NotIn => Ok(!text::holds(right, left)?),
    }
}

/// Values of different kinds differ: only `<` and its like raise.
fn equal(left: &Value, right: &Value) -> Sure<bool> {
    match (left, right) {
        (Value::Null, Value::Null) => Ok(true),
        (Value::Str(left), Value::Str(right)) => Ok(left == right),
        (Value::Null | Value::Str(_), _) | (_, Value::Null | Value::Str(_)) => Ok(false),
        (left, right) => Ok(number::order(number(left)?, number(right)?)?.is_eq()),
    }
}

/// Texts by code points, which is the order of their UTF-8 bytes.
fn order(left: &Value, right: &Value) -> Sure<Ordering> {
    match (left, right) {
        (Value::Str(left), Value::Str(right)) => Ok(left.cmp(right)),
        (left, right) => number::order(number(left)?, number(right)?),
    }
}
