//! Exports without a spine: of all keys, over a stretch of time (`docs/decisions/0031-changes-and-rows.md`). What is given out first is what
//! they stand on; with that any part of them can be asked, again, of any node that holds all slices.

use crate::answer::Standing;
use crate::changes::{self, Changes};
use crate::columns::broken;
use crate::deployment::{Served, Source};
use crate::engine::QueryEngine;
use crate::export::{refuse_beside_pin, standing_metadata};
use crate::instants::Stretch;
use crate::pin::Pinned;
use crate::plan::Planned;
use crate::question::{Asking, At, RunKind};
use crate::recorder::Recorder;
use crate::rows_export::{self, DatasetRows};
use crate::run::RunRecord;
use crate::view::{Touched, View};
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use thyme_core::definition::CompiledDataset;
use thyme_core::error::{Error, Result};
use thyme_core::pin::Pin;
use thyme_core::time::{Micros, format_time};

/// What is asked of all keys over a stretch of time.
#[derive(Debug, Clone)]
pub struct RangeQuestion {
    pub of: RangeOf,
    /// From when on. `None`: from the first event, or where a `history=` is, from the time on from which all is kept.
    pub since: Option<Micros>,
    /// Up to when, excluded. `None`: to now; nothing, if `since` has not come yet.
    pub until: Option<Micros>,
    /// What an earlier answer stood on: exactly that once more, or an error.
    pub pin: Option<Pin>,
    pub asking: Asking,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeOf {
    /// A row wherever a key's features become others. `statuses` adds a `<feature>__status` column per feature.
    Changes { featureset: String, features: Option<Vec<String>>, statuses: bool },
    /// The accepted rows of a raw dataset.
    Rows { dataset: String },
}

impl RangeOf {
    fn name(&self) -> &str {
        match self {
            RangeOf::Changes { featureset, .. } => featureset,
            RangeOf::Rows { dataset } => dataset,
        }
    }
}

/// What an answer will be, and how to ask for it.
#[derive(Debug, Clone)]
pub struct RangeInfo {
    /// With `thyme.*` metadata as an export has it, and `thyme.since` and `thyme.until`.
    pub schema: SchemaRef,
    /// With the pin and the end of the stretch: whenever it is asked, it is the same question.
    pub question: RangeQuestion,
    /// When this was.
    pub asked: Micros,
}

impl QueryEngine {
    /// Checks a question, and settles what its answer stands on.
    pub async fn range_info(&self, question: RangeQuestion) -> Result<RangeInfo> {
        let begun = self.begin_range(&question, None).await?;
        let Begun { view, stretch, .. } = &begun;
        let asking = Asking { known_at: None, at_least: None, ..question.asking.clone() };
        let settled = RangeQuestion { until: Some(stretch.until), pin: view.pin.clone(), asking, ..question };
        Ok(RangeInfo { schema: begun.schema(), question: settled, asked: self.parts.clock.now() })
    }

    /// Answers a settled question for the keys of these hash slices: by hash slice and key, each key's rows in order of time.
    pub async fn range(self: &Arc<Self>, question: &RangeQuestion, vnodes: RangeInclusive<u8>) -> Result<RangeExport> {
        if question.pin.is_none() {
            let error = Error::invalid("the ticket has no pin").field("pin");
            return Err(error.hint("take the tickets that GetFlightInfo gives"));
        }
        let fingerprint = question.asking.api_key_fingerprint.clone();
        let mut recorder = Recorder::new(self, question.of.name(), RunKind::Offline, fingerprint);
        recorder.asked_at(question.until, question.asking.exclusive);
        match self.begin_range(question, Some(&mut recorder)).await {
            Ok(begun) => Ok(RangeExport::new(self.clone(), begun, vnodes, recorder)),
            Err(error) => {
                recorder.fail(&error);
                recorder.record(self);
                Err(error)
            }
        }
    }

