//! What is served: compiled definitions with the tables that hold their state.

use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::definition::Compiled;
use thyme_core::time::ClockMode;

/// One published state of the catalog, taken over as a whole.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub commit_id: Arc<str>,
    pub compiled: Arc<Compiled>,
    pub clock: ClockMode,
    /// Featuresets and datasets that are still being built, with their progress in words: they answer `Unavailable`.
    pub unavailable: BTreeMap<String, String>,
}
