//! Asking other nodes for what is not here, and putting it where it belongs (`docs/decisions/0025-forwarding.md`).

use crate::answer::FeatureValue;
use crate::ask::Evaluated;
use crate::engine::{Deadline, QueryEngine};
use crate::holders::{HolderMap, Shares};
use crate::part::{
    LookupPart, LookupPartAnswer, Part, PartAnswer, PartAsking, PartColumn, PartStanding, malformed, wanted_slots,
};
use crate::plan::{GivenPlan, Planned};
use crate::question::{Asking, At, Question};
use crate::reads::Missing;
use crate::rows::Rows;
use crate::view::View;
use futures::future::{BoxFuture, join_all};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_core::error::{Error, ErrorKind, Result};
use thyme_core::time::Micros;
use thyme_core::value::Value;
use thyme_state::HeldNow;

/// How long a question waits for somebody who answers: a node whose slices have changed is nowhere to be seen for a moment.
const PATIENCE: Duration = Duration::from_millis(1_500);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What came from other nodes.
#[derive(Default)]
pub(crate) struct Elsewhere {
    pub slices: BTreeSet<u16>,
    pub standing: PartStanding,
}

/// Of whom several slices are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// As many nodes as it takes.
    Many,
    /// One that holds them all.
    One,
}

/// The outcome of asking a node: an answer for these slices.
pub(crate) type Asked<'a, A> = BoxFuture<'a, Result<A>>;

impl QueryEngine {
    /// Fills in what is missing of an evaluated question.
    pub(crate) async fn fetch(&self, evaluated: &mut Evaluated, question: &Question, deadline: Deadline) -> Result<()> {
        let missing = std::mem::take(&mut evaluated.found.missing);
        let wanted: BTreeSet<u16> = missing.iter().map(|group| group.slice).collect();
        let Evaluated { view, planned, rows, .. } = &*evaluated;
        let ask = |url: Arc<str>, slices: BTreeSet<u16>| {
            let place = PartAsking::of(view, &question.asking, slices, deadline);
            let of_slices = rows_in(&missing, &place.slices);
            self.ask(url, part(question, place, planned, rows, &of_slices))
        };
        let answers = self.gather(view, wanted, Of::Many, deadline, ask).await?;
        for (slices, answer) in answers {
            take_in(evaluated, &missing, slices, answer)?;
        }
        Ok(())
    }

    /// Has all rows answered, extractors included, by a node that holds everything.
    pub(crate) async fn fetch_whole(
        &self,
        evaluated: &mut Evaluated,
        question: &Question,
        deadline: Deadline,
    ) -> Result<()> {
        let Evaluated { view, planned, rows, .. } = &*evaluated;
        let all: Vec<usize> = (0..rows.len()).collect();
        let ask = |url: Arc<str>, slices: BTreeSet<u16>| {
            let place = PartAsking::of(view, &question.asking, slices, deadline);
            self.ask(url, Part { is_whole: true, ..part(question, place, planned, rows, &all) })
        };
        let answer = self.gather(view, view.all_slices(), Of::One, deadline, ask).await?.pop();
        let (slices, answer) = answer.ok_or_else(|| malformed("no answer"))?;
        let mut columns = by_slot(answer.columns, all.len())?;
        for slot in wanted_slots(&evaluated.planned) {
            evaluated.rows.slots[slot] = columns.remove(&slot).ok_or_else(|| malformed("a column is missing"))?;
        }
        evaluated.found.hits = vec![false; all.len()];
        mark_known(&mut evaluated.found.hits, &all, &answer.known_rows)?;
        evaluated.elsewhere = Elsewhere { slices, standing: answer.standing };
        Ok(())
    }

