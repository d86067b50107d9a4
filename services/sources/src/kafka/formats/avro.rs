//! Avro's types and what may be wrong with their bytes.

use super::zigzag;
use crate::kafka::avro::Schema;
use crate::kafka::datum::Datum;
use serde_json::{Value as Json, json};

fn parse(schema: &Json) -> Schema {
    Schema::parse(&schema.to_string(), &[]).unwrap()
}

fn read(schema: &Json, bytes: &[u8]) -> Result<Datum, String> {
    parse(schema).read(bytes).map_err(|error| error.to_string())
}

#[test]
fn every_type_is_read() {
    let text = |text: &str| Datum::Text(text.to_string());
    let list = |numbers: &[i64]| Datum::List(numbers.iter().map(|number| Datum::Int(*number)).collect());
    let ints = json!({"type": "array", "items": "int"});
    let map = json!({"type": "map", "values": "boolean"});
    let union = json!(["null", "long", "string", {"type": "array", "items": "null"}]);
    let grade = json!({"type": "enum", "name": "Grade", "symbols": ["A", "B"], "default": "A"});
    let fixed = json!({"type": "fixed", "name": "Raw", "size": 3});
    let record = json!({"type": "record", "name": "R", "fields": [
        {"name": "a", "type": "int"}, {"name": "b", "type": {"type": "record", "name": "Inner", "fields": []}},
        {"name": "c", "type": {"type": "string"}, "default": "x", "order": "ignore", "aliases": ["d"], "doc": "a text"},
    ]});
    let members =
        vec![("a".to_string(), Datum::Int(-1)), ("b".to_string(), Datum::Object(vec![])), ("c".to_string(), text("ü"))];
    let cases: Vec<(Json, Vec<u8>, Datum)> = vec![
        (json!("null"), vec![], Datum::Null),
        (json!("boolean"), vec![0], Datum::Bool(false)),
        (json!("boolean"), vec![1], Datum::Bool(true)),
        (json!("int"), vec![0], Datum::Int(0)),
        (json!("int"), vec![1], Datum::Int(-1)),
        (json!("int"), vec![0xfe, 0xff, 0xff, 0xff, 0x0f], Datum::Int(i32::MAX.into())),
        (json!("int"), vec![0xff, 0xff, 0xff, 0xff, 0x0f], Datum::Int(i32::MIN.into())),
        (json!("long"), zigzag(i64::MAX), Datum::Int(i64::MAX)),
        (json!("long"), [&[0xff_u8; 9][..], &[1]].concat(), Datum::Int(i64::MIN)),
        // Longer than it need be, as some writers pad it.
        (json!("long"), vec![0x82, 0x80, 0x00], Datum::Int(1)),
        (json!("float"), 0.5_f32.to_le_bytes().to_vec(), Datum::Float(0.5)),
        (json!("double"), (-0.1_f64).to_le_bytes().to_vec(), Datum::Float(-0.1)),
        (json!("double"), f64::INFINITY.to_le_bytes().to_vec(), Datum::Float(f64::INFINITY)),
        (json!("bytes"), vec![4, 0, 0xff], Datum::Bytes(vec![0, 0xff])),
        (json!("bytes"), vec![0], Datum::Bytes(vec![])),
        (json!("string"), vec![4, 0xc3, 0xbc], text("ü")),
        (json!("string"), vec![0], text("")),
        (fixed, vec![1, 2, 3], Datum::Bytes(vec![1, 2, 3])),
        (grade, vec![2], text("B")),
        (ints.clone(), vec![0], list(&[])),
        (ints.clone(), vec![4, 2, 4, 0], list(&[1, 2])),
        // Several blocks, the second with its size in bytes.
        (ints, vec![2, 2, 3, 4, 4, 6, 2, 8, 0], list(&[1, 2, 3, 4])),
        (map.clone(), vec![0], Datum::Object(vec![])),
        (
            map,
            vec![2, 2, b'k', 1, 1, 6, 2, b'l', 0, 0],
            Datum::Object(vec![("k".to_string(), Datum::Bool(true)), ("l".to_string(), Datum::Bool(false))]),
        ),
        (union.clone(), vec![0], Datum::Null),
        (union.clone(), vec![2, 2], Datum::Int(1)),
        (union.clone(), vec![4, 2, b'x'], text("x")),
        (union, vec![6, 4, 0], Datum::List(vec![Datum::Null, Datum::Null])),
        (record, vec![1, 4, 0xc3, 0xbc], Datum::Object(members)),
    ];
    for (schema, bytes, expected) in cases {
        assert_eq!(read(&schema, &bytes), Ok(expected), "{schema} {bytes:?}");
    }
    // A registry keeps primitive types without quotes.
    assert_eq!(Schema::parse(" long ", &[]).unwrap().read(&[2]).unwrap(), Datum::Int(1));
}

