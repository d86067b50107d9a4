//! One dataset, schemas that change: a value is read by the schema it was written with, whatever the schema is by now.

use super::server::Registry;
use super::{field, framed, read, zigzag};
use crate::conformance::fields;
use serde_json::{Value as Json, json};
use thyme_core::Value;

fn record(fields: Json) -> Json {
    json!({"type": "record", "name": "Event", "namespace": "shop", "fields": fields})
}

fn ts() -> Json {
    json!({"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}})
}

#[test]
fn old_and_new_schemas_stand_side_by_side_in_a_topic() {
    let old = record(json!([
        {"name": "id", "type": "long"},
        ts(),
        {"name": "amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}], "default": null},
    ]));
    let new = record(json!([
        {"name": "more", "type": {"type": "map", "values": ["int", "string"]}},
        {"name": "id", "type": "int"},
        {"name": "ts", "type": {"type": "int", "logicalType": "date"}},
        {"name": "note", "type": {"type": "enum", "name": "Note", "symbols": ["a", "b"]}},
    ]));
    let registry = Registry::start();
    registry.avro(7, &old);
    registry.json("/schemas/ids/8", 200, &json!({"schema": new.to_string(), "schemaType": "AVRO", "references": []}));
    let mut decoder = registry.decoder("avro", &fields());
    // id 5, ts 1000 ms, amount -1.50 (0xff6a).
    let old = framed(7, &[10, 0xd0, 0x0f, 2, 4, 0xff, 0x6a]);
    let old_row =
        vec![Value::Int(5), Value::Time(1_000_000), Value::Float(-1.5), Value::Null, Value::Null, Value::Null];
    // more {"k": "v"} in a block with its size, id 6, one day, "b".
    let new = framed(8, &[1, 10, 2, b'k', 2, 2, b'v', 0, 12, 2, 2]);
    let new_row =
        vec![Value::Int(6), Value::Time(86_400_000_000), Value::Null, Value::str("b"), Value::Null, Value::Null];
    for (bytes, row) in [(&old, &old_row), (&new, &new_row), (&old, &old_row), (&new, &new_row)] {
        assert_eq!(read(&mut decoder, bytes).as_ref(), Ok(row));
    }
    assert_eq!(registry.asked().len(), 2);
}

/// A row of `id`, `ts` and `amount`, with `amount` as the schema and bytes say.
fn amount(schema: Json, bytes: &[u8], data_type: &str, nullable: bool) -> Result<Value, String> {
    let registry = Registry::start();
    registry.avro(1, &record(json!([{"name": "amount", "type": schema}, {"name": "id", "type": "long"}, ts()])));
    let fields = [field("id", "int", false), field("ts", "datetime", false), field("amount", data_type, nullable)];
    let value = [bytes, &[2, 4]].concat();
    let row = read(&mut registry.decoder("avro", &fields), &framed(1, &value))?;
    assert_eq!(row[..2], [Value::Int(1), Value::Time(2000)]);
    Ok(row[2].clone())
}

#[test]
fn a_type_may_be_widened_where_the_field_takes_both() {
    let half = 0.5_f64.to_le_bytes();
    let float = 0.5_f32.to_le_bytes();
    for (schema, bytes, data_type, value) in [
        (json!("int"), &zigzag(7)[..], "int", Value::Int(7)),
        (json!("long"), &zigzag(i64::MIN), "int", Value::Int(i64::MIN)),
        (json!("int"), &zigzag(7), "float", Value::Float(7.0)),
        (json!("long"), &zigzag(7), "float", Value::Float(7.0)),
        (json!("float"), &float, "float", Value::Float(0.5)),
        (json!("double"), &half, "float", Value::Float(0.5)),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 1}),
            &[2, 5],
            "float",
            Value::Float(0.5),
        ),
        // A union on the writer's side only: what is written is what counts.
        (json!(["null", "int", "double"]), &[2, 14], "float", Value::Float(7.0)),
        (json!(["string", "int"]), &[2, 14], "int", Value::Int(7)),
        (json!(["null", "int"]), &[2, 14], "int", Value::Int(7)),
        // An enumeration became a text, and a text an enumeration.
        (json!("string"), &[2, b'A'], "str", Value::str("A")),
        (json!({"type": "enum", "name": "E", "symbols": ["A"]}), &[0], "str", Value::str("A")),
        // Another number at the same place, by name.
        (json!({"type": "enum", "name": "E", "symbols": ["Z", "A"]}), &[2], "str", Value::str("A")),
        (json!({"type": "string", "logicalType": "uuid"}), &[2, b'u'], "str", Value::str("u")),
    ] {
        assert_eq!(amount(schema.clone(), bytes, data_type, false), Ok(value), "{schema}");
    }
    assert_eq!(amount(json!(["null", "int"]), &[0], "int", true), Ok(Value::Null));
    let record = json!({"type": "record", "name": "Inner", "fields": [{"name": "a", "type": "int"}]});
    let inner = amount(record, &[14], "dict[str, int]", false).unwrap();
    assert_eq!(inner.to_json(), json!({"a": 7}));
}

