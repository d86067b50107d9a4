//! Decimal numbers: whole multiples of 10^-18 below 10^20, SQL's `DECIMAL(38, 18)`. Why this range: `docs/decisions/0021-decimal.md`.

mod arithmetic;
#[cfg(test)]
mod tests;
mod text;

use crate::error::{Error, Result};
use crate::exact::decimal_to_f64;
use crate::record::{put_wide_varint, take_wide_varint};

/// How many digits stand after the point.
pub const SCALE: u8 = 18;
/// How many digits a number has at most, before and after the point.
pub const PRECISION: u8 = 38;
/// Digits before the point.
pub const WHOLE_DIGITS: u8 = PRECISION - SCALE;
/// Units of the number 1.
const ONE: i128 = 10i128.pow(SCALE as u32);
/// Units that no number reaches.
const LIMIT: i128 = 10i128.pow(PRECISION as u32);

/// A number of units of 10^-18. One number has one form: 1.0 and 1.00 are equal in every bit.
///
/// Two halves rather than an `i128`, whose alignment would make every value of any type a third larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal {
    high: i64,
    low: u64,
}

impl Decimal {
    pub const ZERO: Decimal = Decimal { high: 0, low: 0 };

    /// So many units; `None` beyond 38 digits.
    pub fn from_units(units: i128) -> Option<Decimal> {
        (-LIMIT < units && units < LIMIT).then_some(Decimal { high: (units >> 64) as i64, low: units as u64 })
    }

    /// In units of 10^-18.
    pub fn units(self) -> i128 {
        i128::from(self.high) << 64 | i128::from(self.low)
    }

    /// Every int is a Decimal.
    pub fn from_int(number: i64) -> Decimal {
        Decimal::from_units(i128::from(number) * ONE).unwrap_or_default()
    }

    /// `unscaled * 10^-scale`, as Arrow and Parquet keep decimals. What does not fit is an error that says which digits.
    pub fn from_scaled(unscaled: i128, scale: i8) -> Result<Decimal> {
        let zeros = i32::from(SCALE) - i32::from(scale);
        let power = 10i128.checked_pow(zeros.unsigned_abs());
        let units = match power {
            _ if unscaled == 0 => Some(0),
            Some(power) if zeros >= 0 => unscaled.checked_mul(power),
            Some(power) if unscaled % power == 0 => Some(unscaled / power),
            _ => None,
        };
        match units.and_then(Decimal::from_units) {
            Some(number) => Ok(number),
            // Through its digits, which say what is wrong.
            None => Decimal::parse(&format!("{unscaled}e{}", -i32::from(scale))),
        }
    }

    /// The shortest decimal that reads back as this float, as its text has it, rounded to 18 digits after the point, half to
    /// even. `None` if it is too large, or not finite.
    pub fn from_f64(number: f64) -> Option<Decimal> {
        if !number.is_finite() {
            return None;
        }
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e')?;
        let exponent: i32 = exponent.parse().ok()?;
        let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i32);
        let digits: i128 = mantissa.replace('.', "").parse().ok()?;
        let zeros = exponent - fraction + i32::from(SCALE);
        let units = match 10i128.checked_pow(zeros.unsigned_abs()) {
            Some(power) if zeros >= 0 => digits.checked_mul(power)?,
            Some(power) => arithmetic::divide_rounded(digits, power),
            None if zeros < 0 || digits == 0 => 0,
            None => return None,
        };
        Decimal::from_units(units)
    }

    /// The nearest float, half to even.
    pub fn to_f64(self) -> f64 {
        decimal_to_f64(self)
    }

    /// The whole number, its fraction cut off; `None` beyond 64 bits.
    pub fn to_int(self) -> Option<i64> {
        i64::try_from(self.units() / ONE).ok()
    }

    /// How many digits after the point are no trailing zeros, and the number in units of the last of them.
    fn shortest(self) -> (u8, i128) {
        let units = self.units();
        let mut fraction = (units % ONE) as i64;
        if fraction == 0 {
            return (0, units / ONE);
        }
        let mut zeros = 0;
        while fraction % 10 == 0 {
            fraction /= 10;
            zeros += 1;
        }
        (SCALE - zeros, units / 10i128.pow(u32::from(zeros)))
    }

    /// Appends the stored form, one per number: how many digits are after the point, then all digits as a zigzag varint.
    pub fn encode(self, out: &mut Vec<u8>) {
        let (scale, unscaled) = self.shortest();
        out.push(scale);
        put_wide_varint(out, ((unscaled << 1) ^ (unscaled >> 127)) as u128);
    }

    /// Reads what [`Decimal::encode`] wrote, and moves `bytes` behind it.
    pub fn decode(bytes: &mut &[u8]) -> Result<Decimal> {
        let broken = || Error::data_loss("a stored decimal does not decode");
        let (scale, rest) = bytes.split_first().ok_or_else(broken)?;
        *bytes = rest;
        let folded = take_wide_varint(bytes)?;
        let unscaled = (folded >> 1) as i128 ^ -((folded & 1) as i128);
        let zeros = SCALE.checked_sub(*scale).ok_or_else(broken)?;
        unscaled.checked_mul(10i128.pow(u32::from(zeros))).and_then(Decimal::from_units).ok_or_else(broken)
    }
}
