//! A whole server's inside in memory: log, state, engine, ingest, queries, wired as the server wires them.

use super::clock::VirtualClock;
use crate::definitions::all_in_one;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_control::{Version, identities, job_spec};
use thyme_core::definition::{Compiled, compile};
use thyme_core::error::{Error, Result};
use thyme_core::time::{ClockMode, Micros};
use thyme_engine::{Engine, EngineOptions};
use thyme_extract::PythonExtractors;
use thyme_ingest::{GivenKey, IngestReceipt, Ingestor, RowIds, Rows, Targets};
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
    version: Mutex<Version>,
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
            states: state.clone().into(),
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
            version: Mutex::new(version),
            unset_clock: clock_mode,
        };
        world.serve(clock_mode)?;
        Ok(world)
    }

    fn serve(&self, clock: ClockMode) -> Result<()> {
        let version = self.version.lock().clone();
        self.query.deploy(Deployment {
            commit_id: COMMIT.into(),
            compiled: version.compiled.clone(),
            tables: version.served_tables()?,
            clock,
            unavailable: BTreeMap::new(),
        });
        Ok(())
    }

    /// Sets what "now" is, or goes back to the first clock.
    pub fn set_now(&self, now: Option<Micros>) -> Result<()> {
        self.clock.set(now);
        self.serve(self.clock_mode())
    }

    fn clock_mode(&self) -> ClockMode {
        if self.clock.is_set() { ClockMode::Wall } else { self.unset_clock }
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

    /// Erases keys; what is grouped by another key is built anew without them before this returns.
    pub fn erase(&self, dataset: &str, keys: Vec<GivenKey>) -> Result<u64> {
        let receipt = self.wait(self.ingestor.erase(dataset, keys))?;
        self.run_to_end()?;
        if receipt.pending {
            self.build_without_erased(dataset)?;
        }
        Ok(receipt.erased)
    }

    /// As a server does it: beside the tables that serve, which go when the new ones have taken over.
    fn build_without_erased(&self, dataset: &str) -> Result<()> {
        let before = self.version.lock().clone();
        let next = {
            let mut engine = self.engine.lock();
            let next = without_erased(&before, dataset, &engine)?;
            engine.deploy(&job_spec(&[&before, &next])?)?;
            engine.run_to_end()?;
            next
        };
        *self.version.lock() = next.clone();
        self.serve(self.clock_mode())?;
        let gone: Vec<u32> =
            before.ids.values().filter(|id| next.ids.values().all(|kept| kept != *id)).copied().collect();
        let mut engine = self.engine.lock();
        engine.deploy(&job_spec(&[&next])?)?;
        engine.drop_state(&gone)
    }

    pub fn run_to_end(&self) -> Result<()> {
        self.engine.lock().run_to_end()
    }
}

/// The definitions with ids given out in order.
fn version(compiled: Compiled) -> Version {
    let ids: BTreeMap<String, u32> = identities(&compiled).into_iter().zip(1u32..).collect();
    Version {
        sequence: 0,
        commit_id: COMMIT.into(),
        new_identities: ids.keys().cloned().collect(),
        compiled: Arc::new(compiled),
        ids,
        goal: None,
        sources: Default::default(),
    }
}

/// The same definitions with what is erased by now, and ids for the tables that leave it out.
fn without_erased(before: &Version, dataset: &str, engine: &Engine) -> Result<Version> {
    let mut definitions = before.compiled.definitions.as_ref().clone();
    if let Some(dataset) = before.compiled.datasets.get(dataset) {
        let places = engine.handle().erased_below(before.log_id(dataset)?, dataset.partitions);
        definitions.erased.insert(dataset.identity(), places);
    }
    let compiled = compile(&definitions).map_err(|errors| all_in_one(&errors))?;
    let mut next = Version { compiled: Arc::new(compiled), ..before.clone() };
    let unused = before.ids.values().max().copied().unwrap_or_default() + 1;
    let wanted = identities(&next.compiled);
    next.ids.retain(|identity, _| wanted.contains(identity));
    let new: Vec<String> = wanted.into_iter().filter(|identity| !before.ids.contains_key(identity)).collect();
    next.ids.extend(new.iter().cloned().zip(unused..));
    next.new_identities = new;
    Ok(next)
}

fn id_of(ids: &BTreeMap<String, u32>, identity: &str) -> Result<u32> {
    ids.get(identity).copied().ok_or_else(|| Error::internal(format!("no id for {identity}")))
}
