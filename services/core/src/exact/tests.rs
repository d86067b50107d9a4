//! Exact sums against schoolbook arithmetic of another kind.

use super::*;
use crate::aggregate::oracle::{Integer, round_ratio};
use crate::decimal::Decimal;
use crate::testing::cases;
use proptest::prelude::*;

/// Finite floats of every size, with many near the edges of limbs and of f64.
fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-1_000_000i64..1_000_000).prop_map(|cents| cents as f64 / 100.0),
        2 => any::<f64>().prop_filter("values are finite", |number| number.is_finite()),
        2 => (any::<bool>(), 0u64..(1 << 52), 0u64..0x7ff)
            .prop_map(|(negative, fraction, field)| f64::from_bits(u64::from(negative) << 63 | field << 52 | fraction)),
        1 => prop::sample::select(vec![
            0.0, -0.0, 5e-324, 1e300, 1e292, 1.99e292, -5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN, f64::EPSILON, 1.0, -1.0, 2f64.powi(127),
            -(2f64.powi(117)), 2f64.powi(-128), 2f64.powi(-75), 9007199254740993.0,
        ]),
    ]
}

fn floats() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(float(), 0..40)
}

fn sum_of(numbers: &[f64]) -> FloatSum {
    let mut sum = FloatSum::default();
    for number in numbers {
        sum.add(*number);
    }
    sum
}

fn squares_of(numbers: &[f64]) -> FloatSquares {
    let mut squares = FloatSquares::default();
    for number in numbers {
        squares.add(*number);
    }
    squares
}

fn bytes_of(sum: &FloatSum) -> Vec<u8> {
    let mut out = Vec::new();
    sum.encode(&mut out);
    out
}

fn square_bytes_of(sum: &FloatSquares) -> Vec<u8> {
    let mut out = Vec::new();
    sum.encode(&mut out);
    out
}

fn units_of(numbers: &[f64]) -> Integer {
    numbers.iter().fold(Integer::default(), |sum, number| sum.plus(&Integer::from_f64_units(*number)))
}

fn same(got: Result<f64, Overflow>, wanted: Option<f64>) -> bool {
    got.ok().map(f64::to_bits) == wanted.map(f64::to_bits)
}

