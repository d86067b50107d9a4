//! Log records: what is written to a dataset's log and to a repartition log, byte for byte. The format is frozen by
//! `docs/decisions/0002-log-record.md`: a version byte, the append time, the event id, the row.
//!
//! ```text
//! event      01 00 | append_time i64 LE | event_time i64 LE | id | row
//! erase      01 01 | append_time i64 LE
//! routed     01 02 | append_time i64 LE | event_time i64 LE | partition varint | offset varint | row
//! progress   01 03 | append_time i64 LE | partition varint | next offset varint | greatest event time i64 LE | covered
//! unreadable 01 04 | append_time i64 LE | id | reason: varint length, text | text: varint length, bytes
//! id         00 | 01, 16 bytes call, varint row | 02, varint length, bytes
//! covered    nothing, or varint number of places, then partition varint, offset varint of each
//! row        varint number of fields, null bits (1 = null), then each non-null value by its type
//! ```
//! The record's key (the encoded entity key) travels beside it, as a log's own key. An erase erases that key. An unreadable
//! row whose key could not be told has an empty one, and then no text: nobody could erase it.

use crate::decimal::Decimal;
use crate::error::{Error, Result};
use crate::position::Position;
use crate::schema::DataType;
use crate::value::Value;
pub use crate::varint::{put_varint, put_wide_varint, take_varint, take_wide_varint, unzigzag, zigzag};
use std::collections::BTreeMap;
use std::sync::Arc;

const VERSION: u8 = 1;

/// What makes an ingested event the same event when it is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EventId {
    /// No id: every arrival is an event of its own (polling sources, which dedup by cursor).
    None,
    /// The SDK's: the call, and the row's number within it.
    Call { call: u128, row: u32 },
    /// Given by the caller.
    Given(Arc<[u8]>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Record<'a> {
    Event {
        append_time: i64,
        event_time: i64,
        id: EventId,
        row: &'a [u8],
    },
    Erase {
        append_time: i64,
    },
    /// A record of a repartition log: an accepted event with its original place.
    Routed {
        append_time: i64,
        event_time: i64,
        origin: Position,
        row: &'a [u8],
    },
    /// In a repartition log: everything of `partition` of the log that fills it below `next_offset` has been routed; the
    /// greatest event time there (`i64::MIN` if none is known) moves the watermark of this shard.
    Progress {
        append_time: i64,
        partition: u16,
        next_offset: u64,
        max_event_time: i64,
        /// Where what fills it is rows of an aggregated dataset: how far each partition of the raw dataset's log is in them, as
        /// far as is known. Empty where it is the raw dataset's log itself.
        covered: Vec<(u16, u64)>,
    },
    /// A row of a source that is no row of the dataset: for the dead letters.
    Unreadable {
        append_time: i64,
        id: EventId,
        /// Place and reason, as a user reads them.
        reason: &'a str,
        /// The beginning of the row as it came.
        text: &'a [u8],
    },
}

impl Record<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.encode_to(&mut out);
        out
    }

    pub fn encode_to(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Record::Event { append_time, event_time, id, row } => {
                out.push(0);
                out.extend_from_slice(&append_time.to_le_bytes());
                out.extend_from_slice(&event_time.to_le_bytes());
                put_id(id, out);
                out.extend_from_slice(row);
            }
            Record::Erase { append_time } => {
                out.push(1);
                out.extend_from_slice(&append_time.to_le_bytes());
            }
            Record::Routed { append_time, event_time, origin, row } => {
                out.push(2);
                out.extend_from_slice(&append_time.to_le_bytes());
                out.extend_from_slice(&event_time.to_le_bytes());
                put_varint(out, u64::from(origin.partition));
                put_varint(out, origin.offset);
                out.extend_from_slice(row);
            }
            Record::Progress { append_time, partition, next_offset, max_event_time, covered } => {
                out.push(3);
                out.extend_from_slice(&append_time.to_le_bytes());
                put_varint(out, u64::from(*partition));
                put_varint(out, *next_offset);
                out.extend_from_slice(&max_event_time.to_le_bytes());
                put_covered(covered, out);
            }
            Record::Unreadable { append_time, id, reason, text } => {
                out.push(4);
                out.extend_from_slice(&append_time.to_le_bytes());
                put_id(id, out);
                put_bytes(out, reason.as_bytes());
                put_bytes(out, text);
            }
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Record<'_>> {
        let mut rest = bytes;
        let version = take_byte(&mut rest)?;
        if version != VERSION {
            return Err(Error::data_loss(format!(
                "a log record has format version {version}, this build reads {VERSION}"
            )));
        }
        let kind = take_byte(&mut rest)?;
        let append_time = take_i64(&mut rest)?;
        Ok(match kind {
            0 => {
                let event_time = take_i64(&mut rest)?;
                let id = take_id(&mut rest)?;
                Record::Event { append_time, event_time, id, row: rest }
            }
            1 => Record::Erase { append_time },
            2 => {
                let event_time = take_i64(&mut rest)?;
                let partition = u16::try_from(take_varint(&mut rest)?).map_err(|_| broken())?;
                let offset = take_varint(&mut rest)?;
                Record::Routed { append_time, event_time, origin: Position { partition, offset }, row: rest }
            }
            3 => {
                let partition = u16::try_from(take_varint(&mut rest)?).map_err(|_| broken())?;
                let next_offset = take_varint(&mut rest)?;
                let max_event_time = take_i64(&mut rest)?;
                let covered = take_covered(rest)?;
                Record::Progress { append_time, partition, next_offset, max_event_time, covered }
            }
            4 => {
                let id = take_id(&mut rest)?;
                let reason = std::str::from_utf8(take_bytes(&mut rest)?).map_err(|_| broken())?;
                Record::Unreadable { append_time, id, reason, text: take_bytes(&mut rest)? }
            }
            _ => return Err(broken()),
        })
    }
}

