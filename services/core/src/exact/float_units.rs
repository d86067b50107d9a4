//! Sums of floats that are near each other, in one number of 128 bits.

use super::FloatSum;
use super::float_sum::split;
use super::rounding::{round_whole, round_whole_over, signed};

/// Values and units lie between 2^-LIMIT and 2^LIMIT, so that no quotient leaves the normal numbers of f64 on its way.
const LIMIT: i32 = 800;
/// Most bits of a sum, its sign left out.
const BITS: u32 = 126;

/// Compared side by side.
const LANES: usize = 4;

/// A power of two of which each of some floats is a whole multiple, so small a number of times that no sum of them leaves 126 bits. Such
/// sums are as exact as those of [`FloatSum`], and quicker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloatUnits {
    exponent: i32,
}

impl FloatUnits {
    /// `None` if the values are too far from each other. NaN stands for no value.
    pub fn of(values: &[f64]) -> Option<FloatUnits> {
        // Side by side, so that the processor compares several at once.
        let (mut mins, mut maxes) = ([f64::INFINITY; LANES], [0.0f64; LANES]);
        let mut compare = |values: &[f64; LANES]| {
            for lane in 0..LANES {
                let size = values[lane].abs();
                let nonzero = if size > 0.0 { size } else { f64::INFINITY };
                mins[lane] = if nonzero < mins[lane] { nonzero } else { mins[lane] };
                maxes[lane] = if size > maxes[lane] { size } else { maxes[lane] };
            }
        };
        let (chunks, rest) = values.as_chunks::<LANES>();
        chunks.iter().for_each(&mut compare);
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        compare(&last);
        let exponent = |size: f64| split(size).2;
        let (min, max) = (mins.into_iter().fold(f64::INFINITY, f64::min), maxes.into_iter().fold(0.0, f64::max));
        let (least, greatest) = if max > 0.0 { (exponent(min), exponent(max)) } else { (LIMIT, -LIMIT) };
        // None is greater than the mantissa's 53 bits at the greatest exponent.
        let of_value = 53 + greatest.saturating_sub(least).max(0).unsigned_abs();
        let of_count = usize::BITS - values.len().leading_zeros();
        let fits = max.is_finite() && least >= -LIMIT && greatest + 53 <= LIMIT && of_value + of_count <= BITS;
        fits.then_some(FloatUnits { exponent: least })
    }

    /// How many units one of the values is; 0 of NaN.
    #[inline]
    pub fn count(self, value: f64) -> i128 {
        let (negative, mantissa, exponent) = split(value);
        if mantissa == 0 {
            return 0;
        }
        let units = i128::from(mantissa) << (exponent - self.exponent);
        if negative { -units } else { units }
    }

    /// The sum that is so many units, which must be one of the values or a difference of such sums.
    #[inline]
    pub fn sum(self, units: i128) -> FloatSum {
        FloatSum::of_units(units, self)
    }

    pub(super) fn exponent(self) -> i32 {
        self.exponent
    }

    #[inline]
    pub(super) fn to_f64(self, units: i128) -> f64 {
        signed(units < 0, round_whole(units.unsigned_abs(), self.exponent))
    }

    /// So many units over `count`, which is not zero, rounded once.
    #[inline]
    pub(super) fn divided(self, units: i128, count: u64) -> f64 {
        signed(units < 0, round_whole_over(units.unsigned_abs(), self.exponent, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::oracle::{Integer, round_ratio};
    use crate::testing::cases;
    use proptest::prelude::*;

    /// Floats some of which are near each other, and some not.
    fn floats() -> impl Strategy<Value = Vec<f64>> {
        let cents = (-1_000_000i64..1_000_000).prop_map(|cents| cents as f64 / 100.0);
        let near = |middle: i32| {
            (any::<bool>(), 0u64..(1 << 52), middle - 12..middle + 12).prop_map(|(negative, fraction, exponent)| {
                f64::from_bits(u64::from(negative) << 63 | ((exponent + 1023) as u64) << 52 | fraction)
            })
        };
        let near_some = prop::sample::select(vec![-900, -790, -740, -60, 0, 60, 740, 790, 900]);
        let any_float = any::<f64>().prop_filter("values are finite", |number| number.is_finite());
        prop_oneof![
            4 => prop::collection::vec(cents, 0..40),
            4 => near_some.prop_flat_map(move |middle| prop::collection::vec(near(middle), 1..40)),
            1 => prop::collection::vec(prop_oneof![any_float, Just(0.0), Just(-0.0)], 0..3),
        ]
    }

    fn limbs_of(numbers: &[f64]) -> FloatSum {
        numbers.iter().fold(FloatSum::default(), |mut sum, number| {
            sum.add(*number);
            sum
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases(3_000, 30_000)))]

        #[test]
        fn sums_in_units_are_those_in_limbs(numbers in floats(), cut in 0usize..40, count: u64) {
            let Some(units) = FloatUnits::of(&numbers) else { return Ok(()) };
            let numbers = &numbers[cut.min(numbers.len())..];
            let sum = units.sum(numbers.iter().map(|number| units.count(*number)).sum());
            let limbs = limbs_of(numbers);
            prop_assert_eq!(&sum, &limbs);
            let bytes = |sum: &FloatSum| {
                let mut bytes = Vec::new();
                sum.encode(&mut bytes);
                bytes
            };
            prop_assert_eq!(bytes(&sum), bytes(&limbs));
            prop_assert_eq!(sum.to_f64().map(f64::to_bits), limbs.to_f64().map(f64::to_bits));
            for count in [1, 2, 3, numbers.len().max(1) as u64, count | 1, count >> 40 | 1, u64::MAX] {
                prop_assert_eq!(sum.mean(count).map(f64::to_bits), limbs.mean(count).map(f64::to_bits), "{}", count);
                // And both are the quotient, rounded once.
                let exact = numbers.iter().fold(Integer::default(), |sum, number| sum.plus(&Integer::from_f64_units(*number)));
                if let Ok(small) = i64::try_from(count) {
                    let divisor = Integer::power_of_two(1074).times(&Integer::from_i64(small));
                    let wanted = round_ratio(&exact, &divisor).map(f64::to_bits);
                    prop_assert_eq!(sum.mean(count).ok().map(f64::to_bits), wanted);
                }
            }
            // Goes on as one in limbs does.
            let (mut more, mut others) = (sum.clone(), limbs.clone());
            more.merge(&units.sum(units.count(numbers.first().copied().unwrap_or_default())));
            others.add(numbers.first().copied().unwrap_or_default());
            prop_assert_eq!(&more, &others);
            more.subtract(&sum);
            others.subtract(&limbs);
            prop_assert_eq!(&more, &others);
        }
    }

    #[test]
    fn what_is_near_each_other_has_units() {
        assert!(FloatUnits::of(&[0.01, 1_000_000.0, f64::NAN, 0.0, -12.34]).is_some());
        assert!(FloatUnits::of(&[]).is_some());
        assert!(FloatUnits::of(&[1.0, 1e30]).is_none());
        assert!(FloatUnits::of(&[5e-324]).is_none());
        assert!(FloatUnits::of(&[1e300]).is_none());
        assert!(FloatUnits::of(&[1.0, f64::INFINITY]).is_none());
    }
}
