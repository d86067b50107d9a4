//! Values written out by hand: the oracle's own check.

use super::*;

fn amounts(amounts: &[Option<f64>]) -> Vec<Row> {
    let row = |(index, amount): (usize, &Option<f64>)| {
        let mut values = vec![Value::Null; COLUMNS.len()];
        values[0] = amount.map_or(Value::Null, Value::Float);
        values[1] = Value::Float(amount.unwrap_or(0.0));
        values[3] = amount.map_or(Value::Null, |amount| Value::Int(amount as i64));
        Row { time: index as i64, origin: Position { partition: 0, offset: index as u64 }, values, flags: 0 }
    };
    amounts.iter().enumerate().map(row).collect()
}

fn one(op: AggregateOp, of: Option<&str>, rows: &[Row]) -> Outcome {
    outcomes(&[definition("a", op, of, "forever")], rows, 3, 100, false).remove(0)
}

fn float(number: f64) -> Outcome {
    Outcome::Value(Value::Float(number))
}

fn list(values: &[Value]) -> Value {
    Value::List(values.into())
}

#[test]
fn the_table_of_empty_windows() {
    let empty = |op: AggregateOp, of| one(op, of, &[]);
    assert_eq!(empty(AggregateOp::Count, None), Outcome::Empty(Value::Int(0)));
    assert_eq!(empty(AggregateOp::Sum, Some("quantity")), Outcome::Empty(Value::Int(0)));
    assert_eq!(empty(AggregateOp::Sum, Some("amount")), Outcome::Empty(Value::Float(0.0)));
    for op in [AggregateOp::Avg, AggregateOp::Min, AggregateOp::Max, AggregateOp::Variance { sample: true }] {
        assert_eq!(empty(op, Some("amount")), Outcome::Empty(Value::Null));
    }
    assert_eq!(empty(AggregateOp::Last { dropnull: false }, Some("amount")), Outcome::Empty(Value::Null));
    let last_k = AggregateOp::LastK { k: 3, dedup: false, dropnull: false };
    assert_eq!(empty(last_k, Some("amount")), Outcome::Empty(list(&[])));
    assert_eq!(empty(AggregateOp::CountDistinct { approx: false }, Some("shop")), Outcome::Empty(Value::Int(0)));
    let decay = AggregateOp::ExpDecaySum { half_life: "1h".to_string() };
    assert_eq!(empty(decay, Some("amount")), Outcome::Empty(Value::Float(0.0)));
}

#[test]
fn rows_of_nulls_are_an_empty_window_except_where_nulls_are_kept() {
    let rows = amounts(&[None, None]);
    assert_eq!(one(AggregateOp::Count, None, &rows), Outcome::Value(Value::Int(2)));
    assert_eq!(one(AggregateOp::Count, Some("amount"), &rows), Outcome::Empty(Value::Int(0)));
    assert_eq!(one(AggregateOp::Sum, Some("amount"), &rows), Outcome::Empty(Value::Float(0.0)));
    assert_eq!(one(AggregateOp::Last { dropnull: false }, Some("amount"), &rows), Outcome::Value(Value::Null));
    assert_eq!(one(AggregateOp::Last { dropnull: true }, Some("amount"), &rows), Outcome::Empty(Value::Null));
    let last_k = AggregateOp::LastK { k: 3, dedup: true, dropnull: false };
    assert_eq!(one(last_k, Some("amount"), &rows), Outcome::Value(list(&[Value::Null])));
}

#[test]
fn sums_and_averages() {
    let rows = amounts(&[Some(0.1); 10]);
    assert_eq!(one(AggregateOp::Sum, Some("amount"), &rows), float(1.0));
    assert_eq!(one(AggregateOp::Avg, Some("amount"), &rows), float(0.1));
    let rows = amounts(&[Some(1e308), Some(1e308), None]);
    assert_eq!(one(AggregateOp::Avg, Some("amount"), &rows), float(1e308));
    assert!(matches!(one(AggregateOp::Sum, Some("amount"), &rows), Outcome::Error(_)));
    // 1e308 becomes the greatest int.
    let Outcome::Error(reason) = one(AggregateOp::Sum, Some("quantity"), &rows) else { panic!("not an error") };
    assert_eq!(reason, "the sum 18446744073709551614 is beyond a 64-bit int");
    assert_eq!(one(AggregateOp::Avg, Some("quantity"), &rows), float(9223372036854775807.0));
}

