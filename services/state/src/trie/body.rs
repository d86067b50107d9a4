//! What a leaf holds of one event besides time and place: null bits, predicate bits, then each value that is not null by its type.
//! The bytes do not depend on the events around, so that rows are merged and split without decoding values.
//!
//! ```text
//! bits     one per column (1 = null), one per predicate, rounded up to bytes; in a table that grows: see below
//! int      zigzag varint
//! float    varint 2 * zigzag(hundredths) if that is the same f64 bit by bit; else 01, 8 bytes LE
//! time     zigzag varint of the difference to the event time
//! str      varint length, bytes
//! decimal  how many digits are after the point, a byte; all digits as a zigzag varint
//! list     varint length, per item 0 (null) | 1, value;  dict: varint length, per entry name, then as an item
//! ```
//! The table of a raw dataset grows when the dataset gains a field. Its bits tell which columns are there, seven to a byte, the top
//! bit saying that another byte follows, up to the last column that is there: the bytes of an event are the same before and after.

use super::loaded::Column;
use crate::codec::{
    broken, put_bytes, put_signed, put_varint, take_byte, take_bytes, take_exact, take_signed, take_varint,
};
use crate::codec::{unzigzag, zigzag};
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::aggregate::TableLayout;
use thyme_core::schema::DataType;
use thyme_core::{Decimal, Error, Result, Value};

/// Below this many hundredths, an integer and its quotient by 100 are exact enough to compare bit by bit.
const MAX_HUNDREDTHS: i64 = 1 << 52;
/// What stands before a float that is no hundredths.
pub const RAW_FLOAT: u64 = 1;

fn bit_bytes(layout: &TableLayout) -> usize {
    (layout.columns.len() + usize::from(layout.predicates)).div_ceil(8)
}

/// Appends the body of an event.
pub fn encode(layout: &TableLayout, time: i64, values: &[Value], predicates: u64, out: &mut Vec<u8>) -> Result<()> {
    if values.len() != layout.columns.len() {
        return Err(Error::internal(format!(
            "an event has {} values, its table {} columns",
            values.len(),
            layout.columns.len()
        )));
    }
    if layout.grows() {
        put_presence(values, out);
    } else {
        put_bits(layout, values, predicates, out);
    }
    for (value, data_type) in values.iter().zip(&layout.columns) {
        if !value.is_null() {
            put_value(value, data_type, time, out)?;
        }
    }
    Ok(())
}

fn put_bits(layout: &TableLayout, values: &[Value], predicates: u64, out: &mut Vec<u8>) {
    let bits_at = out.len();
    out.resize(bits_at + bit_bytes(layout), 0);
    let nulls = values.iter().enumerate().filter(|(_, value)| value.is_null()).map(|(index, _)| index);
    let fulfilled = (0..usize::from(layout.predicates)).filter(|predicate| predicates >> predicate & 1 != 0);
    for index in nulls.chain(fulfilled.map(|predicate| layout.columns.len() + predicate)) {
        out[bits_at + index / 8] |= 1 << (index % 8);
    }
}

fn put_presence(values: &[Value], out: &mut Vec<u8>) {
    let there = values.iter().rposition(|value| !value.is_null()).map_or(0, |last| last + 1);
    let bytes = there.div_ceil(7).max(1);
    for (index, group) in values[..there].chunks(7).enumerate() {
        let bits = group.iter().rev().fold(0, |bits, value| bits << 1 | u8::from(!value.is_null()));
        out.push(bits | u8::from(index + 1 < bytes) << 7);
    }
    if there == 0 {
        out.push(0);
    }
}

