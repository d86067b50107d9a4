//! Wire <-> domain: values, rows, columns, times. Nothing here knows a schema; reading a value *as* a declared type is the
//! caller's matter.

use crate::v1;
use crate::v1::value::Kind;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::time::Micros;
use thyme_core::{Decimal, Error, Result, Value};

/// A domain value as it travels.
pub fn value_to_wire(value: &Value) -> v1::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Int(number) => Kind::Int64Value(*number),
        Value::Float(number) => Kind::DoubleValue(*number),
        Value::Str(text) => Kind::StringValue(text.to_string()),
        Value::Bytes(bytes) => Kind::BytesValue(bytes.to_vec().into()),
        Value::Time(micros) => Kind::DatetimeMicros(*micros),
        Value::Decimal(number) => Kind::DecimalValue(number.to_string()),
        Value::List(items) => Kind::ListValue(v1::ListValue { values: items.iter().map(value_to_wire).collect() }),
        Value::Map(entries) => Kind::MapValue(v1::MapValue {
            entries: entries.iter().map(|(name, item)| (name.to_string(), value_to_wire(item))).collect(),
        }),
    };
    v1::Value { kind: Some(kind) }
}

/// Reads a value; NaN, the infinities and a value without a kind are refused.
pub fn value_from_wire(value: v1::Value) -> Result<Value> {
    let Some(kind) = value.kind else {
        return Err(Error::invalid("a value without a kind").hint("send null_value for null"));
    };
    Ok(match kind {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(flag) => Value::Bool(flag),
        Kind::Int64Value(number) => Value::Int(number),
        Kind::DoubleValue(number) => finite(number)?,
        Kind::StringValue(text) => Value::str(text),
        Kind::BytesValue(bytes) => Value::Bytes(bytes.as_ref().into()),
        Kind::DatetimeMicros(micros) => Value::Time(micros),
        Kind::DecimalValue(text) => Value::Decimal(Decimal::parse(&text)?),
        Kind::ListValue(list) => {
            let items: Result<Vec<Value>> = list.values.into_iter().map(value_from_wire).collect();
            Value::List(items?.into())
        }
        Kind::MapValue(map) => {
            let mut entries = BTreeMap::new();
            for (name, item) in map.entries {
                entries.insert(Arc::from(name.as_str()), value_from_wire(item)?);
            }
            Value::Map(Arc::new(entries))
        }
    })
}

fn finite(number: f64) -> Result<Value> {
    Value::float(number).ok_or_else(|| Error::invalid(format!("{number} is not a value")).hint("send null instead"))
}

/// A row, key or set of inputs, by field name.
pub fn row_to_wire<'a>(row: impl IntoIterator<Item = (&'a str, &'a Value)>) -> BTreeMap<String, v1::Value> {
    row.into_iter().map(|(name, value)| (name.to_string(), value_to_wire(value))).collect()
}

/// Reads a row, key or set of inputs; an error names the field.
pub fn row_from_wire(row: BTreeMap<String, v1::Value>) -> Result<BTreeMap<String, Value>> {
    let mut read = BTreeMap::new();
    for (name, value) in row {
        let value = value_from_wire(value).map_err(|error| error.context(format_args!("'{name}'")).field(&*name))?;
        read.insert(name, value);
    }
    Ok(read)
}

/// A time as it travels; `None` outside the years a protobuf timestamp holds is not possible for times that were parsed.
pub fn time_to_wire(micros: Micros) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: (micros.rem_euclid(1_000_000) * 1000) as i32,
    }
}

/// Reads a time; finer than a microsecond is floored.
pub fn time_from_wire(time: &prost_types::Timestamp) -> Result<Micros> {
    let wrong = || Error::invalid(format!("not a time: seconds={} nanos={}", time.seconds, time.nanos));
    if !(0..1_000_000_000).contains(&time.nanos) {
        return Err(wrong().hint("nanos are between 0 and 999999999"));
    }
    let micros = time.seconds.checked_mul(1_000_000).and_then(|base| base.checked_add(i64::from(time.nanos / 1000)));
    micros.ok_or_else(wrong)
}
