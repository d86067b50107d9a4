//! The instants at which what is read of a key may become another: where an event comes in, and where one leaves a window.

use crate::deployment::Source;
use crate::plan::{Planned, ReadWhat};
use crate::view::View;
use std::collections::VecDeque;
use std::sync::Arc;
use thyme_core::error::Result;
use thyme_core::key;
use thyme_core::time::Micros;
use thyme_core::window::Window;

/// So many instants of a window are read at once: a key may have millions.
const PAGE: usize = 1_024;

/// From when to when, the end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub since: Micros,
    pub until: Micros,
}

/// A table that is read, and how long after an event something may change.
pub(crate) struct Moved {
    source: Arc<Source>,
    /// When an event comes in.
    enters: i64,
    /// When it comes in, and when it leaves each window.
    shifts: Vec<i64>,
}

impl Moved {
    /// By table. An event is in a window at T from its time to its time + w, both included; if T is excluded, from a microsecond later on.
    pub fn of(planned: &Planned, exclusive: bool) -> Vec<Moved> {
        let enters = i64::from(exclusive);
        let mut all: Vec<Moved> = Vec::new();
        for read in &planned.reads {
            let known = all.iter().position(|moved| moved.source.served.table.id == read.source.served.table.id);
            let at = known.unwrap_or_else(|| {
                all.push(Moved { source: read.source.clone(), enters, shifts: vec![enters] });
                all.len() - 1
            });
            let ReadWhat::Windows { plan, .. } = &read.what else { continue };
            let leaves = plan.windows.iter().filter_map(|read| match read.window {
                Window::Length(length) => length.checked_add(1),
                Window::Forever => None,
            });
            all[at].shifts.extend(leaves);
        }
        for moved in &mut all {
            moved.shifts.sort_unstable();
            moved.shifts.dedup();
        }
        all
    }

    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The earliest event that makes a key known at `since` or later. What a table with a `history=` may have let go by then does not count,
    /// so that it does not matter whether it has.
    fn known_from(&self, since: Micros) -> Micros {
        let kept = self.source.served.table.layout.kept.zip(self.source.history);
        kept.map_or(Micros::MIN, |(kept, history)| since.saturating_sub(kept.saturating_sub(history)))
    }

    /// Instants in `[from, to]` at which the key has events that the view sees.
    fn events(&self, view: &View, key: &[u8], from: Micros, to: Micros, limit: usize) -> Result<Vec<Micros>> {
        if from > to {
            return Ok(Vec::new());
        }
        let source = &self.source;
        let partition = key::partition(key, source.partitions);
        let visible = view.visible(source, partition)?;
        view.state(source, partition)?.event_times(&source.served.table, key, from, to, &visible, limit)
    }
}

/// The instants of one key, in order.
pub(crate) struct Instants {
    key: Vec<u8>,
    /// The first of all, until it is handed out.
    first: Option<Micros>,
    cursors: Vec<Cursor>,
}

/// The events of a table as they come in, or leave one window.
struct Cursor {
    table: usize,
    shift: i64,
    ahead: VecDeque<Micros>,
    /// Where to read on; `None`: there is nothing more.
    from: Option<Micros>,
    to: Micros,
}

impl Instants {
    /// Of a key that is known to one of the tables before the end of the stretch: first the beginning of the stretch, or the instant from which
    /// on the key is known.
    pub fn begin(view: &View, tables: &[Moved], key: Vec<u8>, stretch: Stretch) -> Result<Option<Instants>> {
        let last = stretch.until.saturating_sub(1);
        let mut known: Option<Micros> = None;
        for moved in tables {
            let (from, to) = (moved.known_from(stretch.since), last.saturating_sub(moved.enters));
            let oldest =
                moved.events(view, &key, from, to, 1)?.first().map(|oldest| oldest.saturating_add(moved.enters));
            known = known.into_iter().chain(oldest).min();
        }
        let Some(first) = known.map(|known| known.max(stretch.since)).filter(|first| *first < stretch.until) else {
            return Ok(None);
        };
        let cursor = |table: usize, shift: i64| Cursor {
            table,
            shift,
            ahead: VecDeque::new(),
            from: Some(first.saturating_add(1).saturating_sub(shift)),
            to: last.saturating_sub(shift),
        };
        let of_table = |(table, moved): (usize, &Moved)| {
            moved.shifts.iter().map(|shift| cursor(table, *shift)).collect::<Vec<Cursor>>()
        };
        let cursors = tables.iter().enumerate().flat_map(of_table).collect();
        Ok(Some(Instants { key, first: Some(first), cursors }))
    }

    pub fn next(&mut self, view: &View, tables: &[Moved]) -> Result<Option<Micros>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        for cursor in &mut self.cursors {
            cursor.fill(view, &tables[cursor.table], &self.key)?;
        }
        let least = self.cursors.iter().filter_map(|cursor| cursor.ahead.front().copied()).min();
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.ahead.front().copied() == least) {
            cursor.ahead.pop_front();
        }
        Ok(least)
    }
}

impl Cursor {
    fn fill(&mut self, view: &View, moved: &Moved, key: &[u8]) -> Result<()> {
        let Some(from) = self.from.filter(|_| self.ahead.is_empty()) else { return Ok(()) };
        let times = moved.events(view, key, from, self.to, PAGE)?;
        self.from = times.last().filter(|_| times.len() == PAGE).and_then(|last| last.checked_add(1));
        self.ahead = times.into_iter().map(|time| time.saturating_add(self.shift)).collect();
        Ok(())
    }
}
