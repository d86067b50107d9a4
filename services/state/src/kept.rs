//! Tables that keep their events for a while only (`history=`): what goes, and when.
//!
//! What goes are whole root blocks of the trie, so that the rows are those of the events that are left: a table holds the events
//! from [`Table::kept_from`] on and no others, whatever the ticks. That time follows from the watermark alone, and moves on hash
//! slice by hash slice, each at another watermark, so that no tick has to look through a whole table. Events that are still to come lie
//! above it, because they are not late.

use crate::codec::broken;
use crate::keys::{AFTER_TABLE, Family, after_prefix, table_slice};
use crate::model::Table;
use crate::snapshot::Snapshot;
use crate::tick::Tick;
use crate::trie::coordinate::{Roots, start_of_row};
use thyme_core::Result;
use thyme_core::key::{VNODES, key_length};

impl Table {
    /// The time below which nothing is kept of a hash slice; `None`: everything is kept.
    pub fn kept_from(&self, vnode: u8, watermark: Option<i64>) -> Option<i64> {
        let (kept, watermark) = (self.layout.kept?, watermark?);
        let roots = Roots::of(&self.layout);
        let stagger = roots.span() / i64::from(VNODES) * i64::from(vnode);
        Some(roots.block_start(watermark.saturating_sub(kept).saturating_sub(stagger)))
    }
}

impl Tick {
    /// Deletes what `snapshot` holds below `before` (see [`Table::kept_from`]) in one hash slice. Keys have `key_parts` components.
    pub fn prune(
        &mut self,
        snapshot: &Snapshot,
        table: &Table,
        key_parts: usize,
        vnode: u8,
        before: i64,
    ) -> Result<()> {
        let (from, to) = table_slice(vnode, table.id);
        snapshot.inner().leap(Family::Trie, &from, &to, |row| {
            let rest = row.get(AFTER_TABLE..).ok_or_else(broken)?;
            let (key, place) = rest.split_at(key_length(rest, key_parts)?);
            if start_of_row(place)? >= before {
                return Ok(Some(after_prefix(&row[..AFTER_TABLE + key.len()])));
            }
            self.delete_row(row)?;
            Ok(None)
        })
    }
}
