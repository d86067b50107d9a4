use super::*;
use proptest::prelude::*;

fn layout(columns: Vec<DataType>, predicates: u16) -> TableLayout {
    TableLayout { columns, predicates, partials: Vec::new(), kept: None }
}

fn round_trip(layout: &TableLayout, time: i64, values: &[Value], predicates: u64) -> usize {
    let mut bytes = Vec::new();
    encode(layout, time, values, predicates, &mut bytes).unwrap();
    let mut rest = bytes.as_slice();
    skip(layout, &mut rest).unwrap();
    assert!(rest.is_empty());
    let mut rest = bytes.as_slice();
    let mut back = vec![Value::Null; values.len()];
    let found = decode(layout, time, &mut rest, &vec![true; values.len()], &mut back).unwrap();
    assert!(rest.is_empty());
    assert_eq!((back.as_slice(), found), (values, predicates));
    bytes.len()
}

#[test]
fn every_type_round_trips() {
    let mut map = BTreeMap::new();
    map.insert(Arc::from("a"), Value::Float(1.5));
    map.insert(Arc::from("b"), Value::Null);
    let columns = vec![
        DataType::Bool,
        DataType::Int,
        DataType::Float,
        DataType::Str,
        DataType::Bytes,
        DataType::Time,
        DataType::List(Box::new(DataType::Int)),
        DataType::Map(Box::new(DataType::Float)),
        DataType::Decimal,
    ];
    let layout = layout(columns, 64);
    let values = vec![
        Value::Bool(true),
        Value::Int(i64::MIN),
        Value::Float(0.1 + 0.2),
        Value::str("text"),
        Value::Bytes(vec![0u8, 1].into()),
        Value::Time(i64::MIN),
        Value::List(vec![Value::Int(1), Value::Null].into()),
        Value::Map(Arc::new(map)),
        Value::Decimal(Decimal::parse("-99999999999999999999.999999999999999999").unwrap()),
    ];
    round_trip(&layout, i64::MAX, &values, u64::MAX);
    round_trip(&layout, 0, &vec![Value::Null; 9], 1 << 63);
    let masked = {
        let mut bytes = Vec::new();
        encode(&layout, 0, &values, 5, &mut bytes).unwrap();
        let mut wanted = vec![false; 9];
        wanted[3] = true;
        let mut back = vec![Value::Null; 9];
        assert_eq!(decode(&layout, 0, &mut bytes.as_slice(), &wanted, &mut back).unwrap(), 5);
        back
    };
    assert_eq!(masked[3], Value::str("text"));
    assert!(masked[1].is_null());
}

#[test]
fn amounts_are_small_and_other_floats_keep_their_bits() {
    let layout = layout(vec![DataType::Float], 1);
    assert_eq!(round_trip(&layout, 0, &[Value::Float(12.34)], 0), 3);
    assert_eq!(round_trip(&layout, 0, &[Value::Float(1.0 / 3.0)], 0), 10);
    let decimals = self::layout(vec![DataType::Decimal], 1);
    for (text, length) in [("0", 3), ("12.34", 4), ("-12.3456", 5), ("1000000", 5)] {
        assert_eq!(round_trip(&decimals, 0, &[Value::Decimal(Decimal::parse(text).unwrap())], 0), length, "{text}");
    }
    for number in [0.0, -0.01, 5e-324, f64::MAX, f64::MIN, 1e300, 45_035_996_273_704.95, 45_035_996_273_704.97, 9e15] {
        round_trip(&layout, 0, &[Value::Float(number)], 0);
    }
}

proptest! {
    #[test]
    fn a_raw_table_grows_and_its_bytes_stay(there in proptest::collection::vec(any::<bool>(), 1..40), more in 0usize..30) {
        let value = |(index, there): (usize, &bool)| if *there { Value::Int(index as i64) } else { Value::Null };
        let before: Vec<Value> = there.iter().enumerate().map(value).collect();
        let mut after = before.clone();
        after.resize(before.len() + more, Value::Null);
        let bytes = |values: &[Value]| {
            let layout = layout(vec![DataType::Int; values.len()], 0);
            round_trip(&layout, 0, values, 0);
            let mut bytes = Vec::new();
            encode(&layout, 0, values, 0, &mut bytes).unwrap();
            bytes
        };
        prop_assert_eq!(bytes(&before), bytes(&after));
    }

    #[test]
    fn any_float_keeps_its_bits(bits: u64) {
        if let Some(value) = Value::float(f64::from_bits(bits)) {
            round_trip(&layout(vec![DataType::Float], 3), 0, &[value], 5);
        }
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        for predicates in [0, 3] {
            let layout = layout(vec![DataType::Str, DataType::List(Box::new(DataType::Str)), DataType::Float], predicates);
            let mut values = vec![Value::Null; 3];
            let _ = skip(&layout, &mut bytes.as_slice());
            let _ = decode(&layout, 0, &mut bytes.as_slice(), &[true; 3], &mut values);
        }
    }
}
