//! Changes: for every key a row where a stretch of time begins, or the key becomes known in it, and one at each instant at which its
//! features are others than a microsecond before. A spine is made of the instants at which something may change, it is read as any
//! spine is, and the rows that are as the one before fall out.

use crate::answer::FeatureValue;
use crate::cells::status_array;
use crate::columns::{arrow_type, column_bytes, to_array};
use crate::engine::QueryEngine;
use crate::instants::{Instants, Moved, Stretch};
use crate::keyed::ROW_BYTES;
use crate::keys::Keys;
use crate::plan::Planned;
use crate::reads::{Found, Reading, TooEarly};
use crate::rows::Rows;
use crate::view::View;
use arrow_array::ArrayRef;
use arrow_schema::{Field as ArrowField, Schema};
use std::ops::RangeInclusive;
use std::sync::Arc;
use thyme_core::error::{Error, Result};
use thyme_core::key;
use thyme_core::schema::DataType;
use thyme_core::time::Micros;
use thyme_core::value::Value;

/// The column with each row's time.
const TIMESTAMP: &str = "timestamp";
/// Most instants of a chunk, and about what it may hold while it is worked on.
const MAX_ROWS: usize = 65_536;
const CHUNK_BYTES: usize = 64 << 20;
/// About so many instants are found in one turn, of at most so many keys.
const TURN_INSTANTS: usize = 8_192;
const TURN_KEYS: usize = 1_024;

/// Refuses features of which it is not known when they may change.
pub(crate) fn check(planned: &Planned) -> Result<()> {
    let refused = |message: String| {
        let hint = "leave it out with features=[…], or give a spine with the keys and times that are wanted";
        Err(Error::invalid(message).field("features").hint(hint))
    };
    let featureset = &planned.featureset;
    if let Some(request) = planned.requests.first() {
        return refused(format!(
            "'{}' is given with each question, so '{featureset}' changes at no time of its own",
            request.name
        ));
    }
    if let Some(call) = planned.calls.iter().find(|call| !call.deps.is_empty()) {
        return refused(format!("extractor {} looks up: any key may change what it gives", call.label));
    }
    let Some(first) = planned.reads.first() else {
        return refused(format!("nothing that is asked of '{featureset}' is read from a dataset"));
    };
    if let Some(other) = planned.reads.iter().find(|read| read.key != first.key) {
        let (one, other) = (&first.source.name, &other.source.name);
        return refused(format!("'{featureset}' reads '{one}' and '{other}' under different keys"));
    }
    let mut of_reads = first.key.clone();
    of_reads.sort_unstable();
    let mut given: Vec<usize> = planned.keys.iter().map(|key| key.slot).collect();
    given.sort_unstable();
    if of_reads != given {
        return refused(format!("'{}' is not read under the keys of '{featureset}', each once", first.source.name));
    }
    Ok(())
}

/// Keys, timestamp, features, and statuses where asked.
pub(crate) fn schema(planned: &Planned, statuses: bool) -> Result<Schema> {
    let mut fields: Vec<ArrowField> = Vec::new();
    let mut add = |name: &str, data_type: &DataType, nullable: bool| {
        if fields.iter().any(|known| known.name() == name) {
            let hint = "ask with features=[…] for others";
            return Err(Error::invalid(format!("two columns would be called '{name}'")).field(name).hint(hint));
        }
        fields.push(ArrowField::new(name, arrow_type(data_type), nullable));
        Ok(())
    };
    for key in &planned.keys {
        add(&key.name, &key.data_type, false)?;
    }
    add(TIMESTAMP, &DataType::Time, false)?;
    for (name, slot) in &planned.wanted {
        add(name, &planned.slots[*slot].data_type, true)?;
    }
    for (name, _) in planned.wanted.iter().filter(|_| statuses) {
        add(&format!("{name}__status"), &DataType::Str, true)?;
    }
    Ok(Schema::new(fields))
}

