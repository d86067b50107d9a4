//! Logs to stderr and the Prometheus recorder. Both are process-wide: the first server of a process sets them up.

use crate::config::LoggingConfig;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use thyme_core::{Error, Result};
use tracing_subscriber::EnvFilter;

static RECORDER: OnceLock<Result<PrometheusHandle>> = OnceLock::new();

/// Durations are recorded in seconds.
const BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

pub fn start_logging(config: &LoggingConfig) -> Result<()> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| {
        Error::invalid(format!("logging.level is '{}': {error}", config.level))
            .field("logging.level")
            .hint("write error, warn, info, debug or trace, or a filter such as info,thyme_engine=debug")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr)
        // It would say on stderr that stderr cannot be written, such as on a full disk, and panic over that.
        .log_internal_errors(false);
    // An error means that logging was set up before, which stays.
    let _already_set =
        if config.json { builder.json().flatten_event(true).try_init() } else { builder.with_target(false).try_init() };
    Ok(())
}

/// What `/metrics` renders.
pub fn recorder() -> Result<PrometheusHandle> {
    let made = RECORDER.get_or_init(|| {
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_string()), BUCKETS)
            .and_then(|builder| builder.install_recorder())
            .map_err(|error| Error::internal(format!("cannot install the metrics recorder: {error}")))
    });
    made.clone()
}
