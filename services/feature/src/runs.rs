//! Query runs on the wire.

use thyme_catalog::{QueryRun, RunFilter};
use thyme_proto::convert::time_to_wire;
use thyme_proto::v1;

pub(crate) fn filter(request: v1::ListQueryRunsRequest) -> RunFilter {
    let set = |text: String| (!text.is_empty()).then_some(text);
    RunFilter {
        limit: request.limit,
        featureset: set(request.featureset),
        kind: set(request.kind),
        cursor: set(request.cursor),
    }
}

pub(crate) fn run(run: QueryRun) -> v1::QueryRun {
    v1::QueryRun {
        id: run.id,
        featureset: run.featureset,
        entity_ids: run.entity_ids.iter().map(ToString::to_string).collect(),
        requested_timestamp: run.requested_timestamp.map(time_to_wire),
        kind: run.kind,
        row_count: run.row_count,
        hit_count: run.hit_count,
        latency_us: run.latency_us,
        commit_id: run.commit_id,
        watermark: run.watermark.map(time_to_wire),
        error: run.error.unwrap_or_default(),
        created_at: Some(time_to_wire(run.created_at)),
        api_key_fingerprint: run.api_key_fingerprint.unwrap_or_default(),
    }
}
