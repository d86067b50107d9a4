//! `GET /query-runs`, `GET /query-runs/{id}`.

use crate::QueryGateway;
use crate::fields::Fields;
use crate::problem::Answered;
use crate::render;
use axum::extract::{Path, Query, State};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use thyme_catalog::{QueryRun, RunFilter};
use thyme_core::time::format_time;
use thyme_core::{Error, ErrorKind};

const KINDS: [&str; 4] = ["online", "batch", "offline", "lookup"];

pub async fn list(State(gateway): State<Arc<QueryGateway>>, Query(pairs): Query<Vec<(String, String)>>) -> Answered {
    let mut fields = Fields::of_query(pairs)?;
    let filter = RunFilter {
        limit: fields.number("limit")?.unwrap_or_default(),
        featureset: fields.text("featureset")?,
        kind: fields.text("kind")?,
        cursor: fields.text("cursor")?,
    };
    fields.finish()?;
    if let Some(kind) = &filter.kind
        && !KINDS.contains(&kind.as_str())
    {
        return Err(Error::invalid(format!("unknown kind '{kind}'"))
            .field("kind")
            .hint(thyme_core::suggest::hint(kind, KINDS))
            .into());
    }
    let page = gateway.runs.list(&filter).await?;
    let runs: Vec<Json> = page.runs.iter().map(run_json).collect();
    Ok(render::json(&json!({"runs": runs, "next_cursor": page.next_cursor})))
}

pub async fn show(State(gateway): State<Arc<QueryGateway>>, Path(id): Path<String>) -> Answered {
    match gateway.runs.get(&id).await? {
        Some(run) => Ok(render::json(&run_json(&run))),
        None => Err(Error::not_found(format!("no query run '{id}'")).field("id").into()),
    }
}

pub async fn replay(State(_gateway): State<Arc<QueryGateway>>, Path(_id): Path<String>) -> Answered {
    Err(Error::new(ErrorKind::Unimplemented, "replaying a query run is not built yet")
        .hint("ask again with the run's requested_timestamp as ts")
        .into())
}

fn run_json(run: &QueryRun) -> Json {
    json!({
        "id": run.id,
        "featureset": run.featureset,
        "entity_ids": run.entity_ids,
        "requested_timestamp": run.requested_timestamp.map(format_time),
        "kind": run.kind,
        "row_count": run.row_count,
        "hit_count": run.hit_count,
        "latency_ms": run.latency_us as f64 / 1000.0,
        "latency_us": run.latency_us,
        "api_key_fingerprint": run.api_key_fingerprint,
        "commit_id": run.commit_id,
        "watermark": run.watermark.map(format_time),
        "error": run.error,
        "created_at": format_time(run.created_at),
    })
}
