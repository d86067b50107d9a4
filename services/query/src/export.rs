//! Exports: a spine in, the same rows in the same order with all their columns out, plus the features. One export reads
//! the snapshots (one of each slice) taken when it begins; its memory is bounded by one chunk of the spine.

use crate::answer::Standing;
use crate::cells::Finished;
use crate::chunk::{ChunkReader, Done, SpineColumns};
use crate::columns::{arrow_type, broken};
use crate::engine::QueryEngine;
use crate::plan::{GivenPlan, Planned};
use crate::question::{At, ExportQuestion, RunKind};
use crate::recorder::Recorder;
use crate::rows::ENTITY_ID;
use crate::run::RunRecord;
use crate::summary::{Counts, ExportSummary, FeatureCounts, ReadCounts};
use crate::view::Touched;
use arrow_array::RecordBatch;
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use std::collections::HashMap;
use std::sync::Arc;
use thyme_core::definition::DefinitionHash;
use thyme_core::error::{Error, Result};
use thyme_core::suggest;
use thyme_core::time::format_time;

impl QueryEngine {
    /// Begins an export over a spine of this schema: checks the question and takes the snapshots that all its chunks read.
    pub async fn export(self: &Arc<Self>, question: ExportQuestion, spine: SchemaRef) -> Result<Export> {
        let fingerprint = question.asking.api_key_fingerprint.clone();
        let mut recorder = Recorder::new(self, &question.featureset, RunKind::Offline, fingerprint);
        recorder.asked_at(None, question.asking.exclusive);
        match self.begin_export(&question, &spine, &mut recorder).await {
            Ok(begun) => Ok(Export::new(self.clone(), begun, recorder)),
            Err(error) => {
                recorder.fail(&error);
                recorder.record(self);
                Err(error)
            }
        }
    }

    async fn begin_export(
        self: &Arc<Self>,
        question: &ExportQuestion,
        spine: &SchemaRef,
        recorder: &mut Recorder,
    ) -> Result<Begun> {
        refuse_beside_pin(question)?;
        let served = self.served()?;
        recorder.serves(&served);
        let planned = served.plan(&question.featureset, question.features.as_deref())?;
        let columns = SpineColumns::find(&planned, question, spine)?;
        let schema = joined_schema(&planned, question, spine)?;
        let view = self.view_of(served, &question.asking, None).await?;
        self.refuse_elsewhere("an export", &view, &view.slices_elsewhere())?;
        let (plan, pin) = (planned.clone(), question.pin.clone());
        // What the first one reads is bounded as it is for all that follow.
        let view = Arc::new(self.turns.take(move || view.pinned(&plan, pin)).await??);
        let mut touched = Touched::default();
        planned.sources().for_each(|source| touched.all(source));
        let standing = view.standing(&At::Each(Vec::new()), view.now, view.standing_of(&touched)?);
        recorder.stands(&standing, 0, 0);
        let definition = view.served.definition(&planned.featureset)?;
        let reader = ChunkReader { view, planned, columns, statuses: question.statuses };
        Ok(Begun { reader, schema, standing, definition, is_again: question.pin.is_some() })
    }
}

/// What a pin has already.
fn refuse_beside_pin(question: &ExportQuestion) -> Result<()> {
    let asking = &question.asking;
    let given = [("known_at", asking.known_at.is_some()), ("at_least", asking.at_least.is_some())];
    match given.into_iter().find(|(_, is_given)| *is_given && question.pin.is_some()) {
        None => Ok(()),
        Some((name, _)) => Err(Error::invalid(format!("{name} is given beside a pin"))
            .field(name)
            .hint("leave it out: the pin says what the export stands on")),
    }
}

/// A checked export question with its view.
struct Begun {
    reader: ChunkReader,
    schema: Schema,
    standing: Standing,
    definition: DefinitionHash,
    /// Whether it was asked with a pin.
    is_again: bool,
}

