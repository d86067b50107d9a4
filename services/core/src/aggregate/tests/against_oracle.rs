//! Every operator equals the naive oracle, whatever the split, at random times and at the edges of windows.

use super::oracle::{OracleEvent, expected};
use super::*;
use crate::decimal::Decimal;
use crate::testing::cases;
use proptest::prelude::*;

fn text(text: &str) -> Value {
    Value::str(text)
}

fn or_null(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop_oneof![4 => value, 1 => Just(Value::Null)].boxed()
}

fn amount() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-500i64..500).prop_map(|cents| Value::Float(cents as f64 / 100.0)),
        prop::sample::select(vec![0.0, -0.0, 1e300, -1e300, 5e-324, 1e-310, 0.1, 3.0])
            .prop_map(|number| Value::float(number).unwrap()),
    ]
}

fn huge() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![f64::MAX, f64::MIN, 1e308, 1.0, -1.0, 5e-324]).prop_map(Value::Float)
}

fn quantity() -> impl Strategy<Value = Value> {
    prop_oneof![4 => -5i64..5, 1 => prop::sample::select(vec![i64::MAX, i64::MIN, i64::MAX - 1])].prop_map(Value::Int)
}

/// Cents, the finest, the largest, and two that are one and the same as floats.
fn fee() -> impl Strategy<Value = Value> {
    let edges = [
        "99999999999999999999.999999999999999999",
        "-99999999999999999999.999999999999999999",
        "0.000000000000000001",
        "0.1",
        "12345678901234567.123456789012345678",
        "12345678901234567.123456789012345679",
    ];
    prop_oneof![
        4 => (-500i128..500).prop_map(|cents| Decimal::from_units(cents * 10i128.pow(16)).unwrap()),
        1 => prop::sample::select(edges.to_vec()).prop_map(|text| Decimal::parse(text).unwrap()),
    ]
    .prop_map(Value::Decimal)
}

fn row() -> impl Strategy<Value = (Micros, Vec<Value>, u8)> {
    let time = prop_oneof![4 => -20i64..20, 1 => -30_000_000i64..30_000_000];
    let values = (
        or_null(amount()),
        amount(),
        or_null(huge()),
        or_null(quantity()),
        quantity(),
        or_null(prop::sample::select(vec!["", "a", "ab", "b", "Ä"]).prop_map(text)),
        or_null((-3i64..3).prop_map(Value::Time)),
        or_null(any::<bool>().prop_map(Value::Bool)),
        or_null(fee()),
    )
        .prop_map(|(a, b, c, d, e, f, g, h, i)| vec![a, b, c, d, e, f, g, h, i]);
    (time, values, 0u8..4)
}

/// Rows in any order, each at a log position of its own.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((row(), 0u16..3), 0..30).prop_flat_map(|rows| {
        let placed = rows.into_iter().enumerate().map(|(offset, ((time, values, flags), partition))| Row {
            time,
            origin: Position { partition, offset: offset as u64 },
            values,
            flags,
        });
        Just(placed.collect::<Vec<Row>>()).prop_shuffle()
    })
}

fn k() -> impl Strategy<Value = u32> {
    prop_oneof![1u32..5, Just(100)]
}

/// An operator with a column that it takes.
fn operator() -> impl Strategy<Value = (AggregateOp, Option<&'static str>)> {
    let any_column = || prop::sample::select(COLUMNS).prop_map(|(name, _, _)| Some(name));
    let number = || prop::sample::select(vec!["amount", "price", "huge", "quantity", "units", "fee"]).prop_map(Some);
    let ordered = prop::sample::select(vec!["amount", "price", "quantity", "shop", "paid_at", "fee"]).prop_map(Some);
    let pct = prop_oneof![Just(None), prop::sample::select(vec![0.0, 1.5, 25.0, 50.0, 99.9, 100.0]).prop_map(Some)];
    let half_life = prop::sample::select(vec!["1s", "7s", "1d"]).prop_map(str::to_string);
    prop_oneof![
        prop_oneof![Just(None), any_column()].prop_map(|of| (AggregateOp::Count, of)),
        (prop::sample::select(vec![AggregateOp::Sum, AggregateOp::Avg]), number()),
        (prop::sample::select(vec![AggregateOp::Min, AggregateOp::Max]), ordered),
        (pct.prop_map(|pct| AggregateOp::ApproxPercentile { pct }), number()),
        (any::<bool>().prop_map(|dropnull| AggregateOp::Last { dropnull }), any_column()),
        (any::<bool>().prop_map(|dropnull| AggregateOp::First { dropnull }), any_column()),
        (
            (k(), any::<bool>(), any::<bool>()).prop_map(|(k, dedup, dropnull)| AggregateOp::LastK {
                k,
                dedup,
                dropnull
            }),
            any_column()
        ),
        (
            (k(), any::<bool>(), any::<bool>()).prop_map(|(k, dedup, dropnull)| AggregateOp::FirstK {
                k,
                dedup,
                dropnull
            }),
            any_column()
        ),
        (any::<bool>().prop_map(|sample| AggregateOp::Stddev { sample }), number()),
        (any::<bool>().prop_map(|sample| AggregateOp::Variance { sample }), number()),
        (any::<bool>().prop_map(|approx| AggregateOp::CountDistinct { approx }), any_column()),
        (k().prop_map(|k| AggregateOp::TopK { k }), any_column()),
        (
            half_life.prop_map(|half_life| AggregateOp::ExpDecaySum { half_life }),
            // The oracle adds naively in f64, where the huge ones would overflow on the way.
            prop::sample::select(vec!["amount", "price", "quantity", "fee"]).prop_map(Some)
        ),
    ]
}

