//! The accepted rows of a dataset, in order of key, time and place in the log.

use crate::columns::{arrow_type, to_array};
use crate::deployment::{Served, Source};
use crate::engine::QueryEngine;
use crate::instants::Stretch;
use crate::keys::Keys;
use crate::view::View;
use arrow_array::ArrayRef;
use arrow_schema::{Field as ArrowField, Schema};
use std::ops::RangeInclusive;
use std::sync::Arc;
use thyme_core::definition::CompiledDataset;
use thyme_core::error::{Error, Result};
use thyme_core::key;
use thyme_core::value::Value;
use thyme_state::{Event, EventsFrom};

/// Most rows of a chunk, and about what it may hold.
const MAX_ROWS: usize = 65_536;
const CHUNK_BYTES: usize = 32 << 20;
/// About so many rows are read in one turn, of at most so many keys.
const TURN_ROWS: usize = 8_192;
const TURN_KEYS: usize = 1_024;

/// The table with a dataset's rows.
pub(crate) fn source(served: &Served, dataset: &CompiledDataset) -> Result<Arc<Source>> {
    let name = &dataset.name;
    if !dataset.is_raw() {
        return Err(Error::invalid(format!("'{name}' is aggregated and has no rows of its own"))
            .field("dataset")
            .hint("ask for the changes of a featureset that refers to it"));
    }
    if !dataset.index {
        return Err(Error::precondition(format!("dataset '{name}' has no index, so its rows are not kept"))
            .field("dataset")
            .hint("declare it with @dataset(index=True)"));
    }
    served.source(&dataset.table_identity(), name)
}

/// The dataset's fields.
pub(crate) fn schema(dataset: &CompiledDataset) -> Schema {
    let fields = dataset.fields.iter().zip(&dataset.types);
    let fields = fields.map(|(field, data_type)| ArrowField::new(&field.name, arrow_type(data_type), true));
    Schema::new(fields.collect::<Vec<ArrowField>>())
}

/// The rows of a run of hash slices.
pub(crate) struct DatasetRows {
    dataset: Arc<CompiledDataset>,
    /// Not there while a chunk is made, and after an error.
    walk: Option<Walk>,
}

impl DatasetRows {
    pub fn new(
        view: Arc<View>,
        dataset: Arc<CompiledDataset>,
        source: Arc<Source>,
        stretch: Stretch,
        vnodes: RangeInclusive<u8>,
    ) -> DatasetRows {
        let keys = Keys::new(vec![source.clone()], dataset.key_columns.len(), vnodes);
        let made = Made::of(dataset.types.len());
        let walk = Walk { view, source, stretch, keys, under_way: None, made };
        DatasetRows { dataset, walk: Some(walk) }
    }

    /// The columns of the next rows, with how many there are; `None` at the end.
    pub async fn next(&mut self, engine: &QueryEngine) -> Result<Option<(Vec<ArrayRef>, usize)>> {
        let walk = self.walk.take().ok_or_else(|| Error::internal("an export that failed is asked for more"))?;
        let mut walk = engine.turns.each(walk, Walk::step).await?;
        let made = std::mem::replace(&mut walk.made, Made::of(self.dataset.types.len()));
        self.walk = Some(walk);
        if made.rows == 0 {
            return Ok(None);
        }
        let (count, dataset) = (made.rows, self.dataset.clone());
        let arrays = engine.turns.take(move || made.arrays(&dataset)).await??;
        Ok(Some((arrays, count)))
    }
}

/// How far the rows are read.
struct Walk {
    view: Arc<View>,
    source: Arc<Source>,
    stretch: Stretch,
    keys: Keys,
    /// A key, and from where on its rows are not read yet.
    under_way: Option<(Vec<u8>, EventsFrom)>,
    made: Made,
}

/// The rows of a chunk.
struct Made {
    columns: Vec<Vec<Value>>,
    rows: usize,
    bytes: usize,
}

impl Made {
    fn of(columns: usize) -> Made {
        Made { columns: vec![Vec::new(); columns], rows: 0, bytes: 0 }
    }

    fn has_room(&self) -> bool {
        self.rows < MAX_ROWS && self.bytes < CHUNK_BYTES
    }

    /// A row that is older than a field has null in it.
    fn take_in(&mut self, event: Event) {
        let mut values = event.values.into_iter();
        for column in &mut self.columns {
            let value = values.next().unwrap_or(Value::Null);
            self.bytes += size_of::<Value>() + text_bytes(&value);
            column.push(value);
        }
        self.rows += 1;
    }

    fn arrays(&self, dataset: &CompiledDataset) -> Result<Vec<ArrayRef>> {
        let columns = self.columns.iter().zip(&dataset.types);
        columns.map(|(values, data_type)| to_array(values.iter(), data_type)).collect()
    }
}

/// What a value holds beside itself.
fn text_bytes(value: &Value) -> usize {
    let of_all = |values: &mut dyn Iterator<Item = &Value>| -> usize {
        values.map(|value| size_of::<Value>() + text_bytes(value)).sum()
    };
    match value {
        Value::Str(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => of_all(&mut items.iter()),
        Value::Map(entries) => entries.keys().map(|name| name.len()).sum::<usize>() + of_all(&mut entries.values()),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Time(_) | Value::Decimal(_) => 0,
    }
}

impl Walk {
    /// Reads what can be read in one turn. False: the chunk is whole.
    fn step(&mut self) -> Result<bool> {
        let most = self.made.rows + TURN_ROWS;
        let mut keys = 0;
        while self.made.has_room() && self.made.rows < most && keys < TURN_KEYS {
            if let Some((key, from)) = self.under_way.take() {
                self.under_way = self.read(&key, from, most)?.map(|behind| (key, behind));
                continue;
            }
            let Some(key) = self.keys.next(&self.view)? else { return Ok(false) };
            keys += 1;
            self.under_way = Some((key, EventsFrom::Time(self.stretch.since)));
        }
        Ok(self.made.has_room())
    }

    /// Reads rows of a key until there are so many in all. Where to go on if there may be more.
    fn read(&mut self, key: &[u8], from: EventsFrom, most: usize) -> Result<Option<EventsFrom>> {
        let Walk { view, source, made, stretch, .. } = self;
        let partition = key::partition(key, source.partitions);
        let visible = view.visible(source, partition)?;
        let last = stretch.until.saturating_sub(1);
        let mut behind = None;
        let state = view.state(source, partition)?;
        state.each_event(&source.served.table, key, from, last, &visible, &mut |event| {
            let place = EventsFrom::Behind(event.time, event.origin);
            made.take_in(event);
            let goes_on = made.has_room() && made.rows < most;
            behind = (!goes_on).then_some(place);
            Ok(goes_on)
        })?;
        Ok(behind)
    }
}