impl Begun {
    /// `thyme.*` metadata. Of an export that was asked with a pin it is the same each time, so without what tells when that was.
    fn metadata(&self, run_id: &str) -> HashMap<String, String> {
        let ChunkReader { view, planned, .. } = &self.reader;
        let mut metadata = standing_metadata(&planned.featureset, &self.standing);
        metadata.insert("thyme.definition".to_string(), self.definition.to_string());
        metadata.extend(view.pin.iter().map(|pin| ("thyme.pin".to_string(), pin.encode())));
        metadata.insert("thyme.query_run_id".to_string(), run_id.to_string());
        if self.is_again {
            for name in ["ts", "watermark", "commit_id", "query_run_id"] {
                metadata.remove(&format!("thyme.{name}"));
            }
        }
        metadata
    }
}

/// An export under way. Its run is recorded when it is finished or dropped.
pub struct Export {
    engine: Arc<QueryEngine>,
    reader: ChunkReader,
    standing: Standing,
    schema: SchemaRef,
    recorder: Recorder,
    recorded: bool,
    tally: Tally,
}

/// What has come of an export so far.
struct Tally {
    rows: u64,
    known: u64,
    /// By wanted feature.
    counts: Vec<Counts>,
    /// By read of the plan.
    done: Vec<ReadCounts>,
}

impl Tally {
    fn new(planned: &Planned) -> Tally {
        let (counts, done) = (planned.wanted.iter(), planned.reads.iter());
        Tally {
            rows: 0,
            known: 0,
            counts: counts.map(|_| Counts::default()).collect(),
            done: done.map(|_| ReadCounts::default()).collect(),
        }
    }

    fn add_rows(&mut self, rows: u64, known: u64, columns: &[Finished], reads: &[ReadCounts]) {
        self.rows += rows;
        self.known += known;
        self.counts.iter_mut().zip(columns).for_each(|(all, column)| all.add(column.counts.clone()));
        self.done.iter_mut().zip(reads).for_each(|(all, read)| all.add(read));
    }
}

impl Export {
    fn new(engine: Arc<QueryEngine>, begun: Begun, recorder: Recorder) -> Export {
        let mut metadata: HashMap<String, String> = begun.schema.metadata().clone();
        // A spine that was an answer itself says of itself what is not said here.
        metadata.retain(|name, _| !name.starts_with("thyme."));
        metadata.extend(begun.metadata(&recorder.run_id()));
        let Begun { reader, schema, standing, .. } = begun;
        let schema = Arc::new(schema.with_metadata(metadata));
        let tally = Tally::new(&reader.planned);
        Export { engine, reader, standing, schema, recorder, recorded: false, tally }
    }

