//! Rounding to f64, once: to nearest, ties to even.

use super::Overflow;
use super::natural::Natural;

/// Rounds `limbs * 2^exponent` (little-endian limbs). `inexact` says that the true number is a little greater, by less than one
/// unit of the lowest limb; the limbs must then have at least 55 significant bits.
pub(super) fn round_to_f64(limbs: &[u64], exponent: i64, inexact: bool) -> Result<f64, Overflow> {
    let Some(top) = limbs.iter().rposition(|limb| *limb != 0) else { return Ok(0.0) };
    let length = 64 * top as i64 + i64::from(64 - limbs[top].leading_zeros());
    // The weight of the last bit that f64 keeps: 53 bits, fewer below the normal numbers.
    let lowest = (exponent + length - 53).max(-1074);
    let dropped = lowest - exponent;
    let mut mantissa = match u64::try_from(dropped) {
        Ok(dropped) => bits_from(limbs, dropped),
        Err(_) => limbs[0] << dropped.unsigned_abs(),
    };
    if dropped > 0 {
        let half = dropped as u64 - 1;
        let above_half = inexact || any_below(limbs, half);
        if bits_from(limbs, half) & 1 == 1 && (above_half || mantissa & 1 == 1) {
            mantissa += 1;
        }
    }
    // The mantissa's leading bit adds one to the exponent field, and none below the normal numbers.
    let field = u64::try_from(lowest + 1074).map_err(|_| Overflow)?;
    if field >= 0x7ff {
        return Err(Overflow);
    }
    let bits = (field << 52) + mantissa;
    // Compared as a number: a carry could reach the sign.
    if bits >= f64::INFINITY.to_bits() {
        return Err(Overflow);
    }
    Ok(f64::from_bits(bits))
}

/// Rounds `numerator * 2^exponent` divided by all `divisors`, which are greater than zero.
pub(super) fn round_quotient(mut numerator: Natural, exponent: i64, divisors: &[u64]) -> Result<f64, Overflow> {
    // Leaves a quotient of at least 66 bits, so that rounding needs no more than whether a remainder was left.
    let wanted = 66 + divisors.iter().map(|divisor| u64::from(64 - divisor.leading_zeros())).sum::<u64>();
    let shift = wanted.saturating_sub(numerator.bits());
    numerator.shift_left(shift);
    let mut is_inexact = false;
    for divisor in divisors {
        is_inexact |= numerator.divide(*divisor) != 0;
    }
    round_to_f64(numerator.limbs(), exponent - shift as i64, is_inexact)
}

/// Rounds `magnitude * 2^exponent`. The exponent is between -900 and 800.
#[inline]
pub(super) fn round_whole(magnitude: u128, exponent: i32) -> f64 {
    // The conversion rounds; the product only moves the point.
    magnitude as f64 * power_of_two(exponent)
}

/// Rounds `magnitude * 2^exponent` divided by `count`, which is not zero. The exponent is between -800 and 800.
#[inline]
pub(super) fn round_whole_over(magnitude: u128, exponent: i32, count: u64) -> f64 {
    if magnitude == 0 {
        return 0.0;
    }
    // By a divisor of b bits a dividend of 63 + b leaves a quotient of 63 or 64: more than f64 keeps, so that of what is left only has to be
    // known whether there is anything.
    let bits = 128 - magnitude.leading_zeros();
    let wanted = 63 + 64 - count.leading_zeros();
    let (dividend, is_cut) = match wanted.checked_sub(bits) {
        Some(more) => (magnitude << more, false),
        None => (magnitude >> (bits - wanted), magnitude.trailing_zeros() < bits - wanted),
    };
    let quotient = dividend / u128::from(count);
    let is_inexact = is_cut || quotient * u128::from(count) != dividend;
    let shift = wanted as i32 - bits as i32;
    (quotient as u64 | u64::from(is_inexact)) as f64 * power_of_two(exponent - shift)
}

/// Not -magnitude: zero has one sign.
#[inline]
pub(super) fn signed(negative: bool, magnitude: f64) -> f64 {
    if negative { 0.0 - magnitude } else { magnitude }
}

/// A normal one.
#[inline]
fn power_of_two(exponent: i32) -> f64 {
    debug_assert!((-1022..=1023).contains(&exponent), "2^{exponent} is no normal number");
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The 64 bits from bit `at` on.
fn bits_from(limbs: &[u64], at: u64) -> u64 {
    let (index, shift) = ((at / 64) as usize, at % 64);
    let low = limbs.get(index).map_or(0, |limb| limb >> shift);
    let high = limbs.get(index + 1).map_or(0, |limb| (limb << 1) << (63 - shift));
    low | high
}

/// Whether any bit below bit `at` is set.
fn any_below(limbs: &[u64], at: u64) -> bool {
    let index = (at / 64) as usize;
    limbs.iter().take(index).any(|limb| *limb != 0)
        || limbs.get(index).is_some_and(|limb| limb & ((1 << (at % 64)) - 1) != 0)
}
