//! A snapshot: everything that is read, as of one moment.

use crate::codec::broken;
use crate::digest::StateDigest;
use crate::keys::{AFTER_TABLE, Family, MetaKey, after_prefix, table_slice};
use crate::model::{Event, Table, Visible};
use crate::rocks::OwnedSnapshot;
use crate::store::StateStore;
use crate::trie;
use crate::trie::coordinate::{coordinate, time_of};
use crate::trie::leaf::RawEvent;
use crate::trie::scan::{EventRun, whole_event};
use crate::trie::walk::{Direction, Walker};
use rocksdb::DBPinnableSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thyme_core::Result;
use thyme_core::aggregate::{WindowData, WindowRead};
use thyme_core::key::key_length;
use thyme_core::position::Position;

/// Where events begin that are wanted one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventsFrom {
    Time(i64),
    /// Behind the event of this time and origin.
    Behind(i64, Position),
}

/// The state as of one moment. Cheap to take, may be shared and kept; while it lives, what it sees is not deleted.
pub struct Snapshot {
    inner: OwnedSnapshot,
    store: Arc<StateStore>,
    rows_read: AtomicU64,
}

impl Snapshot {
    pub(crate) fn new(store: Arc<StateStore>, inner: OwnedSnapshot) -> Snapshot {
        Snapshot { inner, store, rows_read: AtomicU64::new(0) }
    }

    /// Partials and scans of `[window.start(at), at]`, both ends included, for every window in one descent. Parallel to
    /// `windows`; an unknown key gives empty partials and no items.
    pub fn read(
        &self,
        table: &Table,
        key: &[u8],
        at: i64,
        windows: &[WindowRead],
        visible: &Visible,
    ) -> Result<Vec<WindowData>> {
        trie::read::read(&Walker::new(self, table, key)?, at, windows, visible)
    }

