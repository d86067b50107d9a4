//! Exports: a spine in, the same rows in the same order with all their columns out, plus the features. One export reads one
//! snapshot; its memory is bounded by one batch of the spine.

use crate::answer::{FeatureValue, Standing, Status};
use crate::columns::{arrow_type, broken, from_array, times_from_array, to_array};
use crate::engine::QueryEngine;
use crate::plan::{GivenPlan, Planned};
use crate::question::{At, ExportQuestion, RunKind};
use crate::reads::read_all;
use crate::recorder::Recorder;
use crate::rows::{ENTITY_ID, Rows};
use crate::run::RunRecord;
use crate::view::{Touched, View};
use arrow::array::{ArrayRef, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use std::collections::HashMap;
use std::sync::Arc;
use thyme_core::error::{Error, Result};
use thyme_core::suggest;
use thyme_core::time::format_time;
use thyme_core::value::Value;

/// Rows that are read and joined at once: enough that rows of one key meet, few enough for bounded memory.
const CHUNK_ROWS: usize = 65_536;

impl QueryEngine {
    /// Begins an export over a spine of this schema: checks the question and takes the one snapshot that all its chunks read.
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
        let served = self.served()?;
        recorder.serves(&served);
        let planned = served.plan(&question.featureset, question.features.as_deref())?;
        let columns = SpineColumns::find(&planned, question, spine)?;
        let schema = joined_schema(&planned, question, spine)?;
        let view = self.view(served, &question.asking).await?;
        let mut touched = Touched::default();
        planned.reads.iter().for_each(|read| touched.all(&read.source));
        planned.looked_up.iter().for_each(|source| touched.all(source));
        let standing = view.standing(&At::Each(Vec::new()), view.now, &touched)?;
        recorder.stands(&standing, 0, 0);
        Ok(Begun { view, planned, columns, statuses: question.statuses, schema, standing })
    }
}

/// A checked export question with its view.
struct Begun {
    view: Arc<View>,
    planned: Arc<Planned>,
    columns: SpineColumns,
    statuses: bool,
    schema: Schema,
    standing: Standing,
}

/// An export under way. Its run is recorded when it is finished or dropped.
pub struct Export {
    engine: Arc<QueryEngine>,
    begun: Begun,
    schema: SchemaRef,
    recorder: Recorder,
    recorded: bool,
}

impl Export {
    fn new(engine: Arc<QueryEngine>, begun: Begun, recorder: Recorder) -> Export {
        let mut metadata: HashMap<String, String> = begun.schema.metadata().clone();
        metadata.extend(standing_metadata(&begun.planned.featureset, &begun.standing));
        metadata.insert("thyme.query_run_id".to_string(), recorder.run_id().to_string());
        let schema = Arc::new(begun.schema.clone().with_metadata(metadata));
        Export { engine, begun, schema, recorder, recorded: false }
    }

    /// All spine columns, then the features, then (where asked) `<feature>__status`; the metadata carries `thyme.featureset`,
    /// `thyme.ts` (now, as of which the state was read), `thyme.watermark`, `thyme.position`, `thyme.commit_id` and
    /// `thyme.query_run_id`.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// What all its rows stand on. `ts` is the time of asking; each row is final where its own time is below the watermark.
    pub fn standing(&self) -> &Standing {
        &self.begun.standing
    }

    pub fn query_run_id(&self) -> Arc<str> {
        self.recorder.run_id()
    }

    /// The same rows in the same order, with all their columns, plus the features.
    pub async fn join(&mut self, spine: RecordBatch) -> Result<RecordBatch> {
        let joined = self.join_chunks(spine).await;
        if let Err(error) = &joined {
            self.recorder.fail(error);
        }
        joined
    }

    /// Ends the export and returns its run.
    pub fn finish(mut self) -> RunRecord {
        self.record()
    }

    async fn join_chunks(&mut self, spine: RecordBatch) -> Result<RecordBatch> {
        if spine.num_rows() <= CHUNK_ROWS {
            return self.join_chunk(spine).await;
        }
        let mut joined = Vec::with_capacity(spine.num_rows().div_ceil(CHUNK_ROWS));
        for from in (0..spine.num_rows()).step_by(CHUNK_ROWS) {
            let chunk = spine.slice(from, CHUNK_ROWS.min(spine.num_rows() - from));
            joined.push(self.join_chunk(chunk).await?);
        }
        concat_batches(&self.schema, &joined).map_err(broken)
    }

    async fn join_chunk(&mut self, spine: RecordBatch) -> Result<RecordBatch> {
        let Begun { view, planned, columns, statuses, .. } = &self.begun;
        let reading = (view.clone(), planned.clone(), columns.clone());
        let chunk = spine.clone();
        // Reading a chunk takes milliseconds: not on a thread that serves requests.
        let read = tokio::task::spawn_blocking(move || read_chunk(&reading.0, &reading.1, &reading.2, &chunk));
        let (mut rows, hits) =
            read.await.map_err(|error| Error::internal(format!("reading a chunk failed: {error}")))??;
        if !planned.calls.is_empty() {
            self.engine.caller(view).call_all(planned, &mut rows).await;
        }
        self.recorder.add_rows(rows.len() as u64, hits);
        let mut arrays: Vec<ArrayRef> = spine.columns().to_vec();
        for (_, slot) in &planned.wanted {
            let values = rows.slots[*slot].iter().map(|feature| &feature.value);
            arrays.push(to_array(values, &planned.slots[*slot].data_type)?);
        }
        if *statuses {
            for (_, slot) in &planned.wanted {
                arrays.push(status_array(&rows.slots[*slot]));
            }
        }
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(broken)
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

/// `OK`, `DEFAULT` or `ERROR` per row.
pub(crate) fn status_array(values: &[FeatureValue]) -> ArrayRef {
    Arc::new(values.iter().map(|value| Some(value.status.name())).collect::<StringArray>())
}

/// Where the spine holds time, keys and request features.
#[derive(Clone)]
struct SpineColumns {
    time: usize,
    time_name: String,
    /// (slot, column), parallel to the plan's keys.
    keys: Vec<usize>,
    requests: Vec<usize>,
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

/// Reads keys, times and the state for one chunk. Returns the rows and how many of their keys are known.
fn read_chunk(view: &View, planned: &Planned, columns: &SpineColumns, spine: &RecordBatch) -> Result<(Rows, u64)> {
    let times = times_from_array(spine.column(columns.time), &columns.time_name)?;
    let mut rows = Rows::new(planned, times);
    for (key, &column) in planned.keys.iter().zip(&columns.keys) {
        let values = from_array(spine.column(column), &key.data_type, spine.schema().field(column).name())?;
        rows.give(key.slot, values.into_iter());
    }
    for (given, &column) in planned.requests.iter().zip(&columns.requests) {
        let values = from_array(spine.column(column), &given.data_type, spine.schema().field(column).name())?;
        rows.slots[given.slot] = values.into_iter().map(|value| request_value(given, value)).collect();
    }
    let mut hits = vec![false; rows.len()];
    read_all(view, planned, &mut rows, &mut Touched::default(), &mut hits)?;
    let hits = hits.iter().filter(|hit| **hit).count() as u64;
    Ok((rows, hits))
}

fn request_value(given: &GivenPlan, value: Value) -> FeatureValue {
    if value.is_null() && !given.nullable {
        return FeatureValue {
            value,
            status: Status::Error(format!("the input '{}' is null but not Optional", given.name).into()),
        };
    }
    FeatureValue::ok(value)
}
