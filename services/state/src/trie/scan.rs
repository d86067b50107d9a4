//! Events one by one: the scans of all windows that go the same way, in one walk; and whole events.

use super::body;
use super::coordinate::{origin_of, time_of};
use super::leaf::{LeafCursor, RawEvent};
use super::page::EntryHead;
use super::walk::{Direction, Step, Visitor};
use crate::model::{Event, Table, Visible};
use thyme_core::aggregate::{Partial, PartialKind, PartialSpec, Scan, ScanItem, TableLayout, WindowData, WindowRead};
use thyme_core::position::Position;
use thyme_core::{Result, Value};

/// Whether a scan takes an event, and with which value.
#[inline]
pub fn scanned<'v>(scan: &Scan, values: &'v [Value], predicates: u64) -> Option<&'v Value> {
    if scan.predicate.is_some_and(|predicate| predicates >> predicate & 1 == 0) {
        return None;
    }
    let value = scan.column.map_or(&Value::Null, |column| &values[usize::from(column)]);
    (!(scan.skip_null && value.is_null())).then_some(value)
}

/// The partial that counts what a scan may take: where it is zero, the scan has nothing to look for.
fn counting_partial(layout: &TableLayout, scan: &Scan) -> Option<usize> {
    let find = |column: Option<u16>| {
        let wanted = PartialSpec { kind: PartialKind::Count, column, predicate: scan.predicate };
        layout.partials.iter().position(|spec| *spec == wanted)
    };
    let exact = if scan.skip_null { scan.column.and_then(|column| find(Some(column))) } else { None };
    exact.or_else(|| scan.predicate.and_then(|_| find(None)))
}

struct OneScan {
    window: usize,
    scan: Scan,
    start: i64,
    remaining: u64,
    counted_by: Option<usize>,
    items: Vec<ScanItem>,
}

/// All scans of a question that go in one direction.
pub struct ScanRun<'a> {
    table: &'a Table,
    visible: &'a Visible,
    direction: Direction,
    at: i64,
    /// Start of the longest window.
    pub from: i64,
    scans: Vec<OneScan>,
    columns: Vec<bool>,
    values: Vec<Value>,
}

impl<'a> ScanRun<'a> {
    /// `None` if no scan goes that way.
    pub fn new(
        table: &'a Table,
        at: i64,
        windows: &[WindowRead],
        direction: Direction,
        visible: &'a Visible,
    ) -> Option<ScanRun<'a>> {
        let layout = &table.layout;
        let mut scans = Vec::new();
        let mut columns = vec![false; layout.columns.len()];
        for (window, read) in windows.iter().enumerate() {
            for scan in read.scans.iter().filter(|scan| scan.newest_first == (direction == Direction::NewestFirst)) {
                if let Some(column) = scan.column {
                    columns[usize::from(column)] = true;
                }
                scans.push(OneScan {
                    window,
                    scan: *scan,
                    start: read.window.start(at),
                    remaining: scan.limit.map_or(u64::MAX, u64::from),
                    counted_by: counting_partial(layout, scan),
                    items: Vec::new(),
                });
            }
        }
        let from = scans.iter().map(|one| one.start).min()?;
        let values = vec![Value::Null; layout.columns.len()];
        Some(ScanRun { table, visible, direction, at, from, scans, columns, values })
    }

    /// Appends the items of each scan to its window's lists, in the order the scans stand there.
    pub fn finish(self, data: &mut [WindowData]) {
        for one in self.scans {
            data[one.window].scans.push(one.items);
        }
    }

    /// Whether any scan may still take an event from `[.., last]` on, in the walk's direction.
    #[inline]
    fn is_open(&self, last: i64) -> bool {
        self.scans.iter().any(|one| one.remaining > 0 && last >= one.start)
    }

    fn take(&mut self, event: &RawEvent<'_>) -> Result<()> {
        let time = time_of(event.coordinate);
        if time > self.at || !self.visible.sees(event.sequence, event.append_time) || !self.is_open(time) {
            return Ok(());
        }
        let predicates = body::decode(&self.table.layout, time, &mut &*event.body, &self.columns, &mut self.values)?;
        for one in self.scans.iter_mut().filter(|one| one.remaining > 0 && time >= one.start) {
            if let Some(value) = scanned(&one.scan, &self.values, predicates) {
                one.remaining -= 1;
                one.items.push(ScanItem { time, origin: origin_of(event.coordinate), value: value.clone() });
            }
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.scans.iter().all(|one| one.remaining == 0)
    }
}

