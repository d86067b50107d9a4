//! Slices: shares of all logs, so that several engines can work on them. See `docs/decisions/0024-slices.md`.

use std::fmt;
use std::ops::Range;

/// The slice of a partition of a log with so many.
pub fn slice_of(partition: u16, partitions: u16, slices: u16) -> u16 {
    let slice = u32::from(partition) * u32::from(slices) / u32::from(partitions.max(1));
    // Less than `slices`, as the partition is less than `partitions`.
    slice as u16
}

/// One of so many shares of every log: a run of partitions of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slice {
    pub index: u16,
    /// How many there are.
    pub of: u16,
}

impl Slice {
    /// All there is.
    pub const WHOLE: Slice = Slice { index: 0, of: 1 };

    /// All of so many.
    pub fn all(of: u16) -> impl Iterator<Item = Slice> {
        (0..of).map(move |index| Slice { index, of })
    }

    pub fn is_whole(self) -> bool {
        self.of == 1
    }

    /// Its partitions of a log with so many; there may be none.
    pub fn partitions(self, partitions: u16) -> Range<u16> {
        let begins = |slice: u16| {
            let first = (u32::from(slice) * u32::from(partitions)).div_ceil(u32::from(self.of));
            first as u16
        };
        begins(self.index)..begins(self.index + 1)
    }

    pub fn holds(self, partition: u16, partitions: u16) -> bool {
        slice_of(partition, partitions, self.of) == self.index
    }

    /// A name with the slice, where there are several: `thyme-engine-2-of-4`.
    pub fn name(self, name: &str) -> String {
        if self.is_whole() { name.to_string() } else { format!("{name}-{}-of-{}", self.index, self.of) }
    }

    /// What a state notes of where it was made from: the log and, if there are several, the slice.
    pub fn note_of(self, log: &str) -> String {
        if self.is_whole() { log.to_string() } else { format!("{log} ({self})") }
    }
}

/// What the log beside the state was called before it had an id of its own; a state that has no note is of that one.
pub const BESIDE: &str = "embedded";

/// The log of the note that a state has.
pub fn log_of_note(note: Option<&str>) -> &str {
    let note = note.unwrap_or(BESIDE);
    note.rsplit_once(" (slice ").map_or(note, |(log, _)| log)
}

impl fmt::Display for Slice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "slice {} of {}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{VNODES, partition_of_vnode};

    #[test]
    fn every_partition_is_in_one_slice_and_slices_are_runs_of_hash_slices() {
        for partitions in 1..=VNODES {
            for slices in 1..=9 {
                let mut found: Vec<u16> = Vec::new();
                for slice in Slice::all(slices) {
                    let own = slice.partitions(partitions);
                    for partition in 0..partitions {
                        let is_own = own.contains(&partition);
                        assert_eq!(slice.holds(partition, partitions), is_own, "{partition} of {partitions}, {slice}");
                    }
                    found.extend(own);
                }
                assert_eq!(found, (0..partitions).collect::<Vec<u16>>(), "{slices} slices");
                let of_vnode = |vnode| slice_of(partition_of_vnode(vnode, partitions), partitions, slices);
                assert!((0..u8::MAX).all(|vnode| of_vnode(vnode) <= of_vnode(vnode + 1)));
            }
        }
    }

    #[test]
    fn one_slice_has_the_names_of_before() {
        assert_eq!(Slice::WHOLE.name("thyme-engine"), "thyme-engine");
        assert_eq!(Slice { index: 2, of: 4 }.name("thyme-engine"), "thyme-engine-2-of-4");
        assert_eq!(Slice::WHOLE.note_of("embedded"), "embedded");
    }

    #[test]
    fn a_note_names_its_log() {
        for log in ["embedded", "embedded:0190", "kafka:one/eu ("] {
            for note in Slice::all(1).chain(Slice::all(3)).map(|slice| slice.note_of(log)) {
                assert_eq!(log_of_note(Some(&note)), log);
            }
        }
        assert_eq!(log_of_note(None), "embedded");
    }
}
