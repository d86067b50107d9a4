//! Entity keys as bytes: typed, order-preserving, prefix-free, so that composite keys sort as tuples and `1` and `"1"` differ.
//! The same bytes are the log record's key, the hash input that picks vnode and partition, and part of every state row key.

use crate::decimal::Decimal;
use crate::error::{Error, Result};
use crate::schema::DataType;
use crate::value::Value;

const TAG_BOOL: u8 = 1;
const TAG_INT: u8 = 2;
const TAG_STR: u8 = 3;
const TAG_BYTES: u8 = 4;
const TAG_TIME: u8 = 5;
const TAG_DECIMAL: u8 = 6;

/// How many hash slices there are; a partition is a contiguous range of them.
pub const VNODES: u16 = 256;
/// Partitions of a dataset unless it says otherwise; the same everywhere, because lateness is decided per partition.
pub const DEFAULT_PARTITIONS: u16 = 4;

/// Whether a column of this type may be a key.
pub fn is_key_type(data_type: &DataType) -> bool {
    use DataType::{Bool, Bytes, Decimal, Int, Str, Time};
    matches!(data_type, Bool | Int | Str | Bytes | Time | Decimal)
}

/// Encodes the components of a key, in the order of the dataset's key fields. `None` if one is null or of no key type.
pub fn encode_key(components: &[Value]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(16);
    put_key(&mut out, components)?;
    Some(out)
}

/// Appends what [`encode_key`] gives. Where that is `None`, `out` is left with some bytes of the components before.
pub fn put_key<'a>(out: &mut Vec<u8>, components: impl IntoIterator<Item = &'a Value>) -> Option<()> {
    for component in components {
        match component {
            Value::Bool(flag) => out.extend_from_slice(&[TAG_BOOL, u8::from(*flag)]),
            Value::Int(number) => put_ordered(out, TAG_INT, *number),
            Value::Time(micros) => put_ordered(out, TAG_TIME, *micros),
            Value::Str(text) => put_escaped(out, TAG_STR, text.as_bytes()),
            Value::Bytes(bytes) => put_escaped(out, TAG_BYTES, bytes),
            Value::Decimal(number) => {
                out.push(TAG_DECIMAL);
                out.extend_from_slice(&((number.units() as u128) ^ (1 << 127)).to_be_bytes());
            }
            Value::Null | Value::Float(_) | Value::List(_) | Value::Map(_) => return None,
        }
    }
    Some(())
}

fn put_ordered(out: &mut Vec<u8>, tag: u8, number: i64) {
    out.push(tag);
    out.extend_from_slice(&((number as u64) ^ (1 << 63)).to_be_bytes());
}

/// The decimal that begins `bytes`, and what comes behind it.
fn take_decimal(bytes: &[u8]) -> Option<(Decimal, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<16>()?;
    let units = (u128::from_be_bytes(*head) ^ (1 << 127)) as i128;
    Some((Decimal::from_units(units)?, rest))
}

fn put_escaped(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Reads back what [`encode_key`] wrote.
pub fn decode_key(mut bytes: &[u8]) -> Result<Vec<Value>> {
    let broken = || Error::data_loss("a stored key does not decode");
    let mut components = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        bytes = rest;
        match *tag {
            TAG_BOOL => {
                let (flag, rest) = bytes.split_first().ok_or_else(broken)?;
                components.push(Value::Bool(*flag != 0));
                bytes = rest;
            }
            TAG_INT | TAG_TIME => {
                let (head, rest) = bytes.split_first_chunk::<8>().ok_or_else(broken)?;
                let number = (u64::from_be_bytes(*head) ^ (1 << 63)) as i64;
                components.push(if *tag == TAG_INT { Value::Int(number) } else { Value::Time(number) });
                bytes = rest;
            }
            TAG_DECIMAL => {
                let (number, rest) = take_decimal(bytes).ok_or_else(broken)?;
                components.push(Value::Decimal(number));
                bytes = rest;
            }
            TAG_STR | TAG_BYTES => {
                let mut plain = Vec::new();
                loop {
                    match bytes {
                        [0, 0, rest @ ..] => {
                            bytes = rest;
                            break;
                        }
                        [0, 0xff, rest @ ..] => {
                            plain.push(0);
                            bytes = rest;
                        }
                        [byte, rest @ ..] if *byte != 0 => {
                            plain.push(*byte);
                            bytes = rest;
                        }
                        _ => return Err(broken()),
                    }
                }
                components.push(if *tag == TAG_STR {
                    Value::str(String::from_utf8(plain).map_err(|_| broken())?)
                } else {
                    Value::Bytes(plain.into())
                });
            }
            _ => return Err(broken()),
        }
    }
    Ok(components)
}

/// How many of `bytes`, which begin with a key of so many components, are that key.
pub fn key_length(bytes: &[u8], components: usize) -> Result<usize> {
    let broken = || Error::data_loss("a stored key does not decode");
    let mut at = 0;
    for _ in 0..components {
        let tag = *bytes.get(at).ok_or_else(broken)?;
        at += 1;
        at += match tag {
            TAG_BOOL => 1,
            TAG_INT | TAG_TIME => 8,
            TAG_DECIMAL => 16,
            TAG_STR | TAG_BYTES => escaped_length(bytes.get(at..).ok_or_else(broken)?).ok_or_else(broken)? + 2,
            _ => return Err(broken()),
        };
    }
    if at <= bytes.len() { Ok(at) } else { Err(broken()) }
}

