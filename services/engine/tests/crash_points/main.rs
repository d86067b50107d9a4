//! Crash points: at every named point of `thyme_core::failpoint`, a machine gets an error, is killed (SIGKILL, a process of its own),
//! or stands still and comes back when another has done its work. Then states, repartition log, topics for other consumers,
//! checkpoints and answers must be what a brute force over the dataset's log says, and digests those of an engine that nothing
//! happened to.
//!
//! Drives child processes of its own, so it is a program and not a list of tests. `CRASH_ROUNDS` sets how often each case runs, with
//! another seed each time. Ends with one JSON line: crash_runs, points, aborts, kills, zombies, lost, doubled, differences.
//! `cargo test --test crash_points -- GapReplay` runs the cases whose name has that in it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot set up fails")]

#[path = "../common/mod.rs"]
mod common;
mod inspect;
mod machine;
mod plan;
mod runs;
mod truth;

use runs::{Case, LogKind, Mode};
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;
use thyme_core::failpoint::Point;
use truth::Differences;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    plan::obey();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["life", directory, seed, tick_records, dies_at] => {
            runs::life(Path::new(directory), seed.parse().unwrap(), tick_records.parse().unwrap(), dies_at);
        }
        ["output", url, dataset, repartition, aggregated] => inspect::output(url, dataset, repartition, aggregated),
        _ => return all(chosen(&arguments)),
    }
    ExitCode::SUCCESS
}

/// Of what `cargo test` passes on: options mean nothing here, a word chooses.
fn chosen(arguments: &[String]) -> &str {
    let is_word = |argument: &&String| !argument.starts_with('-') && *argument != "on_kafka";
    arguments.iter().find(is_word).map_or("", String::as_str)
}

fn cases(rounds: u64, wanted: &str) -> Vec<Case> {
    let modes = [
        (Mode::Abort, LogKind::Embedded),
        (Mode::Retry, LogKind::Embedded),
        (Mode::Retry, LogKind::Simulated),
        (Mode::Kill, LogKind::Embedded),
        (Mode::Zombie, LogKind::Embedded),
        (Mode::Zombie, LogKind::Simulated),
    ];
    let mut cases = Vec::new();
    for seed in 0..rounds {
        for &point in Point::ALL {
            cases.extend(modes.iter().map(|&(mode, log)| Case { mode, log, point, seed }));
        }
    }
    cases.retain(|case| case.makes_sense() && format!("{case:?}").contains(wanted));
    cases
}

fn all(wanted: &str) -> ExitCode {
    let rounds = std::env::var("CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let (mut lost, mut doubled, mut differing, mut missed) = (0, 0, 0, Vec::new());
    let mut runs: BTreeMap<&str, u64> = BTreeMap::new();
    let mut reached: BTreeMap<Point, u64> = BTreeMap::new();
    let all = cases(rounds, wanted);
    for case in &all {
        let outcome = catch_unwind(|| case.run()).unwrap_or_else(|_| {
            let told = vec!["it panicked, see above".to_string()];
            Some(Differences { told, ..Differences::default() })
        });
        let Some(found) = outcome else {
            missed.push(*case);
            continue;
        };
        *reached.entry(case.point).or_default() += 1;
        let kind = match case.mode {
            Mode::Abort | Mode::Retry => "aborts",
            Mode::Kill => "kills",
            Mode::Zombie => "zombies",
        };
        *runs.entry(kind).or_default() += 1;
        lost += found.lost;
        doubled += found.doubled;
        if !found.told.is_empty() {
            differing += 1;
            eprintln!("{case:?}:\n  {}", found.told.join("\n  "));
        }
    }
    for case in &missed {
        eprintln!("never reached: {case:?}");
    }
    let report = serde_json::json!({
        "crash_runs": runs.values().sum::<u64>(), "points": reached.len(),
        "aborts": runs.get("aborts"), "kills": runs.get("kills"), "zombies": runs.get("zombies"),
        "lost": lost, "doubled": doubled, "differences": differing,
    });
    println!("{report}");
    // Chance has not come by everywhere where a machine on the simulated broker must have bad luck first; every other case must happen.
    let is_excused = |case: &&Case| case.point == Point::UnknownEnd || case.log == LogKind::Simulated;
    let is_complete = missed.iter().all(|case| is_excused(&case));
    if differing == 0 && is_complete && !all.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
