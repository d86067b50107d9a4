//! Exact sum of squares of i64 values, in 192 bits.

use super::limbs::Limbs;
use crate::error::Result;

/// Up to 2^64 squares of at most 2^126 fit 192 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IntSquares(Limbs<3>);

impl IntSquares {
    #[inline]
    pub fn add(&mut self, number: i64) {
        let square = u128::from(number.unsigned_abs()) * u128::from(number.unsigned_abs());
        self.0.add(&Limbs([square as u64, (square >> 64) as u64, 0]));
    }

    #[inline]
    pub fn merge(&mut self, other: &IntSquares) {
        self.0.add(&other.0);
    }

    /// Takes out squares that had been added.
    pub fn subtract(&mut self, other: &IntSquares) {
        self.0.subtract(&other.0);
    }

    /// Little-endian limbs.
    pub(super) fn limbs(&self) -> &[u64] {
        &self.0.0
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    pub fn decode(bytes: &mut &[u8]) -> Result<IntSquares> {
        Limbs::decode(bytes, "a stored sum of squares").map(IntSquares)
    }
}
