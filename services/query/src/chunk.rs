//! The features of one chunk of an export, as Arrow columns in the spine's order.
//!
//! All events of a key are read once per chunk that asks for it, so a spine in no order wants large chunks. What a row costs while
//! its chunk is worked on is kept small for that: what is read goes straight into columns. Extractors see
//! the values themselves instead, and such chunks are smaller.

use crate::answer::{FeatureValue, Status};
use crate::cells::{Cells, ColumnRows, Finished, cell_bytes};
use crate::columns::{column_bytes, from_array, times_from_array};
use crate::keyed::ROW_BYTES;
use crate::plan::{GivenPlan, Planned};
use crate::reads::{Found, Reading, TooEarly};
use crate::rows::Rows;
use crate::summary::ReadCounts;
use crate::turns::Turns;
use crate::view::View;
use arrow_array::RecordBatch;
use std::sync::Arc;
use thyme_core::error::Result;
use thyme_core::value::Value;

/// Most rows of a chunk.
const MAX_ROWS: usize = 262_144;
/// Most rows of a chunk that goes to extractors: one call holds them all.
const MAX_CALLED_ROWS: usize = 65_536;
/// About what a chunk may hold while it is worked on, spine excluded.
const CHUNK_BYTES: usize = 64 << 20;

/// Where the spine holds time, keys and request features.
#[derive(Debug, Clone)]
pub(crate) struct SpineColumns {
    pub time: usize,
    pub time_name: String,
    /// Columns, parallel to the plan's keys.
    pub keys: Vec<usize>,
    pub requests: Vec<usize>,
}

/// What is done with every chunk of an export.
#[derive(Clone)]
pub(crate) struct ChunkReader {
    pub view: Arc<View>,
    pub planned: Arc<Planned>,
    pub columns: SpineColumns,
    pub statuses: bool,
}

/// What was found of a chunk's rows: which keys are known, and what was done for each read.
pub(crate) struct Done {
    pub hits: Vec<bool>,
    pub reads: Vec<ReadCounts>,
}

impl From<Found> for Done {
    fn from(found: Found) -> Done {
        Done { hits: found.hits, reads: found.done }
    }
}

impl ChunkReader {
    /// All features (with statuses, where asked) of rows that no extractor is called for.
    pub async fn read_columns(&self, spine: RecordBatch, turns: &Turns) -> Result<(Vec<Finished>, Done)> {
        let Reading { cells, found, .. } =
            self.read(spine, turns, |given, planned| ColumnRows::new(planned, given)).await?;
        let statuses = self.statuses;
        Ok((turns.take(move || cells.finish(statuses)).await??, found.into()))
    }

    /// All rows with everything but what extractors give.
    pub async fn read_values(&self, spine: RecordBatch, turns: &Turns) -> Result<(Rows, Done)> {
        let Reading { cells, found, .. } = self.read(spine, turns, |given, _| given).await?;
        Ok((cells, found.into()))
    }

    /// The features of such rows, with statuses where asked.
    pub fn finish(&self, rows: &Rows) -> Result<Vec<Finished>> {
        let planned = &self.planned;
        let finish = |(_, slot): &(Arc<str>, usize)| {
            Finished::of(&rows.slots[*slot], &planned.slots[*slot].data_type, self.statuses)
        };
        planned.wanted.iter().map(finish).collect()
    }

    /// Times, keys and request features.
    fn given(&self, spine: &RecordBatch) -> Result<Rows> {
        let (planned, columns) = (&self.planned, &self.columns);
        let times = times_from_array(spine.column(columns.time), &columns.time_name)?;
        let mut rows = Rows::new(planned, times);
        let typed = |given: &GivenPlan, column: usize| {
            from_array(spine.column(column), &given.data_type, spine.schema().field(column).name())
        };
        for (key, &column) in planned.keys.iter().zip(&columns.keys) {
            rows.give(key.slot, typed(key, column)?.into_iter());
        }
        for (request, &column) in planned.requests.iter().zip(&columns.requests) {
            let values = typed(request, column)?;
            rows.slots[request.slot] = values.into_iter().map(|value| request_value(request, value)).collect();
        }
        Ok(rows)
    }

    async fn read<C: Cells + Send + 'static>(
        &self,
        spine: RecordBatch,
        turns: &Turns,
        cells: impl FnOnce(Rows, Arc<Planned>) -> C + Send + 'static,
    ) -> Result<Reading<C>> {
        let reader = self.clone();
        let begin = move || -> Result<Reading<C>> {
            let given = reader.given(&spine)?;
            let found = Found::of_chunk(given.len(), &reader.planned);
            let cells = cells(given, reader.planned.clone());
            Ok(Reading::new(reader.view, reader.planned, cells, found, TooEarly::Mark))
        };
        turns.each(turns.take(begin).await??, Reading::turn).await
    }
}

/// How many rows to bring for all of these plans: many for a few numbers, fewer for many features or long values.
pub(crate) fn rows_at_once<'a>(plans: impl Iterator<Item = &'a Planned> + Clone, statuses: bool) -> usize {
    let row: usize = plans.clone().map(|planned| row_bytes(planned, statuses)).sum();
    let most = |planned: &Planned| if planned.calls.is_empty() { MAX_ROWS } else { MAX_CALLED_ROWS };
    (CHUNK_BYTES / row.max(1)).clamp(1, plans.map(most).min().unwrap_or(MAX_ROWS))
}

/// About what a row costs while its chunk is worked on.
fn row_bytes(planned: &Planned, statuses: bool) -> usize {
    let status = if statuses { 2 * size_of::<u64>() } else { 0 };
    if planned.calls.is_empty() {
        let given = planned.keys.len() + planned.requests.len();
        let cells = planned.wanted.iter().map(|(_, slot)| cell_bytes(&planned.slots[*slot].data_type) + status);
        return given * size_of::<FeatureValue>() + ROW_BYTES + cells.sum::<usize>();
    }
    let columns = planned.wanted.iter().map(|(_, slot)| column_bytes(&planned.slots[*slot].data_type) + status);
    let values = planned.slots.iter().map(|slot| size_of::<FeatureValue>() + column_bytes(&slot.data_type));
    ROW_BYTES + values.chain(columns).sum::<usize>()
}

fn request_value(given: &GivenPlan, value: Value) -> FeatureValue {
    if value.is_null() && !given.nullable {
        return FeatureValue {
            value,
            status: Status::Error(format!("the input '{}' is null but not Optional", given.name).into()),
        };
    }
    FeatureValue::ok(value)
}
