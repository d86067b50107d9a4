//! Arithmetic of decimals, exact unless said otherwise. `None` is beyond 38 digits, or a division by zero.

use super::{Decimal, ONE, SCALE};
use std::cmp::Ordering;

impl Decimal {
    pub fn checked_add(self, other: Decimal) -> Option<Decimal> {
        self.units().checked_add(other.units()).and_then(Decimal::from_units)
    }

    pub fn checked_sub(self, other: Decimal) -> Option<Decimal> {
        self.units().checked_sub(other.units()).and_then(Decimal::from_units)
    }

    /// The product, rounded to 18 digits after the point, half to even.
    pub fn checked_mul(self, other: Decimal) -> Option<Decimal> {
        let one = ONE.unsigned_abs();
        let split = |number: Decimal| (number.units().unsigned_abs() / one, number.units().unsigned_abs() % one);
        let ((whole, fraction), (other_whole, other_fraction)) = (split(self), split(other));
        // Below 10^36, 10^38 and 10^38; only the product of the whole parts may be beyond what fits.
        let fine = fraction * other_fraction;
        let mut units = whole.checked_mul(other_whole)?.checked_mul(one)?;
        for part in [whole * other_fraction, fraction * other_whole, fine / one] {
            units = units.checked_add(part)?;
        }
        let rest = fine % one;
        let is_up = rest > one / 2 || (rest == one / 2 && units % 2 == 1);
        let units = i128::try_from(units + u128::from(is_up)).ok()?;
        Decimal::from_units(if (self < Decimal::ZERO) != (other < Decimal::ZERO) { -units } else { units })
    }

    /// The quotient, rounded down to a whole number.
    pub fn checked_floordiv(self, other: Decimal) -> Option<Decimal> {
        let (a, b) = (self.units(), other.units());
        let quotient = a.checked_div(b)?;
        let is_down = a % b != 0 && (a < 0) != (b < 0);
        (quotient - i128::from(is_down)).checked_mul(ONE).and_then(Decimal::from_units)
    }

    /// What [`Decimal::checked_floordiv`] leaves, with the sign of the divisor.
    pub fn checked_mod(self, other: Decimal) -> Option<Decimal> {
        let (a, b) = (self.units(), other.units());
        let rest = a.checked_rem(b)?;
        Decimal::from_units(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
    }

    pub fn negated(self) -> Decimal {
        Decimal::from_units(-self.units()).unwrap_or_default()
    }

    pub fn abs(self) -> Decimal {
        if self < Decimal::ZERO { self.negated() } else { self }
    }

    /// Down to a whole number.
    pub fn floor(self) -> Option<Decimal> {
        Decimal::from_units(self.units().div_euclid(ONE) * ONE)
    }

    /// Up to a whole number.
    pub fn ceil(self) -> Option<Decimal> {
        self.negated().floor().map(Decimal::negated)
    }

    /// Rounded to so many digits after the point, half to even.
    pub fn round(self, digits: u8) -> Option<Decimal> {
        let power = 10i128.pow(u32::from(SCALE.saturating_sub(digits)));
        Decimal::from_units(divide_rounded(self.units(), power) * power)
    }

    /// Which is greater, exactly.
    pub fn compare_f64(self, number: f64) -> Ordering {
        if number >= 1e20 {
            return Ordering::Less;
        }
        if number <= -1e20 {
            return Ordering::Greater;
        }
        // Below 1e20 a float's whole part is exact in units, and what lies after the point is exact as a float.
        let whole = number.trunc() as i128 * ONE;
        match self.units().checked_sub(whole) {
            Some(rest) => compare_units(rest, number - number.trunc()),
            // So far apart that the fraction changes nothing.
            None => self.units().cmp(&whole),
        }
    }
}

/// Compares `units` of 10^-18 with a float between -1 and 1.
fn compare_units(units: i128, fraction: f64) -> Ordering {
    let is_negative = fraction < 0.0;
    if (units < 0) != is_negative || units == 0 || fraction == 0.0 {
        let sign = if fraction == 0.0 { Ordering::Equal } else { 0.0f64.total_cmp(&fraction) };
        return units.cmp(&0).then(sign);
    }
    // |fraction| = mantissa * 2^-shift, so that |units| * 2^shift is compared with mantissa * 10^18.
    let bits = fraction.abs().to_bits();
    let (field, low) = ((bits >> 52) as u32, bits & ((1 << 52) - 1));
    let (mantissa, shift) = if field == 0 { (low, 1074) } else { (low | 1 << 52, 1075 - field) };
    let (left, right) = (units.unsigned_abs(), u128::from(mantissa) * ONE.unsigned_abs());
    let order = if shift >= left.leading_zeros() { Ordering::Greater } else { (left << shift).cmp(&right) };
    if is_negative { order.reverse() } else { order }
}

/// `number / divisor`, half to even. The divisor is greater than zero.
pub(super) fn divide_rounded(number: i128, divisor: i128) -> i128 {
    let (down, rest) = (number.div_euclid(divisor), number.rem_euclid(divisor));
    let is_up = match rest.cmp(&(divisor - rest)) {
        Ordering::Less => false,
        Ordering::Equal => down % 2 != 0,
        Ordering::Greater => true,
    };
    down + i128::from(is_up)
}