/// How many instants make a chunk: so many values are held of each.
fn rows_at_once(planned: &Planned, statuses: bool) -> usize {
    let status = if statuses { 2 * size_of::<u64>() } else { 0 };
    let columns = planned.wanted.iter().map(|(_, slot)| column_bytes(&planned.slots[*slot].data_type) + status);
    let values = planned.slots.iter().map(|slot| size_of::<FeatureValue>() + column_bytes(&slot.data_type));
    let row = ROW_BYTES + values.chain(columns).sum::<usize>();
    (CHUNK_BYTES / row).clamp(1, MAX_ROWS)
}

/// The changes of a run of hash slices.
pub(crate) struct Changes {
    view: Arc<View>,
    planned: Arc<Planned>,
    statuses: bool,
    /// Not there while a chunk is made, and after an error.
    spine: Option<Spine>,
    /// The row before the next one.
    last: Option<LastRow>,
}

/// What a key's wanted features were.
struct LastRow {
    key: u64,
    values: Vec<FeatureValue>,
}

impl Changes {
    pub fn new(
        view: Arc<View>,
        planned: Arc<Planned>,
        stretch: Stretch,
        vnodes: RangeInclusive<u8>,
        statuses: bool,
    ) -> Changes {
        let tables = Moved::of(&planned, view.exclusive);
        let sources = tables.iter().map(|moved| moved.source().clone()).collect();
        let key: Vec<usize> = planned.reads.first().map(|read| read.key.clone()).unwrap_or_default();
        let spine = Spine {
            view: view.clone(),
            tables,
            stretch,
            keys: Keys::new(sources, key.len(), vnodes),
            under_way: None,
            most: rows_at_once(&planned, statuses),
            made: Made::of(key.len()),
            begun: 0,
        };
        Changes { view, planned, statuses, spine: Some(spine), last: None }
    }

    /// The columns of the next rows, with how many there are; `None` at the end.
    pub async fn next(&mut self, engine: &QueryEngine) -> Result<Option<(Vec<ArrayRef>, usize)>> {
        loop {
            let spine = self.spine.take().ok_or_else(|| Error::internal("an export that failed is asked for more"))?;
            let mut spine = engine.turns.each(spine, Spine::step).await?;
            let nothing = Made::of(spine.made.keys.len());
            let made = std::mem::replace(&mut spine.made, nothing);
            if made.times.is_empty() {
                self.spine = Some(spine);
                return Ok(None);
            }
            let (rows, key_of) = self.read(made, engine).await?;
            let chunk = Chunk { planned: self.planned.clone(), rows, key_of };
            let (last, statuses) = (self.last.take(), self.statuses);
            let (arrays, count, last) = engine.turns.take(move || chunk.changed(last, statuses)).await??;
            (self.spine, self.last) = (Some(spine), last);
            if count > 0 {
                return Ok(Some((arrays, count)));
            }
        }
    }

    /// All that the plan has of these rows, extractors included.
    async fn read(&self, made: Made, engine: &QueryEngine) -> Result<(Rows, Vec<u64>)> {
        let (view, planned) = (&self.view, &self.planned);
        let Made { times, keys, key_of } = made;
        let mut rows = Rows::new(planned, times.into_iter().map(Some).collect());
        if let Some(read) = planned.reads.first() {
            read.key.iter().zip(keys).for_each(|(slot, values)| rows.give(*slot, values.into_iter()));
        }
        let found = Found::new(rows.len());
        let reading = Reading::new(view.clone(), planned.clone(), rows, found, TooEarly::Mark);
        let Reading { cells: mut rows, .. } = engine.turns.each(reading, Reading::turn).await?;
        if !planned.calls.is_empty() {
            engine.caller(view).call_all(planned, &mut rows).await;
            view.check_lost()?;
        }
        Ok((rows, key_of))
    }
}

/// Rows that were read, in order of key and time.
struct Chunk {
    planned: Arc<Planned>,
    rows: Rows,
    /// Tells the keys apart.
    key_of: Vec<u64>,
}

impl Chunk {
    /// The columns of the rows that differ from the one before of the same key, how many they are, and the last row of all.
    fn changed(self, before: Option<LastRow>, statuses: bool) -> Result<(Vec<ArrayRef>, usize, Option<LastRow>)> {
        let is_first = before.is_none_or(|last| Some(&last.key) != self.key_of.first() || !self.is_same_as(&last));
        let changed = |row: &usize| match row.checked_sub(1) {
            None => is_first,
            Some(before) => self.key_of[before] != self.key_of[*row] || self.differ(before, *row),
        };
        let changed: Vec<usize> = (0..self.rows.len()).filter(changed).collect();
        let (arrays, last) = (self.arrays(&changed, statuses)?, self.last());
        Ok((arrays, changed.len(), last))
    }

