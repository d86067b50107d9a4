//! Bytes that Confluent's own serializers wrote (confluent-kafka 2.16 for Python), with what they were told to write.

use super::server::Registry;
use super::{field, read};
use serde_json::{Value as Json, json};
use thyme_core::schema::Field;

fn fields() -> Vec<Field> {
    vec![
        field("id", "int", false),
        field("ts", "datetime", false),
        field("fare", "float", true),
        field("exact", "str", true),
        field("note", "str", true),
        field("day", "datetime", true),
        field("raw", "bytes", true),
        field("stops", "list[str]", true),
        field("counts", "dict[str, int]", true),
        field("cash", "bool", true),
    ]
}

/// The row of a value that is written in digits of base 16.
fn row(registry: &Registry, format: &str, digits: &str) -> Json {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    let value: Vec<u8> = (0..digits.len()).step_by(2).map(digit).collect();
    let values = read(&mut registry.decoder(format, &fields()), &value).unwrap();
    fields().iter().zip(values).map(|(field, value)| (field.name.clone(), value.to_json())).collect()
}

#[test]
fn avro() {
    let registry = Registry::start();
    let ride = json!({"type": "record", "name": "Ride", "namespace": "shop", "fields": [
        {"name": "id", "type": "long"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "fare", "type": ["null", "float"], "default": null},
        {"name": "exact", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 3}},
        {"name": "note", "type": [{"type": "enum", "name": "Note", "symbols": ["SHORT", "LONG"]}, "string", "null"]},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "raw", "type": {"type": "fixed", "name": "Raw", "size": 3}},
        {"name": "stops", "type": {"type": "array", "items": "string"}},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
        {"name": "cash", "type": "boolean"},
    ]});
    registry.avro(1, &ride);
    let mut expected = json!({
        "id": 1, "ts": "2026-01-15T12:00:00.123Z", "fare": 0.5, "exact": "-12345678901234567.125", "note": "LONG",
        "day": "2026-01-15T00:00:00Z", "raw": "AP8H", "stops": ["a", "ü"], "counts": {"x": -1, "y": i32::MAX}, "cash": true,
    });
    let full = "000000000102f6f9b698f866020000003f12ff54ab567314e0f82b0002e8bf0200ff0704026104c3bc00040278010279feffffff0f0001";
    assert_eq!(row(&registry, "avro", full), expected);
    let nulls = "000000000104f6f9b698f8660012ff54ab567314e0f82b04e8bf0200ff0704026104c3bc00040278010279feffffff0f0001";
    (expected["id"], expected["fare"], expected["note"]) = (json!(2), Json::Null, Json::Null);
    assert_eq!(row(&registry, "avro", nulls), expected);
    // A later version: micros, members that are gone, one that no field takes, a type of another schema.
    let driver = json!({"type": "record", "name": "Driver", "fields": [{"name": "boss", "type": ["null", "Driver"]}]});
    let later = json!({"type": "record", "name": "Ride", "namespace": "shop", "fields": [
        {"name": "driver", "type": ["null", driver]},
        {"name": "id", "type": "int"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "fare", "type": ["null", "com.money.Money"]},
    ]});
    let money = json!({
        "type": "fixed", "name": "Money", "namespace": "com.money", "size": 5,
        "logicalType": "decimal", "precision": 10, "scale": 2,
    });
    let references = json!([{"name": "com.money.Money", "subject": "money", "version": 1}]);
    registry.json("/schemas/ids/3", 200, &json!({"schema": later.to_string(), "references": references}));
    registry.json("/subjects/money/versions/1", 200, &json!({"schema": money.to_string()}));
    let read = row(&registry, "avro", "000000000302020006fec1a8edfe9aa40602fffffffd2b");
    assert_eq!(
        (&read["id"], &read["ts"], &read["fare"]),
        (&json!(3), &json!("2026-01-15T12:00:00.123007Z"), &json!(-7.25))
    );
    assert_eq!((&read["exact"], &read["stops"]), (&Json::Null, &Json::Null));
}

#[test]
fn protobuf() {
    let registry = Registry::start();
    registry.protobuf(
        4,
        r#"syntax = "proto3"; package shop; import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
        message Unused {}
        message Outer {
            enum Note { NONE = 0; SHORT = 1; LONG = 2; }
            message Ride {
                sint64 id = 1; google.protobuf.Timestamp ts = 2; google.protobuf.FloatValue fare = 3; optional string exact = 4;
                Note note = 5; google.protobuf.Timestamp day = 6; bytes raw = 7; repeated string stops = 8;
                map<string, uint64> counts = 9; bool cash = 10;
            }
        }"#,
    );
    let full = "00000000040402000802120b08c0ada3cb0610c0a9d33a1a050d0000003f2204312e3130280232060880dca0cb063a0200ff4201614202c3bc\
                4a050a017810014a0a0a0179108080808080205001";
    let expected = json!({
        "id": 1, "ts": "2026-01-15T12:00:00.123Z", "fare": 0.5, "exact": "1.10", "note": "LONG",
        "day": "2026-01-15T00:00:00Z", "raw": "AP8=", "stops": ["a", "ü"], "counts": {"x": 1, "y": 1_u64 << 40}, "cash": true,
    });
    assert_eq!(row(&registry, "protobuf", full), expected);
}

#[test]
fn json_schema() {
    let id_and_ts = [field("id", "int", false), field("ts", "str", false)];
    let settings = super::settings_of(&json!({"topic": "t"})).unwrap();
    let mut decoder = crate::kafka::decode::Decoder::new(&settings, &id_and_ts);
    let values = read(&mut decoder, b"\0\0\0\0\x05{\"id\":1,\"ts\":\"x\"}").unwrap();
    assert_eq!(values.iter().map(thyme_core::Value::to_json).collect::<Json>(), json!([1, "x"]));
}
