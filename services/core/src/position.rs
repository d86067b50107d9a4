//! Places in a log, and the opaque `position` that an answer carries.

use crate::error::{Error, Result};
use base64::Engine as _;
use std::collections::BTreeMap;

/// Place of an event in its dataset's own log; breaks ties between events of one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    pub partition: u16,
    pub offset: u64,
}

/// How far each log partition had been applied: (log id, partition) -> next offset to read. What an answer's opaque
/// `position` stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PositionSet(pub BTreeMap<(u32, u16), u64>);

impl PositionSet {
    pub fn get(&self, log: u32, partition: u16) -> Option<u64> {
        self.0.get(&(log, partition)).copied()
    }
    pub fn set(&mut self, log: u32, partition: u16, next_offset: u64) {
        self.0.insert((log, partition), next_offset);
    }

    /// URL-safe text: a version letter, then base64 of varints.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        for ((log, partition), next) in &self.0 {
            crate::record::put_varint(&mut bytes, u64::from(*log));
            crate::record::put_varint(&mut bytes, u64::from(*partition));
            crate::record::put_varint(&mut bytes, *next);
        }
        format!("p{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
    }

    pub fn decode(text: &str) -> Result<PositionSet> {
        let wrong = || {
            Error::invalid(format!("not a position: '{text}'"))
                .hint("pass the 'position' of an earlier answer unchanged")
        };
        let body = text.strip_prefix('p').ok_or_else(wrong)?;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).map_err(|_| wrong())?;
        let mut rest = bytes.as_slice();
        let mut set = PositionSet::default();
        while !rest.is_empty() {
            let mut next = || crate::record::take_varint(&mut rest).map_err(|_| wrong());
            let log = u32::try_from(next()?).map_err(|_| wrong())?;
            let partition = u16::try_from(next()?).map_err(|_| wrong())?;
            set.set(log, partition, next()?);
        }
        Ok(set)
    }
}

/// `known_at`: which accepted events a question may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownAt {
    /// Appended to the log at or before this wall time (microseconds).
    AppendTime(i64),
    /// In state at this position.
    Position(PositionSet),
}

impl KnownAt {
    /// A time, or the opaque position of an earlier answer.
    pub fn parse(text: &str) -> Result<KnownAt> {
        if let Ok(set) = PositionSet::decode(text) {
            return Ok(KnownAt::Position(set));
        }
        crate::time::parse_time(text).map(KnownAt::AppendTime).map_err(|_| {
            Error::invalid(format!("not a known_at: '{text}'"))
                .field("known_at")
                .hint("pass an ISO-8601 time, or the 'position' of an earlier answer unchanged")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_round_trips_and_refuses_noise() {
        let mut set = PositionSet::default();
        set.set(3, 1, 1_000_000);
        set.set(1, 255, 0);
        assert_eq!(PositionSet::decode(&set.encode()).unwrap(), set);
        for text in ["", "x", "p$$", "2024-01-15T12:00:00Z"] {
            assert!(PositionSet::decode(text).is_err(), "{text}");
        }
        assert_eq!(KnownAt::parse("1970-01-01T00:00:01Z").unwrap(), KnownAt::AppendTime(1_000_000));
    }
}
