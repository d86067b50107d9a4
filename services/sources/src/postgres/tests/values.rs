//! Columns as values: types, nulls, decimals, time zones, and values that do not fit.

use super::*;
use thyme_core::Decimal;
use thyme_core::time::parse_time;

fn time(text: &str) -> Value {
    Value::Time(parse_time(text).unwrap())
}

/// One column `x` beside the key, with rows of these SQL literals: the values, the poll.
fn read(column: &str, data_type: &DataType, literals: &[&str]) -> Poll {
    let mut fields = vec![conformance::fields().swap_remove(0)];
    fields.push(field("x", data_type, true));
    let mut table = Table::new(&format!("id bigint PRIMARY KEY, x {column}"), fields, None);
    for (number, literal) in literals.iter().enumerate() {
        table.sql(&format!("INSERT INTO $t VALUES ({number}, {literal})"));
    }
    table.poll(None, 1000).unwrap()
}

#[track_caller]
fn check(column: &str, data_type: &DataType, cases: &[(&str, Value)]) {
    let literals: Vec<&str> = cases.iter().map(|(literal, _)| *literal).chain(["NULL"]).collect();
    let poll = read(column, data_type, &literals);
    assert_eq!(poll.rejected, [], "{column}");
    let found: Vec<Value> = poll.rows.into_iter().map(|row| row.values[1].clone()).collect();
    let expected: Vec<Value> = cases.iter().map(|(_, value)| value.clone()).chain([Value::Null]).collect();
    assert_eq!(found, expected, "{column} as {data_type}");
}

#[test]
fn numbers() {
    check("boolean", &DataType::Bool, &[("true", Value::Bool(true)), ("false", Value::Bool(false))]);
    check("smallint", &DataType::Int, &[("-7", Value::Int(-7))]);
    check("bigint", &DataType::Int, &[("9223372036854775807", Value::Int(i64::MAX))]);
    check("integer", &DataType::Float, &[("12", Value::Float(12.0))]);
    check("double precision", &DataType::Float, &[("0.1", Value::Float(0.1)), ("5e-324", Value::Float(5e-324))]);
    check("real", &DataType::Float, &[("0.1", Value::Float(f64::from(0.1_f32)))]);
    check("numeric(12, 2)", &DataType::Float, &[("1234567.89", Value::Float(1_234_567.89))]);
    check("numeric(12, 2)", &DataType::Str, &[("1.5", Value::str("1.50"))]);
    let decimal = |text: &str| Value::Decimal(Decimal::parse(text).unwrap());
    let edge = "99999999999999999999.999999999999999999";
    check("numeric(12, 2)", &DataType::Decimal, &[("1.5", decimal("1.5")), ("-0.01", decimal("-0.01"))]);
    check("numeric", &DataType::Decimal, &[(edge, decimal(edge)), ("1e3", decimal("1000"))]);
    check("bigint", &DataType::Decimal, &[("9223372036854775807", decimal("9223372036854775807"))]);
    let list = Value::List([decimal(edge), Value::Null].into());
    check("numeric[]", &DataType::List(Box::new(DataType::Decimal)), &[(&format!("ARRAY[{edge}, NULL]"), list)]);
    check("numeric(12, 2)", &DataType::Int, &[("12", Value::Int(12)), ("-3.00", Value::Int(-3))]);
}

#[test]
fn times_are_utc_whatever_the_database_says() {
    let noon = time("2024-07-15T12:00:00.123456Z");
    check(
        "timestamptz",
        &DataType::Time,
        &[("'2024-07-15 12:00:00.123456Z'", noon.clone()), ("'2024-07-15 14:00:00.123456+02'", noon.clone())],
    );
    // Without a zone it is UTC; the database's own zone is New York.
    check("timestamp", &DataType::Time, &[("'2024-07-15 12:00:00.123456'", noon)]);
    check("timestamp", &DataType::Time, &[("'1969-12-31 23:59:59.999999'", Value::Time(-1))]);
    check("date", &DataType::Time, &[("'2024-07-15'", time("2024-07-15T00:00:00Z"))]);
    let list = Value::List([time("2024-07-15T12:00:00Z")].into());
    check(
        "timestamptz[]",
        &DataType::List(Box::new(DataType::Time)),
        &[("ARRAY['2024-07-15 12:00Z'::timestamptz]", list)],
    );
}

