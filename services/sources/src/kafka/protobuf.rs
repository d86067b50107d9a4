//! Values in Protobuf's binary encoding, by the `.proto` text they were written with. Which of its messages is told before the value,
//! as Confluent's serializers do it: a number of indexes and the indexes, the first among the file's messages, each other within.

use super::datum::Datum;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use protox::prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use thyme_core::{Error, Result};

/// The name of the schema itself; its references have names of their own.
const MAIN: &str = "thyme.registered.proto";
/// Messages within messages, as far as a schema may nest them.
const DEEPEST: usize = 32;

/// What Confluent's clients know without a reference.
const DECIMAL: (&str, &str) = (
    "confluent/type/decimal.proto",
    "syntax = \"proto3\"; package confluent.type; message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }",
);
const META: (&str, &str) = (
    "confluent/meta.proto",
    "syntax = \"proto3\"; package confluent; import \"google/protobuf/descriptor.proto\"; \
     message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; } \
     extend google.protobuf.FileOptions { Meta file_meta = 1088; } \
     extend google.protobuf.MessageOptions { Meta message_meta = 1088; } \
     extend google.protobuf.FieldOptions { Meta field_meta = 1088; } \
     extend google.protobuf.EnumOptions { Meta enum_meta = 1088; } \
     extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }",
);

#[derive(Debug)]
pub struct Messages {
    pool: DescriptorPool,
}

/// Files by name, as texts.
struct Texts(Vec<(String, String)>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((_, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

impl Messages {
    pub fn compile(text: &str, references: &[(String, String)]) -> Result<Messages> {
        let mut texts = vec![(MAIN.to_string(), text.to_string())];
        texts.extend(references.iter().cloned());
        texts.extend([DECIMAL, META].map(|(name, text)| (name.to_string(), text.to_string())));
        let mut files = ChainFileResolver::new();
        files.add(Texts(texts));
        files.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(files);
        compiler.include_imports(true);
        compiler.open_file(MAIN).map_err(|error| Error::invalid(format!("the schema is not valid: {error}")))?;
        Ok(Messages { pool: compiler.descriptor_pool() })
    }

    /// `bytes` begin with the indexes.
    pub fn read(&self, mut bytes: &[u8]) -> Result<Datum> {
        let message = self.message(&mut bytes)?;
        let name = message.full_name().to_string();
        let read = DynamicMessage::decode(message, bytes);
        let read = read.map_err(|error| Error::invalid(format!("not a message {name}: {error}")))?;
        of_message(&read, 0)
    }

    fn message(&self, bytes: &mut &[u8]) -> Result<MessageDescriptor> {
        let count = number(bytes)?;
        // The first message of the file is so frequent that it is written as no index at all.
        let mut indexes = vec![0];
        if count != 0 {
            if !(1..=DEEPEST as i64).contains(&count) {
                return Err(Error::invalid(format!("a message has {count} indexes")));
            }
            indexes = (0..count).map(|_| number(bytes)).collect::<Result<Vec<i64>>>()?;
        }
        let file = self.pool.get_file_by_name(MAIN).ok_or_else(|| Error::internal("the schema's file is missing"))?;
        let mut found: Option<MessageDescriptor> = None;
        for index in &indexes {
            let at = usize::try_from(*index).unwrap_or(usize::MAX);
            let next = match &found {
                None => file.messages().nth(at),
                Some(outer) => outer.child_messages().nth(at),
            };
            found =
                Some(next.ok_or_else(|| Error::invalid(format!("the schema has no message of index {indexes:?}")))?);
        }
        found.ok_or_else(|| Error::internal("no message"))
    }
}

/// A varint whose lowest bit is the sign.
fn number(bytes: &mut &[u8]) -> Result<i64> {
    let mut number: u64 = 0;
    for shift in (0..64).step_by(7) {
        let Some((byte, rest)) = bytes.split_first() else { break };
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
    Err(Error::invalid("the indexes of the message do not end"))
}

fn of_message(message: &DynamicMessage, depth: usize) -> Result<Datum> {
    if depth > DEEPEST {
        return Err(Error::invalid(format!("the value is nested deeper than {DEEPEST} levels")));
    }
    let descriptor = message.descriptor();
    let member = |number: u32| descriptor.get_field(number).map(|field| message.get_field(&field).into_owned());
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => {
            let seconds = member(1).and_then(|value| value.as_i64()).unwrap_or_default();
            let nanos = member(2).and_then(|value| value.as_i32()).unwrap_or_default();
            let micros =
                seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(i64::from(nanos.div_euclid(1000))));
            return Datum::time(
                micros.ok_or_else(|| Error::invalid(format!("a time is out of range: {seconds} s")))?,
                1_000_000,
            );
        }
        "confluent.type.Decimal" => {
            let digits = member(1).and_then(|value| value.as_bytes().cloned()).unwrap_or_default();
            let scale = member(3).and_then(|value| value.as_i32()).unwrap_or_default();
            let scale = usize::try_from(scale).map_err(|_| Error::invalid(format!("a decimal has scale {scale}")))?;
            return Datum::decimal(&digits, scale);
        }
        name if is_wrapper(name) => {
            let Some(field) = descriptor.get_field(1) else { return Ok(Datum::Null) };
            return of_value(&message.get_field(&field), &field.kind(), depth);
        }
        _ => {}
    }
    let mut members = Vec::new();
    for field in descriptor.fields() {
        let datum =
            of_field(message, &field, depth).map_err(|error| error.context(format_args!("'{}'", field.name())))?;
        members.push((field.name().to_string(), datum));
    }
    Ok(Datum::Object(members))
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
        Value::I32(number) => Datum::Int(i64::from(*number)),
        Value::I64(number) => Datum::Int(*number),
        Value::U32(number) => Datum::Int(i64::from(*number)),
        Value::U64(number) => Datum::unsigned(*number),
        Value::F32(number) => Datum::Float(f64::from(*number)),
        Value::F64(number) => Datum::Float(*number),
        Value::String(text) => Datum::Text(text.clone()),
        Value::Bytes(bytes) => Datum::Bytes(bytes.to_vec()),
        Value::EnumNumber(number) => {
            let known = kind.as_enum().and_then(|of| of.get_value(*number));
            // A number that this schema does not know was written by a newer one.
            known.map_or(Datum::Int(i64::from(*number)), |known| Datum::Text(known.name().to_string()))
        }
        Value::Message(message) => of_message(message, depth + 1)?,
        Value::List(items) => {
            let items: Result<Vec<Datum>> = items.iter().map(|item| of_value(item, kind, depth)).collect();
            Datum::List(items?)
        }
        Value::Map(entries) => {
            let of = kind.as_message().and_then(|entry| entry.get_field(2)).map(|value| value.kind());
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
