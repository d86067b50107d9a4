//! The greatest of the floats from one place on to an end that moves ahead: blocks that lie inside are looked at as a whole, and only those
//! that no later one beats.

/// Floats of a block.
const BLOCK: usize = 16;
/// Compared side by side.
const LANES: usize = 4;

/// The least, if it is asked for, is the greatest of the negated. NaN is no value.
pub struct Blockwise {
    sign: f64,
    /// Whole blocks before the end that no later one beats, ascending, with their greatest.
    blocks: Vec<(usize, f64)>,
    /// How many blocks were looked at.
    known: usize,
    end: usize,
    /// Greatest of what stands behind the last whole block.
    rest: f64,
}

impl Blockwise {
    pub fn new(of_least: bool) -> Blockwise {
        let sign = if of_least { -1.0 } else { 1.0 };
        Blockwise { sign, blocks: Vec::new(), known: 0, end: 0, rest: f64::NEG_INFINITY }
    }

    /// As before the first move of the end.
    pub fn clear(&mut self) {
        self.blocks.clear();
        (self.known, self.end, self.rest) = (0, 0, f64::NEG_INFINITY);
    }

    /// Moves the end ahead.
    #[inline]
    pub fn slide(&mut self, numbers: &[f64], end: usize) {
        let whole = end / BLOCK;
        while self.known < whole {
            let first = self.known * BLOCK;
            let greatest = self.greatest(&numbers[first..first + BLOCK]);
            while self.blocks.last().is_some_and(|(_, before)| *before <= greatest) {
                self.blocks.pop();
            }
            self.blocks.push((self.known, greatest));
            self.known += 1;
        }
        self.end = end;
        self.rest = self.greatest(&numbers[whole * BLOCK..end]);
    }

    /// The greatest from `begin` up to the end, `None` if there is no value.
    #[inline]
    pub fn from(&self, numbers: &[f64], begin: usize) -> Option<f64> {
        let first = begin.div_ceil(BLOCK);
        let greatest = if first > self.known {
            self.greatest(&numbers[begin..self.end])
        } else {
            let before = self.greatest(&numbers[begin..first * BLOCK]);
            greater(greater(before, self.of_blocks(first)), self.rest)
        };
        (greatest != f64::NEG_INFINITY).then_some(greatest * self.sign)
    }

    #[inline]
    fn of_blocks(&self, first: usize) -> f64 {
        let (mut low, mut high) = (0, self.blocks.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.blocks[middle].0 < first {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.blocks.get(low).map_or(f64::NEG_INFINITY, |(_, greatest)| *greatest)
    }

    #[inline]
    fn greatest(&self, numbers: &[f64]) -> f64 {
        let mut lanes = [f64::NEG_INFINITY; LANES];
        let (chunks, rest) = numbers.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] = greater(lanes[lane], chunk[lane] * self.sign);
            }
        }
        let mut greatest = greater(greater(lanes[0], lanes[1]), greater(lanes[2], lanes[3]));
        for number in rest {
            greatest = greater(greatest, *number * self.sign);
        }
        greatest
    }
}

#[inline]
fn greater(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use thyme_core::testing::cases;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases(1_000, 10_000)))]

        #[test]
        fn it_is_what_looking_at_each_finds(
            numbers in prop::collection::vec(prop_oneof![4 => (-50i32..50).prop_map(f64::from), 1 => Just(f64::NAN)], 0..200),
            mut ends in prop::collection::vec(0usize..200, 1..12),
            begins in prop::collection::vec(0usize..200, 1..6),
            of_least: bool,
        ) {
            ends.sort_unstable();
            let mut blocks = Blockwise::new(of_least);
            for end in ends.iter().map(|end| (*end).min(numbers.len())) {
                blocks.slide(&numbers, end);
                for begin in begins.iter().map(|begin| (*begin).min(end)) {
                    let values = numbers[begin..end].iter().copied().filter(|number| !number.is_nan());
                    let wanted = values.reduce(if of_least { f64::min } else { f64::max });
                    prop_assert_eq!(blocks.from(&numbers, begin), wanted);
                }
            }
        }
    }
}
