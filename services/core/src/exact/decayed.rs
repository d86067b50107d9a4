//! The exact sum of values that fade by half in every half-life.
//!
//! A value v of time t counts `v * 2^((t - T) / half_life)` at time T. Here it is kept as of time 0: the whole half-lives before t
//! only move the binary point, the rest, below one, gives a factor by one exp2. Those terms are f64 numbers, within 2^-51 of
//! themselves, and they are added exactly. So a sum depends on its values alone: no order, grouping or time of reference leaves a
//! trace in it, and the same sum serves every T.

use super::Overflow;
use super::float_sum::split;
use super::rounding::round_to_f64;
use crate::error::{Error, Result};
use crate::record::{put_varint, take_varint, unzigzag, zigzag};
use crate::time::Micros;

/// What is older than so many half-lives is nothing: below 2^1024 * 2^-2300, of which 2^63 stay below half of the least f64.
pub const FADED: i64 = 2300;
/// A stored sum spans at most so many half-lives: it takes about one bit for each.
const MAX_STORED_SPAN: u64 = 512;
/// A sum in memory spans at most so many: more than [`FADED`].
const MAX_SPAN: u64 = 4096;

/// A sum of fading values. Two are equal if they come to the same.
#[derive(Debug, Clone)]
pub enum DecayedSum {
    Sum(Terms),
    /// Its values lie so far apart that their sum is not kept: they are to be read one by one.
    TooWide,
}

/// The terms' exact sum, as of time 0, in units of `2^(64 * first)`.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// The first and the last half-life (time divided by the half-life, floored) that a value was added of, zeros left out.
    span: Option<(i64, i64)>,
    first: i64,
    /// Two's complement, least first.
    limbs: Vec<u64>,
}

impl Default for DecayedSum {
    fn default() -> Self {
        DecayedSum::Sum(Terms::default())
    }
}

impl DecayedSum {
    /// Adds the value of an event. NaN and the infinities are not values; they are left out.
    pub fn add(&mut self, half_life: Micros, time: Micros, number: f64) {
        let (whole, rest) = (time.div_euclid(half_life), time.rem_euclid(half_life));
        // In [1/2, 1), so that a product cannot overflow; near the least f64 it would lose bits, so it is computed among
        // larger numbers.
        let factor = libm::exp2(-((half_life - rest) as f64 / half_life as f64));
        let raised = if number.abs() < 1e-200 { 512 } else { 0 };
        let number = if raised > 0 { number * TWO_POW_512 } else { number };
        let (negative, mantissa, exponent) = split(number * factor);
        if mantissa == 0 {
            return;
        }
        let Some(terms) = self.widened((whole, whole)) else { return };
        let place = i64::from(exponent) + whole + 1 - raised;
        let shift = place.rem_euclid(64) as u32;
        let wide = u128::from(mantissa) << shift;
        terms.combine(place.div_euclid(64), &[wide as u64, (wide >> 64) as u64, 0], negative);
    }

    pub fn merge(&mut self, other: &DecayedSum) {
        match other {
            DecayedSum::TooWide => *self = DecayedSum::TooWide,
            DecayedSum::Sum(more) => {
                let Some(span) = more.span else { return };
                if let Some(terms) = self.widened(span) {
                    terms.combine(more.first, &more.limbs, false);
                }
            }
        }
    }

    /// Takes out values that had been added; exact. It spans what it spanned before.
    pub fn subtract(&mut self, other: &DecayedSum) {
        match (self, other) {
            (DecayedSum::Sum(terms), DecayedSum::Sum(less)) => terms.combine(less.first, &less.limbs, true),
            (this, _) => *this = DecayedSum::TooWide,
        }
    }

    /// Whether the sum of values from a stretch of time can be told, however they are spread in it.
    pub fn tells(half_life: Micros, stretch: u64) -> bool {
        stretch / half_life.unsigned_abs() < MAX_SPAN
    }