    async fn begin_range(&self, question: &RangeQuestion, recorder: Option<&mut Recorder>) -> Result<Begun> {
        let is_again = question.pin.is_some();
        refuse_beside_pin(&question.asking, is_again)?;
        if is_again && question.until.is_none() {
            let error = Error::invalid("a pin does not say up to when").field("until");
            return Err(error.hint("pass the 'thyme.until' of the answer that the pin is of"));
        }
        let served = self.served()?;
        let what = What::find(&served, &question.of)?;
        let (pinned, pin) = (what.pinned(&served)?, question.pin.clone());
        let view = self.view_of(served.clone(), &question.asking, None).await?;
        self.refuse_elsewhere("an export", &view, &view.slices_elsewhere())?;
        let (of, since, until) = (pinned.clone(), question.since, question.until);
        let settle = move || -> Result<(View, Stretch)> {
            let view = view.pinned_to(std::slice::from_ref(&of), pin)?;
            let stretch = stretch(&view, &of.sources, since, until)?;
            Ok((view, stretch))
        };
        let (view, stretch) = self.turns.take(settle).await??;
        let mut touched = Touched::default();
        pinned.sources.iter().for_each(|source| touched.all(source));
        let standing = view.standing(&At::Each(Vec::new()), view.now, view.standing_of(&touched)?);
        if let Some(recorder) = recorder {
            recorder.serves(&served);
            recorder.stands(&standing, 0, 0);
        }
        let is_bounded = stretch.since > Micros::MIN;
        Ok(Begun { what, pinned, view: Arc::new(view), stretch, is_bounded, standing, is_again })
    }
}

/// From when to when. A beginning that is given must be one from which on everything is kept, and still is, if there is a pin.
fn stretch(view: &View, sources: &[Arc<Source>], since: Option<Micros>, until: Option<Micros>) -> Result<Stretch> {
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let message = format!("since {} is after until {}", format_time(since), format_time(until));
        return Err(Error::invalid(message).field("since"));
    }
    let mut horizons = Vec::new();
    for source in sources {
        for partition in 0..source.partitions {
            horizons.extend(view.horizon(source, partition)?);
        }
    }
    let earliest = horizons.iter().map(|horizon| horizon.earliest).max().unwrap_or(Micros::MIN);
    let since = since.unwrap_or(earliest);
    for horizon in &horizons {
        horizon.check(since).map_err(|error| error.field("since"))?;
        view.check_kept(horizon, since)?;
    }
    // From a time on that has not come, as where the clock of the node before was ahead, there is nothing yet.
    let until = until.unwrap_or_else(|| view.now.saturating_add(1).max(since));
    Ok(Stretch { since, until })
}

/// What is asked, found in what is served.
enum What {
    Changes { planned: Arc<Planned>, schema: Schema, statuses: bool },
    Rows { dataset: Arc<CompiledDataset>, source: Arc<Source> },
}

impl What {
    fn find(served: &Served, of: &RangeOf) -> Result<What> {
        match of {
            RangeOf::Changes { featureset, features, statuses } => {
                let planned = served.plan(featureset, features.as_deref())?;
                changes::check(&planned)?;
                let schema = changes::schema(&planned, *statuses)?;
                Ok(What::Changes { planned, schema, statuses: *statuses })
            }
            RangeOf::Rows { dataset } => {
                let dataset = served.dataset(dataset)?;
                let source = rows_export::source(served, &dataset)?;
                Ok(What::Rows { dataset, source })
            }
        }
    }

    fn pinned(&self, served: &Served) -> Result<Pinned> {
        match self {
            What::Changes { planned, .. } => Pinned::of_plan(served, planned),
            What::Rows { dataset, source } => Ok(Pinned {
                name: format!("dataset '{}'", dataset.name),
                definition: served.compiled().dataset_hash(&dataset.name)?,
                sources: vec![source.clone()],
            }),
        }
    }