#[test]
fn logical_types_are_read_where_they_fit_and_are_plain_where_they_do_not() {
    let of = |base: &str, logical: &str| json!({"type": base, "logicalType": logical});
    let decimal = |precision: Json, scale: Json| json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale});
    let fixed = |size: u32, logical: &str| json!({"type": "fixed", "name": "F", "size": size, "logicalType": logical, "precision": 4, "scale": 1});
    let digits = |digits: &str| Datum::Decimal(digits.to_string());
    let noon = 1_705_320_000_000_000;
    let uuid: Vec<u8> = (0..16).map(|byte| byte * 17).collect();
    let cases: Vec<(Json, Vec<u8>, Datum)> = vec![
        (of("int", "date"), zigzag(19_737), Datum::Time(noon - 43_200_000_000)),
        (of("int", "date"), zigzag(-1), Datum::Time(-86_400_000_000)),
        (of("long", "timestamp-millis"), zigzag(noon / 1000), Datum::Time(noon)),
        (of("long", "timestamp-micros"), zigzag(noon + 1), Datum::Time(noon + 1)),
        (of("long", "timestamp-nanos"), zigzag(noon * 1000 + 1999), Datum::Time(noon + 1)),
        (of("long", "timestamp-nanos"), zigzag(-1), Datum::Time(-1)),
        (of("long", "local-timestamp-millis"), zigzag(-1), Datum::Time(-1000)),
        (of("long", "local-timestamp-micros"), zigzag(noon), Datum::Time(noon)),
        (of("long", "local-timestamp-nanos"), zigzag(noon * 1000), Datum::Time(noon)),
        (decimal(json!(9), json!(2)), vec![4, 0xff, 0x6a], digits("-1.50")),
        (decimal(json!(9), Json::Null), vec![2, 7], Datum::Bytes(vec![7])),
        (json!({"type": "bytes", "logicalType": "decimal", "precision": 9}), vec![2, 7], digits("7")),
        (fixed(2, "decimal"), vec![0, 15], digits("1.5")),
        (fixed(16, "uuid"), uuid, Datum::Text("00112233-4455-6677-8899-aabbccddeeff".to_string())),
        (of("string", "uuid"), vec![2, b'u'], Datum::Text("u".to_string())),
        (of("bytes", "big-decimal"), vec![10, 6, 0, 195, 104, 4], digits("500.24")),
        (of("bytes", "big-decimal"), vec![6, 2, 7, 3], digits("700")),
        // Times of a day and durations are no moments.
        (of("int", "time-millis"), zigzag(7), Datum::Int(7)),
        (of("long", "time-micros"), zigzag(7), Datum::Int(7)),
        (fixed(12, "duration"), vec![0; 12], Datum::Bytes(vec![0; 12])),
        // What does not fit, or is not known, is ignored: so the specification wants it.
        (of("long", "date"), zigzag(7), Datum::Int(7)),
        (of("int", "timestamp-millis"), zigzag(7), Datum::Int(7)),
        (of("string", "timestamp-millis"), vec![2, b'7'], Datum::Text("7".to_string())),
        (of("string", "decimal"), vec![2, b'7'], Datum::Text("7".to_string())),
        (of("bytes", "decimal"), vec![2, 7], Datum::Bytes(vec![7])),
        (decimal(json!(0), json!(0)), vec![2, 7], Datum::Bytes(vec![7])),
        (decimal(json!(2), json!(3)), vec![2, 7], Datum::Bytes(vec![7])),
        (decimal(json!(2), json!(-1)), vec![2, 7], Datum::Bytes(vec![7])),
        (decimal(json!("2"), json!(1)), vec![2, 7], Datum::Bytes(vec![7])),
        (fixed(15, "uuid"), vec![0; 15], Datum::Bytes(vec![0; 15])),
        (fixed(8, "big-decimal"), vec![0; 8], Datum::Bytes(vec![0; 8])),
        (of("long", "our-own"), zigzag(7), Datum::Int(7)),
        (json!({"type": "long", "logicalType": 7}), zigzag(7), Datum::Int(7)),
    ];
    for (schema, bytes, expected) in cases {
        assert_eq!(read(&schema, &bytes), Ok(expected), "{schema} {bytes:?}");
    }
    // A time that no client can say is wrong only where a field wants it, as is a decimal that does not end.
    for (schema, bytes) in [
        (of("long", "timestamp-millis"), zigzag(i64::MAX)),
        (of("long", "timestamp-micros"), zigzag(i64::MIN)),
        (of("int", "date"), zigzag(i32::MAX.into())),
        (of("bytes", "big-decimal"), vec![4, 6, 0]),
        (of("bytes", "big-decimal"), vec![8, 2, 7, 0, 0]),
        (of("bytes", "big-decimal"), [vec![14, 2, 7], zigzag(i32::MIN.into())].concat()),
    ] {
        let read = read(&schema, &bytes);
        assert!(matches!(read, Ok(Datum::Wrong(_))), "{schema}: {read:?}");
    }
    // Where it stands beside the type's name, the logical type says nothing.
    let beside = json!({"type": "record", "name": "R", "fields": [{"name": "t", "type": "long", "logicalType": "timestamp-millis"}]});
    assert_eq!(read(&beside, &[14]).unwrap().shown(), json!({"t": 7}));
}