    /// All spine columns, then the features, then (where asked) `<feature>__status`; the metadata carries `thyme.featureset`,
    /// `thyme.mode`, `thyme.position`, `thyme.definition` and `thyme.pin`, and unless it was asked with a pin `thyme.ts` (now, as of which
    /// the state was read), `thyme.watermark`, `thyme.commit_id` and `thyme.query_run_id`.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// What all its rows stand on. `ts` is the time of asking; each row is final where its own time is below the watermark.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    pub fn query_run_id(&self) -> Arc<str> {
        self.recorder.run_id()
    }

    /// How many rows to join at once: a key's events are read once for all of them, and memory holds what they need.
    pub fn rows_at_once(&self) -> usize {
        self.reader.rows_at_once()
    }

    /// The same rows in the same order, with all their columns, plus the features.
    pub async fn join(&mut self, spine: RecordBatch) -> Result<RecordBatch> {
        let joined = self.join_chunks(spine).await;
        if let Err(error) = &joined {
            self.recorder.fail(error);
        }
        joined
    }

    /// What has come of it so far.
    pub fn summary(&self) -> ExportSummary {
        let ChunkReader { view, planned, .. } = &self.reader;
        let counts = planned.wanted.iter().zip(&self.tally.counts);
        let counts = counts.map(|((name, _), counts)| FeatureCounts { name: name.to_string(), counts: counts.clone() });
        let mut plan = self.engine.plan_of(&view.served, planned, self.rows_at_once());
        for (read, done) in plan.reads.iter_mut().zip(&self.tally.done) {
            read.done = Some(*done);
        }
        ExportSummary { rows: self.tally.rows, known: self.tally.known, features: counts.collect(), plan }
    }

    /// Ends the export and returns its run.
    pub fn finish(mut self) -> RunRecord {
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
        let (rows, mut arrays) = (spine.num_rows() as u64, spine.columns().to_vec());
        let (columns, done) = self.features(spine).await?;
        let known = done.hits.iter().filter(|hit| **hit).count() as u64;
        self.recorder.add_rows(rows, known);
        self.tally.add_rows(rows, known, &columns, &done.reads);
        arrays.extend(columns.iter().map(|column| column.values.clone()));
        arrays.extend(columns.iter().filter_map(|column| column.statuses.clone()));
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(broken)
    }

    async fn features(&self, spine: RecordBatch) -> Result<(Vec<Finished>, Done)> {
        let ChunkReader { view, planned, .. } = &self.reader;
        let turns = &self.engine.turns;
        if planned.calls.is_empty() {
            return self.reader.read_columns(spine, turns).await;
        }
        let (mut rows, done) = self.reader.read_values(spine, turns).await?;
        self.engine.caller(view).call_all(planned, &mut rows).await;
        view.check_lost()?;
        Ok((self.reader.finish(&rows)?, done))
    }

    fn record(&mut self) -> RunRecord {
        self.recorded = true;
        self.recorder.record(&self.engine)
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if !self.recorded {
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

impl SpineColumns {
    fn find(planned: &Planned, question: &ExportQuestion, spine: &Schema) -> Result<SpineColumns> {
        let names = || spine.fields().iter().map(|field| field.name().as_str());
        let position = |column: &str, what: String| {
            spine.index_of(column).map_err(|_| {
                Error::invalid(format!("the spine has no column '{column}' for {what}"))
                    .field(column)
                    .hint(suggest::hint(column, names()))
            })
        };
        for name in question.entity_columns.keys() {
            let features = &planned.compiled.features;
            if name != ENTITY_ID && !features.iter().any(|feature| feature.name == *name) {
                return Err(Error::invalid(format!("unknown key '{name}' of featureset '{}'", planned.featureset))
                    .field("entity_columns")
                    .hint(suggest::hint(name, planned.compiled.key_names())));
            }
        }
        let only_key = planned.keys.len() == 1;
        let column_of = |given: &GivenPlan, is_key: bool| {
            let mapped = question.entity_columns.get(given.name.as_ref());
            let entity = question.entity_columns.get(ENTITY_ID).filter(|_| is_key && only_key);
            let column = mapped.or(entity).map_or(given.name.as_ref(), String::as_str);
            let what = if is_key { "key" } else { "request feature" };
            position(column, format!("{what} '{}'", given.name))
        };
        let keys: Result<Vec<usize>> = planned.keys.iter().map(|key| column_of(key, true)).collect();
        let requests: Result<Vec<usize>> = planned.requests.iter().map(|given| column_of(given, false)).collect();
        if question.timestamp_column.is_empty() {
            return Err(Error::invalid("no timestamp column is named").field("timestamp_column"));
        }
        Ok(SpineColumns {
            time: position(&question.timestamp_column, "the timestamp".to_string())?,
            time_name: question.timestamp_column.clone(),
            keys: keys?,
            requests: requests?,
        })
    }
}

/// The spine's columns, the features, the statuses. No name may stand twice.
fn joined_schema(planned: &Planned, question: &ExportQuestion, spine: &Schema) -> Result<Schema> {
    let mut fields: Vec<Arc<ArrowField>> = spine.fields().iter().cloned().collect();
    let mut add = |name: String, data_type: ArrowType| {
        if spine.index_of(&name).is_ok() {
            return Err(Error::invalid(format!("the spine has a column '{name}', which is also an output"))
                .field(name.as_str())
                .hint("rename the column, or ask with features=[…] for others"));
        }
        fields.push(Arc::new(ArrowField::new(name, data_type, true)));
        Ok(())
    };
    for (name, slot) in &planned.wanted {
        add(name.to_string(), arrow_type(&planned.slots[*slot].data_type))?;
    }
    if question.statuses {
        for (name, _) in &planned.wanted {
            add(format!("{name}__status"), ArrowType::Utf8)?;
        }
    }
    Ok(Schema::new_with_metadata(fields, spine.metadata().clone()))
}
