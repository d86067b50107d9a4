//! Exports: a spine in, the same rows in the same order with all their columns out, plus the features. One export reads
//! the snapshots (one of each slice) taken when it begins; its memory is bounded by one chunk of the spine.

use crate::answer::Standing;
use crate::cells::Finished;
use crate::chunk::{ChunkReader, Done, SpineColumns, rows_at_once};
use crate::columns::broken;
use crate::engine::QueryEngine;
use crate::export_parts::{PartPlan, joined_schema, spine_columns};
use crate::question::{Asking, At, ExportQuestion, RunKind};
use crate::recorder::Recorder;
use crate::run::RunRecord;
use crate::summary::{Counts, ExportPlan, ExportSummary, FeatureCounts, ReadCounts};
use crate::view::Touched;
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use std::collections::HashMap;
use std::sync::Arc;
use thyme_core::definition::DefinitionHash;
use thyme_core::error::{Error, Result};
use thyme_core::time::format_time;

impl QueryEngine {
    /// Begins an export over a spine of this schema: checks the question and takes the snapshots that all its chunks read.
    pub async fn export(self: &Arc<Self>, question: ExportQuestion, spine: SchemaRef) -> Result<Export> {
        let asking = &question.asking;
        let recorder = |name: &str| {
            let mut recorder = Recorder::new(self, name, RunKind::Offline, asking.api_key_fingerprint.clone());
            recorder.asked_at(None, asking.exclusive);
            recorder
        };
        let mut recorders: Vec<Recorder> = question.names().into_iter().map(recorder).collect();
        match self.begin_export(&question, &spine, &mut recorders).await {
            Ok(begun) => Ok(Export::new(self.clone(), begun, recorders)),
            Err(error) => {
                for recorder in &mut recorders {
                    recorder.fail(&error);
                    recorder.record(self);
                }
                Err(error)
            }
        }
    }

    async fn begin_export(
        self: &Arc<Self>,
        question: &ExportQuestion,
        spine: &SchemaRef,
        recorders: &mut [Recorder],
    ) -> Result<Begun> {
        refuse_beside_pin(&question.asking, question.pin.is_some())?;
        let served = self.served()?;
        recorders.iter_mut().for_each(|recorder| recorder.serves(&served));
        let plans = question.plan(&served)?;
        let columns = spine_columns(&plans, question, spine)?;
        let schema = joined_schema(&plans, question, spine)?;
        let view = self.view_of(served, &question.asking, None).await?;
        self.refuse_elsewhere("an export", &view, &view.slices_elsewhere())?;
        let (planned, pin) = (plans.iter().map(|plan| plan.planned.clone()).collect::<Vec<_>>(), question.pin.clone());
        // What the first one reads is bounded as it is for all that follow.
        let view = Arc::new(self.turns.take(move || view.pinned(&planned, pin)).await??);
        let mut touched = Touched::default();
        plans.iter().flat_map(|plan| plan.planned.sources()).for_each(|source| touched.all(source));
        let standing = view.standing(&At::Each(Vec::new()), view.now, view.standing_of(&touched)?);
        recorders.iter_mut().for_each(|recorder| recorder.stands(&standing, 0, 0));
        let definition = |plan: &PartPlan| view.served.definition(&plan.planned.featureset);
        let definitions: Result<Vec<DefinitionHash>> = plans.iter().map(definition).collect();
        let (definitions, statuses) = (definitions?, question.statuses);
        let part = |(PartPlan { planned, prefix }, columns): (PartPlan, SpineColumns)| {
            (ChunkReader { view: view.clone(), planned, columns, statuses }, prefix)
        };
        let parts = plans.into_iter().zip(columns).map(part).collect();
        Ok(Begun { parts, schema, standing, definitions, is_again: question.pin.is_some() })
    }
}

/// What a pin has already.
pub(crate) fn refuse_beside_pin(asking: &Asking, is_pinned: bool) -> Result<()> {
    let given = [("known_at", asking.known_at.is_some()), ("at_least", asking.at_least.is_some())];
    match given.into_iter().find(|(_, is_given)| *is_given && is_pinned) {
        None => Ok(()),
        Some((name, _)) => Err(Error::invalid(format!("{name} is given beside a pin"))
            .field(name)
            .hint("leave it out: the pin says what the export stands on")),
    }
}

/// A checked export question with its view.
struct Begun {
    /// The featuresets, each with what stands before the names of its columns.
    parts: Vec<(ChunkReader, String)>,
    schema: Schema,
    standing: Standing,
    /// Of each featureset.
    definitions: Vec<DefinitionHash>,
    /// Whether it was asked with a pin.
    is_again: bool,
}

