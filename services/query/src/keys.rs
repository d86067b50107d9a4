//! The keys of several tables in the order of the tables' rows, each once.

use crate::deployment::Source;
use crate::view::View;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use thyme_core::error::Result;
use thyme_core::key::partition_of_vnode;

/// So many keys of a table are looked for at once.
const PAGE: usize = 1_024;

/// Goes over the keys that any of some tables has in a run of hash slices: by hash slice, then in the order of their bytes.
pub(crate) struct Keys {
    sources: Vec<Arc<Source>>,
    /// Components of a key.
    parts: usize,
    vnodes: RangeInclusive<u8>,
    /// The hash slice under way, with a place in each table.
    under_way: Option<(u8, Vec<Cursor>)>,
}

#[derive(Default)]
struct Cursor {
    ahead: VecDeque<Vec<u8>>,
    /// The last key that was read.
    last: Option<Vec<u8>>,
    is_at_end: bool,
}

impl Keys {
    pub fn new(sources: Vec<Arc<Source>>, parts: usize, vnodes: RangeInclusive<u8>) -> Keys {
        Keys { sources, parts, vnodes, under_way: None }
    }

    /// The next key. It may have no event that the view sees.
    pub fn next(&mut self, view: &View) -> Result<Option<Vec<u8>>> {
        loop {
            let Some((vnode, cursors)) = &mut self.under_way else {
                let Some(vnode) = self.vnodes.next() else { return Ok(None) };
                self.under_way = Some((vnode, self.sources.iter().map(|_| Cursor::default()).collect()));
                continue;
            };
            for (source, cursor) in self.sources.iter().zip(cursors.iter_mut()) {
                cursor.fill(view, source, *vnode, self.parts)?;
            }
            let Some(least) = cursors.iter().filter_map(|cursor| cursor.ahead.front()).min().cloned() else {
                self.under_way = None;
                continue;
            };
            for cursor in cursors.iter_mut().filter(|cursor| cursor.ahead.front() == Some(&least)) {
                cursor.ahead.pop_front();
            }
            return Ok(Some(least));
        }
    }
}

impl Cursor {
    fn fill(&mut self, view: &View, source: &Source, vnode: u8, parts: usize) -> Result<()> {
        if self.is_at_end || !self.ahead.is_empty() {
            return Ok(());
        }
        let state = view.state(source, partition_of_vnode(vnode, source.partitions))?;
        let keys = state.keys(&source.served.table, vnode, parts, self.last.as_deref(), PAGE)?;
        self.is_at_end = keys.len() < PAGE;
        self.last = keys.last().cloned();
        self.ahead = keys.into();
        Ok(())
    }
}
