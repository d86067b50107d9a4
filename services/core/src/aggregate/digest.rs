//! A digest of values, for ranks and percentiles: exact while it holds few values, then an equal-depth sample of them.
//!
//! Up to 128 values are kept as they are. More become a *sample*: the sorted values are cut into 128 stretches of equal number, and
//! the one in the middle of each stands for all of it. Where x is any number, the share of sampled values below x is then within
//! 1/256 of the share of all values below x; so is the share of those up to x. Digests are put together by listing their values,
//! each with the number of values that it stands for: that adds no error. Only cutting such a list again does: from 256, 512, then
//! 1,024 stretches, so that however often that was done, all errors together stay below 0.01 (0.0074 after four cuts, 0.0005 for
//! each more).
//!
//! Everything is counted in integers: the bytes do not depend on order or platform. What is cut, and how often, does not depend on
//! them either, if cutting follows the fixed stretches of time of the state's trie. Equal values stay together as so many equal
//! samples, so that their share has the same error as any other.

use crate::error::{Error, Result};
use crate::record::{put_varint, take_varint, unzigzag, zigzag};
use crate::value::Value;

/// Up to so many values are kept as they are.
const MAX_WHOLE: usize = 128;
/// Sizes of a sample: the first, and the greatest that repeated cutting leads to. Powers of two.
const MIN_SAMPLE: usize = 128;
const MAX_SAMPLE: usize = 1024;
/// What one value weighs: so that a value of any sample has a whole weight.
const UNIT: u64 = MAX_SAMPLE as u64;
const SIGN: u64 = 1 << 63;

/// A digest of int or float values, no mix of both; a Decimal counts as its nearest float.
#[derive(Debug, Clone)]
pub struct ValueDigest {
    is_float: bool,
    /// Values kept as they are, as ordered keys, in any order.
    whole: Vec<u64>,
    samples: Vec<Sample>,
}

/// Values that stand for equal numbers of values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Sample {
    count: u64,
    /// Ascending.
    keys: Vec<u64>,
}

impl Sample {
    fn weight(&self) -> u64 {
        self.count * (UNIT / self.keys.len() as u64)
    }
}

/// Where a value stands among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// In units of which a value has 1,024.
    pub less: u64,
    pub equal: u64,
    pub all: u64,
}

impl ValueDigest {
    pub fn new(is_float: bool) -> ValueDigest {
        ValueDigest { is_float, whole: Vec::new(), samples: Vec::new() }
    }

    /// Adds an int, or a float or Decimal, whichever it is of. Others are left out.
    pub fn add(&mut self, value: &Value) {
        self.whole.extend(self.key_of(value));
    }

    /// Adds the values of `other`.
    pub fn merge(&mut self, other: &ValueDigest) {
        self.whole.extend_from_slice(&other.whole);
        self.samples.extend_from_slice(&other.samples);
    }

    /// How many values it is of.
    pub fn count(&self) -> u64 {
        self.whole.len() as u64 + self.samples.iter().map(|sample| sample.count).sum::<u64>()
    }

    /// Brings it down to a bounded size.
    pub fn cut(&mut self) {
        let is_small = self.samples.is_empty() && self.whole.len() <= MAX_WHOLE;
        let is_sample = self.whole.is_empty() && self.samples.len() == 1;
        if is_small || is_sample {
            return;
        }
        let longest = self.samples.iter().map(|sample| sample.keys.len()).max();
        let size = longest.map_or(MIN_SAMPLE, |longest| (2 * longest).min(MAX_SAMPLE)) as u128;
        let count = self.count();
        let all = u128::from(count * UNIT);
        let mut keys = Vec::with_capacity(size as usize);
        let mut below = 0u128;
        for (key, weight) in self.weighted() {
            below += u128::from(weight);
            // The middle of the next stretch is (2 * keys.len() + 1) / (2 * size) of all.
            while (2 * keys.len() as u128 + 1) * all < 2 * size * below {
                keys.push(key);
            }
        }
        self.whole.clear();
        self.samples = vec![Sample { count, keys }];
    }

    /// All values that it holds, ascending, with their weights.
    fn weighted(&self) -> Vec<(u64, u64)> {
        let mut list: Vec<(u64, u64)> = self.whole.iter().map(|key| (*key, UNIT)).collect();
        for sample in &self.samples {
            let weight = sample.weight();
            list.extend(sample.keys.iter().map(|key| (*key, weight)));
        }
        // Stable, because that is fast on the ascending runs that digests consist of.
        list.sort_by_key(|(key, _)| *key);
        list
    }

    /// Where `value` stands.
    pub fn standing(&self, value: &Value) -> Option<Standing> {
        let key = self.key_of(value)?;
        let less = self.whole.iter().filter(|other| **other < key).count() as u64;
        let equal = self.whole.iter().filter(|other| **other == key).count() as u64;
        let mut standing = Standing { less: less * UNIT, equal: equal * UNIT, all: self.count() * UNIT };
        for sample in &self.samples {
            let less = sample.keys.partition_point(|other| *other < key);
            let up_to = sample.keys.partition_point(|other| *other <= key);
            standing.less += less as u64 * sample.weight();
            standing.equal += (up_to - less) as u64 * sample.weight();
        }
        Some(standing)
    }

