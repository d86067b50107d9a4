//! Event time: UTC microseconds since 1970 as `i64`. Parsing and printing ISO-8601. The clock is passed in.

use crate::error::{Error, Result};
use jiff::SignedDuration;
use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::Pieces;

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

/// 0001-01-01T00:00:00Z, and the last microsecond of the year 9999: what every client and the wire can say.
pub const TIMES: std::ops::RangeInclusive<Micros> = -62_135_596_800_000_000..=253_402_300_799_999_999;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// The wall clock, passed in; the engine itself reads none.
pub trait Clock: Send + Sync {
    /// Now, in microseconds since 1970 UTC.
    fn now(&self) -> Micros;
}

/// Which clock decides what "now" is for a query without `ts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClockMode {
    /// The injected wall clock.
    #[default]
    Wall,
    /// The greatest accepted event time over all datasets in the answering state.
    Event,
}

/// ISO-8601 with `Z`, an offset, a space or a `T`, with or without a fraction; text without a zone is UTC; finer than a
/// microsecond is floored. A blank before a trailing `hh:mm` offset is read as `+` (a `+` in a URL arrives as a blank).
pub fn parse_time(text: &str) -> Result<Micros> {
    let wrong = || {
        Error::invalid(format!("not a time: '{text}'")).hint("write ISO-8601 in UTC, for example 2024-01-15T12:00:00Z")
    };
    let mut owned = text.trim().to_string();
    let bytes = owned.as_bytes();
    let n = bytes.len();
    if n > 16 && bytes[n - 3] == b':' && bytes[n - 6] == b' ' {
        owned.replace_range(n - 6..n - 5, "+");
    }
    // In pieces: jiff's own timestamps end a day before the year 9999 does.
    let pieces = Pieces::parse(&owned).map_err(|_| wrong())?;
    let offset = match (pieces.to_numeric_offset(), pieces.time_zone_annotation()) {
        (Some(offset), _) => offset.seconds(),
        (None, None) => 0,
        (None, Some(_)) => return Err(wrong()),
    };
    let local = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
    let nanos = local.duration_since(EPOCH).as_nanos() - i128::from(offset) * 1_000_000_000;
    let micros = Micros::try_from(nanos.div_euclid(1000)).map_err(|_| wrong())?;
    if TIMES.contains(&micros) { Ok(micros) } else { Err(wrong().hint("years 1 to 9999 are supported")) }
}

/// ISO-8601 in UTC with `Z`; a fraction only when there is one, without trailing zeros.
pub fn format_time(micros: Micros) -> String {
    match EPOCH.checked_add(SignedDuration::from_micros(micros)) {
        Ok(civil) => format!("{civil}Z"),
        Err(_) => format!("{micros}us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_documented_forms() {
        let noon = 1_705_320_000_000_000;
        for text in [
            "2024-01-15T12:00:00Z",
            "2024-01-15 12:00:00",
            "2024-01-15T12:00:00",
            "2024-01-15T14:00:00+02:00",
            "2024-01-15T14:00:00 02:00",
            "2024-01-15T12:00:00.000000Z",
            "2024-01-15 12:00:00.000000999",
        ] {
            assert_eq!(parse_time(text).unwrap(), noon, "{text}");
        }
        assert_eq!(parse_time("2024-01-15").unwrap(), noon - 12 * 3_600_000_000);
        assert_eq!(parse_time("1969-12-31T23:59:59.9999999Z").unwrap(), -1);
        assert!(parse_time("yesterday").is_err());
        assert!(parse_time("").is_err());
        assert!(parse_time("2024-01-15T12:00:00[Europe/Paris]").is_err());
    }

    #[test]
    fn reads_what_it_prints_at_both_ends() {
        let (first, last) = TIMES.into_inner();
        for (micros, text) in [
            (first, "0001-01-01T00:00:00Z"),
            (first + 1, "0001-01-01T00:00:00.000001Z"),
            (last, "9999-12-31T23:59:59.999999Z"),
            (last - 93_599_999_999, "9999-12-30T22:00:00Z"),
        ] {
            assert_eq!(format_time(micros), text);
            assert_eq!(parse_time(text).unwrap(), micros, "{text}");
        }
        for text in ["0000-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+00:01"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prints_with_z() {
        assert_eq!(format_time(1_705_320_000_000_000), "2024-01-15T12:00:00Z");
        assert_eq!(format_time(1_705_320_000_000_001), "2024-01-15T12:00:00.000001Z");
    }
}