#[test]
fn names_are_found_in_their_namespaces_and_in_other_schemas() {
    let money =
        json!({"type": "fixed", "name": "com.Money", "size": 2, "logicalType": "decimal", "precision": 4, "scale": 1});
    let node = json!({"type": "record", "name": "Node", "namespace": "com", "fields": [
        {"name": "of", "type": "Money"},
        {"name": "next", "type": ["null", "Node"]},
        {"name": "all", "type": {"type": "array", "items": "com.Money"}},
    ]});
    let schema = Schema::parse(&node.to_string(), &[money.to_string()]).unwrap();
    let datum = schema.read(&[0, 15, 2, 0xff, 0xff, 0, 0, 2, 0, 0, 0]).unwrap();
    let shown = json!({"of": "1.5", "next": {"of": "-0.1", "next": null, "all": []}, "all": ["0.0"]});
    assert_eq!(datum.shown(), shown);
    // A type inside is looked for beside the one around it, else without a namespace; an empty namespace is none.
    let nested = json!({"type": "record", "name": "a.b.Outer", "fields": [
        {"name": "x", "type": {"type": "enum", "name": "E", "symbols": ["ONE"]}},
        {"name": "y", "type": "E"},
        {"name": "z", "type": "a.b.E"},
        {"name": "plain", "type": {"type": "record", "name": "Plain", "namespace": "", "fields": [
            {"name": "w", "type": {"type": "enum", "name": "E", "symbols": ["TWO"]}}, {"name": "v", "type": "E"},
        ]}},
        {"name": "u", "type": "Plain"},
    ]});
    let datum = read(&nested, &[0; 7]).unwrap();
    let two = json!({"w": "TWO", "v": "TWO"});
    assert_eq!(datum.shown(), json!({"x": "ONE", "y": "ONE", "z": "ONE", "plain": two, "u": two}));
    // The same type in two schemas is one; two types of one name are none.
    let user = json!({"type": "record", "name": "User", "fields": [{"name": "m", "type": money}]});
    assert!(Schema::parse(&user.to_string(), &[money.to_string()]).is_ok());
    let other = json!({"type": "fixed", "name": "com.Money", "size": 3});
    let error = Schema::parse(&user.to_string(), &[other.to_string()]).unwrap_err().to_string();
    assert!(error.contains("defines 'com.Money' twice"), "{error}");
}

