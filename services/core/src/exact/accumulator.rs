//! A two's-complement fixed-point number wide enough for every sum of floats.
//!
//! Most sums stay near the binary point, so `NEAR` limbs around it stand inline; a sum that leaves them moves to `WIDE` limbs on
//! the heap. That is a matter of memory alone: value, equality and bytes do not depend on it.

use super::rounding::{round_quotient, round_to_f64, round_whole, round_whole_over, signed};
use super::{Overflow, natural::Natural};
use crate::error::{Error, Result};
use crate::record::{put_varint, take_varint, unzigzag, zigzag};

/// Near limb `i` counts units of `2^(64 * (i - NEAR / 2))`, wide limb `i` units of `2^(64 * (i - POINT))`. `WIDE` leaves room
/// for 2^63 of the greatest addends, so that it never overflows.
#[derive(Debug, Clone)]
pub(super) enum Accumulator<const NEAR: usize, const WIDE: usize, const POINT: usize> {
    Near([u64; NEAR]),
    Wide(Box<[u64; WIDE]>),
}

impl<const NEAR: usize, const WIDE: usize, const POINT: usize> Default for Accumulator<NEAR, WIDE, POINT> {
    fn default() -> Self {
        Accumulator::Near([0; NEAR])
    }
}

impl<const NEAR: usize, const WIDE: usize, const POINT: usize> Accumulator<NEAR, WIDE, POINT> {
    const NEAR_POINT: usize = NEAR / 2;

    /// Adds `mantissa * 2^exponent`, negated where `negative`. The mantissa has at most `64 * (SPAN - 1) + 1` bits. Bits below
    /// the least unit are dropped.
    #[inline]
    pub fn add<const SPAN: usize>(&mut self, negative: bool, mantissa: u128, exponent: i32) {
        let position = exponent + 64 * Self::NEAR_POINT as i32;
        let index = (position >> 6) as usize;
        if let Accumulator::Near(limbs) = self
            && position >= 0
            && index + SPAN <= NEAR
        {
            let before = is_negative(limbs);
            add_at(limbs, index, shifted::<SPAN>(mantissa, position as u32 % 64), negative);
            if before == negative && is_negative(limbs) != negative {
                self.widen(negative);
            }
            return;
        }
        self.add_wide::<SPAN>(negative, mantissa, exponent);
    }

    #[cold]
    fn add_wide<const SPAN: usize>(&mut self, negative: bool, mantissa: u128, exponent: i32) {
        if mantissa == 0 {
            return;
        }
        let position = exponent + 64 * POINT as i32;
        let (mantissa, position) = match u32::try_from(position) {
            Ok(position) => (mantissa, position),
            Err(_) => (mantissa.checked_shr(position.unsigned_abs()).unwrap_or(0), 0),
        };
        let limbs = self.widened();
        add_at(limbs, position as usize / 64, shifted::<SPAN>(mantissa, position % 64), negative);
    }

    /// Adds `other`, negated where `negative`.
    pub fn combine(&mut self, other: &Self, negative: bool) {
        match (&mut *self, other) {
            (Accumulator::Near(limbs), Accumulator::Near(more)) => {
                let before = is_negative(limbs);
                add_all(limbs, more, negative);
                if before == (is_negative(more) ^ negative) && is_negative(limbs) != before {
                    self.widen(before);
                }
            }
            (_, Accumulator::Near(more)) => {
                let more = Self::spread(more, is_negative(more));
                add_all(self.widened(), &more, negative);
            }
            (_, Accumulator::Wide(more)) => add_all(self.widened(), more, negative),
        }
    }

    /// Becomes `until - before`.
    #[inline]
    pub fn set_difference(&mut self, until: &Self, before: &Self) {
        if let (Accumulator::Near(found), Accumulator::Near(until), Accumulator::Near(before)) =
            (&mut *self, until, before)
        {
            let mut carry = false;
            for (place, (until, before)) in found.iter_mut().zip(until.iter().zip(before)) {
                (*place, carry) = until.borrowing_sub(*before, carry);
            }
            // Of one sign it cannot leave the limbs; of two it has the sign of the first.
            if is_negative(until) == is_negative(before) || is_negative(found) == is_negative(until) {
                return;
            }
        }
        self.clone_from(until);
        self.combine(before, true);
    }

    fn widened(&mut self) -> &mut [u64; WIDE] {
        if let Accumulator::Near(limbs) = self {
            let negative = is_negative(limbs);
            self.widen(negative);
        }
        match self {
            Accumulator::Wide(limbs) => limbs,
            Accumulator::Near(_) => unreachable!("it has just been widened"),
        }
    }

    /// Moves to the heap; `negative` is the sign of the number, which an overflow has taken from the near limbs.
    #[cold]
    fn widen(&mut self, negative: bool) {
        if let Accumulator::Near(limbs) = self {
            *self = Accumulator::Wide(Box::new(Self::spread(limbs, negative)));
        }
    }

    fn spread(near: &[u64; NEAR], negative: bool) -> [u64; WIDE] {
        let mut wide = [0; WIDE];
        let from = POINT - Self::NEAR_POINT;
        wide[from..from + NEAR].copy_from_slice(near);
        if negative {
            wide[from + NEAR..].fill(u64::MAX);
        }
        wide
    }

