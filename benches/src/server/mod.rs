//! The whole path: a server process, and this process as its client.

mod allocations;
mod audit;
mod export;
mod fairness;
mod freshness;
mod growth;
mod load;
mod lookups;
mod online;
mod process;

pub use growth::measure as measure_growth;
pub use process::run_child;

use crate::engine::ALL_WINDOWS;
use crate::failure::Outcome;
use crate::report::{Measure, median};
use crate::settings::Settings;
use crate::workload::random::Random;
use crate::workload::{Shape, SpineRow, Workload};
use process::Server;
use std::path::Path;

/// Measures everything asked for that needs a server with the standard workload.
pub async fn measure(settings: &Settings) -> Outcome<()> {
    let names = ["ingest", "online", "freshness", "export"];
    let wanted = crate::settings::NAMES.iter().filter(|name| names.iter().any(|part| name.starts_with(part)));
    if !wanted.into_iter().any(|name| settings.wants(name)) {
        return Ok(());
    }
    let workload = Workload::generate(&settings.scaled(Shape::STANDARD));
    let directory = settings.directory()?;
    let data = directory.path().join("data");
    let server = measure_ingest(settings, directory.path(), &data, &workload).await?;
    let measures =
        ["online.unary_p50_ratio", "online.batch100_p50_ms", online::ADDED_BY_EXTRACTOR, online::ADDED_BY_PYTHON];
    if settings.wants_any(&measures) {
        online::measure(settings, &server, &workload).await?;
    }
    if settings.wants(fairness::BESIDE_BATCHES) {
        fairness::measure(settings, &server, &workload).await?;
    }
    if settings.wants(allocations::PER_CALL) {
        allocations::measure(settings, directory.path(), &workload).await?;
    }
    if settings.wants_any(&["export.sorted_rows_per_cpu_s", "export.random_rows_per_cpu_s"]) {
        export::measure(settings, &server, &workload).await?;
    }
    if settings.wants("freshness.p50_ms") {
        freshness::measure(settings, &server, &workload).await?;
    }
    if settings.wants("online.audit_cost") {
        server.stop().await?;
        let copy = directory.path().join("copy");
        copy_directory(&data, &copy)?;
        let recording = Server::start(&settings.python, &data, true).await?;
        let silent = Server::start(&settings.python, &copy, false).await?;
        audit::measure(settings, &recording, &silent, &workload).await?;
    }
    Ok(())
}

/// Loads servers with the workload, as often as the measure needs and at least once; gives the last.
async fn measure_ingest(settings: &Settings, root: &Path, data: &Path, workload: &Workload) -> Outcome<Server> {
    let runs = if settings.wants("ingest.events_per_cpu_s") { settings.runs } else { 1 };
    let mut rates = Vec::new();
    for run in 1..=runs {
        let is_last = run == runs;
        let place = if is_last { data.to_path_buf() } else { root.join(format!("run{run}")) };
        let (server, rate) = loaded(settings, &place, workload).await?;
        rates.push(rate);
        if is_last {
            settings.report(&Measure::new("ingest.events_per_cpu_s", median(rates), "events/CPU-s"));
            return Ok(server);
        }
        server.stop().await?;
        std::fs::remove_dir_all(place)?;
    }
    Err("no run was asked for".into())
}

/// A new server with all events in its state and answers that were checked, and how many events it took per CPU second.
async fn loaded(settings: &Settings, place: &Path, workload: &Workload) -> Outcome<(Server, f64)> {
    let server = Server::start(&settings.python, place, true).await?;
    load::commit(&server, &ALL_WINDOWS).await?;
    server.wait_until_quiet().await?;
    let before = server.cpu_seconds()?;
    load::ingest(&server, &workload.events).await?;
    server.wait_until_quiet().await?;
    let cpu_seconds = server.cpu_seconds()? - before;
    let events = workload.events.len() as f64;
    let rate = events / cpu_seconds;
    eprintln!("  ingest of {events} events: {cpu_seconds:.2} CPU s, {rate:.0} events per CPU s");
    check(&server, workload).await?;
    Ok((server, rate))
}

/// 1,000 answers against the brute force.
async fn check(server: &Server, workload: &Workload) -> Outcome<()> {
    let chosen = Random::new(5).sample(workload.spine.len(), 1000);
    let spine: Vec<SpineRow> = chosen.into_iter().map(|index| workload.spine[index]).collect();
    export::check(workload, &export::export(server, &spine).await?)
}

fn copy_directory(from: &Path, to: &Path) -> Outcome<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
