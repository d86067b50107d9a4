//! Comparison, least and greatest. Ints and floats compare as numbers, exactly.

use super::{Typed, arity, binary, common, times_from_text, unify, variadic, wrong_types};
use crate::error::Result;
use crate::expr::Op;
use crate::schema::DataType;
use crate::value::Value;
use std::cmp::Ordering;

pub(in crate::expr) fn resolve(op: Op, mut args: Vec<Typed>) -> Result<Typed> {
    let is_extreme = matches!(op, Op::Least | Op::Greatest);
    arity(op, &args, if is_extreme { 2..=usize::MAX } else { 2..=2 })?;
    times_from_text(&mut args)?;
    let shared = unify("both sides", &args).map_err(|_| wrong_types(op, "values of one type", &args))?;
    let is_ordered = shared
        .as_ref()
        .is_none_or(|found| !matches!(found, DataType::List(_) | DataType::Map(_) | DataType::Struct(_)));
    if !is_ordered && !matches!(op, Op::Eq | Op::Ne) {
        return Err(wrong_types(op, "values that have an order", &args));
    }
    Ok(match op {
        Op::Eq => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_eq())),
        Op::Ne => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_ne())),
        Op::Lt => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_lt())),
        Op::Le => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_le())),
        Op::Gt => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_gt())),
        Op::Ge => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(compare(a, b).is_ge())),
        _ => return extreme(op, args),
    })
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
