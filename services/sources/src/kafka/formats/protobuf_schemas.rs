//! Which message a value is of, and what its schema imports.

use super::server::Registry;
use super::{framed, read, zigzag};
use crate::conformance::fields;
use crate::kafka::protobuf::Messages;
use serde_json::json;
use thyme_core::Value;

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
const MONEY: &str = r#"syntax = "proto3"; package shop; import "confluent/type/decimal.proto"; import "currency.proto";
    message Money { confluent.type.Decimal of = 1; Currency in = 2; }"#;
const CURRENCY: &str = r#"syntax = "proto3"; package shop; enum Currency { NO_CURRENCY = 0; EUR = 1; }"#;

#[test]
fn a_message_is_found_by_its_indexes_and_read_with_what_its_schema_imports() {
    let registry = Registry::start();
    let money = json!([{"name": "money.proto", "subject": "money", "version": 3}]);
    let currency = json!([{"name": "currency.proto", "subject": "currency", "version": 1}]);
    registry.json("/schemas/ids/1", 200, &json!({"schema": PROTO, "schemaType": "PROTOBUF", "references": money}));
    registry.json(
        "/subjects/money/versions/3",
        200,
        &json!({"schema": MONEY, "schemaType": "PROTOBUF", "references": currency}),
    );
    registry.json("/subjects/currency/versions/1", 200, &json!({"schema": CURRENCY, "schemaType": "PROTOBUF"}));
    let mut decoder = registry.decoder("protobuf", &fields());
    // Two indexes: 1 and 0. id 5; ts 2 s and 1500 ns; amount 0.5.
    let event = [&[4, 2, 0, 8, 5, 0x12, 5, 8, 2, 16, 0xdc, 0x0b, 0x1a, 9, 9][..], &0.5f64.to_le_bytes()].concat();
    let row = vec![Value::Int(5), Value::Time(2_000_001), Value::Float(0.5), Value::Null, Value::Null, Value::Null];
    assert_eq!(read(&mut decoder, &framed(1, &event)), Ok(row));
    for (bytes, part) in [
        (&[][..], "the indexes of the message do not end"),
        (&[0x80][..], "the indexes of the message do not end"),
        (&[4, 2][..], "the indexes of the message do not end"),
        (&[0xff; 11][..], "the indexes of the message do not end"),
        (&[2, 8][..], "no message of index [4]"),
        (&[2, 1][..], "no message of index [-1]"),
        (&[6, 2, 0, 0][..], "no message of index [1, 0, 0]"),
        (&[3][..], "-2 indexes"),
        (&[0x80, 0x80, 1][..], "8192 indexes"),
        (&[4, 2, 0, 0xff][..], "not a message shop.Outer.Event"),
        // The first message, which has other fields.
        (&[0][..], "no field 'id'"),
        // Nothing is set: a time that is missing is null.
        (&[4, 2, 0][..], "field 'ts' is null"),
    ] {
        let reason = read(&mut decoder, &framed(1, bytes)).unwrap_err();
        assert!(reason.contains("schema 1") || reason.contains("field '"), "{reason}");
        assert!(reason.contains(part), "{bytes:?}: {reason}");
    }
    assert_eq!(registry.asked().len(), 3);
    let references =
        [("money.proto", MONEY), ("currency.proto", CURRENCY)].map(|(name, text)| (name.to_string(), text.to_string()));
    let messages = Messages::compile(PROTO, &references).unwrap();
    // The decimal is 25 with scale 1, and its message is cut one byte short: told, not guessed.
    let cut = [4, 2, 0, 0x28, 1, 0x32, 5, 10, 1, b'k', 16, 7, 0x3a, 6, 10, 4, 10, 1, 0x19, 24, 1];
    assert!(messages.read(&cut).is_err());
    let whole = [4, 2, 0, 0x28, 1, 0x32, 5, 10, 1, b'k', 16, 7, 0x3a, 9, 10, 5, 10, 1, 0x19, 24, 1, 16, 1];
    let shown = json!({
        "id": 0, "ts": null, "amount": null, "note": null, "kind": "BIG", "counts": {"k": 7},
        "prices": [{"of": "2.5", "in": "EUR"}],
    });
    assert_eq!(messages.read(&whole).unwrap().shown(), shown);
}

#[test]
fn an_index_counts_the_messages_that_the_text_names() {
    let messages = Messages::compile(
        r#"syntax = "proto3"; message First { int32 first = 1; } message Outer {
            map<string, string> labels = 1;
            message A { int32 a = 1; message Deep { int32 deep = 1; } }
            map<string, string> more = 2;
            message B { int32 b = 1; }
        }"#,
        &[],
    )
    .unwrap();
    let at = |indexes: &[i64]| {
        let count = zigzag(indexes.len() as i64);
        let bytes = [count, indexes.iter().flat_map(|index| zigzag(*index)).collect()].concat();
        messages.read(&bytes).map(|datum| datum.shown()).map_err(|error| error.to_string())
    };
    assert_eq!(at(&[]), Ok(json!({"first": 0})));
    assert_eq!(at(&[0]), Ok(json!({"first": 0})));
    assert_eq!(at(&[1]), Ok(json!({"labels": {}, "more": {}})));
    assert_eq!(at(&[1, 0]), Ok(json!({"a": 0})));
    assert_eq!(at(&[1, 0, 0]), Ok(json!({"deep": 0})));
    assert_eq!(at(&[1, 1]), Ok(json!({"b": 0})));
    // As a writer counts that takes the entries of the two maps for messages.
    assert_eq!(at(&[1, 3]), Ok(json!({"b": 0})));
    for none in [&[2][..], &[1, 2], &[1, 4], &[0, 0], &[1, i64::MAX], &[1, i64::MIN]] {
        assert!(at(none).unwrap_err().contains("no message of index"), "{none:?}");
    }
    assert!(at(&[0; 33]).unwrap_err().contains("33 indexes"));
}

