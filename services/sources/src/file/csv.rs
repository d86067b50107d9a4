//! Comma-separated values with a header, as RFC 4180 has them: a field may stand in double quotes, and then hold commas,
//! line ends and doubled quotes.

use super::text::{Step, TextFormat};
use crate::coerce;
use thyme_core::schema::Field;
use thyme_core::{Error, Result, Value, suggest};

/// Longest record: beyond it, an open quote is taken for a mistake.
const LONGEST_QUOTED: usize = 1 << 20;

pub struct Csv;

/// Where the fields are.
pub struct Header {
    columns: usize,
    /// Column of each field; `None` for an Optional field without one.
    places: Vec<Option<usize>>,
}

impl TextFormat for Csv {
    type Layout = Header;

    fn layout(&self, bytes: &[u8], fields: &[Field]) -> Result<Option<(Header, usize)>> {
        let (cells, length) = match scan(bytes) {
            Scan::Record { cells, length } => (cells, length),
            Scan::Unfinished { .. } => return Ok(None),
            Scan::Malformed => return Err(Error::invalid("the header has a quote where none may stand")),
        };
        let names: Vec<String> = cells.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
        let mut places = Vec::with_capacity(fields.len());
        for field in fields {
            let found: Vec<usize> = (0..names.len()).filter(|at| names[*at] == field.name).collect();
            match found.as_slice() {
                [] if field.nullable => places.push(None),
                [] => {
                    let hint = suggest::hint(&field.name, names.iter().map(String::as_str));
                    let message = format!("the header has no column '{}'", field.name);
                    return Err(Error::invalid(message).field(&field.name).hint(hint));
                }
                [one] => places.push(Some(*one)),
                _ => {
                    let message = format!("the header has {} columns '{}'", found.len(), field.name);
                    return Err(Error::invalid(message).field(&field.name));
                }
            }
        }
        Ok(Some((Header { columns: names.len(), places }, length)))
    }

    fn step(&self, bytes: &[u8], _is_end: bool) -> Step {
        match scan(bytes) {
            Scan::Record { length, .. } => Step::Record(length),
            Scan::Unfinished { is_quoted: false } => Step::Incomplete("the line does not end"),
            Scan::Unfinished { .. } if bytes.len() < LONGEST_QUOTED => Step::Incomplete("a quoted field does not end"),
            // The record is given up with its first line, so that a stray quote costs no other.
            Scan::Unfinished { .. } | Scan::Malformed => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(newline) => Step::Malformed(newline + 1, "a quote stands where none may"),
                None => Step::Incomplete("the line does not end"),
            },
        }
    }

    fn values(&self, record: &[u8], header: &Header, fields: &[Field]) -> Result<Option<Vec<Value>>> {
        if matches!(record, b"\n" | b"\r\n") {
            return Ok(None);
        }
        let Scan::Record { cells, .. } = scan(record) else { return Err(Error::internal("a record lost its end")) };
        if cells.len() != header.columns {
            let message = format!("{} columns where the header has {}", cells.len(), header.columns);
            return Err(Error::invalid(message));
        }
        let mut values = Vec::with_capacity(fields.len());
        for (field, place) in fields.iter().zip(&header.places) {
            let cell = place.map_or(&b""[..], |at| cells[at].as_slice());
            let text =
                std::str::from_utf8(cell).map_err(|_| coerce::of_field(field, Error::invalid("not UTF-8 text")))?;
            values.push(coerce::from_cell(text, field)?);
        }
        Ok(Some(values))
    }

    fn readable(&self, record: &[u8], header: &Header, fields: &[Field]) -> Vec<Value> {
        let Scan::Record { cells, .. } = scan(record) else { return Vec::new() };
        if cells.len() != header.columns {
            return Vec::new();
        }
        let read = |field: &Field, place: Option<usize>| {
            let text = std::str::from_utf8(&cells[place?]).ok()?;
            coerce::from_cell(text, field).ok()
        };
        fields.iter().zip(&header.places).map(|(field, place)| read(field, *place).unwrap_or(Value::Null)).collect()
    }
}

enum Scan {
    /// Cells without their quotes; length with the line end.
    Record {
        cells: Vec<Vec<u8>>,
        length: usize,
    },
    Unfinished {
        is_quoted: bool,
    },
    /// A quoted field goes on behind its closing quote.
    Malformed,
}

fn scan(bytes: &[u8]) -> Scan {
    let mut cells = Vec::new();
    let mut at = 0;
    loop {
        let mut cell = Vec::new();
        if bytes.get(at) == Some(&b'"') {
            at += 1;
            loop {
                match (bytes.get(at), bytes.get(at + 1)) {
                    (None, _) => return Scan::Unfinished { is_quoted: true },
                    (Some(b'"'), Some(b'"')) => {
                        cell.push(b'"');
                        at += 2;
                    }
                    (Some(b'"'), _) => break,
                    (Some(byte), _) => {
                        cell.push(*byte);
                        at += 1;
                    }
                }
            }
            at += 1;
            if bytes.get(at) == Some(&b'\r') && bytes.get(at + 1) == Some(&b'\n') {
                at += 1;
            }
            if !matches!(bytes.get(at), None | Some(b',' | b'\n' | b'\r')) {
                return Scan::Malformed;
            }
        } else {
            let length = bytes[at..].iter().position(|byte| matches!(byte, b',' | b'\n'));
            let end = length.map_or(bytes.len(), |length| at + length);
            cell.extend_from_slice(&bytes[at..end]);
            at = end;
            if bytes.get(end) == Some(&b'\n') && cell.last() == Some(&b'\r') {
                cell.pop();
            }
        }
        cells.push(cell);
        match bytes.get(at) {
            Some(b',') => at += 1,
            Some(b'\n') => return Scan::Record { cells, length: at + 1 },
            None => return Scan::Unfinished { is_quoted: false },
            Some(_) if bytes.len() == at + 1 => return Scan::Unfinished { is_quoted: false },
            Some(_) => return Scan::Malformed,
        }
    }
}
