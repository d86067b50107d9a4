//! Small seams between crates that do not know each other.

use crate::run_log::RunLog;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use thyme_catalog::{Catalog, QueryRun, RunFilter, RunHistory, RunPage};
use thyme_control::IngestTarget;
use thyme_core::definition::Compiled;
use thyme_core::position::PositionSet;
use thyme_core::{Error, ErrorKind, Result, Value};
use thyme_engine::EngineHandle;
use thyme_ingest::{EraseListener, EraseWatch, Ingestor, Target, Targets};
use thyme_log::EventLog;
use thyme_query::{AppliedWatch, ErasedLog, QueryEngine};

/// Reads your writes: waits for the engine.
pub struct EngineWatch(pub EngineHandle);

#[async_trait]
impl AppliedWatch for EngineWatch {
    async fn wait_applied(&self, position: &PositionSet, slices: &BTreeSet<u16>, deadline: Duration) -> Result<()> {
        self.0.wait_applied(slices, position, deadline).await
    }

    fn erased_below(&self, log: u32, partitions: u16) -> Vec<u64> {
        self.0.erased_below(log, partitions)
    }
}

/// Takeovers reach ingest.
pub struct IngestDeployer(pub Arc<Ingestor>);

impl IngestTarget for IngestDeployer {
    fn deploy(&self, compiled: &Compiled, ids: &BTreeMap<String, u32>) -> Result<()> {
        let log_id =
            |identity: &str| ids.get(identity).copied().ok_or_else(|| Error::internal(format!("no id for {identity}")));
        self.0.deploy(Targets::new(compiled, log_id)?);
        Ok(())
    }
}

/// Query runs, those still on their way to the catalog included.
pub struct RunBook {
    pub catalog: Arc<dyn Catalog>,
    /// None where runs are not recorded.
    pub log: Option<Arc<RunLog>>,
}

impl RunBook {
    async fn flush(&self) -> Result<()> {
        match &self.log {
            Some(log) => log.flush().await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl RunHistory for RunBook {
    async fn list(&self, filter: &RunFilter) -> Result<RunPage> {
        self.flush().await?;
        self.catalog.runs(filter).await
    }
    async fn get(&self, id: &str) -> Result<Option<QueryRun>> {
        self.flush().await?;
        self.catalog.run(id).await
    }
}

/// An erased key goes from the runs too.
#[async_trait]
impl EraseListener for RunBook {
    async fn erased(&self, keys: &[Vec<Value>]) -> Result<()> {
        self.flush().await?;
        for key in keys {
            let components: Vec<serde_json::Value> = key.iter().map(Value::to_json).collect();
            self.catalog.forget_entity(&components).await?;
        }
        Ok(())
    }
}

/// How long a question about erases waits for engines to have read what the log holds.
const READ_IN: Duration = Duration::from_secs(5);

/// How far the engines, here and on other nodes, have read the erases of a log.
pub struct ErasesRead {
    pub log: Arc<dyn EventLog>,
    pub query: Arc<QueryEngine>,
}

#[async_trait]
impl EraseWatch for ErasesRead {
    async fn erased_below(&self, target: &Target) -> Result<Option<Vec<u64>>> {
        let (partitions, log, topic, id) =
            (target.schema.partitions, self.log.clone(), target.topic.clone(), target.log);
        let ask = move || {
            let mut ends = PositionSet::default();
            for partition in 0..partitions {
                ends.set(id, partition, log.end_offset(&topic, partition)?);
            }
            Ok::<_, Error>(ends)
        };
        // A broker takes its time to answer.
        let asked = tokio::task::spawn_blocking(ask).await;
        let ends =
            asked.map_err(|error| Error::internal(format!("asking for the end of a log stopped: {error}")))??;
        use ErrorKind::{DeadlineExceeded, NotFound, Unavailable};
        match self.query.erased_below(ErasedLog { log: id, partitions }, ends, READ_IN).await {
            Err(error) if matches!(error.kind(), DeadlineExceeded | Unavailable | NotFound) => Ok(None),
            read => read.map(Some),
        }
    }
}
