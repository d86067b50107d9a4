//! A whole server's inside in memory: log, state, engine, ingest, queries, wired as the server wires them.

use super::clock::VirtualClock;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_control::{Version, identities, job_spec};
use thyme_core::definition::Compiled;
use thyme_core::error::{Error, Result};
use thyme_core::time::{ClockMode, Micros};
use thyme_engine::{Engine, EngineOptions};
use thyme_extract::PythonExtractors;
use thyme_ingest::{IngestReceipt, Ingestor, RowIds, Rows, Targets};
use thyme_log::{EmbeddedLog, EventLog};
use thyme_query::{AlwaysApplied, Deployment, NoRuns, QueryEngine, QueryOptions, QueryParts};
use thyme_state::StateStore;
use tokio::runtime::Runtime;

const COMMIT: &str = "mock";

pub(crate) struct World {
    pub query: Arc<QueryEngine>,
    pub ingestor: Ingestor,
    pub clock: Arc<VirtualClock>,
    pub state: Arc<StateStore>,
    runtime: Runtime,
    engine: Mutex<Engine>,
    version: Version,
    /// What "now" is while the clock is not set.
    unset_clock: ClockMode,
}

impl World {
    pub fn new(compiled: Compiled, extractors: Arc<PythonExtractors>, clock_mode: ClockMode) -> Result<World> {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory()?);
        let state = StateStore::in_memory()?;
        let clock = Arc::new(VirtualClock::new());
        let version = version(compiled);
        let options = EngineOptions { clock: clock_mode, durable: false, ..EngineOptions::default() };
        let mut engine = Engine::open(state.clone(), log.clone(), options)?;
        engine.deploy(&job_spec(&[&version])?)?;
        let ingestor = Ingestor::new(log, clock.clone());
        ingestor.deploy(Targets::new(&version.compiled, |identity| id_of(&version.ids, identity))?);
        let query = QueryEngine::new(QueryParts {
            state: state.clone(),
            extractors,
            clock: clock.clone(),
            runs: Arc::new(NoRuns),
            applied: Arc::new(AlwaysApplied),
            options: QueryOptions::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| Error::internal(format!("starting a runtime: {error}")))?;
        let world = World {
            query: Arc::new(query),
            ingestor,
            clock,
            state,
            runtime,
            engine: Mutex::new(engine),
            version,
            unset_clock: clock_mode,
        };
        world.serve(clock_mode)?;
        Ok(world)
    }

    fn serve(&self, clock: ClockMode) -> Result<()> {
        self.query.deploy(Deployment {
            commit_id: COMMIT.into(),
            compiled: self.version.compiled.clone(),
            tables: self.version.served_tables()?,
            clock,
            unavailable: BTreeMap::new(),
        });
        Ok(())
    }

    /// Sets what "now" is, or goes back to the first clock.
    pub fn set_now(&self, now: Option<Micros>) -> Result<()> {
        self.clock.set(now);
        self.serve(if now.is_some() { ClockMode::Wall } else { self.unset_clock })
    }

    pub fn is_on_event_clock(&self) -> bool {
        self.unset_clock == ClockMode::Event
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Appends rows and applies them.
    pub fn add(&self, dataset: &str, rows: Rows, ids: &RowIds) -> Result<IngestReceipt> {
        let receipt = self.wait(self.ingestor.ingest(dataset, rows, ids))?;
        self.run_to_end()?;
        Ok(receipt)
    }

    pub fn run_to_end(&self) -> Result<()> {
        self.engine.lock().run_to_end()
    }
}

/// The definitions with ids given out in order.
fn version(compiled: Compiled) -> Version {
    let ids: BTreeMap<String, u32> = identities(&compiled).into_iter().zip(1u32..).collect();
    Version {
        commit_id: COMMIT.into(),
        new_identities: ids.keys().cloned().collect(),
        compiled: Arc::new(compiled),
        ids,
        goal: None,
    }
}

fn id_of(ids: &BTreeMap<String, u32>, identity: &str) -> Result<u32> {
    ids.get(identity).copied().ok_or_else(|| Error::internal(format!("no id for {identity}")))
}
