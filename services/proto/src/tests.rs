use crate::columns::{column_from_wire, column_to_wire, whole_column_from_wire};
use crate::convert::{row_from_wire, time_from_wire, time_to_wire, value_from_wire, value_to_wire};
use crate::status::{from_message, from_status, is_of_thyme, to_message, to_plain_status, to_status, to_status_of_all};
use crate::v1;
use proptest::prelude::*;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::error::ERROR_TABLE;
use thyme_core::schema::DataType;
use thyme_core::{Decimal, Error, Value};
use tonic_types::StatusExt as _;

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(|number| Value::float(number).unwrap_or_default()),
        ".{0,8}".prop_map(Value::str),
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| Value::Bytes(bytes.into())),
        any::<i64>().prop_map(Value::Time),
        (any::<i64>(), 0u32..19)
            .prop_map(|(number, zeros)| Decimal::from_units(i128::from(number) * 10i128.pow(zeros)))
            .prop_map(|number| Value::Decimal(number.unwrap())),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| Value::List(items.into())),
            proptest::collection::btree_map("[a-c]{1,2}", inner, 0..4).prop_map(|entries| {
                let entries: BTreeMap<Arc<str>, Value> =
                    entries.into_iter().map(|(name, item)| (Arc::from(name.as_str()), item)).collect();
                Value::Map(Arc::new(entries))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn values_round_trip_through_bytes(value in value()) {
        let bytes = value_to_wire(&value).encode_to_vec();
        let back = value_from_wire(v1::Value::decode(bytes.as_slice()).unwrap()).unwrap();
        prop_assert_eq!(back, value);
    }

    #[test]
    fn columns_round_trip(values in proptest::collection::vec(scalar(), 0..12)) {
        // A column is of one type or, of mixed ones, travels as `any`: both come back as they were.
        use DataType::{Bool, Bytes, Float, Int, Str, Time};
        for data_type in [Bool, Int, Float, Str, Bytes, Time, DataType::Decimal] {
            let fitting: Vec<Value> =
                values.iter().map(|value| if value.has_type(&data_type) { value.clone() } else { Value::Null }).collect();
            for values in [&fitting, &values] {
                let column = column_to_wire("x", &data_type, values);
                let column = v1::Column::decode(column.encode_to_vec().as_slice()).unwrap();
                prop_assert_eq!(&whole_column_from_wire(column).unwrap(), values);
            }
        }
    }

    #[test]
    fn times_round_trip_and_floor(micros: i64, extra in 0i32..1000) {
        let mut wire = time_to_wire(micros);
        wire.nanos += extra;
        prop_assert_eq!(time_from_wire(&wire).ok(), Some(micros));
    }
}

#[test]
fn what_is_no_value_is_refused_and_named() {
    let none = v1::Value { kind: None };
    assert_eq!(value_from_wire(none.clone()).unwrap_err().hint_text(), Some("send null_value for null"));
    let nan = v1::Value { kind: Some(v1::value::Kind::DoubleValue(f64::NAN)) };
    assert_eq!(value_from_wire(nan.clone()).unwrap_err().message(), "NaN is not a value");
    let decimal = |text: &str| v1::Value { kind: Some(v1::value::Kind::DecimalValue(text.to_string())) };
    assert_eq!(value_from_wire(decimal("NaN")).unwrap_err().message(), "NaN is not a value");
    assert_eq!(value_from_wire(decimal("")).unwrap_err().message(), "expected Decimal, got ''");
    assert_eq!(value_from_wire(decimal("1.50")).unwrap(), Value::Decimal(Decimal::parse("1.5").unwrap()));
    let error = row_from_wire(BTreeMap::from([("amount".to_string(), nan)])).unwrap_err();
    assert_eq!((error.field_name(), error.message()), (Some("amount"), "'amount': NaN is not a value"));
    let mut column = column_to_wire("x", &DataType::Int, &[Value::Int(1)]);
    column.null_rows = vec![1];
    assert!(column_from_wire(column).unwrap_err().message().contains("null row 1, but has 1 rows"));
    let zero = value_from_wire(v1::Value { kind: Some(v1::value::Kind::DoubleValue(-0.0)) }).unwrap();
    assert!(matches!(zero, Value::Float(number) if number.is_sign_positive()));
}

#[test]
fn one_bad_value_of_a_column_stays_in_its_place() {
    let column = v1::Column {
        name: "x".to_string(),
        r#type: String::new(),
        values: Some(v1::column::Values::Doubles(v1::DoubleArray { values: vec![1.0, f64::INFINITY, f64::NAN] })),
        null_rows: vec![2],
    };
    let values = column_from_wire(column).unwrap();
    assert_eq!(values[0], Ok(Value::Float(1.0)));
    assert_eq!(values[1].as_ref().unwrap_err().message(), "inf is not a value");
    assert_eq!(values[2], Ok(Value::Null));
}

#[test]
fn every_error_comes_back_as_it_went() {
    for row in ERROR_TABLE {
        let error = Error::new(row.kind, "it failed").field("amount").hint("try this").at("features.py:3");
        let status = to_status(&error);
        assert_eq!((status.code() as i32, status.message()), (row.grpc, "it failed"));
        assert_eq!(from_status(&status), error);
        let part = to_message(&error);
        assert_eq!(
            (part.code, part.message.as_str(), part.encode_to_vec().as_slice()),
            (row.grpc, "it failed", status.details())
        );
        assert_eq!(from_message(&part), error);
        let retry = status.get_error_details().retry_info().is_some();
        assert_eq!(retry, row.code == "unavailable");
        let plain = to_plain_status(&error);
        assert_eq!(plain.message(), "features.py:3: it failed (hint: try this)");
    }
}

#[test]
fn many_errors_are_all_listed() {
    let errors = [Error::definition("one").field("a").at("f.py:1"), Error::definition("two").at("f.py:2")];
    let status = to_status_of_all(&errors);
    assert_eq!(status.message(), "2 errors: f.py:1: one");
    let details = status.get_error_details();
    let listed: Vec<&str> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|violation| violation.description.as_str())
        .collect();
    assert_eq!(listed, ["f.py:1: one", "f.py:2: two"]);
    assert_eq!(from_status(&status).kind(), thyme_core::ErrorKind::InvalidDefinition);
}

#[test]
fn a_transport_status_becomes_its_kind() {
    let error = from_status(&tonic::Status::unavailable("no server"));
    assert_eq!((error.kind(), error.message()), (thyme_core::ErrorKind::Unavailable, "no server"));
    assert!(!is_of_thyme(&tonic::Status::unavailable("no server")) && is_of_thyme(&to_status(&error)));
    assert_eq!(from_status(&tonic::Status::data_loss("x")).kind(), thyme_core::ErrorKind::DataLoss);
}

#[test]
fn the_descriptor_set_holds_every_service() {
    let set = prost_types::FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
    let services: Vec<&str> =
        set.file.iter().flat_map(|file| &file.service).filter_map(|service| service.name.as_deref()).collect();
    for name in ["ControlService", "IngestService", "FeatureService", "PartService"] {
        assert!(services.contains(&name), "{name} missing in {services:?}");
    }
    let messages = set.file.iter().flat_map(|file| &file.message_type).filter_map(|message| message.name.as_deref());
    assert!(messages.into_iter().any(|name| name == "ExportCommand"));
}
