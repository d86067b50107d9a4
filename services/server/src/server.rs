//! [`Server`]: everything opened and wired, from the data directory to the two ports.

use crate::adapters::{EngineWatch, IngestDeployer, RunBook};
use crate::checkpoints::restore::{self, Restored};
use crate::checkpoints::taker::{RunningTaker, Taker, report};
use crate::clock::WallClock;
use crate::config::{Config, LogConfig};
use crate::data_dir::DataDir;
use crate::health::{ServerHealth, describe_metrics};
use crate::run_log::RunLog;
use crate::sources::Sources;
use crate::{catalog, checkpoints, listen, telemetry};
use axum::Router;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thyme_catalog::{Catalog, Severity, SqlCatalog};
use thyme_control::{CheckpointBoard, ControlParts, Controller, SourceBoard};
use thyme_core::time::Clock;
use thyme_core::{Error, Result};
use thyme_engine::{Engine, EngineOptions, RunningEngine};
use thyme_gateway::{ControlGateway, Health, QueryGateway};
use thyme_ingest::Ingestor;
use thyme_log::{EmbeddedLog, EventLog, KafkaLog};
use thyme_query::{ExtractorRuntime, NoRuns, QueryEngine, QueryOptions, QueryParts, RunSink};
use thyme_state::StateStore;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long requests under way may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// A running server.
pub struct Server {
    pub control_addr: SocketAddr,
    pub query_addr: SocketAddr,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    sources: Sources,
    taker: Option<RunningTaker>,
    engine: RunningEngine,
    run_writer: Option<JoinHandle<()>>,
    catalog: Arc<SqlCatalog>,
    log: Arc<dyn EventLog>,
    /// Held to the end: the lock is the last to go.
    data_dir: DataDir,
}

