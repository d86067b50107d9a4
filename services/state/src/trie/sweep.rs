//! Windows at many times of one key: its events are read once. Counts and sums are exact, so a window is the difference of the
//! totals before its end and before its begin; extremes slide as well. The cost per event is that of one addition, however many windows
//! look at it. What slides in neither way is made anew for each time: of a window of few events from those, else read as a single
//! question reads it.

use super::ahead::Ahead;
use super::extremes::{Extremes, is_extreme};
use super::loaded::Loaded;
use super::page::counts_rows;
use super::read::{self, WindowReader};
use super::totals::{Bounds, Totals};
use super::walk::Walker;
use crate::model::{Table, Visible};
use crate::snapshot::Snapshot;
use std::ops::Range;
use thyme_core::aggregate::{Partial, PartialSpec, ScanItem, TableLayout, WindowData, WindowRead};
use thyme_core::{Result, Value};

/// A single read costs about as much as reading this many events.
const EVENTS_PER_READ: u64 = 128;
/// A sketch, digest or fading sum of a window of at most so many events is made from them: so few leave no trace of how.
const EVENTS_ADDED: usize = 64;
/// Most events that are held at once; a larger key is read time by time.
const MAX_EVENTS: u64 = 1 << 21;

/// How the windows of a key were read at several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Its events once for all times.
    Swept,
    /// Time by time.
    Sought,
}

/// Whether windows slide over a partial. A fading sum does, unless the events are very many half-lives apart.
pub fn slides(spec: &PartialSpec) -> bool {
    Partial::invertible(spec, 0) || is_extreme(spec)
}

/// Whether windows slide over a partial wherever its events are.
fn always_slides(spec: &PartialSpec) -> bool {
    Partial::invertible(spec, u64::MAX) || is_extreme(spec)
}

/// Sweeps the same windows over one key after the other: what does not depend on the key is worked out once, and room is used again.
/// Quickest where keys come in their order.
pub struct Sweeper<'a> {
    table: &'a Table,
    windows: &'a [WindowRead],
    one_by_one: WindowReader<'a>,
    ahead: Ahead<'a>,
    loaded: Loaded,
    bounds: Bounds,
    totals: Totals,
    extremes: Extremes,
    /// Whether a window has partials that do not always slide.
    may_stick: bool,
    data: Vec<WindowData>,
}

