//! [`Server`]: everything opened and wired, from the data directory to the two ports.

use crate::adapters::{EngineWatch, ErasesRead, IngestDeployer, RunBook};
use crate::checkpoints::restore;
use crate::clock::WallClock;
use crate::config::{Config, LogConfig};
use crate::data_dir::DataDir;
use crate::freshness::Freshness;
use crate::health::{ServerHealth, describe_metrics};
use crate::holders::{Answers, GroupHolders};
use crate::nodes::{Node, NodeParts, first_share};
use crate::routes::Parts;
use crate::run_log::RunLog;
use crate::slices::{Opened, Opener, SliceParts, Slices};
use crate::sources::Sources;
use crate::{catalog, listen, telemetry};
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_catalog::SqlCatalog;
use thyme_control::{CheckpointBoard, ControlParts, Controller, SourceBoard};
use thyme_core::slice::Slice;
use thyme_core::time::Clock;
use thyme_core::{Error, Result};
use thyme_engine::{EngineHandle, EngineOptions, Role};
use thyme_feature::flight::Spines;
use thyme_feature::parts::GrpcPeers;
use thyme_ingest::Ingestor;
use thyme_log::{EmbeddedLog, EventLog, KafkaLog, Member, Onlooker};
use thyme_query::{ExtractorRuntime, NoRuns, QueryEngine, QueryOptions, QueryParts, RunSink};
use thyme_state::States;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long requests under way may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// How long a server that takes no part in the work waits for one that does.
const BEGIN: Duration = Duration::from_secs(20);

/// A running server.
pub struct Server {
    /// None where it takes no part in the work.
    pub control_addr: Option<SocketAddr>,
    pub query_addr: SocketAddr,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    node: JoinHandle<Slices>,
    /// None where there are no others to answer.
    answers: Option<JoinHandle<()>>,
    run_writer: Option<JoinHandle<()>>,
    catalog: Arc<SqlCatalog>,
    log: Arc<dyn EventLog>,
    /// Held to the end: the lock is the last to go.
    data_dir: Arc<DataDir>,
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
        let data_dir = Arc::new(DataDir::open(&config.data_dir)?);
        let ports = Ports::bind(&config)?;
        tracing::info!(data_dir = %data_dir.root().display(), "opening");
        let clock: Arc<dyn Clock> = Arc::new(WallClock);
        let (log, slices) = open_its_log(&config, &data_dir).await?;
        data_dir.check_slices(slices)?;
        restore::remove(&data_dir.rebuild())?;
        let spines = Spines::open(&data_dir.spines(), clock.clone())?;
        let holds_all = config.query_only || slices == 1;
        // Of several slices it holds what the group gives it; of one, who owns the work is decided when everything is there.
        let (member, share) = if holds_all {
            (None, (0..slices).collect())
        } else {
            let member = join(log.clone(), &data_dir, &ports).await?;
            let share = first_share(&member, &log, slices).await.into_iter().filter(|slice| *slice < slices).collect();
            (Some(member), share)
        };
        let options = EngineOptions { clock: config.clock, role: Role::Follower, ..EngineOptions::default() };
        let checkpoints = config.checkpoints.clone();
        let opener = Arc::new(Opener { data_dir: data_dir.clone(), log: log.clone(), slices, options, checkpoints });
        let (catalog, opened, state_is_new) = open_share(&opener, &share, &config).await?;
        let member = match member {
            Some(member) => member,
            None => join(log.clone(), &data_dir, &ports).await?,
        };
        if holds_all && !config.query_only {
            first_share(&member, &log, slices).await;
        }

