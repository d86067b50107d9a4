//! Avro, Protobuf and the registry, on bytes written by hand; `integration/test_kafka_source_formats.py` has those of Confluent's serializers.

use super::avro::Schema;
use super::datum::Datum;
use super::decode::Decoder;
use super::protobuf::Messages;
use super::settings::Settings;
use crate::conformance::fields;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use thyme_core::definition::SourceDef;
use thyme_core::schema::Field;
use thyme_core::{Error, ErrorKind, Value};

/// A registry of fixed answers by path; what it was asked is kept.
struct Registry {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    fn start(answers: &[(&str, u16, Json)]) -> Registry {
        let answers: BTreeMap<String, (u16, Json)> =
            answers.iter().map(|(path, status, body)| (path.to_string(), (*status, body.clone()))).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let keeping = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(|line| line.ok());
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let path = head[0].split(' ').nth(1).unwrap_or_default().to_string();
                let key = head.iter().find(|line| line.to_lowercase().starts_with("authorization:"));
                keeping.lock().unwrap().push(format!("{path} {}", key.map_or("", |line| line.as_str())));
                let missing = (404, json!({"error_code": 40403, "message": "Schema not found"}));
                let (status, body) = answers.get(&path).unwrap_or(&missing);
                let body = body.to_string();
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                stream.write_all((head + &body).as_bytes()).unwrap();
            }
        });
        Registry { address, asked }
    }

    fn decoder(&self, format: &str, fields: &[Field], more: &Json) -> Decoder {
        let mut settings = json!({"topic": "t", "format": format, "schema_registry": self.address});
        for (name, value) in more.as_object().into_iter().flatten() {
            settings[name] = value.clone();
        }
        Decoder::new(&settings_of(&settings).unwrap(), fields).unwrap()
    }
}

fn settings_of(settings: &Json) -> Result<Settings, Error> {
    let definition: SourceDef =
        serde_json::from_value(json!({"kind": "kafka", "settings": settings, "cdc": "append"})).unwrap();
    Settings::of(&definition)
}

fn framed(id: u32, value: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), value].concat()
}

/// The row, or why there is none.
fn read(decoder: &mut Decoder, value: &[u8]) -> Result<Vec<Value>, String> {
    decoder.read(Some(value)).unwrap().map_err(|unfit| unfit.reason.to_string())
}

fn event_schema() -> String {
    json!({
        "type": "record", "name": "Event", "namespace": "shop",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}], "default": null},
        ],
    })
    .to_string()
}

#[test]
fn a_schema_is_asked_for_once_and_a_newer_one_is_read_too() {
    let newer = json!({
        "type": "record", "name": "Event",
        "fields": [
            {"name": "more", "type": {"type": "map", "values": ["int", "string"]}},
            {"name": "id", "type": "int"},
            {"name": "ts", "type": {"type": "int", "logicalType": "date"}},
            {"name": "note", "type": {"type": "enum", "name": "Note", "symbols": ["a", "b"]}},
        ],
    });
    let registry = Registry::start(&[
        ("/schemas/ids/7", 200, json!({"schema": event_schema()})),
        ("/schemas/ids/8", 200, json!({"schema": newer.to_string(), "schemaType": "AVRO"})),
    ]);
    let mut decoder = registry.decoder("avro", &fields(), &json!({}));
    // id 5, ts 1000 ms, amount -1.50 (0xff6a).
    let old = framed(7, &[10, 0xd0, 0x0f, 2, 4, 0xff, 0x6a]);
    let row = vec![Value::Int(5), Value::Time(1_000_000), Value::Float(-1.5), Value::Null, Value::Null];
    assert_eq!(read(&mut decoder, &old), Ok(row.clone()));
    assert_eq!(read(&mut decoder, &old), Ok(row));
    // more {"k": "v"} in a block with its size, id 6, one day, "b".
    let new = framed(8, &[1, 10, 2, b'k', 2, 2, b'v', 0, 12, 2, 2]);
    let row = vec![Value::Int(6), Value::Time(86_400_000_000), Value::Null, Value::str("b"), Value::Null];
    assert_eq!(read(&mut decoder, &new), Ok(row));
    assert_eq!(registry.asked.lock().unwrap().len(), 2);
}

