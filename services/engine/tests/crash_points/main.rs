//! Crash points: at every named point of `thyme_core::failpoint`, a machine gets an error, is killed (SIGKILL, a process of its own),
//! or stands still and comes back when another has done its work; with a dataset's own pipelines, and with pipelines on the rows of
//! these. Then states, repartition log, topics for other consumers,
//! checkpoints and answers must be what a brute force over the dataset's log says, and digests those of an engine that nothing
//! happened to.
//!
//! Drives child processes of its own, so it is a program and not a list of tests. `CRASH_ROUNDS` sets how often each case runs, with
//! another seed each time. Ends with one JSON line: crash_runs, points, aborts, kills, zombies, lost, doubled, differences, and the most
//! calls that a machine has made (of those that were killed, what they did is not counted).
//! `cargo test --test crash_points -- GapReplay` runs the cases whose name has that in it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot set up fails")]

#[path = "../common/mod.rs"]
mod common;
mod diary;
mod inspect;
mod machine;
mod plan;
mod runs;
mod tally;
mod truth;
mod work;

use diary::Diary;
use runs::{Case, LogKind, Mode};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use tally::Tally;
use thyme_core::failpoint::Point;
use work::Kind;

const KINDS: [Kind; 2] = [Kind::Plain, Kind::Chains];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    plan::obey();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["life", directory, work, seed, tick_records, dies_at] => {
            let work = KINDS.into_iter().find(|kind| format!("{kind:?}") == *work).unwrap();
            runs::life(Path::new(directory), work, seed.parse().unwrap(), tick_records.parse().unwrap(), dies_at);
        }
        ["share", number, count, wanted] => {
            println!("{}", share(number.parse().unwrap(), count.parse().unwrap(), wanted).to_json());
        }
        ["output", url, dataset, repartition, aggregated, feeds @ ..] => {
            inspect::output(url, dataset, repartition, aggregated, feeds);
        }
        _ => return all(chosen(&arguments)),
    }
    ExitCode::SUCCESS
}

/// Of what `cargo test` passes on: options mean nothing here, a word chooses.
fn chosen(arguments: &[String]) -> &str {
    let is_word = |argument: &&String| !argument.starts_with('-') && *argument != "on_kafka";
    arguments.iter().find(is_word).map_or("", String::as_str)
}

fn rounds() -> u64 {
    std::env::var("CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
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
            for work in KINDS {
                cases.extend(modes.iter().map(|&(mode, log)| Case { mode, log, work, point, seed }));
            }
        }
    }
    cases.retain(|case| case.makes_sense() && format!("{case:?}").contains(wanted));
    cases
}

/// Runs the cases of one share of `count`; each process has its own, as failpoints belong to a process.
fn share(number: usize, count: usize, wanted: &str) -> Tally {
    let mut tally = Tally::default();
    for case in cases(rounds(), wanted).iter().skip(number).step_by(count) {
        tally.note(case, case.run());
    }
    tally.note_calls(Diary::greatest());
    tally
}

/// All cases, by as many processes as there are cores and one more: they wait for the log now and then.
fn all(wanted: &str) -> ExitCode {
    let count = std::thread::available_parallelism().map_or(1, |cores| cores.get() + 1);
    let start = |number: usize| {
        let arguments = ["share", &number.to_string(), &count.to_string(), wanted];
        Command::new(std::env::current_exe().unwrap()).args(arguments).stdout(Stdio::piped()).spawn().unwrap()
    };
    let shares: Vec<_> = (0..count).map(start).collect();
    let (mut tally, mut is_whole) = (Tally::default(), true);
    for share in shares {
        let done = share.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&done.stdout);
        match Tally::from_json(told.lines().last().unwrap_or_default()) {
            Ok(counted) if done.status.success() => tally.add(counted),
            _ => {
                is_whole = false;
                eprintln!("a share of the cases ended with {}: {told}", done.status);
            }
        }
    }
    println!("{}", tally.report());
    if is_whole && tally.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