/// Which columns and predicates of a body are set.
enum Bits<'a> {
    Nulls(&'a [u8]),
    Presence(&'a [u8]),
}

impl<'a> Bits<'a> {
    #[inline]
    fn take(layout: &TableLayout, rest: &mut &'a [u8]) -> Result<Bits<'a>> {
        if !layout.grows() {
            return Ok(Bits::Nulls(take_exact(rest, bit_bytes(layout))?));
        }
        let bytes = rest.iter().position(|byte| byte & 0x80 == 0).ok_or_else(broken)? + 1;
        if bytes > layout.columns.len().div_ceil(7).max(1) {
            return Err(broken());
        }
        Ok(Bits::Presence(take_exact(rest, bytes)?))
    }

    #[inline]
    fn is_null(&self, column: usize) -> bool {
        match self {
            Bits::Nulls(bits) => is_set(bits, column),
            Bits::Presence(bits) => bits.get(column / 7).is_none_or(|byte| byte >> (column % 7) & 1 == 0),
        }
    }

    #[inline]
    fn predicates(&self, layout: &TableLayout) -> u64 {
        let Bits::Nulls(bits) = self else { return 0 };
        let first = layout.columns.len();
        (0..usize::from(layout.predicates))
            .fold(0, |found, predicate| found | u64::from(is_set(bits, first + predicate)) << predicate)
    }
}

/// Moves `rest` behind a body.
#[inline]
pub fn skip(layout: &TableLayout, rest: &mut &[u8]) -> Result<()> {
    let bits = Bits::take(layout, rest)?;
    for (index, data_type) in layout.columns.iter().enumerate() {
        if !bits.is_null(index) {
            skip_value(data_type, rest)?;
        }
    }
    Ok(())
}

/// Reads a body into `values` (as many as there are columns; those not wanted are left as they are) and gives the predicates.
#[inline]
pub fn decode(layout: &TableLayout, time: i64, rest: &mut &[u8], wanted: &[bool], values: &mut [Value]) -> Result<u64> {
    let bits = Bits::take(layout, rest)?;
    for (index, data_type) in layout.columns.iter().enumerate() {
        let is_null = bits.is_null(index);
        if wanted[index] {
            values[index] = if is_null { Value::Null } else { take_value(data_type, time, rest)? };
        } else if !is_null {
            skip_value(data_type, rest)?;
        }
    }
    Ok(bits.predicates(layout))
}

/// The same, each wanted value behind those of its column.
#[inline]
pub fn push(layout: &TableLayout, time: i64, rest: &mut &[u8], columns: &mut [Column]) -> Result<u64> {
    let bits = Bits::take(layout, rest)?;
    for (index, (data_type, column)) in layout.columns.iter().zip(columns).enumerate() {
        match (column, bits.is_null(index)) {
            (Column::Unread, true) => {}
            (Column::Unread, false) => skip_value(data_type, rest)?,
            (Column::Floats(numbers), true) => numbers.push(f64::NAN),
            (Column::Floats(numbers), false) => numbers.push(take_float(rest)?),
            (Column::Values(values), true) => values.push(Value::Null),
            (Column::Values(values), false) => values.push(take_value(data_type, time, rest)?),
        }
    }
    Ok(bits.predicates(layout))
}

#[inline]
fn is_set(bits: &[u8], index: usize) -> bool {
    bits[index / 8] >> (index % 8) & 1 != 0
}

fn put_value(value: &Value, data_type: &DataType, time: i64, out: &mut Vec<u8>) -> Result<()> {
    match (value, data_type) {
        (Value::Bool(flag), DataType::Bool) => out.push(u8::from(*flag)),
        (Value::Int(number), DataType::Int) => put_signed(out, *number),
        (Value::Float(number), DataType::Float) => put_float(*number, out),
        (Value::Time(micros), DataType::Time) => put_signed(out, micros.wrapping_sub(time)),
        (Value::Decimal(number), DataType::Decimal) => number.encode(out),
        (Value::Str(text), DataType::Str) => put_bytes(out, text.as_bytes()),
        (Value::Bytes(bytes), DataType::Bytes) => put_bytes(out, bytes),
        (Value::List(items), DataType::List(item_type)) => {
            put_varint(out, items.len() as u64);
            for item in items.iter() {
                put_nullable(item, item_type, time, out)?;
            }
        }
        (Value::Map(entries), DataType::Map(item_type)) => {
            put_varint(out, entries.len() as u64);
            for (name, item) in entries.iter() {
                put_bytes(out, name.as_bytes());
                put_nullable(item, item_type, time, out)?;
            }
        }
        _ => {
            return Err(Error::internal(format!("a {} in a column of type {data_type}", value.type_name())));
        }
    }
    Ok(())
}

fn put_nullable(value: &Value, data_type: &DataType, time: i64, out: &mut Vec<u8>) -> Result<()> {
    out.push(u8::from(!value.is_null()));
    if value.is_null() { Ok(()) } else { put_value(value, data_type, time, out) }
}

#[inline]
fn put_float(number: f64, out: &mut Vec<u8>) {
    let scaled = number * 100.0;
    let hundredths = (scaled + 0.5f64.copysign(scaled)) as i64;
    let is_exact =
        hundredths.unsigned_abs() < MAX_HUNDREDTHS as u64 && (hundredths as f64 / 100.0).to_bits() == number.to_bits();
    if is_exact {
        put_varint(out, zigzag(hundredths) << 1);
    } else {
        put_varint(out, RAW_FLOAT);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

#[inline]
fn take_float(rest: &mut &[u8]) -> Result<f64> {
    let head = take_varint(rest)?;
    if head != RAW_FLOAT {
        return Ok(float_of(head));
    }
    let bytes = rest.first_chunk::<8>().ok_or_else(broken)?;
    *rest = &rest[8..];
    Ok(f64::from_le_bytes(*bytes))
}

/// The float that this varint stands for, which is not [`RAW_FLOAT`].
#[inline]
pub fn float_of(hundredths: u64) -> f64 {
    unzigzag(hundredths >> 1) as f64 / 100.0
}

#[inline]
fn take_value(data_type: &DataType, time: i64, rest: &mut &[u8]) -> Result<Value> {
    Ok(match data_type {
        DataType::Bool => Value::Bool(take_byte(rest)? != 0),
        DataType::Int => Value::Int(take_signed(rest)?),
        DataType::Float => Value::Float(take_float(rest)?),
        DataType::Time => Value::Time(time.wrapping_add(take_signed(rest)?)),
        DataType::Decimal => Value::Decimal(Decimal::decode(rest)?),
        DataType::Str => Value::str(std::str::from_utf8(take_bytes(rest)?).map_err(|_| broken())?),
        DataType::Bytes => Value::Bytes(take_bytes(rest)?.into()),
        DataType::List(item_type) => {
            let count = take_varint(rest)?;
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(take_nullable(item_type, time, rest)?);
            }
            Value::List(items.into())
        }
        DataType::Map(item_type) => {
            let count = take_varint(rest)?;
            let mut entries = BTreeMap::new();
            for _ in 0..count {
                let name = std::str::from_utf8(take_bytes(rest)?).map_err(|_| broken())?;
                entries.insert(Arc::from(name), take_nullable(item_type, time, rest)?);
            }
            Value::Map(Arc::new(entries))
        }
        // Refused in datasets that take events.
        DataType::Struct(_) => return Err(Error::internal(format!("a {data_type} in a stored event"))),
    })
}

fn take_nullable(data_type: &DataType, time: i64, rest: &mut &[u8]) -> Result<Value> {
    if take_byte(rest)? == 0 { Ok(Value::Null) } else { take_value(data_type, time, rest) }
}

#[inline]
fn skip_value(data_type: &DataType, rest: &mut &[u8]) -> Result<()> {
    match data_type {
        DataType::Bool => take_byte(rest).map(|_| ()),
        DataType::Int | DataType::Time => take_varint(rest).map(|_| ()),
        DataType::Float => {
            if take_varint(rest)? == RAW_FLOAT {
                take_exact(rest, 8)?;
            }
            Ok(())
        }
        DataType::Str | DataType::Bytes => take_bytes(rest).map(|_| ()),
        DataType::Decimal | DataType::List(_) | DataType::Map(_) | DataType::Struct(_) => {
            take_value(data_type, 0, rest).map(|_| ())
        }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
