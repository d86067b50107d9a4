//! Integers of any length by schoolbook arithmetic, and the f64 nearest to a ratio of them, found by bisection over all f64.

use std::cmp::Ordering;

/// Sign and magnitude, little-endian 32-bit digits without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Integer {
    negative: bool,
    digits: Vec<u32>,
}

impl Integer {
    fn new(negative: bool, mut digits: Vec<u32>) -> Integer {
        while digits.last() == Some(&0) {
            digits.pop();
        }
        Integer { negative: negative && !digits.is_empty(), digits }
    }

    pub fn from_i64(number: i64) -> Integer {
        let magnitude = number.unsigned_abs();
        Integer::new(number < 0, vec![magnitude as u32, (magnitude >> 32) as u32])
    }

    pub fn from_i128(number: i128) -> Integer {
        let magnitude = number.unsigned_abs();
        Integer::new(number < 0, (0..4).map(|digit| (magnitude >> (32 * digit)) as u32).collect())
    }

    pub fn power_of_two(exponent: usize) -> Integer {
        let mut digits = vec![0; exponent / 32];
        digits.push(1 << (exponent % 32));
        Integer::new(false, digits)
    }

    /// A finite f64 in units of 2^-1074.
    pub fn from_f64_units(number: f64) -> Integer {
        let bits = number.abs().to_bits();
        let magnitude = match bits >> 52 {
            0 => Integer::from_i64(bits as i64),
            field => {
                let mantissa = Integer::from_i64((bits & ((1 << 52) - 1) | (1 << 52)) as i64);
                mantissa.times(&Integer::power_of_two(field as usize - 1))
            }
        };
        Integer::new(number < 0.0, magnitude.digits)
    }

    pub fn to_i64(&self) -> Option<i64> {
        i64::try_from(self.to_i128()?).ok()
    }

    /// `None` beyond 127 bits and a sign.
    pub fn to_i128(&self) -> Option<i128> {
        let magnitude = self.digits.iter().rev().try_fold(0i128, |whole, digit| {
            let whole = whole.checked_mul(1 << 32)?;
            whole.checked_add(i128::from(*digit))
        })?;
        Some(if self.negative { -magnitude } else { magnitude })
    }

    pub fn plus(&self, other: &Integer) -> Integer {
        if self.negative == other.negative {
            return Integer::new(self.negative, add(&self.digits, &other.digits));
        }
        match compare(&self.digits, &other.digits) {
            Ordering::Less => Integer::new(other.negative, subtract(&other.digits, &self.digits)),
            _ => Integer::new(self.negative, subtract(&self.digits, &other.digits)),
        }
    }

    pub fn minus(&self, other: &Integer) -> Integer {
        self.plus(&Integer { negative: !other.negative, digits: other.digits.clone() })
    }

    pub fn times(&self, other: &Integer) -> Integer {
        let mut product = vec![0u32; self.digits.len() + other.digits.len() + 1];
        for (at, digit) in self.digits.iter().enumerate() {
            let mut carry = 0u64;
            for (index, factor) in other.digits.iter().enumerate() {
                let sum = u64::from(*digit) * u64::from(*factor) + u64::from(product[at + index]) + carry;
                product[at + index] = sum as u32;
                carry = sum >> 32;
            }
            product[at + other.digits.len()] = carry as u32;
        }
        Integer::new(self.negative != other.negative, product)
    }
}

fn add(left: &[u32], right: &[u32]) -> Vec<u32> {
    let mut carry = 0u64;
    let mut sum = Vec::new();
    for index in 0..=left.len().max(right.len()) {
        let digit = |digits: &[u32]| u64::from(digits.get(index).copied().unwrap_or(0));
        let whole = digit(left) + digit(right) + carry;
        sum.push(whole as u32);
        carry = whole >> 32;
    }
    sum
}

/// `left` is not the smaller one.
fn subtract(left: &[u32], right: &[u32]) -> Vec<u32> {
    let mut borrow = 0i64;
    let mut rest = Vec::new();
    for (index, digit) in left.iter().enumerate() {
        let whole = i64::from(*digit) - i64::from(right.get(index).copied().unwrap_or(0)) - borrow;
        borrow = i64::from(whole < 0);
        rest.push(whole as u32);
    }
    rest
}

fn compare(left: &[u32], right: &[u32]) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.iter().rev().cmp(right.iter().rev()))
}

/// The f64 nearest to `numerator / denominator` (which is greater than zero), ties to even; `None` beyond f64.
pub fn round_ratio(numerator: &Integer, denominator: &Integer) -> Option<f64> {
    let wanted = Integer::new(false, numerator.digits.clone()).times(&Integer::power_of_two(1074));
    // An f64 given by its bits, times the denominator; the bits of infinity stand for 2^1024.
    let candidate = |bits: u64| match f64::from_bits(bits) {
        number if number.is_finite() => Integer::from_f64_units(number).times(denominator),
        _ => Integer::power_of_two(1024 + 1074).times(denominator),
    };
    let (mut low, mut high) = (0u64, f64::INFINITY.to_bits());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if compare(&candidate(middle).digits, &wanted.digits) == Ordering::Greater {
            high = middle;
        } else {
            low = middle;
        }
    }
    let middle_twice = candidate(low).plus(&candidate(high));
    let nearest = match compare(&wanted.plus(&wanted).digits, &middle_twice.digits) {
        Ordering::Less => low,
        Ordering::Greater => high,
        Ordering::Equal => low + (low & 1),
    };
    let magnitude = f64::from_bits(nearest);
    magnitude.is_finite().then_some(if numerator.negative && magnitude > 0.0 { -magnitude } else { magnitude })
}
