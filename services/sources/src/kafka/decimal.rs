//! Decimals as binary formats keep them: a whole number in big-endian two's complement, and how many of its digits are a fraction.

use super::datum::Datum;

/// In bytes; longer ones are no value of ours.
const LONGEST: usize = 64;
/// Digits that a scale may add.
const LARGEST_SCALE: u64 = 256;

/// A negative `scale` adds zeros before the point.
pub fn decimal(bytes: &[u8], scale: i64) -> Datum {
    if bytes.len() > LONGEST || scale.unsigned_abs() > LARGEST_SCALE {
        return Datum::Wrong(format!("a decimal of {} bytes and scale {scale} is too long", bytes.len()));
    }
    let zeros = usize::try_from(scale.unsigned_abs()).unwrap_or(usize::MAX);
    let is_negative = bytes.first().is_some_and(|first| *first >= 0x80);
    // The last digit first.
    let mut digits = digits_of(if is_negative { negated(bytes) } else { bytes.to_vec() });
    if scale >= 0 {
        // At least one digit stands before the point.
        while digits.len() <= zeros {
            digits.push('0');
        }
    } else if digits != "0" {
        digits.insert_str(0, &"0".repeat(zeros));
    }
    let mut text: String = digits.chars().rev().collect();
    if scale > 0 {
        text.insert(text.len() - zeros, '.');
    }
    if is_negative {
        text.insert(0, '-');
    }
    Datum::Decimal(text)
}

/// Inverted, plus one.
fn negated(bytes: &[u8]) -> Vec<u8> {
    let mut magnitude = bytes.to_vec();
    let mut carry = true;
    for byte in magnitude.iter_mut().rev() {
        (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
    }
    magnitude
}

/// By division by ten, again and again.
fn digits_of(mut magnitude: Vec<u8>) -> String {
    let mut digits = String::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest: u32 = 0;
        for byte in &mut magnitude {
            let part = rest << 8 | u32::from(*byte);
            // Below 256: the rest is below 10.
            *byte = u8::try_from(part / 10).unwrap_or(u8::MAX);
            rest = part % 10;
        }
        digits.push(char::from_digit(rest, 10).unwrap_or('0'));
    }
    if digits.is_empty() { "0".to_string() } else { digits }
}
