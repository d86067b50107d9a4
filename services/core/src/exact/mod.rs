//! Exact sums: of i64 in i128, of decimals in 192 bits, of f64 in a sparse fixed-point accumulator, of squares in twice the range;
//! rounded once at read.

mod accumulator;
mod decayed;
mod decimal_sum;
mod float_sum;
mod float_units;
mod int_squares;
mod limbs;
mod moments;
mod natural;
mod rounding;
#[cfg(test)]
mod tests;

pub use decayed::{DecayedSum, FADED};
pub use decimal_sum::{DecimalSquares, DecimalSum, decimal_to_f64, variance_of_decimals};
pub use float_sum::{FloatSquares, FloatSum};
pub use float_units::FloatUnits;
pub use int_squares::IntSquares;
pub use moments::{mean_of_ints, variance_of_floats, variance_of_ints};

/// The result is beyond the range of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;
