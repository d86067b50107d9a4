//! Digests of windows at one time. How the parts of a digest were put together shows in it, so this follows fixed stretches of
//! time, whatever rows there are and whichever other windows are asked for:
//!
//! - A stretch that a page stands for, wholly inside the window and with nothing in it that may not be seen, gives the digest that
//!   its entry keeps: of the digests below it, cut.
//! - Where some of it may not be seen, the same is made of what may.
//! - What a window cuts gives all that lies below, as it is.
//!
//! A stretch of at most 64 events gives its values, and putting values together leaves no trace: so it does not matter where the
//! trie ends. Windows are told apart all the way, because one cuts what another holds.

use super::leaf::{LEAF_EVENTS, LeafCursor};
use super::page::{EntryHead, add_event};
use super::walk::{Step, Visitor};
use crate::model::{Table, Visible};
use thyme_core::aggregate::{Partial, TableLayout, WindowData, WindowRead};
use thyme_core::{Result, Value};

/// The digests of all windows of a question.
pub struct DigestRun<'a> {
    table: &'a Table,
    visible: &'a Visible,
    at: i64,
    /// Start of the longest window.
    pub from: i64,
    windows: Vec<OneWindow>,
    columns: Vec<bool>,
    values: Vec<Value>,
    upto: usize,
}

struct OneWindow {
    /// Index among the windows of the question.
    window: usize,
    start: i64,
    wanted: Vec<Wanted>,
    /// One for each entry that is open.
    open: Vec<Open>,
}

struct Wanted {
    /// Index among the partials of the window's read.
    place: usize,
    /// Index among the partials of the layout.
    index: usize,
    digest: Partial,
}

/// What an open entry is to a window.
enum Open {
    /// It has been taken, or lies outside, or within one that is so.
    Settled,
    /// All that lies below is added as it is.
    Cut,
    /// Wholly inside: what is seen of it is cut when it is left, and then added to what there was before.
    Whole { before: Vec<Partial> },
}

impl<'a> DigestRun<'a> {
    /// `None` if no digest is asked for.
    pub fn new(table: &'a Table, at: i64, windows: &[WindowRead], visible: &'a Visible) -> Option<DigestRun<'a>> {
        let layout = &table.layout;
        let mut columns = vec![false; layout.columns.len()];
        let mut upto = 0;
        let mut list = Vec::new();
        for (window, read) in windows.iter().enumerate() {
            let mut wanted = Vec::new();
            for (place, index) in read.partials.iter().map(|index| usize::from(*index)).enumerate() {
                let spec = &layout.partials[index];
                if !spec.kind.is_digest() {
                    continue;
                }
                if let Some(column) = spec.column {
                    columns[usize::from(column)] = true;
                }
                upto = upto.max(index + 1);
                wanted.push(Wanted { place, index, digest: Partial::empty(spec) });
            }
            if !wanted.is_empty() {
                list.push(OneWindow { window, start: read.window.start(at), wanted, open: Vec::new() });
            }
        }
        let from = list.iter().map(|one| one.start).min()?;
        let values = vec![Value::Null; layout.columns.len()];
        Some(DigestRun { table, visible, at, from, windows: list, columns, values, upto })
    }

    pub fn finish(self, data: &mut [WindowData]) {
        for one in self.windows {
            for wanted in one.wanted {
                data[one.window].partials[wanted.place] = wanted.digest;
            }
        }
    }
}

/// How an entry lies to a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// Outside, or within one that was taken.
    Apart,
    /// Wholly inside, and all of it is seen.
    Takes,
    /// Wholly inside, but not all of it is seen.
    SeesSome,
    Cuts,
}

impl OneWindow {
    fn is_settled(&self) -> bool {
        matches!(self.open.last(), Some(Open::Settled))
    }

    /// What there is so far; leaves nothing.
    fn take(&mut self, layout: &TableLayout) -> Vec<Partial> {
        let taken = self
            .wanted
            .iter_mut()
            .map(|wanted| std::mem::replace(&mut wanted.digest, Partial::empty(&layout.partials[wanted.index])));
        taken.collect()
    }
}

impl Visitor for DigestRun<'_> {
    fn entry(&mut self, first: i64, last: i64, head: &EntryHead<'_>) -> Result<Step> {
        let layout = &self.table.layout;
        let is_seen = self.visible.sees(head.sequence, head.append_time);
        let relation = |one: &OneWindow| match () {
            () if one.is_settled() || last < one.start => Relation::Apart,
            () if first < one.start || last > self.at => Relation::Cuts,
            () if is_seen => Relation::Takes,
            () => Relation::SeesSome,
        };
        let relations: Vec<Relation> = self.windows.iter().map(relation).collect();
        if relations.contains(&Relation::Takes) {
            let windows = &mut self.windows;
            head.partials(layout, self.upto, |index, spec, partial| {
                let taking = windows.iter_mut().zip(&relations).filter(|(_, relation)| **relation == Relation::Takes);
                let wanted = taking.flat_map(|(one, _)| &mut one.wanted).filter(|wanted| wanted.index == index);
                wanted.for_each(|wanted| wanted.digest.merge(spec, &partial));
            })?;
        }
        if relations.iter().all(|relation| matches!(relation, Relation::Apart | Relation::Takes)) {
            return Ok(Step::Skip);
        }
        let is_page = head.count > LEAF_EVENTS as u64;
        for (one, relation) in self.windows.iter_mut().zip(relations) {
            let open = match relation {
                Relation::Apart | Relation::Takes => Open::Settled,
                Relation::SeesSome if is_page => Open::Whole { before: one.take(layout) },
                Relation::SeesSome | Relation::Cuts => Open::Cut,
            };
            one.open.push(open);
        }
        Ok(Step::Open)
    }

    fn leaf(&mut self, mut leaf: LeafCursor<'_>) -> Result<bool> {
        while leaf.advance()? {
            if leaf.time < self.from {
                break;
            }
            if leaf.time > self.at || !self.visible.sees(leaf.sequence, leaf.append_time) {
                leaf.skip()?;
                continue;
            }
            let predicates = leaf.decode(&self.columns, &mut self.values)?;
            for one in self.windows.iter_mut().filter(|one| leaf.time >= one.start && !one.is_settled()) {
                for wanted in &mut one.wanted {
                    let spec = &self.table.layout.partials[wanted.index];
                    add_event(&mut wanted.digest, spec, leaf.time, &self.values, predicates);
                }
            }
        }
        Ok(true)
    }

    fn leave(&mut self) -> Result<()> {
        let layout = &self.table.layout;
        for one in &mut self.windows {
            let Some(Open::Whole { before }) = one.open.pop() else { continue };
            for (wanted, before) in one.wanted.iter_mut().zip(before) {
                let mut below = std::mem::replace(&mut wanted.digest, before);
                below.cut();
                wanted.digest.merge(&layout.partials[wanted.index], &below);
            }
        }
        Ok(())
    }
}
