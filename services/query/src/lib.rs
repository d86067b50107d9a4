//! The one function that answers: gRPC unary and batch, HTTP, Flight, the SDK, MockContext and tests all ask [`QueryEngine`].
//!
//! A featureset is planned when it is deployed, not per request: which tables its features read under which keys, which
//! windows these share, in which order its extractors run. A question then takes one snapshot of each state and reads them.

mod answer;
mod applied;
mod ask;
mod ask_lookup;
mod batch;
mod calls;
mod cells;
mod changes;
mod chunk;
mod columns;
mod deployment;
mod engine;
mod erased;
mod explain;
mod export;
mod export_parts;
mod export_plan;
mod forward;
mod holders;
mod instants;
mod keyed;
mod keys;
mod lookups;
mod part;
mod pin;
mod plan;
mod question;
mod ranges;
mod reads;
mod recorder;
mod rows;
mod rows_export;
mod run;
mod runtime;
mod summary;
mod turns;
mod view;

pub use answer::{
    Answer, ContributingEvent, Explanation, FeatureColumn, FeatureExplanation, FeatureValue, How, LookupAnswer,
    LookupExplanation, LookupField, Mode, Standing, Status,
};
pub use applied::{AlwaysApplied, AppliedWatch, not_applied};
pub use columns::{arrow_type, from_array, times_from_array, to_array};
pub use deployment::{Deployment, FeaturesetShape, ServedTable, extractor_specs};
pub use engine::{QueryEngine, QueryOptions, QueryParts};
pub use erased::ErasedLog;
pub use export::Export;
pub use holders::{HolderMap, Holders, Nobody, OtherNode};
pub use part::{LookupPart, LookupPartAnswer, NoPeers, Part, PartAnswer, PartAsking, PartColumn, PartStanding, Peers};
pub use question::{Asking, At, ExportQuestion, Given, GivenMap, LookupQuestion, Question, RunKind};
pub use ranges::{RangeExport, RangeInfo, RangeOf, RangeQuestion};
pub use run::{NoRuns, RECORDED_ENTITIES, RunRecord, RunSink};
pub use runtime::{
    Extracted, ExtractedRows, ExtractorCall, ExtractorRuntime, ExtractorSpec, LoadReport, Lookups, NoExtractors,
};
pub use summary::{Counts, ExportCall, ExportPlan, ExportRead, ExportSummary, FeatureCounts, ReadCounts};
