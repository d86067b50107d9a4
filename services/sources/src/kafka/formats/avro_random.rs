//! Random Avro schemas with values of them, written by a writer of the test's own.

use super::{varint, zigzag};
use crate::kafka::avro::Schema;
use crate::kafka::datum::Datum;
use crate::kafka::protobuf::Messages;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// A schema, and some values of it with their bytes.
type Samples = (Json, Vec<(Datum, Vec<u8>)>);

/// Values per schema.
const COUNT: usize = 3;

fn of<T: std::fmt::Debug + 'static>(
    schema: Json,
    values: impl Strategy<Value = T> + 'static,
    written: fn(&T) -> (Datum, Vec<u8>),
) -> BoxedStrategy<Samples> {
    let samples = prop::collection::vec(values, COUNT);
    samples.prop_map(move |values| (schema.clone(), values.iter().map(written).collect())).boxed()
}

fn text(text: &str) -> Vec<u8> {
    [zigzag(text.len() as i64), text.as_bytes().to_vec()].concat()
}

/// Of a time in microseconds, by the digits that count.
fn time(logical: &str) -> Json {
    json!({"type": "long", "logicalType": logical})
}

fn leaf() -> BoxedStrategy<Samples> {
    let micros = || -62_135_596_800_000_000..=253_402_300_799_999_999_i64;
    prop_oneof![
        of(json!("null"), Just(()), |()| (Datum::Null, vec![])),
        of(json!("boolean"), any::<bool>(), |flag| (Datum::Bool(*flag), vec![u8::from(*flag)])),
        of(json!("int"), any::<i32>(), |number| (Datum::Int((*number).into()), zigzag((*number).into()))),
        of(json!({"type": "long", "logicalType": "time-micros"}), any::<i64>(), |number| {
            (Datum::Int(*number), zigzag(*number))
        }),
        of(json!("float"), -1e30_f32..1e30, |number| {
            (Datum::Float((*number).into()), number.to_le_bytes().to_vec())
        }),
        of(json!("double"), -1e300..1e300, |number| (Datum::Float(*number), number.to_le_bytes().to_vec())),
        of(json!("bytes"), prop::collection::vec(any::<u8>(), 0..100), |bytes| {
            (Datum::Bytes(bytes.clone()), [zigzag(bytes.len() as i64), bytes.clone()].concat())
        }),
        of(json!({"type": "string", "avro.java.string": "String"}), ".{0,80}", |said| {
            (Datum::Text(said.clone()), text(said))
        }),
        of(json!({"type": "enum", "symbols": ["A", "B", "C"]}), 0..3_i64, |index| {
            (Datum::Text(["A", "B", "C"][*index as usize].to_string()), zigzag(*index))
        }),
        of(json!({"type": "fixed", "size": 5}), any::<[u8; 5]>(), |bytes| {
            (Datum::Bytes(bytes.to_vec()), bytes.to_vec())
        }),
        of(time("timestamp-micros"), micros(), |time| (Datum::Time(*time), zigzag(*time))),
        of(time("local-timestamp-millis"), micros(), |time| {
            let millis = time.div_euclid(1000);
            (Datum::Time(millis * 1000), zigzag(millis))
        }),
        of(time("timestamp-nanos"), any::<i64>(), |nanos| (Datum::Time(nanos.div_euclid(1000)), zigzag(*nanos))),
        of(json!({"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 7}), any::<i128>(), |number| {
            let (sign, digits) = (if *number < 0 { "-" } else { "" }, number.unsigned_abs());
            let (whole, fraction) = (digits / 10_000_000, digits % 10_000_000);
            let bytes = number.to_be_bytes();
            (Datum::Decimal(format!("{sign}{whole}.{fraction:07}")), [zigzag(16), bytes.to_vec()].concat())
        }),
    ]
    .boxed()
}

/// The first items of `samples`, one after the other or in blocks that each tell their size.
fn blocks(samples: &[(Datum, Vec<u8>)], with_keys: bool, is_sized: bool) -> (Datum, Vec<u8>) {
    let mut bytes = Vec::new();
    let key = |index: usize| format!("key {index}");
    for (index, (_, item)) in samples.iter().enumerate() {
        let item = if with_keys { [text(&key(index)), item.clone()].concat() } else { item.clone() };
        if is_sized {
            bytes.extend([zigzag(-1), zigzag(item.len() as i64)].concat());
        } else if index == 0 {
            bytes.extend(zigzag(samples.len() as i64));
        }
        bytes.extend(item);
    }
    bytes.push(0);
    let items = samples.iter().map(|(datum, _)| datum.clone());
    let datum = if with_keys {
        Datum::Object(items.enumerate().map(|(index, datum)| (key(index), datum)).collect())
    } else {
        Datum::List(items.collect())
    };
    (datum, bytes)
}

fn of_items(inner: BoxedStrategy<Samples>) -> BoxedStrategy<Samples> {
    let collection = |(samples, with_keys, is_sized): (Samples, bool, bool)| {
        let (schema, samples) = samples;
        let (kind, member) = if with_keys { ("map", "values") } else { ("array", "items") };
        let values = (0..COUNT).map(|count| blocks(&samples[..count], with_keys, is_sized)).collect();
        (json!({"type": kind, member: schema}), values)
    };
    (inner, any::<bool>(), any::<bool>()).prop_map(collection).boxed()
}

fn of_branches(inner: BoxedStrategy<Samples>) -> BoxedStrategy<Samples> {
    let inner = inner.prop_filter("a union stands right within no other", |(schema, _)| !schema.is_array());
    let union = |(branches, chosen): (Vec<Samples>, Vec<prop::sample::Index>)| {
        let values = chosen.iter().enumerate().map(|(number, index)| {
            let index = index.index(branches.len());
            let (datum, bytes) = branches[index].1[number].clone();
            (datum, [zigzag(index as i64), bytes].concat())
        });
        let values = values.collect();
        (branches.into_iter().map(|(schema, _)| schema).collect::<Json>(), values)
    };
    let chosen = prop::collection::vec(any::<prop::sample::Index>(), COUNT);
    (prop::collection::vec(inner, 1..4), chosen).prop_map(union).boxed()
}

fn of_fields(inner: BoxedStrategy<Samples>) -> BoxedStrategy<Samples> {
    let record = |fields: Vec<Samples>| {
        let values = (0..COUNT).map(|number| {
            let members = fields.iter().enumerate().map(|(at, field)| (format!("f{at}"), field.1[number].0.clone()));
            let bytes = fields.iter().flat_map(|field| field.1[number].1.clone());
            (Datum::Object(members.collect()), bytes.collect())
        });
        let values = values.collect();
        let fields =
            fields.into_iter().enumerate().map(|(at, field)| json!({"name": format!("f{at}"), "type": field.0}));
        (json!({"type": "record", "fields": fields.collect::<Json>()}), values)
    };
    prop::collection::vec(inner, 0..5).prop_map(record).boxed()
}

/// Gives each type that must have a name one of its own.
fn name(schema: &mut Json, count: &mut usize) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(|item| name(item, count)),
        Json::Object(members) => {
            if members.get("type").is_some_and(|kind| matches!(kind.as_str(), Some("record" | "enum" | "fixed"))) {
                *count += 1;
                members.insert("name".to_string(), json!(format!("N{count}")));
            }
            members.values_mut().for_each(|member| name(member, count));
        }
        _ => {}
    }
}

