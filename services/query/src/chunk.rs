//! The features of one chunk of an export, as Arrow columns in the spine's order.
//!
//! All events of a key are read once per chunk that asks for it, so a spine in no order wants large chunks. What a row costs while
//! its chunk is worked on is kept small for that: rows are brought together by key and read a piece at a time, only the piece's
//! values stand as such, and the columns made of them are put into the spine's order at the end. Extractors see whole chunks in the
//! spine's order instead; these are smaller.

use crate::answer::{FeatureValue, Status};
use crate::columns::{broken, from_array, times_from_array, to_array};
use crate::plan::{GivenPlan, Planned};
use crate::reads::{Keyed, TooEarly, keyed_rows, read_all};
use crate::rows::Rows;
use crate::view::{Touched, View};
use arrow_array::RecordBatch;
use arrow_array::{ArrayRef, StringArray, UInt32Array};
use arrow_select::concat::concat;
use arrow_select::take::take;
use std::sync::Arc;
use thyme_core::error::Result;
use thyme_core::schema::DataType;
use thyme_core::value::Value;

/// Most rows of a chunk.
const MAX_ROWS: usize = 262_144;
/// Most rows of a chunk that goes to extractors: one call holds them all.
const MAX_CALLED_ROWS: usize = 65_536;
/// About what a chunk may hold while it is worked on, spine excluded.
const CHUNK_BYTES: usize = 64 << 20;
/// Rows whose values stand at once where no extractor is called.
const PIECE_ROWS: usize = 16_384;
/// A row's place in the order of keys, with a short key.
const ORDER_BYTES: usize = size_of::<Keyed>() + 24;

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
        let columns = planned.wanted.iter().map(|(_, slot)| column_bytes(&planned.slots[*slot].data_type) + status);
        if planned.calls.is_empty() {
            // At the end a column stands twice: in pieces and put together.
            let row = given * size_of::<FeatureValue>() + ORDER_BYTES + 2 * columns.sum::<usize>();
            return (CHUNK_BYTES / row).clamp(1, MAX_ROWS);
        }
        let values = planned.slots.iter().map(|slot| size_of::<FeatureValue>() + column_bytes(&slot.data_type));
        let row = ORDER_BYTES + values.chain(columns).sum::<usize>();
        (CHUNK_BYTES / row).clamp(1, MAX_CALLED_ROWS)
    }

    /// All features (and statuses, where asked) of rows that no extractor is called for, and how many of their keys are known.
    pub fn read_by_key(&self, spine: &RecordBatch) -> Result<(Vec<ArrayRef>, u64)> {
        let given = self.given(spine)?;
        let (order, ends) = order_by_key(&self.planned, &given);
        let mut hits = 0;
        let mut pieces: Vec<Vec<ArrayRef>> = Vec::with_capacity(ends.len());
        let mut start = 0;
        for end in ends {
            let mut rows = given.select(&order[start..end]);
            hits += self.read(&mut rows)?;
            pieces.push(self.arrays(&rows)?);
            start = end;
        }
        let mut places = vec![0; order.len()];
        for (place, row) in order.iter().enumerate() {
            places[*row as usize] = place as u32;
        }
        let places = UInt32Array::from(places);
        let columns = pieces.first().map_or(0, Vec::len);
        let mut arrays = Vec::with_capacity(columns);
        // The last column of each piece first, so that a piece's column goes as soon as it is not needed any more.
        for _ in 0..columns {
            let parts: Vec<ArrayRef> = pieces.iter_mut().filter_map(Vec::pop).collect();
            let parts: Vec<&dyn arrow_array::Array> = parts.iter().map(AsRef::as_ref).collect();
            let together = concat(&parts).map_err(broken)?;
            arrays.push(take(&together, &places, None).map_err(broken)?);
        }
        arrays.reverse();
        Ok((arrays, hits))
    }

    /// All rows in the spine's order, with everything but what extractors give, and how many of their keys are known.
    pub fn read_in_order(&self, spine: &RecordBatch) -> Result<(Rows, u64)> {
        let mut rows = self.given(spine)?;
        let hits = self.read(&mut rows)?;
        Ok((rows, hits))
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

    fn read(&self, rows: &mut Rows) -> Result<u64> {
        let mut hits = vec![false; rows.len()];
        read_all(&self.view, &self.planned, rows, &mut Touched::default(), &mut hits, TooEarly::Mark)?;
        Ok(hits.iter().filter(|hit| **hit).count() as u64)
    }
}

/// The rows in the order of the first table's keys and of time, those that are not read last; and where its pieces end: between
/// two keys where one ends in the second half.
fn order_by_key(planned: &Planned, given: &Rows) -> (Vec<u32>, Vec<usize>) {
    let keyed = planned.reads.first().map(|read| keyed_rows(given, &read.key)).unwrap_or_default();
    let mut order: Vec<u32> = keyed.iter().map(|keyed| keyed.row).collect();
    let mut is_read = vec![false; given.len()];
    keyed.iter().for_each(|keyed| is_read[keyed.row as usize] = true);
    order.extend((0..given.len()).filter(|row| !is_read[*row]).map(|row| row as u32));
    let is_between = |end: &usize| keyed.get(*end).is_none_or(|next| keyed[*end - 1].key != next.key);
    let mut ends = Vec::new();
    let mut start = 0;
    while ends.is_empty() || start < order.len() {
        let limit = (start + PIECE_ROWS).min(order.len());
        let candidates = (start + PIECE_ROWS / 2..=limit).rev().filter(|end| *end <= keyed.len());
        start = if limit == order.len() { limit } else { candidates.into_iter().find(is_between).unwrap_or(limit) };
        ends.push(start);
    }
    (order, ends)
}

/// About what a value takes in a column. How long texts and lists are is not known before they are read.
fn column_bytes(data_type: &DataType) -> usize {
    match data_type {
        DataType::Bool => 1,
        DataType::Int | DataType::Float | DataType::Time => 8,
        DataType::Decimal => 16,
        DataType::Str | DataType::Bytes => 32,
        DataType::List(item) | DataType::Map(item) => 16 * column_bytes(item),
        DataType::Struct(fixed) => fixed.fields().iter().map(|(_, field)| column_bytes(field)).sum(),
    }
}

/// `OK`, `DEFAULT` or `ERROR` per row.
pub(crate) fn status_array(values: &[FeatureValue]) -> ArrayRef {
    Arc::new(values.iter().map(|value| Some(value.status.name())).collect::<StringArray>())
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
