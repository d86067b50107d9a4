//! `/health`, `/livez`, `/readyz`, `/metrics`, and the answer to an unknown path.

use crate::problem::{Answered, Problem};
use crate::render;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use std::sync::Arc;
use thyme_core::{Error, suggest};

/// What probes and scrapers ask.
pub trait Health: Send + Sync {
    /// Why the server cannot serve; `None` if it can.
    fn not_ready(&self) -> Option<String>;
    /// The metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    fn version(&self) -> String;
}

const PATHS: [&str; 25] = [
    "/features",
    "/features/batch",
    "/features/offline",
    "/query-runs",
    "/api/v1/commit",
    "/api/v1/status",
    "/api/v1/featuresets",
    "/api/v1/datasets",
    "/api/v1/pipelines",
    "/api/v1/sources",
    "/api/v1/jobs",
    "/api/v1/events",
    "/api/v1/commits",
    "/api/v1/log",
    "/api/v1/erase",
    "/health",
    "/livez",
    "/readyz",
    "/metrics",
    "/query-runs/{id}",
    "/api/v1/commits/{id}",
    "/api/v1/sources/{dataset}/test",
    "/api/v1/sources/{dataset}/pause",
    "/api/v1/sources/{dataset}/resume",
    "/api/v1/sources/{dataset}/reset",
];

pub fn health_routes(health: Arc<dyn Health>) -> Router {
    Router::new()
        .route("/health", get(ready))
        .route("/readyz", get(ready))
        .route("/livez", get(live))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(health)
}

async fn ready(State(health): State<Arc<dyn Health>>) -> Answered {
    if let Some(reason) = health.not_ready() {
        return Err(Error::unavailable(reason).into());
    }
    Ok(render::json(&json!({"status": "ok", "version": health.version()})))
}

async fn live(State(health): State<Arc<dyn Health>>) -> Response {
    render::json(&json!({"status": "ok", "version": health.version()}))
}

async fn metrics(State(health): State<Arc<dyn Health>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], health.metrics()).into_response()
}

/// For paths that nobody serves: a problem that names the nearest one, or the gRPC status UNIMPLEMENTED for gRPC calls.
pub async fn not_found(request: Request) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|text| text.starts_with("application/grpc")) {
        let mut response = Response::default();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static("12"));
        headers.insert("grpc-message", HeaderValue::from_static("this port does not serve that method"));
        return response;
    }
    let path = request.uri().path();
    let error = Error::not_found(format!("no such path: {path}")).hint(suggest::hint(path, PATHS));
    Problem::from(error).into_response()
}

/// For paths that are served, but not by this method.
pub async fn method_not_allowed() -> Response {
    Problem::method_not_allowed().into_response()
}
