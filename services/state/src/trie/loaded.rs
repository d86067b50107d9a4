//! The events of one key that lie in a stretch of time, column by column, for windows at many times of it.

use super::leaf::LeafCursor;
use super::page::EntryHead;
use super::walk::{Step, Visitor};
use crate::model::{Table, Visible};
use std::ops::Range;
use thyme_core::aggregate::{Partial, PartialSpec, WindowRead};
use thyme_core::position::Position;
use thyme_core::schema::DataType;
use thyme_core::{Result, Value};

/// The values of one column of the table, by event.
pub enum Column {
    /// Nobody looks at them.
    Unread,
    /// NaN where there is none: it is no value.
    Floats(Vec<f64>),
    Values(Vec<Value>),
}

impl Column {
    fn of(data_type: &DataType, events: usize) -> Column {
        match data_type {
            DataType::Float => Column::Floats(Vec::with_capacity(events)),
            _ => Column::Values(Vec::with_capacity(events)),
        }
    }

    fn reverse_from(&mut self, first: usize) {
        match self {
            Column::Unread => {}
            Column::Floats(numbers) => numbers[first..].reverse(),
            Column::Values(values) => values[first..].reverse(),
        }
    }
}

/// The seen events of `[from, to]`, ascending.
pub struct Loaded<'a> {
    visible: &'a Visible,
    from: i64,
    to: i64,
    pub times: Vec<i64>,
    pub origins: Vec<Position>,
    predicates: Vec<u64>,
    columns: Vec<Column>,
}

impl<'a> Loaded<'a> {
    /// None yet, about so many to come. Read are the columns that the windows ask for.
    pub fn new(
        table: &Table,
        windows: &[WindowRead],
        (from, to): (i64, i64),
        visible: &'a Visible,
        events: usize,
    ) -> Loaded<'a> {
        let layout = &table.layout;
        let mut columns: Vec<Column> = layout.columns.iter().map(|_| Column::Unread).collect();
        for read in windows {
            let of_partials = read.partials.iter().filter_map(|index| layout.partials[usize::from(*index)].column);
            for column in of_partials.chain(read.scans.iter().filter_map(|scan| scan.column)) {
                let column = usize::from(column);
                if matches!(columns[column], Column::Unread) {
                    columns[column] = Column::of(&layout.columns[column], events);
                }
            }
        }
        Loaded {
            visible,
            from,
            to,
            times: Vec::with_capacity(events),
            origins: Vec::with_capacity(events),
            predicates: Vec::with_capacity(events),
            columns,
        }
    }

    /// The numbers of a column of floats that is read.
    pub fn floats(&self, column: Option<u16>) -> Option<&[f64]> {
        match &self.columns[usize::from(column?)] {
            Column::Floats(numbers) => Some(numbers),
            Column::Unread | Column::Values(_) => None,
        }
    }

    /// Shows the value of an event; null without a column.
    #[inline]
    pub fn look<T>(&self, column: Option<u16>, event: usize, look: impl FnOnce(&Value) -> T) -> T {
        match column.map(|column| &self.columns[usize::from(column)]) {
            Some(Column::Floats(numbers)) => {
                let number = numbers[event];
                look(&if number.is_nan() { Value::Null } else { Value::Float(number) })
            }
            Some(Column::Values(values)) => look(&values[event]),
            Some(Column::Unread) | None => look(&Value::Null),
        }
    }

    /// Whether an event fulfils a predicate.
    #[inline]
    pub fn fulfils(&self, predicate: Option<u16>, event: usize) -> bool {
        predicate.is_none_or(|predicate| self.predicates[event] >> predicate & 1 != 0)
    }

    /// Adds an event to a partial, if it fulfils the partial's predicate.
    #[inline]
    pub fn add_to(&self, partial: &mut Partial, spec: &PartialSpec, event: usize) {
        if self.fulfils(spec.predicate, event) {
            self.look(spec.column, event, |value| partial.add(spec, self.times[event], value));
        }
    }

    pub fn sum(&self, spec: &PartialSpec, events: Range<usize>) -> Partial {
        let mut partial = Partial::empty(spec);
        events.for_each(|event| self.add_to(&mut partial, spec, event));
        partial
    }
}

impl Visitor for Loaded<'_> {
    fn entry(&mut self, _first: i64, _last: i64, _head: &EntryHead<'_>) -> Result<Step> {
        Ok(Step::Open)
    }

    fn leaf(&mut self, mut leaf: LeafCursor<'_>) -> Result<bool> {
        let first = self.times.len();
        while leaf.advance()? && leaf.time >= self.from {
            if leaf.time > self.to || !self.visible.sees(leaf.sequence, leaf.append_time) {
                leaf.skip()?;
                continue;
            }
            self.predicates.push(leaf.push(&mut self.columns)?);
            self.times.push(leaf.time);
            self.origins.push(leaf.origin);
        }
        // A leaf begins with its newest.
        self.times[first..].reverse();
        self.origins[first..].reverse();
        self.predicates[first..].reverse();
        self.columns.iter_mut().for_each(|column| column.reverse_from(first));
        Ok(true)
    }
}
