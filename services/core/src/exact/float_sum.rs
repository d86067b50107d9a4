//! Exact sums of f64 values and of their squares.

use crate::error::{Error, Result};

/// The exact sum of f64 values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FloatSum(f64);
impl Eq for FloatSum {}

/// The exact sum of squares of f64 values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FloatSquares(f64);
impl Eq for FloatSquares {}

impl FloatSum {
    /// Adds a finite value.
    pub fn add(&mut self, number: f64) {
        self.0 += number;
    }
    pub fn merge(&mut self, other: &FloatSum) {
        self.0 += other.0;
    }
    /// Takes out values that had been added.
    pub fn subtract(&mut self, other: &FloatSum) {
        self.0 -= other.0;
    }
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
    pub fn decode(bytes: &mut &[u8]) -> Result<FloatSum> {
        let (head, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| Error::data_loss("broken"))?;
        *bytes = rest;
        Ok(FloatSum(f64::from_le_bytes(*head)))
    }
}
impl FloatSquares {
    /// Adds the square of a finite value.
    pub fn add(&mut self, number: f64) {
        self.0 += number * number;
    }
    pub fn merge(&mut self, other: &FloatSquares) {
        self.0 += other.0;
    }
    /// Takes out squares that had been added.
    pub fn subtract(&mut self, other: &FloatSquares) {
        self.0 -= other.0;
    }
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
    pub fn decode(bytes: &mut &[u8]) -> Result<FloatSquares> {
        let (head, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| Error::data_loss("broken"))?;
        *bytes = rest;
        Ok(FloatSquares(f64::from_le_bytes(*head)))
    }
}