impl Visitor for ScanRun<'_> {
    fn entry(&mut self, _first: i64, last: i64, head: &EntryHead<'_>) -> Result<Step> {
        if self.is_finished() {
            return Ok(Step::Stop);
        }
        if !self.is_open(last) {
            return Ok(if self.direction == Direction::NewestFirst { Step::Stop } else { Step::Skip });
        }
        let open = self.scans.iter().filter(|one| one.remaining > 0 && last >= one.start);
        let Some(upto) = open.map(|one| one.counted_by.map(|index| index + 1)).collect::<Option<Vec<_>>>() else {
            return Ok(Step::Open);
        };
        let mut may_hold = false;
        let scans = &self.scans;
        head.partials(&self.table.layout, upto.into_iter().max().unwrap_or(0), |index, _, partial| {
            let is_asked =
                || scans.iter().any(|one| one.remaining > 0 && last >= one.start && one.counted_by == Some(index));
            may_hold |= !matches!(partial, Partial::Count(0)) && is_asked();
        })?;
        Ok(if may_hold { Step::Open } else { Step::Skip })
    }

    fn leaf(&mut self, leaf: LeafCursor<'_>) -> Result<bool> {
        each_event(leaf, self.direction, |event| {
            self.take(event)?;
            let is_past = self.direction == Direction::NewestFirst && time_of(event.coordinate) < self.from;
            Ok(!is_past && !self.is_finished())
        })
    }
}

/// Calls `visit` with the events of a leaf until it returns false.
fn each_event(
    mut leaf: LeafCursor<'_>,
    direction: Direction,
    mut visit: impl FnMut(&RawEvent<'_>) -> Result<bool>,
) -> Result<bool> {
    if direction == Direction::OldestFirst {
        let mut events = Vec::with_capacity(64);
        leaf.into_events(&mut events)?;
        for event in &events {
            if !visit(event)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    while leaf.advance()? {
        let (coordinate, body) = (leaf.coordinate()?, leaf.body()?);
        let (sequence, append_time) = (leaf.sequence, leaf.append_time);
        if !visit(&RawEvent { coordinate, sequence, append_time, body, incoming: None })? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Hands out the seen events of `[from, to]` one by one, until `take` returns false.
pub struct EventRun<'a, F> {
    pub direction: Direction,
    pub from: i64,
    pub to: i64,
    pub visible: &'a Visible,
    pub take: F,
}

impl<F: FnMut(&RawEvent<'_>) -> Result<bool>> Visitor for EventRun<'_, F> {
    fn entry(&mut self, _first: i64, _last: i64, _head: &EntryHead<'_>) -> Result<Step> {
        Ok(Step::Open)
    }

    fn leaf(&mut self, leaf: LeafCursor<'_>) -> Result<bool> {
        each_event(leaf, self.direction, |event| {
            let time = time_of(event.coordinate);
            if time < self.from || time > self.to || !self.visible.sees(event.sequence, event.append_time) {
                return Ok(true);
            }
            (self.take)(event)
        })
    }
}

/// Decodes all of an event.
pub fn whole_event(table: &Table, raw: &RawEvent<'_>) -> Result<Event> {
    let columns = table.layout.columns.len();
    let mut values = vec![Value::Null; columns];
    let time = time_of(raw.coordinate);
    let predicates = body::decode(&table.layout, time, &mut &*raw.body, &vec![true; columns], &mut values)?;
    let origin: Position = origin_of(raw.coordinate);
    Ok(Event { time, origin, sequence: raw.sequence, append_time: raw.append_time, values, predicates })
}
