//! Values of a format as fields of each type.

use super::field;
use crate::kafka::datum::Datum;
use crate::kafka::decimal::decimal;
use serde_json::{Value as Json, json};
use thyme_core::Value;

/// A record with this one member as a dataset with this one field.
fn as_field(datum: &Datum, data_type: &str) -> Result<Value, String> {
    let record = Datum::Object(vec![("f".to_string(), datum.clone())]);
    let values = record.values(&[field("f", data_type, true)]);
    values.map(|mut values| values.remove(0)).map_err(|error| error.to_string())
}

const TYPES: [&str; 9] = ["bool", "int", "float", "Decimal", "str", "bytes", "datetime", "list[int]", "dict[str, int]"];

#[test]
fn each_kind_of_value_fits_the_fields_that_the_guide_says_and_no_others() {
    let digits = |digits: &str| Datum::Decimal(digits.to_string());
    let time = "1970-01-01T00:00:00.000001Z";
    let cases: Vec<(Datum, Vec<(&str, Json)>)> = vec![
        (Datum::Bool(true), vec![("bool", json!(true))]),
        (Datum::Int(-7), vec![("int", json!(-7)), ("float", json!(-7.0)), ("Decimal", json!("-7"))]),
        (
            Datum::Large(u64::MAX),
            vec![("float", json!(18_446_744_073_709_551_616.0)), ("Decimal", json!("18446744073709551615"))],
        ),
        (Datum::Float(0.5), vec![("float", json!(0.5))]),
        (Datum::Float(f64::NAN), vec![]),
        (Datum::Float(f64::NEG_INFINITY), vec![]),
        (Datum::Text("a".to_string()), vec![("str", json!("a"))]),
        (Datum::Text("1.50".to_string()), vec![("str", json!("1.50")), ("Decimal", json!("1.5"))]),
        (
            Datum::Text("1970-01-01 00:00:00.000001".to_string()),
            vec![("str", json!("1970-01-01 00:00:00.000001")), ("datetime", json!(time))],
        ),
        (Datum::Bytes(vec![1, 2]), vec![("bytes", json!("AQI="))]),
        (Datum::Time(1), vec![("datetime", json!(time))]),
        (digits("7"), vec![("int", json!(7)), ("float", json!(7.0)), ("Decimal", json!("7")), ("str", json!("7"))]),
        (
            digits("-7.00"),
            vec![("int", json!(-7)), ("float", json!(-7.0)), ("Decimal", json!("-7")), ("str", json!("-7.00"))],
        ),
        (digits("7.01"), vec![("float", json!(7.01)), ("Decimal", json!("7.01")), ("str", json!("7.01"))]),
        (digits("1e300"), vec![("float", json!(1e300)), ("str", json!("1e300"))]),
        (
            digits("9223372036854775808"),
            vec![
                ("float", json!(9_223_372_036_854_775_808.0)),
                ("Decimal", json!("9223372036854775808")),
                ("str", json!("9223372036854775808")),
            ],
        ),
        (Datum::List(vec![Datum::Int(1)]), vec![("list[int]", json!([1]))]),
        (Datum::List(vec![]), vec![("list[int]", json!([]))]),
        (Datum::List(vec![Datum::Bool(true)]), vec![]),
        (Datum::Object(vec![("a".to_string(), Datum::Int(1))]), vec![("dict[str, int]", json!({"a": 1}))]),
        (Datum::Object(vec![("a".to_string(), Datum::Float(1.0))]), vec![]),
        (Datum::Wrong("out of range".to_string()), vec![]),
    ];
    for (datum, fitting) in &cases {
        for data_type in TYPES {
            let expected = fitting.iter().find(|(fits, _)| *fits == data_type).map(|(_, json)| json);
            let found = as_field(datum, data_type).map(|value| value.to_json());
            assert_eq!(found.as_ref().ok(), expected, "{datum:?} as {data_type}: {found:?}");
        }
    }
    for data_type in TYPES {
        assert_eq!(as_field(&Datum::Null, data_type), Ok(Value::Null));
    }
}

