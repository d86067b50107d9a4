//! Arithmetic of Decimals, with ints among them: exact, except that a product is rounded to 18 digits after the point.

use super::number::{digits_to_keep, division_by_zero};
use super::{Typed, binary, unary};
use crate::decimal::Decimal;
use crate::error::Result;
use crate::expr::eval::Unary;
use crate::expr::{Op, Warnings};
use crate::schema::DataType;
use crate::value::Value;

pub(super) fn resolve(op: Op, mut args: Vec<Typed>) -> Result<Typed> {
    if op == Op::Round {
        let function = rounding(digits_to_keep(&args)?);
        args.truncate(1);
        return Ok(unary(args, DataType::Decimal, true, function));
    }
    let result = DataType::Decimal;
    Ok(match op {
        Op::Add => binary(args, result, true, |a, b, warnings| in_range(of(a).checked_add(of(b)), warnings)),
        Op::Sub => binary(args, result, true, |a, b, warnings| in_range(of(a).checked_sub(of(b)), warnings)),
        Op::Mul => binary(args, result, true, |a, b, warnings| in_range(of(a).checked_mul(of(b)), warnings)),
        Op::Floordiv => binary(args, result, true, |a, b, warnings| match of(b) {
            Decimal::ZERO => division_by_zero(warnings),
            divisor => in_range(of(a).checked_floordiv(divisor), warnings),
        }),
        Op::Mod => binary(args, result, true, |a, b, warnings| match of(b) {
            Decimal::ZERO => division_by_zero(warnings),
            divisor => in_range(of(a).checked_mod(divisor), warnings),
        }),
        Op::Neg => unary(args, result, false, |value, _| Value::Decimal(of(value).negated())),
        Op::Abs => unary(args, result, false, |value, _| Value::Decimal(of(value).abs())),
        Op::Floor => unary(args, result, true, |value, warnings| in_range(of(value).floor(), warnings)),
        _ => unary(args, result, true, |value, warnings| in_range(of(value).ceil(), warnings)),
    })
}

fn of(value: &Value) -> Decimal {
    match value {
        Value::Decimal(number) => *number,
        Value::Int(number) => Decimal::from_int(*number),
        _ => Decimal::ZERO,
    }
}

fn in_range(number: Option<Decimal>, warnings: &mut Warnings) -> Value {
    match number {
        Some(number) => Value::Decimal(number),
        None => {
            warnings.overflow += 1;
            Value::Null
        }
    }
}

/// Half to even.
fn rounding(digits: u8) -> Unary {
    match digits {
        0 => round_to::<0>,
        1 => round_to::<1>,
        2 => round_to::<2>,
        3 => round_to::<3>,
        4 => round_to::<4>,
        5 => round_to::<5>,
        6 => round_to::<6>,
        7 => round_to::<7>,
        8 => round_to::<8>,
        9 => round_to::<9>,
        10 => round_to::<10>,
        11 => round_to::<11>,
        12 => round_to::<12>,
        13 => round_to::<13>,
        14 => round_to::<14>,
        _ => round_to::<15>,
    }
}

fn round_to<const DIGITS: u8>(value: &Value, warnings: &mut Warnings) -> Value {
    in_range(of(value).round(DIGITS), warnings)
}
