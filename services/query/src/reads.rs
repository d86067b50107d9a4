//! Native reads: the windows and newest rows of a question, each key's rows read once, whatever the number of times asked. Many
//! rows are read in steps, so that others have their turn between them ([`crate::turns`]).

use crate::answer::{FeatureValue, Status};
use crate::cells::Cells;
use crate::keyed::{Group, Keyed, KeyedRows};
use crate::plan::{Planned, ReadTable, ReadWhat};
use crate::summary::ReadCounts;
use crate::view::{Touched, View};
use std::borrow::Cow;
use std::sync::Arc;
use thyme_core::aggregate::{Number, Outcome, ReadPlan, Shown, WindowData, WindowRead};
use thyme_core::definition::CompiledPipeline;
use thyme_core::error::Result;
use thyme_core::time::Micros;
use thyme_core::value::Value;
use thyme_state::{Snapshot, Sweeper, Visible, Way};

/// About so many rows are read in one turn.
const TURN_ROWS: usize = 8_192;
/// From so many rows on, keys are mostly near each other in the state.
const MANY_ROWS: usize = 1_024;
const NULL_TIMESTAMP: &str = "the timestamp is null";

/// What becomes of a T that a dataset's `history=` does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooEarly {
    /// The whole question has one T: it is refused.
    Refuse,
    /// Every row has its own: what the row would read is ERROR.
    Mark,
}

/// What was found while the rows were read.
pub(crate) struct Found {
    /// The partitions that were read.
    pub touched: Touched,
    /// By row: whether its key is known to a table at its T.
    pub hits: Vec<bool>,
    /// What is in slices that the view does not read.
    pub missing: Vec<Missing>,
    /// Of a part: the reads that read anything.
    pub reads: Option<Vec<usize>>,
    /// Of a chunk of an export: by read, what was done.
    pub done: Vec<ReadCounts>,
}

/// Rows of one key that a read could not read, as they are in a slice that is not here.
pub(crate) struct Missing {
    pub read: usize,
    pub slice: u16,
    pub rows: Vec<u32>,
}

impl Found {
    pub fn new(rows: usize) -> Found {
        let (touched, hits) = (Touched::default(), vec![false; rows]);
        Found { touched, hits, missing: Vec::new(), reads: None, done: Vec::new() }
    }

    pub fn of_part(rows: usize) -> Found {
        Found { reads: Some(Vec::new()), ..Found::new(rows) }
    }

    /// How many rows have a known key.
    pub fn known(&self) -> u64 {
        self.hits.iter().filter(|hit| **hit).count() as u64
    }

    pub fn of_chunk(rows: usize, planned: &Planned) -> Found {
        let of_read = ReadCounts { chunks: 1, ..ReadCounts::default() };
        Found { done: vec![of_read; planned.reads.len()], ..Found::new(rows) }
    }
}

/// All native reads of some rows that can be done in a view, and how far they are.
pub(crate) struct Reading<C> {
    pub view: Arc<View>,
    pub planned: Arc<Planned>,
    pub cells: C,
    pub found: Found,
    too_early: TooEarly,
    /// The rows by each key, with the first read that has it.
    keyed: Vec<(usize, KeyedRows)>,
    /// The read under way, and how many of its rows are done.
    index: usize,
    done: usize,
}

impl<C: Cells> Reading<C> {
    pub fn new(view: Arc<View>, planned: Arc<Planned>, cells: C, mut found: Found, too_early: TooEarly) -> Reading<C> {
        for source in &planned.looked_up {
            found.touched.all(source);
        }
        Reading { view, planned, cells, found, too_early, keyed: Vec::new(), index: 0, done: 0 }
    }

    /// Reads what can be read in one turn.
    pub fn turn(&mut self) -> Result<bool> {
        self.step(TURN_ROWS)
    }