    /// The limbs, and how many of them stand below the binary point.
    fn limbs(&self) -> (&[u64], usize) {
        match self {
            Accumulator::Near(limbs) => (limbs, Self::NEAR_POINT),
            Accumulator::Wide(limbs) => (limbs.as_slice(), POINT),
        }
    }

    /// Sign, magnitude and exponent: the number is `±magnitude * 2^exponent`.
    pub fn parts(&self) -> (bool, Natural, i64) {
        let (limbs, point) = self.limbs();
        let negative = is_negative(limbs);
        let low = limbs.iter().take_while(|limb| **limb == 0).count();
        let mut magnitude = limbs[low..].to_vec();
        if negative {
            negate(&mut magnitude);
        }
        (negative, Natural::from_limbs(magnitude), 64 * (low as i64 - point as i64))
    }

    /// Sign, magnitude and exponent of a number that two limbs hold, as they do most.
    #[inline]
    fn two_limbs(&self) -> Option<(bool, u128, i32)> {
        let Accumulator::Near(limbs) = self else { return None };
        let (mut limbs, negative) = (*limbs, is_negative(limbs));
        if negative {
            negate(&mut limbs);
        }
        let low = limbs.iter().position(|limb| *limb != 0).unwrap_or(0).min(NEAR - 2);
        let fits = limbs[low + 2..].iter().all(|limb| *limb == 0);
        let magnitude = u128::from(limbs[low + 1]) << 64 | u128::from(limbs[low]);
        fits.then_some((negative, magnitude, 64 * (low as i32 - Self::NEAR_POINT as i32)))
    }

    /// The nearest f64, ties to even.
    pub fn to_f64(&self) -> Result<f64, Overflow> {
        if let Some((negative, magnitude, exponent)) = self.two_limbs() {
            return Ok(signed(negative, round_whole(magnitude, exponent)));
        }
        let round = |limbs: &mut [u64], point: usize| {
            let negative = is_negative(limbs);
            if negative {
                negate(limbs);
            }
            let rounded = round_to_f64(limbs, -64 * point as i64, false)?;
            Ok(signed(negative, rounded))
        };
        match self {
            Accumulator::Near(limbs) => round(&mut { *limbs }, Self::NEAR_POINT),
            Accumulator::Wide(limbs) => round(limbs.clone().as_mut_slice(), POINT),
        }
    }

    /// The number over `count`, which is not zero, rounded once.
    pub fn divided(&self, count: u64) -> Result<f64, Overflow> {
        if let Some((negative, magnitude, exponent)) = self.two_limbs() {
            return Ok(signed(negative, round_whole_over(magnitude, exponent, count)));
        }
        if let (Accumulator::Near(limbs), Ok(divisor)) = (self, u32::try_from(count)) {
            let (mut limbs, negative) = (*limbs, is_negative(limbs));
            if negative {
                negate(&mut limbs);
            }
            let remainder = divide(&mut limbs, divisor);
            // Rounding needs these bits where a remainder is left.
            if remainder == 0 || limbs[1..].iter().any(|limb| *limb != 0) {
                let quotient = round_to_f64(&limbs, -64 * Self::NEAR_POINT as i64, remainder != 0)?;
                return Ok(signed(negative, quotient));
            }
        }
        let (negative, magnitude, exponent) = self.parts();
        let quotient = round_quotient(magnitude, exponent, &[count])?;
        Ok(signed(negative, quotient))
    }

    /// Where the significant bytes of the two's complement begin and end, counted from the first limb.
    fn significant(limbs: &[u64]) -> (usize, usize) {
        let extension = if is_negative(limbs) { u64::MAX } else { 0 };
        let Some(low) = limbs.iter().position(|limb| *limb != 0) else { return (0, 0) };
        let from = 8 * low + limbs[low].trailing_zeros() as usize / 8;
        let high = limbs.iter().rposition(|limb| *limb != extension).unwrap_or(0);
        // One more bit, for the sign.
        let bits = 64 - (limbs[high] ^ extension).leading_zeros() as usize;
        (from, 8 * high + bits / 8 + 1)
    }

