//! A pin: what an export stood on, so that exactly the same can be asked once more. Opaque to clients.

use crate::definition::DefinitionHash;
use crate::error::{Error, Result};
use crate::record::{put_varint, take_varint};
use crate::time::Micros;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What the text of a pin begins with.
const ONE: char = 'x';
const SEVERAL: char = 'y';

/// What an export stood on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub log: LogTag,
    /// Of the featuresets, at least one.
    pub definitions: Vec<DefinitionHash>,
    /// Only events appended by then, where `known_at` was a time.
    pub appended_by: Option<Micros>,
    /// Id of each table that was read -> how far, one for each partition. A table that is built anew has another id.
    pub tables: BTreeMap<u32, Vec<Place>>,
}

/// How far a partition of a table was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Only events below this offset of the log that fills the table.
    pub next: u64,
    /// The earliest T that was answered, where a `history=` and a watermark set one.
    pub horizon: Option<Micros>,
}

/// Tells one log from another: ids and offsets of one say nothing about another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogTag([u8; 8]);

impl LogTag {
    /// Of the log with this identity.
    pub fn of(identity: &str) -> LogTag {
        let digest = Sha256::digest(identity);
        LogTag(std::array::from_fn(|index| digest[index]))
    }
}

impl Pin {
    /// URL-safe text: a letter (`x` of one featureset, `y` of several), then base64 of the parts.
    pub fn encode(&self) -> String {
        let mut bytes = self.log.0.to_vec();
        let letter = if self.definitions.len() == 1 { ONE } else { SEVERAL };
        if letter == SEVERAL {
            put_varint(&mut bytes, self.definitions.len() as u64);
        }
        self.definitions.iter().for_each(|definition| bytes.extend_from_slice(&definition.0));
        put_time(&mut bytes, self.appended_by);
        for (table, places) in &self.tables {
            put_varint(&mut bytes, u64::from(*table));
            put_varint(&mut bytes, places.len() as u64);
            for place in places {
                put_varint(&mut bytes, place.next);
                put_time(&mut bytes, place.horizon);
            }
        }
        format!("{letter}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    pub fn decode(text: &str) -> Result<Pin> {
        let of = |letter: char| text.strip_prefix(letter).and_then(|body| URL_SAFE_NO_PAD.decode(body).ok());
        let one = of(ONE).and_then(|bytes| decode(&bytes, false));
        one.or_else(|| of(SEVERAL).and_then(|bytes| decode(&bytes, true))).ok_or_else(|| {
            Error::invalid("not a pin").field("pin").hint("pass the 'pin' of an earlier export unchanged")
        })
    }
}

fn decode(bytes: &[u8], is_of_several: bool) -> Option<Pin> {
    let (log, mut rest) = bytes.split_first_chunk::<8>()?;
    let count = if is_of_several { take_varint(&mut rest).ok()? } else { 1 };
    let mut definition = || {
        let (definition, after) = rest.split_first_chunk::<16>()?;
        rest = after;
        Some(DefinitionHash(*definition))
    };
    let definitions: Vec<DefinitionHash> = (0..count).map(|_| definition()).collect::<Option<_>>()?;
    let appended_by = take_time(&mut rest)?;
    let mut tables = BTreeMap::new();
    while !rest.is_empty() {
        let table = u32::try_from(take_varint(&mut rest).ok()?).ok()?;
        let partitions = u16::try_from(take_varint(&mut rest).ok()?).ok()?;
        let mut place = || Some(Place { next: take_varint(&mut rest).ok()?, horizon: take_time(&mut rest)? });
        let places: Option<Vec<Place>> = (0..partitions).map(|_| place()).collect();
        tables.insert(table, places?);
    }
    Some(Pin { log: LogTag(*log), definitions, appended_by, tables })
}

fn put_time(out: &mut Vec<u8>, time: Option<Micros>) {
    out.push(u8::from(time.is_some()));
    out.extend(time.into_iter().flat_map(Micros::to_be_bytes));
}

fn take_time(rest: &mut &[u8]) -> Option<Option<Micros>> {
    let (is_there, after) = rest.split_first()?;
    *rest = after;
    match is_there {
        0 => Some(None),
        1 => {
            let (time, after) = rest.split_first_chunk::<8>()?;
            *rest = after;
            Some(Some(Micros::from_be_bytes(*time)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn pin() -> Pin {
        let place = |next, horizon| Place { next, horizon };
        Pin {
            log: LogTag::of("embedded:1"),
            definitions: vec![DefinitionHash([7; 16])],
            appended_by: Some(-5),
            tables: BTreeMap::from([
                (3, vec![place(0, None), place(1 << 40, Some(i64::MIN))]),
                (u32::MAX, vec![place(u64::MAX, Some(1))]),
                (9, vec![]),
            ]),
        }
    }

    #[test]
    fn a_pin_round_trips() {
        let several = Pin { definitions: vec![DefinitionHash([7; 16]), DefinitionHash([8; 16])], ..pin() };
        for pin in [pin(), Pin { appended_by: None, tables: BTreeMap::new(), ..pin() }, several] {
            assert_eq!(Pin::decode(&pin.encode()).unwrap(), pin);
        }
        assert_ne!(LogTag::of("embedded:1"), LogTag::of("embedded:2"));
    }

    #[test]
    fn noise_is_no_pin() {
        let text = pin().encode();
        let of_several = format!("y{}", &text[1..]);
        let noises =
            ["", "x", "y", "pAA", "x$$", "2024-01-15T12:00:00Z", &of_several, &text[1..], &text[..text.len() - 3]];
        for noise in noises {
            let error = Pin::decode(noise).unwrap_err();
            assert_eq!((error.kind(), error.field_name()), (ErrorKind::InvalidArgument, Some("pin")), "{noise}");
        }
    }
}