    fn schema(&self) -> Schema {
        match self {
            What::Changes { schema, .. } => schema.clone(),
            What::Rows { dataset, .. } => rows_export::schema(dataset),
        }
    }
}

/// A checked question with its view.
struct Begun {
    what: What,
    pinned: Pinned,
    view: Arc<View>,
    stretch: Stretch,
    /// Whether the stretch has a beginning.
    is_bounded: bool,
    standing: Standing,
    /// Whether it was asked with a pin.
    is_again: bool,
}

impl Begun {
    fn schema(&self) -> SchemaRef {
        Arc::new(self.what.schema().with_metadata(self.metadata()))
    }

    /// Of a question with a pin it is the same each time, so without what tells when that was.
    fn metadata(&self) -> HashMap<String, String> {
        let mut metadata = match &self.what {
            What::Changes { planned, .. } => standing_metadata(&planned.featureset, &self.standing),
            What::Rows { dataset, .. } => {
                let mut metadata = standing_metadata("", &self.standing);
                metadata.remove("thyme.featureset");
                metadata.insert("thyme.dataset".to_string(), dataset.name.clone());
                metadata
            }
        };
        let mut put = |name: &str, value: String| metadata.insert(format!("thyme.{name}"), value);
        put("definition", self.pinned.definition.to_string());
        put("until", format_time(self.stretch.until));
        if self.is_bounded {
            put("since", format_time(self.stretch.since));
        }
        if let Some(pin) = &self.view.pin {
            put("pin", pin.encode());
        }
        if self.is_again {
            for name in ["ts", "watermark", "commit_id"] {
                metadata.remove(&format!("thyme.{name}"));
            }
        }
        metadata
    }
}

/// An answer under way. Its run is recorded when it is finished or dropped.
pub struct RangeExport {
    engine: Arc<QueryEngine>,
    rows: RangeRows,
    schema: SchemaRef,
    recorder: Recorder,
    recorded: bool,
}

enum RangeRows {
    Changes(Box<Changes>),
    Rows(Box<DatasetRows>),
}

impl RangeExport {
    fn new(engine: Arc<QueryEngine>, begun: Begun, vnodes: RangeInclusive<u8>, recorder: Recorder) -> RangeExport {
        let schema = begun.schema();
        let Begun { what, view, stretch, .. } = begun;
        let rows = match what {
            What::Changes { planned, statuses, .. } => {
                RangeRows::Changes(Box::new(Changes::new(view, planned, stretch, vnodes, statuses)))
            }
            What::Rows { dataset, source } => {
                RangeRows::Rows(Box::new(DatasetRows::new(view, dataset, source, stretch, vnodes)))
            }
        };
        RangeExport { engine, rows, schema, recorder, recorded: false }
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    pub fn query_run_id(&self) -> Arc<str> {
        self.recorder.run_id()
    }

    /// The next rows, at least one; `None` at the end. Memory holds so many rows and not more, however many events a key has.
    pub async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let next = self.next().await;
        if let Err(error) = &next {
            self.recorder.fail(error);
        }
        next
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let next = match &mut self.rows {
            RangeRows::Changes(changes) => changes.next(&self.engine).await?,
            RangeRows::Rows(rows) => rows.next(&self.engine).await?,
        };
        let Some((arrays, rows)) = next else { return Ok(None) };
        self.recorder.add_rows(rows as u64, rows as u64);
        RecordBatch::try_new(self.schema.clone(), arrays).map(Some).map_err(broken)
    }

    /// Ends the answer and returns its run.
    pub fn finish(mut self) -> RunRecord {
        self.record()
    }

    fn record(&mut self) -> RunRecord {
        self.recorded = true;
        self.recorder.record(&self.engine)
    }
}

impl Drop for RangeExport {
    fn drop(&mut self) {
        if !self.recorded {
            self.recorder.break_off();
            self.record();
        }
    }
}
