//! What a sweep takes differences of: which events each window holds at each time, and the sums of all events before.

use super::loaded::Loaded;
use super::page::counts_rows;
use thyme_core::aggregate::{Partial, PartialKind, PartialSpec, TableLayout, WindowRead};
use thyme_core::exact::FloatUnits;

/// Which events each window holds at each time, as indices of events.
pub struct Bounds {
    /// By time.
    ends: Vec<usize>,
    /// By window, then by time.
    begins: Vec<Vec<usize>>,
}

impl Bounds {
    pub fn new(events: &[i64], times: &[i64], windows: &[WindowRead]) -> Bounds {
        let ends = indices(events, times.iter().copied(), |time, at| time <= at);
        let starts = |read: &WindowRead| {
            let starts = times.iter().map(|at| read.window.start(*at));
            indices(events, starts, |time, start| time < start)
        };
        Bounds { ends, begins: windows.iter().map(starts).collect() }
    }

    /// How many events are there at a time.
    #[inline]
    pub fn end(&self, time: usize) -> usize {
        self.ends[time]
    }

    /// The first event of a window at a time, and the first behind it.
    #[inline]
    pub fn events(&self, window: usize, time: usize) -> (usize, usize) {
        (self.begins[window][time], self.ends[time])
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

/// The sums of all events before an event.
pub enum Running {
    /// At every event, and behind the last; of floats in units that they share.
    Whole(Vec<i128>, Option<FloatUnits>),
    /// At the events where a window begins or ends. What stands elsewhere is nobody's.
    Partials { places: Vec<u32>, totals: Vec<Partial> },
}

impl Running {
    /// Of the events between two, into `found`.
    #[inline]
    pub fn difference(&self, spec: &PartialSpec, (begin, end): (usize, usize), found: &mut Partial) {
        match self {
            Running::Whole(sums, None) => *found = Partial::SumInt(sums[end] - sums[begin]),
            Running::Whole(sums, Some(units)) => *found = Partial::SumFloat(units.sum(sums[end] - sums[begin])),
            Running::Partials { places, totals } => {
                let total = |event: usize| &totals[places[event] as usize];
                found.set_difference(spec, total(end), total(begin));
            }
        }
    }

    fn of_floats(spec: &PartialSpec, loaded: &Loaded<'_>) -> Option<Running> {
        let numbers = loaded.floats(spec.column).filter(|_| spec.kind == PartialKind::SumFloat)?;
        let units = FloatUnits::of(numbers)?;
        let mut sum = 0;
        let mut sums = Vec::with_capacity(numbers.len() + 1);
        sums.push(sum);
        for (event, number) in numbers.iter().enumerate() {
            if loaded.fulfils(spec.predicate, event) {
                sum += units.count(*number);
            }
            sums.push(sum);
        }
        Some(Running::Whole(sums, Some(units)))
    }

    fn of_ints(spec: &PartialSpec, loaded: &Loaded<'_>) -> Option<Running> {
        if spec.kind != PartialKind::SumInt {
            return None;
        }
        let mut sum = 0;
        let mut sums = Vec::with_capacity(loaded.times.len() + 1);
        sums.push(sum);
        for event in 0..loaded.times.len() {
            if loaded.fulfils(spec.predicate, event) {
                sum += loaded.look(spec.column, event, |value| value.as_int().map_or(0, i128::from));
            }
            sums.push(sum);
        }
        Some(Running::Whole(sums, None))
    }

    /// Those of most kinds are large, and only kept where they are asked for.
    fn of_partials(spec: &PartialSpec, loaded: &Loaded<'_>, bounds: &Bounds) -> Running {
        let mut is_asked = vec![false; loaded.times.len() + 1];
        bounds.begins.iter().flatten().chain(&bounds.ends).for_each(|event| is_asked[*event] = true);
        let mut total = Partial::empty(spec);
        let mut totals = Vec::new();
        let mut places = Vec::with_capacity(is_asked.len());
        for (event, is_asked) in is_asked.into_iter().enumerate() {
            places.push(totals.len() as u32);
            if is_asked {
                totals.push(total.clone());
            }
            if event < loaded.times.len() {
                loaded.add_to(&mut total, spec, event);
            }
        }
        Running::Partials { places, totals }
    }
}

/// The running sums, by partial of the layout; `None` where it is not wanted, cannot be subtracted or is the number of events.
pub struct Totals(Vec<Option<Running>>);

impl Totals {
    pub fn new(layout: &TableLayout, loaded: &Loaded<'_>, bounds: &Bounds, windows: &[WindowRead]) -> Totals {
        let mut by_partial: Vec<Option<Running>> = layout.partials.iter().map(|_| None).collect();
        let stretch = loaded.times.first().zip(loaded.times.last()).map_or(0, |(first, last)| first.abs_diff(*last));
        for partial in windows.iter().flat_map(|read| &read.partials) {
            let place = usize::from(*partial);
            let spec = &layout.partials[place];
            let is_summed = Partial::invertible(spec, stretch) && !counts_rows(spec);
            if is_summed && by_partial[place].is_none() {
                let whole = Running::of_floats(spec, loaded).or_else(|| Running::of_ints(spec, loaded));
                by_partial[place] = whole.or_else(|| Some(Running::of_partials(spec, loaded, bounds)));
            }
        }
        Totals(by_partial)
    }

    #[inline]
    pub fn of(&self, place: usize) -> Option<&Running> {
        self.0[place].as_ref()
    }
}