fn samples() -> impl Strategy<Value = Samples> {
    let nested = leaf().prop_recursive(4, 40, 4, |inner| {
        let inner = inner.boxed();
        prop_oneof![of_items(inner.clone()), of_branches(inner.clone()), of_fields(inner)]
    });
    nested.prop_map(|(mut schema, values)| {
        name(&mut schema, &mut 0);
        (schema, values)
    })
}

proptest! {
    #[test]
    fn what_is_written_by_a_schema_is_read_by_it((schema, values) in samples()) {
        let schema = Schema::parse(&schema.to_string(), &[]).unwrap();
        for (datum, bytes) in values {
            prop_assert_eq!(&schema.read(&bytes).unwrap(), &datum);
            // A value that is cut anywhere is none, and neither is one with more behind it.
            for cut in 0..bytes.len() {
                prop_assert!(schema.read(&bytes[..cut]).is_err());
            }
            let more = [&bytes[..], &[0]].concat();
            prop_assert!(schema.read(&more).unwrap_err().to_string().contains("1 bytes are left over"));
        }
    }

    #[test]
    fn wrong_bytes_never_stop_a_reader(
        (schema, values) in samples(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let schema = Schema::parse(&schema.to_string(), &[]).unwrap();
        for (_, mut bytes) in values {
            for (place, byte) in &changes {
                if !bytes.is_empty() {
                    let at = place.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            // Read or told: never a panic, and never for ever.
            let _ = schema.read(&bytes);
        }
    }

    #[test]
    fn no_bytes_stop_a_reader_of_types_within_themselves(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let node = r#"{"type": "record", "name": "N", "fields": [
            {"name": "a", "type": {"type": "map", "values": ["null", "N", "double", {"type": "bytes", "logicalType": "big-decimal"}]}},
            {"name": "b", "type": {"type": "array", "items": ["N", "string", "boolean", {"type": "long", "logicalType": "timestamp-micros"}]}}]}"#;
        let _ = Schema::parse(node, &[]).unwrap().read(&bytes);
        let messages = Messages::compile("message M { map<string, M> a = 1; repeated M b = 2; optional group G = 3 { optional M m = 1; } }", &[]).unwrap();
        let _ = messages.read(&bytes);
        let _ = messages.read(&[&[0][..], &bytes].concat());
    }

    #[test]
    fn no_text_stops_a_reader_of_schemas(said in "[{}\\[\\]\",:a-z ]{0,60}") {
        let _ = Schema::parse(&said, &[]);
        let _ = Messages::compile(&said, &[]);
    }

    #[test]
    fn numbers_are_as_long_as_they_are(number in any::<u64>()) {
        let bytes = zigzag((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        prop_assert_eq!(bytes, varint(number));
    }
}
