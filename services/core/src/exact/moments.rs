//! Mean and variance from exact sums, rounded once.

use super::natural::Natural;
use super::rounding::round_quotient;
use super::{FloatSquares, FloatSum, IntSquares, Overflow};

/// The mean of `count` ints, rounded once. `count` is not zero.
pub fn mean_of_ints(sum: i128, count: u64) -> Result<f64, Overflow> {
    let mean = round_quotient(Natural::from_u128(sum.unsigned_abs()), 0, &[count])?;
    Ok(if sum < 0 { 0.0 - mean } else { mean })
}

/// The variance of `count` floats, rounded once: (n·Σx² − (Σx)²) / n², for a sample over n·(n − 1). `count` is at least 1, for a
/// sample at least 2.
pub fn variance_of_floats(count: u64, sum: &FloatSum, squares: &FloatSquares, sample: bool) -> Result<f64, Overflow> {
    variance(count, sum.parts(), squares.parts(), sample, &[])
}

/// The same of ints.
pub fn variance_of_ints(count: u64, sum: i128, squares: &IntSquares, sample: bool) -> Result<f64, Overflow> {
    let sum = Natural::from_u128(sum.unsigned_abs());
    variance(count, (sum, 0), (Natural::from_limbs(squares.limbs().to_vec()), 0), sample, &[])
}

/// Sums as magnitude and exponent. `units` are divisors of the result: of values in units of 1/u twice u.
pub(super) fn variance(
    count: u64,
    sum: (Natural, i64),
    squares: (Natural, i64),
    sample: bool,
    units: &[u64],
) -> Result<f64, Overflow> {
    let mut first = squares.0.multiply(&Natural::from_u128(u128::from(count)));
    let mut second = sum.0.multiply(&sum.0);
    let exponent = squares.1.min(2 * sum.1);
    first.shift_left((squares.1 - exponent) as u64);
    second.shift_left((2 * sum.1 - exponent) as u64);
    // Never negative (Cauchy-Schwarz), because all of it is exact.
    let numerator = first.checked_subtract(&second).unwrap_or_default();
    let divisors = [units, &[count, if sample { count - 1 } else { count }]].concat();
    round_quotient(numerator, exponent, &divisors)
}
