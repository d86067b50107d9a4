//! [`Server`]: everything opened and wired, from the data directory to the two ports.

use crate::adapters::{EngineWatch, ErasesRead, IngestDeployer, RunBook};
use crate::checkpoints::restore::{self, Restored};
use crate::checkpoints::taker::{RunningTaker, Taker, report};
use crate::clock::WallClock;
use crate::config::{Config, LogConfig};
use crate::data_dir::DataDir;
use crate::health::{ServerHealth, describe_metrics};
use crate::holders::{Answers, GroupHolders};
use crate::nodes::{Freshness, Node, NodeParts};
use crate::routes::Parts;
use crate::run_log::RunLog;
use crate::sources::Sources;
use crate::{catalog, checkpoints, listen, telemetry};
use futures::future::BoxFuture;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thyme_catalog::{Catalog, Severity, SqlCatalog};
use thyme_control::{CheckpointBoard, ControlParts, Controller, SourceBoard};
use thyme_core::slice::Slice;
use thyme_core::time::Clock;
use thyme_core::{Error, Result};
use thyme_engine::{Engine, EngineOptions, Role, RunningEngine};
use thyme_feature::parts::GrpcPeers;
use thyme_ingest::Ingestor;
use thyme_log::{EmbeddedLog, EventLog, KafkaLog, Member, Onlooker};
use thyme_query::{ExtractorRuntime, NoRuns, QueryEngine, QueryOptions, QueryParts, RunSink};
use thyme_state::{Closing, StateStore, States};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long requests under way may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// A running server.
pub struct Server {
    /// None where it takes no part in the work.
    pub control_addr: Option<SocketAddr>,
    pub query_addr: SocketAddr,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    node: JoinHandle<()>,
    /// None where there are no others to answer.
    answers: Option<JoinHandle<()>>,
    takers: Vec<RunningTaker>,
    engine: RunningEngine,
    /// Of the states.
    closing: Vec<Closing>,
    run_writer: Option<JoinHandle<()>>,
    catalog: Arc<SqlCatalog>,
    log: Arc<dyn EventLog>,
    /// Held to the end: the lock is the last to go.
    data_dir: DataDir,
}

