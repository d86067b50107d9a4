//! Protobuf's types and what may be wrong with their bytes.

use super::{varint, zigzag};
use crate::kafka::datum::Datum;
use crate::kafka::protobuf::Messages;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn compile(text: &str) -> Messages {
    Messages::compile(text, &[]).unwrap()
}

/// The first message of the file.
fn read(messages: &Messages, bytes: &[u8]) -> Result<Datum, String> {
    messages.read(&[&[0][..], bytes].concat()).map_err(|error| error.to_string())
}

fn shown(messages: &Messages, bytes: &[u8]) -> Json {
    read(messages, bytes).unwrap().shown()
}

/// A member with one of the numbers of the wire: 0 varint, 1 eight bytes, 2 length, 5 four bytes.
fn member(number: u64, wire: u64, bytes: &[u8]) -> Vec<u8> {
    let length = if wire == 2 { varint(bytes.len() as u64) } else { vec![] };
    [varint(number << 3 | wire), length, bytes.to_vec()].concat()
}

const SCALARS: &str = r#"syntax = "proto3"; message M {
    int32 a = 1; int64 b = 2; uint32 c = 3; uint64 d = 4; sint32 e = 5; sint64 f = 6; fixed32 g = 7; fixed64 h = 8;
    sfixed32 i = 9; sfixed64 j = 10; float k = 11; double l = 12; bool m = 13; string n = 14; bytes o = 15; Kind p = 16;
    enum Kind { ZERO = 0; ONE = 1; MINUS = -1; }
}"#;

#[test]
fn every_scalar_type_is_read_and_is_its_default_where_it_is_not_set() {
    let messages = compile(SCALARS);
    let minus = u64::MAX;
    let wholes: Vec<(u64, u64, Vec<u8>, Datum)> = vec![
        (1, 0, varint(minus), Datum::Int(-1)),
        (1, 0, varint(7), Datum::Int(7)),
        (2, 0, varint(i64::MAX as u64), Datum::Int(i64::MAX)),
        (2, 0, varint(1 << 63), Datum::Int(i64::MIN)),
        (3, 0, varint(u32::MAX.into()), Datum::Int(u32::MAX.into())),
        (4, 0, varint(7), Datum::Int(7)),
        (4, 0, varint(minus), Datum::Large(u64::MAX)),
        (5, 0, zigzag(-7), Datum::Int(-7)),
        (6, 0, zigzag(i64::MIN), Datum::Int(i64::MIN)),
        (7, 5, vec![0xff; 4], Datum::Int(u32::MAX.into())),
        (8, 1, vec![0xff; 8], Datum::Large(u64::MAX)),
        (9, 5, vec![0xff; 4], Datum::Int(-1)),
        (10, 1, vec![0xff; 8], Datum::Int(-1)),
        (11, 5, 0.5_f32.to_le_bytes().to_vec(), Datum::Float(0.5)),
        (12, 1, (-0.1_f64).to_le_bytes().to_vec(), Datum::Float(-0.1)),
        (13, 0, vec![1], Datum::Bool(true)),
        (14, 2, "ü".as_bytes().to_vec(), Datum::Text("ü".to_string())),
        (15, 2, vec![0, 0xff], Datum::Bytes(vec![0, 0xff])),
        (16, 0, vec![1], Datum::Text("ONE".to_string())),
        (16, 0, varint(minus), Datum::Text("MINUS".to_string())),
    ];
    for (number, wire, bytes, expected) in wholes {
        let Ok(Datum::Object(members)) = read(&messages, &member(number, wire, &bytes)) else { panic!("{number}") };
        assert_eq!(members[number as usize - 1].1, expected, "{number}");
    }
    let defaults = json!({
        "a": 0, "b": 0, "c": 0, "d": 0, "e": 0, "f": 0, "g": 0, "h": 0, "i": 0, "j": 0, "k": 0.0, "l": 0.0,
        "m": false, "n": "", "o": "0x", "p": "ZERO",
    });
    assert_eq!(shown(&messages, &[]), defaults);
    // The last one counts; a number that a newer schema names is wrong only where a field wants it.
    let twice = [member(1, 0, &[1]), member(1, 0, &[2]), member(16, 0, &[9])].concat();
    let Datum::Object(members) = read(&messages, &twice).unwrap() else { panic!() };
    assert_eq!(members[0].1, Datum::Int(2));
    assert_eq!(members[15].1, Datum::Wrong("the enumeration has no name for 9".to_string()));
}

