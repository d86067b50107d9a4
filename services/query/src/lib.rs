//! The one function that answers: gRPC unary and batch, HTTP, Flight, the SDK, MockContext and tests all ask [`QueryEngine`].
//!
//! A featureset is planned when it is deployed, not per request: which tables its features read under which keys, which
//! windows these share, in which order its extractors run. A question then takes one snapshot of the state and reads it.

mod answer;
mod applied;
mod deployment;
mod engine;
mod question;
mod run;
mod runtime;

pub use answer::{
    Answer, ContributingEvent, Explanation, FeatureColumn, FeatureExplanation, FeatureValue, How, LookupAnswer,
    LookupExplanation, LookupField, Mode, Standing, Status,
};
pub use applied::{AlwaysApplied, AppliedWatch, not_applied};
pub use deployment::Deployment;
pub use engine::{Export, QueryEngine, QueryOptions, QueryParts};
pub use question::{Asking, At, ExportQuestion, Given, GivenMap, LookupQuestion, Question, RunKind};
pub use run::{NoRuns, RECORDED_ENTITIES, RunRecord, RunSink};
pub use runtime::{ExtractedRows, ExtractorCall, ExtractorRuntime, ExtractorSpec, LoadReport, Lookups, NoExtractors};