impl Server {
    /// Opens everything and listens. When it returns, requests are answered.
    ///
    /// Boxed, like [`Server::stop`]: whoever awaits a plain future compiles all that is in it, here the whole server, once more.
    pub fn start(config: Config, extractors: Arc<dyn ExtractorRuntime>) -> BoxFuture<'static, Result<Server>> {
        Box::pin(Self::open(config, extractors))
    }

    async fn open(config: Config, extractors: Arc<dyn ExtractorRuntime>) -> Result<Server> {
        let recorder = telemetry::recorder()?;
        describe_metrics();
        let data_dir = DataDir::open(&config.data_dir)?;
        let control_listener = match config.query_only {
            false => Some(listen::bind(config.control_addr, "server.control_addr").await?),
            true => None,
        };
        let query_listener = listen::bind(config.query_addr, "server.query_addr").await?;
        tracing::info!(data_dir = %data_dir.root().display(), "opening");

        let clock: Arc<dyn Clock> = Arc::new(WallClock);
        let (log_dir, log_config) = (data_dir.log(), config.log.clone());
        let opened = blocking(move || {
            let log = open_log(log_config, &log_dir)?;
            let slices = log.slices()?;
            Ok((log, slices))
        });
        let (log, slices) = opened.await?;
        data_dir.check_slices(slices)?;
        restore::remove(&data_dir.rebuild())?;
        let mut stored = Vec::new();
        let mut restored = Vec::new();
        let mut has_states = true;
        for slice in Slice::all(slices) {
            restore::remove(&data_dir.checkpoint(slice))?;
            let has_state = restore::has_state(&data_dir.state(slice));
            has_states &= has_state;
            let Some(config) = &config.checkpoints else { continue };
            let checkpoints = checkpoints::open(config, slice)?;
            if !has_state {
                restored.push(restore::fetch(&checkpoints, log.as_ref(), &data_dir, slice).await?);
            }
            stored.push((slice, checkpoints));
        }
        restore::take_catalog(&restored, &data_dir)?;
        let catalog = Arc::new(catalog::open(&config.catalog, &data_dir).await?);
        for restored in &restored {
            restored.settle(catalog.as_ref()).await?;
        }
        // Who owns the work is decided when everything is there.
        let options = EngineOptions { clock: config.clock, role: Role::Follower, ..EngineOptions::default() };
        let control_addr = control_listener.as_ref().map(local).transpose()?;
        let place = match control_addr {
            Some(addr) => Some(thyme_log::Node { id: data_dir.node_id()?, url: format!("http://{addr}") }),
            None => None,
        };
        let its_log = log.clone();
        let directories: Vec<PathBuf> = Slice::all(slices).map(|slice| data_dir.state(slice)).collect();
        let opened = blocking(move || {
            let (mut states, mut engines) = (Vec::new(), Vec::new());
            for (slice, directory) in Slice::all(slices).zip(directories) {
                let state = StateStore::open(&directory, thyme_state::Options::default().shared_by(slices))?;
                let options = EngineOptions { slice, ..options.clone() };
                engines.push(Engine::open(state.clone(), its_log.clone(), options)?);
                states.push(state);
            }
            let engine = RunningEngine::spawn(engines)?;
            let member: Arc<dyn Member> = match place {
                Some(place) => its_log.join(place)?.into(),
                None => Arc::new(Onlooker::default()),
            };
            Ok((States::new(states), engine, member))
        });
        let (states, engine, member) = opened.await?;

        let (run_log, run_writer) = if config.query.run_log {
            let (run_log, writer) = RunLog::start(catalog.clone(), config.query.run_log_keep);
            (Some(run_log), Some(writer))
        } else {
            (None, None)
        };
        let runs: Arc<dyn RunSink> = match &run_log {
            Some(run_log) => run_log.clone(),
            None => Arc::new(NoRuns),
        };
        let holders = Arc::new(GroupHolders::default());
        let query = QueryEngine::new(QueryParts {
            states: states.clone(),
            extractors,
            clock: clock.clone(),
            runs,
            applied: Arc::new(EngineWatch(engine.handle.clone())),
            options: QueryOptions { extractor_deadline: config.query.extractor_deadline, ..QueryOptions::default() },
        });
        let has_peers = slices > 1;
        let query = if has_peers { query.with_peers(holders.clone(), Arc::new(GrpcPeers::default())) } else { query };
        let query = Arc::new(query);
        let book = Arc::new(RunBook { catalog: catalog.clone(), log: run_log });
        let erases = Arc::new(ErasesRead { log: log.clone(), engine: engine.handle.clone() });
        let ingestor = Ingestor::new(log.clone(), clock.clone()).with_erase_listener(book.clone());
        let ingestor = Arc::new(ingestor.with_erase_watch(erases));
        let board = Arc::new(SourceBoard::default());
        let saved = Arc::new(CheckpointBoard::default());
        let controller = Controller::new(ControlParts {
            catalog: catalog.clone(),
            log: log.clone(),
            states: states.clone(),
            engine: engine.handle.clone(),
            query: query.clone(),
            ingest: Arc::new(IngestDeployer(ingestor.clone())),
            sources: board.clone(),
            checkpoints: saved.clone(),
            clock: clock.clone(),
            clock_mode: config.clock,
            data_dir: data_dir.root().display().to_string(),
            member: member.clone(),
            state_is_new: !has_states,
        });
        let freshness = Arc::new(Freshness::default());
        let node = Node::start(
            NodeParts {
                engine: engine.handle.clone(),
                controller: controller.clone(),
                member,
                freshness: freshness.clone(),
            },
            !config.query_only,
        )
        .await?;
        let sources =
            Sources::start(controller.clone(), ingestor.clone(), catalog.clone(), board.clone(), clock.clone());
        if !restored.is_empty() {
            restore::drop_unknown(&controller, &engine.handle, &states).await?;
        }
        for restored in &restored {
            tell(restored, catalog.as_ref(), &saved, clock.now()).await;
        }
        let closing = states.iter().map(|state| state.closing()).collect();
        let mut takers = Vec::new();
        for ((slice, checkpoints), state) in stored.into_iter().zip(states.iter().cloned()) {
            let Some(config) = config.checkpoints.clone() else { continue };
            let directory = data_dir.checkpoint(slice);
            saved.update(slice.index, |status| status.url.clone_from(&config.url));
            let (controller, catalog, board, clock) =
                (controller.clone(), catalog.clone(), saved.clone(), clock.clone());
            takers.push(
                Taker { checkpoints, slice, config, directory, state, controller, catalog, board, clock }.start(),
            );
        }

        let health = Arc::new(ServerHealth {
            engine: engine.handle.clone(),
            controller: controller.clone(),
            freshness,
            recorder,
            checkpoints: saved,
            clock,
            emit_lags: Default::default(),
            rows_lags: Default::default(),
        });
        let (stop, stopping) = watch::channel(false);
        let query_addr = local(&query_listener)?;
        // Of one slice nobody lacks anything.
        let answers = if has_peers {
            let (url, its_log) = (format!("http://{query_addr}"), log.clone());
            let name = url.clone();
            let presence = blocking(move || its_log.presence(name)).await?.into();
            let held = (0..slices).collect();
            Some(Answers { presence, holders, health: health.clone(), url, held, slices })
        } else {
            None
        };
        let parts = Parts { config, has_peers, controller, query, ingestor, catalog: catalog.clone(), book, health };
        let mut listeners = vec![listen::serve(query_listener, parts.query_routes().await?, stopping.clone())];
        if let Some(listener) = control_listener {
            listeners.push(listen::serve(listener, parts.control_routes().await?, stopping.clone()));
        }
        let answers = answers.map(|answers| tokio::spawn(answers.run(stopping.clone())));
        let node = tokio::spawn(node.run(stopping, sources));
        tracing::info!(control = control_addr.map(|addr| addr.to_string()), query = %query_addr, data_dir = %data_dir.root().display(), "serving");
        Ok(Server {
            control_addr,
            query_addr,
            stop,
            listeners,
            node,
            answers,
            takers,
            engine,
            closing,
            run_writer,
            catalog,
            log,
            data_dir,
        })
    }

    /// Where the data is.
    pub fn data_dir(&self) -> &std::path::Path {
        self.data_dir.root()
    }

    /// Finishes what is under way and closes everything.
    pub fn stop(self) -> BoxFuture<'static, Result<()>> {
        Box::pin(self.close())
    }

    async fn close(mut self) -> Result<()> {
        tracing::info!("stopping");
        self.stop.send_replace(true);
        for taker in self.takers.drain(..) {
            taker.stop().await;
        }
        if let Err(error) = (&mut self.node).await {
            tracing::error!(%error, "the node's part in the work ended badly");
        }
        if let Some(answers) = &mut self.answers
            && let Err(error) = answers.await
        {
            tracing::error!(%error, "announcing this node ended badly");
        }
        for listener in &mut self.listeners {
            if tokio::time::timeout(GRACE, &mut *listener).await.is_err() {
                tracing::warn!("connections were still open after {} s and are cut", GRACE.as_secs());
                listener.abort();
            }
        }
        self.listeners.clear();
        let engine = self.engine;
        let log = self.log.clone();
        let closed = tokio::task::spawn_blocking(move || {
            engine.stop();
            log.close();
        });
        closed.await.map_err(|error| Error::internal(error.to_string()))?;
        // The writer ends when the query engine, which holds the queue, is gone; connections that were cut may still hold it.
        if let Some(writer) = self.run_writer
            && tokio::time::timeout(GRACE, writer).await.is_err()
        {
            tracing::warn!("the last query runs were not recorded");
        }
        self.catalog.close().await;
        // A copy for a checkpoint, or an answer whose asker is gone, may still be under way on a thread of its own: whoever starts on the
        // same directory next would be refused.
        let closing = self.closing;
        let closed = tokio::task::spawn_blocking(move || closing.iter().all(|state| state.wait(GRACE))).await;
        if !closed.is_ok_and(|is_closed| is_closed) {
            tracing::warn!("the state was still being read after {} s", GRACE.as_secs());
        }
        Ok(())
    }
}

