//! Every form of the same rows gives the same bytes; bad rows are told apart, one by one, and the good ones stay.

mod decimals;

use super::{EncodedRows, Ids, RejectedRow, RowEncoder, RowSchema};
use arrow_array::builder::*;
use arrow_array::types::Int32Type;
use arrow_array::*;
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema, TimeUnit};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::record::{EventId, Record, decode_row, encode_row};
use thyme_core::schema::{DataType, Field};
use thyme_core::{Decimal, Value, key};

const APPENDED: i64 = 1_700_000_000_000_000;
const CALL: Ids = Ids::Call { call: 7, first_row: 10 };

fn field(name: &str, data_type: &str, nullable: bool) -> Field {
    let data_type = DataType::parse(data_type).unwrap();
    let (key, timestamp) = (name == "user_id" || name == "shop", name == "ts");
    Field { name: name.to_string(), data_type, nullable, key, timestamp, description: String::new() }
}

fn schema() -> RowSchema {
    RowSchema {
        dataset: "Order".to_string(),
        fields: vec![
            field("shop", "int", false),
            field("user_id", "str", false),
            field("ts", "datetime", false),
            field("amount", "float", false),
            field("count", "int", true),
            field("paid", "bool", true),
            field("raw", "bytes", true),
            field("seen", "datetime", true),
            field("tags", "list[str]", true),
            field("scores", "dict[str, float]", true),
            field("price", "Decimal", true),
        ],
        key_columns: vec![1, 0],
        time_column: 2,
        partitions: 4,
    }
}

type Row = BTreeMap<String, Value>;

fn optional(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 3 => value]
}

fn time() -> impl Strategy<Value = Value> {
    (-62_135_596_800_000_000i64..253_402_300_799_999_999).prop_map(Value::Time)
}

/// Any row, good or bad: keys, timestamps and amounts may be null, amounts are finite (a value cannot hold others).
fn row() -> impl Strategy<Value = Row> {
    let amount = any::<f64>().prop_map(|number| Value::float(number).unwrap_or_default());
    let scores = proptest::collection::btree_map("[a-c]{0,2}", -1e3f64..1e3, 0..3).prop_map(|entries| {
        let entries: BTreeMap<Arc<str>, Value> =
            entries.into_iter().map(|(name, number)| (Arc::from(name), Value::Float(number + 0.0))).collect();
        Value::Map(Arc::new(entries))
    });
    let price = (any::<i64>(), 0u32..19).prop_map(|(number, zeros)| {
        Value::Decimal(Decimal::from_units(i128::from(number) * 10i128.pow(zeros)).unwrap())
    });
    let tags = proptest::collection::vec(optional("[a-z]{0,3}".prop_map(Value::str)), 0..3);
    (
        optional(any::<i64>().prop_map(Value::Int)),
        optional("[\\x00a-c]{0,3}".prop_map(Value::str)),
        optional(time()),
        amount,
        optional(any::<i64>().prop_map(Value::Int)),
        optional(any::<bool>().prop_map(Value::Bool)),
        optional(proptest::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| Value::Bytes(bytes.into()))),
        optional(time()),
        optional(tags.prop_map(|items| Value::List(items.into()))),
        optional(scores),
        optional(price),
    )
        .prop_map(|(shop, user_id, ts, amount, count, paid, raw, seen, tags, scores, price)| {
            let values = [shop, user_id, ts, amount, count, paid, raw, seen, tags, scores, price];
            schema().fields.iter().map(|field| field.name.clone()).zip(values).collect()
        })
}

/// A row with nothing optional; its amount is its shop.
fn plain(user: &str, shop: i64, ts: i64) -> Row {
    let mut row: Row = schema().field_names().map(|name| (name.to_string(), Value::Null)).collect();
    row.insert("user_id".into(), Value::str(user));
    row.insert("shop".into(), Value::Int(shop));
    row.insert("ts".into(), Value::Time(ts));
    row.insert("amount".into(), Value::Float(shop as f64));
    row
}

fn column<T>(rows: &[Row], name: &str, read: impl Fn(&Value) -> T) -> Vec<Option<T>> {
    rows.iter().map(|row| Some(&row[name]).filter(|value| !value.is_null()).map(&read)).collect()
}

