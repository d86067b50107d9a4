//! Digests stay within their error, however they were put together, and their bytes depend on the values alone.

use super::*;
use proptest::prelude::*;

fn bytes_of(digest: &ValueDigest) -> Vec<u8> {
    let mut out = Vec::new();
    digest.encode(&mut out);
    out
}

/// As it comes back from where it was stored.
fn stored(digest: &ValueDigest) -> ValueDigest {
    let bytes = bytes_of(digest);
    let mut rest = bytes.as_slice();
    let decoded = ValueDigest::decode(digest.is_float, &mut rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!(bytes_of(&decoded), bytes);
    decoded
}

fn digest_of(values: &[f64]) -> ValueDigest {
    let mut digest = ValueDigest::new(true);
    values.iter().for_each(|value| digest.add(&Value::Float(*value)));
    digest
}

/// Digests of stretches of `leaf` values, put together `fan` at a time, level by level, each cut.
fn nested(values: &[f64], leaf: usize, fan: usize) -> ValueDigest {
    let mut level: Vec<ValueDigest> = values.chunks(leaf).map(digest_of).collect();
    while level.len() > 1 {
        level = level.chunks(fan).map(|parts| stored(&together(parts))).collect();
    }
    level.pop().unwrap_or(ValueDigest::new(true))
}

fn together(parts: &[ValueDigest]) -> ValueDigest {
    let mut whole = ValueDigest::new(true);
    parts.iter().for_each(|part| whole.merge(part));
    whole
}

/// The greatest error of the share of values below a value, and of those up to it.
fn error_of(digest: &ValueDigest, values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let count = sorted.len() as f64;
    assert_eq!(digest.count(), sorted.len() as u64);
    let step = (sorted.len() / 997).max(1);
    let errors = sorted.iter().step_by(step).map(|value| {
        let standing = digest.standing(&Value::Float(*value)).unwrap();
        let all = standing.all as f64;
        let less = sorted.partition_point(|other| other < value) as f64 / count;
        let up_to = sorted.partition_point(|other| other <= value) as f64 / count;
        let below = standing.less as f64 / all - less;
        let at_most = (standing.less + standing.equal) as f64 / all - up_to;
        below.abs().max(at_most.abs())
    });
    let ranks = (0..=100u64).map(|percent| {
        let index = percent * (sorted.len() as u64 - 1) / 100;
        let found = digest.value_at(index).unwrap();
        let first = sorted.partition_point(|other| *other < found) as f64;
        let last = sorted.partition_point(|other| *other <= found) as f64;
        // The value may stand at any of these ranks.
        (first - index as f64 - 1.0).max(index as f64 - last).max(0.0) / count
    });
    errors.chain(ranks).fold(0.0, f64::max)
}

struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Shapes of data that digests are known to be bad at.
fn shapes(count: usize) -> Vec<(&'static str, Vec<f64>)> {
    let mut random = Random(count as u64);
    let mut make = |shape: &dyn Fn(usize, f64, f64) -> f64| -> Vec<f64> {
        (0..count).map(|index| shape(index, random.unit(), random.unit())).collect()
    };
    vec![
        ("uniform", make(&|_, unit, _| unit)),
        ("ascending", make(&|index, _, _| index as f64)),
        ("descending", make(&|index, _, _| -(index as f64))),
        ("sawtooth", make(&|index, _, _| (index % 4_001) as f64)),
        ("heavy tail", make(&|_, unit, _| 1.0 / (unit + 1e-12).powi(3))),
        ("cents", make(&|_, unit, _| (unit * 500.0).round() / 100.0)),
        ("few values", make(&|_, unit, _| (unit * 7.0).floor())),
        ("mostly zero", make(&|_, unit, other| if unit < 0.9 { 0.0 } else { other })),
        ("one value", make(&|_, _, _| 0.1)),
        ("two hills", make(&|_, unit, other| if unit < 0.3 { other } else { 1e9 + other * 1e-3 })),
        ("drifting", make(&|index, unit, _| index as f64 / 1_000.0 + unit * 5.0)),
        ("alternating ends", make(&|index, unit, _| if index % 2 == 0 { unit } else { 1e6 - unit })),
    ]
}

#[test]
fn errors_stay_small_however_digests_are_nested() {
    let mut worst = (0.0, "");
    for count in [129, 1_000, 40_000] {
        for (shape, values) in shapes(count) {
            for (leaf, fan) in [(64, 64), (50, 2), (33, 7), (500, 2)] {
                let error = error_of(&nested(&values, leaf, fan), &values);
                assert!(error <= 0.01, "{shape}, {count} values, {leaf} by {fan}: {error}");
                worst = if error > worst.0 { (error, shape) } else { worst };
            }
        }
    }
    // A bound that is far from what happens would not notice a defect.
    assert!(worst.0 > 0.003, "{worst:?}");
}

#[test]
fn one_cut_errs_by_less_than_a_256th() {
    for (shape, values) in shapes(5_000) {
        let error = error_of(&stored(&digest_of(&values)), &values);
        assert!(error <= 1.0 / 256.0, "{shape}: {error}");
    }
}

/// Each level adds a few values to what was cut before, seventeen times: as deep as the trie may become.
#[test]
fn errors_stay_small_in_the_deepest_trie() {
    for (shape, values) in shapes(60_000) {
        let mut chain = stored(&digest_of(&values[..9_000]));
        let mut seen = 9_000;
        for part in values[9_000..].chunks(3_000) {
            let mut level = chain.clone();
            part.chunks(60).for_each(|leaf| level.merge(&stored(&digest_of(leaf))));
            chain = stored(&level);
            seen += part.len();
        }
        assert_eq!(seen, values.len());
        let error = error_of(&chain, &values);
        assert!(error <= 0.01, "{shape}: {error}");
    }
}

#[test]
fn a_part_that_was_cut_alone_passes_as_it_is() {
    let mut chain = stored(&digest_of(&shapes(5_000)[0].1));
    let bytes = bytes_of(&chain);
    for _ in 0..17 {
        chain = stored(&together(&[ValueDigest::new(true), chain]));
    }
    assert_eq!(bytes_of(&chain), bytes);
}

#[test]
fn bytes_are_few() {
    let cents: Vec<f64> = shapes(64).swap_remove(5).1;
    assert!(bytes_of(&digest_of(&cents)).len() <= 70);
    assert!(bytes_of(&digest_of(&vec![0.1; 5_000])).len() <= 150);
    assert_eq!(bytes_of(&ValueDigest::new(true)), [0]);
    let units: Vec<f64> = shapes(5_000).swap_remove(0).1;
    assert!(bytes_of(&digest_of(&units)).len() <= 128 * 8 + 10);
}

proptest! {
    #[test]
    fn order_leaves_no_trace(
        (values, shuffled) in prop::collection::vec(prop_oneof![-3i64..3, any::<i64>()], 0..400)
            .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle())),
    ) {
        let ints = |values: &[i64]| {
            let mut digest = ValueDigest::new(false);
            values.iter().for_each(|value| digest.add(&Value::Int(*value)));
            digest
        };
        let (one, two) = (ints(&values), ints(&shuffled));
        prop_assert_eq!(&one, &two);
        prop_assert_eq!(bytes_of(&one), bytes_of(&two));
        let mut cut = one.clone();
        cut.cut();
        prop_assert_eq!(stored(&two), cut);
        let mut sorted = values.clone();
        sorted.sort_unstable();
        for (index, value) in sorted.iter().enumerate() {
            prop_assert_eq!(one.value_at(index as u64), Some(*value as f64));
        }
        prop_assert_eq!(one.value_at(values.len() as u64), None);
    }

    #[test]
    fn floats_come_back_bit_by_bit(values in prop::collection::vec(any::<f64>(), 0..128)) {
        let mut values: Vec<f64> = values.into_iter().filter_map(|value| match Value::float(value) {
            Some(Value::Float(value)) => Some(value),
            _ => None,
        }).collect();
        let digest = stored(&digest_of(&values));
        values.sort_unstable_by(f64::total_cmp);
        for (index, value) in values.iter().enumerate() {
            prop_assert_eq!(digest.value_at(index as u64).map(f64::to_bits), Some(value.to_bits()));
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), is_float: bool) {
        if let Ok(mut digest) = ValueDigest::decode(is_float, &mut bytes.as_slice()) {
            digest.merge(&digest.clone());
            digest.cut();
            digest.value_at(0);
        }
    }
}
