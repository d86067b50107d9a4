//! HTTP/JSON over the same services: `/features*` and `/query-runs*` beside the feature service, `/api/v1/*` beside control.

mod api;
mod features;
mod fields;
mod health;
mod many;
mod problem;
mod render;
mod runs;

pub use api::{ControlGateway, control_routes};
pub use health::{Health, health_routes, method_not_allowed, not_found};
pub use problem::Problem;

use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;
use thyme_catalog::RunHistory;
use thyme_query::QueryEngine;

/// What the query side answers from.
pub struct QueryGateway {
    pub query: Arc<QueryEngine>,
    pub runs: Arc<dyn RunHistory>,
    /// Largest body, in bytes.
    pub max_bytes: usize,
}

/// `/features*` and `/query-runs*`.
pub fn query_routes(gateway: Arc<QueryGateway>) -> Router {
    Router::new()
        .route("/features", get(features::get_features).post(features::post_features))
        .route("/features/batch", post(many::batch))
        .route("/features/offline", post(many::offline))
        .route("/query-runs", get(runs::list))
        .route("/query-runs/{id}", get(runs::show))
        .route("/query-runs/{id}/replay", post(runs::replay))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(gateway)
}