#[test]
fn what_is_wrong_with_a_value_is_its_own_and_what_is_wrong_with_a_schema_stops_the_source() {
    let registry = Registry::start(&[
        ("/schemas/ids/7", 200, json!({"schema": event_schema()})),
        ("/schemas/ids/8", 200, json!({"schema": "\"long\""})),
        ("/schemas/ids/9", 200, json!({"schema": "message M { }", "schemaType": "PROTOBUF"})),
        ("/schemas/ids/10", 200, json!({"schema": "{\"type\": \"record\"}"})),
        ("/schemas/ids/11", 500, json!({})),
        ("/schemas/ids/12", 404, json!({"error": "no such page"})),
        ("/schemas/ids/13", 401, json!({"error_code": 401})),
        (
            "/schemas/ids/14",
            200,
            json!({"schema": "\"a\"", "references": [{"name": "a", "subject": "s/1", "version": 2}]}),
        ),
    ]);
    let mut decoder = registry.decoder("avro", &fields(), &json!({}));
    for (value, part) in [
        (b"{}".to_vec(), "names no schema"),
        (vec![], "names no schema"),
        (framed(7, &[10, 0xd0]), "schema 7: 'ts': the value ends too early"),
        (framed(7, &[10, 0, 0, 1]), "1 bytes are left over"),
        (framed(7, &[10, 0, 8]), "the union has no branch of number 4"),
        (framed(8, &[2]), "the value is not a record"),
        (framed(99, &[2]), "schema 99: the schema registry has no such schema"),
    ] {
        let reason = read(&mut decoder, &value).unwrap_err();
        assert!(reason.contains(part), "{value:?}: {reason}");
    }
    for (id, kind, part) in [
        (
            9,
            ErrorKind::FailedPrecondition,
            "it is of type PROTOBUF, and the source reads avro (hint: write format=\"protobuf\")",
        ),
        (10, ErrorKind::FailedPrecondition, "no valid 'name'"),
        (11, ErrorKind::Unavailable, "answers 500"),
        (12, ErrorKind::Unavailable, "answers 404"),
        (13, ErrorKind::FailedPrecondition, "schema_registry_password=Secret(env=…)"),
        (14, ErrorKind::FailedPrecondition, "no version 2 of 's/1'"),
    ] {
        let error = decoder.read(Some(&framed(id, &[2]))).err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{id}: {error}");
    }
    assert!(registry.asked.lock().unwrap().iter().any(|path| path.starts_with("/subjects/s%2F1/versions/2")));
    let gone = settings_of(&json!({"topic": "t", "format": "avro", "schema_registry": "http://127.0.0.1:1"})).unwrap();
    let error = Decoder::new(&gone, &fields()).unwrap().read(Some(&framed(1, &[]))).err().unwrap();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[test]
fn a_registry_is_asked_with_user_and_password_and_neither_is_in_the_address() {
    let registry = Registry::start(&[("/base/schemas/ids/1", 200, json!({"schema": event_schema()}))]);
    let more = json!({
        "schema_registry": format!("{}/base/", registry.address), "schema_registry_username": "ann",
        "schema_registry_password": {"env": "CARGO_PKG_NAME"},
    });
    let mut decoder = registry.decoder("avro", &fields(), &more);
    assert!(read(&mut decoder, &framed(1, &[2, 0, 0])).is_ok());
    // ann:thyme-sources
    let asked = registry.asked.lock().unwrap()[0].clone();
    assert!(asked.contains("Basic YW5uOnRoeW1lLXNvdXJjZXM="), "{asked}");
    for (settings, part) in [
        (json!({"topic": "t", "format": "avro", "schema_registry": "http://ann:pw@a"}), "schema_registry_username"),
        (json!({"topic": "t", "format": "avro", "schema_registry": "a:80"}), "no http:// or https:// address"),
        (json!({"topic": "t", "schema_registry": "http://a"}), "format \"json\" takes no schema_registry"),
        (json!({"topic": "t", "format": "avro", "schema_registry_password": "hunter2"}), "Secret(env="),
    ] {
        let error = settings_of(&settings).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn types_of_other_avro_schemas_and_types_within_themselves_are_read() {
    let money =
        json!({"type": "fixed", "name": "com.Money", "size": 2, "logicalType": "decimal", "precision": 4, "scale": 1});
    let node = json!({
        "type": "record", "name": "Node", "namespace": "com",
        "fields": [{"name": "of", "type": "Money"}, {"name": "next", "type": ["null", "Node"]}, {"name": "all", "type": {"type": "array", "items": "com.Money"}}],
    });
    let schema = Schema::parse(&node.to_string(), &[money.to_string()]).unwrap();
    let datum = schema.read(&[0, 15, 2, 0xff, 0xff, 0, 0, 2, 0, 0, 0]).unwrap();
    let shown = json!({"of": "1.5", "next": {"of": "-0.1", "next": null, "all": []}, "all": ["0.0"]});
    assert_eq!(datum.shown(), shown);
    // As deep as the bytes say.
    let endless = [&[0, 0, 2][..]; 1000].concat();
    assert!(schema.read(&endless).unwrap_err().to_string().contains("nested deeper"));
    let nulls = Schema::parse("{\"type\": \"array\", \"items\": \"null\"}", &[]).unwrap();
    let many = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert!(nulls.read(&many).unwrap_err().to_string().contains("too many values"));
    for wrong in ["{", "\"nothing\"", "7", "{\"type\": \"array\"}", "{\"type\": \"enum\", \"name\": \"e\"}"] {
        assert!(Schema::parse(wrong, &[]).is_err(), "{wrong}");
    }
}

#[test]
fn decimals_are_exact() {
    let text = |bytes: &[u8], scale| Datum::decimal(bytes, scale).unwrap().shown();
    for (bytes, scale, digits) in
        [(&[][..], 0, "0"), (&[0], 2, "0.00"), (&[0xff], 2, "-0.01"), (&[0x80], 0, "-128"), (&[0x00, 0x80], 1, "12.8")]
    {
        assert_eq!(text(bytes, scale), json!(digits), "{bytes:?}");
    }
    // Longer than 128 bits.
    assert_eq!(text(&[0x7f; 17], 0), json!("43385334562092358133808765634594698395519"));
    assert!(Datum::decimal(&[1; 65], 0).is_err() && Datum::decimal(&[1], 10_000).is_err());
    assert!(Datum::time(i64::MAX, 1000).is_err());
    assert_eq!(Datum::time(-1, 1_000_000_000).unwrap(), Datum::Time(-1));
}

const PROTO: &str = r#"
    syntax = "proto3";
    package shop;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/wrappers.proto";
    import "confluent/meta.proto";
    import "money.proto";
    message Unused { string x = 1; }
    message Outer {
        enum Kind { NONE = 0; BIG = 1; }
        message Event {
            int64 id = 1;
            google.protobuf.Timestamp ts = 2;
            google.protobuf.DoubleValue amount = 3;
            optional string note = 4 [(confluent.field_meta).doc = "for people"];
            Kind kind = 5;
            map<string, uint64> counts = 6;
            repeated Money prices = 7;
        }
    }
"#;
const MONEY: &str = "syntax = \"proto3\"; package shop; import \"confluent/type/decimal.proto\"; \
    message Money { confluent.type.Decimal of = 1; }";

#[test]
fn a_protobuf_message_is_found_by_its_indexes_and_read_with_what_its_schema_imports() {
    let references = json!([{"name": "money.proto", "subject": "money", "version": 3}]);
    let registry = Registry::start(&[
        ("/schemas/ids/1", 200, json!({"schema": PROTO, "schemaType": "PROTOBUF", "references": references})),
        ("/subjects/money/versions/3", 200, json!({"schema": MONEY, "schemaType": "PROTOBUF"})),
        ("/schemas/ids/2", 200, json!({"schema": "message {", "schemaType": "PROTOBUF"})),
    ]);
    let mut decoder = registry.decoder("protobuf", &fields(), &json!({}));
    // Two indexes: 1 and 0. id 5; ts 2 s and 1500 ns; amount 0.5.
    let event = [&[4, 2, 0, 8, 5, 0x12, 5, 8, 2, 16, 0xdc, 0x0b, 0x1a, 9, 9][..], &0.5f64.to_le_bytes()].concat();
    let row = vec![Value::Int(5), Value::Time(2_000_001), Value::Float(0.5), Value::Null, Value::Null];
    assert_eq!(read(&mut decoder, &framed(1, &event)), Ok(row));
    for (bytes, part) in [
        (&[][..], "the indexes of the message do not end"),
        (&[2, 8][..], "no message of index [4]"),
        (&[3][..], "-2 indexes"),
        (&[4, 2, 0, 0xff][..], "not a message shop.Outer.Event"),
        // The first message, which has other fields.
        (&[0][..], "no field 'id'"),
        // Nothing is set: a time that is missing is null.
        (&[4, 2, 0][..], "field 'ts' is null"),
    ] {
        let reason = read(&mut decoder, &framed(1, bytes)).unwrap_err();
        assert!(reason.contains(part), "{bytes:?}: {reason}");
    }
    let error = decoder.read(Some(&framed(2, &[0]))).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("schema 2 of the schema registry: the schema is not valid"), "{error}");
    let messages = Messages::compile(PROTO, &[("money.proto".to_string(), MONEY.to_string())]).unwrap();
    let more = [4, 2, 0, 0x28, 1, 0x32, 5, 10, 1, b'k', 16, 7, 0x3a, 6, 10, 4, 10, 1, 0x19, 24, 1];
    // The decimal is 25 with scale 1, and its message is cut one byte short: told, not guessed.
    assert!(messages.read(&more).is_err());
    let more = [4, 2, 0, 0x28, 1, 0x32, 5, 10, 1, b'k', 16, 7, 0x3a, 7, 10, 5, 10, 1, 0x19, 24, 1];
    let shown = json!({
        "id": 0, "ts": null, "amount": null, "note": null, "kind": "BIG", "counts": {"k": 7}, "prices": [{"of": "2.5"}],
    });
    assert_eq!(messages.read(&more).unwrap().shown(), shown);
}

proptest! {
    #[test]
    fn no_bytes_stop_a_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let node = r#"{"type": "record", "name": "N", "fields": [
            {"name": "a", "type": {"type": "map", "values": ["null", "N", "double", {"type": "bytes", "logicalType": "decimal", "scale": 3}]}},
            {"name": "b", "type": {"type": "array", "items": ["N", "string", "boolean", {"type": "long", "logicalType": "timestamp-micros"}]}}]}"#;
        // Told or read; never a panic, and never for ever.
        let _ = Schema::parse(node, &[]).unwrap().read(&bytes);
        let messages = Messages::compile("message M { map<string, M> a = 1; repeated M b = 2; fixed64 c = 3; }", &[]).unwrap();
        let _ = messages.read(&bytes);
    }
}
