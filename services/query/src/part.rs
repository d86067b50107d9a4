//! Parts: what one node reads for a question that another one was asked (`docs/decisions/0025-forwarding.md`).

use crate::answer::FeatureValue;
use crate::ask::Evaluated;
use crate::engine::{Deadline, QueryEngine, deadline_passed};
use crate::erased::ErasedLog;
use crate::plan::{Planned, ReadTable, ReadWhat};
use crate::question::Asking;
use crate::reads::{Found, Reading, TooEarly};
use crate::rows::Rows;
use crate::view::{Touched, View};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::Arc;
use thyme_core::error::{Error, Result};
use thyme_core::position::PositionSet;
use thyme_core::time::Micros;
use thyme_core::value::Value;

/// Where a part is read.
#[derive(Debug, Clone)]
pub struct PartAsking {
    /// The commit that the question was planned with.
    pub commit_id: Arc<str>,
    /// What is read lies in these.
    pub slices: BTreeSet<u16>,
    /// With what is left of the deadline, and no API key.
    pub asking: Asking,
}

impl PartAsking {
    /// For slices that a view has not.
    pub(crate) fn of(view: &View, asking: &Asking, slices: BTreeSet<u16>, deadline: Deadline) -> PartAsking {
        let asking = Asking { deadline: Some(deadline.left()), api_key_fingerprint: None, ..asking.clone() };
        PartAsking { commit_id: view.served.deployment.commit_id.clone(), slices, asking }
    }
}

/// What a question about features needs from some slices.
#[derive(Debug, Clone)]
pub struct Part {
    pub place: PartAsking,
    pub featureset: String,
    pub features: Option<Vec<String>>,
    /// Columns: the plan's keys, then its request features.
    pub given: Vec<Vec<Value>>,
    pub times: Vec<Option<Micros>>,
    /// Rows have times of their own: one before a horizon is an ERROR in its row.
    pub is_spine: bool,
    /// Extractors are called too: the slices are all there are.
    pub is_whole: bool,
}

/// The values of one slot of the plan, one per row.
#[derive(Debug, Clone, PartialEq)]
pub struct PartColumn {
    pub slot: usize,
    pub values: Vec<FeatureValue>,
}

/// What the rows that were read stand on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartStanding {
    /// How far every log partition that was read had been applied.
    pub position: PositionSet,
    /// The smallest watermark, `Some(None)` where a partition that was read has none; `None` where nothing was read.
    pub watermark: Option<Option<Micros>>,
}

impl PartStanding {
    /// Both together: a partition that both have read was read as far as the one that is behind.
    pub fn take_in(&mut self, other: &PartStanding) {
        for (&(log, partition), &applied) in &other.position.0 {
            self.applied(log, partition, applied);
        }
        if let Some(watermark) = other.watermark {
            self.watermark(watermark);
        }
    }

    pub(crate) fn applied(&mut self, log: u32, partition: u16, applied: u64) {
        let known = self.position.get(log, partition).unwrap_or(u64::MAX);
        self.position.set(log, partition, known.min(applied));
    }

