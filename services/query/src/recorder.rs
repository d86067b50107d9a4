//! Builds the run record of a question while it is answered, and hands it on when it ends, well or not.

use crate::answer::Standing;
use crate::deployment::Served;
use crate::engine::QueryEngine;
use crate::plan::{GivenPlan, Planned};
use crate::question::{At, Question, RunKind};
use crate::rows::Rows;
use crate::run::{RECORDED_ENTITIES, RunRecord};
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::Instant;
use thyme_core::error::Result;
use thyme_core::position::PositionSet;
use thyme_core::time::Micros;
use thyme_core::value::Value;

pub(crate) struct Recorder {
    started: Instant,
    run: RunRecord,
}

impl Recorder {
    pub fn new(engine: &QueryEngine, name: &str, kind: RunKind, fingerprint: Option<Arc<str>>) -> Recorder {
        let created_at = engine.parts.clock.now();
        let run = RunRecord {
            id: run_id(created_at),
            featureset: Arc::from(name),
            kind,
            entity_ids: Vec::new(),
            requested_timestamp: None,
            ts: created_at,
            exclusive: false,
            row_count: 0,
            hit_count: 0,
            latency_us: 0,
            api_key_fingerprint: fingerprint,
            commit_id: Arc::from(""),
            watermark: None,
            position: PositionSet::default(),
            error: None,
            created_at,
        };
        Recorder { started: Instant::now(), run }
    }

    pub fn of_question(engine: &QueryEngine, question: &Question) -> Recorder {
        let asking = &question.asking;
        let fingerprint = asking.api_key_fingerprint.clone();
        let mut recorder = Recorder::new(engine, &question.featureset, question.kind, fingerprint);
        recorder.run.row_count = question.keys.len() as u64;
        recorder.run.exclusive = asking.exclusive;
        recorder.run.requested_timestamp = match &question.at {
            At::Now => None,
            At::Time(time) => Some(*time),
            At::Each(times) => times.iter().flatten().copied().max(),
        };
        recorder
    }

    pub fn asked_at(&mut self, at: Option<Micros>, exclusive: bool) {
        self.run.requested_timestamp = at;
        self.run.exclusive = exclusive;
    }

    pub fn serves(&mut self, served: &Served) {
        self.run.commit_id = served.deployment.commit_id.clone();
    }

    pub fn entities(&mut self, entity_ids: Vec<Json>) {
        self.run.entity_ids = entity_ids;
    }

    pub fn stands(&mut self, standing: &Standing, row_count: u64, hit_count: u64) {
        self.run.ts = standing.ts;
        self.run.watermark = standing.watermark;
        self.run.position = standing.position.clone();
        self.run.row_count = row_count;
        self.run.hit_count = hit_count;
    }

    /// Adds the rows of one more chunk.
    pub fn add_rows(&mut self, row_count: u64, hit_count: u64) {
        self.run.row_count += row_count;
        self.run.hit_count += hit_count;
    }

    pub fn run_id(&self) -> Arc<str> {
        self.run.id.clone()
    }

    /// What stands in the answer until the run is finished.
    pub fn placeholder(&self) -> RunRecord {
        self.run.clone()
    }

    pub fn fail(&mut self, error: impl ToString) {
        self.run.error = Some(error.to_string());
    }

    /// Of an answer that ends before all of it was given out: its client has gone, or its deadline has come.
    pub fn break_off(&mut self) {
        self.run.error.get_or_insert_with(|| "broken off before its end".to_string());
    }

    /// Ends the run, records it and returns it.
    pub fn record(&mut self, engine: &QueryEngine) -> RunRecord {
        self.run.latency_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        metrics::histogram!("thyme_query_duration_seconds", "kind" => self.run.kind.name())
            .record(self.run.latency_us as f64 / 1e6);
        engine.parts.runs.record(&self.run);
        self.run.clone()
    }

    /// Ends the run with the answer or the error.
    pub fn finish<T>(
        mut self,
        engine: &QueryEngine,
        result: Result<T>,
        put: impl FnOnce(&mut T, RunRecord),
    ) -> Result<T> {
        if let Err(error) = &result {
            self.fail(error);
        }
        let run = self.record(engine);
        result.map(|mut answer| {
            put(&mut answer, run);
            answer
        })
    }
}

/// UUIDv7 of a time.
fn run_id(at: Micros) -> Arc<str> {
    let seconds = u64::try_from(at.div_euclid(1_000_000)).unwrap_or(0);
    let nanos = (at.rem_euclid(1_000_000) * 1000) as u32;
    let stamp = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos);
    uuid::Uuid::new_v7(stamp).to_string().into()
}

/// The keys of the first rows as a run keeps them: the bare value for one key, an object for several.
pub(crate) fn entity_ids(planned: &Planned, rows: &Rows, count: usize) -> Vec<Json> {
    let value =
        |key: &GivenPlan, row: usize| rows.slots[key.slot].get(row).map_or(Json::Null, |given| given.value.to_json());
    let ids = (0..count.min(RECORDED_ENTITIES)).map(|row| match planned.keys.as_slice() {
        [only] => value(only, row),
        keys => Json::Object(keys.iter().map(|key| (key.name.to_string(), value(key, row))).collect()),
    });
    ids.collect()
}

/// The same for one key given by its components.
pub(crate) fn entity_id(names: &[&str], components: &[Value]) -> Json {
    match components {
        [only] => only.to_json(),
        many => Json::Object(names.iter().map(|name| name.to_string()).zip(many.iter().map(Value::to_json)).collect()),
    }
}
