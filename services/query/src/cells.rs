//! Where the values of native reads go: as they are, where extractors or a caller look at them, or straight into columns.

use crate::answer::{FeatureValue, Status};
use crate::columns::{UTC, column_bytes, to_array};
use crate::plan::Planned;
use crate::rows::Rows;
use crate::summary::Counts;
use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use std::sync::Arc;
use thyme_core::aggregate::Number;
use thyme_core::error::{Error, Result};
use thyme_core::schema::DataType;
use thyme_core::value::Value;

/// Takes the values that are read for some rows.
pub(crate) trait Cells {
    /// What was given: times, keys, request features.
    fn rows(&self) -> &Rows;
    /// Says, before anything is written, in which order most of the rows will be: all rows that have a key and a time.
    fn expect(&mut self, rows: impl Iterator<Item = usize>);
    /// The same value in every row of a slot, to be overwritten: no ERROR.
    fn fill(&mut self, slot: usize, value: &FeatureValue);
    fn set(&mut self, slot: usize, row: usize, value: &Value, status: &Status);
    /// The same of a number that is `OK`. False: it has to be set as a value.
    #[inline]
    fn set_number(&mut self, _slot: usize, _row: usize, _number: Number) -> bool {
        false
    }
}

impl Cells for Rows {
    fn rows(&self) -> &Rows {
        self
    }
    fn expect(&mut self, _: impl Iterator<Item = usize>) {}
    fn fill(&mut self, slot: usize, value: &FeatureValue) {
        Rows::fill(self, slot, value);
    }
    #[inline]
    fn set(&mut self, slot: usize, row: usize, value: &Value, status: &Status) {
        self.slots[slot][row] = FeatureValue { value: value.clone(), status: status.clone() };
    }
}

/// Rows whose read values are columns from the beginning. They stand in the order in which they are written, and are put into that
/// of the rows at the end: a column after the other fits into the processor's cache, all of them do not.
pub(crate) struct ColumnRows {
    planned: Arc<Planned>,
    given: Rows,
    /// Where each row stands in the columns.
    places: Vec<u32>,
    /// By slot; none where nothing is read.
    columns: Vec<Option<Column>>,
}

impl ColumnRows {
    pub fn new(planned: Arc<Planned>, given: Rows) -> ColumnRows {
        let columns = planned.slots.iter().map(|_| None).collect();
        ColumnRows { planned, given, places: Vec::new(), columns }
    }

    /// The features that were asked for, with their statuses where wanted.
    pub fn finish(mut self, statuses: bool) -> Result<Vec<Finished>> {
        let mut made: Vec<Option<Finished>> = vec![None; self.columns.len()];
        let wanted: Vec<usize> = self.planned.wanted.iter().map(|(_, slot)| *slot).collect();
        for &slot in &wanted {
            if made[slot].is_none() {
                made[slot] = Some(self.finish_slot(slot, statuses)?);
            }
        }
        Ok(wanted.iter().filter_map(|slot| made[*slot].clone()).collect())
    }

    fn finish_slot(&mut self, slot: usize, statuses: bool) -> Result<Finished> {
        let data_type = &self.planned.slots[slot].data_type;
        let Some(column) = self.columns[slot].take() else {
            return Finished::of(&self.given.slots[slot], data_type, statuses);
        };
        let statuses = statuses.then(|| column.statuses(&self.places));
        Ok(Finished { values: column.array(data_type, &self.places)?, statuses, counts: column.counts() })
    }
}

/// A feature's column of a chunk.
#[derive(Clone)]
pub(crate) struct Finished {
    pub values: ArrayRef,
    /// Where wanted.
    pub statuses: Option<ArrayRef>,
    pub counts: Counts,
}

impl Finished {
    pub fn of(values: &[FeatureValue], data_type: &DataType, statuses: bool) -> Result<Finished> {
        let statuses = statuses.then(|| status_array(values));
        let counts = Counts::of(values);
        Ok(Finished { values: to_array(values.iter().map(|feature| &feature.value), data_type)?, statuses, counts })
    }
}

impl Cells for ColumnRows {
    fn rows(&self) -> &Rows {
        &self.given
    }
    fn expect(&mut self, rows: impl Iterator<Item = usize>) {
        self.places = vec![UNPLACED; self.given.len()];
        let mut next = 0;
        for row in rows {
            self.places[row] = next;
            next += 1;
        }
        for place in self.places.iter_mut().filter(|place| **place == UNPLACED) {
            *place = next;
            next += 1;
        }
    }
    fn fill(&mut self, slot: usize, value: &FeatureValue) {
        let data_type = &self.planned.slots[slot].data_type;
        self.columns[slot] = Some(Column::filled(data_type, value, self.given.len()));
    }
    #[inline]
    fn set(&mut self, slot: usize, row: usize, value: &Value, status: &Status) {
        if let Some(column) = &mut self.columns[slot] {
            column.set(self.places[row] as usize, value, status);
            if let Status::Error(reason) = status {
                column.note_error(row, reason);
            }
        }
    }
    #[inline]
    fn set_number(&mut self, slot: usize, row: usize, number: Number) -> bool {
        let place = self.places[row] as usize;
        self.columns[slot].as_mut().is_some_and(|column| column.set_number(place, number))
    }
}

/// No row stands here.
const UNPLACED: u32 = u32::MAX;

/// One column being written.
struct Column {
    cells: Typed,
    /// By place: [`VALID`], and one of [`DEFAULT`] and [`ERROR`] where it is not `OK`.
    marks: Vec<u8>,
    /// The type of a value that does not belong here.
    wrong: Option<&'static str>,
    /// The first row with an ERROR, and why.
    first_error: Option<(usize, Arc<str>)>,
}

