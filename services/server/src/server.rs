//! [`Server`]: everything opened and wired, from the data directory to the two ports.

use crate::adapters::{EngineWatch, IngestDeployer, RunBook};
use crate::clock::WallClock;
use crate::config::{Config, LogConfig};
use crate::data_dir::DataDir;
use crate::health::{ServerHealth, describe_metrics};
use crate::nodes::{Freshness, Node, NodeParts};
use crate::run_log::RunLog;
use crate::sources::Sources;
use crate::{listen, telemetry};
use axum::Router;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thyme_catalog::SqliteCatalog;
use thyme_control::{ControlParts, Controller, SourceBoard};
use thyme_core::time::Clock;
use thyme_core::{Error, Result};
use thyme_engine::{Engine, EngineOptions, Role, RunningEngine};
use thyme_gateway::{ControlGateway, Health, QueryGateway};
use thyme_ingest::Ingestor;
use thyme_log::{EmbeddedLog, EventLog, KafkaLog, Member, Onlooker};
use thyme_query::{ExtractorRuntime, NoRuns, QueryEngine, QueryOptions, QueryParts, RunSink};
use thyme_state::StateStore;
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
    engine: RunningEngine,
    run_writer: Option<JoinHandle<()>>,
    catalog: Arc<SqliteCatalog>,
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
        let control_listener = match config.query_only {
            false => Some(listen::bind(config.control_addr, "server.control_addr").await?),
            true => None,
        };
        let query_listener = listen::bind(config.query_addr, "server.query_addr").await?;
        tracing::info!(data_dir = %data_dir.root().display(), "opening");

        let clock: Arc<dyn Clock> = Arc::new(WallClock);
        let catalog = Arc::new(SqliteCatalog::open(&data_dir.catalog()).await?);
        let (log_dir, state_dir) = (data_dir.log(), data_dir.state());
        // Who owns the work is decided when everything is there.
        let options = EngineOptions { clock: config.clock, role: Role::Follower, ..EngineOptions::default() };
        let control_addr = control_listener.as_ref().map(local).transpose()?;
        let node = control_addr.map(|addr| -> Result<_> {
            Ok(thyme_log::Node { id: data_dir.node_id()?, url: format!("http://{addr}") })
        });
        let node = node.transpose()?;
        let log_config = config.log.clone();
        let opened = tokio::task::spawn_blocking(move || -> Result<_> {
            let log: Arc<dyn EventLog> = match log_config {
                LogConfig::Embedded => Arc::new(EmbeddedLog::open(&log_dir)?),
                LogConfig::Kafka(settings) => {
                    tracing::info!(brokers = settings.brokers, prefix = settings.prefix, "connecting to Kafka");
                    Arc::new(KafkaLog::open(settings)?)
                }
            };
            let state = StateStore::open(&state_dir, thyme_state::Options::default())?;
            let engine = Engine::open(state.clone(), log.clone(), options)?.spawn()?;
            let member: Arc<dyn Member> = match node {
                Some(node) => log.join(node)?.into(),
                None => Arc::new(Onlooker::default()),
            };
            Ok((log, state, engine, member))
        });
        let (log, state, engine, member) = opened.await.map_err(|error| Error::internal(error.to_string()))??;

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
        let controller = Controller::new(ControlParts {
            catalog: catalog.clone(),
            log: log.clone(),
            state,
            engine: engine.handle.clone(),
            query: query.clone(),
            ingest: Arc::new(IngestDeployer(ingestor.clone())),
            sources: board.clone(),
            clock: clock.clone(),
            clock_mode: config.clock,
            data_dir: data_dir.root().display().to_string(),
            member: member.clone(),
        });
        let freshness = Arc::new(Freshness::default());
        let start_sources = {
            let (controller, ingestor, catalog) = (controller.clone(), ingestor.clone(), catalog.clone());
            move || {
                let (ingestor, catalog) = (ingestor.clone(), catalog.clone());
                Sources::start(controller.ingest_datasets(), ingestor, catalog, board.clone(), clock.clone())
            }
        };
        let node = Node::start(
            NodeParts {
                engine: engine.handle.clone(),
                controller: controller.clone(),
                member,
                start_sources: Box::new(start_sources),
                freshness: freshness.clone(),
            },
            !config.query_only,
        )
        .await?;

        let health = Arc::new(ServerHealth {
            engine: engine.handle.clone(),
            controller: controller.clone(),
            freshness,
            recorder,
        });
        let parts = Parts { config, controller, query, ingestor, catalog: catalog.clone(), book, health };
        let (stop, stopping) = watch::channel(false);
        let query_addr = local(&query_listener)?;
        let mut listeners = vec![listen::serve(query_listener, parts.query_routes().await?, stopping.clone())];
        if let Some(listener) = control_listener {
            listeners.push(listen::serve(listener, parts.control_routes().await?, stopping.clone()));
        }
        let node = tokio::spawn(node.run(stopping));
        tracing::info!(control = ?control_addr, query = %query_addr, data_dir = %data_dir.root().display(), "serving");
        Ok(Server { control_addr, query_addr, stop, listeners, node, engine, run_writer, catalog, log, data_dir })
    }

    /// Where the data is.
    pub fn data_dir(&self) -> &std::path::Path {
        self.data_dir.root()
    }

    /// Finishes what is under way and closes everything.
    pub async fn stop(mut self) -> Result<()> {
        tracing::info!("stopping");
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.node).await {
            tracing::error!(%error, "the node's part in the work ended badly");
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

fn local(listener: &tokio::net::TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|error| Error::internal(format!("a listener without an address: {error}")))
}

/// What the routes are made of.
struct Parts {
    config: Config,
    controller: Arc<Controller>,
    query: Arc<QueryEngine>,
    ingestor: Arc<Ingestor>,
    catalog: Arc<SqliteCatalog>,
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
        let ingestor = (!self.config.query_only).then(|| self.ingestor.clone());
        let flight = thyme_feature::flight::service(self.query.clone(), ingestor);
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
