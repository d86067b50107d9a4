//! Avro, Protobuf and the registry, on bytes written by hand; `confluent` has some that Confluent's own serializers wrote.

mod avro;
mod avro_random;
mod confluent;
mod evolution;
mod protobuf;
mod protobuf_schemas;
mod registry;
mod server;
mod values;

use super::decode::Decoder;
use super::settings::Settings;
use serde_json::{Value as Json, json};
use thyme_core::definition::SourceDef;
use thyme_core::schema::{DataType, Field};
use thyme_core::{Error, Value};

fn settings_of(settings: &Json) -> Result<Settings, Error> {
    let definition: SourceDef =
        serde_json::from_value(json!({"kind": "kafka", "settings": settings, "cdc": "append"})).unwrap();
    Settings::of(&definition)
}

/// As Confluent's serializers put it before a value.
fn framed(id: u32, value: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), value].concat()
}

/// The row, or why there is none.
fn read(decoder: &mut Decoder, value: &[u8]) -> Result<Vec<Value>, String> {
    decoder.read(Some(value)).unwrap().map_err(|unfit| unfit.reason.to_string())
}

fn field(name: &str, data_type: &str, nullable: bool) -> Field {
    Field {
        name: name.to_string(),
        data_type: DataType::parse(data_type).unwrap(),
        nullable,
        key: false,
        timestamp: false,
        description: String::new(),
    }
}

/// As Avro writes a number, and Confluent an index.
fn zigzag(number: i64) -> Vec<u8> {
    varint(((number << 1) ^ (number >> 63)).cast_unsigned())
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
