//! A value as a binary format says it, and as the dataset's fields want it.

use crate::coerce;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::schema::{DataType, Field};
use thyme_core::time::{TIMES, format_time, parse_time};
use thyme_core::{Decimal, Error, Result, Value, suggest};

#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number beyond 64 bits with a sign.
    Large(u64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Microseconds.
    Time(i64),
    /// Its digits, as they are written.
    Decimal(String),
    List(Vec<Datum>),
    Object(Vec<(String, Datum)>),
    /// Read, but no value of ours, and why. It matters only where a field wants it.
    Wrong(String),
}

impl Datum {
    pub fn unsigned(number: u64) -> Datum {
        i64::try_from(number).map_or(Datum::Large(number), Datum::Int)
    }

    /// A moment in units of which there are `per_second`; what is finer than a microsecond is floored.
    pub fn time(units: i64, per_second: i64) -> Datum {
        let micros = match per_second {
            1_000_000_000 => Some(units.div_euclid(1000)),
            _ => units.checked_mul(1_000_000 / per_second),
        };
        match micros.filter(|micros| TIMES.contains(micros)) {
            Some(micros) => Datum::Time(micros),
            None => Datum::Wrong(format!("a time is out of range: {units}")),
        }
    }

    /// The members of an object in field order. Members that are no fields are ignored.
    pub fn values(&self, fields: &[Field]) -> Result<Vec<Value>> {
        let Datum::Object(members) = self else {
            return Err(Error::invalid("the value is not a record")
                .hint("fields are found by the names of its members, so the schema is a record or message"));
        };
        let mut values = Vec::with_capacity(fields.len());
        for field in fields {
            let value = match members.iter().find(|(name, _)| *name == field.name) {
                Some((_, datum)) => datum.value(&field.data_type).map_err(|error| coerce::of_field(field, error))?,
                None if field.nullable => Value::Null,
                None => {
                    let hint = suggest::hint(&field.name, members.iter().map(|(name, _)| name.as_str()));
                    return Err(Error::invalid(format!("no field '{}'", field.name)).field(&field.name).hint(hint));
                }
            };
            values.push(coerce::checked(value, field)?);
        }
        Ok(values)
    }

    /// What can be read, null where nothing can.
    pub fn readable(&self, fields: &[Field]) -> Vec<Value> {
        let Datum::Object(members) = self else { return Vec::new() };
        let read = |field: &Field| {
            let datum = members.iter().find(|(name, _)| *name == field.name);
            datum.and_then(|(_, datum)| datum.value(&field.data_type).ok()).unwrap_or(Value::Null)
        };
        fields.iter().map(read).collect()
    }

    fn value(&self, data_type: &DataType) -> Result<Value> {
        let wrong = || Error::invalid(format!("expected {data_type}, got {}", self.described()));
        Ok(match (data_type, self) {
            (_, Datum::Null) => Value::Null,
            (_, Datum::Wrong(reason)) => return Err(Error::invalid(reason.as_str())),
            (DataType::Bool, Datum::Bool(flag)) => Value::Bool(*flag),
            (DataType::Int, Datum::Int(number)) => Value::Int(*number),
            (DataType::Int, Datum::Decimal(digits)) => {
                let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
                let is_whole = fraction.bytes().all(|digit| digit == b'0');
                Value::Int(whole.parse().ok().filter(|_| is_whole).ok_or_else(wrong)?)
            }
            (DataType::Float, Datum::Int(number)) => Value::float(*number as f64).ok_or_else(wrong)?,
            (DataType::Float, Datum::Large(number)) => Value::float(*number as f64).ok_or_else(wrong)?,
            (DataType::Float, Datum::Float(number)) => Value::float(*number).ok_or_else(wrong)?,
            (DataType::Float, Datum::Decimal(digits)) => {
                digits.parse::<f64>().ok().and_then(Value::float).ok_or_else(wrong)?
            }
            (DataType::Decimal, Datum::Decimal(text) | Datum::Text(text)) => Value::Decimal(Decimal::parse(text)?),
            (DataType::Decimal, Datum::Int(number)) => Value::Decimal(Decimal::from_int(*number)),
            (DataType::Decimal, Datum::Large(number)) => Value::Decimal(Decimal::parse(&number.to_string())?),
            (DataType::Str, Datum::Text(text) | Datum::Decimal(text)) => Value::str(text.as_str()),
            (DataType::Bytes, Datum::Bytes(bytes)) => Value::Bytes(bytes.as_slice().into()),
            (DataType::Time, Datum::Time(time)) => Value::Time(*time),
            (DataType::Time, Datum::Text(text)) => Value::Time(parse_time(text)?),
            // Of which unit it would be is a guess.
            (DataType::Time, Datum::Int(_)) => {
                let hint = "a number says no unit: give it a type of time in the schema, or declare the field int";
                return Err(wrong().hint(hint));
            }
            (DataType::List(item), Datum::List(items)) => {
                let read: Result<Vec<Value>> = items.iter().map(|entry| entry.value(item)).collect();
                Value::List(read?.into())
            }
            (DataType::Map(item), Datum::Object(members)) => {
                let mut read = BTreeMap::new();
                for (name, entry) in members {
                    let value = entry.value(item).map_err(|error| error.context(format_args!("'{name}'")))?;
                    read.insert(Arc::from(name.as_str()), value);
                }
                Value::Map(Arc::new(read))
            }
            _ => return Err(wrong()),
        })
    }

    fn described(&self) -> String {
        match self {
            Datum::List(_) => "a list".to_string(),
            Datum::Object(_) => "a record".to_string(),
            Datum::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Datum::Time(_) => "a time".to_string(),
            Datum::Decimal(digits) => digits.clone(),
            Datum::Float(number) => number.to_string(),
            other => coerce::sample(other.shown().to_string().as_bytes()),
        }
    }

    /// For people.
    pub fn shown(&self) -> Json {
        match self {
            Datum::Null => Json::Null,
            Datum::Bool(flag) => Json::from(*flag),
            Datum::Int(number) => Json::from(*number),
            Datum::Large(number) => Json::from(*number),
            Datum::Float(number) if number.is_finite() => Json::from(*number),
            Datum::Float(number) => Json::from(number.to_string()),
            Datum::Text(text) => Json::from(text.as_str()),
            Datum::Bytes(bytes) => Json::from(hex(bytes)),
            Datum::Time(time) => Json::from(format_time(*time)),
            Datum::Decimal(digits) => Json::from(digits.as_str()),
            Datum::List(items) => items.iter().map(Datum::shown).collect(),
            Datum::Object(members) => {
                let shown = members.iter().map(|(name, datum)| (name.clone(), datum.shown()));
                Json::Object(shown.collect::<Map<String, Json>>())
            }
            Datum::Wrong(reason) => Json::from(reason.as_str()),
        }
    }
}

/// `0x` and the first bytes.
pub fn hex(bytes: &[u8]) -> String {
    const LONGEST: usize = 64;
    let digits = bytes.iter().take(LONGEST).map(|byte| format!("{byte:02x}"));
    let more = if bytes.len() > LONGEST { "…" } else { "" };
    format!("0x{}{more}", digits.collect::<String>())
}
