//! The engine alone: from the embedded log to the state, in a child process that does nothing else.

mod child;
mod kafka;
mod log;

pub use child::run as run_child;

use crate::failure::Outcome;
use crate::report::{Measure, median};
use crate::settings::Settings;
use crate::workload::{Shape, Spread};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const ALL_WINDOWS: [&str; 3] = ["1h", "24h", "7d"];
/// Distinct times at which the 90-day window is read.
const WINDOW_READS: usize = 300;

/// What a child is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Task {
    log_dir: PathBuf,
    /// The log is there instead, and the pipeline's rows come by a repartition log with this id.
    kafka: Option<String>,
    route_id: u32,
    state_dir: PathBuf,
    shape: Shape,
    windows: Vec<String>,
    /// How many answers are checked against the brute force.
    checks: usize,
    /// Compact the state and measure its size.
    sizes: bool,
    /// Read a window of 90 days at so many times, and count rows.
    window_reads: usize,
}

/// What a child found.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Found {
    cpu_seconds: f64,
    wall_seconds: f64,
    bytes_per_event: f64,
    dedup_bytes_per_event: f64,
    worst_rows_read: u64,
}

/// A log filled once, read by several children.
struct Filled {
    directory: tempfile::TempDir,
    shape: Shape,
}

impl Filled {
    fn new(settings: &Settings, shape: Shape) -> Outcome<Filled> {
        let directory = settings.directory()?;
        eprintln!("filling a log with {} events", shape.events);
        log::fill(&directory.path().join("log"), &shape)?;
        Ok(Filled { directory, shape })
    }

    fn run(&self, windows: &[&str], change: impl FnOnce(&mut Task)) -> Outcome<Found> {
        let state = tempfile::TempDir::new_in(self.directory.path())?;
        let mut task = Task {
            log_dir: self.directory.path().join("log"),
            kafka: None,
            route_id: 0,
            state_dir: state.path().to_path_buf(),
            shape: self.shape,
            windows: windows.iter().map(ToString::to_string).collect(),
            checks: 1000,
            sizes: false,
            window_reads: 0,
        };
        change(&mut task);
        let found = spawn(&task)?;
        eprintln!(
            "  {} events, windows {windows:?}: {:.2} CPU s, {:.2} s, {:.0} events per CPU s",
            task.shape.events,
            found.cpu_seconds,
            found.wall_seconds,
            task.shape.events as f64 / found.cpu_seconds
        );
        Ok(found)
    }

    /// CPU seconds of `runs` children.
    fn cpu_seconds(&self, windows: &[&str], runs: usize) -> Outcome<Vec<f64>> {
        (0..runs).map(|_| self.run(windows, |_| ()).map(|found| found.cpu_seconds)).collect()
    }
}

fn spawn(task: &Task) -> Outcome<Found> {
    let program: PathBuf = std::env::current_exe()?;
    let output = Command::new(Path::new(&program))
        .arg("engine-child")
        .arg(serde_json::to_string(task)?)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the engine's process ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Measures everything asked for that needs the engine alone.
pub fn measure(settings: &Settings) -> Outcome<()> {
    let standard = settings.scaled(Shape::STANDARD);
    let wants_standard = ["engine.events_per_cpu_s", "engine.window_cost_ratio", "engine.hot_key_cost_ratio"];
    if settings.wants_any(&wants_standard)
        || settings.wants_any(&["state.bytes_per_event", "state.dedup_bytes_per_event"])
    {
        on_standard(settings, &Filled::new(settings, standard)?)?;
    }
    if settings.wants("engine.events_per_cpu_s_d5") {
        let shape = settings.scaled(Shape { events: 5_000_000, keys: 1_000_000, ..Shape::STANDARD });
        let seconds = Filled::new(settings, shape)?.cpu_seconds(&ALL_WINDOWS, settings.runs)?;
        let rates = seconds.iter().map(|seconds| shape.events as f64 / seconds).collect();
        settings.report(&Measure::new("engine.events_per_cpu_s_d5", median(rates), "events/CPU-s"));
    }
    if settings.wants("kafka.events_per_cpu_s") {
        kafka::measure(settings, standard)?;
    }
    if settings.wants("state.rows_read") {
        let shape = settings.scaled(Shape { spread: Spread::OneKey, days: 360, ..Shape::STANDARD });
        let log = Filled::new(settings, shape)?;
        let run = log.run(&ALL_WINDOWS, |task| task.window_reads = WINDOW_READS)?;
        settings.report(&Measure::new("state.rows_read", run.worst_rows_read as f64, "rows"));
    }
    if settings.wants("growth.bytes_per_event") {
        let log = Filled::new(settings, settings.scaled(Shape::GROWN))?;
        let run = log.run(&ALL_WINDOWS, |task| task.sizes = true)?;
        settings.report(&Measure::new("growth.bytes_per_event", run.bytes_per_event, "bytes"));
    }
    Ok(())
}

fn on_standard(settings: &Settings, log: &Filled) -> Outcome<()> {
    let events = log.shape.events as f64;
    if settings.wants("engine.events_per_cpu_s") {
        let seconds = log.cpu_seconds(&ALL_WINDOWS, settings.runs)?;
        let rates = seconds.iter().map(|seconds| events / seconds).collect();
        settings.report(&Measure::new("engine.events_per_cpu_s", median(rates), "events/CPU-s"));
    }
    if settings.wants("engine.window_cost_ratio") {
        let mut ratios = Vec::new();
        for _ in 0..settings.runs {
            let long = log.run(&["7d"], |_| ())?.cpu_seconds;
            let short = log.run(&["1h"], |_| ())?.cpu_seconds;
            ratios.push(long / short);
        }
        let measure = Measure::new("engine.window_cost_ratio", median(ratios), "ratio");
        settings.report(&measure.over("windows of 1h"));
    }
    if settings.wants("engine.hot_key_cost_ratio") {
        let hot = Filled::new(settings, Shape { spread: Spread::OneKey, ..log.shape })?;
        let mut ratios = Vec::new();
        for _ in 0..settings.runs {
            let one_key = hot.run(&ALL_WINDOWS, |_| ())?.cpu_seconds;
            ratios.push(one_key / log.run(&ALL_WINDOWS, |_| ())?.cpu_seconds);
        }
        let measure = Measure::new("engine.hot_key_cost_ratio", median(ratios), "ratio");
        settings.report(&measure.over("standard workload"));
    }
    if settings.wants_any(&["state.bytes_per_event", "state.dedup_bytes_per_event"]) {
        let run = log.run(&ALL_WINDOWS, |task| task.sizes = true)?;
        settings.report(&Measure::new("state.bytes_per_event", run.bytes_per_event, "bytes"));
        settings.report(&Measure::new("state.dedup_bytes_per_event", run.dedup_bytes_per_event, "bytes"));
    }
    Ok(())
}
