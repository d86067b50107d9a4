//! Rows and records come back as they were written.

use super::*;
use proptest::prelude::*;

fn sample_row() -> (Vec<Value>, Vec<DataType>) {
    let mut map = BTreeMap::new();
    map.insert(Arc::from("a"), Value::Float(1.5));
    let values = vec![
        Value::str("user"),
        Value::Int(-7),
        Value::Null,
        Value::Float(2.5),
        Value::Time(99),
        Value::Bool(true),
        Value::List(vec![Value::Int(1), Value::Null].into()),
        Value::Map(Arc::new(map)),
        Value::Bytes(vec![1u8, 0].into()),
        Value::Decimal(Decimal::parse("-12.5").unwrap()),
    ];
    let types = vec![
        DataType::Str,
        DataType::Int,
        DataType::Str,
        DataType::Float,
        DataType::Time,
        DataType::Bool,
        DataType::List(Box::new(DataType::Int)),
        DataType::Map(Box::new(DataType::Float)),
        DataType::Bytes,
        DataType::Decimal,
    ];
    (values, types)
}

proptest! {
    /// What is checked can be read, in every selection of columns; what cannot be read is not.
    #[test]
    fn a_row_that_is_checked_can_be_read(place: prop::sample::Index, byte: u8, length: prop::sample::Index, wanted: u16) {
        let (values, types) = sample_row();
        let mut bytes = Vec::new();
        encode_row(&values, &mut bytes);
        prop_assert!(check_row(&bytes, &types).is_ok());
        let at = place.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(1 + length.index(bytes.len()));
        let mask: Vec<bool> = (0..types.len()).map(|column| wanted >> column & 1 != 0).collect();
        if check_row(&bytes, &types).is_ok() {
            prop_assert!(decode_row(&bytes, &types, None).is_ok());
            prop_assert!(decode_row(&bytes, &types, Some(&mask)).is_ok());
        } else if let Ok(read) = decode_row(&bytes, &types, None) {
            let is_value = |value: &Value| !matches!(value, Value::Float(number) if !number.is_finite());
            let all = read.iter().all(|value| match value {
                Value::Map(entries) => entries.values().all(is_value),
                value => is_value(value),
            });
            prop_assert!(!all, "{read:?}");
        }
    }
}

#[test]
fn rows_round_trip_and_grow() {
    let (values, mut types) = sample_row();
    let mut bytes = Vec::new();
    encode_row(&values, &mut bytes);
    assert_eq!(decode_row(&bytes, &types, None).unwrap(), values);
    types.push(DataType::Int);
    assert_eq!(decode_row(&bytes, &types, None).unwrap().last(), Some(&Value::Null));
    let mut mask = vec![false; types.len()];
    mask[3] = true;
    let projected = decode_row(&bytes, &types, Some(&mask)).unwrap();
    assert_eq!(projected[3], Value::Float(2.5));
    assert_eq!(projected[0], Value::Null);
}

#[test]
fn records_round_trip() {
    let row = [1u8, 2, 3];
    let records = [
        Record::Event { append_time: 5, event_time: -6, id: EventId::None, row: &row },
        Record::Event { append_time: 5, event_time: 6, id: EventId::Call { call: u128::MAX, row: 70_000 }, row: &row },
        Record::Event { append_time: 5, event_time: 6, id: EventId::Given(b"abc".as_slice().into()), row: &[] },
        Record::Erase { append_time: 9 },
        Record::Routed { append_time: 1, event_time: 2, origin: Position { partition: 3, offset: 1 << 40 }, row: &row },
        Record::Progress {
            append_time: 1,
            partition: 3,
            next_offset: 77,
            max_event_time: i64::MIN,
            covered: Vec::new(),
        },
        Record::Progress {
            append_time: 1,
            partition: 3,
            next_offset: 77,
            max_event_time: 8,
            covered: vec![(0, 1 << 40), (255, 0)],
        },
        Record::Unreadable {
            append_time: 8,
            id: EventId::Given(b"file:7:0".as_slice().into()),
            reason: "line 2: not valid JSON",
            text: b"{\"a\": \xff",
        },
    ];
    for record in records {
        assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    }
}

proptest! {
    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let (_, types) = sample_row();
        let _ = Record::decode(&bytes);
        let _ = decode_row(&bytes, &types, None);
    }
}
