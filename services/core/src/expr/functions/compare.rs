//! Comparison, least and greatest. Ints, floats and Decimals compare as numbers, exactly.

use super::{Typed, arity, binary, common, times_from_text, unify, variadic, wrong_types};
use crate::decimal::Decimal;
use crate::error::Result;
use crate::expr::Op;
use crate::schema::DataType;
use crate::value::Value;
use std::cmp::Ordering;

pub(in crate::expr) fn resolve(op: Op, mut args: Vec<Typed>) -> Result<Typed> {
    let is_extreme = matches!(op, Op::Least | Op::Greatest);
    arity(op, &args, if is_extreme { 2..=usize::MAX } else { 2..=2 })?;
    times_from_text(&mut args)?;
    let is_of_number = |arg: &Typed| arg.data_type.as_ref().is_some_and(DataType::is_number);
    if !is_extreme && args.iter().all(is_of_number) {
        // Of any two types: nothing is converted.
        return Ok(comparison(op, args));
    }
    let shared = unify("both sides", &args).map_err(|error| {
        let wrong = wrong_types(op, "values of one type", &args);
        match error.hint_text() {
            Some(hint) => wrong.hint(hint),
            None => wrong,
        }
    })?;
    let is_ordered = shared
        .as_ref()
        .is_none_or(|found| !matches!(found, DataType::List(_) | DataType::Map(_) | DataType::Struct(_)));
    if !is_ordered && !matches!(op, Op::Eq | Op::Ne) {
        return Err(wrong_types(op, "values that have an order", &args));
    }
    if is_extreme { extreme(op, args) } else { Ok(comparison(op, args)) }
}

fn comparison(op: Op, args: Vec<Typed>) -> Typed {
    match op {
        Op::Eq => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_eq())),
        Op::Ne => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_ne())),
        Op::Lt => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_lt())),
        Op::Le => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_le())),
        Op::Gt => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_gt())),
        _ => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_ge())),
    }
}

/// `least` and `greatest`: null if any argument is.
fn extreme(op: Op, args: Vec<Typed>) -> Result<Typed> {
    let (nodes, data_type, nullable) = common("the arguments", args)?;
    let args = nodes.into_iter().map(|node| Typed { node, data_type: data_type.clone(), nullable }).collect();
    let function = match op {
        Op::Least => |values: &[Value], _: &mut _| values.iter().min().cloned().unwrap_or_default(),
        _ => |values: &[Value], _: &mut _| values.iter().max().cloned().unwrap_or_default(),
    };
    let mut typed = variadic(args, DataType::Bool, false, function);
    typed.data_type = data_type;
    Ok(typed)
}

/// The order of two values that are not null; equal numbers of different types are equal here.
pub(in crate::expr) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Int(int), Value::Float(float)) => compare_numbers(*int, *float),
        (Value::Float(float), Value::Int(int)) => compare_numbers(*int, *float).reverse(),
        (Value::Decimal(a), Value::Int(b)) => a.cmp(&Decimal::from_int(*b)),
        (Value::Int(a), Value::Decimal(b)) => Decimal::from_int(*a).cmp(b),
        (Value::Decimal(a), Value::Float(b)) => a.compare_f64(*b),
        (Value::Float(a), Value::Decimal(b)) => b.compare_f64(*a).reverse(),
        _ => a.cmp(b),
    }
}

fn compare_numbers(int: i64, float: f64) -> Ordering {
    if float >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    let floor = float.floor();
    let fraction = if float > floor { Ordering::Less } else { Ordering::Equal };
    int.cmp(&(floor as i64)).then(fraction)
}
