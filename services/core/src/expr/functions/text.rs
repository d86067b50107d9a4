//! Functions of text. Positions count characters.

use super::{Typed, all_of, arity, binary, unary, variadic, wrong_types};
use crate::error::Result;
use crate::expr::Op;
use crate::schema::DataType;
use crate::value::Value;

pub(in crate::expr) fn resolve(op: Op, args: Vec<Typed>) -> Result<Typed> {
    match op {
        Op::Length => return length(args),
        Op::Slice => return slice(args),
        _ => {}
    }
    let allowed = match op {
        Op::Lower | Op::Upper | Op::Strip => 1..=1,
        Op::Replace => 3..=3,
        Op::Concat => 1..=usize::MAX,
        _ => 2..=2,
    };
    arity(op, &args, allowed)?;
    all_of(op, &args, &DataType::Str, "str")?;
    Ok(match op {
        Op::Lower => unary(args, DataType::Str, false, |value, _| Value::str(text(value).to_lowercase())),
        Op::Upper => unary(args, DataType::Str, false, |value, _| Value::str(text(value).to_uppercase())),
        Op::Strip => unary(args, DataType::Str, false, |value, _| Value::str(text(value).trim())),
        Op::Contains => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(text(a).contains(text(b)))),
        Op::StartsWith => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(text(a).starts_with(text(b)))),
        Op::EndsWith => binary(args, DataType::Bool, false, |a, b, _| Value::Bool(text(a).ends_with(text(b)))),
        Op::Replace => variadic(args, DataType::Str, false, |values, _| match values {
            [subject, from, to] => Value::str(text(subject).replace(text(from), text(to))),
            _ => Value::Null,
        }),
        _ => variadic(args, DataType::Str, false, |values, _| {
            Value::str(values.iter().map(text).collect::<Vec<_>>().concat())
        }),
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Characters of a str, bytes of a bytes, items of a list, entries of a dict.
fn length(args: Vec<Typed>) -> Result<Typed> {
    arity(Op::Length, &args, 1..=1)?;
    let measurable = matches!(
        args[0].data_type,
        None | Some(DataType::Str | DataType::Bytes | DataType::List(_) | DataType::Map(_))
    );
    if !measurable {
        return Err(wrong_types(Op::Length, "str, bytes, list or dict", &args));
    }
    Ok(unary(args, DataType::Int, false, |value, _| {
        let count = match value {
            Value::Str(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(items) => items.len(),
            Value::Map(entries) => entries.len(),
            _ => return Value::Null,
        };
        Value::Int(count as i64)
    }))
}

/// `slice(text, start)` and `slice(text, start, length)`: a negative start counts from the end; what is outside is empty.
fn slice(args: Vec<Typed>) -> Result<Typed> {
    arity(Op::Slice, &args, 2..=3)?;
    let typed = args[0].fits(&DataType::Str) && args[1..].iter().all(|arg| arg.fits(&DataType::Int));
    if !typed {
        return Err(wrong_types(Op::Slice, "a str, an int start and an int length", &args));
    }
    Ok(variadic(args, DataType::Str, false, |values, _| match values {
        [subject, start] => Value::str(take(text(subject), start.as_int().unwrap_or(0), i64::MAX)),
        [subject, start, length] => {
            Value::str(take(text(subject), start.as_int().unwrap_or(0), length.as_int().unwrap_or(0)))
        }
        _ => Value::Null,
    }))
}

fn take(text: &str, start: i64, length: i64) -> String {
    let first = if start < 0 { (text.chars().count() as i64).saturating_add(start) } else { start };
    // A start before the first character uses up the length there.
    let before = first.min(0);
    let wanted = length.saturating_add(before).max(0);
    text.chars().skip(first.max(0) as usize).take(wanted as usize).collect()
}
