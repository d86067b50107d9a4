//! Least and greatest values of windows that slide. Of floats by blocks of events, each of which knows its own; of other values by the
//! candidates that no later value beats.

use super::blockwise::Blockwise;
use super::loaded::Loaded;
use super::totals::Bounds;
use std::collections::VecDeque;
use thyme_core::Value;
use thyme_core::aggregate::{Partial, PartialKind, PartialSpec, TableLayout, WindowRead};
use thyme_core::schema::DataType;

pub fn is_extreme(spec: &PartialSpec) -> bool {
    matches!(spec.kind, PartialKind::Min | PartialKind::Max)
}

/// By Min and Max of the layout that is wanted. All windows end at the same time, so that one way of it serves them all.
pub struct Extremes {
    wanted: Vec<Extreme>,
    end: usize,
}

struct Extreme {
    /// Of the partial in the layout.
    place: usize,
    /// The windows that want it.
    windows: Vec<usize>,
    held: Held,
}

enum Held {
    Blocks(Blockwise),
    /// The events, ascending, that no later one beats: the extreme of a window is the first of them inside.
    Candidates(VecDeque<usize>),
}

impl Extremes {
    pub fn new(layout: &TableLayout, windows: &[WindowRead]) -> Extremes {
        let wanted = (0..layout.partials.len()).filter(|place| is_extreme(&layout.partials[*place]));
        let extreme = |place: usize| {
            let wants = |read: &WindowRead| read.partials.iter().any(|partial| usize::from(*partial) == place);
            let windows: Vec<usize> = (0..windows.len()).filter(|window| wants(&windows[*window])).collect();
            let spec = &layout.partials[place];
            let column = spec.column.map(|column| &layout.columns[usize::from(column)]);
            let held = match column {
                Some(DataType::Float) if spec.predicate.is_none() => {
                    Held::Blocks(Blockwise::new(spec.kind == PartialKind::Min))
                }
                _ => Held::Candidates(VecDeque::new()),
            };
            (!windows.is_empty()).then_some(Extreme { place, windows, held })
        };
        Extremes { wanted: wanted.filter_map(extreme).collect(), end: 0 }
    }

    /// As if there had been no events.
    pub fn begin(&mut self) {
        self.end = 0;
        for extreme in &mut self.wanted {
            match &mut extreme.held {
                Held::Blocks(blocks) => blocks.clear(),
                Held::Candidates(candidates) => candidates.clear(),
            }
        }
    }

    /// Takes in the events up to the time with this index, and lets go of what no window holds any more.
    pub fn slide(&mut self, layout: &TableLayout, loaded: &Loaded, bounds: &Bounds, time: usize) {
        let end = bounds.end(time);
        for extreme in &mut self.wanted {
            let spec = &layout.partials[extreme.place];
            match &mut extreme.held {
                Held::Blocks(blocks) => blocks.slide(loaded.floats(spec.column).unwrap_or_default(), end),
                Held::Candidates(candidates) => {
                    let begins = extreme.windows.iter().map(|window| bounds.events(*window, time).0);
                    let begin = begins.min().unwrap_or(end);
                    while candidates.front().is_some_and(|front| *front < begin) {
                        candidates.pop_front();
                    }
                    enter(spec, loaded, candidates, self.end.max(begin)..end);
                }
            }
        }
        self.end = end;
    }

    /// Of the events from one on, into `found`.
    #[inline]
    pub fn write(&self, spec: &PartialSpec, place: usize, loaded: &Loaded, begin: usize, found: &mut Partial) {
        let Some(extreme) = self.wanted.iter().find(|extreme| extreme.place == place) else { return };
        match &extreme.held {
            Held::Blocks(blocks) => {
                let greatest = blocks.from(loaded.floats(spec.column).unwrap_or_default(), begin);
                match (greatest, found) {
                    (Some(number), Partial::Extreme(Value::Float(found))) => *found = number,
                    (greatest, found) => *found = Partial::Extreme(greatest.map_or(Value::Null, Value::Float)),
                }
            }
            Held::Candidates(candidates) => {
                let first = candidates.get(candidates.partition_point(|event| *event < begin));
                let value = first.map_or(Value::Null, |first| loaded.look(spec.column, *first, Value::clone));
                *found = Partial::Extreme(value);
            }
        }
    }
}

/// Takes in events, one after the other.
fn enter(spec: &PartialSpec, loaded: &Loaded, candidates: &mut VecDeque<usize>, events: std::ops::Range<usize>) {
    let beats = |event: usize, before: usize| {
        loaded.look(spec.column, event, |value| {
            loaded.look(spec.column, before, |before| match spec.kind {
                PartialKind::Min => value <= before,
                _ => value >= before,
            })
        })
    };
    for event in events {
        let is_value = loaded.look(spec.column, event, |value| !value.is_null());
        if !is_value || !loaded.fulfils(spec.predicate, event) {
            continue;
        }
        while candidates.back().is_some_and(|before| beats(event, *before)) {
            candidates.pop_back();
        }
        candidates.push_back(event);
    }
}