        let (states, engine) = (States::of_none(slices), EngineHandle::of_none(slices));
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
            applied: Arc::new(EngineWatch(engine.clone())),
            options: QueryOptions { extractor_deadline: config.query.extractor_deadline, ..QueryOptions::default() },
        });
        let has_peers = slices > 1;
        let query = if has_peers { query.with_peers(holders.clone(), Arc::new(GrpcPeers::default())) } else { query };
        let query = Arc::new(query);
        let book = Arc::new(RunBook { catalog: catalog.clone(), log: run_log });
        let erases = Arc::new(ErasesRead { log: log.clone(), query: query.clone() });
        let ingestor = Ingestor::new(log.clone(), clock.clone()).with_erase_listener(book.clone());
        let ingestor = Arc::new(ingestor.with_erase_watch(erases));
        let board = Arc::new(SourceBoard::default());
        let saved = Arc::new(CheckpointBoard::default());
        let controller = Controller::new(ControlParts {
            catalog: catalog.clone(),
            log: log.clone(),
            states: states.clone(),
            engine: engine.clone(),
            query: query.clone(),
            ingest: Arc::new(IngestDeployer(ingestor.clone())),
            sources: board.clone(),
            checkpoints: saved.clone(),
            clock: clock.clone(),
            clock_mode: config.clock,
            data_dir: data_dir.root().display().to_string(),
            member: member.clone(),
            state_is_new,
        });
        let mut here = Slices::new(SliceParts {
            opener,
            controller: controller.clone(),
            catalog: catalog.clone(),
            states: states.clone(),
            board: saved.clone(),
            clock: clock.clone(),
        });
        let were_restored = opened.iter().any(Opened::was_restored);
        for opened in opened {
            here.add(opened).await?;
        }
        let freshness = Arc::new(Freshness::default());
        let node = Node::start(NodeParts {
            engine: engine.clone(),
            controller: controller.clone(),
            log: log.clone(),
            member,
            freshness: freshness.clone(),
            states: states.clone(),
            slices: here,
            holders: holders.clone(),
            holds_all,
        })
        .await?;
        if were_restored {
            controller.drop_unknown(&engine).await?;
        }
        let sources = Sources::start(
            controller.clone(),
            ingestor.clone(),
            log.clone(),
            catalog.clone(),
            board.clone(),
            clock.clone(),
        );
        let health = Arc::new(ServerHealth {
            engine,
            controller: controller.clone(),
            freshness,
            recorder,
            checkpoints: saved,
            clock,
            lags: Default::default(),
            watermarks: Default::default(),
            emit_lags: Default::default(),
            rows_lags: Default::default(),
        });
        let (stop, stopping) = watch::channel(false);
        let (control_addr, query_addr) = (ports.control_addr, ports.query_addr);
        // Of one slice nobody lacks anything.
        let answers = if has_peers {
            let node = thyme_log::Node { id: data_dir.node_id()?, url: format!("http://{query_addr}") };
            let (id, its_log) = (node.id.clone(), log.clone());
            let presence = blocking(move || its_log.presence(node)).await?.into();
            let owned = controller.owned();
            Some(Answers { presence, holders, ready: health.clone(), id, states, owned, holds_all })
        } else {
            None
        };
        let stops = stopping.clone();
        let parts = Parts { config, has_peers, controller, query, ingestor, spines, book, health, stopping: stops };
        let mut listeners = vec![listen::serve("query", ports.query, parts.query_routes().await?, stopping.clone())];
        if let Some(listener) = ports.control {
            listeners.push(listen::serve("control", listener, parts.control_routes().await?, stopping.clone()));
        }
        let answers = answers.map(|answers| tokio::spawn(answers.run(stopping.clone())));
        let node = tokio::spawn(node.run(stopping, sources));
        tracing::info!(control = control_addr.map(|addr| addr.to_string()), query = %query_addr, data_dir = %data_dir.root().display(), "serving");
        Ok(Server { control_addr, query_addr, stop, listeners, node, answers, run_writer, catalog, log, data_dir })
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
        let slices = (&mut self.node).await;
        if let Err(error) = &slices {
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
        let log = self.log.clone();
        let closed = tokio::task::spawn_blocking(move || {
            let closing = slices.map(Slices::close).unwrap_or_default();
            log.close();
            closing
        });
        let closing = closed.await.map_err(|error| Error::internal(error.to_string()))?;
        // The writer ends when the query engine, which holds the queue, is gone; connections that were cut may still hold it.
        if let Some(writer) = self.run_writer
            && tokio::time::timeout(GRACE, writer).await.is_err()
        {
            tracing::warn!("the last query runs were not recorded");
        }
        self.catalog.close().await;
        // A copy for a checkpoint, or an answer whose asker is gone, may still be under way on a thread of its own: whoever starts on the
        // same directory next would be refused.
        let closed = tokio::task::spawn_blocking(move || closing.iter().all(|state| state.wait(GRACE))).await;
        if !closed.is_ok_and(|is_closed| is_closed) {
            tracing::warn!("the state was still being read after {} s", GRACE.as_secs());
        }
        Ok(())
    }
}

