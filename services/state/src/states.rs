//! The states of a node, at most one of each slice: what is asked of a partition is in one of them, here or on another node.

use crate::digest::{StateDigest, digest};
use crate::snapshot::Snapshot;
use crate::store::StateStore;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thyme_core::slice::slice_of;
use thyme_core::{Error, Result};

/// The states that answer, by their slices. Clones see the same ones.
#[derive(Clone)]
pub struct States {
    slices: u16,
    held: Arc<ArcSwap<Held>>,
}

type Held = BTreeMap<u16, Arc<StateStore>>;

/// What was here at one moment.
pub struct HeldNow(Arc<Held>);

impl States {
    /// Of all slices, in their order.
    pub fn new(by_slice: Vec<Arc<StateStore>>) -> States {
        let slices = by_slice.len() as u16;
        States::with(slices, (0..).zip(by_slice).collect())
    }

    /// Of no slice of so many, until they are [added](States::add).
    pub fn of_none(slices: u16) -> States {
        States::with(slices, Held::new())
    }

    fn with(slices: u16, held: Held) -> States {
        States { slices, held: Arc::new(ArcSwap::from_pointee(held)) }
    }

    /// What is asked from now on finds this slice here.
    pub fn add(&self, slice: u16, state: &Arc<StateStore>) {
        self.held.rcu(|held| {
            let mut held = Held::clone(held);
            held.insert(slice, state.clone());
            held
        });
    }

    /// What is asked from now on does not find this slice here.
    pub fn remove(&self, slice: u16) {
        self.held.rcu(|held| {
            let mut held = Held::clone(held);
            held.remove(&slice);
            held
        });
    }

    /// The slices that are here.
    pub fn held(&self) -> BTreeSet<u16> {
        self.held.load().keys().copied().collect()
    }

    pub fn has(&self, slice: u16) -> bool {
        self.held.load().contains_key(&slice)
    }

    /// What is here now, to compare with what is here later.
    pub fn now(&self) -> HeldNow {
        HeldNow(self.held.load_full())
    }

    /// Whether slices have come or gone since.
    pub fn have_changed(&self, since: &HeldNow) -> bool {
        !Arc::ptr_eq(&since.0, &self.held.load())
    }

    /// Those that are here, in the order of their slices.
    pub fn all(&self) -> BTreeMap<u16, Arc<StateStore>> {
        Held::clone(&self.held.load())
    }

    /// Of what is here. One after the other, so not of one moment: no row is in two of them.
    pub fn snapshot(&self) -> Snapshots {
        let held = self.held.load();
        match held.first_key_value() {
            Some((_, only)) if self.slices == 1 => only.snapshot().into(),
            _ => {
                let by_slice = (0..self.slices).map(|slice| held.get(&slice).map(StateStore::snapshot));
                Snapshots(Inner::Several(by_slice.collect()))
            }
        }
    }

    /// How many slices there are, here and elsewhere.
    pub fn slices(&self) -> u16 {
        self.slices
    }
}

impl From<Arc<StateStore>> for States {
    /// The whole.
    fn from(state: Arc<StateStore>) -> States {
        States::new(vec![state])
    }
}

/// One snapshot of each slice that is here. Every question takes them: with one slice there is nothing to allocate and nothing to choose.
pub struct Snapshots(Inner);

enum Inner {
    Whole(Snapshot),
    /// By slice; `None` for one that is not here.
    Several(Vec<Option<Snapshot>>),
}

impl Snapshots {
    /// Of these slices among so many.
    pub fn new(slices: u16, mut held: BTreeMap<u16, Snapshot>) -> Snapshots {
        Snapshots(Inner::Several((0..slices).map(|slice| held.remove(&slice)).collect()))
    }

    /// These slices only.
    pub fn only(mut self, slices: &BTreeSet<u16>) -> Snapshots {
        if let Inner::Several(by_slice) = &mut self.0 {
            for (slice, snapshot) in (0..).zip(by_slice) {
                snapshot.take_if(|_| !slices.contains(&slice));
            }
        }
        self
    }

    /// The one with a partition of a log that has so many; its slice if that is not here.
    #[inline]
    pub fn of(&self, partition: u16, partitions: u16) -> Result<&Snapshot, Elsewhere> {
        match &self.0 {
            Inner::Whole(snapshot) => Ok(snapshot),
            Inner::Several(by_slice) => {
                let slice = slice_of(partition, partitions, self.slices());
                let here = by_slice.get(usize::from(slice)).and_then(Option::as_ref);
                here.ok_or(Elsewhere { slice, of: self.slices() })
            }
        }
    }

    #[inline]
    pub fn has(&self, slice: u16) -> bool {
        match &self.0 {
            Inner::Whole(_) => slice == 0,
            Inner::Several(by_slice) => by_slice.get(usize::from(slice)).is_some_and(Option::is_some),
        }
    }

    /// Whether all slices are here.
    #[inline]
    pub fn has_all(&self) -> bool {
        match &self.0 {
            Inner::Whole(_) => true,
            Inner::Several(by_slice) => by_slice.iter().all(Option::is_some),
        }
    }

    /// Those that are here, by their slices.
    pub fn by_slice(&self) -> impl Iterator<Item = (u16, &Snapshot)> {
        let (whole, several) = match &self.0 {
            Inner::Whole(snapshot) => (Some(snapshot), [].as_slice()),
            Inner::Several(by_slice) => (None, by_slice.as_slice()),
        };
        let several = (0..).zip(several).filter_map(|(slice, snapshot)| Some((slice, snapshot.as_ref()?)));
        whole.map(|whole| (0, whole)).into_iter().chain(several)
    }

    /// Those that are here, in the order of their slices.
    pub fn iter(&self) -> impl Iterator<Item = &Snapshot> {
        self.by_slice().map(|(_, snapshot)| snapshot)
    }

    /// How many slices there are, here and elsewhere.
    pub fn slices(&self) -> u16 {
        match &self.0 {
            Inner::Whole(_) => 1,
            Inner::Several(by_slice) => by_slice.len() as u16,
        }
    }

    /// The digest of every table, as if all rows that are here were in one state.
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
    /// Of the whole.
    fn from(snapshot: Snapshot) -> Snapshots {
        Snapshots(Inner::Whole(snapshot))
    }
}

/// A slice that is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elsewhere {
    pub slice: u16,
    pub of: u16,
}

impl From<Elsewhere> for Error {
    fn from(Elsewhere { slice, of }: Elsewhere) -> Error {
        Error::unavailable(format!("slice {slice} of {of} is not here")).hint("ask again in a second")
    }
}
