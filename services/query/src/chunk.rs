//! The features of one chunk of an export, as Arrow columns in the spine's order.
//!
//! All events of a key are read once per chunk that asks for it, so a spine in no order wants large chunks. What a row costs while
//! its chunk is worked on is kept small for that: what is read goes straight into columns. Extractors see
//! the values themselves instead, and such chunks are smaller.

use crate::answer::{FeatureValue, Status};
use crate::cells::{Cells, ColumnRows, cell_bytes, status_array};
use crate::columns::{column_bytes, from_array, times_from_array, to_array};
use crate::keyed::ROW_BYTES;
use crate::plan::{GivenPlan, Planned};
use crate::reads::{Found, Reading, TooEarly};
use crate::rows::Rows;
use crate::turns::Turns;
use crate::view::View;
use arrow_array::{ArrayRef, RecordBatch};
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

impl ChunkReader {
    /// How many rows to bring: many for a few numbers, fewer for many features or long values.
    pub fn rows_at_once(&self) -> usize {
        let planned = &self.planned;
        let given = planned.keys.len() + planned.requests.len();
        let status = if self.statuses { 2 * size_of::<u64>() } else { 0 };
        if planned.calls.is_empty() {
            let cells = planned.wanted.iter().map(|(_, slot)| cell_bytes(&planned.slots[*slot].data_type) + status);
            let row = given * size_of::<FeatureValue>() + ROW_BYTES + cells.sum::<usize>();
            return (CHUNK_BYTES / row).clamp(1, MAX_ROWS);
        }
        let columns = planned.wanted.iter().map(|(_, slot)| column_bytes(&planned.slots[*slot].data_type) + status);
        let values = planned.slots.iter().map(|slot| size_of::<FeatureValue>() + column_bytes(&slot.data_type));
        let row = ROW_BYTES + values.chain(columns).sum::<usize>();
        (CHUNK_BYTES / row).clamp(1, MAX_CALLED_ROWS)
    }

    /// All features (and statuses, where asked) of rows that no extractor is called for, and how many of their keys are known.
    pub async fn read_columns(&self, spine: RecordBatch, turns: &Turns) -> Result<(Vec<ArrayRef>, u64)> {
        let Reading { cells, found, .. } =
            self.read(spine, turns, |given, planned| ColumnRows::new(planned, given)).await?;
        let statuses = self.statuses;
        Ok((turns.take(move || cells.finish(statuses)).await??, found.known()))
    }

    /// All rows with everything but what extractors give, and how many of their keys are known.
    pub async fn read_values(&self, spine: RecordBatch, turns: &Turns) -> Result<(Rows, u64)> {
        let Reading { cells, found, .. } = self.read(spine, turns, |given, _| given).await?;
        Ok((cells, found.known()))
    }

    /// The features, then the statuses where asked.
    pub fn arrays(&self, rows: &Rows) -> Result<Vec<ArrayRef>> {
        let planned = &self.planned;
        let mut arrays = Vec::with_capacity(planned.wanted.len());
        for (_, slot) in &planned.wanted {
            let values = rows.slots[*slot].iter().map(|feature| &feature.value);
            arrays.push(to_array(values, &planned.slots[*slot].data_type)?);
        }
        if self.statuses {
            arrays.extend(planned.wanted.iter().map(|(_, slot)| status_array(&rows.slots[*slot])));
        }
        Ok(arrays)
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
            let (found, cells) = (Found::new(given.len()), cells(given, reader.planned.clone()));
            Ok(Reading::new(reader.view, reader.planned, cells, found, TooEarly::Mark))
        };
        turns.each(turns.take(begin).await??, Reading::turn).await
    }
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