/// Whether `bytes` are a key of these types, as [`encode_key`] writes it. Takes no memory, unless a text has a zero byte.
pub fn check_key<'a>(mut bytes: &[u8], types: impl Iterator<Item = &'a DataType>) -> Result<()> {
    let broken = || Error::data_loss("the key does not decode");
    for data_type in types {
        let (tag, rest) = bytes.split_first().ok_or_else(broken)?;
        bytes = match (data_type, *tag) {
            (DataType::Bool, TAG_BOOL) => rest.get(1..).filter(|_| rest[0] <= 1).ok_or_else(broken)?,
            (DataType::Int, TAG_INT) | (DataType::Time, TAG_TIME) => rest.get(8..).ok_or_else(broken)?,
            (DataType::Decimal, TAG_DECIMAL) => take_decimal(rest).ok_or_else(broken)?.1,
            (DataType::Str, TAG_STR) | (DataType::Bytes, TAG_BYTES) => {
                let length = escaped_length(rest).ok_or_else(broken)?;
                let (text, end) = rest.split_at(length);
                let is_text = || std::str::from_utf8(text).is_ok() || decode_key(&bytes[..length + 3]).is_ok();
                if *data_type == DataType::Str && !is_text() {
                    return Err(broken());
                }
                &end[2..]
            }
            _ => return Err(broken()),
        };
    }
    if bytes.is_empty() { Ok(()) } else { Err(broken()) }
}

/// How long a text is up to the two zero bytes behind it.
fn escaped_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0)?;
        match bytes.get(at + 1)? {
            0 => return Some(at),
            0xff => at += 2,
            _ => return None,
        }
    }
}

/// The hash slice of a key: the top byte of XXH3-64 over its bytes.
pub fn vnode(key: &[u8]) -> u8 {
    (xxhash_rust::xxh3::xxh3_64(key) >> 56) as u8
}

/// The partition of a hash slice: slices are dealt out in contiguous ranges.
pub fn partition_of_vnode(vnode: u8, partitions: u16) -> u16 {
    ((u32::from(vnode) * u32::from(partitions)) / u32::from(VNODES)) as u16
}

/// The partition a key belongs to.
pub fn partition(key: &[u8], partitions: u16) -> u16 {
    partition_of_vnode(vnode(key), partitions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn component() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<i64>().prop_map(Value::Time),
            any::<i64>().prop_map(|units| Value::Decimal(Decimal::from_units(i128::from(units) << 60).unwrap())),
            "[\\x00-\\x03a-c]{0,4}".prop_map(Value::str),
            proptest::collection::vec(0u8..3, 0..4).prop_map(|bytes| Value::Bytes(bytes.into())),
        ]
    }

    fn type_of(value: &Value) -> DataType {
        match value {
            Value::Bool(_) => DataType::Bool,
            Value::Int(_) => DataType::Int,
            Value::Time(_) => DataType::Time,
            Value::Str(_) => DataType::Str,
            Value::Decimal(_) => DataType::Decimal,
            other => {
                if matches!(other, Value::Bytes(_)) {
                    DataType::Bytes
                } else {
                    panic!("{other:?}")
                }
            }
        }
    }

    proptest! {
        #[test]
        fn round_trips(components in proptest::collection::vec(component(), 1..4)) {
            let bytes = encode_key(&components).unwrap();
            prop_assert_eq!(key_length(&[bytes.as_slice(), &[0, 0, 9]].concat(), components.len()).unwrap(), bytes.len());
            prop_assert_eq!(decode_key(&bytes).unwrap(), components);
        }

        #[test]
        fn a_key_that_is_checked_is_one(components in proptest::collection::vec(component(), 1..4), place: prop::sample::Index, byte: u8) {
            let types: Vec<DataType> = components.iter().map(type_of).collect();
            let mut bytes = encode_key(&components).unwrap();
            prop_assert!(check_key(&bytes, types.iter()).is_ok());
            let at = place.index(bytes.len());
            bytes[at] = byte;
            let read = decode_key(&bytes).ok();
            let is_key = read.as_ref().is_some_and(|read| {
                read.iter().map(type_of).eq(types.iter().cloned()) && encode_key(read).as_ref() == Some(&bytes)
            });
            prop_assert_eq!(check_key(&bytes, types.iter()).is_ok(), is_key);
        }

        #[test]
        fn strings_and_numbers_sort_as_values(a in "[\\x00-\\x02ab]{0,4}", b in "[\\x00-\\x02ab]{0,4}", i: i64, j: i64) {
            let ab = encode_key(&[Value::str(a.as_str()), Value::Int(i)]).unwrap();
            let bb = encode_key(&[Value::str(b.as_str()), Value::Int(j)]).unwrap();
            prop_assert_eq!(ab.cmp(&bb), (a, i).cmp(&(b, j)));
            let decimal = |units: i64| Decimal::from_units(i128::from(units) << 60).unwrap();
            let keys = [i, j].map(|units| encode_key(&[Value::Decimal(decimal(units))]).unwrap());
            prop_assert_eq!(keys[0].cmp(&keys[1]), decimal(i).cmp(&decimal(j)));
        }
    }

    #[test]
    fn types_differ_and_partitions_cover_their_range() {
        assert_ne!(encode_key(&[Value::Int(1)]), encode_key(&[Value::str("1")]));
        assert_eq!(encode_key(&[Value::Null]), None);
        for partitions in [1u16, 3, 4, 256] {
            assert_eq!(partition_of_vnode(0, partitions), 0);
            assert_eq!(partition_of_vnode(255, partitions), partitions - 1);
        }
    }
}