    fn is_same_as(&self, last: &LastRow) -> bool {
        self.columns().zip(&last.values).all(|(column, value)| is_same(&column[0], value))
    }

    fn differ(&self, one: usize, other: usize) -> bool {
        self.columns().any(|column| !is_same(&column[one], &column[other]))
    }

    /// The wanted features.
    fn columns(&self) -> impl Iterator<Item = &Vec<FeatureValue>> {
        self.planned.wanted.iter().map(|(_, slot)| &self.rows.slots[*slot])
    }

    fn last(&self) -> Option<LastRow> {
        let values = self.columns().filter_map(|column| column.last().cloned()).collect();
        Some(LastRow { key: *self.key_of.last()?, values })
    }

    fn arrays(&self, at: &[usize], statuses: bool) -> Result<Vec<ArrayRef>> {
        let Chunk { planned, rows, .. } = self;
        let column = |slot: usize| {
            let values = at.iter().map(|row| &rows.slots[slot][*row].value);
            to_array(values, &planned.slots[slot].data_type)
        };
        let mut arrays = planned.keys.iter().map(|key| column(key.slot)).collect::<Result<Vec<ArrayRef>>>()?;
        let times: Vec<Value> = at.iter().map(|row| rows.times[*row].map_or(Value::Null, Value::Time)).collect();
        arrays.push(to_array(times.iter(), &DataType::Time)?);
        for (_, slot) in &planned.wanted {
            arrays.push(column(*slot)?);
        }
        for (_, slot) in planned.wanted.iter().filter(|_| statuses) {
            arrays.push(status_array(at.iter().map(|row| &rows.slots[*slot][*row])));
        }
        Ok(arrays)
    }
}

/// Whether a row would say the same. Of an ERROR it says that it is one.
fn is_same(one: &FeatureValue, other: &FeatureValue) -> bool {
    one.value == other.value && one.status.name() == other.status.name()
}

/// A spine that is made piece by piece: the keys of some hash slices, each with the instants at which it may change.
struct Spine {
    view: Arc<View>,
    tables: Vec<Moved>,
    stretch: Stretch,
    keys: Keys,
    /// A key's instants, and its components.
    under_way: Option<(Instants, Vec<Value>)>,
    /// So many rows make a chunk.
    most: usize,
    made: Made,
    /// How many keys had anything so far.
    begun: u64,
}

struct Made {
    times: Vec<Micros>,
    /// By component.
    keys: Vec<Vec<Value>>,
    key_of: Vec<u64>,
}

impl Made {
    fn of(parts: usize) -> Made {
        Made { times: Vec::new(), keys: vec![Vec::new(); parts], key_of: Vec::new() }
    }
}

impl Spine {
    /// Makes what can be made in one turn. False: the chunk is whole.
    fn step(&mut self) -> Result<bool> {
        let most = self.most.min(self.made.times.len() + TURN_INSTANTS);
        let mut keys = 0;
        while self.made.times.len() < most && keys < TURN_KEYS {
            if let Some((instants, components)) = &mut self.under_way {
                match instants.next(&self.view, &self.tables)? {
                    None => self.under_way = None,
                    Some(time) => {
                        self.made.times.push(time);
                        self.made.key_of.push(self.begun);
                        let columns = self.made.keys.iter_mut().zip(components.iter());
                        columns.for_each(|(column, component)| column.push(component.clone()));
                    }
                }
                continue;
            }
            let Some(key) = self.keys.next(&self.view)? else { return Ok(false) };
            keys += 1;
            let components = key::decode_key(&key)?;
            let instants = Instants::begin(&self.view, &self.tables, key, self.stretch)?;
            self.begun += u64::from(instants.is_some());
            self.under_way = instants.map(|instants| (instants, components));
        }
        Ok(self.made.times.len() < self.most)
    }
}
