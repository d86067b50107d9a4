//! Summaries and plans of exports on the wire: as messages, and as JSON with the same names.

use serde_json::{Value as Json, json};
use thyme_proto::v1;
use thyme_query::{ExportCall, ExportPlan, ExportRead, ExportSummary, FeatureCounts, ReadCounts};

pub(crate) fn summary(summary: &ExportSummary) -> v1::ExportSummary {
    v1::ExportSummary {
        rows: summary.rows,
        known: summary.known,
        features: summary.features.iter().map(feature).collect(),
        plan: Some(plan(&summary.plan)),
    }
}

fn feature(FeatureCounts { name, counts }: &FeatureCounts) -> v1::FeatureCounts {
    v1::FeatureCounts {
        name: name.clone(),
        nulls: counts.nulls,
        defaults: counts.defaults,
        errors: counts.errors,
        first_error: counts.first_error.as_deref().unwrap_or_default().to_string(),
    }
}

pub(crate) fn plan(plan: &ExportPlan) -> v1::ExportPlan {
    v1::ExportPlan {
        reads: plan.reads.iter().map(read).collect(),
        calls: plan.calls.iter().map(call).collect(),
        chunk_rows: u32::try_from(plan.chunk_rows).unwrap_or(u32::MAX),
    }
}

fn read(read: &ExportRead) -> v1::PlannedRead {
    v1::PlannedRead {
        table: read.table.clone(),
        key: read.key.clone(),
        windows: read.windows.clone(),
        features: read.features.clone(),
        one_by_one: read.one_by_one.clone(),
        done: read.done.as_ref().map(counts),
    }
}

fn counts(done: &ReadCounts) -> v1::ReadCounts {
    v1::ReadCounts {
        chunks: done.chunks,
        keys: done.keys,
        rows_swept: done.rows_swept,
        rows_sought: done.rows_sought,
        times: done.times,
        trie_rows: done.trie_rows,
    }
}

fn call(call: &ExportCall) -> v1::PlannedCall {
    v1::PlannedCall {
        extractor: call.extractor.clone(),
        native: call.native,
        batch: call.batch,
        inputs: call.inputs.clone(),
        outputs: call.outputs.clone(),
    }
}

/// The JSON form of a summary.
pub(crate) fn summary_json(summary: &v1::ExportSummary) -> Json {
    let feature = |counts: &v1::FeatureCounts| {
        let first_error = Some(&counts.first_error).filter(|reason| !reason.is_empty());
        json!({
            "name": counts.name,
            "nulls": counts.nulls,
            "defaults": counts.defaults,
            "errors": counts.errors,
            "first_error": first_error,
        })
    };
    json!({
        "rows": summary.rows,
        "known": summary.known,
        "features": summary.features.iter().map(feature).collect::<Vec<Json>>(),
        "plan": summary.plan.as_ref().map(plan_json),
    })
}

fn plan_json(plan: &v1::ExportPlan) -> Json {
    let done = |done: &v1::ReadCounts| {
        json!({
            "chunks": done.chunks,
            "keys": done.keys,
            "rows_swept": done.rows_swept,
            "rows_sought": done.rows_sought,
            "times": done.times,
            "trie_rows": done.trie_rows,
        })
    };
    let read = |read: &v1::PlannedRead| {
        json!({
            "table": read.table,
            "key": read.key,
            "windows": read.windows,
            "features": read.features,
            "one_by_one": read.one_by_one,
            "done": read.done.as_ref().map(done),
        })
    };
    let call = |call: &v1::PlannedCall| {
        json!({
            "extractor": call.extractor,
            "native": call.native,
            "batch": call.batch,
            "inputs": call.inputs,
            "outputs": call.outputs,
        })
    };
    json!({
        "reads": plan.reads.iter().map(read).collect::<Vec<Json>>(),
        "calls": plan.calls.iter().map(call).collect::<Vec<Json>>(),
        "chunk_rows": plan.chunk_rows,
    })
}
