//! How far the erases of a dataset's log go, in slices here and elsewhere: an erase that a table does not know yet is pending.

use crate::engine::{Deadline, QueryEngine, deadline_passed};
use crate::forward::Asked;
use crate::part::{PartAsking, malformed};
use crate::question::Asking;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::error::{Error, Result};
use thyme_core::position::PositionSet;

/// A dataset's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasedLog {
    /// Its id, as in positions.
    pub log: u32,
    pub partitions: u16,
}

impl QueryEngine {
    /// For each partition of the log the place after its newest erase, once everything below `ends` has been applied, here and on other
    /// nodes. `DeadlineExceeded` after `deadline`, `Unavailable` if nobody has a slice.
    pub async fn erased_below(&self, of: ErasedLog, ends: PositionSet, deadline: Duration) -> Result<Vec<u64>> {
        let deadline = Deadline::new(deadline);
        let asking = Asking { at_least: Some(ends), deadline: Some(deadline.total), ..Asking::default() };
        let view = self.view_of(self.served()?, &asking, None).await?;
        let mut places = self.parts.applied.erased_below(of.log, of.partitions);
        if let Some(gone) = view.all_slices().into_iter().find(|slice| view.has(*slice) && !self.has(*slice)) {
            return Err(Error::unavailable(format!("slice {gone} has just gone")).hint("ask again in a second"));
        }
        let ask = |url: Arc<str>, slices| {
            let place = PartAsking::of(&view, &asking, slices, deadline);
            let asked: Asked<'_, _> = Box::pin(async move { self.peers.erased_below(&url, place, of).await });
            asked
        };
        let wanted = view.slices_elsewhere();
        for (_, there) in self.gather_many(&view, wanted, deadline, ask).await? {
            if there.len() != places.len() {
                return Err(malformed("another number of partitions"));
            }
            places.iter_mut().zip(there).for_each(|(place, there)| *place = there.max(*place));
        }
        Ok(places)
    }

    fn has(&self, slice: u16) -> bool {
        self.parts.states.has(slice)
    }

    /// The same in the slices of a part, for another node.
    pub async fn erased_below_in(&self, place: PartAsking, of: ErasedLog) -> Result<Vec<u64>> {
        let deadline = self.deadline(&place.asking);
        let view = tokio::time::timeout(deadline, self.view_of_part(&place));
        view.await.unwrap_or_else(|_| Err(deadline_passed(deadline)))?;
        let places = self.parts.applied.erased_below(of.log, of.partitions);
        match place.slices.iter().find(|slice| !self.has(**slice)) {
            Some(gone) => Err(Error::unavailable(format!("slice {gone} has just gone")).hint("ask again in a second")),
            None => Ok(places),
        }
    }
}