#[test]
fn what_is_not_set_is_null_where_the_schema_can_tell() {
    let messages = compile(
        r#"syntax = "proto3"; import "google/protobuf/wrappers.proto"; message M {
            optional int32 a = 1; int32 b = 2; M c = 3; google.protobuf.Int64Value d = 4; repeated int32 e = 5;
            map<string, int32> f = 6; oneof which { string g = 7; bool h = 8; M i = 9; }
        }"#,
    );
    let rest = json!({"a": null, "b": 0, "c": null, "d": null, "e": [], "f": {}, "g": null, "h": null, "i": null});
    let with = |name: &str, value: Json| {
        let mut all = rest.clone();
        all[name] = value;
        all
    };
    assert_eq!(shown(&messages, &[]), rest);
    assert_eq!(shown(&messages, &member(1, 0, &[0])), with("a", json!(0)));
    assert_eq!(shown(&messages, &member(2, 0, &[0])), rest);
    assert_eq!(shown(&messages, &member(3, 2, &[])), with("c", rest.clone()));
    assert_eq!(shown(&messages, &member(4, 2, &[])), with("d", json!(0)));
    assert_eq!(shown(&messages, &member(4, 2, &[8, 7])), with("d", json!(7)));
    assert_eq!(shown(&messages, &member(7, 2, &[])), with("g", json!("")));
    assert_eq!(shown(&messages, &member(8, 0, &[0])), with("h", json!(false)));
    // Of a `oneof` the last one that was written.
    let both = [member(7, 2, b"x"), member(8, 0, &[1])].concat();
    assert_eq!(shown(&messages, &both), with("h", json!(true)));
    assert_eq!(shown(&messages, &[both, member(9, 2, &[])].concat()), with("i", rest.clone()));
    // The older language: everything tells whether it is set, groups are messages, extensions are no members.
    let older = compile(
        "message M { required int32 a = 1; optional int32 b = 2 [default = 7]; optional group C = 3 { optional int32 d = 1; } \
         extensions 100 to 200; } extend M { optional int32 more = 100; }",
    );
    assert_eq!(shown(&older, &[]), json!({"a": null, "b": null, "c": null}));
    let group = [vec![0x1b, 8, 5, 0x1c], member(100, 0, &[1])].concat();
    assert_eq!(shown(&older, &group), json!({"a": null, "b": null, "c": {"d": 5}}));
}

#[test]
fn lists_are_read_packed_or_not_and_maps_by_every_kind_of_key() {
    let lists = compile(
        r#"syntax = "proto3"; enum E { A = 0; B = 1; } message M { repeated sint32 a = 1; repeated string b = 2;
           repeated double c = 3 [packed = false]; repeated M d = 4; repeated E e = 5; }"#,
    );
    let bytes = [
        member(1, 2, &[1, 2, 3]),
        member(1, 0, &[4]),
        member(2, 2, b""),
        member(2, 2, b"x"),
        member(3, 2, &[0; 16]),
        member(4, 2, &member(1, 0, &[2])),
        member(5, 2, &[0, 1]),
    ];
    let inner = json!({"a": [1], "b": [], "c": [], "d": [], "e": []});
    let expected = json!({"a": [-1, 1, -2, 2], "b": ["", "x"], "c": [0.0, 0.0], "d": [inner], "e": ["A", "B"]});
    assert_eq!(shown(&lists, &bytes.concat()), expected);
    let maps = compile(
        r#"syntax = "proto3"; import "google/protobuf/timestamp.proto"; enum E { A = 0; B = 1; } message M {
            map<string, uint64> a = 1; map<int32, string> b = 2; map<uint64, E> c = 3; map<bool, M> d = 4;
            map<sint64, google.protobuf.Timestamp> e = 5; map<fixed32, bytes> f = 6;
        }"#,
    );
    let entry = |number: u64, key: Vec<u8>, value: Vec<u8>| member(number, 2, &[key, value].concat());
    let bytes = [
        entry(1, member(1, 2, b"y"), member(2, 0, &[1])),
        entry(1, member(1, 2, b"x"), member(2, 0, &varint(u64::MAX))),
        // Written twice: the later one. The value before the key, and something that no entry has.
        entry(1, member(2, 0, &[3]), [member(1, 2, b"y"), member(9, 0, &[1])].concat()),
        entry(2, member(1, 0, &varint(u64::MAX)), member(2, 2, b"minus")),
        entry(3, member(1, 0, &varint(u64::MAX)), member(2, 0, &[1])),
        // Neither key nor value: the defaults.
        entry(4, vec![], vec![]),
        entry(5, member(1, 0, &zigzag(-5)), member(2, 2, &member(1, 0, &[1]))),
        entry(6, member(1, 5, &[7, 0, 0, 0]), member(2, 2, &[1])),
    ];
    let empty = json!({"a": {}, "b": {}, "c": {}, "d": {}, "e": {}, "f": {}});
    let expected = json!({
        "a": {"x": u64::MAX, "y": 3}, "b": {"-1": "minus"}, "c": {"18446744073709551615": "B"}, "d": {"false": empty},
        "e": {"-5": "1970-01-01T00:00:01Z"}, "f": {"7": "0x01"},
    });
    assert_eq!(shown(&maps, &bytes.concat()), expected);
}

