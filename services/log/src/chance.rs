//! Chance from a seed.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `below` - 1; 0 where `below` is 0.
    pub fn below(&mut self, below: usize) -> usize {
        (self.number() % below.max(1) as u64) as usize
    }

    /// True that often in a thousand times.
    pub fn happens(&mut self, in_a_thousand: u16) -> bool {
        self.below(1000) < usize::from(in_a_thousand)
    }
}