#[test]
fn spread() {
    let rows = amounts(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].map(Some));
    for of in ["amount", "quantity"] {
        assert_eq!(one(AggregateOp::Variance { sample: false }, Some(of), &rows), float(4.0));
        assert_eq!(one(AggregateOp::Stddev { sample: false }, Some(of), &rows), float(2.0));
        assert_eq!(one(AggregateOp::Variance { sample: true }, Some(of), &rows), float(32.0 / 7.0));
        assert_eq!(one(AggregateOp::Stddev { sample: true }, Some(of), &rows[..1]), Outcome::Value(Value::Null));
        assert_eq!(one(AggregateOp::Stddev { sample: false }, Some(of), &rows[..1]), float(0.0));
    }
}

#[test]
fn percentiles() {
    let rows = amounts(&[3.0, 1.0, 2.0, 2.0].map(Some));
    let percentile = |pct| one(AggregateOp::ApproxPercentile { pct }, Some("amount"), &rows);
    assert_eq!(percentile(None), float(0.5));
    assert_eq!(percentile(Some(0.0)), float(1.0));
    assert_eq!(percentile(Some(25.0)), float(1.0));
    assert_eq!(percentile(Some(26.0)), float(2.0));
    assert_eq!(percentile(Some(75.0)), float(2.0));
    assert_eq!(percentile(Some(100.0)), float(3.0));
}

#[test]
fn edges_and_their_ties() {
    let mut rows = amounts(&[Some(1.0), Some(2.0), Some(1.0), None]);
    rows[1].time = 0;
    rows[1].origin.partition = 1;
    let values = |numbers: &[Option<f64>]| {
        list(&numbers.iter().map(|number| number.map_or(Value::Null, Value::Float)).collect::<Vec<_>>())
    };
    let k = |op| one(op, Some("amount"), &rows);
    // Of two at one instant the one of the lower partition came first.
    assert_eq!(k(AggregateOp::First { dropnull: false }), float(1.0));
    let newest = values(&[None, Some(1.0), Some(2.0), Some(1.0)]);
    assert_eq!(k(AggregateOp::LastK { k: 9, dedup: false, dropnull: false }), Outcome::Value(newest));
    let newest = values(&[None, Some(1.0)]);
    assert_eq!(k(AggregateOp::LastK { k: 2, dedup: true, dropnull: false }), Outcome::Value(newest));
    let oldest = values(&[Some(1.0), Some(2.0)]);
    assert_eq!(k(AggregateOp::FirstK { k: 2, dedup: true, dropnull: true }), Outcome::Value(oldest));
}

#[test]
fn most_frequent_first_and_ties_by_value() {
    let rows = amounts(&[3.0, 1.0, 2.0, 2.0].map(Some));
    let entry = |value: i64, count: i64| {
        Value::Map(BTreeMap::from([("value".into(), Value::Int(value)), ("count".into(), Value::Int(count))]).into())
    };
    let wanted = list(&[entry(2, 2), entry(1, 1)]);
    assert_eq!(one(AggregateOp::TopK { k: 2 }, Some("quantity"), &rows), Outcome::Value(wanted));
    let distinct = one(AggregateOp::CountDistinct { approx: false }, Some("quantity"), &rows);
    assert_eq!(distinct, Outcome::Value(Value::Int(3)));
}

#[test]
fn decay_halves_with_each_half_life() {
    let mut rows = amounts(&[Some(8.0), Some(1.0)]);
    rows[1].time = 2_000_000;
    let decay = definition("a", AggregateOp::ExpDecaySum { half_life: "1s".to_string() }, Some("amount"), "forever");
    let at = |at| outcomes(std::slice::from_ref(&decay), &rows, 1, at, false).remove(0);
    assert_eq!(at(1_000_000), float(4.0));
    assert_eq!(at(2_000_000), float(3.0));
    assert_eq!(at(1_100_000_000), float(3.0 * 2f64.powi(-549) * 2f64.powi(-549)));
    assert_eq!(at(i64::MAX), float(0.0));
}

#[test]
fn minus_zero_is_zero() {
    let mut rows = amounts(&[Some(0.0), Some(1.0), Some(-1.0)]);
    rows[0].values[0] = Value::float(-0.0).unwrap();
    for op in [AggregateOp::Sum, AggregateOp::Avg] {
        assert_eq!(one(op, Some("amount"), &rows), float(0.0));
    }
    assert_eq!(one(AggregateOp::Min, Some("amount"), &rows[..1]), float(0.0));
}