    /// Reads on, until about so many rows more are read. False: there is nothing more.
    pub fn step(&mut self, mut rows: usize) -> Result<bool> {
        let planned = self.planned.clone();
        while let Some(read) = planned.reads.get(self.index) {
            if rows == 0 {
                return Ok(true);
            }
            let at = self.keyed_by(&planned, read);
            let Reading { view, cells, found, too_early, keyed, index, done, .. } = self;
            let keyed = &keyed[at].1;
            if *done == 0 {
                fill_unread(&planned, read, cells);
            }
            let mut reader = Reader { view, planned: &planned, read, index: *index, found, too_early: *too_early };
            let read = reader.read_groups(keyed, *done, rows, cells)?;
            rows = rows.saturating_sub(read);
            *done += read;
            if *done == keyed.len() {
                (*index, *done) = (*index + 1, 0);
            }
        }
        Ok(false)
    }

    /// The place of the rows by a read's key.
    fn keyed_by(&mut self, planned: &Planned, read: &ReadTable) -> usize {
        let known = self.keyed.iter().position(|(first, _)| planned.reads[*first].key == read.key);
        known.unwrap_or_else(|| {
            let by_key = KeyedRows::new(self.cells.rows(), &read.key);
            if self.keyed.is_empty() {
                self.cells.expect(by_key.order());
            }
            self.keyed.push((self.index, by_key));
            self.keyed.len() - 1
        })
    }
}

/// Values of rows that are not read: a null key is an unknown key, a null time an error. Overwritten where rows are read.
fn fill_unread(planned: &Planned, read: &ReadTable, cells: &mut impl Cells) {
    let times = cells.rows().times.iter();
    let timeless: Vec<usize> = times.enumerate().filter(|(_, time)| time.is_none()).map(|(row, _)| row).collect();
    let reason: Arc<str> = NULL_TIMESTAMP.into();
    let mut fill = |slot: usize, unknown: FeatureValue| {
        cells.fill(slot, &unknown);
        timeless.iter().for_each(|row| cells.set(slot, *row, &Value::Null, &Status::Error(reason.clone())));
    };
    match &read.what {
        ReadWhat::Windows { pipeline, plan, slots } => {
            for (output, &slot) in plan.outputs.iter().zip(slots) {
                let output = &pipeline.plan.outputs[output.output];
                let slot_plan = &planned.slots[slot];
                let empty = slot_plan.default.as_ref().or(output.default.as_ref()).unwrap_or(&output.empty);
                fill(slot, FeatureValue::default_of(empty.clone().widened(&slot_plan.data_type)));
            }
        }
        ReadWhat::Newest { columns, .. } => {
            for &(_, slot) in columns {
                let default = planned.slots[slot].default.clone().unwrap_or(Value::Null);
                fill(slot, FeatureValue::default_of(default));
            }
        }
    }
}

/// [`ReadWhat`], with the windows as this question reads them.
enum What<'a> {
    Windows(WindowsRead<'a>),
    Newest(&'a [(usize, usize)]),
}

/// How the rows of a key were read, and how many times they ask of.
struct OfTimes {
    way: Way,
    times: usize,
}

/// Where the rows of a key are, and which of them the question may see.
struct OfKey<'a> {
    state: &'a Snapshot,
    key: &'a [u8],
    visible: Visible,
}

struct WindowsRead<'a> {
    pipeline: &'a CompiledPipeline,
    plan: &'a ReadPlan,
    slots: &'a [usize],
    reads: Cow<'a, [WindowRead]>,
    /// Of many rows, a key is swept also at a single time: that finds it where the one before was.
    are_of_many: bool,
}

/// Reads one table.
struct Reader<'a> {
    view: &'a View,
    planned: &'a Planned,
    read: &'a ReadTable,
    /// Its place among the plan's reads.
    index: usize,
    found: &'a mut Found,
    too_early: TooEarly,
}

