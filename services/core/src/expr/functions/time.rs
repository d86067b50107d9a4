//! Functions of time, in UTC.

use super::number::in_range;
use super::{Typed, all_of, arity, binary, unary, wrong_types};
use crate::error::{Error, Result};
use crate::expr::Op;
use crate::expr::Warnings;
use crate::expr::eval::Bound;
use crate::schema::DataType;
use crate::value::Value;
use crate::window::parse_duration;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

pub(in crate::expr) fn resolve(op: Op, args: Vec<Typed>) -> Result<Typed> {
    match op {
        Op::Truncate => return with_duration(op, args, truncate),
        Op::AddDuration => {
            return with_duration(op, args, |time, length, warnings| shift(time.checked_add(length), warnings));
        }
        Op::SubDuration => {
            return with_duration(op, args, |time, length, warnings| shift(time.checked_sub(length), warnings));
        }
        Op::DiffMicros => {
            arity(op, &args, 2..=2)?;
            all_of(op, &args, &DataType::Time, "two datetimes")?;
            return Ok(binary(args, DataType::Int, true, |a, b, warnings| {
                in_range(micros(a).checked_sub(micros(b)), warnings)
            }));
        }
        _ => {}
    }
    arity(op, &args, 1..=1)?;
    all_of(op, &args, &DataType::Time, "a datetime")?;
    Ok(match op {
        Op::Year => unary(args, DataType::Int, false, |time, _| Value::Int(civil(time).year)),
        Op::Month => unary(args, DataType::Int, false, |time, _| Value::Int(civil(time).month)),
        Op::Day => unary(args, DataType::Int, false, |time, _| Value::Int(civil(time).day)),
        Op::DayOfYear => unary(args, DataType::Int, false, |time, _| Value::Int(civil(time).day_of_year)),
        // 1970-01-01 was a Thursday; ISO 8601: Monday is 1, Sunday 7.
        Op::DayOfWeek => unary(args, DataType::Int, false, |time, _| Value::Int((days(time) + 3).rem_euclid(7) + 1)),
        Op::Hour => {
            unary(args, DataType::Int, false, |time, _| Value::Int(micros(time).rem_euclid(DAY) / (3600 * SECOND)))
        }
        Op::Minute => unary(args, DataType::Int, false, |time, _| {
            Value::Int(micros(time).rem_euclid(3600 * SECOND) / (60 * SECOND))
        }),
        Op::Second => {
            unary(args, DataType::Int, false, |time, _| Value::Int(micros(time).rem_euclid(60 * SECOND) / SECOND))
        }
        Op::EpochSeconds => unary(args, DataType::Int, false, |time, _| Value::Int(micros(time).div_euclid(SECOND))),
        _ => unary(args, DataType::Int, false, |time, _| Value::Int(micros(time))),
    })
}

fn micros(value: &Value) -> i64 {
    match value {
        Value::Time(micros) => *micros,
        _ => 0,
    }
}

fn days(value: &Value) -> i64 {
    micros(value).div_euclid(DAY)
}

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    day_of_year: i64,
}

/// The date in the proleptic Gregorian calendar, for any time. Source: Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`: years begin in March, eras have 400 years.
fn civil(value: &Value) -> Civil {
    let shifted = days(value) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_march_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_march_year + 2) / 153;
    let day = day_of_march_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let day_of_year = if month <= 2 { day_of_march_year - 305 } else { day_of_march_year + 60 + i64::from(is_leap) };
    Civil { year, month, day, day_of_year }
}

/// A function of a time and a literal length such as `"1h"`.
fn with_duration(op: Op, args: Vec<Typed>, function: fn(i64, i64, &mut Warnings) -> Value) -> Result<Typed> {
    arity(op, &args, 2..=2)?;
    let takes = "a datetime and a length as a literal, such as '1h'";
    let Some(text) = args[1].literal().and_then(Value::as_str) else { return Err(wrong_types(op, takes, &args)) };
    if !args[0].fits(&DataType::Time) {
        return Err(wrong_types(op, takes, &args));
    }
    let length = parse_duration(text).map_err(|error| {
        let hint = "write one or more <integer><unit> with units s m h d w, such as 90s or 1d12h";
        Error::definition(error.message().replace("window", "length")).hint(hint)
    })?;
    let nullable = args[0].nullable || op != Op::Truncate;
    let time = args.into_iter().next().map_or(Bound::Literal(Value::Null), |arg| arg.node);
    Ok(Typed {
        node: Bound::TimeAndLength(function, length, Box::new(time)),
        data_type: Some(DataType::Time),
        nullable,
    })
}

fn truncate(time: i64, length: i64, warnings: &mut Warnings) -> Value {
    shift(time.checked_sub(time.rem_euclid(length)), warnings)
}

fn shift(time: Option<i64>, warnings: &mut Warnings) -> Value {
    match time {
        Some(time) => Value::Time(time),
        None => {
            warnings.overflow += 1;
            Value::Null
        }
    }
}
