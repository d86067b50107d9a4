//! Windows at many times of one key: its events are read once. Counts and sums are exact, so a window is the difference of the
//! totals before its end and before its begin; extremes keep the candidates that no later value beats. The cost per event is that
//! of one addition, however many windows look at it. What slides in neither way is made anew for each time: of a window of few
//! events from those, else read as a single question reads it.

use super::body;
use super::coordinate::{origin_of, time_of};
use super::leaf::RawEvent;
use super::page::{add_event, counts_rows};
use super::read;
use super::scan::{EventRun, scanned};
use super::walk::{Direction, Walker};
use crate::model::{Table, Visible};
use std::collections::VecDeque;
use thyme_core::aggregate::{Partial, PartialKind, PartialSpec, ScanItem, TableLayout, WindowData, WindowRead};
use thyme_core::position::Position;
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
    let mut loaded = Loaded::new(walker.table, windows, total as usize);
    let take = |event: &RawEvent<'_>| loaded.push(walker.table, event).map(|()| true);
    let mut run = EventRun { direction: Direction::OldestFirst, from, to: *last, visible, take };
    walker.walk_roots(&roots, from, *last, &mut run)?;
    let bounds = Bounds::new(&loaded, times, windows);
    let totals = Totals::new(layout, &loaded, &bounds, windows);
    let mut extremes = Extremes::new(layout, windows);
    let stuck: Vec<Vec<u16>> = windows.iter().map(|read| totals.stuck(layout, read)).collect();
    let empty = |partial: &u16| Partial::empty(&layout.partials[usize::from(*partial)]);
    let of_window = |read: &WindowRead| WindowData {
        partials: read.partials.iter().map(empty).collect(),
        scans: Vec::with_capacity(read.scans.len()),
    };
    let mut data: Vec<WindowData> = windows.iter().map(of_window).collect();
    for (index, at) in times.iter().enumerate() {
        extremes.slide(layout, &loaded, &bounds, index);
        for (window, (read, found)) in windows.iter().zip(&mut data).enumerate() {
            let (before, until) = bounds.places(window, index);
            let (begin, end) = bounds.events(window, index);
            for (partial, found) in read.partials.iter().zip(&mut found.partials) {
                let place = usize::from(*partial);
                let spec = &layout.partials[place];
                match &totals.0[place] {
                    Some(running) => found.set_difference(spec, &running[until], &running[before]),
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

fn is_extreme(spec: &PartialSpec) -> bool {
    matches!(spec.kind, PartialKind::Min | PartialKind::Max)
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
    fn new(table: &Table, windows: &[WindowRead], events: usize) -> Loaded {
        let layout = &table.layout;
        let mut columns = vec![false; layout.columns.len()];
        for read in windows {
            let of_partials = read.partials.iter().filter_map(|index| layout.partials[usize::from(*index)].column);
            for column in of_partials.chain(read.scans.iter().filter_map(|scan| scan.column)) {
                columns[usize::from(column)] = true;
            }
        }
        let scratch = vec![Value::Null; columns.len()];
        Loaded {
            times: Vec::with_capacity(events),
            origins: Vec::with_capacity(events),
            predicates: Vec::with_capacity(events),
            values: Vec::with_capacity(events * columns.len()),
            columns,
            scratch,
        }
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

    fn sum(&self, spec: &PartialSpec, events: std::ops::Range<usize>) -> Partial {
        let mut partial = Partial::empty(spec);
        for index in events {
            add_event(&mut partial, spec, self.times[index], self.row(index), self.predicates[index]);
        }
        partial
    }

    /// The value that a partial looks at.
    #[inline]
    fn value(&self, spec: &PartialSpec, index: usize) -> &Value {
        spec.column.map_or(&Value::Null, |column| &self.row(index)[usize::from(column)])
    }
}

/// Which events each window holds at each time.
struct Bounds {
    /// All events at which a window begins or ends: indices, ascending.
    boundaries: Vec<usize>,
    /// By time, as places among the boundaries.
    ends: Vec<usize>,
    /// By window, then by time.
    begins: Vec<Vec<usize>>,
}

impl Bounds {
    fn new(loaded: &Loaded, times: &[i64], windows: &[WindowRead]) -> Bounds {
        let mut ends = indices(&loaded.times, times.iter().copied(), |time, at| time <= at);
        let starts = |read: &WindowRead| {
            let starts = times.iter().map(|at| read.window.start(*at));
            indices(&loaded.times, starts, |time, start| time < start)
        };
        let mut begins: Vec<Vec<usize>> = windows.iter().map(starts).collect();
        let mut boundaries: Vec<usize> = begins.iter().flatten().chain(&ends).copied().collect();
        // Stable, because it takes what is ascending already as it is.
        boundaries.sort();
        boundaries.dedup();
        for list in begins.iter_mut().chain([&mut ends]) {
            let mut place = 0;
            for index in list {
                place += boundaries[place..].iter().take_while(|boundary| **boundary < *index).count();
                *index = place;
            }
        }
        Bounds { boundaries, ends, begins }
    }

    /// The places at which a window begins and ends.
    fn places(&self, window: usize, time: usize) -> (usize, usize) {
        (self.begins[window][time], self.ends[time])
    }

    fn events(&self, window: usize, time: usize) -> (usize, usize) {
        let (begin, end) = self.places(window, time);
        (self.boundaries[begin], self.boundaries[end])
    }
}

/// For each of `bounds` (ascending) how many events are before it.
fn indices(times: &[i64], bounds: impl Iterator<Item = i64>, is_before: impl Fn(i64, i64) -> bool) -> Vec<usize> {
    let mut found = 0;
    let index_of = |bound: i64| {
        // In doubling steps: the next one is mostly near.
        let mut step = 1;
        while times.get(found + step - 1).is_some_and(|time| is_before(*time, bound)) {
            found += step;
            step *= 2;
        }
        let reach = times.len().min(found + step - 1);
        found += times[found..reach].partition_point(|time| is_before(*time, bound));
        found
    };
    bounds.map(index_of).collect()
}

/// The partials of all events before each boundary, by partial of the layout; `None` where it is not wanted, cannot be subtracted
/// or is the number of events.
struct Totals(Vec<Option<Vec<Partial>>>);

impl Totals {
    fn new(layout: &TableLayout, loaded: &Loaded, bounds: &Bounds, windows: &[WindowRead]) -> Totals {
        let mut by_partial: Vec<Option<Vec<Partial>>> = vec![None; layout.partials.len()];
        let stretch = loaded.times.first().zip(loaded.times.last()).map_or(0, |(first, last)| first.abs_diff(*last));
        for partial in windows.iter().flat_map(|read| &read.partials) {
            let place = usize::from(*partial);
            let spec = &layout.partials[place];
            let is_summed = Partial::invertible(spec, stretch) && !counts_rows(spec);
            if is_summed && by_partial[place].is_none() {
                by_partial[place] = Some(running(spec, loaded, &bounds.boundaries));
            }
        }
        Totals(by_partial)
    }

    /// The partials of a window that slide in no way: sketches, digests, and fading sums over very many half-lives.
    fn stuck(&self, layout: &TableLayout, read: &WindowRead) -> Vec<u16> {
        let slides = |partial: &u16| {
            let place = usize::from(*partial);
            self.0[place].is_some() || counts_rows(&layout.partials[place]) || is_extreme(&layout.partials[place])
        };
        read.partials.iter().copied().filter(|partial| !slides(partial)).collect()
    }
}

fn running(spec: &PartialSpec, loaded: &Loaded, boundaries: &[usize]) -> Vec<Partial> {
    let mut total = Partial::empty(spec);
    let mut from = boundaries.first().copied().unwrap_or_default();
    let mut totals = Vec::with_capacity(boundaries.len());
    for boundary in boundaries {
        for index in from..*boundary {
            add_event(&mut total, spec, loaded.times[index], loaded.row(index), loaded.predicates[index]);
        }
        from = *boundary;
        totals.push(total.clone());
    }
    totals
}

/// For each Min and Max: the events, ascending, that no later one beats. All windows end at the same time, so one list serves
/// them all: the extreme of a window is the first candidate inside.
struct Extremes {
    /// (partial of the layout, the windows that want it, the candidates).
    by_partial: Vec<(usize, Vec<usize>, VecDeque<usize>)>,
    end: usize,
}

impl Extremes {
    fn new(layout: &TableLayout, windows: &[WindowRead]) -> Extremes {
        let wanted = (0..layout.partials.len()).filter(|place| is_extreme(&layout.partials[*place]));
        let by_partial = wanted.map(|place| {
            let wants = |read: &WindowRead| read.partials.iter().any(|partial| usize::from(*partial) == place);
            let wanting = (0..windows.len()).filter(|window| wants(&windows[*window])).collect();
            (place, wanting, VecDeque::new())
        });
        Extremes {
            by_partial: by_partial.filter(|(_, wanting, _): &(_, Vec<usize>, _)| !wanting.is_empty()).collect(),
            end: 0,
        }
    }

    /// Takes in the events up to the time with this index, and lets go of what no window holds any more.
    fn slide(&mut self, layout: &TableLayout, loaded: &Loaded, bounds: &Bounds, time: usize) {
        let end = bounds.boundaries[bounds.ends[time]];
        for (place, wanting, candidates) in &mut self.by_partial {
            let spec = &layout.partials[*place];
            let begin = wanting.iter().map(|window| bounds.events(*window, time).0).min().unwrap_or(end);
            while candidates.front().is_some_and(|front| *front < begin) {
                candidates.pop_front();
            }
            for index in self.end.max(begin)..end {
                enter(spec, loaded, candidates, index);
            }
        }
        self.end = end;
    }

    fn of(&self, spec: &PartialSpec, place: usize, loaded: &Loaded, begin: usize) -> Partial {
        let mut extreme = Partial::empty(spec);
        let candidates = self.by_partial.iter().find(|(other, ..)| *other == place).map(|(.., candidates)| candidates);
        if let Some(candidates) = candidates
            && let Some(first) = candidates.get(candidates.partition_point(|index| *index < begin))
        {
            extreme.add(spec, loaded.times[*first], loaded.value(spec, *first));
        }
        extreme
    }
}

fn enter(spec: &PartialSpec, loaded: &Loaded, candidates: &mut VecDeque<usize>, index: usize) {
    let value = loaded.value(spec, index);
    let is_taken = spec.predicate.is_none_or(|predicate| loaded.predicates[index] >> predicate & 1 != 0);
    if value.is_null() || !is_taken {
        return;
    }
    while let Some(last) = candidates.back() {
        let before = loaded.value(spec, *last);
        let is_beaten = if spec.kind == PartialKind::Min { value <= before } else { value >= before };
        if !is_beaten {
            break;
        }
        candidates.pop_back();
    }
    candidates.push_back(index);
}

fn write_scans(loaded: &Loaded, read: &WindowRead, events: std::ops::Range<usize>, data: &mut WindowData) {
    data.scans.clear();
    for scan in &read.scans {
        let limit = scan.limit.map_or(usize::MAX, |limit| limit as usize);
        let item = |index: usize| {
            let value = scanned(scan, loaded.row(index), loaded.predicates[index])?.clone();
            Some(ScanItem { time: loaded.times[index], origin: loaded.origins[index], value })
        };
        data.scans.push(if scan.newest_first {
            events.clone().rev().filter_map(item).take(limit).collect()
        } else {
            events.clone().filter_map(item).take(limit).collect()
        });
    }
}