fn as_batch(rows: &[Row]) -> RecordBatch {
    let ints = |name| Int64Array::from(column(rows, name, |value| value.as_int().unwrap()));
    let times = |name| {
        TimestampMicrosecondArray::from(column(rows, name, |value| match value {
            Value::Time(micros) => *micros,
            _ => panic!(),
        }))
    };
    let text = StringArray::from(column(rows, "user_id", |value| value.as_str().unwrap().to_string()));
    let amounts = Float64Array::from(column(rows, "amount", |value| match value {
        Value::Float(number) => *number,
        _ => panic!(),
    }));
    let flags = BooleanArray::from(column(rows, "paid", |value| *value == Value::Bool(true)));
    let bytes = column(rows, "raw", |value| match value {
        Value::Bytes(bytes) => bytes.to_vec(),
        _ => panic!(),
    });
    let mut tags = ListBuilder::new(StringBuilder::new());
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut scores = MapBuilder::new(Some(names), StringBuilder::new(), Float64Builder::new());
    for row in rows {
        if let Value::List(items) = &row["tags"] {
            items.iter().for_each(|item| tags.values().append_option(item.as_str()));
        }
        tags.append(!row["tags"].is_null());
        if let Value::Map(entries) = &row["scores"] {
            for (name, score) in entries.iter() {
                scores.keys().append_value(name);
                scores.values().append_value(if let Value::Float(score) = score { *score } else { panic!() });
            }
        }
        scores.append(!row["scores"].is_null()).unwrap();
    }
    let prices = Decimal128Array::from(column(rows, "price", |value| match value {
        Value::Decimal(number) => number.units(),
        _ => panic!(),
    }));
    let columns: [(&str, ArrayRef); 11] = [
        ("price", Arc::new(prices.with_precision_and_scale(38, 18).unwrap())),
        ("scores", Arc::new(scores.finish())),
        ("shop", Arc::new(ints("shop"))),
        ("user_id", Arc::new(text)),
        ("ts", Arc::new(times("ts"))),
        ("amount", Arc::new(amounts)),
        ("count", Arc::new(ints("count"))),
        ("paid", Arc::new(flags)),
        ("raw", Arc::new(BinaryArray::from_iter(bytes))),
        ("seen", Arc::new(times("seen").with_timezone("UTC"))),
        ("tags", Arc::new(tags.finish())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

fn encode(ids: Ids, add: impl FnOnce(&mut RowEncoder<'_>)) -> EncodedRows {
    let schema = schema();
    let mut encoder = RowEncoder::new(&schema, APPENDED, ids);
    add(&mut encoder);
    encoder.finish()
}

fn from_values(ids: Ids, rows: &[Row]) -> EncodedRows {
    encode(ids, |encoder| rows.iter().for_each(|row| encoder.named(Ok(row.clone()), None)))
}

fn from_arrow(batch: &RecordBatch) -> EncodedRows {
    encode(CALL, |encoder| encoder.arrow(batch, None, &[]).unwrap())
}

fn reasons(rejected: &[RejectedRow]) -> Vec<(u64, &str)> {
    rejected.iter().map(|row| (row.index, row.reason.as_str())).collect()
}

proptest! {
    #[test]
    fn every_form_gives_the_same_records(rows in proptest::collection::vec(row(), 0..12)) {
        let expected = from_values(CALL, &rows);
        let arrow = from_arrow(&as_batch(&rows));
        let json = encode(CALL, |encoder| {
            for row in &rows {
                encoder.json(&row.iter().map(|(name, value)| (name.clone(), value.to_json())).collect(), None);
            }
        });
        let columns = encode(CALL, |encoder| {
            let names: Vec<String> = schema().field_names().map(str::to_string).collect();
            let column = |name: String| (name.clone(), rows.iter().map(|row| Ok(row[&name].clone())).collect());
            encoder.columns(names.into_iter().map(column).collect(), &[]).unwrap();
        });
        for (form, encoded) in [("arrow", &arrow), ("json", &json), ("columns", &columns)] {
            prop_assert_eq!(&encoded.partitions, &expected.partitions, "{}", form);
            prop_assert_eq!(reasons(&encoded.rejected), reasons(&expected.rejected), "{}", form);
        }
        prop_assert_eq!(expected.accepted + expected.rejected.len() as u64, rows.len() as u64);
    }

    #[test]
    fn a_record_says_what_the_row_said(rows in proptest::collection::vec(row(), 0..12)) {
        let schema = schema();
        let types: Vec<DataType> = schema.fields.iter().map(|field| field.data_type.clone()).collect();
        let encoded = from_values(CALL, &rows);
        let refused: Vec<u64> = encoded.rejected.iter().map(|row| row.index).collect();
        let mut waiting: Vec<std::slice::Iter<'_, _>> = encoded.partitions.iter().map(|records| records.iter()).collect();
        for (index, row) in rows.iter().enumerate() {
            let must_have = ["shop", "user_id", "ts", "amount"];
            prop_assert_eq!(refused.contains(&(index as u64)), must_have.iter().any(|name| row[*name].is_null()));
            if refused.contains(&(index as u64)) {
                continue;
            }
            let log_key = key::encode_key(&[row["user_id"].clone(), row["shop"].clone()]).unwrap();
            let record = waiting[usize::from(key::partition(&log_key, 4))].next().unwrap();
            prop_assert_eq!(&record.key[..], &log_key[..]);
            let values: Vec<Value> = schema.field_names().map(|name| row[name].clone()).collect();
            let mut bytes = Vec::new();
            encode_row(&values, &mut bytes);
            let Value::Time(event_time) = row["ts"] else { panic!() };
            let id = EventId::Call { call: 7, row: 10 + index as u32 };
            let expected = Record::Event { append_time: APPENDED, event_time, id, row: &bytes };
            prop_assert_eq!(Record::decode(&record.value).unwrap(), expected);
            prop_assert_eq!(decode_row(&bytes, &types, None).unwrap(), values);
        }
    }
}

fn good() -> serde_json::Value {
    json!({"user_id": "u", "shop": 1, "ts": "2024-01-15T12:00:00Z", "amount": 2})
}

#[test]
fn each_bad_row_is_told_why_and_the_good_ones_stay() {
    let with = |name: &str, value: serde_json::Value| {
        let mut row = good();
        row[name] = value;
        row
    };
    let cases = [
        (good(), None),
        (with("user_id", json!(null)), Some("the key field 'user_id' is missing or null")),
        (json!({"user_id": "u", "shop": 1, "amount": 2}), Some("the timestamp field 'ts' is missing or null")),
        (
            with("amount", json!(null)),
            Some("the field 'amount' is missing or null (hint: declare it Optional[float] to allow null)"),
        ),
        (with("amount", json!("2")), Some("'amount': expected float, got the text '2'")),
        (with("count", json!(1.5)), Some("'count': expected int, got 1.5")),
        (with("shop", json!("1")), Some("'shop': expected int, got the text '1'")),
        (with("amuont", json!(1)), Some("unknown field 'amuont' of dataset 'Order' (hint: did you mean 'amount'?)")),
        (
            with("ts", json!("yesterday")),
            Some("'ts': not a time: 'yesterday' (hint: write ISO-8601 in UTC, for example 2024-01-15T12:00:00Z)"),
        ),
        (json!([1]), Some("expected an object with the row's fields")),
        (with("count", json!(5)), None),
    ];
    let encoded = encode(Ids::None, |encoder| cases.iter().for_each(|(row, _)| encoder.json(row, None)));
    let expected: Vec<(u64, &str)> =
        cases.iter().enumerate().filter_map(|(index, (_, reason))| reason.map(|text| (index as u64, text))).collect();
    assert_eq!(reasons(&encoded.rejected), expected);
    assert_eq!(encoded.rejected[3].field.as_deref(), Some("amount"));
    assert_eq!(encoded.accepted, 2);
    let sent: Vec<_> = encoded.partitions.iter().flatten().collect();
    assert_eq!(sent.len(), 2);
    assert!(matches!(Record::decode(&sent[0].value), Ok(Record::Event { id: EventId::None, .. })));
}

#[test]
fn nan_and_out_of_range_are_rejected_in_every_typed_form() {
    let mut rows: Vec<Row> = [0, i64::MAX, 5].map(|micros| plain("u", 1, micros)).to_vec();
    let batch = as_batch(&rows);
    let amounts: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 1.0, -0.0]));
    let at = batch.schema().index_of("amount").unwrap();
    let mut columns = batch.columns().to_vec();
    columns[at] = amounts;
    let encoded = from_arrow(&RecordBatch::try_new(batch.schema(), columns).unwrap());
    assert_eq!(
        reasons(&encoded.rejected),
        [
            (0, "'amount': NaN is not a value"),
            (
                1,
                "'ts': a datetime out of range: 9223372036854775807 microseconds since 1970 (hint: years 1 to 9999 are supported)"
            )
        ]
    );
    rows[2].insert("amount".into(), Value::Float(0.0));
    let values = encode(CALL, |encoder| {
        for (index, row) in rows.iter().enumerate() {
            let nan = thyme_core::Error::invalid("NaN is not a value");
            encoder.named(if index == 0 { Err(nan) } else { Ok(row.clone()) }, None);
        }
    });
    assert_eq!(values.partitions, encoded.partitions, "minus zero is zero");
    assert_eq!(values.rejected[1].reason, encoded.rejected[1].reason);
}

#[test]
fn arrow_columns_of_kindred_types_are_read() {
    let rows = [("a", 1i64, 1_500_000_000_000_000i64), ("b", 2, -1_500_000)];
    let expected = rows.map(|(user, shop, ts)| plain(user, shop, ts));
    let expected = from_values(CALL, &expected);
    let users: [ArrayRef; 3] = [
        Arc::new(LargeStringArray::from(vec!["a", "b"])),
        Arc::new(StringViewArray::from(vec!["a", "b"])),
        Arc::new(DictionaryArray::<Int32Type>::from_iter(["a", "b"])),
    ];
    let shops: [ArrayRef; 3] = [
        Arc::new(Int16Array::from(vec![1, 2])),
        Arc::new(UInt64Array::from(vec![1, 2])),
        Arc::new(UInt8Array::from(vec![1, 2])),
    ];
    let times: [ArrayRef; 3] = [
        Arc::new(TimestampNanosecondArray::from(vec![1_500_000_000_000_000_999, -1_499_999_001]).with_timezone("UTC")),
        Arc::new(TimestampMillisecondArray::from(vec![1_500_000_000_000, -1500])),
        Arc::new(StringArray::from(vec!["2017-07-14T02:40:00Z", "1969-12-31T23:59:58.5"])),
    ];
    let amounts: [ArrayRef; 3] = [
        Arc::new(Int32Array::from(vec![1, 2])),
        Arc::new(Float32Array::from(vec![1.0, 2.0])),
        Arc::new(Float64Array::from(vec![1.0, 2.0])),
    ];
    for index in 0..3 {
        let columns = [
            ("user_id", users[index].clone()),
            ("shop", shops[index].clone()),
            ("ts", times[index].clone()),
            ("amount", amounts[index].clone()),
            ("scores", Arc::new(NullArray::new(2)) as ArrayRef),
        ];
        let encoded = from_arrow(&RecordBatch::try_from_iter(columns).unwrap());
        assert_eq!(encoded.partitions, expected.partitions, "{index}");
    }
}

#[test]
fn a_struct_is_a_dict_and_a_slice_is_its_rows() {
    let scores = StructArray::from(vec![
        (
            Arc::new(ArrowField::new("x", ArrowType::Int64, true)),
            Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef,
        ),
        (
            Arc::new(ArrowField::new("y", ArrowType::Float64, true)),
            Arc::new(Float64Array::from(vec![0.5, 1.5])) as ArrayRef,
        ),
    ]);
    let columns: [(&str, ArrayRef); 5] = [
        ("user_id", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("shop", Arc::new(Int64Array::from(vec![1, 2]))),
        ("ts", Arc::new(TimestampSecondArray::from(vec![1, 2]))),
        ("amount", Arc::new(Float64Array::from(vec![1.0, 2.0]))),
        ("scores", Arc::new(scores)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap().slice(1, 1);
    let encoded = from_arrow(&batch);
    let json = json!({"user_id": "b", "shop": 2, "ts": "1970-01-01T00:00:02Z", "amount": 2, "scores": {"y": 1.5}});
    assert_eq!(encoded.partitions, encode(CALL, |encoder| encoder.json(&json, None)).partitions);
}

#[test]
fn a_batch_that_does_not_fit_is_refused_as_a_whole() {
    let base = as_batch(&[]);
    let without = |name: &str| {
        let at = base.schema().index_of(name).unwrap();
        let keep: Vec<usize> = (0..base.num_columns()).filter(|column| *column != at).collect();
        base.project(&keep).unwrap()
    };
    let with = |name: &str, array: ArrayRef| {
        let mut fields: Vec<_> = base.schema().fields().iter().cloned().collect();
        let mut columns = base.columns().to_vec();
        let field = Arc::new(ArrowField::new(name, array.data_type().clone(), true));
        match base.schema().index_of(name) {
            Ok(at) => {
                fields[at] = field;
                columns[at] = array;
            }
            Err(_) => {
                fields.push(field);
                columns.push(array);
            }
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    };
    let none: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
    let times: ArrayRef = new_empty_array(&ArrowType::Time64(TimeUnit::Microsecond));
    let floats: ArrayRef = Arc::new(Float64Array::from(Vec::<f64>::new()));
    let cases = [
        (without("amount"), "missing column 'amount' (float) of dataset 'Order'"),
        (without("ts"), "missing column 'ts' (datetime) of dataset 'Order'"),
        (with("amuont", none.clone()), "unknown column 'amuont' of dataset 'Order'"),
        (with("user_id", none.clone()), "column 'user_id' of dataset 'Order': expected str, got Arrow type Int64"),
        (with("price", floats.clone()), "column 'price' of dataset 'Order': expected Decimal, got Arrow type Float64"),
        (with("count", floats), "column 'count' of dataset 'Order': expected int, got Arrow type Float64"),
        (with("ts", times), "column 'ts' of dataset 'Order': expected datetime, got Arrow type Time64(µs)"),
        (with("ts", none), "column 'ts' of dataset 'Order': expected datetime, got Arrow type Int64"),
    ];
    let schema = schema();
    for (batch, message) in cases {
        let error = RowEncoder::new(&schema, 0, CALL).arrow(&batch, None, &[]).unwrap_err();
        assert_eq!(error.message(), message);
        assert!(error.field_name().is_some());
    }
    assert!(RowEncoder::new(&schema, 0, CALL).arrow(&without("count"), None, &[]).is_ok());
}

#[test]
fn event_ids_come_from_the_caller_or_the_call() {
    let columns: [(&str, ArrayRef); 5] = [
        ("user_id", Arc::new(StringArray::from(vec!["a", "a", "a", "a"]))),
        ("shop", Arc::new(Int64Array::from(vec![1, 1, 1, 1]))),
        ("ts", Arc::new(TimestampSecondArray::from(vec![1, 2, 3, 4]))),
        ("amount", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0, 4.0]))),
        ("id", Arc::new(StringArray::from(vec![Some("x1"), None, Some(""), Some("x4")]))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    let encoded = encode(CALL, |encoder| encoder.arrow(&batch, Some("id"), &[]).unwrap());
    assert_eq!(
        reasons(&encoded.rejected),
        [(1, "the event id is null"), (2, "an event id has 1 to 256 bytes, this one has 0")]
    );
    let ids: Vec<EventId> = encoded
        .partitions
        .iter()
        .flatten()
        .map(|record| match Record::decode(&record.value).unwrap() {
            Record::Event { id, .. } => id,
            _ => panic!(),
        })
        .collect();
    let given = |text: &str| EventId::Given(text.as_bytes().into());
    assert_eq!(ids, [given("x1"), given("x4")]);
    let schema = schema();
    let fields_only = batch.project(&[0, 1, 2, 3]).unwrap();
    let error = RowEncoder::new(&schema, 0, CALL).arrow(&fields_only, Some("di"), &[]).unwrap_err();
    assert_eq!(error.message(), "no column 'di' for the event ids");
    let last = Ids::Call { call: 1, first_row: u32::MAX };
    let encoded = encode(last, |encoder| (0..2).for_each(|_| encoder.json(&good(), None)));
    assert_eq!(reasons(&encoded.rejected), [(1, "a call holds at most 4294967295 rows (hint: begin another call)")]);
}