    /// The value with this index among all, ascending from 0; `None` if there is none.
    pub fn value_at(&self, index: u64) -> Option<f64> {
        let sought = u128::from(index) * u128::from(UNIT);
        let mut below = 0u128;
        let found = self.weighted().into_iter().find(|(_, weight)| {
            below += u128::from(*weight);
            below > sought
        });
        found.map(|(key, _)| if self.is_float { float_of(key) } else { (key ^ SIGN) as i64 as f64 })
    }

    fn key_of(&self, value: &Value) -> Option<u64> {
        match value {
            Value::Int(number) if !self.is_float => Some(*number as u64 ^ SIGN),
            Value::Float(number) if self.is_float => Some(float_key(*number)),
            Value::Decimal(number) if self.is_float => Some(float_key(number.to_f64())),
            _ => None,
        }
    }

    /// Canonical bytes of the digest once it is cut: how many values, for a sample the log2 of its size; then the values, ascending,
    /// each as the difference to the one before: of hundredths if all are whole ones, else of keys.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if !self.samples.is_empty() || self.whole.len() > MAX_WHOLE {
            let mut cut = self.clone();
            cut.cut();
            if let [sample] = cut.samples.as_slice() {
                put_varint(out, sample.count);
                out.push(sample.keys.len().ilog2() as u8);
                put_keys(self.is_float, &sample.keys, out);
            }
            return;
        }
        put_varint(out, self.whole.len() as u64);
        if self.whole.is_sorted() {
            return put_keys(self.is_float, &self.whole, out);
        }
        let mut sorted = self.whole.clone();
        sorted.sort_unstable();
        put_keys(self.is_float, &sorted, out);
    }

    pub fn decode(is_float: bool, bytes: &mut &[u8]) -> Result<ValueDigest> {
        let count = take_varint(bytes)?;
        let mut digest = ValueDigest::new(is_float);
        if count <= MAX_WHOLE as u64 {
            digest.whole = take_keys(is_float, count as usize, bytes)?;
            return Ok(digest);
        }
        let (size, rest) = bytes.split_first().ok_or_else(broken)?;
        *bytes = rest;
        let size = 1usize.checked_shl(u32::from(*size)).filter(|size| (MIN_SAMPLE..=MAX_SAMPLE).contains(size));
        // Beyond 2^48 events of a key, sums of weights would overflow.
        if count >> 48 != 0 {
            return Err(broken());
        }
        let keys = take_keys(is_float, size.ok_or_else(broken)?, bytes)?;
        digest.samples.push(Sample { count, keys });
        Ok(digest)
    }

    fn sorted_parts(&self) -> (Vec<u64>, Vec<&Sample>) {
        let mut whole = self.whole.clone();
        whole.sort_unstable();
        let mut samples: Vec<&Sample> = self.samples.iter().collect();
        samples.sort_unstable();
        (whole, samples)
    }
}

impl PartialEq for ValueDigest {
    fn eq(&self, other: &Self) -> bool {
        self.is_float == other.is_float && self.sorted_parts() == other.sorted_parts()
    }
}

impl Eq for ValueDigest {}

const KEYS: u8 = 0;
const HUNDREDTHS: u8 = 1;

fn put_keys(is_float: bool, keys: &[u64], out: &mut Vec<u8>) {
    if keys.is_empty() {
        return;
    }
    if is_float && let Some(hundredths) = keys.iter().map(|key| hundredths(float_of(*key))).collect::<Option<Vec<_>>>()
    {
        out.push(HUNDREDTHS);
        return put_ascending(hundredths.into_iter(), out);
    }
    out.push(KEYS);
    put_ascending(keys.iter().map(|key| (*key ^ SIGN) as i64), out);
}

fn put_ascending(mut numbers: impl Iterator<Item = i64>, out: &mut Vec<u8>) {
    let Some(mut before) = numbers.next() else { return };
    put_varint(out, zigzag(before));
    for number in numbers {
        put_varint(out, number.wrapping_sub(before) as u64);
        before = number;
    }
}

fn take_keys(is_float: bool, count: usize, bytes: &mut &[u8]) -> Result<Vec<u64>> {
    let mut keys = Vec::with_capacity(count);
    if count == 0 {
        return Ok(keys);
    }
    let (form, rest) = bytes.split_first().ok_or_else(broken)?;
    *bytes = rest;
    let mut number = unzigzag(take_varint(bytes)?);
    for index in 0..count {
        if index > 0 {
            let step = take_varint(bytes)?;
            number = number.checked_add_unsigned(step).ok_or_else(broken)?;
        }
        keys.push(match *form {
            KEYS => number as u64 ^ SIGN,
            HUNDREDTHS if is_float => float_key(number as f64 / 100.0),
            _ => return Err(broken()),
        });
    }
    Ok(keys)
}

/// The number of hundredths, if the float is that bit by bit.
fn hundredths(number: f64) -> Option<i64> {
    let hundredths = (number * 100.0).round() as i64;
    let is_exact = hundredths.unsigned_abs() < 1 << 52 && (hundredths as f64 / 100.0).to_bits() == number.to_bits();
    is_exact.then_some(hundredths)
}

/// Orders as the floats do.
fn float_key(number: f64) -> u64 {
    let bits = number.to_bits();
    if bits & SIGN != 0 { !bits } else { bits | SIGN }
}

fn float_of(key: u64) -> f64 {
    f64::from_bits(if key & SIGN != 0 { key ^ SIGN } else { !key })
}

fn broken() -> Error {
    Error::data_loss("a stored digest of values does not decode")
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