fn open_log(config: LogConfig, directory: &std::path::Path) -> Result<Arc<dyn EventLog>> {
    match config {
        LogConfig::Embedded => Ok(Arc::new(EmbeddedLog::open(directory)?)),
        LogConfig::Kafka(settings) => {
            tracing::info!(brokers = settings.brokers, prefix = settings.prefix, "connecting to Kafka");
            Ok(Arc::new(KafkaLog::open(settings)?))
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error.to_string()))?
}

/// Where the state came from, for the status and the event feed.
async fn tell(restored: &Restored, catalog: &dyn Catalog, board: &CheckpointBoard, now: i64) {
    let number = restored.manifest.as_ref().map(|manifest| manifest.number);
    board.update(restored.slice, |status| {
        status.restored = number;
        status.unusable.clone_from(&restored.unusable);
    });
    for reason in &restored.unusable {
        let message = format!("a damaged checkpoint was passed over: {reason}");
        report(catalog, now, "checkpoint.unusable", Severity::Error, message).await;
    }
    if let Some(number) = number {
        let message = format!("the data directory had no state: it was restored from checkpoint {number}");
        report(catalog, now, "checkpoint.restored", Severity::Warning, message).await;
    }
}

fn local(listener: &tokio::net::TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|error| Error::internal(format!("a listener without an address: {error}")))
}