#[test]
fn texts_bytes_json_and_arrays() {
    check("text", &DataType::Str, &[("''", Value::str("")), ("'a\n\"b'' ü'", Value::str("a\n\"b' ü"))]);
    check("varchar(5)", &DataType::Str, &[("'abc'", Value::str("abc"))]);
    let uuid = "5f0c2a5e-0000-4000-8000-000000000001";
    check("uuid", &DataType::Str, &[(&format!("'{uuid}'"), Value::str(uuid))]);
    check("jsonb", &DataType::Str, &[("'{\"a\": 1}'", Value::str("{\"a\": 1}"))]);
    check(
        "bytea",
        &DataType::Bytes,
        &[("'\\x00ff10'", Value::Bytes([0, 255, 16].into())), ("''", Value::Bytes([].into()))],
    );
    let ints = DataType::List(Box::new(DataType::Int));
    check(
        "bigint[]",
        &ints,
        &[("'{}'", Value::List([].into())), ("'{1,-2}'", Value::List([Value::Int(1), Value::Int(-2)].into()))],
    );
    let floats = DataType::List(Box::new(DataType::Float));
    let tenth = Value::List([Value::Float(f64::from(0.1_f32))].into());
    check("real[]", &floats, &[("'{0.1}'", tenth)]);
    let nested = Value::List([Value::List([Value::Int(1)].into()), Value::List([Value::Int(2)].into())].into());
    check("integer[]", &DataType::List(Box::new(ints.clone())), &[("'{{1},{2}}'", nested)]);
    check("jsonb", &ints, &[("'[3]'", Value::List([Value::Int(3)].into())), ("'null'", Value::Null)]);
    let map = Value::from_json(&json!({"a": 1}), &DataType::Map(Box::new(DataType::Int))).unwrap();
    check("json", &DataType::Map(Box::new(DataType::Int)), &[("'{\"a\": 1}'", map)]);
}

#[test]
fn what_does_not_fit_goes_to_the_dead_letters_with_its_key() {
    let reasons = |column: &str, data_type: &DataType, literals: &[&str]| {
        let poll = read(column, data_type, literals);
        assert_eq!(poll.rows.len() + poll.rejected.len(), literals.len());
        let told = |row: &crate::RejectedRow| (row.place.to_string(), row.reason.message().to_string());
        poll.rejected.iter().map(told).collect::<Vec<_>>()
    };
    let of = |place: &str, reason: &str| (place.to_string(), reason.to_string());
    assert_eq!(
        reasons("numeric", &DataType::Int, &["1", "1.5", "2"]),
        [of("row id=1", "field 'x': expected int, got '1.5'")]
    );
    let not_a_number = reasons("double precision", &DataType::Float, &["'NaN'", "'Infinity'", "1"]);
    assert_eq!(not_a_number.len(), 2, "{not_a_number:?}");
    assert_eq!(not_a_number[0], of("row id=0", "field 'x': expected float, got 'NaN'"));
    let never =
        reasons("timestamptz", &DataType::Time, &["'infinity'", "'2024-01-15 00:00Z'", "'0044-03-15 00:00Z BC'"]);
    assert_eq!(never.iter().map(|(place, _)| place.as_str()).collect::<Vec<_>>(), ["row id=0", "row id=2"]);
    let poll = read("numeric", &DataType::Int, &["1.5"]);
    assert_eq!(poll.rejected[0].values, [Value::Int(0), Value::Null]);
    assert_eq!(poll.rejected[0].sample, "id=0, x=1.5");
}

#[test]
fn a_column_of_another_type_is_an_error_of_the_whole_source() {
    for (column, data_type) in [
        ("text", DataType::Int),
        ("double precision", DataType::Int),
        ("bigint", DataType::Str),
        ("bigint", DataType::Time),
        ("interval", DataType::Str),
        ("text[]", DataType::List(Box::new(DataType::Int))),
        ("numeric[]", DataType::List(Box::new(DataType::Str))),
        ("bigint[]", DataType::Int),
        ("bytea[]", DataType::List(Box::new(DataType::Bytes))),
    ] {
        let fields = vec![conformance::fields().swap_remove(0), field("x", &data_type, true)];
        let table = Table::new(&format!("id bigint PRIMARY KEY, x {column}"), fields, None);
        let error = table.poll(None, 10).unwrap_err();
        assert!(error.to_string().contains(&format!("is {column}, which is not read as {data_type}")), "{error}");
    }
}
