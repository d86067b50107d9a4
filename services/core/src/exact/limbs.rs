//! Integers of a fixed number of 64-bit limbs that are added up: two's complement where they have a sign.

use crate::error::{Error, Result};

/// Little-endian limbs. Sums wrap; who uses it knows that they fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limbs<const N: usize>(pub [u64; N]);

impl<const N: usize> Default for Limbs<N> {
    fn default() -> Self {
        Limbs([0; N])
    }
}

impl<const N: usize> Limbs<N> {
    #[inline]
    pub fn add(&mut self, other: &Limbs<N>) {
        let mut carry = false;
        for (limb, more) in self.0.iter_mut().zip(other.0) {
            (*limb, carry) = limb.carrying_add(more, carry);
        }
    }

    pub fn subtract(&mut self, other: &Limbs<N>) {
        let mut borrow = false;
        for (limb, less) in self.0.iter_mut().zip(other.0) {
            (*limb, borrow) = limb.borrowing_sub(less, borrow);
        }
    }

    /// A length byte, then the significant bytes, least first.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let length_at = out.len();
        out.push(0);
        for limb in self.0 {
            out.extend_from_slice(&limb.to_le_bytes());
        }
        while out.len() > length_at + 1 && out.last() == Some(&0) {
            out.pop();
        }
        out[length_at] = (out.len() - length_at - 1) as u8;
    }

    /// `what` is for the message.
    pub fn decode(bytes: &mut &[u8], what: &str) -> Result<Limbs<N>> {
        let broken = || Error::data_loss(format!("{what} does not decode"));
        let (length, rest) = bytes.split_first().ok_or_else(broken)?;
        let (body, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(broken)?;
        *bytes = rest;
        if body.len() > 8 * N {
            return Err(broken());
        }
        let mut limbs = [0u64; N];
        for (limb, chunk) in limbs.iter_mut().zip(body.chunks(8)) {
            *limb = chunk.iter().rev().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
        }
        Ok(Limbs(limbs))
    }
}