#[test]
fn files_that_clients_bring_along_need_no_reference() {
    let names = [
        "calendar_period",
        "color",
        "date",
        "datetime",
        "dayofweek",
        "decimal",
        "expr",
        "fraction",
        "interval",
        "latlng",
        "money",
        "month",
        "phone_number",
        "postal_address",
        "quaternion",
        "timeofday",
    ];
    let types = [
        "CalendarPeriod",
        "Color",
        "Date",
        "DateTime",
        "DayOfWeek",
        "Decimal",
        "Expr",
        "Fraction",
        "Interval",
        "LatLng",
        "Money",
        "Month",
        "PhoneNumber",
        "PostalAddress",
        "Quaternion",
        "TimeOfDay",
    ];
    let google = [
        "any",
        "duration",
        "empty",
        "field_mask",
        "struct",
        "timestamp",
        "wrappers",
        "descriptor",
        "type",
        "api",
        "source_context",
    ];
    let imports = names.iter().map(|name| format!("import \"google/type/{name}.proto\";"));
    let imports = imports.chain(google.iter().map(|name| format!("import \"google/protobuf/{name}.proto\";")));
    let members = types.iter().enumerate().map(|(at, name)| format!("google.type.{name} f{at} = {};", at + 1));
    let text =
        format!("syntax = \"proto3\"; {} message M {{ {} }}", imports.collect::<String>(), members.collect::<String>());
    let read = Messages::compile(&text, &[]).unwrap().read(&[0, 0x5a, 7, 10, 3, b'E', b'U', b'R', 16, 7]).unwrap();
    assert_eq!(read.shown()["f10"], json!({"currency_code": "EUR", "units": 7, "nanos": 0}));
    assert_eq!(read.shown()["f0"], json!("CALENDAR_PERIOD_UNSPECIFIED"));
    // A reference of that name is the one that counts.
    let own = "syntax = \"proto3\"; package google.type; message Money { int32 mine = 1; }".to_string();
    let text = "syntax = \"proto3\"; import \"google/type/money.proto\"; message M { google.type.Money m = 1; }";
    let messages = Messages::compile(text, &[("google/type/money.proto".to_string(), own)]).unwrap();
    assert_eq!(messages.read(&[0, 10, 0]).unwrap().shown(), json!({"m": {"mine": 0}}));
}

#[test]
fn a_schema_that_is_none_is_told() {
    let references = [
        ("bad.proto".to_string(), "message {".to_string()),
        ("self.proto".to_string(), "import \"self.proto\";".to_string()),
    ];
    for (text, part) in [
        ("message {", "the schema is not valid: "),
        ("message M { int32 a = 1; int32 b = 1; }", "the schema is not valid"),
        ("message M { optional N n = 1; }", "the schema is not valid: name 'N' is not defined"),
        ("import \"gone.proto\";", "import 'gone.proto' not found"),
        ("import \"bad.proto\";", "its import 'bad.proto' is not valid"),
        ("import \"self.proto\";", "import cycle"),
        ("{\"type\": \"record\"}", "the schema is not valid"),
    ] {
        let error = Messages::compile(text, &references).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    // A text without a message describes no value.
    let empty = Messages::compile("", &[]).unwrap();
    assert!(empty.read(&[0]).unwrap_err().to_string().contains("no message of index [0]"));
}

#[test]
fn a_text_cannot_be_nested_without_end() {
    let option = |open: &str, shut: &str, depth: usize| {
        format!(
            "syntax = \"proto2\"; import \"google/protobuf/descriptor.proto\"; message A {{ optional A a = 1; }} \
             extend google.protobuf.FileOptions {{ optional A x = 50000; }} option (x) = {{ {} {} }};",
            open.repeat(depth),
            shut.repeat(depth)
        )
    };
    for (open, shut) in [("a {", "}"), ("a: <", ">"), ("a: [{", "}]")] {
        let error = Messages::compile(&option(open, shut, 100_000), &[]).unwrap_err().to_string();
        assert!(error.contains("nested deeper than 100 levels"), "{error}");
    }
    assert!(Messages::compile(&option("a {", "}", 50), &[]).is_ok());
    // A comment of that language hides nothing behind a quote in it.
    let commented = |depth: usize| option("a {", "}", depth).replace("(x) = {", "(x) = { # it's\n");
    assert!(Messages::compile(&commented(50), &[]).is_ok());
    let error = Messages::compile(&commented(100_000), &[]).unwrap_err().to_string();
    assert!(error.contains("nested deeper than 100 levels"), "{error}");
    let messages = "message M {".repeat(100_000);
    assert!(Messages::compile(&messages, &[]).is_err());
    let imported = [("deep.proto".to_string(), messages)];
    let error = Messages::compile("import \"deep.proto\";", &imported).unwrap_err().to_string();
    assert!(error.contains("its import 'deep.proto' is nested deeper"), "{error}");
    // Not what stands in comments and texts.
    let many = "{".repeat(1000);
    let text = format!(
        "syntax = \"proto3\"; // {many}\n/* {many} \" */ package a; option java_package = \"\\\" {many}\"; option go_package = '{many}'; message M {{ }}"
    );
    Messages::compile(&text, &[]).unwrap();
}
