//! Lookups asked through the API: one row of a dataset.

use crate::answer::{LookupAnswer, LookupField};
use crate::engine::{Deadline, QueryEngine};
use crate::forward::Elsewhere;
use crate::lookups::{LookupPlan, LookupRow};
use crate::part::{LookupPart, LookupPartAnswer, malformed};
use crate::question::{At, LookupQuestion, RunKind};
use crate::recorder::{Recorder, entity_id};
use crate::rows::KeyNames;
use crate::view::{Touched, View};
use std::sync::Arc;
use thyme_core::error::{Error, Result};
use thyme_core::time::Micros;
use thyme_core::value::Value;

/// A lookup evaluated, with what an explanation needs.
pub(crate) struct LookedUp {
    pub view: Arc<View>,
    pub plan: Arc<LookupPlan>,
    pub key: Vec<Value>,
    pub at: Micros,
    pub row: LookupRow,
    pub touched: Touched,
    pub elsewhere: Elsewhere,
}

impl QueryEngine {
    /// One row of a dataset: the newest at or before T of a raw one, all aggregates at T of an aggregated one.
    pub async fn lookup(&self, question: LookupQuestion) -> Result<LookupAnswer> {
        let mut recorder = Recorder::of_lookup(self, &question);
        let result = self.look_up(&question, &mut recorder).await;
        let result = result.and_then(|looked_up| lookup_answer(&question, looked_up, &mut recorder));
        recorder.finish(self, result, |answer, run| answer.run = run)
    }

    pub(crate) async fn look_up(&self, question: &LookupQuestion, recorder: &mut Recorder) -> Result<LookedUp> {
        let deadline = Deadline::new(self.deadline(&question.asking));
        loop {
            let before = self.parts.states.now();
            let outcome = self.look_up_in_time(question, recorder, deadline).await;
            if !self.has_come_since(&before, &outcome) {
                return outcome;
            }
        }
    }

    async fn look_up_in_time(
        &self,
        question: &LookupQuestion,
        recorder: &mut Recorder,
        deadline: Deadline,
    ) -> Result<LookedUp> {
        let served = self.served()?;
        recorder.serves(&served);
        let plan = served.lookup_plan(&question.dataset)?;
        let key = read_key(&plan, question)?;
        let names: Vec<&str> = plan.dataset.key_names().collect();
        recorder.entities(vec![entity_id(&names, &key)]);
        let view = self.view(served, &question.asking, question.at.is_none(), deadline).await?;
        let at = question.at.unwrap_or(view.now);
        let mut touched = Touched::default();
        let Some(slices) = plan.slices(&view, &key) else {
            let row = plan.read(&view, &key, at, &mut touched)?;
            return Ok(LookedUp { view, plan, key, at, row, touched, elsewhere: Elsewhere::default() });
        };
        let (dataset, components) = (&question.dataset, &key);
        let part = |place| LookupPart { place, dataset: dataset.clone(), key: components.clone(), at };
        let fetched = self.fetch_row(&view, slices.clone(), &question.asking, deadline, part).await?;
        let LookupPartAnswer { values, is_known, standing } = fetched;
        if values.as_ref().is_some_and(|values| values.len() != plan.dataset.fields.len()) {
            return Err(malformed("a row has another number of fields"));
        }
        let row = LookupRow { values, hit: is_known };
        Ok(LookedUp { view, plan, key, at, row, touched, elsewhere: Elsewhere { slices, standing } })
    }
}

impl Recorder {
    pub fn of_lookup(engine: &QueryEngine, question: &LookupQuestion) -> Recorder {
        let fingerprint = question.asking.api_key_fingerprint.clone();
        let mut recorder = Recorder::new(engine, &question.dataset, RunKind::Lookup, fingerprint);
        recorder.asked_at(question.at, question.asking.exclusive);
        recorder
    }
}

pub(crate) fn lookup_answer(
    question: &LookupQuestion,
    looked_up: LookedUp,
    recorder: &mut Recorder,
) -> Result<LookupAnswer> {
    let LookedUp { view, plan, key, at, row, touched, elsewhere } = looked_up;
    let asked = question.at.map_or(At::Now, At::Time);
    let mut read = view.standing_of(&touched)?;
    read.take_in(&elsewhere.standing);
    let standing = view.standing(&asked, at, read);
    recorder.stands(&standing, u64::from(row.values.is_some()), u64::from(row.hit));
    let dataset = &plan.dataset;
    let fields = row.values.map(|values| {
        let fields = dataset.fields.iter().zip(values).map(|(field, value)| LookupField {
            name: Arc::from(field.name.as_str()),
            data_type: field.data_type.clone(),
            value,
        });
        fields.collect()
    });
    Ok(LookupAnswer {
        dataset: Arc::from(dataset.name.as_str()),
        key: dataset.key_names().map(Arc::from).zip(key).collect(),
        row: fields,
        standing,
        run: recorder.placeholder(),
    })
}

fn read_key(plan: &LookupPlan, question: &LookupQuestion) -> Result<Vec<Value>> {
    let dataset = &plan.dataset;
    let all: Vec<&str> = dataset.key_names().collect();
    let names = KeyNames { owner: format!("dataset '{}'", dataset.name), all };
    let mut given = names.resolve(&question.key, &names.all)?;
    let mut key = Vec::with_capacity(dataset.key_columns.len());
    for &column in &dataset.key_columns {
        let field = &dataset.fields[column];
        let name = field.name.as_str();
        let component = given
            .remove(name)
            .ok_or_else(|| Error::invalid(format!("missing key '{name}' of dataset '{}'", dataset.name)).field(name))?;
        let value =
            component.read(&field.data_type).map_err(|error| error.context(format!("key '{name}'")).field(name))?;
        if value.is_null() {
            return Err(Error::invalid(format!("the key '{name}' is null")).field(name));
        }
        key.push(value);
    }
    Ok(key)
}
