//! What recording query runs costs: two servers on equal data, one that records and one that does not, asked in turns. Throughput
//! is calls per CPU second of the server: per second of the clock it would measure who else uses the machine.

use super::online::Caller;
use super::process::Server;
use crate::failure::Outcome;
use crate::report::{Measure, median};
use crate::settings::Settings;
use crate::workload::Workload;
use futures::future::try_join_all;
use std::time::{Duration, Instant};

const PAIRS: usize = 11;
const TURN: Duration = Duration::from_secs(2);
/// Calls in flight: enough to keep the server busy.
const CALLERS: usize = 8;

pub async fn measure(settings: &Settings, recording: &Server, silent: &Server, workload: &Workload) -> Outcome<()> {
    let pairs = if settings.quick { 3 } else { PAIRS };
    let mut costs = Vec::new();
    for pair in 0..=pairs {
        // Who comes first alternates, so that a drift of the machine evens out.
        let (with, without) = if pair % 2 == 0 {
            let with = calls_per_cpu_second(recording, workload).await?;
            (with, calls_per_cpu_second(silent, workload).await?)
        } else {
            let without = calls_per_cpu_second(silent, workload).await?;
            (calls_per_cpu_second(recording, workload).await?, without)
        };
        eprintln!("  {with:.0} calls per CPU s with runs recorded, {without:.0} without");
        // The first pair warms up.
        if pair > 0 {
            costs.push(1.0 - with / without);
        }
    }
    let measure = Measure::new("online.audit_cost", median(costs), "share of calls per CPU-s");
    settings.report(&measure.over("query.run_log=false"));
    Ok(())
}

async fn calls_per_cpu_second(server: &Server, workload: &Workload) -> Outcome<f64> {
    let before = server.cpu_seconds()?;
    let started = Instant::now();
    let work = (0..CALLERS).map(|_| async {
        let mut caller = Caller::new(server, workload);
        let mut calls = 0usize;
        while started.elapsed() < TURN {
            caller.unary().await?;
            calls += 1;
        }
        Outcome::Ok(calls)
    });
    let calls: usize = try_join_all(work).await?.into_iter().sum();
    // What was recorded behind the calls is written behind them, too.
    server.wait_until_quiet().await?;
    Ok(calls as f64 / (server.cpu_seconds()? - before))
}
