//! The rows of a question by key and time, so that a table's rows of each key are read once.

use crate::rows::Rows;
use std::cmp::Ordering;
use thyme_core::key;
use thyme_core::time::Micros;

/// Bytes of a key that are compared without looking at the key.
const HEAD: usize = 16;

/// Rows with their encoded keys, in the order of the table's rows and of time.
pub(crate) struct KeyedRows {
    /// The keys one after the other; rows that follow each other with the same key share it.
    bytes: Vec<u8>,
    rows: Vec<Keyed>,
}

/// A row's place in that order.
#[derive(Clone, Copy)]
pub(crate) struct Keyed {
    pub time: Micros,
    /// The first bytes of the key, zeros behind a shorter one.
    head: [u64; HEAD / 8],
    /// Where the key is.
    start: usize,
    length: u32,
    pub row: u32,
    vnode: u8,
}

/// About what a row costs here, with a short key.
pub(crate) const ROW_BYTES: usize = size_of::<Keyed>() + HEAD;

/// The rows of one key, in order of time.
pub(crate) struct Group<'a> {
    pub key: &'a [u8],
    pub partition: u16,
    pub rows: &'a [Keyed],
}

impl KeyedRows {
    /// The rows by the key in these slots. Rows with a null key or no time are left out.
    pub fn new(rows: &Rows, key: &[usize]) -> KeyedRows {
        let mut keyed = KeyedRows { bytes: Vec::new(), rows: Vec::with_capacity(rows.len()) };
        for (row, time) in rows.times.iter().enumerate() {
            let Some(time) = *time else { continue };
            let before = keyed.rows.last().filter(|before| before.row as usize + 1 == row).copied();
            let is_like = |before: &Keyed| {
                key.iter().all(|&slot| rows.slots[slot][row].value == rows.slots[slot][before.row as usize].value)
            };
            if let Some(before) = before.filter(is_like) {
                keyed.rows.push(Keyed { time, row: row as u32, ..before });
                continue;
            }
            let start = keyed.bytes.len();
            match key::put_key(&mut keyed.bytes, key.iter().map(|&slot| &rows.slots[slot][row].value)) {
                Some(()) => keyed.push(time, row, start),
                None => keyed.bytes.truncate(start),
            }
        }
        keyed.sort();
        keyed
    }

    /// Rows that come with the same key, mostly in order of time, are put into their place together.
    fn sort(&mut self) {
        let bytes = &self.bytes;
        let mut runs: Vec<&[Keyed]> = self.rows.chunk_by(|a, b| a.start == b.start && a.time <= b.time).collect();
        if runs.len() > self.rows.len() / 2 {
            self.rows.sort_unstable_by(|a, b| a.order(b, bytes));
            return;
        }
        runs.sort_unstable_by(|a, b| a[0].order(&b[0], bytes));
        let mut sorted = runs.concat();
        for of_key in sorted.chunk_by_mut(|a, b| a.order_of_key(b, bytes).is_eq()) {
            if !of_key.is_sorted_by_key(Keyed::place) {
                of_key.sort_unstable_by_key(Keyed::place);
            }
        }
        self.rows = sorted;
    }

    /// Takes in a row whose key stands at the end of the bytes, from `start` on.
    fn push(&mut self, time: Micros, row: usize, start: usize) {
        let key = &self.bytes[start..];
        let mut head = [0; HEAD];
        let known = key.len().min(HEAD);
        head[..known].copy_from_slice(&key[..known]);
        let (first, second) = head.split_at(HEAD / 2);
        let head = [first, second].map(|half| half.try_into().map_or(0, u64::from_be_bytes));
        let (vnode, length) = (key::vnode(key), key.len() as u32);
        self.rows.push(Keyed { time, head, start, length, row: row as u32, vnode });
    }

    pub fn order(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().map(|keyed| keyed.row as usize)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The keys in order, each with its rows, from the row on with which one begins.
    pub fn groups(&self, from: usize, partitions: u16) -> impl Iterator<Item = Group<'_>> {
        let chunks = self.rows[from..].chunk_by(|a, b| a.order_of_key(b, &self.bytes).is_eq());
        chunks.map(move |rows| Group {
            key: rows[0].key(&self.bytes),
            partition: key::partition_of_vnode(rows[0].vnode, partitions),
            rows,
        })
    }
}

impl Keyed {
    fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start..self.start + self.length as usize]
    }

    fn order(&self, other: &Keyed, bytes: &[u8]) -> Ordering {
        self.order_of_key(other, bytes).then_with(|| self.place().cmp(&other.place()))
    }

    fn place(&self) -> (Micros, u32) {
        (self.time, self.row)
    }

    fn order_of_key(&self, other: &Keyed, bytes: &[u8]) -> Ordering {
        let heads = (self.vnode, self.head).cmp(&(other.vnode, other.head));
        // No key begins with another, so that short ones are told apart by their heads.
        let is_known = self.start == other.start || self.length.max(other.length) as usize <= HEAD;
        if heads.is_ne() || is_known { heads } else { self.key(bytes).cmp(other.key(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::FeatureValue;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use thyme_core::value::Value;

    /// Times and rows.
    type OfKey = Vec<(Micros, usize)>;

    /// Keys that often begin alike, also beyond what is compared first, or are null.
    fn key() -> impl Strategy<Value = Value> {
        prop_oneof![
            (-3i64..3).prop_map(Value::Int),
            "[ab\u{0}]{0,3}".prop_map(Value::str),
            "[ab]{0,2}".prop_map(|end| Value::str(format!("a text that is long {end}"))),
            Just(Value::Null),
        ]
    }

    proptest! {
        #[test]
        fn each_key_has_its_rows_in_order_of_time(
            given in prop::collection::vec((key(), key(), prop::collection::vec(prop::option::of(0i64..4), 1..6)), 0..20),
        ) {
            // Some keys come several times in a row.
            let of_key = |(first, second, times): &(Value, Value, Vec<Option<Micros>>)| {
                times.iter().map(|time| (first.clone(), second.clone(), *time)).collect::<Vec<_>>()
            };
            let given: Vec<(Value, Value, Option<Micros>)> = given.iter().flat_map(of_key).collect();
            let slot = |of: fn(&(Value, Value, Option<Micros>)) -> &Value| {
                given.iter().map(|row| FeatureValue::ok(of(row).clone())).collect::<Vec<_>>()
            };
            let rows = Rows {
                times: given.iter().map(|(.., time)| *time).collect(),
                slots: vec![slot(|row| &row.0), slot(|row| &row.1)],
            };
            let mut wanted: BTreeMap<(u8, Vec<u8>), OfKey> = BTreeMap::new();
            for (row, (first, second, time)) in given.iter().enumerate() {
                if let (Some(encoded), Some(time)) = (key::encode_key(&[second.clone(), first.clone()]), time) {
                    wanted.entry((key::vnode(&encoded), encoded)).or_default().push((*time, row));
                }
            }
            wanted.values_mut().for_each(|rows| rows.sort_unstable());
            let keyed = KeyedRows::new(&rows, &[1, 0]);
            let found: Vec<_> = keyed.groups(0, 4).map(|group| {
                let rows: Vec<_> = group.rows.iter().map(|at| (at.time, at.row as usize)).collect();
                ((key::vnode(group.key), group.key.to_vec()), rows)
            }).collect();
            prop_assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
        }
    }
}
