//! Arithmetic as CPython does it on int, float and bool.

use super::{Sure, Unsure};
use std::cmp::Ordering;
use thyme_core::value::Value;

/// A finite number; a bool counts as int.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

pub(crate) fn number(value: &Value) -> Sure<Number> {
    match value {
        Value::Bool(flag) => Ok(Number::Int(i64::from(*flag))),
        Value::Int(int) => Ok(Number::Int(*int)),
        Value::Float(float) => Ok(Number::Float(*float)),
        _ => Err(Unsure),
    }
}

/// Every int up to here is a float, too.
const EXACT: u64 = 1 << 53;

impl Number {
    pub fn value(self) -> Value {
        match self {
            Number::Int(int) => Value::Int(int),
            Number::Float(float) => Value::Float(float),
        }
    }

    /// As a float of the same value.
    pub fn float(self) -> Sure<f64> {
        match self {
            Number::Int(int) if int.unsigned_abs() <= EXACT => Ok(int as f64),
            Number::Int(_) => Err(Unsure),
            Number::Float(float) => Ok(float),
        }
    }
}

fn int(checked: Option<i64>) -> Sure<Value> {
    checked.map(Value::Int).ok_or(Unsure)
}

fn float(number: f64) -> Sure<Value> {
    if number.is_finite() { Ok(Value::Float(number)) } else { Err(Unsure) }
}

/// A float that is whole, as an int.
fn whole(number: f64) -> Sure<Value> {
    const BOUND: f64 = (1u64 << 63) as f64;
    if (-BOUND..BOUND).contains(&number) { Ok(Value::Int(number as i64)) } else { Err(Unsure) }
}

/// On two ints, or else on two floats.
fn either(
    left: Number,
    right: Number,
    ints: impl FnOnce(i64, i64) -> Option<i64>,
    floats: impl FnOnce(f64, f64) -> f64,
) -> Sure<Value> {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => int(ints(left, right)),
        _ => float(floats(left.float()?, right.float()?)),
    }
}

pub(crate) fn sum(left: Number, right: Number) -> Sure<Value> {
    either(left, right, i64::checked_add, |left, right| left + right)
}

pub(crate) fn difference(left: Number, right: Number) -> Sure<Value> {
    either(left, right, i64::checked_sub, |left, right| left - right)
}

pub(crate) fn product(left: Number, right: Number) -> Sure<Value> {
    either(left, right, i64::checked_mul, |left, right| left * right)
}

/// A float, of ints too. By zero it raises, which is an infinity or NaN here.
pub(crate) fn quotient(left: Number, right: Number) -> Sure<Value> {
    float(left.float()? / right.float()?)
}

/// Rounded down.
pub(crate) fn floor_quotient(left: Number, right: Number) -> Sure<Value> {
    either(left, right, floor_div_of_ints, |left, right| floor_div_of_floats(left, right).unwrap_or(f64::NAN))
}

/// With the sign of the divisor.
pub(crate) fn modulo(left: Number, right: Number) -> Sure<Value> {
    either(left, right, modulo_of_ints, |left, right| modulo_of_floats(left, right).unwrap_or(f64::NAN))
}

fn floor_div_of_ints(left: i64, right: i64) -> Option<i64> {
    let quotient = left.checked_div(right)?;
    let is_rounded_up = left.checked_rem(right)? != 0 && (left < 0) != (right < 0);
    Some(if is_rounded_up { quotient - 1 } else { quotient })
}

fn modulo_of_ints(left: i64, right: i64) -> Option<i64> {
    let rest = left.checked_rem(right)?;
    Some(if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest })
}

/// `float_rem` of CPython's `floatobject.c`; none by zero.
fn modulo_of_floats(left: f64, right: f64) -> Option<f64> {
    if right == 0.0 {
        return None;
    }
    let rest = left % right;
    Some(if rest == 0.0 {
        0f64.copysign(right)
    } else if (rest < 0.0) != (right < 0.0) {
        rest + right
    } else {
        rest
    })
}

/// `_float_div_mod` of CPython's `floatobject.c`; none by zero.
fn floor_div_of_floats(left: f64, right: f64) -> Option<f64> {
    if right == 0.0 {
        return None;
    }
    let rest = left % right;
    let mut quotient = (left - rest) / right;
    if rest != 0.0 && (rest < 0.0) != (right < 0.0) {
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return Some(0f64.copysign(left / right));
    }
    let floor = quotient.floor();
    Some(if quotient - floor > 0.5 { floor + 1.0 } else { floor })
}

pub(crate) fn negative(operand: Number) -> Sure<Value> {
    match operand {
        Number::Int(number) => int(number.checked_neg()),
        Number::Float(number) => Ok(Value::Float(-number)),
    }
}

pub(crate) fn absolute(operand: Number) -> Sure<Value> {
    match operand {
        Number::Int(number) => int(number.checked_abs()),
        Number::Float(number) => Ok(Value::Float(number.abs())),
    }
}

/// `round(x)`: an int, a half to the even one.
pub(crate) fn rounded(operand: Number) -> Sure<Value> {
    match operand {
        Number::Int(number) => Ok(Value::Int(number)),
        Number::Float(number) => whole(number.round_ties_even()),
    }
}

/// `int(x)`: towards zero.
pub(crate) fn truncated(operand: Number) -> Sure<Value> {
    match operand {
        Number::Int(number) => Ok(Value::Int(number)),
        Number::Float(number) => whole(number.trunc()),
    }
}

pub(crate) fn order(left: Number, right: Number) -> Sure<Ordering> {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => Ok(left.cmp(&right)),
        _ => left.float()?.partial_cmp(&right.float()?).ok_or(Unsure),
    }
}
