//! Digests: whether two states hold the same events, without comparing them row by row.
//!
//! What goes in is the trie rows of a table in the order of their keys: per row the lengths and the bytes of its key (without the
//! table's id, which the catalog gives out) and of its value. Rows are a function of the set of accepted events (time, position,
//! append time, values), so two states that have taken in the same events agree, however their ticks were cut, whatever was
//! compacted and whichever machine they are on; and one event more, less or different shows.
//!
//! What stays out is the small tables beside the tries: dedup ids go in buckets and counters and samples come by ticks, so they
//! may differ between states that answer alike; and progress says how far a state is, which whoever compares must know anyway:
//! only states at the same place have to agree.

use crate::codec::{broken, key_u32};
use crate::keys::{AFTER_TABLE, Family, table_slice};
use crate::rocks::OwnedSnapshot;
use std::collections::BTreeMap;
use std::fmt;
use thyme_core::Result;
use xxhash_rust::xxh3::Xxh3;

/// Behind every trie row: a table's id has its upper bit clear.
const BEHIND_ALL: [u8; 5] = [u8::MAX; 5];

/// Equal states, equal digests: 128 bits of XXH3, against accidents and not against forgers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Digest(pub u128);

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// The digest of each table that has rows, by its id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateDigest {
    pub tables: BTreeMap<u32, Digest>,
}

impl StateDigest {
    /// One digest for all tables, their ids included.
    pub fn total(&self) -> Digest {
        let mut hasher = Xxh3::new();
        for (table, digest) in &self.tables {
            hasher.update(&table.to_be_bytes());
            hasher.update(&digest.0.to_be_bytes());
        }
        Digest(hasher.digest128())
    }

    /// Of a table; one without rows has the digest of nothing.
    pub fn table(&self, id: u32) -> Digest {
        self.tables.get(&id).copied().unwrap_or_default()
    }
}

/// Of all tables over the states of all slices, in their order: reads every trie row once. Rows lie mixed, by hash slice first; each
/// table's rows still come in the order of their keys. The hash slices of a state's table lie before those of the next state's, so the
/// digest is that of one state with all rows.
pub fn digest<'a>(snapshots: impl Iterator<Item = &'a OwnedSnapshot>) -> Result<StateDigest> {
    let mut hashers: BTreeMap<u32, Xxh3> = BTreeMap::new();
    for snapshot in snapshots {
        snapshot.scan(Family::Trie, &[], &BEHIND_ALL, |key, value| {
            add_row(hashers.entry(key_u32(key, 1)?).or_default(), key, value)
        })?;
    }
    let tables = hashers.into_iter().map(|(table, hasher)| (table, Digest(hasher.digest128())));
    Ok(StateDigest { tables: tables.collect() })
}

/// Of one table.
pub fn digest_of(snapshot: &OwnedSnapshot, table: u32) -> Result<Digest> {
    let mut hasher: Option<Xxh3> = None;
    for vnode in 0..=u8::MAX {
        let (from, to) = table_slice(vnode, table);
        snapshot.scan(Family::Trie, &from, &to, |key, value| add_row(hasher.get_or_insert_default(), key, value))?;
    }
    Ok(hasher.map(|hasher| Digest(hasher.digest128())).unwrap_or_default())
}

fn add_row(hasher: &mut Xxh3, key: &[u8], value: &[u8]) -> Result<bool> {
    let (slice, rest) = key.split_at_checked(AFTER_TABLE).ok_or_else(broken)?;
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(&slice[..1]);
    hasher.update(rest);
    hasher.update(&(value.len() as u64).to_le_bytes());
    hasher.update(value);
    Ok(true)
}