    /// Canonical bytes: how many there are, the place of the first counted from the binary point, then the significant bytes
    /// of the two's complement, least first. Zero is one byte.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (limbs, point) = self.limbs();
        let (from, to) = Self::significant(limbs);
        put_varint(out, (to - from) as u64);
        if from == to {
            return;
        }
        put_varint(out, zigzag(from as i64 - 8 * point as i64));
        let end = out.len() + to - from;
        for at in (from..to).step_by(8) {
            let (index, shift) = (at / 8, at % 8 * 8);
            let above = limbs.get(index + 1).map_or(0, |limb| (limb << 1) << (63 - shift));
            out.extend_from_slice(&(limbs[index] >> shift | above).to_le_bytes());
        }
        out.truncate(end);
    }

    pub fn decode(bytes: &mut &[u8]) -> Result<Self> {
        let broken = || Error::data_loss("a stored sum does not decode");
        let length = usize::try_from(take_varint(bytes)?).map_err(|_| broken())?;
        if length == 0 {
            return Ok(Self::default());
        }
        let place = unzigzag(take_varint(bytes)?);
        let (body, rest) = bytes.split_at_checked(length).ok_or_else(broken)?;
        *bytes = rest;
        let first = |point: usize| place.checked_add(8 * point as i64).and_then(|first| usize::try_from(first).ok());
        if let Some(from) = first(Self::NEAR_POINT)
            && from + length <= 8 * NEAR
        {
            let mut limbs = [0; NEAR];
            fill(&mut limbs, from, body);
            return Ok(Accumulator::Near(limbs));
        }
        let from = first(POINT).filter(|from| from.saturating_add(length) <= 8 * WIDE).ok_or_else(broken)?;
        let mut limbs = Box::new([0; WIDE]);
        fill(limbs.as_mut_slice(), from, body);
        Ok(Accumulator::Wide(limbs))
    }
}

impl<const NEAR: usize, const WIDE: usize, const POINT: usize> PartialEq for Accumulator<NEAR, WIDE, POINT> {
    fn eq(&self, other: &Self) -> bool {
        if let (Accumulator::Near(limbs), Accumulator::Near(others)) = (self, other) {
            return limbs == others;
        }
        let mut difference = self.clone();
        difference.combine(other, true);
        difference.limbs().0.iter().all(|limb| *limb == 0)
    }
}

impl<const NEAR: usize, const WIDE: usize, const POINT: usize> Eq for Accumulator<NEAR, WIDE, POINT> {}

#[inline]
fn is_negative(limbs: &[u64]) -> bool {
    limbs.last().is_some_and(|top| (*top as i64) < 0)
}

#[inline]
fn shifted<const SPAN: usize>(mantissa: u128, shift: u32) -> [u64; SPAN] {
    let (low, high) = (mantissa as u64, (mantissa >> 64) as u64);
    // Two steps, because a shift by 64 is none.
    let carried = |limb: u64| (limb >> 1) >> (63 - shift);
    let mut out = [0; SPAN];
    let limbs = [low << shift, high << shift | carried(low), carried(high)];
    for (place, limb) in out.iter_mut().zip(limbs) {
        *place = limb;
    }
    out
}

#[inline]
fn add_at<const SPAN: usize>(limbs: &mut [u64], index: usize, addend: [u64; SPAN], negative: bool) {
    let (head, tail) = limbs[index..].split_at_mut(SPAN);
    let mut carry = false;
    if negative {
        for (limb, less) in head.iter_mut().zip(addend) {
            (*limb, carry) = limb.borrowing_sub(less, carry);
        }
        for limb in tail {
            if !carry {
                return;
            }
            (*limb, carry) = limb.overflowing_sub(1);
        }
    } else {
        for (limb, more) in head.iter_mut().zip(addend) {
            (*limb, carry) = limb.carrying_add(more, carry);
        }
        for limb in tail {
            if !carry {
                return;
            }
            (*limb, carry) = limb.overflowing_add(1);
        }
    }
}

fn add_all<const COUNT: usize>(limbs: &mut [u64; COUNT], more: &[u64; COUNT], negative: bool) {
    let mask = if negative { u64::MAX } else { 0 };
    let mut carry = negative;
    for (limb, more) in limbs.iter_mut().zip(more) {
        (*limb, carry) = limb.carrying_add(more ^ mask, carry);
    }
}

fn negate(limbs: &mut [u64]) {
    let mut carry = true;
    for limb in limbs {
        (*limb, carry) = (!*limb).carrying_add(0, carry);
    }
}

/// Divides, and gives the remainder. `divisor` is not zero.
#[inline]
fn divide(limbs: &mut [u64], divisor: u32) -> u64 {
    let divisor = u64::from(divisor);
    limbs.iter_mut().rev().fold(0, |remainder, limb| {
        let high = remainder << 32 | *limb >> 32;
        let low = (high % divisor) << 32 | *limb & 0xffff_ffff;
        *limb = (high / divisor) << 32 | (low / divisor);
        low % divisor
    })
}

/// Writes two's-complement bytes into zeroed limbs from byte `from` on, and extends their sign.
fn fill(limbs: &mut [u64], from: usize, body: &[u8]) {
    for (step, chunk) in body.chunks(8).enumerate() {
        let word = match chunk.first_chunk::<8>() {
            Some(whole) => u64::from_le_bytes(*whole),
            None => chunk.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte)),
        };
        let at = from + 8 * step;
        let shift = at % 8 * 8;
        limbs[at / 8] |= word << shift;
        if let Some(above) = limbs.get_mut(at / 8 + 1) {
            *above |= (word >> 1) >> (63 - shift);
        }
    }
    if body.last().is_some_and(|top| *top >= 0x80) {
        let end = from + body.len();
        for (index, limb) in limbs.iter_mut().enumerate().skip(end / 8) {
            *limb |= if index == end / 8 { u64::MAX << (end % 8 * 8) } else { u64::MAX };
        }
    }
}
