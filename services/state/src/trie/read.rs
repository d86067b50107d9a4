//! Windows at one time: partials from whole entries inside and events at the two edges, scans from either end.
//!
//! All windows of a question end at the same time, so they are nested: the time axis falls into *rings*, ring k being what window k
//! holds more than the next shorter one. An entry that lies in one ring is taken as a whole, once; a window is the merge of its
//! rings.

use super::digests::DigestRun;
use super::leaf::LeafCursor;
use super::page::{EntryHead, add_event};
use super::scan::ScanRun;
use super::walk::{Direction, Step, Visitor, Walker};
use crate::model::{Table, Visible};
use crate::snapshot::Snapshot;
use thyme_core::aggregate::{Partial, PartialKind, TableLayout, WindowData, WindowRead};
use thyme_core::{Error, Result, Value};

/// Refuses a question that does not fit the table: a defect in the planner.
pub fn check(layout: &TableLayout, windows: &[WindowRead]) -> Result<()> {
    let fits = windows.iter().all(|read| {
        read.partials.iter().all(|index| usize::from(*index) < layout.partials.len())
            && read.scans.iter().all(|scan| {
                scan.column.is_none_or(|column| usize::from(column) < layout.columns.len())
                    && scan.predicate.is_none_or(|predicate| predicate < layout.predicates)
            })
    });
    if fits { Ok(()) } else { Err(Error::internal("a question does not fit the layout of its table")) }
}

/// Reads the same windows of one key after the other: what does not depend on the key is worked out once for a time.
pub struct WindowReader<'a> {
    table: &'a Table,
    windows: &'a [WindowRead],
    rings: Option<RingPlan>,
    /// By ring and partial, of the key that is read.
    totals: Vec<Vec<Partial>>,
    values: Vec<Value>,
    data: Vec<WindowData>,
}

impl<'a> WindowReader<'a> {
    pub fn new(table: &'a Table, windows: &'a [WindowRead]) -> WindowReader<'a> {
        WindowReader { table, windows, rings: None, totals: Vec::new(), values: Vec::new(), data: Vec::new() }
    }

    /// The windows that end at a time, of a key of the table in a snapshot.
    pub fn read(&mut self, snapshot: &Snapshot, key: &[u8], at: i64, visible: &Visible) -> Result<&[WindowData]> {
        self.at(&Walker::new(snapshot, self.table, key)?, at, visible)
    }

    /// The same, of the key of a walker.
    pub fn at(&mut self, walker: &Walker<'_>, at: i64, visible: &Visible) -> Result<&[WindowData]> {
        self.walk(walker, at, visible)?;
        Ok(&self.data)
    }

    fn walk(&mut self, walker: &Walker<'_>, at: i64, visible: &Visible) -> Result<()> {
        let (table, windows) = (self.table, self.windows);
        let layout = &table.layout;
        check(layout, windows)?;
        self.clear();
        if self.rings.as_ref().is_none_or(|rings| rings.at != at) {
            self.rings = RingPlan::new(layout, at, windows);
        }
        if let Some(plan) = &self.rings {
            plan.clear(layout, &mut self.totals, &mut self.values);
            let mut rings = Rings { plan, table, visible, totals: &mut self.totals, values: &mut self.values };
            walker.walk(Direction::NewestFirst, plan.from, at, &mut rings)?;
            rings.finish(windows, &mut self.data);
        }
        if let Some(mut run) = DigestRun::new(table, at, windows, visible) {
            let from = run.from;
            walker.walk(Direction::NewestFirst, from, at, &mut run)?;
            run.finish(&mut self.data);
        }
        for direction in [Direction::NewestFirst, Direction::OldestFirst] {
            if let Some(mut run) = ScanRun::new(table, at, windows, direction, visible) {
                let from = run.from;
                walker.walk(direction, from, at, &mut run)?;
                run.finish(&mut self.data);
            }
        }
        place_scans(windows, &mut self.data);
        Ok(())
    }

    /// As if no key had been read.
    fn clear(&mut self) {
        self.data.resize_with(self.windows.len(), WindowData::default);
        for (read, found) in self.windows.iter().zip(&mut self.data) {
            let empty = |index: &u16| Partial::empty(&self.table.layout.partials[usize::from(*index)]);
            found.partials.clear();
            found.partials.extend(read.partials.iter().map(empty));
            found.scans.clear();
        }
    }
}

pub fn read(walker: &Walker<'_>, at: i64, windows: &[WindowRead], visible: &Visible) -> Result<Vec<WindowData>> {
    let mut reader = WindowReader::new(walker.table, windows);
    reader.walk(walker, at, visible)?;
    Ok(reader.data)
}

/// Scans of both directions were appended: each is put where its window lists it.
fn place_scans(windows: &[WindowRead], data: &mut [WindowData]) {
    for (read, found) in windows.iter().zip(data) {
        let mut newest = std::mem::take(&mut found.scans).into_iter();
        let newest_count = read.scans.iter().filter(|scan| scan.newest_first).count();
        let newest_lists: Vec<_> = newest.by_ref().take(newest_count).collect();
        let (mut newest_lists, mut oldest_lists) = (newest_lists.into_iter(), newest);
        for scan in &read.scans {
            let list = if scan.newest_first { newest_lists.next() } else { oldest_lists.next() };
            found.scans.push(list.unwrap_or_default());
        }
    }
}

/// Which rings the windows make that end at a time.
struct RingPlan {
    at: i64,
    /// Start of the longest window.
    from: i64,
    /// Starts of the windows that want partials, latest (shortest window) first, without repeats.
    starts: Vec<i64>,
    /// Which partials are wanted: those of a ring are wanted by its own window or a longer one.
    wanted: Vec<Vec<bool>>,
    /// One more than the greatest partial wanted, by ring.
    upto: Vec<usize>,
    /// Whether an entry may not know one of them.
    may_be_unknown: bool,
    columns: Vec<bool>,
}

