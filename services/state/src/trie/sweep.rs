//! Windows at many times of one key: its events are read once, and every window slides over them. Sums and counts are exact, so
//! taking out what leaves is as good as adding anew; extremes keep the candidates that no later value beats.

use super::body;
use super::coordinate::{origin_of, time_of};
use super::leaf::RawEvent;
use super::page::add_event;
use super::read;
use super::scan::{EventRun, scanned};
use super::walk::{Direction, Walker};
use crate::model::{Table, Visible};
use std::collections::VecDeque;
use thyme_core::aggregate::{Partial, PartialKind, PartialSpec, ScanItem, WindowData, WindowRead};
use thyme_core::position::Position;
use thyme_core::{Result, Value};

/// A single read costs about as much as reading and sliding over this many events.
const EVENTS_PER_READ: u64 = 64;

pub fn sweep(
    walker: &Walker<'_>,
    times: &[i64],
    windows: &[WindowRead],
    visible: &Visible,
    visit: &mut dyn FnMut(usize, &[WindowData]) -> Result<()>,
) -> Result<()> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(()) };
    read::check(&walker.table.layout, windows)?;
    let from = windows.iter().map(|read| read.window.start(*first)).min().unwrap_or(*first);
    let roots = walker.roots(from, *last)?;
    let mut total = 0;
    for root in &roots {
        total += root.events_within(from, *last)?;
    }
    if total > EVENTS_PER_READ * times.len() as u64 {
        for (index, at) in times.iter().enumerate() {
            visit(index, &read::read(walker, *at, windows, visible)?)?;
        }
        return Ok(());
    }
    let mut loaded = Loaded::new(walker.table, windows);
    let take = |event: &RawEvent<'_>| loaded.push(walker.table, event).map(|()| true);
    let mut run = EventRun { direction: Direction::OldestFirst, from, to: *last, visible, take };
    walker.walk_roots(&roots, from, *last, &mut run)?;
    let mut sliding: Vec<SlidingWindow<'_>> =
        windows.iter().map(|read| SlidingWindow::new(walker.table, read)).collect();
    let mut data: Vec<WindowData> = windows.iter().map(|_| WindowData::default()).collect();
    for (index, at) in times.iter().enumerate() {
        for (window, found) in sliding.iter_mut().zip(&mut data) {
            window.slide(&loaded, *at);
            window.write(&loaded, found);
        }
        visit(index, &data)?;
    }
    Ok(())
}

/// The events of the key, ascending; the values of the columns that are asked for, row by row.
struct Loaded {
    times: Vec<i64>,
    origins: Vec<Position>,
    predicates: Vec<u64>,
    values: Vec<Value>,
    columns: Vec<bool>,
    scratch: Vec<Value>,
}

impl Loaded {
    fn new(table: &Table, windows: &[WindowRead]) -> Loaded {
        let layout = &table.layout;
        let mut columns = vec![false; layout.columns.len()];
        for read in windows {
            let of_partials = read.partials.iter().filter_map(|index| layout.partials[usize::from(*index)].column);
            for column in of_partials.chain(read.scans.iter().filter_map(|scan| scan.column)) {
                columns[usize::from(column)] = true;
            }
        }
        let scratch = vec![Value::Null; columns.len()];
        Loaded { times: Vec::new(), origins: Vec::new(), predicates: Vec::new(), values: Vec::new(), columns, scratch }
    }

    fn push(&mut self, table: &Table, event: &RawEvent<'_>) -> Result<()> {
        let time = time_of(event.coordinate);
        let predicates = body::decode(&table.layout, time, &mut &*event.body, &self.columns, &mut self.scratch)?;
        self.times.push(time);
        self.origins.push(origin_of(event.coordinate));
        self.predicates.push(predicates);
        self.values.extend(self.scratch.iter_mut().map(std::mem::take));
        Ok(())
    }

    #[inline]
    fn row(&self, index: usize) -> &[Value] {
        let columns = self.columns.len();
        &self.values[index * columns..(index + 1) * columns]
    }
}

/// One partial of a sliding window.
struct SlidingPartial<'a> {
    spec: &'a PartialSpec,
    total: Partial,
    /// For Min and Max: the events, ascending, that no later one beats; the front one is the extreme.
    candidates: VecDeque<usize>,
}

