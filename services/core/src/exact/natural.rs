//! Natural numbers of any length: the few operations that exact variance and mean need, written simply.

use std::cmp::Ordering;

/// Little-endian limbs without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Natural(Vec<u64>);

impl Natural {
    pub fn from_limbs(limbs: Vec<u64>) -> Natural {
        let mut number = Natural(limbs);
        number.trim();
        number
    }
    pub fn from_u128(number: u128) -> Natural {
        Natural::from_limbs(vec![number as u64, (number >> 64) as u64])
    }
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
    pub fn limbs(&self) -> &[u64] {
        &self.0
    }
    pub fn bits(&self) -> u64 {
        self.0.last().map_or(0, |top| 64 * self.0.len() as u64 - u64::from(top.leading_zeros()))
    }

    pub fn multiply(&self, other: &Natural) -> Natural {
        let mut product = vec![0u64; self.0.len() + other.0.len()];
        for (at, limb) in self.0.iter().enumerate() {
            let mut carry = 0;
            for (place, factor) in product[at..].iter_mut().zip(other.0.iter().chain(std::iter::once(&0))) {
                let sum = u128::from(*limb) * u128::from(*factor) + u128::from(*place) + carry;
                *place = sum as u64;
                carry = sum >> 64;
            }
        }
        Natural::from_limbs(product)
    }

    pub fn shift_left(&mut self, by: u64) {
        let shift = by % 64;
        if shift > 0 {
            let mut carry = 0;
            for limb in &mut self.0 {
                let out = *limb >> (64 - shift);
                *limb = *limb << shift | carry;
                carry = out;
            }
            self.0.push(carry);
        }
        self.0.splice(..0, std::iter::repeat_n(0, (by / 64) as usize));
        self.trim();
    }

    /// Takes `other` away; `None` if it is greater.
    pub fn checked_subtract(mut self, other: &Natural) -> Option<Natural> {
        if self.compare(other) == Ordering::Less {
            return None;
        }
        let mut borrow = false;
        for (limb, less) in self.0.iter_mut().zip(other.0.iter().chain(std::iter::repeat(&0))) {
            (*limb, borrow) = limb.borrowing_sub(*less, borrow);
        }
        self.trim();
        Some(self)
    }

    pub fn compare(&self, other: &Natural) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Divides by `divisor`, which is not zero, and gives the remainder.
    pub fn divide(&mut self, divisor: u64) -> u64 {
        let mut remainder = 0u64;
        for limb in self.0.iter_mut().rev() {
            let rest = u128::from(remainder) << 64 | u128::from(*limb);
            // One machine division where it suffices: the general one is several times slower.
            if remainder == 0 {
                (*limb, remainder) = (*limb / divisor, *limb % divisor);
            } else {
                *limb = (rest / u128::from(divisor)) as u64;
                remainder = (rest % u128::from(divisor)) as u64;
            }
        }
        self.trim();
        remainder
    }
}