#[test]
fn a_change_that_the_field_does_not_take_is_told_record_by_record() {
    for (schema, bytes, data_type, nullable, part) in [
        (json!(["null", "int"]), &[0][..], "int", false, "field 'amount' is null (hint: declare it Optional[int]"),
        (json!("null"), &[], "int", false, "field 'amount' is null"),
        (json!("string"), &[2, b'7'], "int", true, "field 'amount': expected int, got \"7\""),
        (json!("double"), &[0; 8], "int", true, "expected int, got 0"),
        (json!("bytes"), &[2, b'7'], "str", true, "expected str, got 1 bytes"),
        (json!("string"), &[2, b'7'], "bytes", true, "expected bytes, got \"7\""),
        (json!(["string", "int"]), &[0, 2, b'7'], "int", true, "expected int, got \"7\""),
        (
            json!({"type": "array", "items": ["int", "string"]}),
            &[2, 2, 0, 0],
            "list[int]",
            true,
            "expected int, got \"\"",
        ),
    ] {
        let error = amount(schema.clone(), bytes, data_type, nullable).unwrap_err();
        assert!(error.contains(part), "{schema}: {error}");
    }
    let long = json!({"type": "long", "logicalType": "timestamp-micros"});
    let error = amount(long, &zigzag(i64::MAX), "datetime", true).unwrap_err();
    assert!(error.contains("field 'amount': a time is out of range"), "{error}");
}

#[test]
fn members_may_come_and_go() {
    let registry = Registry::start();
    registry.avro(1, &record(json!([{"name": "id", "type": "long"}])));
    registry.avro(2, &record(json!([{"name": "ident", "type": "long"}, ts()])));
    // A time out of range that no field wants.
    registry.avro(3, &record(json!([ts(), {"name": "when", "type": {"type": "int", "logicalType": "date"}}, {"name": "id", "type": "int"}])));
    registry.avro(4, &json!("long"));
    registry.avro(5, &json!({"type": "array", "items": "long"}));
    registry.avro(6, &json!([record(json!([ts(), {"name": "id", "type": "int"}])), "null"]));
    let mut decoder = registry.decoder("avro", &fields());
    let mut told = |id, bytes: &[u8]| read(&mut decoder, &framed(id, bytes));
    assert!(told(1, &[2]).unwrap_err().contains("no field 'ts'"));
    assert!(told(2, &[2, 2]).unwrap_err().contains("no field 'id' (hint: did you mean 'ident'?)"));
    let row = told(3, &[&[2_u8][..], &zigzag(i32::MAX.into()), &[4]].concat()).unwrap();
    assert_eq!(row[..2], [Value::Int(2), Value::Time(1000)]);
    assert!(told(4, &[2]).unwrap_err().contains("schema is a record or message"));
    assert!(told(5, &[0]).unwrap_err().contains("the value is not a record"));
    // A topic of several kinds of event: those that are records with the fields.
    assert_eq!(told(6, &[0, 2, 4]).unwrap()[0], Value::Int(2));
    assert!(told(6, &[2]).unwrap_err().contains("the value is not a record"));
}