impl SlidingPartial<'_> {
    fn takes(&self, loaded: &Loaded, index: usize) -> bool {
        self.spec.predicate.is_none_or(|predicate| loaded.predicates[index] >> predicate & 1 != 0)
    }

    fn value<'v>(&self, loaded: &'v Loaded, index: usize) -> &'v Value {
        self.spec.column.map_or(&Value::Null, |column| &loaded.row(index)[usize::from(column)])
    }

    fn enter(&mut self, loaded: &Loaded, index: usize) {
        if Partial::invertible(self.spec) {
            add_event(&mut self.total, self.spec, loaded.row(index), loaded.predicates[index]);
            return;
        }
        let value = self.value(loaded, index);
        if value.is_null() || !self.takes(loaded, index) {
            return;
        }
        while let Some(last) = self.candidates.back() {
            let before = self.value(loaded, *last);
            let is_beaten = if self.spec.kind == PartialKind::Min { value <= before } else { value >= before };
            if !is_beaten {
                break;
            }
            self.candidates.pop_back();
        }
        self.candidates.push_back(index);
    }

    fn leave(&mut self, loaded: &Loaded, index: usize) {
        if Partial::invertible(self.spec) {
            if self.takes(loaded, index) {
                let mut one = Partial::empty(self.spec);
                one.add(self.spec, self.value(loaded, index));
                self.total.subtract(self.spec, &one);
            }
        } else if self.candidates.front() == Some(&index) {
            self.candidates.pop_front();
        }
    }

    fn clear(&mut self) {
        self.total = Partial::empty(self.spec);
        self.candidates.clear();
    }

    fn result(&self, loaded: &Loaded) -> Partial {
        if Partial::invertible(self.spec) {
            return self.total.clone();
        }
        let mut extreme = Partial::empty(self.spec);
        if let Some(front) = self.candidates.front() {
            extreme.add(self.spec, self.value(loaded, *front));
        }
        extreme
    }
}

/// One window, at the time it was last slid to: it holds the events `begin..end`.
struct SlidingWindow<'a> {
    read: &'a WindowRead,
    partials: Vec<SlidingPartial<'a>>,
    begin: usize,
    end: usize,
}

impl<'a> SlidingWindow<'a> {
    fn new(table: &'a Table, read: &'a WindowRead) -> SlidingWindow<'a> {
        let partials = read
            .partials
            .iter()
            .map(|index| &table.layout.partials[usize::from(*index)])
            .map(|spec| SlidingPartial { spec, total: Partial::empty(spec), candidates: VecDeque::new() })
            .collect();
        SlidingWindow { read, partials, begin: 0, end: 0 }
    }

    fn slide(&mut self, loaded: &Loaded, at: i64) {
        let start = self.read.window.start(at);
        let end = self.end + loaded.times[self.end..].partition_point(|time| *time <= at);
        let begin = self.begin + loaded.times[self.begin..end].partition_point(|time| *time < start);
        let left = begin.min(self.end) - self.begin;
        let stayed = self.end - self.begin - left;
        let is_rebuilt = left > stayed;
        for partial in &mut self.partials {
            let entering = if is_rebuilt {
                partial.clear();
                begin..end
            } else {
                for index in self.begin..self.begin + left {
                    partial.leave(loaded, index);
                }
                begin.max(self.end)..end
            };
            for index in entering {
                partial.enter(loaded, index);
            }
        }
        (self.begin, self.end) = (begin, end);
    }

    fn write(&self, loaded: &Loaded, data: &mut WindowData) {
        data.partials.clear();
        data.partials.extend(self.partials.iter().map(|partial| partial.result(loaded)));
        data.scans.clear();
        for scan in &self.read.scans {
            let limit = scan.limit.map_or(usize::MAX, |limit| limit as usize);
            let item = |index: usize| {
                let value = scanned(scan, loaded.row(index), loaded.predicates[index])?.clone();
                Some(ScanItem { time: loaded.times[index], origin: loaded.origins[index], value })
            };
            let indices = self.begin..self.end;
            data.scans.push(if scan.newest_first {
                indices.rev().filter_map(item).take(limit).collect()
            } else {
                indices.filter_map(item).take(limit).collect()
            });
        }
    }
}