/// What this server listens on.
struct Ports {
    /// None where it takes no part in the work.
    control: Option<TcpListener>,
    query: TcpListener,
    control_addr: Option<SocketAddr>,
    query_addr: SocketAddr,
}

impl Ports {
    fn bind(config: &Config) -> Result<Ports> {
        let control = match config.query_only {
            false => Some(listen::bind(config.control_addr, "server.control_addr")?),
            true => None,
        };
        let query = listen::bind(config.query_addr, "server.query_addr")?;
        let control_addr = control.as_ref().map(local).transpose()?;
        let query_addr = local(&query)?;
        Ok(Ports { control, query, control_addr, query_addr })
    }
}

/// The log, and how many slices it has.
async fn open_its_log(config: &Config, data_dir: &DataDir) -> Result<(Arc<dyn EventLog>, u16)> {
    let (directory, log_config, query_only) = (data_dir.log(), config.log.clone(), config.query_only);
    blocking(move || {
        let log = open_log(log_config, &directory)?;
        let slices = if query_only { wait_for_slices(log.as_ref())? } else { log.slices()? };
        Ok((log, slices))
    })
    .await
}

/// This node's place in the group that shares the work.
async fn join(log: Arc<dyn EventLog>, data_dir: &DataDir, ports: &Ports) -> Result<Arc<dyn Member>> {
    let Some(addr) = ports.control_addr else { return Ok(Arc::new(Onlooker::default())) };
    let place = thyme_log::Node { id: data_dir.node_id()?, url: format!("http://{addr}") };
    blocking(move || Ok(log.join(place)?.into())).await
}

/// The catalog and these slices, restored where there is nothing; and whether the state of one of them is new.
async fn open_share(
    opener: &Opener,
    share: &BTreeSet<u16>,
    config: &Config,
) -> Result<(Arc<SqlCatalog>, Vec<Opened>, bool)> {
    let share: Vec<Slice> = share.iter().map(|index| opener.slice(*index)).collect();
    // Of several slices another node may have gone on with one meanwhile.
    let state_is_new = opener.slices > 1 || !share.iter().all(|slice| opener.has_state(*slice));
    let mut restored = Vec::new();
    for slice in &share {
        restored.push(opener.fetch(*slice).await?);
    }
    restore::take_catalog(restored.iter().flatten(), &opener.data_dir)?;
    let catalog = Arc::new(catalog::open(&config.catalog, &opener.data_dir).await?);
    let mut opened = Vec::new();
    for (slice, restored) in share.into_iter().zip(restored) {
        if let Some(restored) = &restored {
            restored.settle(catalog.as_ref()).await?;
        }
        opened.push(opener.open(slice, restored).await?);
    }
    Ok((catalog, opened, state_is_new))
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

/// A server that takes no part in the work begins no log. It may have been started a moment before one that does.
fn wait_for_slices(log: &dyn EventLog) -> Result<u16> {
    let until = Instant::now() + BEGIN;
    loop {
        match log.begun_slices()? {
            Some(slices) => return Ok(slices),
            None if Instant::now() > until => {
                return Err(Error::unavailable("no server has begun the work on this log")
                    .hint("start one without --role query first, or set log.url to a log that there is"));
            }
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error.to_string()))?
}

fn local(listener: &tokio::net::TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|error| Error::internal(format!("a listener without an address: {error}")))
}
