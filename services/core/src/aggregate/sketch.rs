//! HyperLogLog: how many distinct values there are, about, in bounded space and mergeable.
//!
//! Up to 64 distinct values their hashes are kept, and the count is exact (but for equal 64-bit hashes). Above that, 4,096
//! registers: standard error 1.04 / sqrt(4096) = 1.6 %. Which form it takes depends on the set of values alone, so that equal
//! sets have equal bytes, whatever their order and grouping.
//!
//! The estimator is Ertl's improved raw one ("New cardinality estimation algorithms for HyperLogLog sketches", 2017, algorithm
//! 6): no bias at any size, no empirical tables. It uses no function but the square root, so its bits do not depend on the
//! platform.

use crate::error::{Error, Result};
use crate::record::{encode_row, put_varint, take_varint};
use crate::value::Value;

/// log2 of the number of registers.
const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;
/// A register holds 0 (nothing seen) or a rank from 1 to this.
const MAX_RANK: u8 = (64 - PRECISION + 1) as u8;
/// Up to so many distinct hashes are kept as they are.
const MAX_HASHES: usize = 64;

/// A sketch of a set of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistinctSketch(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// Sorted.
    Hashes(Vec<u64>),
    Registers(Box<[u8; REGISTERS]>),
}

impl Default for DistinctSketch {
    fn default() -> Self {
        DistinctSketch(Form::Hashes(Vec::new()))
    }
}

impl DistinctSketch {
    /// The standard error of an estimate, relative, above 64 distinct values.
    pub const STANDARD_ERROR: f64 = 0.01625;

    /// Adds a value that is not null.
    pub fn add(&mut self, value: &Value) {
        self.add_hash(hash(value));
    }

    fn add_hash(&mut self, hash: u64) {
        match &mut self.0 {
            Form::Registers(registers) => raise(registers, hash),
            Form::Hashes(hashes) => {
                let Err(place) = hashes.binary_search(&hash) else { return };
                hashes.insert(place, hash);
                if hashes.len() > MAX_HASHES {
                    let mut registers = Box::new([0; REGISTERS]);
                    hashes.iter().for_each(|hash| raise(&mut registers, *hash));
                    self.0 = Form::Registers(registers);
                }
            }
        }
    }

    /// Adds the values of `other`.
    pub fn merge(&mut self, other: &DistinctSketch) {
        match (&mut self.0, &other.0) {
            (_, Form::Hashes(hashes)) => hashes.iter().for_each(|hash| self.add_hash(*hash)),
            (Form::Registers(registers), Form::Registers(others)) => {
                for (register, other) in registers.iter_mut().zip(others.iter()) {
                    *register = (*register).max(*other);
                }
            }
            (Form::Hashes(hashes), Form::Registers(others)) => {
                let mut registers = others.clone();
                hashes.iter().for_each(|hash| raise(&mut registers, *hash));
                self.0 = Form::Registers(registers);
            }
        }
    }

    /// About how many distinct values there are.
    pub fn estimate(&self) -> u64 {
        match &self.0 {
            Form::Hashes(hashes) => hashes.len() as u64,
            Form::Registers(registers) => estimate(registers).round() as u64,
        }
    }

    /// Canonical bytes. Hashes: their number, then each. Registers: a number above 64, that of the registers in use plus 64; then
    /// their index gaps and ranks, or where that is not longer, all ranks.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Form::Hashes(hashes) => {
                put_varint(out, hashes.len() as u64);
                hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
            }
            Form::Registers(registers) => {
                let used = registers.iter().filter(|rank| **rank > 0).count();
                put_varint(out, (MAX_HASHES + used) as u64);
                if is_dense(used) {
                    out.extend_from_slice(registers.as_slice());
                    return;
                }
                let mut next = 0;
                for (index, rank) in registers.iter().enumerate().filter(|(_, rank)| **rank > 0) {
                    put_varint(out, (index - next) as u64);
                    out.push(*rank);
                    next = index + 1;
                }
            }
        }
    }

    pub fn decode(bytes: &mut &[u8]) -> Result<DistinctSketch> {
        let count = usize::try_from(take_varint(bytes)?).map_err(|_| broken())?;
        if count <= MAX_HASHES {
            let (body, rest) = bytes.split_at_checked(8 * count).ok_or_else(broken)?;
            *bytes = rest;
            let (words, _) = body.as_chunks::<8>();
            let hashes: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
            return if hashes.is_sorted() { Ok(DistinctSketch(Form::Hashes(hashes))) } else { Err(broken()) };
        }
        let used = count - MAX_HASHES;
        let mut registers = Box::new([0; REGISTERS]);
        if is_dense(used) {
            let (body, rest) = bytes.split_at_checked(REGISTERS).ok_or_else(broken)?;
            *bytes = rest;
            registers.copy_from_slice(body);
        } else {
            let mut next = 0;
            for _ in 0..used {
                let gap = usize::try_from(take_varint(bytes)?).map_err(|_| broken())?;
                let (rank, rest) = bytes.split_first().ok_or_else(broken)?;
                *bytes = rest;
                let index = gap.checked_add(next).ok_or_else(broken)?;
                *registers.get_mut(index).ok_or_else(broken)? = *rank;
                next = index + 1;
            }
        }
        if registers.iter().any(|rank| *rank > MAX_RANK) {
            return Err(broken());
        }
        Ok(DistinctSketch(Form::Registers(registers)))
    }
}

