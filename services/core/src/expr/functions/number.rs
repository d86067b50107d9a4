//! Arithmetic. Int with int stays int, Decimal with Decimal or int is Decimal; an overflow, a division by zero, a NaN or an infinity is
//! null with a warning.

use super::{DECIMAL_WITH_FLOAT, Typed, arity, binary, decimal, unary, wrong_types};
use crate::error::Result;
use crate::expr::eval::{Binary, Unary};
use crate::expr::{Op, Warnings};
use crate::schema::DataType;
use crate::value::Value;

pub(in crate::expr) fn resolve(op: Op, args: Vec<Typed>) -> Result<Typed> {
    let allowed = match op {
        Op::Neg | Op::Abs | Op::Floor | Op::Ceil | Op::Sqrt | Op::Exp | Op::Log => 1..=1,
        Op::Round => 1..=2,
        _ => 2..=2,
    };
    arity(op, &args, allowed)?;
    if !args.iter().all(Typed::is_number) {
        let all = |data_type: &DataType| args.iter().all(|arg| arg.fits(data_type));
        let error = wrong_types(op, "numbers", &args);
        return Err(match op {
            Op::Add if all(&DataType::Str) => error.hint("join texts with concat"),
            Op::Sub if all(&DataType::Time) => error.hint("the time between two datetimes is diff_micros"),
            Op::Add | Op::Sub if args[0].fits(&DataType::Time) => {
                error.hint("move a datetime with add_duration or sub_duration")
            }
            _ => error,
        });
    }
    if matches!(op, Op::Pow | Op::Div | Op::Sqrt | Op::Exp | Op::Log) {
        return Ok(in_floats(op, args));
    }
    let ints = args.iter().all(|arg| arg.fits(&DataType::Int));
    let decimals = args.iter().any(|arg| arg.data_type == Some(DataType::Decimal));
    if decimals && args.iter().any(|arg| arg.data_type == Some(DataType::Float)) {
        return Err(wrong_types(op, "numbers that are all exact or all floats", &args).hint(DECIMAL_WITH_FLOAT));
    }
    if decimals {
        return decimal::resolve(op, args);
    }
    let result = if ints { DataType::Int } else { DataType::Float };
    Ok(match op {
        Op::Add => binary(args, result, true, pick(ints, add_ints, add_floats)),
        Op::Sub => binary(args, result, true, pick(ints, sub_ints, sub_floats)),
        Op::Mul => binary(args, result, true, pick(ints, mul_ints, mul_floats)),
        Op::Floordiv => binary(args, result, true, pick(ints, floordiv_ints, floordiv_floats)),
        Op::Mod => binary(args, result, true, pick(ints, mod_ints, mod_floats)),
        Op::Neg => unary(args, result, ints, negate),
        Op::Abs => unary(args, result, ints, absolute),
        Op::Floor => unary(args, result, false, |value, _| whole(value, f64::floor)),
        Op::Ceil => unary(args, result, false, |value, _| whole(value, f64::ceil)),
        _ => return round(args, result),
    })
}

/// What is a float of any numbers.
fn in_floats(op: Op, args: Vec<Typed>) -> Typed {
    match op {
        Op::Div => binary(args, DataType::Float, true, divide),
        Op::Pow => binary(args, DataType::Float, true, pow),
        Op::Sqrt => unary(args, DataType::Float, true, |value, warnings| finite(to_f64(value).sqrt(), warnings)),
        Op::Exp => unary(args, DataType::Float, true, |value, warnings| finite(libm::exp(to_f64(value)), warnings)),
        _ => unary(args, DataType::Float, true, |value, warnings| finite(libm::log(to_f64(value)), warnings)),
    }
}

fn pick(ints: bool, for_ints: Binary, for_floats: Binary) -> Binary {
    if ints { for_ints } else { for_floats }
}

/// `round(x)` and `round(x, digits)`: half to even, as Python does; a float stays a float.
fn round(mut args: Vec<Typed>, result: DataType) -> Result<Typed> {
    let digits = digits_to_keep(&args)?;
    args.truncate(1);
    if result == DataType::Int || args[0].fits(&DataType::Int) {
        return Ok(unary(args, DataType::Int, false, |value, _| value.clone()));
    }
    let function: Unary = match digits {
        0 => |value, _| whole(value, f64::round_ties_even),
        1 => |value, _| round_to::<1>(value),
        2 => |value, _| round_to::<2>(value),
        3 => |value, _| round_to::<3>(value),
        4 => |value, _| round_to::<4>(value),
        5 => |value, _| round_to::<5>(value),
        6 => |value, _| round_to::<6>(value),
        7 => |value, _| round_to::<7>(value),
        8 => |value, _| round_to::<8>(value),
        9 => |value, _| round_to::<9>(value),
        10 => |value, _| round_to::<10>(value),
        11 => |value, _| round_to::<11>(value),
        12 => |value, _| round_to::<12>(value),
        13 => |value, _| round_to::<13>(value),
        14 => |value, _| round_to::<14>(value),
        _ => |value, _| round_to::<15>(value),
    };
    Ok(unary(args, DataType::Float, false, function))
}

