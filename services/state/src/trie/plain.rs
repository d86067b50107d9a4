//! Events of a leaf whose values are all there and stand as varints, as most do. Where varints end is found out for 64 bytes at once, so
//! that what nobody looks at costs a step, and no event waits for the one before to be read.

use super::body::{RAW_FLOAT, float_of};
use super::leaf::{LEAF_EVENTS, LeafCursor};
use super::loaded::Column;
use crate::codec::{ends_of, unzigzag, varint_of};
use crate::model::Table;
use thyme_core::Value;
use thyme_core::schema::DataType;

/// Bytes looked at together.
const WINDOW: usize = 64;
/// A varint is read with so many bytes behind its beginning.
const READ: usize = 8;
const GOES_ON: u8 = 0x80;
/// Fields of a link: differences of time, sequence and append time; of a routed table also the partition and a difference of offset.
const LINK: u32 = 3;
const ROUTED_LINK: u32 = 5;
/// Null and predicate bits of as many columns and predicates fit into a byte that ends itself, as a varint does.
const MAX_BITS: usize = 7;

/// How the events of a table stand that are plain, and room for those of a leaf.
pub struct Plain {
    columns: Vec<DataType>,
    is_float: Vec<bool>,
    form: Form,
    room: Box<Room>,
}

/// What does not depend on the columns.
#[derive(Clone, Copy)]
struct Form {
    is_routed: bool,
    /// The bits that are set in none.
    nulls: u8,
}

/// As they stand in a leaf. To make values of them all, column by column, is left to loops of their own.
struct Room {
    times: [i64; LEAF_EVENTS],
    bits: [u8; LEAF_EVENTS],
    heads: [[u64; LEAF_EVENTS]; MAX_BITS],
}

/// Where events are put, newest first.
pub struct Taken<'a> {
    pub times: &'a mut Vec<i64>,
    pub predicates: Option<&'a mut Vec<u64>>,
    pub columns: &'a mut [Column],
}

impl Plain {
    /// `None` if no event of the table is plain.
    pub fn of(table: &Table) -> Option<Plain> {
        let layout = &table.layout;
        let bits = layout.columns.len() + usize::from(layout.predicates);
        let is_varint = |data_type: &DataType| {
            matches!(data_type, DataType::Bool | DataType::Int | DataType::Time | DataType::Float)
        };
        let is_plain = (1..=MAX_BITS).contains(&bits) && layout.columns.iter().all(is_varint);
        if !is_plain || layout.grows() {
            return None;
        }
        let heads = [[0; LEAF_EVENTS]; MAX_BITS];
        Some(Plain {
            columns: layout.columns.clone(),
            is_float: layout.columns.iter().map(|data_type| *data_type == DataType::Float).collect(),
            form: Form { is_routed: table.routed, nulls: GOES_ON | ((1u8 << layout.columns.len()) - 1) },
            room: Box::new(Room { times: [0; LEAF_EVENTS], bits: [0; LEAF_EVENTS], heads }),
        })
    }

    /// Goes on through the leaf while events are plain, and takes those of `[from, to]`. False: the rest are older.
    pub fn take(&mut self, leaf: &mut LeafCursor<'_>, span: (i64, i64), taken: &mut Taken<'_>) -> bool {
        let Plain { is_float, form, room, .. } = self;
        // Of few columns the loop over them is unrolled.
        let (count, goes_on) = match is_float.as_slice() {
            [one] => read(&[*one], *form, room, leaf, span),
            [one, other] => read(&[*one, *other], *form, room, leaf, span),
            all => read(all, *form, room, leaf, span),
        };
        self.put(count, taken);
        goes_on
    }

    fn put(&self, count: usize, taken: &mut Taken<'_>) {
        let times = &self.room.times[..count];
        taken.times.extend_from_slice(times);
        if let Some(predicates) = &mut taken.predicates {
            let columns = self.columns.len();
            predicates.extend(self.room.bits[..count].iter().map(|bits| u64::from(*bits) >> columns));
        }
        for (place, column) in taken.columns.iter_mut().enumerate() {
            let heads = &self.room.heads[place][..count];
            match column {
                Column::Unread => {}
                Column::Floats(numbers) => numbers.extend(heads.iter().map(|head| float_of(*head))),
                Column::Values(values) => {
                    values.extend(heads.iter().zip(times).map(|(head, time)| match self.columns[place] {
                        DataType::Bool => Value::Bool(*head != 0),
                        DataType::Time => Value::Time(time.wrapping_add(unzigzag(*head))),
                        _ => Value::Int(unzigzag(*head)),
                    }))
                }
            }
        }
    }
}

/// Into the room; how many, and whether the rest are not older.
#[inline(always)]
fn read(
    is_float: &[bool],
    form: Form,
    room: &mut Room,
    leaf: &mut LeafCursor<'_>,
    (from, to): (i64, i64),
) -> (usize, bool) {
    let fields = if form.is_routed { ROUTED_LINK } else { LINK } + 1 + is_float.len() as u32;
    let (mut count, mut time) = (0, leaf.time);
    loop {
        let mut padded = [GOES_ON; WINDOW + READ];
        let bytes = match leaf.rest.first_chunk() {
            Some(bytes) => bytes,
            None => {
                padded[..leaf.rest.len()].copy_from_slice(leaf.rest);
                &padded
            }
        };
        let mut ends = Ends(ends_of(bytes));
        let whole = (ends.0.count_ones() / fields).min(leaf.remaining.min(LEAF_EVENTS - count) as u32);
        let (mut done, mut begin) = (0, 0);
        while done < whole {
            let (time_end, _, mut link_end) = (ends.next(), ends.next(), ends.next());
            let mut is_plain = time_end - begin < READ;
            if form.is_routed {
                // A byte, not a varint.
                is_plain &= bytes[link_end + 1] < GOES_ON;
                ends.next();
                link_end = ends.next();
            }
            let bits_at = link_end + 1;
            let bits = bytes[bits_at];
            ends.next();
            is_plain &= bits & form.nulls == 0;
            let mut at = bits_at + 1;
            for (column, is_float) in is_float.iter().enumerate() {
                let end = ends.next();
                let head = number_at(bytes, at, end);
                room.heads[column][count] = head;
                is_plain &= end.wrapping_sub(at) < READ && !(head == RAW_FLOAT && *is_float);
                at = end + 1;
            }
            if !is_plain {
                break;
            }
            time = time.wrapping_sub(number_at(bytes, begin, time_end) as i64);
            if time < from {
                return (count, false);
            }
            room.times[count] = time;
            room.bits[count] = bits;
            count += usize::from(time <= to);
            begin = at;
            done += 1;
        }
        leaf.time = time;
        leaf.rest = &leaf.rest[begin..];
        leaf.remaining -= done as usize;
        if done == 0 {
            return (count, true);
        }
    }
}

/// Bytes with which varints end, as bits, the first one lowest.
struct Ends(u64);

impl Ends {
    /// The place of the next one. That of none is behind all.
    #[inline]
    fn next(&mut self) -> usize {
        let place = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        place
    }
}

/// The varint between two places, both included; anything if it has more than eight bytes.
#[inline]
fn number_at(bytes: &[u8; WINDOW + READ], first: usize, last: usize) -> u64 {
    let Some(chunk) = bytes.get(first..).and_then(|rest| rest.first_chunk()) else { return 0 };
    let behind = READ.wrapping_sub(last.wrapping_sub(first) + 1) as u32;
    varint_of(u64::from_le_bytes(*chunk) & u64::MAX.wrapping_shr(behind.wrapping_mul(8)))
}