impl Reader<'_> {
    /// Reads whole keys from a row on, until about `most` rows are read; how many were.
    fn read_groups(&mut self, keyed: &KeyedRows, from: usize, most: usize, cells: &mut impl Cells) -> Result<usize> {
        let source = &self.read.source;
        let what = match &self.read.what {
            ReadWhat::Windows { pipeline, plan, slots } => {
                let (reads, are_of_many) = (self.view.windows(&plan.windows), keyed.len() >= MANY_ROWS);
                What::Windows(WindowsRead { pipeline, plan, slots, reads, are_of_many })
            }
            ReadWhat::Newest { columns, .. } => What::Newest(columns),
        };
        let table = &source.served.table;
        let reads: &[WindowRead] = match &what {
            What::Windows(windows) => &windows.reads,
            What::Newest(_) => &[],
        };
        let mut sweeper = Sweeper::new(table, reads)?;
        let mut done = 0;
        for group in keyed.groups(from, source.partitions) {
            if done >= most {
                break;
            }
            done += group.rows.len();
            if let Some(slice) = self.view.elsewhere(source, group.partition) {
                let rows = group.rows.iter().map(|keyed| keyed.row).collect();
                self.found.missing.push(Missing { read: self.index, slice, rows });
                continue;
            }
            if let Some(reads) = self.found.reads.as_mut().filter(|reads| reads.last() != Some(&self.index)) {
                reads.push(self.index);
            }
            self.found.touched.partition(source, group.partition);
            let visible = self.view.visible(source, group.partition)?;
            let kept = self.within_history(&group, cells)?;
            let of_key = OfKey { state: self.view.state(source, group.partition)?, key: group.key, visible };
            let rows_before = of_key.state.rows_read();
            let read = match &what {
                What::Windows(windows) => self.read_windows(&of_key, kept, windows, &mut sweeper, cells)?,
                What::Newest(columns) => self.read_newest(&of_key, kept, columns, cells)?,
            };
            if let Some(done) = self.found.done.get_mut(self.index) {
                done.add_key(read.way, kept.len(), read.times, of_key.state.rows_read() - rows_before);
            }
        }
        Ok(done)
    }

    /// The rows of a group that are not before the horizon; those that are get their ERROR.
    fn within_history<'g>(&self, group: &Group<'g>, cells: &mut impl Cells) -> Result<&'g [Keyed]> {
        let Some(horizon) = self.view.horizon(&self.read.source, group.partition)? else { return Ok(group.rows) };
        let (early, kept) = group.rows.split_at(group.rows.partition_point(|row| row.time < horizon.earliest));
        if let (Some(first), TooEarly::Refuse) = (early.first(), self.too_early) {
            horizon.check(first.time)?;
        }
        if let Some(first) = kept.first() {
            self.view.check_kept(&horizon, first.time)?;
        }
        for early in early {
            let status = Status::Error(horizon.reason(early.time).into());
            let mut set = |slot: usize| cells.set(slot, early.row as usize, &Value::Null, &status);
            match &self.read.what {
                ReadWhat::Windows { slots, .. } => slots.iter().for_each(|slot| set(*slot)),
                ReadWhat::Newest { columns, .. } => columns.iter().for_each(|(_, slot)| set(*slot)),
            }
        }
        Ok(kept)
    }

    fn read_newest(
        &mut self,
        of_key: &OfKey<'_>,
        kept: &[Keyed],
        columns: &[(usize, usize)],
        cells: &mut impl Cells,
    ) -> Result<OfTimes> {
        let mut times = 0;
        for same_time in kept.chunk_by(|a, b| a.time == b.time) {
            times += 1;
            let Some(until) = self.view.read_time(same_time[0].time) else { continue };
            let OfKey { state, key, visible } = of_key;
            let newest = state.newest(&self.read.source.served.table, key, until, visible)?;
            let Some(event) = newest else { continue };
            for &(column, slot) in columns {
                let value = event.values.get(column).unwrap_or(&Value::Null);
                self.put(cells, slot, same_time, value, &Status::Ok);
            }
            self.hit(same_time);
        }
        Ok(OfTimes { way: Way::Sought, times })
    }

    fn hit(&mut self, rows: &[Keyed]) {
        rows.iter().for_each(|at| self.found.hits[at.row as usize] = true);
    }

    fn read_windows<'r>(
        &mut self,
        of_key: &OfKey<'r>,
        kept: &[Keyed],
        windows: &WindowsRead<'_>,
        sweeper: &mut Sweeper<'r>,
        cells: &mut impl Cells,
    ) -> Result<OfTimes> {
        let OfKey { state, key, visible } = of_key;
        let view = self.view;
        // At the first instant of all there is nothing before it to read.
        let is_before_all = |at: &&Keyed| view.read_time(at.time).is_none();
        let kept = &kept[kept.iter().take_while(is_before_all).count()..];
        let spans: Vec<&[Keyed]> = kept.chunk_by(|a, b| a.time == b.time).collect();
        let mut without_value: Vec<&[Keyed]> = Vec::new();
        let mut write = |span: usize, data: &[WindowData]| {
            let span = spans[span];
            if self.write(span, data, windows, cells) {
                self.hit(span);
            } else {
                without_value.push(span);
            }
        };
        let until = |span: &&[Keyed]| view.read_time(span[0].time);
        let way = match spans.as_slice() {
            [] => Way::Sought,
            [only] if !windows.are_of_many => {
                let at = until(only).unwrap_or(only[0].time);
                write(0, sweeper.read(state, key, at, visible)?);
                Way::Sought
            }
            many => {
                let times: Vec<Micros> = many.iter().filter_map(until).collect();
                sweeper.sweep(state, key, &times, visible, &mut |index, data| {
                    write(index, data);
                    Ok(())
                })?
            }
        };
        if !without_value.is_empty() {
            let oldest = state.oldest_time(&self.read.source.served.table, key, visible)?;
            let is_known = |span: &&&[Keyed]| oldest.zip(until(span)).is_some_and(|(oldest, until)| oldest <= until);
            without_value.iter().filter(is_known).for_each(|span| self.hit(span));
        }
        Ok(OfTimes { way, times: spans.len() })
    }

    /// Writes what the windows hold at one time; whether there is anything in any of them.
    fn write(&self, span: &[Keyed], data: &[WindowData], windows: &WindowsRead<'_>, cells: &mut impl Cells) -> bool {
        let WindowsRead { pipeline, plan, slots, .. } = windows;
        let mut any_value = false;
        plan.show(&pipeline.plan, span[0].time, data, |place, shown| {
            let slot = slots[place];
            let outcome = match shown {
                Shown::Number(number) => {
                    any_value = true;
                    return self.put_number(cells, slot, span, number);
                }
                Shown::Other(outcome) => outcome,
            };
            any_value |= !matches!(outcome, Outcome::Empty(_));
            let output = &pipeline.plan.outputs[plan.outputs[place].output];
            let default = self.planned.slots[slot].default.as_ref();
            let (value, status) = settled(outcome, default, output.default.as_ref());
            self.put(cells, slot, span, value, &status);
        });
        any_value
    }

    #[inline]
    fn put_number(&self, cells: &mut impl Cells, slot: usize, rows: &[Keyed], number: Number) {
        for at in rows {
            if !cells.set_number(slot, at.row as usize, number) {
                self.put(cells, slot, std::slice::from_ref(at), &number.into(), &Status::Ok);
            }
        }
    }

    /// The same in all these rows, as the slot has it.
    #[inline]
    fn put(&self, cells: &mut impl Cells, slot: usize, rows: &[Keyed], value: &Value, status: &Status) {
        let widened = value.widening(&self.planned.slots[slot].data_type);
        let value = widened.as_ref().unwrap_or(value);
        rows.iter().for_each(|at| cells.set(slot, at.row as usize, value, status));
    }
}

/// A default replaces the value of an empty window only: the feature's before the aggregate's.
#[inline]
pub(crate) fn settled<'a>(
    outcome: &'a Outcome,
    feature_default: Option<&'a Value>,
    aggregate_default: Option<&'a Value>,
) -> (&'a Value, Status) {
    match outcome {
        Outcome::Value(value) => (value, Status::Ok),
        Outcome::Empty(empty) => (feature_default.or(aggregate_default).unwrap_or(empty), Status::Default),
        Outcome::Error(reason) => (&Value::Null, Status::Error(reason.as_str().into())),
    }
}
