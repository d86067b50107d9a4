//! Rows that do not fit are reported with place, reason and text, and stop nothing.

use super::*;

const GOOD: &str = "{\"id\": 1, \"ts\": \"2024-01-15T12:00:00Z\"}\n";

#[test]
fn bad_json_lines_are_rejected_and_the_rest_is_read() {
    let bad: [(&str, &str); 14] = [
        ("{\"id\": 1, \"ts\": \"2024", "not valid JSON: EOF while parsing a string"),
        ("{\"id\": 1, \"ts\": \"2024-01-15\"} trailing", "not valid JSON: trailing characters"),
        ("[1, 2]", "not a JSON object"),
        ("{\"ts\": \"2024-01-15\"}", "no field 'id'"),
        ("{\"id\": 1}", "no field 'ts'"),
        ("{\"id\": null, \"ts\": \"2024-01-15\"}", "field 'id' is null"),
        ("{\"id\": 1, \"ts\": null}", "field 'ts' is null"),
        ("{\"id\": 1.0, \"ts\": \"2024-01-15\"}", "field 'id': expected int, got 1.0"),
        ("{\"id\": \"1\", \"ts\": \"2024-01-15\"}", "field 'id': expected int, got the text '1'"),
        ("{\"id\": 1, \"ts\": \"yesterday\"}", "field 'ts': not a time: 'yesterday'"),
        ("{\"id\": 1, \"ts\": \"2024-01-15\", \"amount\": NaN}", "not valid JSON: expected value"),
        ("{\"id\": 1, \"ts\": \"2024-01-15\", \"amount\": 1e999}", "not valid JSON: number out of range"),
        ("{\"id\": 9223372036854775808, \"ts\": \"2024-01-15\"}", "field 'id': expected int, got 9223372036854775808"),
        ("{\"id\": 1, \"ts\": \"2024-01-15\", \"note\": \"\u{1}\"}", "not valid JSON: control character"),
    ];
    let content: String = bad.iter().map(|(line, _)| format!("{GOOD}{line}\n\n")).collect();
    let poll = Sample::new("rows.jsonl", content + GOOD).poll(None).unwrap();
    assert_eq!(poll.rows.len(), bad.len() + 1);
    assert_eq!(poll.rejected.len(), bad.len());
    for (index, (row, (line, reason))) in poll.rejected.iter().zip(bad).enumerate() {
        assert_eq!(row.place, Place::Line(3 * index as u64 + 2));
        assert!(row.reason.message().starts_with(reason), "{} is not about {reason}", row.reason);
        assert_eq!(row.sample, line);
    }
    // What can be read of them: the key of a row that is wrong elsewhere.
    assert_eq!(poll.rejected[0].values, []);
    assert_eq!(poll.rejected[9].values[0], Value::Int(1));
    assert_eq!(poll.rejected[7].values[0], Value::Null);
}

#[test]
fn a_json_integer_is_a_float_where_one_is_declared() {
    let poll = Sample::new("rows.jsonl", "{\"id\": 1, \"ts\": \"2024-01-15\", \"amount\": 7, \"other\": []}\n")
        .poll(None)
        .unwrap();
    assert_eq!(poll.rows[0].values[2], Value::Float(7.0));
    assert_eq!(poll.rows[0].values[3], Value::Null);
}

#[test]
fn a_line_that_is_no_text_is_rejected() {
    let content = [GOOD.as_bytes(), b"{\"id\": \xff}\n", GOOD.as_bytes()].concat();
    let poll = Sample::new("rows.jsonl", content).poll(None).unwrap();
    assert_eq!((poll.rows.len(), &poll.rejected[0].place), (2, &Place::Line(2)));
}

#[test]
fn a_line_beyond_all_measure_is_skipped_in_constant_memory() {
    let long = format!("{{\"id\": 1, \"note\": \"{}\"}}\n", "x".repeat(40 << 20));
    let sample = Sample::new("rows.jsonl", format!("{GOOD}{long}{GOOD}"));
    let whole = sample.poll(None).unwrap();
    assert_eq!((whole.rows.len(), rejects(&whole)), (2, vec![(2, "the line is longer than 16777216 bytes")]));
    assert!(whole.rejected[0].sample.chars().count() <= 201);
    let first = sample.source().poll(None, 2).unwrap();
    assert_eq!((first.rows.len(), first.rejected.len(), first.has_more), (1, 1, true));
    let second = sample.poll(Some(&first)).unwrap();
    assert_eq!((second.rows.clone(), second.rejected.len()), (whole.rows[1..].to_vec(), 0));
    assert_eq!(first.rejected, whole.rejected);
}