#[test]
fn messages_of_protobuf_may_change_in_the_same_ways() {
    let registry = Registry::start();
    let message = |members: &str| {
        format!(
            "syntax = \"proto3\"; import \"google/protobuf/timestamp.proto\"; message Event {{ google.protobuf.Timestamp ts = 1; int32 id = 2; {members} }}"
        )
    };
    registry.protobuf(1, &message("int32 amount = 3;"));
    // Another number, another type, and more members.
    registry.protobuf(2, &message("string note = 3; double amount = 4; repeated string more = 5;"));
    registry.protobuf(3, &message(""));
    registry.protobuf(4, &message("string amount = 3;"));
    registry.protobuf(5, &message("oneof which { int64 amount = 3; string note = 4; }"));
    registry.protobuf(6, &message("").replace("int32 id = 2;", ""));
    let mut decoder = registry.decoder("protobuf", &fields());
    // The first message of the file; 1 s; id 7.
    let common = [0, 10, 2, 8, 1, 16, 7];
    let mut told = |id, more: &[u8]| read(&mut decoder, &framed(id, &[&common[..], more].concat()));
    let row = |amount: Value, note: Value| {
        Ok(vec![Value::Int(7), Value::Time(1_000_000), amount, note, Value::Null, Value::Null])
    };
    assert_eq!(told(1, &[24, 5]), row(Value::Float(5.0), Value::Null));
    // Not written is the default of its type, not null.
    assert_eq!(told(1, &[]), row(Value::Float(0.0), Value::Null));
    let half = [&[0x21][..], &0.5_f64.to_le_bytes(), &[0x1a, 1, b'n']].concat();
    assert_eq!(told(2, &half), row(Value::Float(0.5), Value::str("n")));
    assert_eq!(told(3, &[]), row(Value::Null, Value::Null));
    // Written by a newer program under this schema's id: what it does not know is passed over.
    assert_eq!(told(3, &[24, 5]), row(Value::Null, Value::Null));
    assert!(told(4, &[0x1a, 1, b'5']).unwrap_err().contains("field 'amount': expected float, got \"5\""));
    assert_eq!(told(5, &[24, 5]), row(Value::Float(5.0), Value::Null));
    assert_eq!(told(5, &[0x22, 0]), row(Value::Null, Value::str("")));
    assert!(told(6, &[]).unwrap_err().contains("no field 'id'"));
}

#[test]
fn a_record_that_is_refused_shows_what_it_was() {
    let registry = Registry::start();
    registry.avro(1, &record(json!([{"name": "id", "type": "long"}, {"name": "ts", "type": "string"}])));
    let mut decoder = registry.decoder("avro", &fields());
    let mut refused = |value: Option<&[u8]>| decoder.read(value).unwrap().err().unwrap();
    let tombstone = refused(None);
    assert!(tombstone.reason.message().contains("a tombstone") && tombstone.values.is_empty());
    // Nothing of it can be read: its bytes.
    let cut = refused(Some(&framed(1, &[14])));
    assert_eq!((cut.sample.as_str(), cut.values.len()), ("0x00000000010e", 0));
    let long = refused(Some(&[7; 100]));
    assert_eq!(long.sample, format!("0x{}…", "07".repeat(64)));
    // What can be read of it, the key so that it can be erased.
    let wrong = refused(Some(&framed(1, &[14, 2, b'x'])));
    assert!(wrong.reason.message().contains("field 'ts': not a time: 'x'"), "{}", wrong.reason);
    assert_eq!(wrong.sample, "{\"id\":7,\"ts\":\"x\"}");
    assert_eq!(wrong.values[..2], [Value::Int(7), Value::Null]);
}
