//! Features of one or many entities: read what was given, read the state, call the extractors, say what the answer stands on.

use crate::answer::{Answer, FeatureColumn};
use crate::engine::{Deadline, QueryEngine};
use crate::forward::Elsewhere;
use crate::plan::Planned;
use crate::question::{At, Question};
use crate::reads::{Found, Reading, TooEarly};
use crate::recorder::{Recorder, entity_ids};
use crate::rows::{Rows, read_given};
use crate::view::View;
use std::sync::Arc;
use thyme_core::error::{Error, Result};
use thyme_core::time::Micros;
use thyme_core::value::Value;

/// More rows than this take milliseconds to read: in turns.
const LONG_READ_ROWS: usize = 512;

/// A question evaluated, with every slot of its plan.
pub(crate) struct Evaluated {
    pub view: Arc<View>,
    pub planned: Arc<Planned>,
    pub rows: Rows,
    pub found: Found,
    pub elsewhere: Elsewhere,
}

impl QueryEngine {
    /// Features of one or many entities.
    pub async fn answer(&self, question: Question) -> Result<Answer> {
        let mut recorder = Recorder::of_question(self, &question);
        let result = self.answer_with(&question, &mut recorder).await;
        recorder.finish(self, result, |answer, run| answer.run = run)
    }

    async fn answer_with(&self, question: &Question, recorder: &mut Recorder) -> Result<Answer> {
        let evaluated = self.evaluate(question, recorder).await?;
        answer_of(question, evaluated, recorder)
    }

    /// Answers and keeps the intermediate values.
    pub(crate) async fn evaluate(&self, question: &Question, recorder: &mut Recorder) -> Result<Evaluated> {
        let deadline = Deadline::new(self.deadline(&question.asking));
        let evaluated = async {
            loop {
                let before = self.parts.states.now();
                let outcome = self.evaluate_in_time(question, recorder, deadline).await;
                if !self.has_come_since(&before, &outcome) {
                    return outcome;
                }
            }
        };
        tokio::time::timeout(deadline.total, evaluated).await.unwrap_or_else(|_| Err(deadline.passed()))
    }

    async fn evaluate_in_time(
        &self,
        question: &Question,
        recorder: &mut Recorder,
        deadline: Deadline,
    ) -> Result<Evaluated> {
        let served = self.served()?;
        recorder.serves(&served);
        let planned = served.plan(&question.featureset, question.features.as_deref())?;
        self.check_size(question)?;
        let mut rows = Rows::new(&planned, Vec::new());
        read_given(&planned, question, &mut rows)?;
        recorder.entities(entity_ids(&planned, &rows, question.keys.len()));
        let view = self.view(served, &question.asking, is_of_now(question), deadline).await?;
        let is_spine = matches!(question.at, At::Each(_));
        let too_early = if is_spine { TooEarly::Mark } else { TooEarly::Refuse };
        rows.times = row_times(&question.at, question.keys.len(), view.now)?;
        if view.is_partial() && !planned.looked_up.is_empty() {
            // Extractors may look up any key.
            let mut evaluated =
                Evaluated { found: Found::new(0), view, planned, rows, elsewhere: Elsewhere::default() };
            self.fetch_whole(&mut evaluated, question, deadline).await?;
            return Ok(evaluated);
        }
        let found = Found::new(rows.len());
        let mut evaluated = self.read_state(Reading::new(view, planned, rows, found, too_early)).await?;
        if !evaluated.found.missing.is_empty() {
            self.fetch(&mut evaluated, question, deadline).await?;
        }
        self.call_extractors(&mut evaluated).await;
        Ok(evaluated)
    }

    /// Does the native reads.
    pub(crate) async fn read_state(&self, mut reading: Reading<Rows>) -> Result<Evaluated> {
        if reading.cells.len() > LONG_READ_ROWS {
            reading = self.turns.each(reading, Reading::turn).await?;
        } else {
            reading.step(usize::MAX)?;
        }
        let Reading { view, planned, cells, found, .. } = reading;
        Ok(Evaluated { view, planned, rows: cells, found, elsewhere: Elsewhere::default() })
    }

    pub(crate) async fn call_extractors(&self, evaluated: &mut Evaluated) {
        let Evaluated { view, planned, rows, .. } = evaluated;
        if !planned.calls.is_empty() {
            self.caller(view).call_all(planned, rows).await;
        }
    }

    fn check_size(&self, question: &Question) -> Result<()> {
        let limit = self.parts.options.max_batch;
        if question.keys.len() > limit {
            return Err(Error::invalid(format!("{} entities in one question, at most {limit}", question.keys.len()))
                .hint("use an export, or several questions"));
        }
        Ok(())
    }
}

/// Builds the answer out of the wanted slots.
pub(crate) fn answer_of(question: &Question, evaluated: Evaluated, recorder: &mut Recorder) -> Result<Answer> {
    let Evaluated { view, planned, mut rows, found, elsewhere } = evaluated;
    let ts = rows.times.iter().flatten().copied().max().unwrap_or(view.now);
    let mut read = view.standing_of(&found.touched)?;
    read.take_in(&elsewhere.standing);
    let standing = view.standing(&question.at, ts, read);
    recorder.stands(&standing, rows.len() as u64, found.known());
    let keys = planned.keys.iter().map(|key| {
        let values: Vec<Value> = rows.slots[key.slot].iter().map(|given| given.value.clone()).collect();
        (key.name.clone(), values)
    });
    let keys = keys.collect();
    let columns = planned.wanted.iter().enumerate().map(|(index, (name, slot))| {
        // A slot that stands in two columns (a feature under its old and new name) is copied for all but the last.
        let again = planned.wanted[index + 1..].iter().any(|(_, other)| other == slot);
        let values = if again { rows.slots[*slot].clone() } else { std::mem::take(&mut rows.slots[*slot]) };
        FeatureColumn { name: name.clone(), data_type: planned.slots[*slot].data_type.clone(), values }
    });
    Ok(Answer {
        featureset: planned.featureset.clone(),
        columns: columns.collect(),
        row_count: rows.len(),
        keys,
        standing,
        run: recorder.placeholder(),
    })
}

/// Whether the answer has now in it.
fn is_of_now(question: &Question) -> bool {
    match &question.at {
        At::Now => true,
        At::Time(_) => question.keys.is_empty(),
        At::Each(times) => times.iter().all(Option::is_none),
    }
}

/// T of every row.
fn row_times(at: &At, count: usize, now: Micros) -> Result<Vec<Option<Micros>>> {
    match at {
        At::Now => Ok(vec![Some(now); count]),
        At::Time(time) => Ok(vec![Some(*time); count]),
        At::Each(times) if times.len() == count => Ok(times.clone()),
        At::Each(times) => Err(Error::invalid(format!("{} times for {count} keys", times.len())).field("ts")),
    }
}