/// The mean square distance from the mean, the naive way; `unit` is how many units make one.
fn naive_variance(units: &[Integer], unit: &Integer, sample: bool) -> Option<f64> {
    let count = Integer::from_i64(units.len() as i64);
    let sum = units.iter().fold(Integer::default(), |sum, number| sum.plus(number));
    let mut squares = Integer::default();
    for number in units {
        let distance = number.times(&count).minus(&sum);
        squares = squares.plus(&distance.times(&distance));
    }
    let scale = unit.times(&count);
    let divisor = Integer::from_i64(units.len() as i64 - i64::from(sample));
    round_ratio(&squares, &scale.times(&scale).times(&divisor))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1_500, 10_000)))]

    #[test]
    fn float_sums_round_once(numbers in floats()) {
        let wanted = round_ratio(&units_of(&numbers), &Integer::power_of_two(1074));
        prop_assert!(same(sum_of(&numbers).to_f64(), wanted), "{wanted:?} {:?}", sum_of(&numbers).to_f64());
    }

    #[test]
    fn float_means_round_once_and_never_overflow(numbers in floats(), count in 1u64..) {
        let divisor = Integer::power_of_two(1074).times(&Integer::from_i64(numbers.len().max(1) as i64));
        let wanted = round_ratio(&units_of(&numbers), &divisor);
        prop_assert!(wanted.is_some());
        prop_assert!(same(sum_of(&numbers).mean(numbers.len().max(1) as u64), wanted));
        let count = count >> 1 | 1;
        let divisor = Integer::power_of_two(1074).times(&Integer::from_i64(count as i64));
        prop_assert!(same(sum_of(&numbers).mean(count), round_ratio(&units_of(&numbers), &divisor)));
    }

    #[test]
    fn order_and_grouping_leave_no_trace(numbers in floats(), cut in 0usize..40, seed: u64) {
        let whole = sum_of(&numbers);
        let mut shuffled = numbers.clone();
        shuffled.sort_by_key(|number| number.to_bits().wrapping_mul(seed | 1));
        let (left, right) = shuffled.split_at(cut.min(shuffled.len()));
        let mut merged = sum_of(right);
        merged.merge(&sum_of(left));
        prop_assert_eq!(bytes_of(&merged), bytes_of(&whole));
        prop_assert_eq!(&merged, &whole);
        merged.subtract(&sum_of(left));
        prop_assert_eq!(bytes_of(&merged), bytes_of(&sum_of(right)));
        prop_assert_eq!(&merged, &sum_of(right));
        merged.subtract(&sum_of(right));
        prop_assert_eq!(bytes_of(&merged), vec![0]);

        let whole = squares_of(&numbers);
        let mut merged = squares_of(right);
        merged.merge(&squares_of(left));
        prop_assert_eq!(square_bytes_of(&merged), square_bytes_of(&whole));
        prop_assert_eq!(&merged, &whole);
        merged.subtract(&squares_of(left));
        prop_assert_eq!(square_bytes_of(&merged), square_bytes_of(&squares_of(right)));

        // Whatever was there before, and of any two sums.
        let (mut difference, mut taken) = (sum_of(&shuffled), sum_of(left));
        difference.set_difference(&sum_of(left), &sum_of(right));
        taken.subtract(&sum_of(right));
        prop_assert_eq!(bytes_of(&difference), bytes_of(&taken));
        let mut difference = squares_of(right);
        difference.set_difference(&whole, &squares_of(left));
        prop_assert_eq!(square_bytes_of(&difference), square_bytes_of(&squares_of(right)));
    }

    #[test]
    fn bytes_read_back(numbers in floats()) {
        let bytes = bytes_of(&sum_of(&numbers));
        let followed = [bytes.as_slice(), &[7, 8]].concat();
        let mut rest = followed.as_slice();
        let read = FloatSum::decode(&mut rest).unwrap();
        prop_assert_eq!(rest, &[7u8, 8][..]);
        prop_assert_eq!(&read, &sum_of(&numbers));
        prop_assert_eq!(bytes_of(&read), bytes);

        let bytes = square_bytes_of(&squares_of(&numbers));
        let read = FloatSquares::decode(&mut bytes.as_slice()).unwrap();
        prop_assert_eq!(&read, &squares_of(&numbers));
        prop_assert_eq!(square_bytes_of(&read), bytes);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        for bytes in [bytes.clone(), [&[bytes.len() as u8][..], &bytes].concat()] {
            if let Ok(sum) = FloatSum::decode(&mut bytes.as_slice()) {
                prop_assert_eq!(FloatSum::decode(&mut bytes_of(&sum).as_slice()).unwrap(), sum);
            }
            let _ = FloatSquares::decode(&mut bytes.as_slice());
            let _ = IntSquares::decode(&mut bytes.as_slice());
            let _ = DecimalSquares::decode(&mut bytes.as_slice());
            if let Ok(sum) = DecimalSum::decode(&mut bytes.as_slice()) {
                let mut again = Vec::new();
                sum.encode(&mut again);
                prop_assert_eq!(DecimalSum::decode(&mut again.as_slice()).unwrap(), sum);
            }
        }
    }

    #[test]
    fn float_variances_round_once(numbers in floats()) {
        let units: Vec<Integer> = numbers.iter().map(|number| Integer::from_f64_units(*number)).collect();
        for sample in [false, true] {
            if numbers.len() <= usize::from(sample) {
                continue;
            }
            let wanted = naive_variance(&units, &Integer::power_of_two(1074), sample);
            let got = variance_of_floats(numbers.len() as u64, &sum_of(&numbers), &squares_of(&numbers), sample);
            prop_assert!(same(got, wanted), "{got:?} {wanted:?}");
        }
    }

    #[test]
    fn int_statistics_round_once(
        numbers in prop::collection::vec(prop_oneof![-100i64..100, any::<i64>(), Just(i64::MIN), Just(i64::MAX)], 1..40),
        cut in 0usize..40,
    ) {
        let units: Vec<Integer> = numbers.iter().map(|number| Integer::from_i64(*number)).collect();
        let count = numbers.len() as u64;
        let sum: i128 = numbers.iter().map(|number| i128::from(*number)).sum();
        let whole = units.iter().fold(Integer::default(), |sum, number| sum.plus(number));
        prop_assert!(same(mean_of_ints(sum, count), round_ratio(&whole, &Integer::from_i64(count as i64))));
        let squares = |numbers: &[i64]| {
            let mut squares = IntSquares::default();
            numbers.iter().for_each(|number| squares.add(*number));
            squares
        };
        let (left, right) = numbers.split_at(cut.min(numbers.len()));
        let mut merged = squares(left);
        merged.merge(&squares(right));
        prop_assert_eq!(merged, squares(&numbers));
        let mut bytes = Vec::new();
        merged.encode(&mut bytes);
        prop_assert_eq!(IntSquares::decode(&mut bytes.as_slice()).unwrap(), merged);
        for sample in [false, true] {
            if numbers.len() > usize::from(sample) {
                let wanted = naive_variance(&units, &Integer::from_i64(1), sample);
                prop_assert!(same(variance_of_ints(count, sum, &merged, sample), wanted));
            }
        }
        merged.subtract(&squares(left));
        prop_assert_eq!(merged, squares(right));
    }
}