const VALID: u8 = 1;
const DEFAULT: u8 = 2;
const ERROR: u8 = 4;

enum Typed {
    Bools(Vec<bool>),
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Times(Vec<i64>),
    Values(Vec<Value>),
}

/// About what a cell costs while its column is written and made. How long texts and lists are is not known before.
pub(crate) fn cell_bytes(data_type: &DataType) -> usize {
    let mark = size_of::<u8>();
    match data_type {
        DataType::Bool => mark + size_of::<bool>(),
        DataType::Int | DataType::Float | DataType::Time => mark + size_of::<i64>(),
        other => mark + size_of::<Value>() + column_bytes(other),
    }
}

impl Column {
    fn filled(data_type: &DataType, value: &FeatureValue, rows: usize) -> Column {
        // What a null cell holds is not looked at.
        let cells = match (data_type, &value.value) {
            (DataType::Bool, Value::Bool(flag)) => Typed::Bools(vec![*flag; rows]),
            (DataType::Int, Value::Int(number)) => Typed::Ints(vec![*number; rows]),
            (DataType::Float, Value::Float(number)) => Typed::Floats(vec![*number; rows]),
            (DataType::Time, Value::Time(micros)) => Typed::Times(vec![*micros; rows]),
            (DataType::Bool, _) => Typed::Bools(vec![false; rows]),
            (DataType::Int, _) => Typed::Ints(vec![0; rows]),
            (DataType::Float, _) => Typed::Floats(vec![0.0; rows]),
            (DataType::Time, _) => Typed::Times(vec![0; rows]),
            (_, value) => Typed::Values(vec![value.clone(); rows]),
        };
        Column { cells, marks: vec![mark(&value.value, &value.status); rows], wrong: None, first_error: None }
    }

    #[cold]
    fn note_error(&mut self, row: usize, reason: &Arc<str>) {
        if self.first_error.as_ref().is_none_or(|(first, _)| row < *first) {
            self.first_error = Some((row, reason.clone()));
        }
    }

    #[inline]
    fn set(&mut self, row: usize, value: &Value, status: &Status) {
        self.marks[row] = mark(value, status);
        match (&mut self.cells, value) {
            (Typed::Floats(cells), Value::Float(number)) => cells[row] = *number,
            (Typed::Ints(cells), Value::Int(number)) => cells[row] = *number,
            (Typed::Times(cells), Value::Time(micros)) => cells[row] = *micros,
            (Typed::Bools(cells), Value::Bool(flag)) => cells[row] = *flag,
            (Typed::Values(cells), value) => cells[row] = value.clone(),
            (_, Value::Null) => {}
            (_, other) => self.wrong = Some(other.type_name()),
        }
    }

    #[inline]
    fn set_number(&mut self, row: usize, number: Number) -> bool {
        match (&mut self.cells, number) {
            (Typed::Floats(cells), Number::Float(number)) => cells[row] = number,
            (Typed::Ints(cells), Number::Int(number)) => cells[row] = number,
            _ => return false,
        }
        self.marks[row] = VALID;
        true
    }

    fn counts(&self) -> Counts {
        let marked = |wanted: u8| self.marks.iter().filter(|mark| **mark & wanted != 0).count() as u64;
        Counts {
            nulls: self.marks.len() as u64 - marked(VALID),
            defaults: marked(DEFAULT),
            errors: marked(ERROR),
            first_error: self.first_error.as_ref().map(|(_, reason)| reason.clone()),
        }
    }

    fn statuses(&self, places: &[u32]) -> ArrayRef {
        let name = |place: &u32| match self.marks[*place as usize] {
            mark if mark & ERROR != 0 => "ERROR",
            mark if mark & DEFAULT != 0 => "DEFAULT",
            _ => "OK",
        };
        Arc::new(places.iter().map(|place| Some(name(place))).collect::<StringArray>())
    }

    /// The cells at these places.
    fn array(&self, data_type: &DataType, places: &[u32]) -> Result<ArrayRef> {
        if let Some(wrong) = self.wrong {
            return Err(Error::internal(format!("a {wrong} in a column of {data_type}")));
        }
        let valid = BooleanBuffer::collect_bool(places.len(), |row| self.marks[places[row] as usize] & VALID != 0);
        let nulls = Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0);
        Ok(match &self.cells {
            Typed::Bools(cells) => Arc::new(BooleanArray::new(at(cells, places).collect(), nulls)),
            Typed::Ints(cells) => Arc::new(Int64Array::new(at(cells, places).collect(), nulls)),
            Typed::Floats(cells) => Arc::new(Float64Array::new(at(cells, places).collect(), nulls)),
            Typed::Times(cells) => {
                let times = TimestampMicrosecondArray::new(at(cells, places).collect(), nulls);
                Arc::new(times.with_timezone(UTC))
            }
            Typed::Values(cells) => to_array(places.iter().map(|place| &cells[*place as usize]), data_type)?,
        })
    }
}

fn at<T: Copy>(cells: &[T], places: &[u32]) -> impl Iterator<Item = T> {
    places.iter().map(|place| cells[*place as usize])
}

#[inline]
fn mark(value: &Value, status: &Status) -> u8 {
    let status = match status {
        Status::Ok => 0,
        Status::Default => DEFAULT,
        Status::Error(_) => ERROR,
    };
    if value.is_null() { status } else { status | VALID }
}

/// `OK`, `DEFAULT` or `ERROR` per row.
pub(crate) fn status_array<'a>(values: impl IntoIterator<Item = &'a FeatureValue>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| Some(value.status.name())).collect::<StringArray>())
}
