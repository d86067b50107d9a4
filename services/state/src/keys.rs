//! Where every row lives: the column families, the closed set of row kinds, and the encoding of row keys.
//!
//! ```text
//! trie    vnode u8 | table u32 | key | start time (order-preserving i64) | depth u8 | position 7 bytes, only below time depths
//! meta    row kind u8 | fields, big-endian
//! dedup   log u32 | partition u16 | bucket u64 | 0, call 16 bytes, chunk u32 | 1, hash 16 bytes
//! ```

use thyme_core::key::vnode;

/// The format of the data directory; another one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// The column families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The packed time tries.
    Trie,
    /// The small tables, told apart by [`RowKind`].
    Meta,
    /// Event ids seen within the dedup window; large, and deleted by ranges.
    Dedup,
}

impl Family {
    pub const ALL: [Family; 3] = [Family::Trie, Family::Meta, Family::Dedup];

    pub fn name(self) -> &'static str {
        match self {
            Family::Trie => "trie",
            Family::Meta => "meta",
            Family::Dedup => "dedup",
        }
    }
}

/// First byte of every row in [`Family::Meta`]. A retired byte stays reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RowKind {
    FormatVersion = 1,
    EventClock = 2,
    TableBlocks = 3,
    Progress = 4,
    Acceptance = 5,
    RoutedSource = 6,
    Verdicts = 7,
    Erased = 8,
    DeadLetter = 9,
    LateSample = 10,
    Counters = 11,
    LogIdentity = 12,
}

/// Builds the key of a meta row.
pub struct MetaKey(Vec<u8>);

impl MetaKey {
    pub fn new(kind: RowKind) -> MetaKey {
        let mut bytes = Vec::with_capacity(32);
        bytes.push(kind as u8);
        MetaKey(bytes)
    }
    pub fn u8(mut self, number: u8) -> MetaKey {
        self.0.push(number);
        self
    }
    pub fn u16(mut self, number: u16) -> MetaKey {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
    pub fn u32(mut self, number: u32) -> MetaKey {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
    pub fn u64(mut self, number: u64) -> MetaKey {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
    pub fn bytes(mut self, bytes: &[u8]) -> MetaKey {
        self.0.extend_from_slice(bytes);
        self
    }
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Where the key of a trie row goes on after hash slice and table.
pub const AFTER_TABLE: usize = 5;

/// The part of a trie row's key that all rows of one (table, key) share.
pub fn write_trie_prefix(out: &mut Vec<u8>, table: u32, key: &[u8]) {
    out.clear();
    out.push(vnode(key));
    out.extend_from_slice(&table.to_be_bytes());
    out.extend_from_slice(key);
}

/// The first key behind all keys that begin with `prefix`.
pub fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            break;
        }
        end.pop();
    }
    end
}

/// The range of all rows of a table within one hash slice.
pub fn table_slice(vnode: u8, table: u32) -> (Vec<u8>, Vec<u8>) {
    let mut from = vec![vnode];
    from.extend_from_slice(&table.to_be_bytes());
    let to = after_prefix(&from);
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_behind_a_prefix() {
        assert_eq!(after_prefix(&[1, 2]), vec![1, 3]);
        assert_eq!(after_prefix(&[1, 255, 255]), vec![2]);
        assert_eq!(after_prefix(&[255, 255]), Vec::<u8>::new());
    }
}