#[test]
fn messages_that_stand_for_one_value_are_that_value() {
    let messages = compile(
        r#"syntax = "proto3"; import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
        import "google/protobuf/duration.proto"; import "google/protobuf/struct.proto"; import "confluent/type/decimal.proto";
        message M {
            google.protobuf.Timestamp t = 1; confluent.type.Decimal d = 2; google.protobuf.Duration u = 3; google.protobuf.Value v = 4;
            google.protobuf.DoubleValue a = 5; google.protobuf.FloatValue b = 6; google.protobuf.Int32Value c = 7;
            google.protobuf.UInt32Value e = 8; google.protobuf.UInt64Value f = 9; google.protobuf.BoolValue g = 10;
            google.protobuf.StringValue h = 11; google.protobuf.BytesValue i = 12; repeated google.protobuf.StringValue j = 13;
        }"#,
    );
    let one = |number: u64, bytes: &[u8]| {
        let Datum::Object(members) = read(&messages, &member(number, 2, bytes)).unwrap() else { panic!() };
        members
            .into_iter()
            .map(|(_, datum)| datum)
            .find(|datum| !matches!(datum, Datum::Null | Datum::List(_)))
            .unwrap()
    };
    let seconds = |seconds: i64| member(1, 0, &varint(seconds.cast_unsigned()));
    let nanos = |nanos: i32| member(2, 0, &varint(i64::from(nanos).cast_unsigned()));
    assert_eq!(one(1, &[]), Datum::Time(0));
    assert_eq!(one(1, &[seconds(2), nanos(1999)].concat()), Datum::Time(2_000_001));
    // Before 1970 the nanoseconds still count forward.
    assert_eq!(one(1, &[seconds(-1), nanos(999_999_999)].concat()), Datum::Time(-1));
    for wrong in [
        seconds(i64::MAX),
        seconds(i64::MIN),
        seconds(253_402_300_800),
        [seconds(i64::MIN / 1_000_000), nanos(-1)].concat(),
    ] {
        assert!(matches!(one(1, &wrong), Datum::Wrong(_)), "{wrong:?}");
    }
    let decimal = |bytes: &[u8], scale: i32| {
        [member(1, 2, bytes), member(3, 0, &varint(i64::from(scale).cast_unsigned()))].concat()
    };
    assert_eq!(one(2, &decimal(&[0xff, 0x6a], 2)), Datum::Decimal("-1.50".to_string()));
    assert_eq!(one(2, &decimal(&[7], -1)), Datum::Decimal("70".to_string()));
    assert_eq!(one(2, &[]), Datum::Decimal("0".to_string()));
    assert!(matches!(one(2, &decimal(&[7], i32::MIN)), Datum::Wrong(_)));
    // A length of time is none of them.
    assert_eq!(one(3, &seconds(7)).shown(), json!({"seconds": 7, "nanos": 0}));
    assert_eq!(one(4, &member(3, 2, b"x")).shown()["string_value"], json!("x"));
    assert_eq!(one(5, &member(1, 1, &0.5_f64.to_le_bytes())), Datum::Float(0.5));
    assert_eq!(one(6, &member(1, 5, &0.5_f32.to_le_bytes())), Datum::Float(0.5));
    assert_eq!(one(7, &seconds(-7)), Datum::Int(-7));
    assert_eq!(one(8, &seconds(7)), Datum::Int(7));
    assert_eq!(one(9, &seconds(-1)), Datum::Large(u64::MAX));
    assert_eq!(one(10, &seconds(1)), Datum::Bool(true));
    assert_eq!(one(11, &member(1, 2, b"x")), Datum::Text("x".to_string()));
    assert_eq!(one(12, &[]), Datum::Bytes(vec![]));
    let two = [member(13, 2, &member(1, 2, b"x")), member(13, 2, &[])].concat();
    assert_eq!(shown(&messages, &two)["j"], json!(["x", ""]));
}

