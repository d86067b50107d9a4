//! `/api/v1/*`: commits, listings, status, events in, erasure.

use crate::fields::Fields;
use crate::problem::Answered;
use crate::render;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use thyme_control::{CommitRequest, Controller};
use thyme_core::{Error, Result};
use thyme_ingest::{GivenKey, Ingestor, RowIds, Rows, parse_call_id};
use thyme_query::Given;

/// What the control side answers from.
pub struct ControlGateway {
    pub controller: Arc<Controller>,
    pub ingestor: Arc<Ingestor>,
    /// Largest body, in bytes.
    pub max_bytes: usize,
    /// Most rows of one call.
    pub max_rows: usize,
}

type Shared = State<Arc<ControlGateway>>;
type Pairs = Query<Vec<(String, String)>>;

pub fn control_routes(gateway: Arc<ControlGateway>) -> Router {
    Router::new()
        .route("/api/v1/commit", post(commit))
        .route("/api/v1/commits", get(commits))
        .route("/api/v1/commits/{id}", get(show_commit))
        .route("/api/v1/status", get(status))
        .route("/api/v1/datasets", get(datasets))
        .route("/api/v1/pipelines", get(pipelines))
        .route("/api/v1/featuresets", get(featuresets))
        .route("/api/v1/sources", get(sources))
        .route("/api/v1/sources/{dataset}/test", post(test_source))
        .route("/api/v1/sources/{dataset}/pause", post(pause_source))
        .route("/api/v1/sources/{dataset}/resume", post(resume_source))
        .route("/api/v1/sources/{dataset}/reset", post(reset_source))
        .route("/api/v1/rejected", get(rejected))
        .route("/api/v1/jobs", get(jobs))
        .route("/api/v1/events", get(events))
        .route("/api/v1/log", post(log))
        .route("/api/v1/erase", post(erase))
        .method_not_allowed_fallback(crate::method_not_allowed)
        .with_state(gateway)
}

