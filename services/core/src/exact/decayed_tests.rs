//! Decayed sums: order and grouping leave no trace, and the value is near the schoolbook one.

use super::*;
use proptest::prelude::*;

const HOUR: Micros = 3_600_000_000;

fn sum_of(half_life: Micros, values: &[(Micros, f64)]) -> DecayedSum {
    let mut sum = DecayedSum::default();
    for (time, number) in values {
        sum.add(half_life, *time, *number);
    }
    sum
}

fn bytes_of(sum: &DecayedSum) -> Vec<u8> {
    let mut out = Vec::new();
    sum.encode(&mut out);
    out
}

/// The value, and the sum of the magnitudes: each weight in two halves, so that it does not leave the range before its product.
fn schoolbook(half_life: Micros, values: &[(Micros, f64)], at: Micros) -> (f64, f64) {
    let terms = values.iter().map(|(time, number)| {
        let half = libm::exp2(-((at - time) as f64) / half_life as f64 / 2.0);
        number * half * half
    });
    terms.fold((0.0, 0.0), |(sum, magnitude), term| (sum + term, magnitude + term.abs()))
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-500i64..500).prop_map(|cents| cents as f64 / 100.0),
        prop::sample::select(vec![0.0, 1e300, -1e300, 5e-324, -1e-310, 0.1, 3.0, 1e16]),
        any::<i64>().prop_map(|number| number as f64),
    ]
}

fn values() -> impl Strategy<Value = Vec<(Micros, f64)>> {
    let spans = prop::sample::select(vec![1, HOUR, 300 * HOUR, 2_000 * HOUR]);
    let near = prop::sample::select(vec![0, -5 * HOUR, 1_700_000_000_000_000]);
    (spans, near).prop_flat_map(|(span, near)| {
        let time = (0..=span).prop_map(move |offset| near + offset);
        prop::collection::vec((time, number()), 0..80)
    })
}

proptest! {
    #[test]
    fn order_and_grouping_leave_no_trace(
        (values, shuffled) in values().prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle())),
        split in 1usize..20,
        half_life in prop::sample::select(vec![1_000_000, HOUR, 24 * HOUR + 7]),
    ) {
        let whole = sum_of(half_life, &values);
        let mut merged = DecayedSum::default();
        for part in shuffled.chunks(split) {
            let part = sum_of(half_life, part);
            let stored = bytes_of(&part);
            let mut rest = stored.as_slice();
            let decoded = DecayedSum::decode(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert!(decoded == part || decoded.is_too_wide());
            merged.merge(&part);
        }
        prop_assert_eq!(&merged, &whole);
        prop_assert_eq!(bytes_of(&merged), bytes_of(&whole));
        if !whole.is_too_wide() {
            for part in shuffled.chunks(split) {
                merged.subtract(&sum_of(half_life, part));
            }
            prop_assert_eq!(merged, DecayedSum::default());
        }
    }

    #[test]
    fn values_are_near_the_schoolbook(values in values(), after in 0i64..3_000 * HOUR) {
        let at = values.iter().map(|(time, _)| *time).max().unwrap_or(0) + after;
        if let Some(found) = sum_of(HOUR, &values).at(HOUR, at) {
            let (expected, magnitude) = schoolbook(HOUR, &values, at);
            if magnitude < 1e307 {
                let found = found.unwrap();
                // The schoolbook's weight is off by as many bits as its exponent has.
                let tolerance = magnitude * 4e-13 + f64::MIN_POSITIVE;
                prop_assert!((found - expected).abs() <= tolerance, "{found} {expected} {magnitude}");
            }
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(mut sum) = DecayedSum::decode(&mut bytes.as_slice()) {
            sum.at(HOUR, 0);
            let mut other = DecayedSum::default();
            other.merge(&sum);
            sum.add(HOUR, 0, 1.0);
        }
    }
}

#[test]
fn whole_half_lives_are_exact() {
    let sum = sum_of(HOUR, &[(0, 3.0), (HOUR, 5.0), (2 * HOUR, -0.25)]);
    assert_eq!(sum.at(HOUR, 2 * HOUR), Some(Ok(0.75 + 2.5 - 0.25)));
    assert_eq!(sum.at(HOUR, 1_000 * HOUR), Some(Ok(3.0 * 2f64.powi(-998))));
    assert_eq!(sum.at(HOUR, 1_300 * HOUR), Some(Ok(0.0)));
    assert_eq!(sum_of(HOUR, &[(0, 1.5), (0, -1.5)]).at(HOUR, 7), Some(Ok(0.0)));
}

#[test]
fn beyond_f64_is_no_value() {
    let sum = sum_of(HOUR, &[(0, f64::MAX), (0, f64::MAX)]);
    assert_eq!(sum.at(HOUR, 0), Some(Err(Overflow)));
    assert!(sum.at(HOUR, 2 * HOUR).unwrap().is_ok());
}

#[test]
fn a_sum_that_spans_too_much_is_not_kept() {
    let kept = sum_of(HOUR, &[(0, 1.0), (512 * HOUR, 1.0)]);
    let stored = bytes_of(&kept);
    assert!(stored.len() < 90, "{} bytes", stored.len());
    assert_eq!(DecayedSum::decode(&mut stored.as_slice()).unwrap(), kept);
    let wide = sum_of(HOUR, &[(0, 1.0), (513 * HOUR, 1.0)]);
    assert!(wide.at(HOUR, 513 * HOUR).is_some());
    assert_eq!(bytes_of(&wide), [TOO_WIDE]);
    let mut stored = DecayedSum::decode(&mut [TOO_WIDE].as_slice()).unwrap();
    stored.merge(&kept);
    assert!(stored.is_too_wide());
    assert!(sum_of(HOUR, &[(0, 1.0), (5_000 * HOUR, 1.0)]).is_too_wide());
}
