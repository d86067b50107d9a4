//! A message as a value of ours.

use crate::kafka::datum::Datum;
use crate::kafka::decimal::decimal;
use protox::prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};
use thyme_core::{Error, Result};

/// Messages within messages.
const DEEPEST: usize = 64;

pub fn of_message(message: &DynamicMessage, depth: usize) -> Result<Datum> {
    if depth > DEEPEST {
        return Err(Error::invalid(format!("the value is nested deeper than {DEEPEST} levels")));
    }
    let descriptor = message.descriptor();
    if let Some(datum) = of_known(message, &descriptor, depth) {
        return datum;
    }
    let mut members = Vec::new();
    for field in descriptor.fields() {
        let datum =
            of_field(message, &field, depth).map_err(|error| error.context(format_args!("'{}'", field.name())))?;
        members.push((field.name().to_string(), datum));
    }
    Ok(Datum::Object(members))
}

/// Messages that stand for one value.
fn of_known(message: &DynamicMessage, descriptor: &MessageDescriptor, depth: usize) -> Option<Result<Datum>> {
    let member = |number: u32| descriptor.get_field(number).map(|field| message.get_field(&field).into_owned());
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => {
            let seconds = member(1).and_then(|value| value.as_i64())?;
            let nanos = member(2).and_then(|value| value.as_i32())?;
            let micros = seconds.checked_mul(1_000_000);
            let micros = micros.and_then(|micros| micros.checked_add(nanos.div_euclid(1000).into()));
            let out_of_range = || Datum::Wrong(format!("a time is out of range: {seconds} s"));
            Some(Ok(micros.map_or_else(out_of_range, |micros| Datum::time(micros, 1_000_000))))
        }
        "confluent.type.Decimal" => {
            let number = member(1).and_then(|value| value.as_bytes().cloned())?;
            let scale = member(3).and_then(|value| value.as_i32())?;
            Some(Ok(decimal(&number, scale.into())))
        }
        name if is_wrapper(name) => {
            let field = descriptor.get_field(1)?;
            Some(of_value(&message.get_field(&field), &field.kind(), depth))
        }
        _ => None,
    }
}

/// A message around one value, which may so be missing.
fn is_wrapper(name: &str) -> bool {
    let kind = name.strip_prefix("google.protobuf.").and_then(|name| name.strip_suffix("Value"));
    matches!(kind, Some("Double" | "Float" | "Int64" | "UInt64" | "Int32" | "UInt32" | "Bool" | "String" | "Bytes"))
}

/// A field that says whether it is set is null if it is not; any other has its type's default then.
fn of_field(message: &DynamicMessage, field: &FieldDescriptor, depth: usize) -> Result<Datum> {
    if field.supports_presence() && !message.has_field(field) {
        return Ok(Datum::Null);
    }
    of_value(&message.get_field(field), &field.kind(), depth)
}

fn of_value(value: &Value, kind: &Kind, depth: usize) -> Result<Datum> {
    Ok(match value {
        Value::Bool(flag) => Datum::Bool(*flag),
        Value::I32(number) => Datum::Int((*number).into()),
        Value::I64(number) => Datum::Int(*number),
        Value::U32(number) => Datum::Int((*number).into()),
        Value::U64(number) => Datum::unsigned(*number),
        Value::F32(number) => Datum::Float((*number).into()),
        Value::F64(number) => Datum::Float(*number),
        Value::String(text) => Datum::Text(text.clone()),
        Value::Bytes(bytes) => Datum::Bytes(bytes.to_vec()),
        Value::EnumNumber(number) => match kind.as_enum().and_then(|of| of.get_value(*number)) {
            Some(known) => Datum::Text(known.name().to_string()),
            // Written by a newer schema.
            None => Datum::Wrong(format!("the enumeration has no name for {number}")),
        },
        Value::Message(message) => of_message(message, depth + 1)?,
        Value::List(items) => {
            let items: Result<Vec<Datum>> = items.iter().map(|item| of_value(item, kind, depth)).collect();
            Datum::List(items?)
        }
        Value::Map(entries) => {
            let of = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            let mut members = Vec::with_capacity(entries.len());
            for (key, entry) in entries {
                members.push((key_text(key), of_value(entry, of.as_ref().unwrap_or(kind), depth)?));
            }
            // As they come they have no order.
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Datum::Object(members)
        }
    })
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(flag) => flag.to_string(),
        MapKey::I32(number) => number.to_string(),
        MapKey::I64(number) => number.to_string(),
        MapKey::U32(number) => number.to_string(),
        MapKey::U64(number) => number.to_string(),
        MapKey::String(text) => text.clone(),
    }
}
