//! What a sweep takes differences of: which events each window holds at each time, and the sums of all events before.

use super::loaded::{Loaded, clear};
use super::page::counts_rows;
use thyme_core::aggregate::{Partial, PartialKind, PartialSpec, TableLayout, WindowRead};
use thyme_core::exact::FloatUnits;

/// Which events each window holds at each time, as indices of events.
#[derive(Default)]
pub struct Bounds {
    /// By time.
    ends: Vec<usize>,
    /// By window, then by time.
    begins: Vec<Vec<usize>>,
}

impl Bounds {
    pub fn find(&mut self, events: &[i64], times: &[i64], windows: &[WindowRead]) {
        place(events, times, &mut self.ends, |at| at, |time, at| time <= at);
        self.begins.resize_with(windows.len(), Vec::new);
        for (read, begins) in windows.iter().zip(&mut self.begins) {
            place(events, times, begins, |at| read.window.start(at), |time, start| time < start);
        }
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

/// For the bound of each of `times` (ascending) how many events are before it.
fn place(
    events: &[i64],
    times: &[i64],
    found: &mut Vec<usize>,
    bound: impl Fn(i64) -> i64,
    is_before: impl Fn(i64, i64) -> bool,
) {
    found.clear();
    found.reserve(times.len());
    let mut low = 0;
    for at in times {
        let bound = bound(*at);
        // In doubling steps: the next one is mostly near.
        let mut step = 1;
        while low + step <= events.len() && is_before(events[low + step - 1], bound) {
            low += step;
            step *= 2;
        }
        let mut high = events.len().min(low + step - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(events[middle], bound) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        found.push(low);
    }
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
            Running::Whole(sums, Some(units)) => {
                let sum = units.sum(sums[end] - sums[begin]);
                match found {
                    Partial::SumFloat(found) => *found = sum,
                    other => *other = Partial::SumFloat(sum),
                }
            }
            Running::Partials { places, totals } => {
                let total = |event: usize| &totals[places[event] as usize];
                found.set_difference(spec, total(end), total(begin));
            }
        }
    }

    fn of_floats(spec: &PartialSpec, loaded: &Loaded, mut sums: Vec<i128>) -> Option<Running> {
        let numbers = loaded.floats(spec.column).filter(|_| spec.kind == PartialKind::SumFloat)?;
        let units = FloatUnits::of(numbers)?;
        let mut sum = 0;
        sums.push(sum);
        for (event, number) in numbers.iter().enumerate() {
            if loaded.fulfils(spec.predicate, event) {
                sum += units.count(*number);
            }
            sums.push(sum);
        }
        Some(Running::Whole(sums, Some(units)))
    }

    fn of_ints(spec: &PartialSpec, loaded: &Loaded) -> Option<Running> {
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
    fn of_partials(spec: &PartialSpec, loaded: &Loaded, bounds: &Bounds) -> Running {
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
#[derive(Default)]
pub struct Totals(Vec<Option<Running>>);

impl Totals {
    pub fn sum(&mut self, layout: &TableLayout, loaded: &Loaded, bounds: &Bounds, windows: &[WindowRead]) {
        let mut before = std::mem::take(&mut self.0);
        before.resize_with(layout.partials.len(), || None);
        self.0.resize_with(layout.partials.len(), || None);
        let stretch = loaded.times.first().zip(loaded.times.last()).map_or(0, |(first, last)| first.abs_diff(*last));
        for partial in windows.iter().flat_map(|read| &read.partials) {
            let place = usize::from(*partial);
            let spec = &layout.partials[place];
            let is_summed = Partial::invertible(spec, stretch) && !counts_rows(spec);
            if is_summed && self.0[place].is_none() {
                let room = room_of(before[place].take(), loaded.times.len() + 1);
                let whole = Running::of_floats(spec, loaded, room).or_else(|| Running::of_ints(spec, loaded));
                self.0[place] = whole.or_else(|| Some(Running::of_partials(spec, loaded, bounds)));
            }
        }
    }

    #[inline]
    pub fn of(&self, place: usize) -> Option<&Running> {
        self.0[place].as_ref()
    }
}

/// What the sums of another key stood in, emptied, for so many.
fn room_of(running: Option<Running>, events: usize) -> Vec<i128> {
    let mut room = match running {
        Some(Running::Whole(sums, _)) => sums,
        _ => Vec::new(),
    };
    clear(&mut room, events);
    room
}