impl Server {
    /// Opens everything and listens. When it returns, requests are answered.
    pub async fn start(config: Config, extractors: Arc<dyn ExtractorRuntime>) -> Result<Server> {
        let recorder = telemetry::recorder()?;
        describe_metrics();
        let data_dir = DataDir::open(&config.data_dir)?;
        let control_listener = listen::bind(config.control_addr, "server.control_addr").await?;
        let query_listener = listen::bind(config.query_addr, "server.query_addr").await?;
        tracing::info!(data_dir = %data_dir.root().display(), "opening");

        let clock: Arc<dyn Clock> = Arc::new(WallClock);
        let stored = config.checkpoints.as_ref().map(checkpoints::open).transpose()?;
        for leftover in [data_dir.checkpoint(), data_dir.rebuild()] {
            restore::remove(&leftover)?;
        }
        let (log_dir, log_config) = (data_dir.log(), config.log.clone());
        let log = blocking(move || open_log(log_config, &log_dir)).await?;
        let has_state = restore::has_state(&data_dir.state());
        let restored = match &stored {
            Some(stored) if !has_state => Some(restore::fetch(stored, log.as_ref(), &data_dir).await?),
            _ => None,
        };
        let catalog = Arc::new(catalog::open(&config.catalog, &data_dir).await?);
        if let Some(restored) = &restored {
            restored.settle(catalog.as_ref()).await?;
        }
        let options = EngineOptions { clock: config.clock, ..EngineOptions::default() };
        let (state_dir, its_log) = (data_dir.state(), log.clone());
        let opened = blocking(move || {
            let state = StateStore::open(&state_dir, thyme_state::Options::default())?;
            let engine = Engine::open(state.clone(), its_log, options)?.spawn()?;
            Ok((state, engine))
        });
        let (state, engine) = opened.await?;

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
        let query = Arc::new(QueryEngine::new(QueryParts {
            state: state.clone(),
            extractors,
            clock: clock.clone(),
            runs,
            applied: Arc::new(EngineWatch(engine.handle.clone())),
            options: QueryOptions { extractor_deadline: config.query.extractor_deadline, ..QueryOptions::default() },
        }));
        let book = Arc::new(RunBook { catalog: catalog.clone(), log: run_log });
        let ingestor = Ingestor::new(log.clone(), clock.clone()).with_erase_listener(book.clone());
        let ingestor = Arc::new(ingestor);
        let board = Arc::new(SourceBoard::default());
        let saved = Arc::new(CheckpointBoard::default());
        let controller = Controller::open(ControlParts {
            catalog: catalog.clone(),
            log: log.clone(),
            state: state.clone(),
            engine: engine.handle.clone(),
            query: query.clone(),
            ingest: Arc::new(IngestDeployer(ingestor.clone())),
            sources: board.clone(),
            checkpoints: saved.clone(),
            clock: clock.clone(),
            clock_mode: config.clock,
            data_dir: data_dir.root().display().to_string(),
        })
        .await?;
        if let Some(restored) = &restored {
            checkpoints::catch_up::drop_unknown(&controller, &engine.handle, &state).await?;
            tell(restored, catalog.as_ref(), &saved, clock.now()).await;
        }
        if !has_state {
            checkpoints::catch_up::catch_up(&controller, &engine.handle, log.clone()).await?;
        }
        let (ingest, cursors) = (ingestor.clone(), catalog.clone());
        let sources = Sources::start(controller.ingest_datasets(), ingest, cursors, board, clock.clone());
        let taker = stored.zip(config.checkpoints.clone()).map(|(checkpoints, config)| {
            saved.update(|status| status.url.clone_from(&config.url));
            let (controller, catalog, board) = (controller.clone(), catalog.clone(), saved.clone());
            let (directory, clock) = (data_dir.checkpoint(), clock.clone());
            Taker { checkpoints, config, directory, state, controller, catalog, board, clock }.start()
        });

        let health = Arc::new(ServerHealth { engine: engine.handle.clone(), recorder, checkpoints: saved, clock });
        let parts = Parts { config, controller, query, ingestor, catalog: catalog.clone(), book, health };
        let (stop, stopping) = watch::channel(false);
        let control_addr = local(&control_listener)?;
        let query_addr = local(&query_listener)?;
        let listeners = vec![
            listen::serve(control_listener, parts.control_routes().await?, stopping.clone()),
            listen::serve(query_listener, parts.query_routes().await?, stopping),
        ];
        tracing::info!(control = %control_addr, query = %query_addr, data_dir = %data_dir.root().display(), "serving");
        Ok(Server {
            control_addr,
            query_addr,
            stop,
            listeners,
            sources,
            taker,
            engine,
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
    pub async fn stop(mut self) -> Result<()> {
        tracing::info!("stopping");
        self.stop.send_replace(true);
        self.sources.stop().await;
        if let Some(taker) = self.taker.take() {
            taker.stop().await;
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
    board.update(|status| {
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

/// What the routes are made of.
struct Parts {
    config: Config,
    controller: Arc<Controller>,
    query: Arc<QueryEngine>,
    ingestor: Arc<Ingestor>,
    catalog: Arc<SqlCatalog>,
    book: Arc<RunBook>,
    health: Arc<dyn Health>,
}

impl Parts {
    async fn control_routes(&self) -> Result<Router> {
        let control = thyme_control::grpc::service(self.controller.clone());
        let ingest = thyme_ingest::grpc::service(self.ingestor.clone());
        let (reporter, grpc_health) = tonic_health::server::health_reporter();
        reporter.set_service_status("thyme.v1.ControlService", tonic_health::ServingStatus::Serving).await;
        reporter.set_service_status("thyme.v1.IngestService", tonic_health::ServingStatus::Serving).await;
        let grpc = tonic::service::Routes::new(control).add_service(ingest).add_service(grpc_health);
        let gateway = ControlGateway {
            controller: self.controller.clone(),
            ingestor: self.ingestor.clone(),
            max_bytes: self.config.ingest.max_bytes,
            max_rows: self.config.ingest.max_rows,
        };
        let services = ["thyme.v1.ControlService", "thyme.v1.IngestService"];
        self.finish(grpc, &services, thyme_gateway::control_routes(Arc::new(gateway)))
    }

    async fn query_routes(&self) -> Result<Router> {
        let feature = thyme_feature::grpc::service(self.query.clone(), self.catalog.clone());
        let flight = thyme_feature::flight::service(self.query.clone(), Some(self.ingestor.clone()));
        let (reporter, grpc_health) = tonic_health::server::health_reporter();
        reporter.set_service_status("thyme.v1.FeatureService", tonic_health::ServingStatus::Serving).await;
        let grpc = tonic::service::Routes::new(feature).add_service(flight).add_service(grpc_health);
        let gateway = QueryGateway {
            query: self.query.clone(),
            runs: self.book.clone(),
            max_bytes: self.config.ingest.max_bytes,
        };
        self.finish(grpc, &["thyme.v1.FeatureService"], thyme_gateway::query_routes(Arc::new(gateway)))
    }

    /// `services` are those that reflection lists, beside health; in both its versions, since stock clients speak either.
    fn finish(&self, grpc: tonic::service::Routes, services: &[&str], http: Router) -> Result<Router> {
        let reflection = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(thyme_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("grpc.health.v1.Health");
            services.iter().fold(builder, |builder, name| builder.with_service_name(*name))
        };
        let wrong = |error| Error::internal(format!("building the reflection service: {error}"));
        let grpc = grpc.add_service(reflection().build_v1().map_err(wrong)?);
        let grpc = grpc.add_service(reflection().build_v1alpha().map_err(wrong)?).into_axum_router();
        let health = thyme_gateway::health_routes(self.health.clone());
        Ok(http.merge(health).merge(grpc).fallback(thyme_gateway::not_found))
    }
}
