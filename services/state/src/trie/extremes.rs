//! Least and greatest values of windows that slide: the candidates that no later value beats.

use super::loaded::Loaded;
use super::totals::Bounds;
use std::collections::VecDeque;
use thyme_core::aggregate::{Partial, PartialKind, PartialSpec, TableLayout, WindowRead};

pub fn is_extreme(spec: &PartialSpec) -> bool {
    matches!(spec.kind, PartialKind::Min | PartialKind::Max)
}

/// For each Min and Max: the events, ascending, that no later one beats. All windows end at the same time, so one list serves
/// them all: the extreme of a window is the first candidate inside.
pub struct Extremes {
    /// (partial of the layout, the windows that want it, the candidates).
    by_partial: Vec<(usize, Vec<usize>, VecDeque<usize>)>,
    end: usize,
}

impl Extremes {
    pub fn new(layout: &TableLayout, windows: &[WindowRead]) -> Extremes {
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
    pub fn slide(&mut self, layout: &TableLayout, loaded: &Loaded<'_>, bounds: &Bounds, time: usize) {
        let end = bounds.end(time);
        for (place, wanting, candidates) in &mut self.by_partial {
            let spec = &layout.partials[*place];
            let begin = wanting.iter().map(|window| bounds.events(*window, time).0).min().unwrap_or(end);
            while candidates.front().is_some_and(|front| *front < begin) {
                candidates.pop_front();
            }
            let entering = self.end.max(begin)..end;
            match loaded.floats(spec.column) {
                Some(numbers) => {
                    let entering = entering.filter(|event| !numbers[*event].is_nan());
                    enter(spec, loaded, candidates, entering, |event, before| match spec.kind {
                        PartialKind::Min => numbers[event] <= numbers[before],
                        _ => numbers[event] >= numbers[before],
                    });
                }
                None => {
                    let is_value = |event: &usize| loaded.look(spec.column, *event, |value| !value.is_null());
                    enter(spec, loaded, candidates, entering.filter(is_value), |event, before| {
                        loaded.look(spec.column, event, |value| {
                            loaded.look(spec.column, before, |before| match spec.kind {
                                PartialKind::Min => value <= before,
                                _ => value >= before,
                            })
                        })
                    });
                }
            }
        }
        self.end = end;
    }

    /// Of the events from one on.
    pub fn of(&self, spec: &PartialSpec, place: usize, loaded: &Loaded<'_>, begin: usize) -> Partial {
        let mut extreme = Partial::empty(spec);
        let candidates = self.by_partial.iter().find(|(other, ..)| *other == place).map(|(.., candidates)| candidates);
        if let Some(candidates) = candidates
            && let Some(first) = candidates.get(candidates.partition_point(|event| *event < begin))
        {
            loaded.look(spec.column, *first, |value| extreme.add(spec, loaded.times[*first], value));
        }
        extreme
    }
}

/// Takes in events with a value, one after the other.
#[inline]
fn enter(
    spec: &PartialSpec,
    loaded: &Loaded<'_>,
    candidates: &mut VecDeque<usize>,
    events: impl Iterator<Item = usize>,
    beats: impl Fn(usize, usize) -> bool,
) {
    for event in events.filter(|event| loaded.fulfils(spec.predicate, *event)) {
        while candidates.back().is_some_and(|before| beats(event, *before)) {
            candidates.pop_back();
        }
        candidates.push_back(event);
    }
}
