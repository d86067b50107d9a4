//! The command line.

use crate::failure::Outcome;
use crate::report::Measure;
use crate::workload::Shape;
use std::path::PathBuf;

pub const USAGE: &str = "thyme-bench [--python PYTHON] [--only NAME...] [--quick] [--directory DIR] [--seed N]

--python     the Python of the environment whose `thyme` command is served [.venv/bin/python]
--only       measure only these, by name or by the part before the dot
--quick      a tenth of the events, one run each: for trying things out, not for figures
--directory  where logs and states are made [the system's temporary directory]
--seed       another workload of the same shape";

/// All measures, in the order in which they are printed.
pub const NAMES: [&str; 23] = [
    "engine.events_per_cpu_s",
    "engine.events_per_cpu_s_d5",
    "engine.window_cost_ratio",
    "engine.hot_key_cost_ratio",
    "kafka.events_per_cpu_s",
    "state.rows_read",
    "state.bytes_per_event",
    "state.dedup_bytes_per_event",
    "growth.bytes_per_event",
    "ingest.events_per_cpu_s",
    "online.unary_p50_ratio",
    "online.batch100_p50_ms",
    "online.extractor_added_us",
    "online.python_extractor_added_us",
    "online.lookup_p99_beside_batches_ms",
    "online.allocations_per_call",
    "online.audit_cost",
    "freshness.p50_ms",
    "export.sorted_rows_per_cpu_s",
    "export.random_rows_per_cpu_s",
    "growth.ingest_events_ratio",
    "growth.export_rows_ratio",
    "growth.unary_p50_ratio",
];

pub struct Settings {
    pub python: PathBuf,
    only: Vec<String>,
    pub quick: bool,
    directory: PathBuf,
    seed: u64,
    /// Runs of which the median is taken.
    pub runs: usize,
}

impl Settings {
    pub fn parse(arguments: &[String]) -> Outcome<Settings> {
        let mut settings = Settings {
            python: PathBuf::from(".venv/bin/python"),
            only: Vec::new(),
            quick: false,
            directory: std::env::temp_dir(),
            seed: Shape::STANDARD.seed,
            runs: 5,
        };
        let mut rest = arguments.iter().peekable();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a value\n\n{USAGE}"));
            match argument.as_str() {
                "--python" => settings.python = PathBuf::from(value()?),
                "--directory" => settings.directory = PathBuf::from(value()?),
                "--seed" => settings.seed = value()?.parse()?,
                "--quick" => (settings.quick, settings.runs) = (true, 1),
                "--only" => {
                    while let Some(name) = rest.next_if(|next| !next.starts_with("--")) {
                        settings.only.push(name.clone());
                    }
                }
                other => return Err(format!("unknown option {other}\n\n{USAGE}").into()),
            }
        }
        for name in &settings.only {
            if !NAMES.iter().any(|known| matches(known, name)) {
                return Err(format!("no measure is called {name}; there are {}", NAMES.join(", ")).into());
            }
        }
        Ok(settings)
    }

    pub fn wants(&self, name: &str) -> bool {
        debug_assert!(NAMES.contains(&name));
        self.only.is_empty() || self.only.iter().any(|only| matches(name, only))
    }

    pub fn wants_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.wants(name))
    }

    /// The workload of this run.
    pub fn scaled(&self, shape: Shape) -> Shape {
        let divisor = if self.quick { 10 } else { 1 };
        Shape {
            events: shape.events / divisor,
            keys: shape.keys / divisor,
            spine: shape.spine / divisor,
            seed: self.seed,
            ..shape
        }
    }

    pub fn directory(&self) -> Outcome<tempfile::TempDir> {
        std::fs::create_dir_all(&self.directory)?;
        Ok(tempfile::TempDir::with_prefix_in("thyme-bench-", &self.directory)?)
    }

    /// Prints a measure if it was asked for.
    pub fn report(&self, measure: &Measure) {
        if self.wants(measure.name) {
            println!("{}", measure.line());
        }
    }
}

fn matches(name: &str, only: &str) -> bool {
    name == only || name.split('.').next() == Some(only)
}