    pub(crate) fn watermark(&mut self, of_partition: Option<Micros>) {
        self.watermark = Some(self.watermark.map_or(of_partition, |known| known.min(of_partition)));
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct PartAnswer {
    pub columns: Vec<PartColumn>,
    /// Rows whose key is known.
    pub known_rows: Vec<u32>,
    pub standing: PartStanding,
}

/// A lookup whose key lies in some slices.
#[derive(Debug, Clone)]
pub struct LookupPart {
    pub place: PartAsking,
    pub dataset: String,
    /// The key's components.
    pub key: Vec<Value>,
    pub at: Micros,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LookupPartAnswer {
    /// One per field of the dataset; `None` for an unknown key of a raw dataset.
    pub values: Option<Vec<FeatureValue>>,
    /// Whether the key is known.
    pub is_known: bool,
    pub standing: PartStanding,
}

/// The other nodes, by the addresses of their query services. `Unavailable`: another one may be asked.
#[async_trait]
pub trait Peers: Send + Sync {
    async fn read(&self, url: &str, part: Part) -> Result<PartAnswer>;
    async fn look_up(&self, url: &str, part: LookupPart) -> Result<LookupPartAnswer>;
    /// The greatest accepted event time in the slices.
    async fn greatest_event_time(&self, url: &str, place: PartAsking) -> Result<Option<Micros>>;
    /// How far the erases of a log go in the slices; 0 for partitions of others.
    async fn erased_below(&self, url: &str, place: PartAsking, of: ErasedLog) -> Result<Vec<u64>>;
}

/// For a node that holds everything.
pub struct NoPeers;

#[async_trait]
impl Peers for NoPeers {
    async fn read(&self, url: &str, _part: Part) -> Result<PartAnswer> {
        Err(no_peers(url))
    }
    async fn look_up(&self, url: &str, _part: LookupPart) -> Result<LookupPartAnswer> {
        Err(no_peers(url))
    }
    async fn greatest_event_time(&self, url: &str, _place: PartAsking) -> Result<Option<Micros>> {
        Err(no_peers(url))
    }
    async fn erased_below(&self, url: &str, _place: PartAsking, _of: ErasedLog) -> Result<Vec<u64>> {
        Err(no_peers(url))
    }
}

fn no_peers(url: &str) -> Error {
    Error::internal(format!("this node asks no other one, and {url} is to be asked"))
}

impl QueryEngine {
    /// Reads a part for another node. Nothing is recorded: the question is the other's.
    pub async fn read_part(&self, part: Part) -> Result<PartAnswer> {
        let deadline = self.deadline(&part.place.asking);
        let read = tokio::time::timeout(deadline, self.read_part_in_time(&part));
        read.await.unwrap_or_else(|_| Err(deadline_passed(deadline)))
    }

    async fn read_part_in_time(&self, part: &Part) -> Result<PartAnswer> {
        let view = self.view_of_part(&part.place).await?;
        let planned = view.served.plan(&part.featureset, part.features.as_deref())?;
        let rows = given_rows(&planned, part)?;
        let too_early = if part.is_spine { TooEarly::Mark } else { TooEarly::Refuse };
        let found = Found::of_part(rows.len());
        let mut evaluated = self.read_state(Reading::new(view, planned, rows, found, too_early)).await?;
        if part.is_whole {
            self.call_extractors(&mut evaluated).await;
        }
        let standing = evaluated.view.standing_of(&evaluated.found.touched)?;
        let slots = if part.is_whole { wanted_slots(&evaluated.planned) } else { read_slots(&evaluated) };
        let Evaluated { mut rows, found, .. } = evaluated;
        let column = |slot: usize| PartColumn { slot, values: std::mem::take(&mut rows.slots[slot]) };
        let columns = slots.into_iter().map(column).collect();
        let known_rows = (0..).zip(&found.hits).filter(|(_, hit)| **hit).map(|(row, _)| row).collect();
        Ok(PartAnswer { columns, known_rows, standing })
    }

    /// Looks up a row for another node.
    pub async fn look_up_part(&self, part: LookupPart) -> Result<LookupPartAnswer> {
        let deadline = self.deadline(&part.place.asking);
        let read = tokio::time::timeout(deadline, self.look_up_part_in_time(&part));
        read.await.unwrap_or_else(|_| Err(deadline_passed(deadline)))
    }

    async fn look_up_part_in_time(&self, part: &LookupPart) -> Result<LookupPartAnswer> {
        let view = self.view_of_part(&part.place).await?;
        let plan = view.served.lookup_plan(&part.dataset)?;
        if part.key.len() != plan.dataset.key_columns.len() {
            return Err(malformed("the key has another number of components than the dataset's"));
        }
        let mut touched = Touched::default();
        let row = plan.read(&view, &part.key, part.at, &mut touched)?;
        Ok(LookupPartAnswer { values: row.values, is_known: row.hit, standing: view.standing_of(&touched)? })
    }

    /// The greatest accepted event time in slices, for another node.
    pub async fn greatest_event_time_in(&self, place: PartAsking) -> Result<Option<Micros>> {
        let deadline = self.deadline(&place.asking);
        let view = tokio::time::timeout(deadline, self.view_of_part(&place));
        view.await.unwrap_or_else(|_| Err(deadline_passed(deadline)))?.greatest_event_time()
    }

    /// A view of the slices of a part, if this node has them and serves its commit.
    pub(crate) async fn view_of_part(&self, place: &PartAsking) -> Result<Arc<View>> {
        let not_here = |reason: String| Error::unavailable(reason).hint("ask again in a second");
        let served = self.served().map_err(|error| not_here(error.message().to_string()))?;
        let serving = &served.deployment.commit_id;
        if *serving != place.commit_id {
            return Err(not_here(format!("commit {serving} serves there, and {} here", place.commit_id)));
        }
        let view = self.view_of(served, &place.asking, Some(&place.slices)).await?;
        if let Some(gone) = place.slices.iter().find(|slice| !view.has(**slice)) {
            return Err(not_here(format!("slice {gone} of {} is not there any more", view.slices())));
        }
        Ok(Arc::new(view))
    }
}

fn given_rows(planned: &Planned, part: &Part) -> Result<Rows> {
    let given = planned.keys.iter().chain(&planned.requests);
    if part.given.len() != planned.keys.len() + planned.requests.len() {
        return Err(malformed("the number of given columns is not the plan's"));
    }
    let mut rows = Rows::new(planned, part.times.clone());
    for (plan, column) in given.zip(&part.given) {
        if column.len() != part.times.len() || !column.iter().all(|value| value.has_type(&plan.data_type)) {
            return Err(malformed("a given column does not fit the plan"));
        }
        rows.give(plan.slot, column.iter().cloned());
    }
    Ok(rows)
}

pub(crate) fn malformed(what: &str) -> Error {
    Error::internal(format!("a part between nodes is malformed: {what}"))
}

/// Slots that were filled for at least one row.
fn read_slots(evaluated: &Evaluated) -> BTreeSet<usize> {
    let reads = evaluated.found.reads.iter().flatten().map(|read| &evaluated.planned.reads[*read]);
    reads.flat_map(ReadTable::slots).collect()
}

/// Slots that are asked for and were not given.
pub(crate) fn wanted_slots(planned: &Planned) -> BTreeSet<usize> {
    let mut wanted: BTreeSet<usize> = planned.wanted.iter().map(|(_, slot)| *slot).collect();
    planned.keys.iter().chain(&planned.requests).for_each(|given| {
        wanted.remove(&given.slot);
    });
    wanted
}

impl ReadTable {
    pub(crate) fn slots(&self) -> Vec<usize> {
        match &self.what {
            ReadWhat::Windows { slots, .. } => slots.clone(),
            ReadWhat::Newest { columns, .. } => columns.iter().map(|(_, slot)| *slot).collect(),
        }
    }
}