    fn ask(&self, url: Arc<str>, part: Part) -> Asked<'_, PartAnswer> {
        Box::pin(async move { self.peers.read(&url, part).await })
    }

    /// Looks up a row on a node that holds all slices of its key.
    pub(crate) async fn fetch_row(
        &self,
        view: &View,
        slices: BTreeSet<u16>,
        asking: &Asking,
        deadline: Deadline,
        part_at: impl Fn(PartAsking) -> LookupPart,
    ) -> Result<LookupPartAnswer> {
        let ask = |url: Arc<str>, slices: BTreeSet<u16>| -> Asked<'_, LookupPartAnswer> {
            let part = part_at(PartAsking::of(view, asking, slices, deadline));
            Box::pin(async move { self.peers.look_up(&url, part).await })
        };
        let answer = self.gather(view, slices, Of::One, deadline, ask).await?.pop();
        answer.map(|(_, answer)| answer).ok_or_else(|| malformed("no answer"))
    }

    /// The greatest accepted event time in the slices that are not here: what now is, on the event clock.
    pub(crate) async fn greatest_elsewhere(
        &self,
        view: &View,
        asking: &Asking,
        deadline: Deadline,
    ) -> Result<Option<Micros>> {
        let ask = |url: Arc<str>, slices: BTreeSet<u16>| -> Asked<'_, Option<Micros>> {
            let place = PartAsking::of(view, asking, slices, deadline);
            Box::pin(async move { self.peers.greatest_event_time(&url, place).await })
        };
        let times = self.gather_many(view, view.slices_elsewhere(), deadline, ask).await?;
        Ok(times.into_iter().filter_map(|(_, greatest)| greatest).max())
    }

    /// Refuses what is not forwarded: it reads slices that are not here.
    pub(crate) fn refuse_elsewhere(&self, what: &str, view: &View, slices: &BTreeSet<u16>) -> Result<()> {
        slices.first().map_or(Ok(()), |slice| Err(self.elsewhere(what, *slice, view.slices())))
    }

    /// Refuses what would be in vain here: some slices are elsewhere.
    pub fn check_has_all(&self, what: &str) -> Result<()> {
        let (slices, held) = (self.parts.states.slices(), self.parts.states.held());
        let missing = (0..slices).find(|slice| !held.contains(slice));
        missing.map_or(Ok(()), |slice| Err(self.elsewhere(what, slice, slices)))
    }

    fn elsewhere(&self, what: &str, slice: u16, slices: u16) -> Error {
        let hint = match self.holders().of_all(&(0..slices).collect(), &[]) {
            Some(url) => format!("ask the node at {url}, which holds all slices"),
            None => "start a node with --role query, which holds all slices, and ask it".to_string(),
        };
        let message = format!("{what} is made where its rows are, and slice {slice} of {slices} is not here");
        Error::precondition(message).hint(hint)
    }

    /// Whether nobody answered for a slice that has come here since: then it is asked again.
    pub(crate) fn has_come_since<T>(&self, before: &HeldNow, outcome: &Result<T>) -> bool {
        outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable)
            && self.parts.states.have_changed(before)
    }

    /// Asks as many nodes as it takes until all of these slices are answered for.
    pub(crate) async fn gather_many<'a, A>(
        &self,
        view: &View,
        wanted: BTreeSet<u16>,
        deadline: Deadline,
        ask: impl Fn(Arc<str>, BTreeSet<u16>) -> Asked<'a, A>,
    ) -> Result<Vec<(BTreeSet<u16>, A)>> {
        self.gather(view, wanted, Of::Many, deadline, ask).await
    }

    /// Asks until all of these slices are answered for. A node that cannot answer is asked once, then another one.
    async fn gather<'a, A>(
        &self,
        view: &View,
        mut wanted: BTreeSet<u16>,
        of: Of,
        deadline: Deadline,
        ask: impl Fn(Arc<str>, BTreeSet<u16>) -> Asked<'a, A>,
    ) -> Result<Vec<(BTreeSet<u16>, A)>> {
        let mut answers = Vec::new();
        let mut tried: Vec<Arc<str>> = Vec::new();
        let mut last: Option<Error> = None;
        let begun = Instant::now();
        while !wanted.is_empty() {
            let map = self.holders();
            let shares = match shares(&map, &wanted, of, &tried) {
                Ok(shares) => shares,
                // The question is asked again.
                Err(_) if wanted.iter().any(|slice| !view.has(*slice) && self.parts.states.has(*slice)) => {
                    return Err(Error::unavailable("a slice has just come here").hint("ask again"));
                }
                Err(_) if begun.elapsed() < PATIENCE && deadline.left() > LOOK_EVERY => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
                Err(slice) => return Err(nobody(slice, view.slices(), of, &tried, last.as_ref())),
            };
            let asked = shares.into_iter().map(|(url, slices)| {
                let answer = ask(url.clone(), slices.clone());
                async move { (url, slices, answer.await) }
            });
            let asked = tokio::time::timeout(deadline.left(), join_all(asked)).await;
            for (url, slices, outcome) in asked.map_err(|_| deadline.passed())? {
                count(&outcome);
                match outcome {
                    Ok(answer) => {
                        wanted.retain(|slice| !slices.contains(slice));
                        answers.push((slices, answer));
                    }
                    Err(error) if error.kind() == ErrorKind::Unavailable => {
                        tracing::debug!(node = url.as_ref(), %error, "a node did not answer for its slices");
                        self.holders.doubt(&url);
                        tried.push(url);
                        last = Some(error);
                    }
                    Err(error) if is_of_deadline(&error) => return Err(deadline.passed()),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(answers)
    }
}

fn count<A>(outcome: &Result<A>) {
    let outcome = match outcome {
        Ok(_) => "answered",
        Err(error) if error.kind() == ErrorKind::Unavailable => "unavailable",
        Err(_) => "failed",
    };
    metrics::counter!("thyme_query_parts_total", "outcome" => outcome).increment(1);
}

/// The deadline of the question itself, not that of its `at_least`.
fn is_of_deadline(error: &Error) -> bool {
    error.kind() == ErrorKind::DeadlineExceeded && error.field_name().is_none()
}

/// Whom to ask for which of these slices; the error is a slice of which that is not known.
fn shares(map: &HolderMap, wanted: &BTreeSet<u16>, of: Of, tried: &[Arc<str>]) -> Result<Shares, u16> {
    match of {
        Of::Many => map.shares(wanted, tried),
        Of::One => {
            let slice = wanted.first().copied().unwrap_or_default();
            map.of_all(wanted, tried).map(|url| vec![(url, wanted.clone())]).ok_or(slice)
        }
    }
}

fn nobody(slice: u16, count: u16, of: Of, tried: &[Arc<str>], last: Option<&Error>) -> Error {
    let mut message = match of {
        Of::Many => format!("no node answers for slice {slice} of {count} now"),
        Of::One => "no node that answers now holds all slices that the question needs".to_string(),
    };
    if let (Some(url), Some(error)) = (tried.last(), last) {
        message = format!("{message}; {url}: {}", error.message());
    }
    Error::unavailable(message).hint(match of {
        Of::Many => "ask again in a second; if it stays so, start the node that held the slice, or another one",
        Of::One => "ask again in a second; if it stays so, start a node with --role query, which holds all slices",
    })
}

/// The part of a question that these rows are.
fn part(question: &Question, place: PartAsking, planned: &Planned, rows: &Rows, of: &[usize]) -> Part {
    let column =
        |given: &GivenPlan| -> Vec<Value> { of.iter().map(|row| rows.slots[given.slot][*row].value.clone()).collect() };
    Part {
        place,
        featureset: question.featureset.clone(),
        features: question.features.clone(),
        given: planned.keys.iter().chain(&planned.requests).map(column).collect(),
        times: of.iter().map(|row| rows.times[*row]).collect(),
        is_spine: matches!(question.at, At::Each(_)),
        is_whole: false,
    }
}

/// The rows with anything missing in these slices, ascending.
fn rows_in(missing: &[Missing], slices: &BTreeSet<u16>) -> Vec<usize> {
    let groups = missing.iter().filter(|group| slices.contains(&group.slice));
    let rows: BTreeSet<usize> = groups.flat_map(|group| &group.rows).map(|row| *row as usize).collect();
    rows.into_iter().collect()
}

/// Puts what a node has read where it was missing.
fn take_in(evaluated: &mut Evaluated, missing: &[Missing], slices: BTreeSet<u16>, answer: PartAnswer) -> Result<()> {
    let of = rows_in(missing, &slices);
    let columns = by_slot(answer.columns, of.len())?;
    for group in missing.iter().filter(|group| slices.contains(&group.slice)) {
        for slot in evaluated.planned.reads[group.read].slots() {
            let values = columns.get(&slot).ok_or_else(|| malformed("a column is missing"))?;
            for &row in &group.rows {
                let place = of.binary_search(&(row as usize)).map_err(|_| malformed("a row is missing"))?;
                evaluated.rows.slots[slot][row as usize] = values[place].clone();
            }
        }
    }
    mark_known(&mut evaluated.found.hits, &of, &answer.known_rows)?;
    evaluated.elsewhere.slices.extend(slices);
    evaluated.elsewhere.standing.take_in(&answer.standing);
    Ok(())
}

fn by_slot(columns: Vec<PartColumn>, rows: usize) -> Result<BTreeMap<usize, Vec<FeatureValue>>> {
    if columns.iter().any(|column| column.values.len() != rows) {
        return Err(malformed("a column has another number of rows"));
    }
    Ok(columns.into_iter().map(|column| (column.slot, column.values)).collect())
}

fn mark_known(hits: &mut [bool], of: &[usize], known_rows: &[u32]) -> Result<()> {
    for known in known_rows {
        let row = of.get(*known as usize).ok_or_else(|| malformed("a row is known that was not asked"))?;
        hits[*row] = true;
    }
    Ok(())
}
