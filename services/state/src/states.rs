//! The states of a node, one of each slice in their order: what is asked of a partition is in one of them.

use crate::digest::{StateDigest, digest};
use crate::snapshot::Snapshot;
use crate::store::StateStore;
use std::sync::Arc;
use thyme_core::Result;
use thyme_core::slice::slice_of;

/// One state of each slice.
#[derive(Clone)]
pub struct States(Arc<[Arc<StateStore>]>);

impl States {
    /// Of all slices, in their order; never none.
    pub fn new(by_slice: Vec<Arc<StateStore>>) -> States {
        States(by_slice.into())
    }

    /// One after the other, so not of one moment: no row is in two of them.
    pub fn snapshot(&self) -> Snapshots {
        let (first, others) = (&self.0[0], &self.0[1..]);
        Snapshots { first: first.snapshot(), others: others.iter().map(StateStore::snapshot).collect() }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<StateStore>> {
        self.0.iter()
    }

    /// How many slices there are.
    pub fn slices(&self) -> u16 {
        self.0.len() as u16
    }
}

impl From<Arc<StateStore>> for States {
    /// The whole.
    fn from(state: Arc<StateStore>) -> States {
        States::new(vec![state])
    }
}

/// One snapshot of each slice. Every question takes them: with one slice there is nothing to allocate and nothing to choose.
pub struct Snapshots {
    first: Snapshot,
    others: Vec<Snapshot>,
}

impl Snapshots {
    /// Of the first slice and of the others, in their order.
    pub fn new(first: Snapshot, others: Vec<Snapshot>) -> Snapshots {
        Snapshots { first, others }
    }

    /// The one with a partition of a log that has so many.
    #[inline]
    pub fn of(&self, partition: u16, partitions: u16) -> &Snapshot {
        if self.others.is_empty() {
            return &self.first;
        }
        match slice_of(partition, partitions, self.slices()) {
            0 => &self.first,
            slice => &self.others[usize::from(slice) - 1],
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Snapshot> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub fn slices(&self) -> u16 {
        1 + self.others.len() as u16
    }

    /// The digest of every table, as if all rows were in one state.
    pub fn digest(&self) -> Result<StateDigest> {
        digest(self.iter().map(Snapshot::inner))
    }

    /// The greatest accepted event time in any of them.
    pub fn greatest_event_time(&self) -> Result<Option<i64>> {
        let mut greatest = None;
        for snapshot in self.iter() {
            greatest = greatest.max(snapshot.greatest_event_time()?);
        }
        Ok(greatest)
    }
}

impl From<Snapshot> for Snapshots {
    fn from(snapshot: Snapshot) -> Snapshots {
        Snapshots::new(snapshot, Vec::new())
    }
}