#[test]
fn a_schema_that_is_none_is_told() {
    let record = |fields: Json| json!({"type": "record", "name": "R", "fields": fields}).to_string();
    for (text, part) in [
        ("{".to_string(), "not valid JSON"),
        (String::new(), "not valid JSON"),
        ("Nothing".to_string(), "not valid JSON"),
        ("\"Nothing\"".to_string(), "unknown type 'Nothing'"),
        ("7".to_string(), "a type is a name, a list or an object, got 7"),
        ("{}".to_string(), "no valid 'type'"),
        ("{\"type\": \"array\"}".to_string(), "no valid 'items'"),
        ("{\"type\": \"map\"}".to_string(), "no valid 'values'"),
        ("{\"type\": \"record\", \"name\": \"R\"}".to_string(), "no valid 'fields' of R"),
        ("{\"type\": \"record\", \"fields\": []}".to_string(), "no valid 'name'"),
        ("{\"type\": \"enum\", \"name\": \"E\"}".to_string(), "no valid 'symbols' of E"),
        ("{\"type\": \"enum\", \"name\": \"E\", \"symbols\": [\"A\", 7]}".to_string(), "no valid 'symbols' of E"),
        ("{\"type\": \"fixed\", \"name\": \"F\", \"size\": -1}".to_string(), "no valid 'size' of F"),
        ("[\"null\", [\"int\"]]".to_string(), "a union right within a union"),
        ("[{\"type\": [\"null\"]}]".to_string(), "a union right within a union"),
        (record(json!([7])), "no valid 'fields' of R"),
        (record(json!([{"type": "int"}])), "no valid 'name'"),
        (record(json!([{"name": "a"}])), "'a': the schema has no valid 'type' of a"),
        (record(json!([{"name": "a", "type": "S"}])), "'a': the schema names an unknown type 'S'"),
        // Deeper than any reader of JSON goes.
        ("[".repeat(10_000), "not valid JSON"),
    ] {
        let error = Schema::parse(&text, &[]).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn bytes_that_are_no_value_of_the_schema_are_told() {
    let record = json!({"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "record", "name": "S", "fields": [{"name": "b", "type": "string"}]}},
    ]});
    let ints = json!({"type": "array", "items": "int"});
    for (schema, bytes, part) in [
        (json!("boolean"), vec![2], "a boolean is 0 or 1, got 0x02"),
        (json!("int"), zigzag(1 << 31), "an int has 32 bits, got 2147483648"),
        (json!("long"), vec![0x80; 10], "more than 64 bits"),
        (json!("long"), [&[0xff_u8; 9][..], &[2]].concat(), "more than 64 bits"),
        (json!("long"), vec![0x80], "ends too early"),
        (json!("double"), vec![0; 7], "ends too early"),
        (json!("string"), vec![2], "ends too early"),
        (json!("string"), zigzag(i64::MAX), "ends too early"),
        (json!("string"), vec![1], "a length is negative: -1"),
        (json!("string"), vec![2, 0xff], "not UTF-8"),
        (json!("bytes"), vec![4, 0], "ends too early"),
        (json!({"type": "fixed", "name": "F", "size": 2}), vec![0], "ends too early"),
        (json!({"type": "fixed", "name": "F", "size": u64::MAX}), vec![0], "ends too early"),
        (json!({"type": "enum", "name": "E", "symbols": ["A"]}), vec![2], "the enum has no symbol of number 1"),
        (json!({"type": "enum", "name": "E", "symbols": ["A"]}), vec![1], "the enum has no symbol of number -1"),
        (json!(["null"]), vec![2], "the union has no branch of number 1"),
        (json!([]), vec![0], "the union has no branch of number 0"),
        (ints.clone(), vec![2, 2], "ends too early"),
        (ints, vec![1], "ends too early"),
        (json!("int"), vec![2, 0], "1 bytes are left over"),
        (json!("null"), vec![0, 0], "2 bytes are left over"),
        (record, vec![2], "'a': 'b': the value ends too early"),
    ] {
        let error = read(&schema, &bytes).unwrap_err();
        assert!(error.contains(part), "{schema} {bytes:?}: {error}");
    }
}

#[test]
fn depth_and_number_of_values_have_an_end() {
    let node = json!({"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]});
    let of_depth = |depth: usize| [vec![2; depth - 1], vec![0]].concat();
    assert!(read(&node, &of_depth(64)).is_ok());
    assert!(read(&node, &of_depth(65)).unwrap_err().contains("nested deeper than 64 levels"));
    assert!(read(&node, &vec![2; 1 << 20]).unwrap_err().contains("nested deeper than 64 levels"));
    let endless = json!({"type": "record", "name": "Endless", "fields": [{"name": "next", "type": "Endless"}]});
    assert!(read(&endless, &[]).unwrap_err().contains("nested deeper than 64 levels"));
    // What is optional and of a name counts once.
    let optional = json!({"type": "array", "items": ["null", {"type": "long", "logicalType": "timestamp-millis"}]});
    let million = |count: i64| [zigzag(count), [2, 2].repeat(count as usize), vec![0]].concat();
    assert!(read(&optional, &million((1 << 20) - 1)).is_ok());
    assert!(read(&optional, &million(1 << 20)).unwrap_err().contains("more than 1048576 values"));
    // Items without a byte of their own: as many as the count says.
    let empty = json!({"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}});
    assert!(read(&empty, &[zigzag(1000), vec![0]].concat()).is_ok());
    for count in [1 << 20, i64::MAX, i64::MIN] {
        let bytes = [zigzag(count), vec![0; 2]].concat();
        for schema in [&empty, &json!({"type": "array", "items": "null"})] {
            let error = read(schema, &bytes).unwrap_err();
            assert!(error.contains("more than 1048576 values"), "{count}: {error}");
        }
    }
}