fn put_covered(covered: &[(u16, u64)], out: &mut Vec<u8>) {
    if covered.is_empty() {
        return;
    }
    put_varint(out, covered.len() as u64);
    for (partition, offset) in covered {
        put_varint(out, u64::from(*partition));
        put_varint(out, *offset);
    }
}

fn take_covered(mut rest: &[u8]) -> Result<Vec<(u16, u64)>> {
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let count = take_varint(&mut rest)? as usize;
    let mut covered = Vec::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        let partition = u16::try_from(take_varint(&mut rest)?).map_err(|_| broken())?;
        covered.push((partition, take_varint(&mut rest)?));
    }
    Ok(covered)
}

fn put_id(id: &EventId, out: &mut Vec<u8>) {
    match id {
        EventId::None => out.push(0),
        EventId::Call { call, row } => {
            out.push(1);
            out.extend_from_slice(&call.to_le_bytes());
            put_varint(out, u64::from(*row));
        }
        EventId::Given(bytes) => {
            out.push(2);
            put_bytes(out, bytes);
        }
    }
}

fn take_id(rest: &mut &[u8]) -> Result<EventId> {
    Ok(match take_byte(rest)? {
        0 => EventId::None,
        1 => {
            let (call, tail) = rest.split_first_chunk::<16>().ok_or_else(broken)?;
            *rest = tail;
            let row = u32::try_from(take_varint(rest)?).map_err(|_| broken())?;
            EventId::Call { call: u128::from_le_bytes(*call), row }
        }
        2 => EventId::Given(take_bytes(rest)?.into()),
        _ => return Err(broken()),
    })
}

fn broken() -> Error {
    Error::data_loss("a log record does not decode")
}

/// Writes a row: one value per field, in the dataset's stored field order.
pub fn encode_row(values: &[Value], out: &mut Vec<u8>) {
    put_varint(out, values.len() as u64);
    let bits_at = out.len();
    out.resize(bits_at + values.len().div_ceil(8), 0);
    for (index, value) in values.iter().enumerate() {
        if value.is_null() {
            out[bits_at + index / 8] |= 1 << (index % 8);
        } else {
            put_value(value, out);
        }
    }
}

/// Reads a row written by [`encode_row`]. `types` are the dataset's stored fields now: fields added since the row was written
/// are null. Where `wanted` is given, the other columns are skipped and left null.
pub fn decode_row(bytes: &[u8], types: &[DataType], wanted: Option<&[bool]>) -> Result<Vec<Value>> {
    let mut rest = bytes;
    let count = take_varint(&mut rest)? as usize;
    if count > types.len() || rest.len() < count.div_ceil(8) {
        return Err(broken());
    }
    let (null_bits, tail) = rest.split_at(count.div_ceil(8));
    rest = tail;
    let mut values = Vec::with_capacity(types.len());
    for (index, data_type) in types.iter().enumerate() {
        if index >= count || null_bits[index / 8] & (1 << (index % 8)) != 0 {
            values.push(Value::Null);
        } else if wanted.is_none_or(|mask| mask[index]) {
            values.push(take_value(&mut rest, data_type)?);
        } else {
            skip_value(&mut rest, data_type)?;
            values.push(Value::Null);
        }
    }
    Ok(values)
}

/// Whether [`decode_row`] reads all of a row, whatever is wanted of it, and every number in it is a value. Takes no memory.
pub fn check_row(bytes: &[u8], types: &[DataType]) -> Result<()> {
    let mut rest = bytes;
    let count = take_varint(&mut rest)? as usize;
    if count > types.len() || rest.len() < count.div_ceil(8) {
        return Err(broken());
    }
    let (null_bits, tail) = rest.split_at(count.div_ceil(8));
    rest = tail;
    for (index, data_type) in types.iter().enumerate().take(count) {
        if null_bits[index / 8] & (1 << (index % 8)) == 0 {
            check_value(&mut rest, data_type)?;
        }
    }
    Ok(())
}

