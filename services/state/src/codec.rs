//! Reading stored bytes: varints on the fast path, and one error for what does not decode.

pub use thyme_core::record::{put_varint, unzigzag, zigzag};
use thyme_core::{Error, Result};

#[cold]
pub fn broken() -> Error {
    Error::data_loss("a stored row does not decode")
}

#[inline]
pub fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_varint(out, zigzag(number));
}

#[inline]
pub fn take_varint(rest: &mut &[u8]) -> Result<u64> {
    match rest.split_first() {
        Some((&head, tail)) if head < 0x80 => {
            *rest = tail;
            Ok(u64::from(head))
        }
        _ => take_long_varint(rest),
    }
}

#[inline]
fn take_long_varint(rest: &mut &[u8]) -> Result<u64> {
    match rest.first_chunk::<8>() {
        Some(chunk) if u64::from_le_bytes(*chunk) & GOES_ON != GOES_ON => {
            let (number, length) = varint_within(u64::from_le_bytes(*chunk));
            *rest = &rest[length..];
            Ok(number)
        }
        _ => take_varint_bytewise(rest),
    }
}

/// The bits of eight bytes that say that another byte follows.
const GOES_ON: u64 = 0x8080_8080_8080_8080;

/// A varint that ends within eight bytes, and how many it has.
#[inline]
fn varint_within(bytes: u64) -> (u64, usize) {
    let bits = (!bytes & GOES_ON).trailing_zeros() + 1;
    (varint_of(bytes & (u64::MAX >> (64 - bits))), (bits / 8) as usize)
}

/// A varint of up to eight bytes, behind which there are zeros.
#[inline]
pub fn varint_of(bytes: u64) -> u64 {
    let sevens = bytes & !GOES_ON;
    // Seven bits of each byte: put together by two, by four, by eight.
    let twos = sevens & 0x007f_007f_007f_007f | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = twos & 0x0000_3fff_0000_3fff | (twos & 0x3fff_0000_3fff_0000) >> 2;
    fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4
}

/// Which of the first 64 bytes end a varint, the first one in the lowest bit.
#[inline]
pub fn ends_of(bytes: &[u8; 72]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words[..8].iter().rev().fold(0, |ends, word| {
        let of_word = !u64::from_le_bytes(*word) & GOES_ON;
        // Moves the top bit of each byte to its place among the top eight.
        ends << 8 | of_word.wrapping_mul(0x0002_0408_1020_4081) >> 56
    })
}

#[cold]
fn take_varint_bytewise(rest: &mut &[u8]) -> Result<u64> {
    let mut number = 0u64;
    for index in 0..10 {
        let Some(&byte) = rest.get(index) else { return Err(broken()) };
        number |= u64::from(byte & 0x7f) << (7 * index as u32);
        if byte < 0x80 {
            *rest = &rest[index + 1..];
            return Ok(number);
        }
    }
    Err(broken())
}

#[inline]
pub fn take_signed(rest: &mut &[u8]) -> Result<i64> {
    Ok(unzigzag(take_varint(rest)?))
}

#[inline]
pub fn take_byte(rest: &mut &[u8]) -> Result<u8> {
    let (&head, tail) = rest.split_first().ok_or_else(broken)?;
    *rest = tail;
    Ok(head)
}

#[inline]
pub fn take_exact<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length).ok_or_else(broken)?;
    *rest = tail;
    Ok(head)
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[inline]
pub fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = usize::try_from(take_varint(rest)?).map_err(|_| broken())?;
    take_exact(rest, length)
}

/// A big-endian field of a row key.
pub fn key_u16(key: &[u8], at: usize) -> Result<u16> {
    let bytes = key.get(at..).and_then(|rest| rest.first_chunk::<2>()).ok_or_else(broken)?;
    Ok(u16::from_be_bytes(*bytes))
}

/// A big-endian field of a row key.
pub fn key_u32(key: &[u8], at: usize) -> Result<u32> {
    let bytes = key.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or_else(broken)?;
    Ok(u32::from_be_bytes(*bytes))
}

/// A big-endian field of a row key.
pub fn key_u64(key: &[u8], at: usize) -> Result<u64> {
    let bytes = key.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or_else(broken)?;
    Ok(u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_every_length_read_back_before_any_bytes() {
        let mut numbers = vec![0, 1, u64::MAX];
        numbers.extend((1..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) | 0x2b]));
        for number in numbers {
            for behind in [&[] as &[u8], &[0], &[0xff; 9], &[0x80; 3]] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, number);
                bytes.extend_from_slice(behind);
                let mut rest = bytes.as_slice();
                assert_eq!(take_varint(&mut rest).unwrap(), number);
                assert_eq!(rest, behind, "{number}");
            }
        }
        for broken in [&[] as &[u8], &[0x80], &[0xff; 7], &[0xff; 8], &[0xff; 11]] {
            assert!(take_varint(&mut &*broken).is_err(), "{broken:?}");
        }
    }
    #[test]
    fn ends_are_the_bytes_that_end() {
        for seed in 1..200u64 {
            let byte = |at: usize| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (at % 57)) as u8 ^ at as u8;
            let bytes: [u8; 72] = std::array::from_fn(byte);
            let ends = ends_of(&bytes);
            for (at, byte) in bytes[..64].iter().enumerate() {
                assert_eq!(ends >> at & 1 == 1, *byte < 0x80, "{seed} {at}");
            }
        }
        assert_eq!((ends_of(&[0; 72]), ends_of(&[0x80; 72])), (u64::MAX, 0));
    }
}
