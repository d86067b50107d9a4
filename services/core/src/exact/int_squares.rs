//! Exact sum of squares of i64 values, in 192 bits.

use crate::error::{Error, Result};

/// Up to 2^64 squares of at most 2^126 fit 192 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IntSquares([u64; 3]);

impl IntSquares {
    #[inline]
    pub fn add(&mut self, number: i64) {
        let square = u128::from(number.unsigned_abs()) * u128::from(number.unsigned_abs());
        self.merge(&IntSquares([square as u64, (square >> 64) as u64, 0]));
    }

    #[inline]
    pub fn merge(&mut self, other: &IntSquares) {
        let mut carry = false;
        for (limb, more) in self.0.iter_mut().zip(other.0) {
            (*limb, carry) = limb.carrying_add(more, carry);
        }
    }

    /// Takes out squares that had been added.
    pub fn subtract(&mut self, other: &IntSquares) {
        let mut borrow = false;
        for (limb, less) in self.0.iter_mut().zip(other.0) {
            (*limb, borrow) = limb.borrowing_sub(less, borrow);
        }
    }

    /// Little-endian limbs.
    pub(super) fn limbs(&self) -> &[u64] {
        &self.0
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

    pub fn decode(bytes: &mut &[u8]) -> Result<IntSquares> {
        let broken = || Error::data_loss("a stored sum of squares does not decode");
        let (length, rest) = bytes.split_first().ok_or_else(broken)?;
        let (body, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(broken)?;
        *bytes = rest;
        let mut whole = [0u8; 24];
        whole.get_mut(..body.len()).ok_or_else(broken)?.copy_from_slice(body);
        let mut limbs = [0u64; 3];
        for (limb, chunk) in limbs.iter_mut().zip(whole.chunks_exact(8)) {
            *limb = chunk.iter().rev().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
        }
        Ok(IntSquares(limbs))
    }
}