fn check_value(rest: &mut &[u8], data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Bool | DataType::Int | DataType::Time | DataType::Bytes => skip_value(rest, data_type),
        DataType::Float => {
            let is_value = f64::from_bits(take_i64(rest)? as u64).is_finite();
            if is_value { Ok(()) } else { Err(Error::data_loss("a log record has a number that is no value")) }
        }
        DataType::Str => take_text(rest).map(|_| ()),
        DataType::Decimal => Decimal::decode(rest).map(|_| ()),
        DataType::List(item) => {
            let count = take_varint(rest)?;
            (0..count).try_for_each(|_| check_nullable(rest, item))
        }
        DataType::Map(item) => {
            let count = take_varint(rest)?;
            (0..count).try_for_each(|_| take_text(rest).and_then(|_| check_nullable(rest, item)))
        }
        DataType::Struct(_) => take_value(rest, data_type).map(|_| ()),
    }
}

fn check_nullable(rest: &mut &[u8], data_type: &DataType) -> Result<()> {
    if take_byte(rest)? == 0 { Ok(()) } else { check_value(rest, data_type) }
}

/// Writes a value that is not null by its type; [`encode_row`] writes a null as a bit.
pub fn put_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => out.push(u8::from(*flag)),
        Value::Int(number) => put_varint(out, zigzag(*number)),
        Value::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Time(micros) => out.extend_from_slice(&micros.to_le_bytes()),
        Value::Decimal(number) => number.encode(out),
        Value::Str(text) => put_bytes(out, text.as_bytes()),
        Value::Bytes(bytes) => put_bytes(out, bytes),
        Value::List(items) => {
            put_varint(out, items.len() as u64);
            for item in items.iter() {
                put_nullable(item, out);
            }
        }
        Value::Map(entries) => {
            put_varint(out, entries.len() as u64);
            for (name, item) in entries.iter() {
                put_bytes(out, name.as_bytes());
                put_nullable(item, out);
            }
        }
    }
}

fn put_nullable(value: &Value, out: &mut Vec<u8>) {
    out.push(u8::from(!value.is_null()));
    put_value(value, out);
}

fn take_value(rest: &mut &[u8], data_type: &DataType) -> Result<Value> {
    Ok(match data_type {
        DataType::Bool => Value::Bool(take_byte(rest)? != 0),
        DataType::Int => Value::Int(unzigzag(take_varint(rest)?)),
        DataType::Float => Value::Float(f64::from_bits(take_i64(rest)? as u64)),
        DataType::Time => Value::Time(take_i64(rest)?),
        DataType::Decimal => Value::Decimal(Decimal::decode(rest)?),
        DataType::Str => Value::str(take_text(rest)?),
        DataType::Bytes => Value::Bytes(take_bytes(rest)?.into()),
        DataType::List(item) => {
            let count = take_varint(rest)? as usize;
            let mut items = Vec::with_capacity(count.min(rest.len()));
            for _ in 0..count {
                items.push(take_nullable(rest, item)?);
            }
            Value::List(items.into())
        }
        DataType::Map(item) => {
            let count = take_varint(rest)? as usize;
            let mut entries = BTreeMap::new();
            for _ in 0..count {
                let name = take_text(rest)?;
                entries.insert(Arc::from(name), take_nullable(rest, item)?);
            }
            Value::Map(Arc::new(entries))
        }
        // Refused in datasets that take events.
        DataType::Struct(_) => return Err(Error::internal(format!("a {data_type} in a record"))),
    })
}

fn take_nullable(rest: &mut &[u8], data_type: &DataType) -> Result<Value> {
    if take_byte(rest)? == 0 {
        return Ok(Value::Null);
    }
    take_value(rest, data_type)
}

fn skip_value(rest: &mut &[u8], data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Bool => take_byte(rest).map(|_| ()),
        DataType::Int => take_varint(rest).map(|_| ()),
        DataType::Float | DataType::Time => take_i64(rest).map(|_| ()),
        DataType::Str | DataType::Bytes => take_bytes(rest).map(|_| ()),
        DataType::Decimal | DataType::List(_) | DataType::Map(_) | DataType::Struct(_) => {
            take_value(rest, data_type).map(|_| ())
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = take_varint(rest)? as usize;
    if length > rest.len() {
        return Err(broken());
    }
    let (head, tail) = rest.split_at(length);
    *rest = tail;
    Ok(head)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(take_bytes(rest)?).map_err(|_| broken())
}

fn take_byte(rest: &mut &[u8]) -> Result<u8> {
    let (head, tail) = rest.split_first().ok_or_else(broken)?;
    *rest = tail;
    Ok(*head)
}

fn take_i64(rest: &mut &[u8]) -> Result<i64> {
    let (head, tail) = rest.split_first_chunk::<8>().ok_or_else(broken)?;
    *rest = tail;
    Ok(i64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests;
