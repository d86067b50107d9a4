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
