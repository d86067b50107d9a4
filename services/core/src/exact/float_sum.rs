//! Exact sums of f64 values and of their squares.

use super::Overflow;
use super::accumulator::Accumulator;
use super::float_units::FloatUnits;
use super::natural::Natural;
use crate::error::Result;
use std::borrow::Cow;

/// The exact sum of up to 2^63 f64 values, from 2^-1088 to 2^1088; 2^-128 to 2^127 without an allocation. How it is held is a matter of
/// speed alone: value, equality and bytes do not depend on it.
#[derive(Debug, Clone)]
pub struct FloatSum(Held);

type Limbs = Accumulator<4, 34, 17>;

#[derive(Debug, Clone)]
enum Held {
    Limbs(Limbs),
    Units(i128, FloatUnits),
}

/// The exact sum of squares of up to 2^63 f64 values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FloatSquares(Accumulator<6, 67, 34>);

/// Sign, mantissa and the exponent of its last bit. Of what is no value (NaN, infinity), zero.
#[inline]
pub(super) fn split(number: f64) -> (bool, u64, i32) {
    let bits = number.to_bits();
    let field = (bits >> 52) as i32 & 0x7ff;
    let fraction = bits & ((1 << 52) - 1);
    let negative = bits >> 63 == 1;
    match field {
        0 => (negative, fraction, -1074),
        0x7ff => (negative, 0, 0),
        _ => (negative, fraction | 1 << 52, field - 1075),
    }
}

impl Default for FloatSum {
    fn default() -> FloatSum {
        FloatSum(Held::Limbs(Limbs::default()))
    }
}

impl PartialEq for FloatSum {
    fn eq(&self, other: &FloatSum) -> bool {
        *self.limbs() == *other.limbs()
    }
}

impl Eq for FloatSum {}

impl FloatSum {
    pub(super) fn of_units(sum: i128, units: FloatUnits) -> FloatSum {
        FloatSum(Held::Units(sum, units))
    }

    fn limbs(&self) -> Cow<'_, Limbs> {
        match &self.0 {
            Held::Limbs(limbs) => Cow::Borrowed(limbs),
            Held::Units(sum, units) => {
                let mut limbs = Limbs::default();
                limbs.add::<3>(*sum < 0, sum.unsigned_abs(), units.exponent());
                Cow::Owned(limbs)
            }
        }
    }

    #[inline]
    fn limbs_mut(&mut self) -> &mut Limbs {
        if let Held::Units(..) = self.0 {
            self.0 = Held::Limbs(self.limbs().into_owned());
        }
        match &mut self.0 {
            Held::Limbs(limbs) => limbs,
            Held::Units(..) => unreachable!("it has just become limbs"),
        }
    }

    /// Adds a value. NaN and the infinities are not values; they are left out.
    #[inline]
    pub fn add(&mut self, number: f64) {
        debug_assert!(number.is_finite(), "{number} is not a value");
        let (negative, mantissa, exponent) = split(number);
        self.limbs_mut().add::<2>(negative, u128::from(mantissa), exponent);
    }

    pub fn merge(&mut self, other: &FloatSum) {
        self.limbs_mut().combine(&other.limbs(), false);
    }

    /// Takes out values that had been added. Exact.
    pub fn subtract(&mut self, other: &FloatSum) {
        self.limbs_mut().combine(&other.limbs(), true);
    }

    /// Becomes `until - before`.
    #[inline]
    pub fn set_difference(&mut self, until: &FloatSum, before: &FloatSum) {
        self.limbs_mut().set_difference(&until.limbs(), &before.limbs());
    }

    /// The sum, rounded once to the nearest f64, ties to even.
    pub fn to_f64(&self) -> Result<f64, Overflow> {
        match &self.0 {
            Held::Limbs(limbs) => limbs.to_f64(),
            Held::Units(sum, units) => Ok(units.to_f64(*sum)),
        }
    }

    /// The sum divided by `count`, which is not zero, rounded once.
    pub fn mean(&self, count: u64) -> Result<f64, Overflow> {
        match &self.0 {
            Held::Limbs(limbs) => limbs.divided(count),
            Held::Units(sum, units) => Ok(units.divided(*sum, count)),
        }
    }

    /// Magnitude and the exponent of its last bit.
    pub(super) fn parts(&self) -> (Natural, i64) {
        let (_, magnitude, exponent) = self.limbs().parts();
        (magnitude, exponent)
    }

    /// Canonical bytes: equal sums, equal bytes. Self-delimiting.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.limbs().encode(out);
    }

    pub fn decode(bytes: &mut &[u8]) -> Result<FloatSum> {
        Limbs::decode(bytes).map(|limbs| FloatSum(Held::Limbs(limbs)))
    }
}

impl FloatSquares {
    /// Adds the square of a value. NaN and the infinities are not values; they are left out.
    #[inline]
    pub fn add(&mut self, number: f64) {
        debug_assert!(number.is_finite(), "{number} is not a value");
        let (_, mantissa, exponent) = split(number);
        self.0.add::<3>(false, u128::from(mantissa) * u128::from(mantissa), 2 * exponent);
    }

    pub fn merge(&mut self, other: &FloatSquares) {
        self.0.combine(&other.0, false);
    }

    /// Takes out squares that had been added. Exact.
    pub fn subtract(&mut self, other: &FloatSquares) {
        self.0.combine(&other.0, true);
    }

    /// Becomes `until - before`.
    #[inline]
    pub fn set_difference(&mut self, until: &FloatSquares, before: &FloatSquares) {
        self.0.set_difference(&until.0, &before.0);
    }

    /// Magnitude and the exponent of its last bit.
    pub(super) fn parts(&self) -> (Natural, i64) {
        let (_, magnitude, exponent) = self.0.parts();
        (magnitude, exponent)
    }

    /// Canonical bytes: equal sums, equal bytes. Self-delimiting.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    pub fn decode(bytes: &mut &[u8]) -> Result<FloatSquares> {
        Accumulator::decode(bytes).map(FloatSquares)
    }
}