fn decimals(numbers: &[i128]) -> (DecimalSum, DecimalSquares) {
    let (mut sum, mut squares) = (DecimalSum::default(), DecimalSquares::default());
    for units in numbers {
        sum.add(Decimal::from_units(*units).unwrap());
        squares.add(Decimal::from_units(*units).unwrap());
    }
    (sum, squares)
}

proptest! {
    #[test]
    fn decimal_statistics_round_once(
        numbers in prop::collection::vec(
            prop_oneof![-100i128..100, 1 - 10i128.pow(38)..10i128.pow(38), Just(10i128.pow(38) - 1), Just(1 - 10i128.pow(38))], 1..40),
        cut in 0usize..40,
    ) {
        let units: Vec<Integer> = numbers.iter().map(|number| Integer::from_i128(*number)).collect();
        let one = Integer::from_i64(10i64.pow(18));
        let count = numbers.len() as u64;
        let whole = units.iter().fold(Integer::default(), |sum, number| sum.plus(number));
        let (mut sum, mut squares) = decimals(&numbers);
        prop_assert_eq!(sum.to_decimal().ok(), whole.to_i128().and_then(Decimal::from_units));
        prop_assert!(same(sum.mean(count), round_ratio(&whole, &one.times(&Integer::from_i64(count as i64)))));
        for sample in [false, true] {
            if numbers.len() > usize::from(sample) {
                let wanted = naive_variance(&units, &one, sample);
                prop_assert!(same(variance_of_decimals(count, &sum, &squares, sample), wanted));
            }
        }
        let (left, right) = numbers.split_at(cut.min(numbers.len()));
        let (mut merged, mut merged_squares) = decimals(left);
        merged.merge(&decimals(right).0);
        merged_squares.merge(&decimals(right).1);
        prop_assert_eq!((merged, merged_squares), (sum, squares));
        let mut bytes = Vec::new();
        sum.encode(&mut bytes);
        squares.encode(&mut bytes);
        let mut rest = bytes.as_slice();
        prop_assert_eq!(DecimalSum::decode(&mut rest).unwrap(), sum);
        prop_assert_eq!(DecimalSquares::decode(&mut rest).unwrap(), squares);
        prop_assert!(rest.is_empty());
        sum.subtract(&decimals(left).0);
        squares.subtract(&decimals(left).1);
        prop_assert_eq!((sum, squares), decimals(right));
    }
}

#[test]
fn sums_of_decimals_leave_the_range_and_come_back() {
    let great = Decimal::from_units(10i128.pow(38) - 1).unwrap();
    for number in [great, great.negated()] {
        let mut sum = DecimalSum::default();
        for count in 1..=1000u64 {
            sum.add(number);
            assert_eq!(sum.to_decimal().is_ok(), count == 1);
            assert_eq!(sum.mean(count), Ok(number.to_f64()));
        }
        (1..1000).for_each(|_| sum.add(number.negated()));
        assert_eq!(sum.to_decimal(), Ok(number));
    }
    let mut bytes = Vec::new();
    decimals(&[-3, 1]).0.encode(&mut bytes);
    assert_eq!(bytes, [1, 3]);
}

#[test]
fn cancellation_loses_nothing() {
    let sum = sum_of(&[1e300, 1.0, 5e-324, -1e300, -1.0]);
    assert_eq!(sum.to_f64(), Ok(5e-324));
    let sum = sum_of(&[0.1; 10]);
    assert_eq!(sum.to_f64(), Ok(1.0));
}

