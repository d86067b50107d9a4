//! Parquet columns of every kind that may fill a field, and of those that may not.

use super::*;
use arrow_array::builder::*;
use arrow_array::types::Int32Type;
use arrow_array::*;
use arrow_cast::cast;
use arrow_schema::{DataType as ArrowType, TimeUnit};
use thyme_core::Decimal;
use thyme_core::schema::DataType;

fn polled(array: ArrayRef, data_type: &str, nullable: bool) -> Result<Poll> {
    let field = Field {
        name: "x".to_string(),
        data_type: DataType::parse(data_type).unwrap(),
        nullable,
        key: false,
        timestamp: false,
        description: String::new(),
    };
    let batch = RecordBatch::try_from_iter([("before", array.clone()), ("x", array)]).unwrap();
    let sample = Sample::new("rows.parquet", parquet_bytes(&batch, 100));
    crate::open(&source_def(&sample.path), &[field]).unwrap().poll(None, 100)
}

fn values(array: ArrayRef, data_type: &str) -> Vec<Value> {
    let poll = polled(array, data_type, true).unwrap();
    assert_eq!(poll.rejected, []);
    poll.rows.into_iter().map(|row| row.values[0].clone()).collect()
}

#[test]
fn numbers_of_every_width_fill_ints_and_floats() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(100)]));
    use ArrowType::*;
    for wide in [Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64] {
        let array = cast(&numbers, &wide).unwrap();
        assert_eq!(values(array.clone(), "int"), [Value::Int(7), Value::Null, Value::Int(100)], "{wide}");
        assert_eq!(values(array, "float"), [Value::Float(7.0), Value::Null, Value::Float(100.0)], "{wide}");
    }
    for wide in [Float32, Float64] {
        let array = cast(&numbers, &wide).unwrap();
        assert_eq!(values(array.clone(), "float")[2], Value::Float(100.0));
        let error = polled(array, "int", true).unwrap_err();
        assert!(error.message().contains("rows.parquet: field 'x': expected int, the column is Float"), "{error}");
    }
}

#[test]
fn decimals_of_every_width_fill_decimals() {
    let decimal = |text: &str| Value::Decimal(Decimal::parse(text).unwrap());
    let array = Decimal128Array::from(vec![Some(1250), None, Some(-7)]).with_precision_and_scale(9, 2).unwrap();
    let narrow: ArrayRef = Arc::new(array);
    let expected = [decimal("12.5"), Value::Null, decimal("-0.07")];
    for (precision, scale) in [(9, 2), (18, 6), (38, 20), (38, 2)] {
        let array = cast(&narrow, &ArrowType::Decimal128(precision, scale)).unwrap();
        assert_eq!(values(array, "Decimal"), expected, "{precision}, {scale}");
    }
    assert_eq!(values(cast(&narrow, &ArrowType::Decimal256(76, 40)).unwrap(), "Decimal"), expected);
    let whole: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    for wide in [ArrowType::Int8, ArrowType::UInt64, ArrowType::Int64] {
        assert_eq!(values(cast(&whole, &wide).unwrap(), "Decimal"), [decimal("7")], "{wide}");
    }
    assert_eq!(values(Arc::new(StringArray::from(vec!["12.50"])), "Decimal"), [decimal("12.5")]);
    let error = polled(Arc::new(Float64Array::from(vec![0.5])), "Decimal", true).unwrap_err();
    assert!(error.message().contains("field 'x': expected Decimal, the column is Float64"), "{error}");
    let wide = Decimal128Array::from(vec![10i128.pow(25), 1]).with_precision_and_scale(38, 0).unwrap();
    let poll = polled(Arc::new(wide), "Decimal", true).unwrap();
    assert_eq!((poll.rows.len(), poll.rejected.len()), (1, 1));
    assert!(
        poll.rejected[0].reason.message().contains("has 26 digits before the point"),
        "{}",
        poll.rejected[0].reason
    );
}

#[test]
fn texts_bytes_and_dictionaries() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("")]));
    let expected = [Value::str("a"), Value::Null, Value::str("")];
    for kind in [ArrowType::Utf8, ArrowType::LargeUtf8, ArrowType::Utf8View] {
        assert_eq!(values(cast(&texts, &kind).unwrap(), "str"), expected);
    }
    let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("")].into_iter().collect();
    assert_eq!(values(Arc::new(dictionary), "str"), expected);
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..]]));
    assert_eq!(values(bytes.clone(), "bytes"), [Value::Bytes(vec![0, 255].into())]);
    assert!(polled(bytes, "str", true).is_err());
}

#[test]
fn times_of_every_unit_are_utc_and_floored() {
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![-1, 1_999]));
    assert_eq!(values(nanos, "datetime"), [Value::Time(-1), Value::Time(1)]);
    let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![5_000_000]).with_timezone("+02:00"));
    assert_eq!(values(micros.clone(), "datetime"), [Value::Time(5_000_000)], "a zone is for display");
    for unit in [TimeUnit::Second, TimeUnit::Millisecond] {
        let array = cast(&micros, &ArrowType::Timestamp(unit, None)).unwrap();
        assert_eq!(values(array, "datetime"), [Value::Time(5_000_000)]);
    }
    let days: ArrayRef = Arc::new(Date32Array::from(vec![1]));
    assert_eq!(values(days, "datetime"), [Value::Time(86_400_000_000)]);
}

#[test]
fn lists_and_maps_hold_nulls() {
    let mut lists = ListBuilder::new(Int32Builder::new());
    lists.append_value([Some(1), None]);
    lists.append_null();
    lists.append_value([Some(3)]);
    let found = values(Arc::new(lists.finish()), "list[int]");
    let list = |items: &[Value]| Value::List(items.into());
    assert_eq!(found, [list(&[Value::Int(1), Value::Null]), Value::Null, list(&[Value::Int(3)])]);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    for (name, number) in [("a", 0.5), ("b", 1.5)] {
        maps.keys().append_value(name);
        maps.values().append_value(number);
        maps.append(true).unwrap();
    }
    let found = values(Arc::new(maps.finish()), "dict[str, float]");
    assert_eq!(found[1], Value::Map(Arc::new([("b".into(), Value::Float(1.5))].into())));
}

#[test]
fn cells_that_are_no_values_are_rejected_with_their_row() {
    let array: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), Some(f64::INFINITY), None]));
    let poll = polled(array.clone(), "float", false).unwrap();
    let reasons = [
        (2, "field 'x': expected float, got NaN"),
        (3, "field 'x': expected float, got inf"),
        (4, "field 'x' is null"),
    ];
    assert_eq!(rejects(&poll), reasons);
    assert_eq!((&poll.rejected[0].place, poll.rejected[2].sample.as_str()), (&Place::Row(2), "x=null"));
    let poll = polled(array, "float", true).unwrap();
    assert_eq!(rejects(&poll), reasons[1..2], "a missing number that a data frame wrote as NaN is null");
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1]));
    assert_eq!(
        rejects(&polled(large, "int", true).unwrap()),
        [(1, "field 'x': expected int, got 18446744073709551615")]
    );
}

#[test]
fn a_file_that_is_no_parquet_or_lacks_a_column_is_an_error() {
    let sample = Sample::new("rows.parquet", "not at all");
    assert!(sample.poll(None).unwrap_err().message().contains("rows.parquet is no Parquet file"));
    let batch = columns(&conformance::rows(0, 3)).project(&[0, 2]).unwrap();
    let error = Sample::new("rows.parquet", parquet_bytes(&batch, 10)).poll(None).unwrap_err();
    assert!(error.message().contains("the file has no column 'ts'"), "{error}");
}
