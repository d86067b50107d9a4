//! Decimals as text: digits, a point only before digits that are not zero, no exponent. Read is any number, also `1E+3`.

use super::{Decimal, ONE, SCALE, WHOLE_DIGITS};
use crate::error::{Error, Result};
use std::fmt;

/// How much of a text a message repeats.
const SHOWN: usize = 60;

impl Decimal {
    /// Reads a number in decimal notation: a sign, digits with a point, an exponent. Zeros at either end are free; other digits
    /// beyond 20 before and 18 after the point are refused, never rounded.
    pub fn parse(text: &str) -> Result<Decimal> {
        let wrong = || Error::invalid(format!("expected Decimal, got '{}'", shown(text)));
        let (is_negative, unsigned) = match text.as_bytes() {
            [b'-', ..] => (true, &text[1..]),
            [b'+', ..] => (false, &text[1..]),
            _ => (false, text),
        };
        if ["nan", "snan", "inf", "infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name)) {
            return Err(Error::invalid(format!("{} is not a value", shown(text))));
        }
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], exponent(&unsigned[at + 1..]).ok_or_else(wrong)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = || whole.bytes().chain(fraction.bytes());
        if all().next().is_none() || !all().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong());
        }
        let leading_zeros = all().take_while(|digit| *digit == b'0').count();
        let trailing_zeros = all().rev().take_while(|digit| *digit == b'0').count();
        let length = whole.len() + fraction.len();
        if leading_zeros == length {
            return Ok(Decimal::ZERO);
        }
        // Of the digits that count.
        let before = whole.len() as i64 - leading_zeros as i64 + exponent;
        let behind = fraction.len() as i64 - trailing_zeros as i64 - exponent;
        if before > i64::from(WHOLE_DIGITS) {
            return Err(Error::invalid(format!(
                "{} has {before} digits before the point, a Decimal at most {WHOLE_DIGITS}",
                shown(text)
            ))
            .hint("declare the field str, or float if the nearest one will do"));
        }
        if behind > i64::from(SCALE) {
            return Err(Error::invalid(format!(
                "{} has {behind} digits after the point, a Decimal at most {SCALE}",
                shown(text)
            ))
            .hint("round it first, in Python with round(value, 18)"));
        }
        // No more than 38 digits, since neither side has more than its share.
        let digits = all().skip(leading_zeros).take(length - leading_zeros - trailing_zeros);
        let magnitude = digits.fold(0i128, |number, digit| 10 * number + i128::from(digit - b'0'));
        let units = magnitude * 10i128.pow((i64::from(SCALE) - behind) as u32);
        Decimal::from_units(if is_negative { -units } else { units }).ok_or_else(wrong)
    }
}

/// An exponent; those beyond any use are cut to one that is far too great.
fn exponent(text: &str) -> Option<i64> {
    let (is_negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().unwrap_or(i64::MAX).min(1 << 40);
    Some(if is_negative { -size } else { size })
}

fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN { text.to_string() } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

impl fmt::Display for Decimal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.units().unsigned_abs();
        let (whole, fraction) = (units / ONE as u128, units % ONE as u128);
        let sign = if self.units() < 0 { "-" } else { "" };
        if fraction == 0 {
            return write!(out, "{sign}{whole}");
        }
        let digits = format!("{fraction:018}");
        write!(out, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}
