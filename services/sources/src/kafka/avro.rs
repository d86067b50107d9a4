//! Values in Avro's binary encoding, by the schema they were written with (specification 1.12).
//!
//! Only what a reader needs: a value is read as it was written, and its members find the dataset's fields by name. Defaults and
//! aliases belong to a reader's schema, and the dataset has none: a member that an older schema lacks needs an `Optional` field.

mod schema;

use super::datum::{Datum, hex};
use super::decimal::decimal;
pub use schema::Schema;
use schema::{Logical, Type};
use thyme_core::{Error, Result};

/// Records, lists and maps within each other.
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
        // Which branch it is, of which name and of which logical type, are no values of their own.
        if !matches!(of, Type::Union(_) | Type::Named(_) | Type::Logical(..)) {
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                Error::invalid(format!("the record has more than {MOST_VALUES} values"))
                    .hint("write it as several records; larger ones are not read")
            })?;
        }
        Ok(match of {
            Type::Null => Datum::Null,
            Type::Bool => match self.take(1)? {
                [0] => Datum::Bool(false),
                [1] => Datum::Bool(true),
                other => return Err(Error::invalid(format!("a boolean is 0 or 1, got {}", hex(other)))),
            },
            Type::Int => {
                let number = self.long()?;
                let fits = i32::try_from(number);
                Datum::Int(fits.map_err(|_| Error::invalid(format!("an int has 32 bits, got {number}")))?.into())
            }
            Type::Long => Datum::Int(self.long()?),
            Type::Float => Datum::Float(f32::from_le_bytes(self.array()?).into()),
            Type::Double => Datum::Float(f64::from_le_bytes(self.array()?)),
            Type::Bytes => {
                let length = self.length()?;
                Datum::Bytes(self.take(length)?.to_vec())
            }
            Type::Text => Datum::Text(self.text()?),
            Type::Fixed(size) => Datum::Bytes(self.take(*size)?.to_vec()),
            Type::Enum(symbols) => Datum::Text(self.choice(symbols, "enum has no symbol")?.clone()),
            Type::List(item) => self.list(item, nested(depth)?)?,
            Type::Map(item) => self.map(item, nested(depth)?)?,
            Type::Union(branches) => {
                let branch = self.choice(branches, "union has no branch")?;
                self.read(branch, depth)?
            }
            Type::Record(fields) => self.record(fields, nested(depth)?)?,
            Type::Named(name) => {
                let schema = self.schema;
                let of = schema.named.get(name);
                self.read(of.ok_or_else(|| Error::internal(format!("no type '{name}'")))?, depth)?
            }
            Type::Logical(logical, of) => {
                let datum = self.read(of, depth)?;
                self.converted(*logical, datum)
            }
        })
    }

    fn list(&mut self, item: &Type, depth: usize) -> Result<Datum> {
        let mut items = Vec::new();
        self.blocks(|reader| {
            items.push(reader.read(item, depth)?);
            Ok(())
        })?;
        Ok(Datum::List(items))
    }

    fn map(&mut self, item: &Type, depth: usize) -> Result<Datum> {
        let mut members = Vec::new();
        self.blocks(|reader| {
            let name = reader.text()?;
            members.push((name, reader.read(item, depth)?));
            Ok(())
        })?;
        Ok(Datum::Object(members))
    }

    fn record(&mut self, fields: &[(String, Type)], depth: usize) -> Result<Datum> {
        let mut members = Vec::with_capacity(fields.len());
        for (name, of) in fields {
            let datum = self.read(of, depth);
            members.push((name.clone(), datum.map_err(|error| error.context(format_args!("'{name}'")))?));
        }
        Ok(Datum::Object(members))
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

    /// One of several, by its number.
    fn choice<'t, T>(&mut self, of: &'t [T], none: &str) -> Result<&'t T> {
        let index = self.long()?;
        let found = usize::try_from(index).ok().and_then(|index| of.get(index));
        found.ok_or_else(|| Error::invalid(format!("the {none} of number {index}")))
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
            let byte = u8::from_le_bytes(self.array()?);
            // One bit is left for the tenth byte.
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err(Error::invalid("a number has more than 64 bits"))
    }

    fn converted(&self, logical: Logical, datum: Datum) -> Datum {
        match (logical, datum) {
            (Logical::Date, Datum::Int(days)) => Datum::time(days.saturating_mul(86_400), 1),
            (Logical::Timestamp { per_second }, Datum::Int(units)) => Datum::time(units, per_second),
            (Logical::Decimal { scale }, Datum::Bytes(bytes)) => decimal(&bytes, scale),
            (Logical::BigDecimal, Datum::Bytes(bytes)) => {
                let mut reader = Reader { schema: self.schema, bytes: &bytes, left: 0 };
                reader.big_decimal().unwrap_or_else(|error| Datum::Wrong(format!("a decimal: {}", error.message())))
            }
            (Logical::Uuid, Datum::Bytes(bytes)) => Datum::Text(uuid(&bytes)),
            (_, datum) => datum,
        }
    }

    /// A decimal that carries its scale: the bytes of the number, then the scale.
    fn big_decimal(&mut self) -> Result<Datum> {
        let length = self.length()?;
        let number = self.take(length)?;
        let scale = self.long()?;
        if !self.bytes.is_empty() {
            return Err(Error::invalid(format!("{} bytes are left over", self.bytes.len())));
        }
        Ok(decimal(number, scale))
    }
}

fn nested(depth: usize) -> Result<usize> {
    if depth >= DEEPEST {
        return Err(Error::invalid(format!("the value is nested deeper than {DEEPEST} levels")));
    }
    Ok(depth + 1)
}

/// As the text that the same logical type has where it is a string.
fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