impl<'a> Sweeper<'a> {
    pub fn new(table: &'a Table, windows: &'a [WindowRead]) -> Result<Sweeper<'a>> {
        let layout = &table.layout;
        read::check(layout, windows)?;
        let spec = |partial: &u16| &layout.partials[usize::from(*partial)];
        let of_window = |read: &WindowRead| WindowData {
            partials: read.partials.iter().map(|partial| Partial::empty(spec(partial))).collect(),
            scans: Vec::with_capacity(read.scans.len()),
        };
        Ok(Sweeper {
            table,
            windows,
            one_by_one: WindowReader::new(table, windows),
            ahead: Ahead::ascending(),
            loaded: Loaded::new(table, windows),
            bounds: Bounds::default(),
            totals: Totals::default(),
            extremes: Extremes::new(layout, windows),
            may_stick: windows.iter().flat_map(|read| &read.partials).any(|partial| !always_slides(spec(partial))),
            data: windows.iter().map(of_window).collect(),
        })
    }

    /// The windows that end at a time, of a key of the table in a snapshot.
    pub fn read(&mut self, snapshot: &Snapshot, key: &[u8], at: i64, visible: &Visible) -> Result<&[WindowData]> {
        self.one_by_one.read(snapshot, key, at, visible)
    }

    /// The windows at each of `times` (ascending), of a key of the table in a snapshot, handed to `visit` with the index of the time.
    /// Reads the key's rows once, unless few times on a large key make single reads cheaper; says which.
    pub fn sweep(
        &mut self,
        snapshot: &'a Snapshot,
        key: &[u8],
        times: &[i64],
        visible: &Visible,
        visit: &mut dyn FnMut(usize, &[WindowData]) -> Result<()>,
    ) -> Result<Way> {
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(Way::Sought) };
        let walker = Walker::new(snapshot, self.table, key)?;
        let from = self.windows.iter().map(|read| read.window.start(*first)).min().unwrap_or(*first);
        self.ahead.begin(snapshot);
        let roots = walker.roots(from, *last, &mut self.ahead)?;
        let mut total = 0;
        for root in &roots {
            total += root.events_within(from, *last)?;
        }
        if total > MAX_EVENTS.min(EVENTS_PER_READ * times.len() as u64) {
            for (index, at) in times.iter().enumerate() {
                visit(index, self.one_by_one.at(&walker, *at, visible)?)?;
            }
            return Ok(Way::Sought);
        }
        self.loaded.begin((from, *last), visible, total as usize);
        walker.walk_roots(&roots, from, *last, &mut self.ahead, &mut self.loaded)?;
        self.slide(&walker, times, visible, visit)?;
        Ok(Way::Swept)
    }

    /// Slides the windows over the events that are loaded.
    fn slide(
        &mut self,
        walker: &Walker<'_>,
        times: &[i64],
        visible: &Visible,
        visit: &mut dyn FnMut(usize, &[WindowData]) -> Result<()>,
    ) -> Result<()> {
        let Sweeper { table, windows, loaded, bounds, totals, extremes, data, .. } = self;
        let layout = &table.layout;
        bounds.find(&loaded.times, times, windows);
        totals.sum(layout, loaded, bounds, windows);
        extremes.begin();
        let stuck: Vec<Vec<u16>> =
            if self.may_stick { windows.iter().map(|read| stuck(layout, totals, read)).collect() } else { Vec::new() };
        for (index, at) in times.iter().enumerate() {
            extremes.slide(layout, loaded, bounds, index);
            // By index: this is most of what a time costs, and adaptors of iterators are calls here.
            for window in 0..windows.len() {
                let (read, of_window) = (&windows[window], &mut data[window]);
                let (begin, end) = bounds.events(window, index);
                for wanted in 0..read.partials.len() {
                    let (place, found) = (usize::from(read.partials[wanted]), &mut of_window.partials[wanted]);
                    let spec = &layout.partials[place];
                    match totals.of(place) {
                        Some(running) => running.difference(spec, (begin, end), found),
                        None if counts_rows(spec) => *found = Partial::Count((end - begin) as u64),
                        None if is_extreme(spec) => extremes.write(spec, place, loaded, begin, found),
                        None if end - begin <= EVENTS_ADDED => *found = loaded.sum(spec, begin..end),
                        None => *found = Partial::empty(spec),
                    }
                }
                if !read.scans.is_empty() {
                    write_scans(loaded, read, begin..end, of_window);
                }
            }
            if self.may_stick {
                let is_left = |window: &usize| {
                    let (begin, end) = bounds.events(*window, index);
                    !stuck[*window].is_empty() && end - begin > EVENTS_ADDED
                };
                let left: Vec<usize> = (0..windows.len()).filter(is_left).collect();
                read_those_left(walker, *at, windows, &left, &stuck, visible, data)?;
            }
            visit(index, data)?;
        }
        Ok(())
    }
}

/// Reads, of the windows with these indices, the partials that do not slide.
fn read_those_left(
    walker: &Walker<'_>,
    at: i64,
    windows: &[WindowRead],
    left: &[usize],
    stuck: &[Vec<u16>],
    visible: &Visible,
    data: &mut [WindowData],
) -> Result<()> {
    if left.is_empty() {
        return Ok(());
    }
    let of_window = |window: &usize| WindowRead {
        window: windows[*window].window,
        partials: stuck[*window].clone(),
        scans: Vec::new(),
    };
    let reads: Vec<WindowRead> = left.iter().map(of_window).collect();
    for (window, found) in left.iter().zip(read::read(walker, at, &reads, visible)?) {
        for (partial, value) in stuck[*window].iter().zip(found.partials) {
            let places = data[*window].partials.iter_mut().zip(&windows[*window].partials);
            for (place, _) in places.filter(|(_, wanted)| *wanted == partial) {
                place.clone_from(&value);
            }
        }
    }
    Ok(())
}

/// The partials of a window that slide in no way: sketches, digests, and fading sums over very many half-lives.
fn stuck(layout: &TableLayout, totals: &Totals, read: &WindowRead) -> Vec<u16> {
    let slides = |partial: &u16| {
        let place = usize::from(*partial);
        let spec = &layout.partials[place];
        totals.of(place).is_some() || counts_rows(spec) || is_extreme(spec)
    };
    read.partials.iter().copied().filter(|partial| !slides(partial)).collect()
}

fn write_scans(loaded: &Loaded, read: &WindowRead, events: Range<usize>, data: &mut WindowData) {
    data.scans.clear();
    for scan in &read.scans {
        let limit = scan.limit.map_or(usize::MAX, |limit| limit as usize);
        let item = |index: usize| {
            if !loaded.fulfils(scan.predicate, index) {
                return None;
            }
            let value = loaded.look(scan.column, index, Value::clone);
            let is_taken = !(scan.skip_null && value.is_null());
            is_taken.then(|| ScanItem { time: loaded.times[index], origin: loaded.origins[index], value })
        };
        data.scans.push(if scan.newest_first {
            events.clone().rev().filter_map(item).take(limit).collect()
        } else {
            events.clone().filter_map(item).take(limit).collect()
        });
    }
}
