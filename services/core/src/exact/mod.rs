//! Exact sums: of i64 in i128, of f64 in a sparse fixed-point accumulator, of squares in twice the range; rounded once at read.

mod accumulator;
mod decayed;
mod float_sum;
mod int_squares;
mod natural;
mod rounding;
#[cfg(test)]
mod tests;

pub use decayed::{DecayedSum, FADED};
pub use float_sum::{FloatSquares, FloatSum, mean_of_ints, variance_of_floats, variance_of_ints};
pub use int_squares::IntSquares;

/// The result is beyond the range of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;