    /// The sum's terms, ready for values of these half-lives; `None` if that is too wide.
    fn widened(&mut self, (from, to): (i64, i64)) -> Option<&mut Terms> {
        let DecayedSum::Sum(terms) = self else { return None };
        let (first, last) = terms.span.map_or((from, to), |(first, last)| (first.min(from), last.max(to)));
        if first.abs_diff(last) > MAX_SPAN {
            *self = DecayedSum::TooWide;
            return None;
        }
        terms.span = Some((first, last));
        match self {
            DecayedSum::Sum(terms) => Some(terms),
            DecayedSum::TooWide => None,
        }
    }

    pub fn is_too_wide(&self) -> bool {
        matches!(self, DecayedSum::TooWide)
    }

    /// The sum at time `at`, which is not before any of its values: within 2^-50 of the sum of the values' magnitudes, faded.
    /// `None` if it is too wide.
    pub fn at(&self, half_life: Micros, at: Micros) -> Option<Result<f64, Overflow>> {
        let DecayedSum::Sum(terms) = self else { return None };
        let (whole, rest) = (at.div_euclid(half_life), at.rem_euclid(half_life));
        let factor = libm::exp2(-(rest as f64 / half_life as f64));
        Some(terms.times(factor, -whole))
    }

    /// Canonical bytes: equal sets of values, equal bytes. Self-delimiting.
    ///
    /// ```text
    /// 0                     no values
    /// 1                     too wide
    /// 2 | first half-life zigzag | how many more | count of bytes | place of the first, zigzag, in bytes counted from the
    ///     first half-life | the significant bytes of the two's complement, least first
    /// ```
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (terms, first, last) = match self {
            DecayedSum::Sum(Terms { span: None, .. }) => return out.push(EMPTY),
            DecayedSum::Sum(terms @ Terms { span: Some((first, last)), .. })
                if first.abs_diff(*last) <= MAX_STORED_SPAN =>
            {
                (terms, *first, *last)
            }
            _ => return out.push(TOO_WIDE),
        };
        out.push(SUM);
        put_varint(out, zigzag(first));
        put_varint(out, first.abs_diff(last));
        let bytes: Vec<u8> = terms.limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
        let from = bytes.iter().take_while(|byte| **byte == 0).count();
        let extension = if terms.is_negative() { u8::MAX } else { 0 };
        let mut to = bytes.len();
        // A byte goes if the one below it carries the same sign.
        while to > from + 1 && bytes[to - 1] == extension && (bytes[to - 2] ^ extension) < 0x80 {
            to -= 1;
        }
        put_varint(out, (to - from) as u64);
        if from < to {
            put_varint(out, zigzag(8 * terms.first + from as i64 - first.div_euclid(8)));
            out.extend_from_slice(&bytes[from..to]);
        }
    }

    pub fn decode(bytes: &mut &[u8]) -> Result<DecayedSum> {
        let (form, rest) = bytes.split_first().ok_or_else(broken)?;
        *bytes = rest;
        match *form {
            EMPTY => return Ok(DecayedSum::default()),
            TOO_WIDE => return Ok(DecayedSum::TooWide),
            SUM => {}
            _ => return Err(broken()),
        }
        let first = unzigzag(take_varint(bytes)?);
        let span = take_varint(bytes)?;
        if first.unsigned_abs() > MAX_HALF_LIVES || span > MAX_STORED_SPAN {
            return Err(broken());
        }
        let last = first + span as i64;
        let length = usize::try_from(take_varint(bytes)?).map_err(|_| broken())?;
        let mut terms = Terms { span: Some((first, last)), ..Terms::default() };
        if length > 0 {
            let distance = unzigzag(take_varint(bytes)?);
            // No value reaches further from its half-life than an f64 from 1.
            if distance.unsigned_abs() > MAX_BYTES || length as u64 > MAX_BYTES {
                return Err(broken());
            }
            let place = distance + first.div_euclid(8);
            let (body, rest) = bytes.split_at_checked(length).ok_or_else(broken)?;
            *bytes = rest;
            let extension = if body[length - 1] >= 0x80 { u8::MAX } else { 0 };
            let padding = place.rem_euclid(8) as usize;
            let mut padded = vec![0; padding];
            padded.extend_from_slice(body);
            padded.resize(padded.len().next_multiple_of(8), extension);
            let (words, _) = padded.as_chunks::<8>();
            terms.first = place.div_euclid(8);
            terms.limbs = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        }
        Ok(DecayedSum::Sum(terms))
    }
}