#[test]
fn csv_is_read_as_rfc_4180_and_by_declared_type() {
    let content = "\u{feff}note,extra,id,ts,amount,flag\r\n\
                   \"two\nlines, \"\"quoted\"\"\",x,1,2024-01-15,2,true\r\n\
                   ,,2,2024-01-15 12:00:00,,\n\
                   \n\
                   in \"the\" middle,\"\",3,2024-01-15,-0.0,false\n";
    let poll = Sample::new("rows.csv", content).poll(None).unwrap();
    assert_eq!(poll.rejected, []);
    let columns: Vec<&[Value]> = poll.rows.iter().map(|row| &row.values[2..5]).collect();
    assert_eq!(columns[0], [Value::Float(2.0), Value::str("two\nlines, \"quoted\""), Value::Bool(true)]);
    assert_eq!(columns[1], [Value::Null, Value::Null, Value::Null]);
    assert_eq!(columns[2], [Value::Float(0.0), Value::str("in \"the\" middle"), Value::Bool(false)]);
}

#[test]
fn bad_csv_records_are_rejected_and_the_rest_is_read() {
    let bad = [
        ("1", "1 columns where the header has 3"),
        ("1,2024-01-15,1,1", "4 columns where the header has 3"),
        (",2024-01-15,1", "field 'id' is null"),
        ("1.5,2024-01-15,1", "field 'id': expected int, got '1.5'"),
        ("1,soon,1", "field 'ts': not a time: 'soon'"),
        ("1,2024-01-15,nan", "field 'amount': expected float, got 'nan'"),
        ("1,2024-01-15,inf", "field 'amount': expected float, got 'inf'"),
        ("1,\"2024-01-15\"x,1", "a quote stands where none may"),
    ];
    let good = "7,2024-01-15,0.5\n";
    let content: String = bad.iter().map(|(line, _)| format!("{line}\n{good}")).collect();
    let poll = Sample::new("rows.csv", format!("id,ts,amount\n{content}")).poll(None).unwrap();
    assert_eq!(ids(&poll), vec![7; bad.len()]);
    let expected: Vec<(u64, &str)> =
        bad.iter().enumerate().map(|(index, (_, why))| (2 * index as u64 + 2, *why)).collect();
    assert_eq!(rejects(&poll), expected);
    assert_eq!(poll.rejected[0].values, []);
    assert_eq!((&poll.rejected[3].values[0], &poll.rejected[4].values[0]), (&Value::Null, &Value::Int(1)));
}

#[test]
fn a_quote_that_never_closes_costs_one_line() {
    let many = "7,2024-01-15,0.5\n".repeat(100_000);
    let sample = Sample::new("rows.csv", format!("id,ts,note\n1,2024-01-15,\"open\n{many}"));
    let mut source = sample.source();
    let mut poll = source.poll(None, 60_000).unwrap();
    assert_eq!(rejects(&poll), [(2, "a quote stands where none may")]);
    let mut rows = poll.rows.len();
    while poll.has_more {
        poll = source.poll(Some(&poll.cursor), 60_000).unwrap();
        rows += poll.rows.len();
    }
    assert_eq!(rows, 100_000);
}

#[test]
fn a_header_without_a_column_is_an_error_of_the_source() {
    for (header, message) in [
        ("id,tz\n", "the header has no column 'ts'"),
        ("id,ts,id\n", "the header has 2 columns 'id'"),
        ("\"id\"x,ts\n", "the header has a quote where none may stand"),
    ] {
        let error = Sample::new("rows.csv", header).poll(None).unwrap_err();
        assert!(error.message().ends_with(message) && error.message().contains("rows.csv"), "{error}");
    }
    assert_eq!(Sample::new("rows.csv", "").poll(None).unwrap().pending, None);
}
