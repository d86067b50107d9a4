//! Features of one or many entities: read what was given, read the state, call the extractors, say what the answer stands on.

use crate::answer::{Answer, FeatureColumn};
use crate::engine::{QueryEngine, deadline_passed};
use crate::plan::Planned;
use crate::question::{At, Question};
use crate::reads::{TooEarly, read_all};
use crate::recorder::{Recorder, entity_ids};
use crate::rows::{Rows, read_given};
use crate::view::{Touched, View};
use std::sync::Arc;
use thyme_core::error::{Error, Result};
use thyme_core::time::Micros;
use thyme_core::value::Value;

/// More rows than this take milliseconds to read.
const LONG_READ_ROWS: usize = 512;

/// A question evaluated, with every slot of its plan.
pub(crate) struct Evaluated {
    pub view: Arc<View>,
    pub planned: Arc<Planned>,
    pub rows: Rows,
    pub touched: Touched,
    pub hits: u64,
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
        let deadline = self.deadline(&question.asking);
        let evaluated = tokio::time::timeout(deadline, self.evaluate_in_time(question, recorder));
        evaluated.await.unwrap_or_else(|_| Err(deadline_passed(deadline)))
    }

    async fn evaluate_in_time(&self, question: &Question, recorder: &mut Recorder) -> Result<Evaluated> {
        let served = self.served()?;
        recorder.serves(&served);
        let planned = served.plan(&question.featureset, question.features.as_deref())?;
        self.check_size(question)?;
        let mut rows = Rows::new(&planned, Vec::new());
        read_given(&planned, question, &mut rows)?;
        recorder.entities(entity_ids(&planned, &rows, question.keys.len()));
        let view = self.view(served, &question.asking).await?;
        let is_spine = matches!(question.at, At::Each(_));
        let too_early = if is_spine { TooEarly::Mark } else { TooEarly::Refuse };
        rows.times = row_times(&question.at, question.keys.len(), view.now)?;
        let mut evaluated = read_state(view, planned, rows, too_early).await?;
        if !evaluated.planned.calls.is_empty() {
            let Evaluated { view, planned, rows, .. } = &mut evaluated;
            self.caller(view).call_all(planned, rows).await;
        }
        Ok(evaluated)
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

/// Does the native reads; those of many rows not on a thread that serves requests.
async fn read_state(view: Arc<View>, planned: Arc<Planned>, mut rows: Rows, too_early: TooEarly) -> Result<Evaluated> {
    let is_long = rows.len() > LONG_READ_ROWS;
    let read = move || {
        let mut touched = Touched::default();
        let mut hits = vec![false; rows.len()];
        read_all(&view, &planned, &mut rows, &mut touched, &mut hits, too_early)?;
        let hits = hits.iter().filter(|hit| **hit).count() as u64;
        Ok(Evaluated { view, planned, rows, touched, hits })
    };
    if !is_long {
        return read();
    }
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| Error::internal(format!("reading the state failed: {error}")))?
}

/// Builds the answer out of the wanted slots.
pub(crate) fn answer_of(question: &Question, evaluated: Evaluated, recorder: &mut Recorder) -> Result<Answer> {
    let Evaluated { view, planned, mut rows, touched, hits } = evaluated;
    let ts = rows.times.iter().flatten().copied().max().unwrap_or(view.now);
    let standing = view.standing(&question.at, ts, &touched)?;
    recorder.stands(&standing, rows.len() as u64, hits);
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

/// T of every row.
fn row_times(at: &At, count: usize, now: Micros) -> Result<Vec<Option<Micros>>> {
    match at {
        At::Now => Ok(vec![Some(now); count]),
        At::Time(time) => Ok(vec![Some(*time); count]),
        At::Each(times) if times.len() == count => Ok(times.clone()),
        At::Each(times) => Err(Error::invalid(format!("{} times for {count} keys", times.len())).field("ts")),
    }
}