#[test]
fn what_does_not_fit_is_told_with_its_field() {
    let object = |datum| Datum::Object(vec![("a".to_string(), datum)]);
    for (datum, data_type, part) in [
        (Datum::Text("7".to_string()), "int", "field 'f': expected int, got \"7\""),
        (Datum::Float(f64::NAN), "float", "field 'f': expected float, got NaN"),
        (Datum::Int(1_700_000_000), "datetime", "expected datetime, got 1700000000 (hint: a number says no unit"),
        (Datum::Bytes(vec![0; 9]), "str", "expected str, got 9 bytes"),
        (Datum::Text("soon".to_string()), "datetime", "not a time: 'soon'"),
        (Datum::Wrong("a time is out of range: 7".to_string()), "datetime", "field 'f': a time is out of range: 7"),
        (Datum::Large(u64::MAX), "int", "expected int, got 18446744073709551615"),
        (Datum::List(vec![]), "int", "expected int, got a list"),
        (Datum::Float(0.5), "Decimal", "field 'f': expected Decimal, got 0.5"),
        (
            Datum::Decimal("100000000000000000000.0".to_string()),
            "Decimal",
            "field 'f': 100000000000000000000.0 has 21 digits before the point, a Decimal at most 20",
        ),
        (object(Datum::Int(1)), "int", "expected int, got a record"),
        (object(Datum::Bool(true)), "dict[str, int]", "field 'f': 'a': expected int, got true"),
    ] {
        let error = as_field(&datum, data_type).unwrap_err();
        assert!(error.contains(part), "{datum:?}: {error}");
    }
    let error = Datum::Object(vec![]).values(&[field("f", "int", false)]).unwrap_err();
    assert_eq!((error.message(), error.field_name()), ("no field 'f'", Some("f")));
    let null = Datum::Object(vec![("f".to_string(), Datum::Null)]).values(&[field("f", "int", false)]).unwrap_err();
    assert!(null.to_string().contains("Optional[int]"), "{null}");
    let typo = Datum::Object(vec![("amuont".to_string(), Datum::Int(1))]).values(&[field("amount", "int", false)]);
    assert!(typo.unwrap_err().to_string().contains("did you mean 'amuont'?"));
    assert!(Datum::Int(1).values(&[field("f", "int", true)]).is_err());
}

#[test]
fn what_can_be_read_of_a_wrong_record_is_kept() {
    let record = Datum::Object(vec![
        ("id".to_string(), Datum::Int(7)),
        ("ts".to_string(), Datum::Wrong("out of range".to_string())),
        ("other".to_string(), Datum::Wrong("nobody asks".to_string())),
    ]);
    let fields = [field("id", "int", false), field("ts", "datetime", false), field("note", "str", true)];
    assert!(record.values(&fields).is_err());
    assert_eq!(record.readable(&fields), [Value::Int(7), Value::Null, Value::Null]);
    assert_eq!(record.values(&fields[..1]).unwrap(), [Value::Int(7)]);
    assert_eq!(Datum::Int(7).readable(&fields), []);
}

#[test]
fn decimals_are_exact() {
    for (bytes, scale, digits) in [
        (&[][..], 0, "0"),
        (&[], 2, "0.00"),
        (&[0], 2, "0.00"),
        (&[0], -2, "0"),
        (&[7], 0, "7"),
        (&[7], 1, "0.7"),
        (&[7], -2, "700"),
        (&[0xff], 0, "-1"),
        (&[0xff], 2, "-0.01"),
        (&[0xff], -1, "-10"),
        (&[0x80], 0, "-128"),
        (&[0x00, 0x80], 1, "12.8"),
        (&[0xff, 0xff, 0x80], 1, "-12.8"),
        (&[0x80, 0, 0, 0, 0, 0, 0, 0], 0, "-9223372036854775808"),
        // Longer than 128 bits.
        (&[0x7f; 17], 0, "43385334562092358133808765634594698395519"),
    ] {
        assert_eq!(decimal(bytes, scale), Datum::Decimal(digits.to_string()), "{bytes:?} {scale}");
    }
    for (bytes, scale) in [(&[1; 65][..], 0), (&[1], 257), (&[1], -257), (&[1], i64::MIN)] {
        assert!(matches!(decimal(bytes, scale), Datum::Wrong(_)), "{scale}");
    }
    assert!(matches!(decimal(&[0x80; 64], 256), Datum::Decimal(_)));
}

#[test]
fn times_are_floored_and_have_limits() {
    for (units, per_second, time) in [
        (-1, 1_000_000_000, Some(-1)),
        (1999, 1_000_000_000, Some(1)),
        (7, 1000, Some(7000)),
        (-7, 1_000_000, Some(-7)),
        (253_402_300_799, 1, Some(253_402_300_799_000_000)),
        (253_402_300_800, 1, None),
        (-62_135_596_800, 1, Some(-62_135_596_800_000_000)),
        (-62_135_596_801, 1, None),
        (i64::MAX, 1000, None),
        (i64::MIN, 1000, None),
    ] {
        let expected = |read: &Datum| time.map_or(matches!(read, Datum::Wrong(_)), |time| *read == Datum::Time(time));
        let read = Datum::time(units, per_second);
        assert!(expected(&read), "{units}: {read:?}");
    }
}
