//! The events of one key that lie in a stretch of time, column by column, for windows at many times of it.

use super::leaf::LeafCursor;
use super::page::EntryHead;
use super::plain::{Plain, Taken};
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
    fn of(data_type: &DataType) -> Column {
        match data_type {
            DataType::Float => Column::Floats(Vec::new()),
            _ => Column::Values(Vec::new()),
        }
    }

    /// As if nothing had been read, about so many values to come.
    fn clear(&mut self, events: usize) {
        match self {
            Column::Unread => {}
            Column::Floats(numbers) => clear(numbers, events),
            Column::Values(values) => clear(values, events),
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

/// Empty, with room for so many.
pub fn clear<T>(items: &mut Vec<T>, to_come: usize) {
    items.clear();
    // Not `reserve`, which would copy what was there.
    if items.capacity() < to_come {
        let room = to_come.max(2 * items.capacity());
        *items = Vec::new();
        items.reserve_exact(room);
    }
}

/// The seen events of `[from, to]`, ascending.
pub struct Loaded {
    visible: Visible,
    from: i64,
    to: i64,
    /// How events stand that may be taken without a look at their sequence and append time, if nobody asks for their origins.
    plain: Option<Plain>,
    /// Whether all events of the next leaf are seen.
    is_seen: bool,
    has_scans: bool,
    pub times: Vec<i64>,
    /// None if there are no scans.
    pub origins: Vec<Position>,
    /// None if nobody asks.
    predicates: Option<Vec<u64>>,
    columns: Vec<Column>,
}

impl Loaded {
    /// None yet. Read are the columns that the windows ask for.
    pub fn new(table: &Table, windows: &[WindowRead]) -> Loaded {
        let layout = &table.layout;
        let mut columns: Vec<Column> = layout.columns.iter().map(|_| Column::Unread).collect();
        for read in windows {
            let of_partials = read.partials.iter().filter_map(|index| layout.partials[usize::from(*index)].column);
            for column in of_partials.chain(read.scans.iter().filter_map(|scan| scan.column)) {
                let column = usize::from(column);
                if matches!(columns[column], Column::Unread) {
                    columns[column] = Column::of(&layout.columns[column]);
                }
            }
        }
        let scans = || windows.iter().flat_map(|read| &read.scans);
        let has_scans = scans().next().is_some();
        let asks = |partial: &u16| layout.partials[usize::from(*partial)].predicate.is_some();
        let has_predicates =
            scans().any(|scan| scan.predicate.is_some()) || windows.iter().any(|read| read.partials.iter().any(asks));
        Loaded {
            visible: Visible::ALL,
            from: 0,
            to: 0,
            plain: Plain::of(table).filter(|_| !has_scans),
            is_seen: false,
            has_scans,
            times: Vec::new(),
            origins: Vec::new(),
            predicates: has_predicates.then(Vec::new),
            columns,
        }
    }

    /// None, about so many to come of a stretch of time.
    pub fn begin(&mut self, (from, to): (i64, i64), visible: &Visible, events: usize) {
        (self.from, self.to, self.visible) = (from, to, *visible);
        clear(&mut self.times, events);
        clear(&mut self.origins, if self.has_scans { events } else { 0 });
        if let Some(predicates) = &mut self.predicates {
            clear(predicates, events);
        }
        self.columns.iter_mut().for_each(|column| column.clear(events));
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
        let is_set = |predicate: u16| self.predicates.as_ref().is_some_and(|all| all[event] >> predicate & 1 != 0);
        predicate.is_none_or(is_set)
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

impl Visitor for Loaded {
    fn entry(&mut self, _first: i64, _last: i64, head: &EntryHead<'_>) -> Result<Step> {
        self.is_seen = self.visible.sees(head.sequence, head.append_time);
        Ok(Step::Open)
    }

    fn leaf(&mut self, mut leaf: LeafCursor<'_>) -> Result<bool> {
        let first = self.times.len();
        let is_seen = std::mem::take(&mut self.is_seen) || self.visible == Visible::ALL;
        let mut plain = self.plain.as_mut().filter(|_| is_seen);
        while leaf.advance()? && leaf.time >= self.from {
            // Behind plain events, sequence and append time are not what they are.
            let is_seen = is_seen || self.visible.sees(leaf.sequence, leaf.append_time);
            if leaf.time > self.to || !is_seen {
                leaf.skip()?;
            } else {
                let predicates = leaf.push(&mut self.columns)?;
                if let Some(of_all) = &mut self.predicates {
                    of_all.push(predicates);
                }
                self.times.push(leaf.time);
                if self.has_scans {
                    self.origins.push(leaf.origin);
                }
            }
            if let Some(plain) = &mut plain {
                let columns = &mut self.columns;
                let mut taken = Taken { times: &mut self.times, predicates: self.predicates.as_mut(), columns };
                if !plain.take(&mut leaf, (self.from, self.to), &mut taken) {
                    break;
                }
            }
        }
        // A leaf begins with its newest.
        self.times[first..].reverse();
        self.columns.iter_mut().for_each(|column| column.reverse_from(first));
        if let Some(predicates) = &mut self.predicates {
            predicates[first..].reverse();
        }
        if self.has_scans {
            self.origins[first..].reverse();
        }
        Ok(true)
    }
}