/// The second argument of `round`.
pub(super) fn digits_to_keep(args: &[Typed]) -> Result<u8> {
    match args.get(1).map(Typed::literal) {
        None => Ok(0),
        Some(Some(Value::Int(digits @ 0..=15))) => Ok(*digits as u8),
        Some(_) => Err(wrong_types(Op::Round, "a number and the digits to keep, an int literal 0 to 15", args)),
    }
}

/// Through the exact decimal expansion, so that the result is the double nearest to the rounded decimal.
fn round_to<const DIGITS: usize>(value: &Value) -> Value {
    let rounded = format!("{:.DIGITS$}", to_f64(value)).parse::<f64>();
    rounded.ok().and_then(Value::float).unwrap_or(Value::Null)
}

fn whole(value: &Value, function: fn(f64) -> f64) -> Value {
    match value {
        Value::Float(number) => Value::float(function(*number)).unwrap_or(Value::Null),
        other => other.clone(),
    }
}

pub(in crate::expr) fn to_f64(value: &Value) -> f64 {
    match value {
        Value::Int(number) => *number as f64,
        Value::Float(number) => *number,
        Value::Decimal(number) => number.to_f64(),
        _ => f64::NAN,
    }
}

fn to_i64(value: &Value) -> i64 {
    value.as_int().unwrap_or(0)
}

/// A float that an expression made.
pub(in crate::expr) fn finite(number: f64, warnings: &mut Warnings) -> Value {
    match Value::float(number) {
        Some(value) => value,
        None => {
            warnings.not_finite += 1;
            Value::Null
        }
    }
}

/// An int that an expression made, `None` if it does not fit.
pub(in crate::expr) fn in_range(number: Option<i64>, warnings: &mut Warnings) -> Value {
    match number {
        Some(number) => Value::Int(number),
        None => {
            warnings.overflow += 1;
            Value::Null
        }
    }
}

fn add_ints(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    in_range(to_i64(a).checked_add(to_i64(b)), warnings)
}
fn add_floats(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    finite(to_f64(a) + to_f64(b), warnings)
}
fn sub_ints(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    in_range(to_i64(a).checked_sub(to_i64(b)), warnings)
}
fn sub_floats(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    finite(to_f64(a) - to_f64(b), warnings)
}
fn mul_ints(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    in_range(to_i64(a).checked_mul(to_i64(b)), warnings)
}
fn mul_floats(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    finite(to_f64(a) * to_f64(b), warnings)
}
fn pow(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    finite(libm::pow(to_f64(a), to_f64(b)), warnings)
}

pub(super) fn division_by_zero(warnings: &mut Warnings) -> Value {
    warnings.division_by_zero += 1;
    Value::Null
}

fn divide(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    if to_f64(b) == 0.0 {
        return division_by_zero(warnings);
    }
    finite(to_f64(a) / to_f64(b), warnings)
}

fn floordiv_ints(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    let (a, b) = (to_i64(a), to_i64(b));
    if b == 0 {
        return division_by_zero(warnings);
    }
    let quotient =
        a.checked_div(b).map(|quotient| if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient });
    in_range(quotient, warnings)
}

/// The remainder has the sign of the divisor: a == (a // b) * b + a % b.
fn mod_ints(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    let (a, b) = (to_i64(a), to_i64(b));
    if b == 0 {
        return division_by_zero(warnings);
    }
    let remainder = a.wrapping_rem(b);
    Value::Int(if remainder != 0 && (remainder < 0) != (b < 0) { remainder + b } else { remainder })
}

/// Quotient and remainder of floats as Python computes them (`float_divmod`).
fn divmod(a: f64, b: f64) -> (f64, f64) {
    let mut remainder = a % b;
    let mut quotient = (a - remainder) / b;
    if remainder != 0.0 && (remainder < 0.0) != (b < 0.0) {
        remainder += b;
        quotient -= 1.0;
    }
    let mut floor = quotient.floor();
    if quotient - floor > 0.5 {
        floor += 1.0;
    }
    (floor, remainder)
}

fn floordiv_floats(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    if to_f64(b) == 0.0 {
        return division_by_zero(warnings);
    }
    finite(divmod(to_f64(a), to_f64(b)).0, warnings)
}

fn mod_floats(a: &Value, b: &Value, warnings: &mut Warnings) -> Value {
    if to_f64(b) == 0.0 {
        return division_by_zero(warnings);
    }
    finite(divmod(to_f64(a), to_f64(b)).1, warnings)
}

fn negate(value: &Value, warnings: &mut Warnings) -> Value {
    match value {
        Value::Int(number) => in_range(number.checked_neg(), warnings),
        other => finite(-to_f64(other), warnings),
    }
}

fn absolute(value: &Value, warnings: &mut Warnings) -> Value {
    match value {
        Value::Int(number) => in_range(number.checked_abs(), warnings),
        other => finite(to_f64(other).abs(), warnings),
    }
}
