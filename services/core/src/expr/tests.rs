//! Expressions as data: a notation, the value it must have, or the message it must give.

mod decimals;
mod logic;
mod notation;
mod numbers;

use super::{ColumnType, Columns, Scope, Warnings, bind, check};
use crate::decimal::Decimal;
use crate::schema::DataType;
use crate::time::parse_time;
use crate::value::Value;
use notation::parse;

/// The columns of the row that all tables use: name, type, nullable, value.
fn columns() -> Vec<(&'static str, &'static str, bool, Value)> {
    let time = |text| Value::Time(parse_time(text).unwrap());
    vec![
        ("i", "int", false, Value::Int(7)),
        ("neg", "int", false, Value::Int(-7)),
        ("max", "int", false, Value::Int(i64::MAX)),
        ("min", "int", false, Value::Int(i64::MIN)),
        ("n", "int", true, Value::Null),
        ("f", "float", false, Value::Float(2.5)),
        ("s", "str", false, Value::str(" Héllo ")),
        ("none", "str", true, Value::Null),
        ("j", "str", false, Value::str(r#"{"a": {"b": [1, {"c d": "x"}], "t": true, "z": null}, "n": 1.50}"#)),
        ("b", "bool", false, Value::Bool(true)),
        ("u", "bool", true, Value::Null),
        ("t", "datetime", false, time("2024-02-29T13:45:10.5Z")),
        ("old", "datetime", false, time("1969-12-31T23:59:59.999999Z")),
        ("l", "list[int]", false, Value::List(vec![Value::Int(1), Value::Int(2)].into())),
        ("y", "bytes", false, Value::Bytes(b"ab".as_slice().into())),
        ("p", "Decimal", false, Value::Decimal(Decimal::parse("-12.75").unwrap())),
        ("pmax", "Decimal", false, Value::Decimal(Decimal::parse("99999999999999999999.5").unwrap())),
        ("pn", "Decimal", true, Value::Null),
    ]
}

fn scope() -> Scope {
    let mut scope = Scope::default();
    for (index, (name, data_type, nullable, _)) in columns().into_iter().enumerate() {
        let data_type = DataType::parse(data_type).unwrap();
        scope.add_row_column(name, index, ColumnType { data_type, nullable });
    }
    scope
}

/// `type value`, then ` !kind` for each kind of warning; or the error.
fn outcome(text: &str) -> String {
    let expr = parse(text);
    let (bound, column_type) = match bind(&expr, &scope()) {
        Ok(bound) => bound,
        Err(error) => return error.to_string(),
    };
    let row: Vec<Value> = columns().into_iter().map(|(_, _, _, value)| value).collect();
    let mut warnings = Warnings::default();
    let value = bound.eval(&row, &[], &mut warnings).into_owned();
    assert!(value.has_type(&column_type.data_type), "{text} has type {} but is {value:?}", column_type.data_type);
    assert!(column_type.nullable || !value.is_null(), "{text} is null, but its type is not nullable");
    let kinds = warnings.counts().into_iter().filter(|(_, count)| *count > 0).map(|(kind, _)| format!(" !{kind}"));
    format!("{} {}{}", column_type.data_type, value.to_json(), kinds.collect::<String>())
}

fn check_all(table: &[(&str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .map(|(text, expected)| (text, outcome(text), expected))
        .filter(|(_, found, expected)| found != *expected)
        .map(|(text, found, expected)| format!("{text}\n  expected {expected}\n  found    {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn arithmetic() {
    check_all(&[
        ("(add i 1)", "int 8"),
        ("(add i 0.5)", "float 7.5"),
        ("(sub i n)", "int null"),
        ("(add max 1)", "int null !overflow"),
        ("(sub min 1)", "int null !overflow"),
        ("(mul max 2)", "int null !overflow"),
        ("(neg min)", "int null !overflow"),
        ("(abs min)", "int null !overflow"),
        ("(abs neg)", "int 7"),
        ("(div i 2)", "float 3.5"),
        ("(div i 0)", "float null !division_by_zero"),
        ("(div f 0.0)", "float null !division_by_zero"),
        ("(div i n)", "float null"),
        ("(floordiv neg 2)", "int -4"),
        ("(floordiv i -2)", "int -4"),
        ("(mod neg 2)", "int 1"),
        ("(mod i -2)", "int -1"),
        ("(floordiv i 0)", "int null !division_by_zero"),
        ("(mod i 0)", "int null !division_by_zero"),
        ("(floordiv min -1)", "int null !overflow"),
        ("(mod min -1)", "int 0"),
        ("(floordiv -2.5 1)", "float -3.0"),
        ("(mod -2.5 1)", "float 0.5"),
        ("(mod 2.5 0.0)", "float null !division_by_zero"),
        ("(mul 0.0 neg)", "float 0.0"),
        ("(neg 0.0)", "float 0.0"),
        ("(mul 1e308.0 10)", "unknown column '1e308.0' (hint: allowed: b, f, i, j, l, max, min, n, neg, none, …)"),
        ("(exp 1000)", "float null !not_finite"),
        ("(log 0)", "float null !not_finite"),
        ("(sqrt neg)", "float null !not_finite"),
        ("(sqrt 9)", "float 3.0"),
        ("(pow 2 -1)", "float 0.5"),
        ("(pow 2 10)", "float 1024.0"),
        ("(round f)", "float 2.0"),
        ("(round 3.5)", "float 4.0"),
        ("(round 2.675 2)", "float 2.67"),
        ("(round -0.4)", "float 0.0"),
        ("(round i 2)", "int 7"),
        ("(round i i)", "'round' takes a number and the digits to keep, an int literal 0 to 15, got int and int"),
        ("(floor -2.5)", "float -3.0"),
        ("(ceil i)", "int 7"),
        ("(least i f 3)", "float 2.5"),
        ("(greatest i n)", "int null"),
        ("(least s \"A\")", "str \" Héllo \""),
        ("(add i s)", "'add' takes numbers, got int and str"),
        ("(add s s)", "'add' takes numbers, got str and str (hint: join texts with concat)"),
        (
            "(sub t t)",
            "'sub' takes numbers, got datetime and datetime (hint: the time between two datetimes is diff_micros)",
        ),
        ("(add i)", "'add' takes 2 arguments, got 1"),
        ("(add i amuont)", "unknown column 'amuont' (hint: allowed: b, f, i, j, l, max, min, n, neg, none, …)"),
        ("(add nnoe i)", "unknown column 'nnoe' (hint: did you mean 'none'?)"),
    ]);
}

#[test]
fn comparison_and_logic() {
    check_all(&[
        ("(gt i 5)", "bool true"),
        ("(eq i 7.0)", "bool true"),
        ("(lt max 9223372036854775807.0)", "bool true"),
        ("(eq max 9223372036854775807.0)", "bool false"),
        ("(ge f n)", "bool null"),
        ("(eq n null)", "bool null"),
        ("(lt t \"2024-03-01\")", "bool true"),
        ("(lt t \"March\")", "not a time: 'March' (hint: write ISO-8601 in UTC, for example 2024-01-15T12:00:00Z)"),
        ("(eq l l)", "bool true"),
        ("(lt l l)", "'lt' takes values that have an order, got list[int] and list[int]"),
        ("(eq i s)", "'eq' takes values of one type, got int and str"),
        ("(and b u)", "bool null"),
        ("(and false u)", "bool false"),
        ("(or b u)", "bool true"),
        ("(or false u)", "bool null"),
        ("(not u)", "bool null"),
        ("(not b)", "bool false"),
        ("(and b i)", "'and' takes bools, got bool and int"),
        ("(and b null)", "bool null"),
        ("(is_null n)", "bool true"),
        ("(is_null i)", "bool false"),
        ("(fill_null n 3)", "int 3"),
        ("(fill_null n 3.5)", "float 3.5"),
        ("(fill_null i 3.5)", "float 7.0"),
        ("(fill_null n \"x\")", "'fill_null' arguments must be of one type, got int and str"),
        ("(fill_null l [])", "list[int] [1,2]"),
        ("(is_in i [1 7])", "bool true"),
        ("(is_in i [1 7.0])", "bool true"),
        ("(is_in i [1 null])", "bool null"),
        ("(is_in n [1])", "bool null"),
        ("(is_in n [])", "bool false"),
        ("(is_in i 1 neg)", "bool false"),
        ("(is_in t [\"2024-02-29T13:45:10.5Z\"])", "bool true"),
        ("(is_in i [\"a\"])", "'is_in' must be of one type, got int and str"),
        ("(when (gt i 5) \"big\" \"small\")", "str \"big\""),
        ("(when u 1 b 2.5 3)", "float 2.5"),
        ("(when u 1 null)", "int null"),
        ("(when b i f)", "float 7.0"),
        ("(when i 1 2)", "'when' takes a bool condition, got int"),
        ("(when b 1 \"x\")", "the branches of 'when' must be of one type, got int and str"),
        ("null", "an expression that is always null has no type (hint: give it a type with a cast, such as to_int)"),
    ]);
}

#[test]
fn text_json_and_casts() {
    check_all(&[
        ("(lower s)", "str \" héllo \""),
        ("(upper (strip s))", "str \"HÉLLO\""),
        ("(length s)", "int 7"),
        ("(length y)", "int 2"),
        ("(length l)", "int 2"),
        ("(length i)", "'length' takes str, bytes, list or dict, got int"),
        ("(lower none)", "str null"),
        ("(lower i)", "'lower' takes str, got int"),
        ("(contains s \"éll\")", "bool true"),
        ("(starts_with s \"H\")", "bool false"),
        ("(ends_with s \" \")", "bool true"),
        ("(replace s \"l\" \"LL\")", "str \" HéLLLLo \""),
        ("(replace s \"l\")", "'replace' takes 3 arguments, got 2"),
        ("(slice s 1 4)", "str \"Héll\""),
        ("(slice s -3)", "str \"lo \""),
        ("(slice s -9 4)", "str \" H\""),
        ("(slice s 99)", "str \"\""),
        ("(concat s \"!\" \"?\")", "str \" Héllo !?\""),
        ("(concat s none)", "str null"),
        ("(json_extract j \"$.a.b[0]\")", "str \"1\""),
        ("(json_extract j \"$.a.b[1]['c d']\")", "str \"x\""),
        ("(json_extract j \"$.a.t\")", "str \"true\""),
        ("(json_extract j \"$.n\")", "str \"1.5\""),
        ("(json_extract j \"$.a.z\")", "str null"),
        ("(json_extract j \"$.a.q.r\")", "str null"),
        ("(json_extract s \"$.a\")", "str null !bad_json"),
        (
            "(json_extract j \"a\")",
            "not a JSON path: 'a' (hint: write $, then .name, [index] or [\"a name\"], such as $.a.b[0])",
        ),
        (
            "(json_extract j s)",
            "'json_extract' takes a str and a path as a literal, such as '$.a.b[0]', got str and str",
        ),
        ("(to_int f)", "int 2"),
        ("(to_int -2.9)", "int -2"),
        ("(to_int 9223372036854775808.0)", "int null !failed_cast"),
        ("(to_int \" 12 \")", "int 12"),
        ("(to_int s)", "int null !failed_cast"),
        ("(to_int b)", "int 1"),
        ("(to_float \"1e3\")", "float 1000.0"),
        ("(to_float \"nan\")", "float null !failed_cast"),
        ("(to_str f)", "str \"2.5\""),
        ("(to_str t)", "str \"2024-02-29T13:45:10.5Z\""),
        ("(to_str y)", "str \"ab\""),
        ("(to_bool \"True\")", "bool true"),
        ("(to_bool i)", "bool true"),
        ("(to_bool s)", "bool null !failed_cast"),
        ("(to_int null)", "int null"),
        (
            "(to_int t)",
            "'to_int' takes bool, int, float, Decimal or str, got datetime (hint: a datetime as a number is epoch_seconds or epoch_micros)",
        ),
    ]);
}

#[test]
fn time_functions() {
    check_all(&[
        ("(year t)", "int 2024"),
        ("(month t)", "int 2"),
        ("(day t)", "int 29"),
        ("(hour t)", "int 13"),
        ("(minute t)", "int 45"),
        ("(second t)", "int 10"),
        ("(day_of_week t)", "int 4"),
        ("(day_of_year t)", "int 60"),
        ("(day_of_week @2024-03-03)", "int 7"),
        ("(day_of_year @2023-12-31)", "int 365"),
        ("(day_of_year @2024-12-31)", "int 366"),
        ("(year old)", "int 1969"),
        ("(second old)", "int 59"),
        ("(hour old)", "int 23"),
        ("(day_of_week old)", "int 3"),
        ("(epoch_seconds old)", "int -1"),
        ("(epoch_micros old)", "int -1"),
        ("(truncate t \"1h\")", "datetime \"2024-02-29T13:00:00Z\""),
        ("(truncate old \"1d\")", "datetime \"1969-12-31T00:00:00Z\""),
        ("(add_duration t \"1d12h\")", "datetime \"2024-03-02T01:45:10.5Z\""),
        ("(sub_duration t \"90s\")", "datetime \"2024-02-29T13:43:40.5Z\""),
        (
            "(add_duration t \"1month\")",
            "not a length: '1month' (hint: write one or more <integer><unit> with units s m h d w, such as 90s or 1d12h)",
        ),
        ("(truncate t i)", "'truncate' takes a datetime and a length as a literal, such as '1h', got datetime and int"),
        ("(diff_micros t old)", "int 1709214310500001"),
        ("(hour i)", "'hour' takes a datetime, got int"),
    ]);
}

/// The date functions against an independent calendar, over the years that it knows.
#[test]
fn dates_agree_with_a_calendar() {
    let mut scope = Scope::default();
    scope.add_row_column("t", 0, ColumnType { data_type: DataType::Time, nullable: false });
    let names = ["(year t)", "(month t)", "(day t)", "(day_of_year t)", "(day_of_week t)"];
    let bound: Vec<_> = names.iter().map(|name| bind(&parse(name), &scope).unwrap().0).collect();
    for day in (-500_000i64..500_000).step_by(37) {
        let row = [Value::Time(day * 86_400_000_000 + 12_345)];
        let found: Vec<i64> =
            bound.iter().map(|expr| expr.eval(&row, &[], &mut Warnings::default()).as_int().unwrap()).collect();
        let date =
            jiff::Timestamp::from_microsecond(day * 86_400_000_000).unwrap().to_zoned(jiff::tz::TimeZone::UTC).date();
        let expected = [
            i64::from(date.year()),
            i64::from(date.month()),
            i64::from(date.day()),
            i64::from(date.day_of_year()),
            i64::from(date.weekday().to_monday_one_offset()),
        ];
        assert_eq!(found, expected, "{date}");
    }
}

#[test]
fn check_agrees_with_bind() {
    let columns: Columns = columns()
        .into_iter()
        .map(|(name, data_type, nullable, _)| {
            (name.to_string(), ColumnType { data_type: DataType::parse(data_type).unwrap(), nullable })
        })
        .collect();
    let found = check(&parse("(fill_null n i)"), &columns).unwrap();
    assert_eq!(found, ColumnType { data_type: DataType::Int, nullable: false });
    let error = check(&parse("(lower nnoe)"), &columns).unwrap_err();
    assert_eq!(error.field_name(), Some("nnoe"));
}
