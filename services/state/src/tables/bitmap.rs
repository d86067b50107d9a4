//! A fixed run of bits, stored without its trailing zero bytes.

use crate::codec::broken;
use thyme_core::Result;

/// How many bits a [`Bitmap`] has: offsets per verdict row, rows of a call per dedup row.
pub const BITMAP_BITS: u64 = 4096;
const WORDS: usize = (BITMAP_BITS / 64) as usize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap(Box<[u64; WORDS]>);

impl Default for Bitmap {
    fn default() -> Self {
        Bitmap(Box::new([0; WORDS]))
    }
}

impl Bitmap {
    /// Sets a bit; `index` is taken modulo [`BITMAP_BITS`], so offsets go in as they are.
    pub fn set(&mut self, index: u64) {
        let index = index % BITMAP_BITS;
        self.0[(index / 64) as usize] |= 1 << (index % 64);
    }
    /// Whether a bit is set; `index` is taken modulo [`BITMAP_BITS`].
    pub fn contains(&self, index: u64) -> bool {
        let index = index % BITMAP_BITS;
        self.0[(index / 64) as usize] & (1 << (index % 64)) != 0
    }
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(used);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Bitmap> {
        if bytes.len() > WORDS * 8 {
            return Err(broken());
        }
        let mut bitmap = Bitmap::default();
        for (index, byte) in bytes.iter().enumerate() {
            bitmap.0[index / 8] |= u64::from(*byte) << (8 * (index % 8));
        }
        Ok(bitmap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_without_trailing_zeros() {
        let mut bitmap = Bitmap::default();
        assert!(bitmap.encode().is_empty() && bitmap.is_empty());
        for index in [0, 9, 4096 + 63, 100] {
            bitmap.set(index);
        }
        assert_eq!(bitmap.encode().len(), 13);
        let back = Bitmap::decode(&bitmap.encode()).unwrap();
        assert_eq!(back, bitmap);
        assert_eq!(back.count(), 4);
        assert!(back.contains(9) && back.contains(63) && !back.contains(10));
        assert!(Bitmap::decode(&[0; 513]).is_err());
    }
}
