//! Integers of few bytes where they are small: LEB128, the encoding of protobuf varints; zigzag where they have a sign.

use crate::error::{Error, Result};

pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[inline]
pub fn take_varint(rest: &mut &[u8]) -> Result<u64> {
    let mut number = 0u64;
    for (index, byte) in rest.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * index as u32);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Ok(number);
        }
    }
    Err(broken())
}

/// The same of 128 bits.
pub fn put_wide_varint(out: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub fn take_wide_varint(rest: &mut &[u8]) -> Result<u128> {
    let mut number = 0u128;
    for (index, byte) in rest.iter().enumerate().take(19) {
        number |= u128::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Ok(number);
        }
    }
    Err(broken())
}

pub fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn broken() -> Error {
    Error::data_loss("a stored number does not decode")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(number: u64, signed: i64, wide: u128) {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            put_varint(&mut out, zigzag(signed));
            put_wide_varint(&mut out, wide);
            let mut rest = out.as_slice();
            prop_assert_eq!(take_varint(&mut rest).unwrap(), number);
            prop_assert_eq!(unzigzag(take_varint(&mut rest).unwrap()), signed);
            prop_assert_eq!(take_wide_varint(&mut rest).unwrap(), wide);
            prop_assert!(rest.is_empty());
        }
    }
}