/// `{definitions, message?, remove?, dry_run?, supersede?}`. 202 while the commit is being built.
async fn commit(State(gateway): Shared, body: Body) -> Answered {
    let mut fields = Fields::of_body(body, gateway.max_bytes).await?;
    let definitions = match fields.take("definitions") {
        Some(Given::Json(Json::String(text))) => text.into_bytes(),
        Some(Given::Json(json)) => json.to_string().into_bytes(),
        _ => return Err(Error::invalid("field 'definitions' is missing").field("definitions").into()),
    };
    let request = CommitRequest {
        definitions,
        message: fields.text("message")?.unwrap_or_default(),
        remove: fields.names("remove")?.unwrap_or_default(),
        dry_run: fields.flag("dry_run")?,
        supersede: fields.flag("supersede")?,
    };
    fields.finish()?;
    let result = gateway.controller.commit_to_end(request).await?;
    let commit = match &result.commit {
        Some(commit) => Some(gateway.controller.commit_view(&commit.id).await?),
        None => None,
    };
    let is_building = commit.as_ref().is_some_and(|commit| commit.state == "building");
    let mut response = render::json(&json!({"commit": commit, "plan": result.plan}));
    if is_building {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

async fn commits(State(gateway): Shared, Query(pairs): Pairs) -> Answered {
    let mut fields = Fields::of_query(pairs)?;
    let (limit, cursor) = page(&mut fields)?;
    fields.finish()?;
    let (commits, next_cursor) = gateway.controller.commits(limit, &cursor).await?;
    Ok(render::json(&json!({"commits": commits, "next_cursor": next_cursor})))
}

async fn show_commit(State(gateway): Shared, Path(id): Path<String>) -> Answered {
    Ok(render::json(&gateway.controller.commit_view(&id).await?))
}

/// The feed is an array; where the next page starts stands in the header `X-Next-Cursor`.
async fn events(State(gateway): Shared, Query(pairs): Pairs) -> Answered {
    let mut fields = Fields::of_query(pairs)?;
    let (limit, cursor) = page(&mut fields)?;
    let severity = fields.text("severity")?.unwrap_or_default();
    fields.finish()?;
    let (events, next_cursor) = gateway.controller.events(limit, &cursor, &severity).await?;
    let mut response = render::json(&events);
    if let Some(cursor) = next_cursor.and_then(|cursor| cursor.parse().ok()) {
        response.headers_mut().insert("x-next-cursor", cursor);
    }
    Ok(response)
}

fn page(fields: &mut Fields) -> Result<(u32, String)> {
    Ok((fields.number("limit")?.unwrap_or_default(), fields.text("cursor")?.unwrap_or_default()))
}

/// A listing takes no parameters.
fn list(name: &str, entries: &impl Serialize, pairs: Vec<(String, String)>) -> Answered {
    Fields::of_query(pairs)?.finish()?;
    Ok(render::json(&json!({name: entries})))
}

async fn status(State(gateway): Shared, Query(pairs): Pairs) -> Answered {
    Fields::of_query(pairs)?.finish()?;
    Ok(render::json(&gateway.controller.status()?))
}

async fn datasets(State(gateway): Shared, Query(pairs): Pairs) -> Answered {
    list("datasets", &gateway.controller.datasets()?, pairs)
}

async fn pipelines(State(gateway): Shared, Query(pairs): Pairs) -> Answered {
    list("pipelines", &gateway.controller.pipelines()?, pairs)
}

async fn featuresets(State(gateway): Shared, Query(pairs): Pairs) -> Answered {
    list("featuresets", &gateway.controller.featuresets(), pairs)
}

async fn sources(State(gateway): Shared, Query(pairs): Pairs) -> Answered {
    list("sources", &gateway.controller.sources(), pairs)
}

/// `limit?`: the first rows of the dataset's source, none of which is published.
async fn test_source(State(gateway): Shared, Path(dataset): Path<String>, Query(pairs): Pairs) -> Answered {
    let mut fields = Fields::of_query(pairs)?;
    let limit = fields.number("limit")?.unwrap_or_default();
    fields.finish()?;
    Ok(render::json(&gateway.controller.test_source(&dataset, limit).await?))
}

async fn pause_source(State(gateway): Shared, Path(dataset): Path<String>, Query(pairs): Pairs) -> Answered {
    Fields::of_query(pairs)?.finish()?;
    Ok(render::json(&json!({"source": gateway.controller.pause_source(&dataset).await?})))
}

async fn resume_source(State(gateway): Shared, Path(dataset): Path<String>, Query(pairs): Pairs) -> Answered {
    Fields::of_query(pairs)?.finish()?;
    Ok(render::json(&json!({"source": gateway.controller.resume_source(&dataset).await?})))
}

async fn reset_source(State(gateway): Shared, Path(dataset): Path<String>, Query(pairs): Pairs) -> Answered {
    Fields::of_query(pairs)?.finish()?;
    Ok(render::json(&json!({"source": gateway.controller.reset_source(&dataset).await?})))
}

/// `dataset`, `limit?`: its rows that did not become events.
async fn rejected(State(gateway): Shared, Query(pairs): Pairs) -> Answered {
    let mut fields = Fields::of_query(pairs)?;
    let dataset = fields.required_text("dataset")?;
    let limit = fields.number("limit")?.unwrap_or_default();
    fields.finish()?;
    Ok(render::json(&json!({"rows": gateway.controller.rejected(&dataset, limit)?})))
}

async fn jobs(State(gateway): Shared, Query(pairs): Pairs) -> Answered {
    list("jobs", &gateway.controller.jobs()?, pairs)
}

/// `{dataset, events, event_ids?, call_id?}`. Good rows are kept, rejected ones come back with index and reason.
async fn log(State(gateway): Shared, body: Body) -> Answered {
    let mut fields = Fields::of_body(body, gateway.max_bytes).await?;
    let dataset = fields.required_text("dataset")?;
    let events = fields.array("events")?;
    let event_ids = fields.names("event_ids")?.unwrap_or_default();
    let call = parse_call_id(&fields.text("call_id")?.unwrap_or_default())?.map(|call| (call, 0));
    fields.finish()?;
    if events.len() > gateway.max_rows {
        let message = format!("{} events in one call, at most {} are taken", events.len(), gateway.max_rows);
        return Err(Error::new(thyme_core::ErrorKind::ResourceExhausted, message).field("events").into());
    }
    let ids = RowIds { call, event_ids, event_id_column: None };
    let receipt = gateway.ingestor.ingest(&dataset, Rows::Json(events), &ids).await?;
    let rejected: Vec<Json> = receipt
        .rejected
        .iter()
        .map(|row| json!({"index": row.index, "reason": row.reason, "field": row.field}))
        .collect();
    let position = receipt.position.encode();
    Ok(render::json(&json!({"accepted": receipt.accepted, "rejected": rejected, "position": position})))
}

/// `{dataset, entity_ids}`: their earlier events no longer count, now or on any replay. Without ids: whether an erase is pending.
async fn erase(State(gateway): Shared, body: Body) -> Answered {
    let mut fields = Fields::of_body(body, gateway.max_bytes).await?;
    let dataset = fields.required_text("dataset")?;
    let entities = fields.array("entity_ids")?;
    fields.finish()?;
    let keys = entities.into_iter().map(GivenKey::Json).collect();
    let receipt = gateway.ingestor.erase(&dataset, keys).await?;
    let position = receipt.position.encode();
    Ok(render::json(&json!({"erased": receipt.erased, "position": position, "pending": receipt.pending})))
}