impl Begun {
    /// `thyme.*` metadata. Of an export that was asked with a pin it is the same each time, so without what tells when that was.
    fn metadata(&self, run_id: &str) -> HashMap<String, String> {
        let featuresets = self.parts.iter().map(|(reader, _)| reader.planned.featureset.as_ref());
        let mut metadata = standing_metadata(&listed(featuresets), &self.standing);
        metadata.insert("thyme.definition".to_string(), listed(self.definitions.iter()));
        let pin = self.parts.first().and_then(|(reader, _)| reader.view.pin.as_ref());
        metadata.extend(pin.map(|pin| ("thyme.pin".to_string(), pin.encode())));
        metadata.insert("thyme.query_run_id".to_string(), run_id.to_string());
        if self.is_again {
            for name in ["ts", "watermark", "commit_id", "query_run_id"] {
                metadata.remove(&format!("thyme.{name}"));
            }
        }
        metadata
    }
}

/// Of several featuresets, in their order.
fn listed(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// An export under way. Its runs, one for each featureset, are recorded when it is finished or dropped.
pub struct Export {
    engine: Arc<QueryEngine>,
    parts: Vec<Part>,
    standing: Standing,
    schema: SchemaRef,
    /// Whether it was asked with a pin.
    is_again: bool,
    recorded: bool,
    rows: u64,
    /// Rows whose key any featureset knew.
    known: u64,
}

/// What is exported of a featureset, and what has come of it so far.
struct Part {
    reader: ChunkReader,
    /// Stands before the names of its columns.
    prefix: String,
    recorder: Recorder,
    /// By wanted feature.
    counts: Vec<Counts>,
    /// By read of the plan.
    done: Vec<ReadCounts>,
}

impl Part {
    fn new((reader, prefix): (ChunkReader, String), recorder: Recorder) -> Part {
        let counts = vec![Counts::default(); reader.planned.wanted.len()];
        let done = vec![ReadCounts::default(); reader.planned.reads.len()];
        Part { reader, prefix, recorder, counts, done }
    }

    /// Its columns for a chunk of the spine, and which keys it knows.
    async fn join(&mut self, engine: &QueryEngine, spine: RecordBatch) -> Result<(Vec<Finished>, Vec<bool>)> {
        let (columns, Done { hits, reads }) = self.columns(engine, spine).await?;
        self.recorder.add_rows(hits.len() as u64, hits.iter().filter(|hit| **hit).count() as u64);
        self.counts.iter_mut().zip(&columns).for_each(|(all, column)| all.add(column.counts.clone()));
        self.done.iter_mut().zip(&reads).for_each(|(all, read)| all.add(read));
        Ok((columns, hits))
    }

    async fn columns(&self, engine: &QueryEngine, spine: RecordBatch) -> Result<(Vec<Finished>, Done)> {
        let ChunkReader { view, planned, .. } = &self.reader;
        if planned.calls.is_empty() {
            return self.reader.read_columns(spine, &engine.turns).await;
        }
        let (mut rows, done) = self.reader.read_values(spine, &engine.turns).await?;
        engine.caller(view).call_all(planned, &mut rows).await;
        view.check_lost()?;
        Ok((self.reader.finish(&rows)?, done))
    }

    /// Counts of its features, and its plan.
    fn tell(&self, engine: &QueryEngine, summary: &mut ExportSummary) {
        let ChunkReader { view, planned, .. } = &self.reader;
        for ((name, _), counts) in planned.wanted.iter().zip(&self.counts) {
            summary.features.push(FeatureCounts { name: format!("{}{name}", self.prefix), counts: counts.clone() });
        }
        engine.add_to_plan(&mut summary.plan, &view.served, planned, &self.prefix);
    }
}

impl Export {
    fn new(engine: Arc<QueryEngine>, begun: Begun, recorders: Vec<Recorder>) -> Export {
        let mut metadata: HashMap<String, String> = begun.schema.metadata().clone();
        // A spine that was an answer itself says of itself what is not said here.
        metadata.retain(|name, _| !name.starts_with("thyme."));
        metadata.extend(begun.metadata(&listed(recorders.iter().map(Recorder::run_id))));
        let Begun { parts, schema, standing, is_again, .. } = begun;
        let schema = Arc::new(schema.with_metadata(metadata));
        let parts = parts.into_iter().zip(recorders).map(|(part, recorder)| Part::new(part, recorder)).collect();
        Export { engine, parts, standing, schema, is_again, recorded: false, rows: 0, known: 0 }
    }

    /// All spine columns, then the features (`Featureset.feature` where featuresets are asked as a list), then (where asked)
    /// `<feature>__status`; the metadata carries `thyme.featureset`,
    /// `thyme.mode`, `thyme.position`, `thyme.definition` and `thyme.pin`, and unless it was asked with a pin `thyme.ts` (now, as of which
    /// the state was read), `thyme.watermark`, `thyme.commit_id` and `thyme.query_run_id`.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// What all its rows stand on. `ts` is the time of asking; each row is final where its own time is below the watermark.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Of several featuresets the ids of all runs, separated by commas.
    pub fn query_run_id(&self) -> Arc<str> {
        listed(self.parts.iter().map(|part| part.recorder.run_id())).into()
    }

    /// How many rows to join at once: a key's events are read once for all of them, and memory holds what they need.
    pub fn rows_at_once(&self) -> usize {
        rows_at_once(self.parts.iter().map(|part| &*part.reader.planned), self.parts[0].reader.statuses)
    }

    /// The same rows in the same order, with all their columns, plus the features.
    pub async fn join(&mut self, spine: RecordBatch) -> Result<RecordBatch> {
        let joined = self.join_chunks(spine).await;
        if let Err(error) = &joined {
            self.parts.iter_mut().for_each(|part| part.recorder.fail(error));
        }
        joined
    }

    /// What has come of it so far. Of an export that was asked with a pin it is the same each time, so without what was done: how that
    /// goes depends on what has come since.
    pub fn summary(&self) -> ExportSummary {
        let plan = ExportPlan { reads: Vec::new(), calls: Vec::new(), chunk_rows: self.rows_at_once() };
        let mut summary = ExportSummary { rows: self.rows, known: self.known, features: Vec::new(), plan };
        self.parts.iter().for_each(|part| part.tell(&self.engine, &mut summary));
        let done = self.parts.iter().flat_map(|part| &part.done).filter(|_| !self.is_again);
        summary.plan.reads.iter_mut().zip(done).for_each(|(read, done)| read.done = Some(*done));
        summary
    }

    /// Ends the export and returns its runs.
    pub fn finish(mut self) -> Vec<RunRecord> {
        self.record()
    }

    async fn join_chunks(&mut self, spine: RecordBatch) -> Result<RecordBatch> {
        let chunk_rows = self.rows_at_once();
        if spine.num_rows() <= chunk_rows {
            return self.join_chunk(spine).await;
        }
        let mut joined = Vec::with_capacity(spine.num_rows().div_ceil(chunk_rows));
        for from in (0..spine.num_rows()).step_by(chunk_rows) {
            let chunk = spine.slice(from, chunk_rows.min(spine.num_rows() - from));
            joined.push(self.join_chunk(chunk).await?);
        }
        concat_batches(&self.schema, &joined).map_err(broken)
    }

    async fn join_chunk(&mut self, spine: RecordBatch) -> Result<RecordBatch> {
        let mut arrays = spine.columns().to_vec();
        let mut columns: Vec<Finished> = Vec::new();
        let mut known = vec![false; spine.num_rows()];
        for part in &mut self.parts {
            let (of_part, hits) = part.join(&self.engine, spine.clone()).await?;
            known.iter_mut().zip(hits).for_each(|(known, hit)| *known |= hit);
            columns.extend(of_part);
        }
        self.rows += known.len() as u64;
        self.known += known.iter().filter(|known| **known).count() as u64;
        arrays.extend(columns.iter().map(|column| column.values.clone()));
        arrays.extend(columns.into_iter().filter_map(|column| column.statuses));
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(broken)
    }

    fn record(&mut self) -> Vec<RunRecord> {
        self.recorded = true;
        self.parts.iter_mut().map(|part| part.recorder.record(&self.engine)).collect()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if !self.recorded {
            self.parts.iter_mut().for_each(|part| part.recorder.break_off());
            self.record();
        }
    }
}

/// `thyme.*` schema metadata of an answer in Arrow.
pub(crate) fn standing_metadata(featureset: &str, standing: &Standing) -> HashMap<String, String> {
    let mut metadata = HashMap::new();
    let mut put = |name: &str, value: String| metadata.insert(format!("thyme.{name}"), value);
    put("featureset", featureset.to_string());
    put("mode", standing.mode.name().to_string());
    put("ts", format_time(standing.ts));
    put("position", standing.position.encode());
    put("commit_id", standing.commit_id.to_string());
    if let Some(watermark) = standing.watermark {
        put("watermark", format_time(watermark));
    }
    metadata
}
