//! What programs do with texts. Case and white space are Unicode's in Python: only those of ASCII are certain here.

use super::{Sure, Unsure};
use std::sync::Arc;
use thyme_core::value::Value;

fn text(value: &Value) -> Sure<&str> {
    value.as_str().ok_or(Unsure)
}

fn ascii(value: &Value) -> Sure<&str> {
    text(value).and_then(|text| if text.is_ascii() { Ok(text) } else { Err(Unsure) })
}

pub(crate) fn joined(left: &str, right: &str) -> Value {
    Value::Str(Arc::from([left, right].concat()))
}

/// Code points.
pub(crate) fn length(value: &Value) -> Sure<Value> {
    i64::try_from(text(value)?.chars().count()).map(Value::Int).map_err(|_| Unsure)
}

pub(crate) fn lower(value: &Value) -> Sure<Value> {
    Ok(Value::str(ascii(value)?.to_ascii_lowercase()))
}

pub(crate) fn upper(value: &Value) -> Sure<Value> {
    Ok(Value::str(ascii(value)?.to_ascii_uppercase()))
}

pub(crate) fn strip(value: &Value) -> Sure<Value> {
    // The separators 0x1c to 0x1f are white space in Python.
    let is_space = |letter: char| matches!(letter, ' ' | '\t'..='\r' | '\x1c'..='\x1f');
    Ok(Value::str(ascii(value)?.trim_matches(is_space)))
}

pub(crate) fn starts_with(value: &Value, start: &Value) -> Sure<Value> {
    Ok(Value::Bool(text(value)?.starts_with(text(start)?)))
}

pub(crate) fn ends_with(value: &Value, end: &Value) -> Sure<Value> {
    Ok(Value::Bool(text(value)?.ends_with(text(end)?)))
}

pub(crate) fn holds(value: &Value, part: &Value) -> Sure<bool> {
    Ok(text(value)?.contains(text(part)?))
}