    /// The newest event at or before `at`; ties by origin.
    pub fn newest(&self, table: &Table, key: &[u8], at: i64, visible: &Visible) -> Result<Option<Event>> {
        let mut newest = None;
        let take = |event: &RawEvent<'_>| {
            newest = Some(whole_event(table, event)?);
            Ok(false)
        };
        let (direction, from) = (Direction::NewestFirst, i64::MIN);
        let mut run = EventRun { direction, from, to: at, visible, take };
        Walker::new(self, table, key)?.walk(direction, from, at, &mut run)?;
        Ok(newest)
    }

    /// Whether there is any event at or before `at`.
    pub fn known(&self, table: &Table, key: &[u8], at: i64, visible: &Visible) -> Result<bool> {
        Ok(self.oldest_time(table, key, visible)?.is_some_and(|oldest| oldest <= at))
    }

    /// Time of the key's oldest event: the key is known at any time from it on.
    pub fn oldest_time(&self, table: &Table, key: &[u8], visible: &Visible) -> Result<Option<i64>> {
        let mut oldest = None;
        let take = |event: &RawEvent<'_>| {
            oldest = Some(event.time());
            Ok(false)
        };
        let (direction, from, to) = (Direction::OldestFirst, i64::MIN, i64::MAX);
        let mut run = EventRun { direction, from, to, visible, take };
        Walker::new(self, table, key)?.walk(direction, from, to, &mut run)?;
        Ok(oldest)
    }

    /// Events of `[from, to]` in order of (time, origin), at most `limit`.
    pub fn events(
        &self,
        table: &Table,
        key: &[u8],
        from: i64,
        to: i64,
        visible: &Visible,
        limit: Option<usize>,
    ) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        if limit == Some(0) {
            return Ok(events);
        }
        let take = |event: &RawEvent<'_>| {
            events.push(whole_event(table, event)?);
            Ok(limit.is_none_or(|limit| events.len() < limit))
        };
        let direction = Direction::OldestFirst;
        let mut run = EventRun { direction, from, to, visible, take };
        Walker::new(self, table, key)?.walk(direction, from, to, &mut run)?;
        Ok(events)
    }

    /// Hands the events from `from` up to `to`, both included, to `take` in order of (time, origin) until it returns false. `from` is a
    /// time, or the place of an event: those behind it.
    pub fn each_event(
        &self,
        table: &Table,
        key: &[u8],
        from: EventsFrom,
        to: i64,
        visible: &Visible,
        take: &mut dyn FnMut(Event) -> Result<bool>,
    ) -> Result<()> {
        let (from, behind) = match from {
            EventsFrom::Time(time) => (time, None),
            EventsFrom::Behind(time, origin) => (time, Some(coordinate(time, origin)?)),
        };
        let take = |event: &RawEvent<'_>| {
            if behind.is_some_and(|behind| event.coordinate <= behind) {
                return Ok(true);
            }
            take(whole_event(table, event)?)
        };
        let direction = Direction::OldestFirst;
        let mut run = EventRun { direction, from, to, visible, take };
        Walker::new(self, table, key)?.walk(direction, from, to, &mut run)
    }

    /// The first `limit` instants in `[from, to]` at which the key has events.
    pub fn event_times(
        &self,
        table: &Table,
        key: &[u8],
        from: i64,
        to: i64,
        visible: &Visible,
        limit: usize,
    ) -> Result<Vec<i64>> {
        let mut times: Vec<i64> = Vec::new();
        let take = |event: &RawEvent<'_>| {
            let time = time_of(event.coordinate);
            if times.last() == Some(&time) {
                return Ok(true);
            }
            if times.len() == limit {
                return Ok(false);
            }
            times.push(time);
            Ok(true)
        };
        let direction = Direction::OldestFirst;
        let mut run = EventRun { direction, from, to, visible, take };
        Walker::new(self, table, key)?.walk(direction, from, to, &mut run)?;
        Ok(times)
    }

    /// The first `limit` keys of a table in one hash slice, in the order of their bytes; those behind `after`. Keys have `key_parts`
    /// components. A key is there if it has any event, seen or not.
    pub fn keys(
        &self,
        table: &Table,
        vnode: u8,
        key_parts: usize,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        let (mut from, to) = table_slice(vnode, table.id);
        if let Some(after) = after {
            from.extend_from_slice(after);
            from = after_prefix(&from);
        }
        let mut keys = Vec::new();
        if limit == 0 {
            return Ok(keys);
        }
        self.inner.leap(Family::Trie, &from, &to, |row| {
            let rest = row.get(AFTER_TABLE..).ok_or_else(broken)?;
            let key = &rest[..key_length(rest, key_parts)?];
            keys.push(key.to_vec());
            let behind = if keys.len() < limit { after_prefix(&row[..AFTER_TABLE + key.len()]) } else { to.clone() };
            Ok(Some(behind))
        })?;
        Ok(keys)
    }

    /// Trie rows read through this snapshot so far.
    pub fn rows_read(&self) -> u64 {
        self.rows_read.load(Ordering::Relaxed)
    }

    pub(crate) fn count_rows_read(&self, rows: u64) {
        self.rows_read.fetch_add(rows, Ordering::Relaxed);
        self.store.count_rows_read(rows);
    }

    /// The digest of every table: reads all trie rows once.
    pub fn digest(&self) -> Result<StateDigest> {
        crate::digest::digest(std::iter::once(&self.inner))
    }

    /// A trie row that was written lately.
    #[inline]
    pub(crate) fn cached(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        let (cache, sequence) = (&self.store.row_cache, self.inner.sequence());
        if cache.knows(sequence) { cache.as_of(key, sequence) } else { None }
    }

    pub(crate) fn row(&self, family: Family, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>> {
        self.inner.get(self.inner.rocks().family(family)?, key)
    }

    pub(crate) fn meta(&self, key: MetaKey) -> Result<Option<DBPinnableSlice<'_>>> {
        self.row(Family::Meta, &key.finish())
    }

    pub(crate) fn scan_meta(&self, prefix: MetaKey, visit: impl FnMut(&[u8], &[u8]) -> Result<bool>) -> Result<()> {
        let from = prefix.finish();
        self.inner.scan(Family::Meta, &from, &after_prefix(&from), visit)
    }

    pub(crate) fn inner(&self) -> &OwnedSnapshot {
        &self.inner
    }

    pub(crate) fn store(&self) -> &Arc<StateStore> {
        &self.store
    }
}
