//! Casts: what has no counterpart in the target type is null with a warning.

use super::number::to_f64;
use super::{Typed, arity, unary, wrong_types};
use crate::decimal::Decimal;
use crate::error::Result;
use crate::expr::{Op, Warnings};
use crate::schema::DataType;
use crate::time::format_time;
use crate::value::Value;

pub(in crate::expr) fn resolve(op: Op, args: Vec<Typed>) -> Result<Typed> {
    arity(op, &args, 1..=1)?;
    let castable = match &args[0].data_type {
        None => args[0].literal().is_none_or(Value::is_null),
        Some(DataType::Bool | DataType::Int | DataType::Float | DataType::Decimal | DataType::Str) => true,
        Some(DataType::Time | DataType::Bytes) => op == Op::ToStr,
        Some(DataType::List(_) | DataType::Map(_) | DataType::Struct(_)) => false,
    };
    if !castable {
        let is_time = args[0].data_type == Some(DataType::Time);
        let takes = if op == Op::ToStr {
            "bool, int, float, Decimal, str, datetime or bytes"
        } else {
            "bool, int, float, Decimal or str"
        };
        let error = wrong_types(op, takes, &args);
        return Err(if is_time {
            error.hint("a datetime as a number is epoch_seconds or epoch_micros")
        } else {
            error
        });
    }
    let from = args[0].data_type.clone();
    let from_text = from == Some(DataType::Str);
    Ok(match op {
        Op::ToInt => {
            let can_fail = from_text || matches!(from, Some(DataType::Float | DataType::Decimal));
            unary(args, DataType::Int, can_fail, to_int)
        }
        Op::ToDecimal => unary(args, DataType::Decimal, from_text || from == Some(DataType::Float), to_decimal),
        Op::ToFloat => unary(args, DataType::Float, from_text, to_float),
        Op::ToBool => unary(args, DataType::Bool, from_text, to_bool),
        _ => unary(args, DataType::Str, from == Some(DataType::Bytes), to_str),
    })
}

fn failed(warnings: &mut Warnings) -> Value {
    warnings.failed_cast += 1;
    Value::Null
}

/// A float or Decimal loses its fraction.
fn to_int(value: &Value, warnings: &mut Warnings) -> Value {
    match value {
        Value::Int(_) => value.clone(),
        Value::Bool(flag) => Value::Int(i64::from(*flag)),
        Value::Float(number) => {
            let whole = number.trunc();
            // 2^63 itself is out of range, -2^63 is in.
            if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&whole) {
                Value::Int(whole as i64)
            } else {
                failed(warnings)
            }
        }
        Value::Decimal(number) => match number.to_int() {
            Some(number) => Value::Int(number),
            None => failed(warnings),
        },
        Value::Str(text) => match text.trim().parse() {
            Ok(number) => Value::Int(number),
            Err(_) => failed(warnings),
        },
        _ => failed(warnings),
    }
}

/// A float is the shortest decimal that reads back as it, rounded to 18 digits after the point.
fn to_decimal(value: &Value, warnings: &mut Warnings) -> Value {
    let number = match value {
        Value::Decimal(number) => Some(*number),
        Value::Int(number) => Some(Decimal::from_int(*number)),
        Value::Bool(flag) => Some(Decimal::from_int(i64::from(*flag))),
        Value::Float(number) => Decimal::from_f64(*number),
        Value::Str(text) => Decimal::parse(text.trim()).ok(),
        _ => None,
    };
    number.map_or_else(|| failed(warnings), Value::Decimal)
}

fn to_float(value: &Value, warnings: &mut Warnings) -> Value {
    match value {
        Value::Int(_) | Value::Float(_) | Value::Decimal(_) => Value::Float(to_f64(value)),
        Value::Bool(flag) => Value::Float(f64::from(u8::from(*flag))),
        Value::Str(text) => match text.trim().parse::<f64>().ok().and_then(Value::float) {
            Some(number) => number,
            None => failed(warnings),
        },
        _ => failed(warnings),
    }
}

/// Text: `true`, `false`, `1`, `0`, in any case; a number: whether it is not zero.
fn to_bool(value: &Value, warnings: &mut Warnings) -> Value {
    match value {
        Value::Bool(_) => value.clone(),
        Value::Int(_) | Value::Float(_) | Value::Decimal(_) => Value::Bool(to_f64(value) != 0.0),
        Value::Str(text) => match text.trim().to_lowercase().as_str() {
            "true" | "1" => Value::Bool(true),
            "false" | "0" => Value::Bool(false),
            _ => failed(warnings),
        },
        _ => failed(warnings),
    }
}

/// The text of the public JSON form; bytes as UTF-8.
fn to_str(value: &Value, warnings: &mut Warnings) -> Value {
    match value {
        Value::Str(_) => value.clone(),
        Value::Time(micros) => Value::str(format_time(*micros)),
        Value::Decimal(number) => Value::str(number.to_string()),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::str(text),
            Err(_) => failed(warnings),
        },
        other => Value::str(other.to_json().to_string()),
    }
}
