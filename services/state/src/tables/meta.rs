//! Facts about the store as a whole: the format version, the event clock, and which root blocks each table has.

use crate::codec::{broken, put_varint, take_varint};
use crate::keys::{FORMAT_VERSION, Family, MetaKey, RowKind};
use crate::rocks::{OwnedSnapshot, Rocks, to_be_built_anew, translate};
use crate::snapshot::Snapshot;
use crate::tick::Tick;
use rocksdb::WriteBatch;
use thyme_core::{Error, Result};

/// Refuses a directory of another format; marks a new one.
pub fn check_format_version(rocks: &Rocks) -> Result<()> {
    let family = rocks.family(Family::Meta)?;
    let key = MetaKey::new(RowKind::FormatVersion).finish();
    let Some(found) = rocks.db().get_pinned_cf(family, &key).map_err(translate)? else {
        let mut batch = WriteBatch::default();
        batch.put_cf(family, &key, FORMAT_VERSION.to_be_bytes());
        return rocks.write(batch, true);
    };
    let version = found.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(broken)?;
    if version != FORMAT_VERSION {
        return Err(Error::precondition(format!(
            "the state directory has format version {version}, this build reads {FORMAT_VERSION}"
        ))
        .hint(to_be_built_anew(rocks.db().path())));
    }
    Ok(())
}

pub fn table_blocks_key(table: u32) -> MetaKey {
    MetaKey::new(RowKind::TableBlocks).u32(table)
}

pub fn encode_blocks(blocks: &[u32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(blocks.len() * 4);
    for block in blocks {
        put_varint(&mut out, u64::from(*block));
    }
    out
}

/// All (table, root blocks) rows.
pub fn read_all_blocks(snapshot: &OwnedSnapshot) -> Result<Vec<(u32, Vec<u32>)>> {
    let from = [RowKind::TableBlocks as u8];
    let to = [RowKind::TableBlocks as u8 + 1];
    let mut found = Vec::new();
    snapshot.scan(Family::Meta, &from, &to, |key, mut value| {
        let table = crate::codec::key_u32(key, 1)?;
        let mut blocks = Vec::new();
        while !value.is_empty() {
            blocks.push(u32::try_from(take_varint(&mut value)?).map_err(|_| broken())?);
        }
        found.push((table, blocks));
        Ok(true)
    })?;
    Ok(found)
}

impl Tick {
    /// Sets the event clock: the greatest accepted event time over all datasets. The caller keeps the maximum.
    pub fn put_greatest_event_time(&mut self, time: i64) -> Result<()> {
        self.put_meta(MetaKey::new(RowKind::EventClock), &time.to_be_bytes())
    }

    /// Notes which log the state is made from.
    pub fn put_log_identity(&mut self, identity: &str) -> Result<()> {
        self.put_meta(MetaKey::new(RowKind::LogIdentity), identity.as_bytes())
    }
}

impl Snapshot {
    /// The ids of all tables that have held rows and were not dropped.
    pub fn tables(&self) -> Result<Vec<u32>> {
        Ok(read_all_blocks(self.inner())?.into_iter().map(|(table, _)| table).collect())
    }

    /// The event clock: the greatest accepted event time over all datasets, `None` before the first.
    pub fn greatest_event_time(&self) -> Result<Option<i64>> {
        let Some(bytes) = self.meta(MetaKey::new(RowKind::EventClock))? else { return Ok(None) };
        let time = bytes.first_chunk::<8>().map(|bytes| i64::from_be_bytes(*bytes)).ok_or_else(broken)?;
        Ok(Some(time))
    }

    /// The log that the state is made from, where that was noted.
    pub fn log_identity(&self) -> Result<Option<String>> {
        let Some(bytes) = self.meta(MetaKey::new(RowKind::LogIdentity))? else { return Ok(None) };
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| broken())
    }
}
