//! Exact sums of decimals and of their squares.

use super::Overflow;
use super::limbs::Limbs;
use super::moments::variance;
use super::natural::Natural;
use super::rounding::round_quotient;
use crate::decimal::Decimal;
use crate::error::Result;

/// Units of a decimal that make 1.
const ONE: u64 = 10u64.pow(crate::decimal::SCALE as u32);

/// The sum of up to 2^64 decimals, each below 2^127 units: 192 bits with a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecimalSum(Limbs<3>);

/// The sum of up to 2^64 squares of decimals, each below 2^254 units of 10^-36.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecimalSquares(Limbs<5>);

impl DecimalSum {
    #[inline]
    pub fn add(&mut self, number: Decimal) {
        let units = number.units();
        self.0.add(&Limbs([units as u64, (units >> 64) as u64, (units >> 127) as u64]));
    }

    pub fn merge(&mut self, other: &DecimalSum) {
        self.0.add(&other.0);
    }

    /// Takes out values that had been added.
    pub fn subtract(&mut self, other: &DecimalSum) {
        self.0.subtract(&other.0);
    }

    fn is_negative(&self) -> bool {
        self.0.0[2] >> 63 == 1
    }

    /// In units.
    fn magnitude(&self) -> Natural {
        let mut limbs = self.0;
        if self.is_negative() {
            limbs = Limbs::default();
            limbs.subtract(&self.0);
        }
        Natural::from_limbs(limbs.0.to_vec())
    }

    /// The sum itself, which may be beyond a decimal.
    pub fn to_decimal(&self) -> Result<Decimal, Overflow> {
        let [low, high, sign] = self.0.0;
        let units = i128::from(high as i64) << 64 | i128::from(low);
        if sign != (units >> 127) as u64 {
            return Err(Overflow);
        }
        Decimal::from_units(units).ok_or(Overflow)
    }

    /// The sum divided by `count`, which is not zero, rounded once to the nearest f64.
    pub fn mean(&self, count: u64) -> Result<f64, Overflow> {
        let mean = round_quotient(self.magnitude(), 0, &[count, ONE])?;
        Ok(if self.is_negative() { 0.0 - mean } else { mean })
    }

    /// Canonical bytes: the sign in the last bit, so that small sums are short.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let [low, middle, high] = self.0.0;
        let sign = if self.is_negative() { u64::MAX } else { 0 };
        let folded = [low << 1, middle << 1 | low >> 63, high << 1 | middle >> 63];
        Limbs(folded.map(|limb| limb ^ sign)).encode(out);
    }

    pub fn decode(bytes: &mut &[u8]) -> Result<DecimalSum> {
        let Limbs([low, middle, high]) = Limbs::<3>::decode(bytes, "a stored sum of decimals")?;
        let sign = 0u64.wrapping_sub(low & 1);
        let unfolded = [low >> 1 | middle << 63, middle >> 1 | high << 63, high >> 1];
        Ok(DecimalSum(Limbs(unfolded.map(|limb| limb ^ sign))))
    }
}

impl DecimalSquares {
    #[inline]
    pub fn add(&mut self, number: Decimal) {
        let units = number.units().unsigned_abs();
        let (high, low) = (units >> 64, units & u128::from(u64::MAX));
        let (lowest, middle, highest) = (low * low, high * low, high * high);
        self.0.add(&Limbs([lowest as u64, (lowest >> 64) as u64, 0, 0, 0]));
        self.0.add(&Limbs([0, (middle << 1) as u64, (middle >> 63) as u64, 0, 0]));
        self.0.add(&Limbs([0, 0, highest as u64, (highest >> 64) as u64, 0]));
    }

    pub fn merge(&mut self, other: &DecimalSquares) {
        self.0.add(&other.0);
    }

    /// Takes out squares that had been added.
    pub fn subtract(&mut self, other: &DecimalSquares) {
        self.0.subtract(&other.0);
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    pub fn decode(bytes: &mut &[u8]) -> Result<DecimalSquares> {
        Limbs::decode(bytes, "a stored sum of squares of decimals").map(DecimalSquares)
    }
}

/// The nearest f64, half to even.
pub fn decimal_to_f64(number: Decimal) -> f64 {
    let mut sum = DecimalSum::default();
    sum.add(number);
    // A decimal is far inside f64.
    sum.mean(1).unwrap_or_default()
}

/// The variance of `count` decimals, rounded once; as [`super::variance_of_ints`].
pub fn variance_of_decimals(
    count: u64,
    sum: &DecimalSum,
    squares: &DecimalSquares,
    sample: bool,
) -> Result<f64, Overflow> {
    let squares = Natural::from_limbs(squares.0.0.to_vec());
    variance(count, (sum.magnitude(), 0), (squares, 0), sample, &[ONE, ONE])
}