#[test]
fn fields_that_a_schema_does_not_know_are_passed_over() {
    let messages = compile(r#"syntax = "proto3"; message M { int32 a = 1; reserved 2; M m = 3; }"#);
    let unknown = [
        member(2, 0, &[1]),
        member(4, 1, &[0; 8]),
        member(5, 2, b"text"),
        member(6, 5, &[0; 4]),
        // A group with another one in it.
        vec![0x3b, 0x08, 1, 0x43, 0x44, 0x3c],
        member(536_870_911, 0, &[1]),
    ]
    .concat();
    let inner = json!({"a": 0, "m": null});
    let bytes = [unknown.clone(), member(1, 0, &[7]), unknown.clone(), member(3, 2, &unknown)].concat();
    assert_eq!(shown(&messages, &bytes), json!({"a": 7, "m": inner}));
}

#[test]
fn bytes_that_are_no_message_are_told() {
    let messages = compile(SCALARS);
    for (bytes, part) in [
        (vec![0xff], "not a message M"),
        (vec![8], "not a message M"),
        (member(14, 2, &[0xff]), "not a message M"),
        (vec![14 << 3 | 2, 5, b'x'], "not a message M"),
        (member(1, 2, &[1]), "not a message M"),
        (member(1, 0, &[0xff; 11]), "not a message M"),
        (vec![0x0b], "not a message M"),
        (vec![0x3c], "not a message M"),
        (vec![0, 0], "not a message M"),
        (vec![0x0e, 0], "not a message M"),
    ] {
        let error = read(&messages, &bytes).unwrap_err();
        assert!(error.contains(part), "{bytes:?}: {error}");
    }
    let node = compile(r#"syntax = "proto3"; message N { N n = 1; map<int32, N> m = 2; }"#);
    let nested = |depth: usize| (0..depth).fold(vec![], |inner: Vec<u8>, _| member(1, 2, &inner));
    assert!(read(&node, &nested(64)).is_ok());
    assert!(read(&node, &nested(65)).unwrap_err().contains("nested deeper than 64 levels"));
    assert!(read(&node, &nested(5000)).unwrap_err().contains("recursion limit"));
    // Groups that no schema knows, each in the one before it.
    assert!(read(&node, &vec![0x1b; 1 << 20]).unwrap_err().contains("recursion limit"));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        numbers in (any::<i32>(), any::<i64>(), any::<u32>(), any::<u64>()), signed in any::<i64>(), text in ".{0,50}",
        bytes in prop::collection::vec(any::<u8>(), 0..50), list in prop::collection::vec(any::<i64>(), 0..20),
    ) {
        let messages = compile(r#"syntax = "proto3"; message M { int32 a = 1; int64 b = 2; fixed32 c = 3; uint64 d = 4; sint64 e = 5;
            string f = 6; bytes g = 7; repeated sint64 h = 8; }"#);
        let (a, b, c, d) = numbers;
        let packed: Vec<u8> = list.iter().flat_map(|number| zigzag(*number)).collect();
        let written = [
            member(1, 0, &varint(i64::from(a).cast_unsigned())), member(2, 0, &varint(b.cast_unsigned())), member(3, 5, &c.to_le_bytes()),
            member(4, 0, &varint(d)), member(5, 0, &zigzag(signed)), member(6, 2, text.as_bytes()), member(7, 2, &bytes), member(8, 2, &packed),
        ].concat();
        let members = [
            ("a", Datum::Int(a.into())), ("b", Datum::Int(b)), ("c", Datum::Int(c.into())), ("d", Datum::unsigned(d)),
            ("e", Datum::Int(signed)), ("f", Datum::Text(text)), ("g", Datum::Bytes(bytes)),
            ("h", Datum::List(list.into_iter().map(Datum::Int).collect())),
        ];
        let members = members.map(|(name, datum)| (name.to_string(), datum)).to_vec();
        prop_assert_eq!(read(&messages, &written), Ok(Datum::Object(members)));
    }

    #[test]
    fn wrong_bytes_never_stop_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let messages = compile(r#"syntax = "proto3"; import "google/protobuf/timestamp.proto"; import "confluent/type/decimal.proto";
            message M { map<string, M> a = 1; repeated M b = 2; google.protobuf.Timestamp c = 3; confluent.type.Decimal d = 4;
            repeated double e = 5; map<sint64, bytes> f = 6; oneof o { string g = 7; M h = 8; } repeated bool i = 9; }"#);
        let _ = read(&messages, &bytes);
        // Each of its bytes as a key of the wire, so that most are members.
        let keyed: Vec<u8> = bytes.iter().flat_map(|byte| [8 + byte % 72, byte / 64]).collect();
        let _ = read(&messages, &keyed);
        let _ = messages.read(&bytes);
    }
}
