//! Values in Avro's binary encoding, by the schema they were written with (specification 1.12).
//!
//! Only what a reader needs: a value is read as it was written, and its members find the dataset's fields by name. Defaults and
//! aliases belong to a reader's schema, and the dataset has none: a member that an older schema lacks needs an `Optional` field.

mod schema;

use super::datum::Datum;
pub use schema::Schema;
use schema::{Logical, Type};
use thyme_core::{Error, Result};

/// Records within records.
const DEEPEST: usize = 64;
/// Values in one record: items without a size of their own could be endless.
const MOST_VALUES: usize = 1 << 20;

impl Schema {
    pub fn read(&self, bytes: &[u8]) -> Result<Datum> {
        let mut reader = Reader { schema: self, bytes, left: MOST_VALUES };
        let datum = reader.read(&self.root, 0)?;
        match reader.bytes.len() {
            0 => Ok(datum),
            more => {
                Err(Error::invalid(format!("{more} bytes are left over: the value was written with another schema")))
            }
        }
    }
}

struct Reader<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Reader<'a> {
    fn read(&mut self, of: &Type, depth: usize) -> Result<Datum> {
        if depth > DEEPEST {
            return Err(Error::invalid(format!("the value is nested deeper than {DEEPEST} levels")));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| Error::invalid("the record has too many values"))?;
        Ok(match of {
            Type::Null => Datum::Null,
            Type::Bool => match self.take(1)? {
                [0] => Datum::Bool(false),
                [1] => Datum::Bool(true),
                other => return Err(Error::invalid(format!("a boolean is 0 or 1, got {other:?}"))),
            },
            Type::Int | Type::Long => Datum::Int(self.long()?),
            Type::Float => Datum::Float(f64::from(f32::from_le_bytes(self.array()?))),
            Type::Double => Datum::Float(f64::from_le_bytes(self.array()?)),
            Type::Bytes => {
                let length = self.length()?;
                Datum::Bytes(self.take(length)?.to_vec())
            }
            Type::Text => Datum::Text(self.text()?),
            Type::Fixed(size) => Datum::Bytes(self.take(*size)?.to_vec()),
            Type::Enum(symbols) => {
                let index = self.long()?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
                let missing = || Error::invalid(format!("the enum has no symbol of number {index}"));
                Datum::Text(symbol.ok_or_else(missing)?.clone())
            }
            Type::List(item) => {
                let mut items = Vec::new();
                self.blocks(|reader| {
                    items.push(reader.read(item, depth + 1)?);
                    Ok(())
                })?;
                Datum::List(items)
            }
            Type::Map(item) => {
                let mut members = Vec::new();
                self.blocks(|reader| {
                    let name = reader.text()?;
                    members.push((name, reader.read(item, depth + 1)?));
                    Ok(())
                })?;
                Datum::Object(members)
            }
            Type::Union(branches) => {
                let index = self.long()?;
                let branch = usize::try_from(index).ok().and_then(|index| branches.get(index));
                let missing = || Error::invalid(format!("the union has no branch of number {index}"));
                self.read(branch.ok_or_else(missing)?, depth + 1)?
            }
            Type::Record(fields) => {
                let mut members = Vec::with_capacity(fields.len());
                for (name, of) in fields {
                    let datum = self.read(of, depth + 1);
                    members.push((name.clone(), datum.map_err(|error| error.context(format_args!("'{name}'")))?));
                }
                Datum::Object(members)
            }
            Type::Named(name) => {
                let schema = self.schema;
                let of = schema.named.get(name);
                self.read(of.ok_or_else(|| Error::internal(format!("no type '{name}'")))?, depth + 1)?
            }
            Type::Logical(logical, of) => {
                let datum = self.read(of, depth + 1)?;
                converted(*logical, datum)?
            }
        })
    }

    /// The items of a list or map come in blocks, each with its count; a negative one is followed by the block's size.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.bytes.split_at_checked(length).ok_or_else(|| Error::invalid("the value ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Error::internal("a slice has another length"))
    }

    fn text(&mut self) -> Result<String> {
        let length = self.length()?;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| Error::invalid("a string is not UTF-8"))
    }

    fn length(&mut self) -> Result<usize> {
        let length = self.long()?;
        usize::try_from(length).map_err(|_| Error::invalid(format!("a length is negative: {length}")))
    }

    /// Seven bits a byte, the lowest first; the sign is the lowest bit.
    fn long(&mut self) -> Result<i64> {
        let mut number: u64 = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err(Error::invalid("a number does not end"))
    }
}

fn converted(logical: Logical, datum: Datum) -> Result<Datum> {
    match (logical, datum) {
        (Logical::Date, Datum::Int(days)) => {
            let seconds = days.checked_mul(86_400);
            Datum::time(seconds.ok_or_else(|| Error::invalid(format!("a date is out of range: {days}")))?, 1)
        }
        (Logical::Timestamp { per_second }, Datum::Int(units)) => Datum::time(units, per_second),
        (Logical::Decimal { scale }, Datum::Bytes(bytes)) => Datum::decimal(&bytes, scale),
        (_, datum) => Ok(datum),
    }
}