impl PartialEq for DecayedSum {
    fn eq(&self, other: &Self) -> bool {
        let (DecayedSum::Sum(one), DecayedSum::Sum(two)) = (self, other) else {
            return self.is_too_wide() && other.is_too_wide();
        };
        let mut difference = one.clone();
        difference.combine(two.first, &two.limbs, true);
        difference.limbs.iter().all(|limb| *limb == 0)
    }
}

impl Eq for DecayedSum {}

impl Terms {
    fn is_negative(&self) -> bool {
        is_negative(&self.limbs)
    }

    /// Adds a number in two's complement that begins with limb `first`, negated where `negative`.
    fn combine(&mut self, first: i64, limbs: &[u64], negative: bool) {
        if limbs.is_empty() {
            return;
        }
        self.make_room(first, first + limbs.len() as i64);
        let from = (first - self.first) as usize;
        let mask = if negative { u64::MAX } else { 0 };
        let extension = if is_negative(limbs) { u64::MAX } else { 0 };
        let mut carry = negative;
        for (index, limb) in self.limbs[from..].iter_mut().enumerate() {
            let more = limbs.get(index).copied().unwrap_or(extension);
            (*limb, carry) = limb.carrying_add(more ^ mask, carry);
        }
    }

    /// Has limbs from `first` to beyond `end`, where a last one holds nothing but the sign: no sum of two overflows.
    fn make_room(&mut self, first: i64, end: i64) {
        if self.limbs.is_empty() {
            self.first = first;
        }
        if first < self.first {
            let missing = (self.first - first) as usize;
            self.limbs.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = first;
        }
        let extension = if self.is_negative() { u64::MAX } else { 0 };
        while self.first + self.limbs.len() as i64 <= end || self.limbs.last() != Some(&extension) {
            self.limbs.push(extension);
        }
    }

    /// The sum times `factor`, of (1/2, 1], times `2^exponent`; rounded before and after the multiplication.
    fn times(&self, factor: f64, exponent: i64) -> Result<f64, Overflow> {
        let negative = self.is_negative();
        let mut magnitude = self.limbs.clone();
        if negative {
            let mut carry = true;
            for limb in &mut magnitude {
                (*limb, carry) = (!*limb).carrying_add(0, carry);
            }
        }
        let Some(top) = magnitude.iter().rposition(|limb| *limb != 0) else { return Ok(0.0) };
        let length = 64 * top as i64 + i64::from(64 - magnitude[top].leading_zeros());
        let leading = round_to_f64(&magnitude, 1 - length, false)?;
        let (_, mantissa, place) = split(leading * factor);
        let faded = round_to_f64(&[mantissa], i64::from(place) + length - 1 + 64 * self.first + exponent, false)?;
        // Not -faded: zero has one sign.
        Ok(if negative { 0.0 - faded } else { faded })
    }
}

fn is_negative(limbs: &[u64]) -> bool {
    limbs.last().is_some_and(|top| (*top as i64) < 0)
}

const EMPTY: u8 = 0;
const TOO_WIDE: u8 = 1;
const SUM: u8 = 2;

/// More than there are half-lives of a second in an i64 of microseconds, before or after 0.
const MAX_HALF_LIVES: u64 = 1 << 44;
/// More bytes than a stored sum has.
const MAX_BYTES: u64 = 1024;

const TWO_POW_512: f64 = f64::from_bits((1023 + 512) << 52);

fn broken() -> Error {
    Error::data_loss("a stored decayed sum does not decode")
}

#[cfg(test)]
#[path = "decayed_tests.rs"]
mod tests;
