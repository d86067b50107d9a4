use super::wire::*;
use proptest::prelude::*;
use std::time::Duration;
use thyme_core::Value;
use thyme_core::position::{KnownAt, PositionSet};
use thyme_proto::internal::v1;
use thyme_query::{
    Asking, FeatureValue, LookupPart, LookupPartAnswer, Part, PartAnswer, PartAsking, PartColumn, PartStanding, Status,
};

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(|number| Value::float(number).unwrap_or_default()),
        "[a-c]{0,3}".prop_map(Value::str),
    ];
    let list = prop::collection::vec(scalar.clone(), 0..3).prop_map(|items| Value::List(items.into()));
    prop_oneof![scalar.clone(), scalar, list]
}

fn feature() -> impl Strategy<Value = FeatureValue> {
    prop_oneof![
        4 => value().prop_map(FeatureValue::ok),
        1 => value().prop_map(FeatureValue::default_of),
        1 => "[a-z]{0,4}".prop_map(FeatureValue::error),
    ]
}

fn position() -> impl Strategy<Value = PositionSet> {
    prop::collection::btree_map((0u32..9, 0u16..9), any::<u64>(), 0..4).prop_map(PositionSet)
}

fn standing() -> impl Strategy<Value = PartStanding> {
    let watermark = prop::option::of(prop::option::of(any::<i64>()));
    (position(), watermark).prop_map(|(position, watermark)| PartStanding { position, watermark })
}

/// Times that a text can hold.
fn time() -> impl Strategy<Value = i64> {
    0..4_000_000_000_000_000i64
}

fn place() -> impl Strategy<Value = PartAsking> {
    let known_at =
        prop::option::of(prop_oneof![time().prop_map(KnownAt::AppendTime), position().prop_map(KnownAt::Position)]);
    let slices = prop::collection::btree_set(any::<u16>(), 0..4);
    (slices, known_at, any::<bool>(), prop::option::of(position()), any::<u32>()).prop_map(
        |(slices, known_at, exclusive, at_least, deadline)| {
            let deadline = Some(Duration::from_micros(deadline.into()));
            let asking = Asking { known_at, exclusive, at_least, deadline, api_key_fingerprint: None };
            PartAsking { commit_id: "c1".into(), slices, asking }
        },
    )
}

fn through_bytes<T: prost::Message + Default>(message: T) -> T {
    T::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn what_is_asked_arrives(
        place in place(),
        given in prop::collection::vec(prop::collection::vec(value(), 3), 0..3),
        times in prop::collection::vec(prop::option::of(any::<i64>()), 3),
        features in prop::option::of(prop::collection::vec("[a-c]", 1..3)),
        is_spine: bool,
        is_whole: bool,
        key in prop::collection::vec(value(), 0..3),
        at: i64,
    ) {
        let part = Part { place: place.clone(), featureset: "F".into(), features, given, times, is_spine, is_whole };
        let arrived = part_from_wire(through_bytes(part_to_wire(part.clone()))).unwrap();
        prop_assert_eq!(format!("{arrived:?}"), format!("{part:?}"));
        let part = LookupPart { place: place.clone(), dataset: "D".into(), key, at };
        let arrived = lookup_from_wire(through_bytes(lookup_to_wire(part.clone()))).unwrap();
        prop_assert_eq!(format!("{arrived:?}"), format!("{part:?}"));
    }

    #[test]
    fn what_is_answered_arrives(
        columns in prop::collection::vec((0usize..9, prop::collection::vec(feature(), 0..6)), 0..4),
        known_rows in prop::collection::vec(any::<u32>(), 0..4),
        standing in standing(),
        row in prop::option::of(prop::collection::vec(feature(), 0..4)),
        is_known: bool,
    ) {
        let columns = columns.into_iter().map(|(slot, values)| PartColumn { slot, values }).collect();
        let answer = PartAnswer { columns, known_rows, standing: standing.clone() };
        prop_assert_eq!(answer_from_wire(through_bytes(answer_to_wire(answer.clone()))).unwrap(), answer);
        let answer = LookupPartAnswer { values: row, is_known, standing };
        prop_assert_eq!(row_from_wire(through_bytes(row_to_wire(&answer))).unwrap(), answer);
    }
}

#[test]
fn what_is_malformed_is_refused() {
    let column = |statuses: Vec<i32>| {
        let column = answer_to_wire(PartAnswer {
            columns: vec![PartColumn { slot: 0, values: vec![FeatureValue::ok(Value::Int(1)); 2] }],
            known_rows: vec![],
            standing: PartStanding::default(),
        });
        let mut column = column;
        column.columns[0].values.as_mut().unwrap().statuses = statuses;
        answer_from_wire(column)
    };
    assert!(column(vec![]).unwrap().columns[0].values.iter().all(|value| value.status == Status::Ok));
    for statuses in [vec![1], vec![1, 0], vec![1, 9]] {
        assert!(column(statuses).is_err());
    }
    assert!(part_from_wire(v1::ReadPartRequest::default()).is_err());
    assert!(lookup_from_wire(v1::LookUpPartRequest::default()).is_err());
    assert!(asking_from_wire(Some(v1::PartAsking { slices: vec![1 << 16], ..Default::default() })).is_err());
}
