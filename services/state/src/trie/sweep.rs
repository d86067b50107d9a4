//! Windows at many times of one key: its events are read once. Counts and sums are exact, so a window is the difference of the
//! totals before its end and before its begin; extremes keep the candidates that no later value beats. The cost per event is that
//! of one addition, however many windows look at it. What slides in neither way is made anew for each time: of a window of few
//! events from those, else read as a single question reads it.

use super::extremes::{Extremes, is_extreme};
use super::loaded::Loaded;
use super::page::counts_rows;
use super::read;
use super::totals::{Bounds, Totals};
use super::walk::Walker;
use crate::model::Visible;
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

pub fn sweep(
    walker: &Walker<'_>,
    times: &[i64],
    windows: &[WindowRead],
    visible: &Visible,
    visit: &mut dyn FnMut(usize, &[WindowData]) -> Result<()>,
) -> Result<Way> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(Way::Sought) };
    let layout = &walker.table.layout;
    read::check(layout, windows)?;
    let from = windows.iter().map(|read| read.window.start(*first)).min().unwrap_or(*first);
    let roots = walker.roots(from, *last)?;
    let mut total = 0;
    for root in &roots {
        total += root.events_within(from, *last)?;
    }
    if total > MAX_EVENTS.min(EVENTS_PER_READ * times.len() as u64) {
        for (index, at) in times.iter().enumerate() {
            visit(index, &read::read(walker, *at, windows, visible)?)?;
        }
        return Ok(Way::Sought);
    }
    let mut loaded = Loaded::new(walker.table, windows, (from, *last), visible, total as usize);
    walker.walk_roots(&roots, from, *last, &mut loaded)?;
    let bounds = Bounds::new(&loaded.times, times, windows);
    let totals = Totals::new(layout, &loaded, &bounds, windows);
    let mut extremes = Extremes::new(layout, windows);
    let stuck: Vec<Vec<u16>> = windows.iter().map(|read| stuck(layout, &totals, read)).collect();
    let empty = |partial: &u16| Partial::empty(&layout.partials[usize::from(*partial)]);
    let of_window = |read: &WindowRead| WindowData {
        partials: read.partials.iter().map(empty).collect(),
        scans: Vec::with_capacity(read.scans.len()),
    };
    let mut data: Vec<WindowData> = windows.iter().map(of_window).collect();
    for (index, at) in times.iter().enumerate() {
        extremes.slide(layout, &loaded, &bounds, index);
        for (window, (read, found)) in windows.iter().zip(&mut data).enumerate() {
            let (begin, end) = bounds.events(window, index);
            for (partial, found) in read.partials.iter().zip(&mut found.partials) {
                let place = usize::from(*partial);
                let spec = &layout.partials[place];
                match totals.of(place) {
                    Some(running) => running.difference(spec, (begin, end), found),
                    None if counts_rows(spec) => *found = Partial::Count((end - begin) as u64),
                    None if is_extreme(spec) => *found = extremes.of(spec, place, &loaded, begin),
                    None if end - begin <= EVENTS_ADDED => *found = loaded.sum(spec, begin..end),
                    None => *found = Partial::empty(spec),
                }
            }
            write_scans(&loaded, read, begin..end, found);
        }
        let is_left = |window: &usize| {
            let (begin, end) = bounds.events(*window, index);
            !stuck[*window].is_empty() && end - begin > EVENTS_ADDED
        };
        let left: Vec<usize> = (0..windows.len()).filter(is_left).collect();
        if !left.is_empty() {
            read_those_left(walker, *at, windows, &left, &stuck, visible, &mut data)?;
        }
        visit(index, &data)?;
    }
    Ok(Way::Swept)
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

fn write_scans(loaded: &Loaded<'_>, read: &WindowRead, events: std::ops::Range<usize>, data: &mut WindowData) {
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
