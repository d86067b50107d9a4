//! Kernels that a tick and an export spend their time in: keys and exact sums. Run by hand (`benches/README.md`).

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use thyme_core::exact::{DecimalSum, FloatSquares, FloatSum};
use thyme_core::{Decimal, Value, key};

/// Numbers of one sum.
const NUMBERS: usize = 1000;

fn main() {
    divan::main();
}

/// Prices: mostly of a few digits, and one in ten so large that it lies in other limbs of the sum.
fn amounts() -> Vec<f64> {
    let scale = |number: usize| if number.is_multiple_of(10) { 1e12 } else { 0.01 };
    (0..NUMBERS).map(|number| (number * 7919 % 100_003) as f64 * scale(number)).collect()
}

fn sum_of(amounts: &[f64]) -> FloatSum {
    let mut sum = FloatSum::default();
    amounts.iter().for_each(|amount| sum.add(*amount));
    sum
}

#[divan::bench]
fn float_sum_add(bencher: Bencher<'_, '_>) {
    let amounts = amounts();
    bencher.counter(ItemsCount::new(NUMBERS)).bench(|| sum_of(black_box(&amounts)));
}

#[divan::bench]
fn float_squares_add(bencher: Bencher<'_, '_>) {
    let amounts = amounts();
    bencher.counter(ItemsCount::new(NUMBERS)).bench(|| {
        let mut squares = FloatSquares::default();
        black_box(&amounts).iter().for_each(|amount| squares.add(*amount));
        squares
    });
}

#[divan::bench]
fn decimal_sum_add(bencher: Bencher<'_, '_>) {
    let numbers: Vec<Decimal> =
        (0..NUMBERS as i64).map(|number| Decimal::from_int(number * 7919 - 3_000_000)).collect();
    bencher.counter(ItemsCount::new(NUMBERS)).bench(|| {
        let mut sum = DecimalSum::default();
        black_box(&numbers).iter().for_each(|number| sum.add(*number));
        sum
    });
}

/// Of two entries of a page.
#[divan::bench]
fn float_sum_merge(bencher: Bencher<'_, '_>) {
    let amounts = amounts();
    let (first, second) = amounts.split_at(NUMBERS / 2);
    let second = sum_of(second);
    bencher.with_inputs(|| sum_of(first)).bench_refs(|first| first.merge(black_box(&second)));
}

/// A window of a sweep: the sum up to its end less the sum up to its begin.
#[divan::bench]
fn float_sum_difference(bencher: Bencher<'_, '_>) {
    let amounts = amounts();
    let (until, before) = (sum_of(&amounts), sum_of(&amounts[..NUMBERS / 2]));
    let mut window = FloatSum::default();
    bencher.bench_local(|| window.set_difference(black_box(&until), black_box(&before)));
}

#[divan::bench]
fn float_sum_rounded(bencher: Bencher<'_, '_>) {
    let sum = sum_of(&amounts());
    bencher.bench(|| black_box(&sum).to_f64());
}

#[divan::bench]
fn float_sum_mean(bencher: Bencher<'_, '_>) {
    let sum = sum_of(&amounts());
    bencher.bench(|| black_box(&sum).mean(black_box(NUMBERS as u64)));
}

#[divan::bench]
fn encode_key_of_a_number(bencher: Bencher<'_, '_>) {
    let components = [Value::Int(123_456_789)];
    bencher.bench(|| key::encode_key(black_box(&components)));
}

#[divan::bench]
fn encode_key_of_text_and_a_number(bencher: Bencher<'_, '_>) {
    let components = [Value::str("8f14e45f-ceea-467f-a0f5-5a1e2b3c4d5e"), Value::Int(42)];
    bencher.bench(|| key::encode_key(black_box(&components)));
}

/// As rows of an upload are encoded, into one buffer.
#[divan::bench]
fn put_key_of_a_number(bencher: Bencher<'_, '_>) {
    let components = [Value::Int(123_456_789)];
    let mut out = Vec::with_capacity(64);
    bencher.bench_local(|| {
        out.clear();
        key::put_key(&mut out, black_box(&components))
    });
}

#[divan::bench]
fn partition_of_a_key(bencher: Bencher<'_, '_>) {
    let encoded = key::encode_key(&[Value::Int(123_456_789)]).unwrap_or_default();
    bencher.bench(|| key::partition(black_box(&encoded), black_box(16)));
}