/// The partials of all windows, but for digests, ring by ring.
struct Rings<'a> {
    plan: &'a RingPlan,
    table: &'a Table,
    visible: &'a Visible,
    totals: &'a mut [Vec<Partial>],
    values: &'a mut [Value],
}

impl RingPlan {
    /// `None` if there are none.
    fn new(layout: &TableLayout, at: i64, windows: &[WindowRead]) -> Option<RingPlan> {
        let merges = |index: &&u16| !layout.partials[usize::from(**index)].kind.is_digest();
        let mut starts: Vec<i64> = windows
            .iter()
            .filter(|read| read.partials.iter().any(|index| merges(&index)))
            .map(|read| read.window.start(at))
            .collect();
        starts.sort_unstable_by(|a, b| b.cmp(a));
        starts.dedup();
        let from = *starts.last()?;
        let mut wanted = vec![vec![false; layout.partials.len()]; starts.len()];
        for read in windows {
            let start = read.window.start(at);
            for (ring, flags) in wanted.iter_mut().enumerate().filter(|(ring, _)| starts[*ring] >= start) {
                debug_assert!(ring < starts.len());
                for index in read.partials.iter().filter(merges) {
                    flags[usize::from(*index)] = true;
                }
            }
        }
        let upto = wanted.iter().map(|flags| flags.iter().rposition(|flag| *flag).map_or(0, |last| last + 1)).collect();
        let mut columns = vec![false; layout.columns.len()];
        let mut may_be_unknown = false;
        for (index, spec) in layout.partials.iter().enumerate() {
            if !wanted[0][index] {
                continue;
            }
            may_be_unknown |= matches!(spec.kind, PartialKind::DecayedSum { .. });
            if let Some(column) = spec.column {
                columns[usize::from(column)] = true;
            }
        }
        Some(RingPlan { at, from, starts, wanted, upto, may_be_unknown, columns })
    }

    /// Totals of nothing, and room for an event's values.
    fn clear(&self, layout: &TableLayout, totals: &mut Vec<Vec<Partial>>, values: &mut Vec<Value>) {
        totals.resize_with(self.starts.len(), Vec::new);
        for of_ring in totals {
            of_ring.clear();
            of_ring.extend(layout.partials.iter().map(Partial::empty));
        }
        values.resize(layout.columns.len(), Value::Null);
    }

    /// The ring of a time not after `at`: the shortest window that holds it.
    #[inline]
    fn ring_of(&self, time: i64) -> Option<usize> {
        self.starts.iter().position(|start| *start <= time)
    }
}

impl Rings<'_> {
    fn finish(self, windows: &[WindowRead], data: &mut [WindowData]) {
        let layout = &self.table.layout;
        for ring in 1..self.totals.len() {
            let (shorter, longer) = self.totals.split_at_mut(ring);
            let wanted = &self.plan.wanted[ring];
            for (index, spec) in layout.partials.iter().enumerate().filter(|(index, _)| wanted[*index]) {
                longer[0][index].merge(spec, &shorter[ring - 1][index]);
            }
        }
        for (read, found) in windows.iter().zip(data).filter(|(read, _)| !read.partials.is_empty()) {
            let start = read.window.start(self.plan.at);
            let ring = self.plan.starts.iter().position(|other| *other == start);
            if let Some(totals) = ring.map(|ring| &self.totals[ring]) {
                for (place, index) in found.partials.iter_mut().zip(&read.partials) {
                    place.clone_from(&totals[usize::from(*index)]);
                }
            }
        }
    }
}

impl Visitor for Rings<'_> {
    #[inline]
    fn entry(&mut self, first: i64, last: i64, head: &EntryHead<'_>) -> Result<Step> {
        let ring = match self.plan.ring_of(first) {
            Some(ring) if last <= self.plan.at && self.visible.sees(head.sequence, head.append_time) => ring,
            _ => return Ok(Step::Open),
        };
        let is_in_one_ring = ring == 0 || last < self.plan.starts[ring - 1];
        if !is_in_one_ring {
            return Ok(Step::Open);
        }
        let (wanted, totals) = (&self.plan.wanted[ring], &mut self.totals[ring]);
        if self.plan.may_be_unknown {
            let mut is_unknown = false;
            head.partials(&self.table.layout, self.plan.upto[ring], |index, _, partial| {
                is_unknown |= wanted[index] && partial.is_unknown();
            })?;
            if is_unknown {
                return Ok(Step::Open);
            }
        }
        head.partials(&self.table.layout, self.plan.upto[ring], |index, spec, partial| {
            if wanted[index] {
                totals[index].merge(spec, &partial);
            }
        })?;
        Ok(Step::Skip)
    }

    fn leaf(&mut self, mut leaf: LeafCursor<'_>) -> Result<bool> {
        while leaf.advance()? {
            if leaf.time < self.plan.from {
                break;
            }
            let ring = match self.plan.ring_of(leaf.time) {
                Some(ring) if leaf.time <= self.plan.at && self.visible.sees(leaf.sequence, leaf.append_time) => ring,
                _ => {
                    leaf.skip()?;
                    continue;
                }
            };
            let predicates = leaf.decode(&self.plan.columns, self.values)?;
            let (wanted, totals) = (&self.plan.wanted[ring], &mut self.totals[ring]);
            for (index, spec) in self.table.layout.partials.iter().enumerate().take(self.plan.upto[ring]) {
                if wanted[index] {
                    add_event(&mut totals[index], spec, leaf.time, self.values, predicates);
                }
            }
        }
        Ok(true)
    }
}