fn definitions() -> impl Strategy<Value = Vec<AggregateDef>> {
    let one = (operator(), prop::sample::select(vec!["1s", "20s", "forever"]), prop::option::of(0usize..2));
    let named = |index: usize, (op, of), window: &str, predicate: Option<usize>| {
        let predicate = predicate.map(|index| predicates()[index].clone());
        AggregateDef { predicate, ..definition(&format!("a{index}"), op, of, window) }
    };
    prop::collection::vec(one, 1..12).prop_map(move |list| {
        let list = list.into_iter().enumerate();
        list.map(|(index, (operator, window, predicate))| named(index, operator, window, predicate)).collect()
    })
}

/// The outcome that the oracle expects of each definition.
fn check(definitions: &[AggregateDef], rows: &[Row], split: usize, at: Micros, exclusive: bool) {
    let actual = outcomes(definitions, rows, split, at, exclusive);
    for (definition, actual) in definitions.iter().zip(actual) {
        let of = definition.of.as_deref();
        let of_type = of.map(|name| &COLUMNS.iter().find(|(column, _, _)| *column == name).unwrap().1);
        let seen = |row: &Row| OracleEvent {
            time: row.time,
            origin: row.origin,
            value: of.map_or(Value::Null, |name| row.value(name)),
            counts: definition.predicate.as_ref().is_none_or(|predicate| row.fulfils(predicate)),
        };
        let events: Vec<OracleEvent> = rows.iter().map(seen).collect();
        let expected = expected(definition, of_type, &events, at, exclusive);
        assert!(expected.agrees(&actual), "{definition:?} at {at}: expected {expected:?}, got {actual:?}\n{events:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1_200, 10_000)))]

    #[test]
    fn outcomes_equal_the_oracle(
        definitions in definitions(),
        rows in rows(),
        split in 1usize..9,
        at in prop_oneof![-25i64..25, -40_000_000i64..40_000_000],
        edge in 0usize..30,
        exclusive: bool,
    ) {
        check(&definitions, &rows, split, at, exclusive);
        // At both edges of the windows of one event, -1, 0 and +1 microseconds.
        if let Some(row) = rows.get(edge) {
            for length in [0, 1_000_000, 20_000_000] {
                for step in -1..=1 {
                    check(&definitions, &rows, split, row.time + length + step, exclusive);
                }
            }
        }
    }

    #[test]
    fn sketches_stay_within_their_error(quantities in prop::collection::vec(0i64..2_000, 0..3_000), split in 1usize..500) {
        let row = |(offset, quantity): (usize, &i64)| {
            let mut values = vec![Value::Null; COLUMNS.len()];
            values[3] = Value::Int(*quantity);
            Row { time: 0, origin: Position { partition: 0, offset: offset as u64 }, values, flags: 0 }
        };
        let rows: Vec<Row> = quantities.iter().enumerate().map(row).collect();
        let approx = AggregateOp::CountDistinct { approx: true };
        check(&[definition("a", approx, Some("quantity"), "1h")], &rows, split, 0, false);
    }

    #[test]
    fn results_have_the_planned_type(definitions in definitions(), rows in rows(), at in -25i64..25) {
        let plan = TablePlan::compile(&definitions, &columns()).unwrap();
        for (output, outcome) in plan.outputs.iter().zip(outcomes(&definitions, &rows, 4, at, false)) {
            match outcome {
                Outcome::Value(value) => {
                    prop_assert!(value.has_type(&output.result_type), "{value:?} {output:?}");
                    prop_assert!(output.nullable || !value.is_null(), "{output:?}");
                }
                Outcome::Empty(value) => prop_assert_eq!(&value, &output.empty),
                Outcome::Error(reason) => prop_assert!(!reason.is_empty()),
            }
        }
    }
}
