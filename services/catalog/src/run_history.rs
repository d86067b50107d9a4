//! Reading the query runs, whoever asks for them.

use crate::{Catalog, QueryRun, RunFilter, RunPage};
use async_trait::async_trait;
use std::sync::Arc;
use thyme_core::Result;

/// The recorded runs, those just answered included: a server's are on their way to the catalog for a moment.
#[async_trait]
pub trait RunHistory: Send + Sync {
    async fn list(&self, filter: &RunFilter) -> Result<RunPage>;
    async fn get(&self, id: &str) -> Result<Option<QueryRun>>;
}

/// Where runs are written at once.
#[async_trait]
impl RunHistory for Arc<dyn Catalog> {
    async fn list(&self, filter: &RunFilter) -> Result<RunPage> {
        self.runs(filter).await
    }
    async fn get(&self, id: &str) -> Result<Option<QueryRun>> {
        self.run(id).await
    }
}
