//! Which offsets of a dataset's log were not accepted: (log, partition, offset / 4096) -> bitmap. No row: all were accepted.

use super::bitmap::{BITMAP_BITS, Bitmap};
use crate::keys::{MetaKey, RowKind};
use crate::snapshot::Snapshot;
use crate::tick::Tick;
use thyme_core::Result;

fn row_key(log: u32, partition: u16, offset: u64) -> MetaKey {
    MetaKey::new(RowKind::Verdicts).u32(log).u16(partition).u64(offset / BITMAP_BITS)
}

impl Tick {
    /// Stores the verdicts of the 4096 offsets around `offset`: a set bit is an offset that was not accepted.
    pub fn put_verdicts(&mut self, log: u32, partition: u16, offset: u64, not_accepted: &Bitmap) -> Result<()> {
        self.put_meta(row_key(log, partition, offset), &not_accepted.encode())
    }
}

impl Snapshot {
    /// The verdicts of the 4096 offsets around `offset`; all accepted if none was stored.
    pub fn verdicts(&self, log: u32, partition: u16, offset: u64) -> Result<Bitmap> {
        let row = self.meta(row_key(log, partition, offset))?;
        row.map_or_else(|| Ok(Bitmap::default()), |bytes| Bitmap::decode(&bytes))
    }
}