/// Whether all registers are written: a used one alone takes two bytes or three.
fn is_dense(used: usize) -> bool {
    used >= REGISTERS / 2
}

/// XXH3-64 of the value's type and bytes.
fn hash(value: &Value) -> u64 {
    let number = |tag: u8, number: [u8; 8]| {
        let mut bytes = [tag; 9];
        bytes[1..].copy_from_slice(&number);
        xxhash_rust::xxh3::xxh3_64(&bytes)
    };
    match value {
        Value::Int(integer) => number(1, integer.to_le_bytes()),
        Value::Float(float) => number(2, float.to_le_bytes()),
        Value::Time(micros) => number(3, micros.to_le_bytes()),
        Value::Str(text) => xxhash_rust::xxh3::xxh3_64(text.as_bytes()),
        Value::Bytes(bytes) => xxhash_rust::xxh3::xxh3_64(bytes),
        other => {
            let mut bytes = Vec::new();
            encode_row(std::slice::from_ref(other), &mut bytes);
            xxhash_rust::xxh3::xxh3_64(&bytes)
        }
    }
}

/// The top bits of a hash pick the register, the rank is one more than the zeros that lead the rest.
fn raise(registers: &mut [u8; REGISTERS], hash: u64) {
    let index = (hash >> (64 - PRECISION)) as usize;
    let rest = hash << PRECISION;
    let rank = (rest.leading_zeros() as u8 + 1).min(MAX_RANK);
    registers[index] = registers[index].max(rank);
}

fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let mut of_rank = [0u32; MAX_RANK as usize + 1];
    for rank in registers {
        of_rank[usize::from(*rank)] += 1;
    }
    let all = REGISTERS as f64;
    let mut z = all * tau(1.0 - f64::from(of_rank[usize::from(MAX_RANK)]) / all);
    for count in of_rank[1..usize::from(MAX_RANK)].iter().rev() {
        z = 0.5 * (z + f64::from(*count));
    }
    z += all * sigma(f64::from(of_rank[0]) / all);
    all * all / (2.0 * std::f64::consts::LN_2 * z)
}

/// x + the sum of x^(2^k) · 2^(k − 1) over k from 1.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// A third of 1 − x − the sum of (1 − x^(2^−k))² · 2^−k over k from 1.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

fn broken() -> Error {
    Error::data_loss("a stored distinct sketch does not decode")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sketch_of(values: impl IntoIterator<Item = i64>) -> DistinctSketch {
        let mut sketch = DistinctSketch::default();
        values.into_iter().for_each(|value| sketch.add(&Value::Int(value)));
        sketch
    }

    fn bytes_of(sketch: &DistinctSketch) -> Vec<u8> {
        let mut out = Vec::new();
        sketch.encode(&mut out);
        out
    }

    #[test]
    fn exact_up_to_64_then_within_four_standard_errors() {
        for count in [0, 1, 63, 64] {
            assert_eq!(sketch_of((0..count).chain(0..count)).estimate(), count as u64);
        }
        for count in [65, 100, 1_000, 3_000, 10_000, 20_000, 100_000, 1_000_000] {
            let estimate = sketch_of(0..count).estimate() as f64;
            let error = (estimate / count as f64 - 1.0).abs();
            assert!(error <= 4.0 * DistinctSketch::STANDARD_ERROR, "{count}: {estimate}");
        }
    }

    #[test]
    fn errors_average_out_to_the_standard_error() {
        for count in [200i64, 5_000, 30_000] {
            let errors = (0..40).map(|run| {
                let from = run * 1_000_000;
                sketch_of(from..from + count).estimate() as f64 / count as f64 - 1.0
            });
            let mean_square = errors.map(|error| error * error).sum::<f64>() / 40.0;
            assert!(mean_square.sqrt() <= 1.5 * DistinctSketch::STANDARD_ERROR, "{count}: {}", mean_square.sqrt());
        }
    }

    proptest! {
        #[test]
        fn bytes_depend_on_the_set_alone(
            left in prop::collection::vec(0i64..3_000, 0..400),
            right in prop_oneof![prop::collection::vec(0i64..50, 0..60), prop::collection::vec(0i64..9_000, 0..6_000)],
        ) {
            let whole = sketch_of(right.iter().rev().chain(&left).copied());
            for (one, other) in [(&left, &right), (&right, &left)] {
                let mut merged = sketch_of(one.iter().copied());
                merged.merge(&sketch_of(other.iter().copied()));
                prop_assert_eq!(&merged, &whole);
            }
            let bytes = bytes_of(&whole);
            prop_assert!(bytes.len() <= REGISTERS + 2);
            let followed = [bytes.as_slice(), &[9]].concat();
            let mut rest = followed.as_slice();
            prop_assert_eq!(DistinctSketch::decode(&mut rest).unwrap(), whole);
            prop_assert_eq!(rest, &[9u8][..]);
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(sketch) = DistinctSketch::decode(&mut bytes.as_slice()) {
                sketch.estimate();
            }
        }
    }
}