#[test]
fn beyond_f64_is_an_error_and_back_within_it_is_not() {
    let mut sum = sum_of(&[f64::MAX, f64::MAX]);
    assert_eq!(sum.to_f64(), Err(Overflow));
    assert_eq!(sum.mean(2), Ok(f64::MAX));
    sum.add(f64::MIN);
    assert_eq!(sum.to_f64(), Ok(f64::MAX));
    // Half a unit above the greatest f64 rounds up and out, less than that rounds back.
    assert_eq!(sum_of(&[f64::MAX, 2f64.powi(970)]).to_f64(), Err(Overflow));
    assert_eq!(sum_of(&[f64::MAX, 2f64.powi(970), -1.0]).to_f64(), Ok(f64::MAX));
    assert_eq!(
        variance_of_floats(2, &sum_of(&[f64::MAX, f64::MIN]), &squares_of(&[f64::MAX, f64::MIN]), false),
        Err(Overflow)
    );
}

#[test]
fn everything_from_the_greatest_f64_upwards_is_an_error() {
    for more in [2f64.powi(970), 2f64.powi(971), 1e300, 2f64.powi(1023), f64::MAX] {
        for times in [1, 2, 3, 4, 1000] {
            let mut sum = FloatSum::default();
            for _ in 0..times {
                sum.add(f64::MAX);
                sum.add(more);
            }
            assert_eq!(sum.to_f64(), Err(Overflow), "{times} of {more}");
        }
    }
}

#[test]
fn a_remainder_far_below_a_tie_still_counts() {
    // 2^53 + 1 lies between two f64; the remainder is less than the quotient's own last bits show.
    let (tie, count) = ((1i128 << 53) + 1, 1_000_003);
    let of = |number: i128, rest: i128| mean_of_ints(number * count + rest, count as u64);
    assert_eq!(of(tie, 0), Ok(9_007_199_254_740_992.0));
    assert_eq!(of(tie, 1), Ok(9_007_199_254_740_994.0));
    assert_eq!(of(tie + 2, 0), Ok(9_007_199_254_740_996.0));
    assert_eq!(of(tie + 2, -1), Ok(9_007_199_254_740_994.0));
    assert_eq!(of(-tie, -1), Ok(-9_007_199_254_740_994.0));
}

#[test]
fn merging_carries_beyond_the_near_limbs() {
    for sign in [1.0, -1.0] {
        let mut sum = sum_of(&[sign * 2f64.powi(100)]);
        let mut less = FloatSum::default();
        for exponent in 101..200 {
            let same = sum.clone();
            sum.merge(&same);
            less.subtract(&same);
            assert_eq!(sum.to_f64(), Ok(sign * 2f64.powi(exponent)));
            assert_eq!(sum, sum_of(&[sign * 2f64.powi(exponent)]));
            assert_eq!(bytes_of(&sum), bytes_of(&sum_of(&[sign * 2f64.powi(exponent)])));
        }
        less.merge(&sum);
        assert_eq!(less, sum_of(&[sign * 2f64.powi(100)]));
        let mut squares = squares_of(&[2f64.powi(50)]);
        for exponent in 101..300 {
            let same = squares.clone();
            squares.merge(&same);
            if exponent % 2 == 0 {
                assert_eq!(squares, squares_of(&[2f64.powi(exponent / 2)]));
            }
        }
    }
}

#[test]
fn adding_carries_beyond_the_near_limbs() {
    // The greatest addends that still go to the near limbs.
    let great = 2f64.powi(115);
    for sign in [1.0, -1.0] {
        let mut sum = FloatSum::default();
        for count in 1..=10_000u32 {
            sum.add(sign * great);
            assert_eq!(sum.to_f64(), Ok(sign * great * f64::from(count)));
        }
    }
}

#[test]
fn common_sums_take_few_bytes() {
    assert_eq!(bytes_of(&sum_of(&[])), [0]);
    assert_eq!(bytes_of(&sum_of(&[3.0])), [1, 0, 3]);
    assert_eq!(bytes_of(&sum_of(&[-256.0])), [1, 2, 0xff]);
    let cents: Vec<f64> = (0..10_000).map(|cents| f64::from(cents) / 100.0).collect();
    assert!(bytes_of(&sum_of(&cents)).len() <= 13);
}
