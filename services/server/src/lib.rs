//! The composition root: configuration, wiring, telemetry and [`run`].

mod adapters;
mod catalog;
mod checkpoints;
mod clock;
mod coming;
pub mod config;
mod data_dir;
mod fences;
mod freshness;
mod health;
mod holders;
mod listen;
mod nodes;
mod routes;
mod run_log;
mod server;
mod slices;
mod sources;
mod telemetry;

pub use clock::WallClock;
pub use config::Config;
pub use server::Server;
pub use telemetry::start_logging;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::{Error, Result};
use thyme_query::ExtractorRuntime;

/// How long threads may take to end after everything else.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until `shutdown` is done.
pub async fn run(
    config: Config,
    extractors: Arc<dyn ExtractorRuntime>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let server = Server::start(config, extractors).await?;
    shutdown.await;
    server.stop().await
}

/// [`run`] on a runtime of its own, for callers without one; sets up logging first. Blocks until `shutdown` is done.
pub fn run_blocking(
    config: Config,
    extractors: Arc<dyn ExtractorRuntime>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    start_logging(&config.logging)?;
    // An extractor that hangs on a thread of the runtime takes it away: there are as many more.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores + config.query.extractor_workers)
        .enable_all()
        .thread_name("thyme-server")
        .build()
        .map_err(|error| Error::internal(format!("starting the runtime: {error}")))?;
    let served = runtime.block_on(run(config, extractors, shutdown));
    // Everything is closed; what is left is at most a thread that hangs in an extractor.
    runtime.shutdown_timeout(GRACE);
    served
}

/// Done when the process is asked to stop (SIGINT or SIGTERM).
pub async fn stop_signal() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending::<()>().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
