//! What the runs have come to: counted by every process that works off a share of them, then added up.

use crate::runs::{Case, LogKind, Mode};
use crate::truth::Differences;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use thyme_core::failpoint::Point;

#[derive(Default)]
pub struct Tally {
    /// Runs by kind (aborts, kills, zombies), rows lost and doubled, runs with differences, cases that had to happen and did not.
    counts: BTreeMap<String, u64>,
    /// The points reached.
    points: BTreeSet<String>,
    /// The most calls of a machine.
    most_calls: u64,
}

impl Tally {
    fn count(&mut self, what: &str, number: u64) {
        *self.counts.entry(what.to_string()).or_default() += number;
    }

    fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// A case, and what was found; nothing if its point was never reached.
    pub fn note(&mut self, case: &Case, outcome: Option<Differences>) {
        let Some(found) = outcome else {
            eprintln!("never reached: {case:?}");
            return self.count("missing", u64::from(!is_excused(case)));
        };
        self.points.insert(case.point.name().to_string());
        let kind = match case.mode {
            Mode::Abort | Mode::Retry => "aborts",
            Mode::Kill => "kills",
            Mode::Zombie => "zombies",
        };
        self.count(kind, 1);
        self.count("lost", found.lost);
        self.count("doubled", found.doubled);
        if !found.told.is_empty() {
            self.count("differences", 1);
            // In one piece: other processes write there too.
            let told = format!("{case:?}:\n  {}\n", found.told.join("\n  "));
            eprint!("{told}");
        }
    }

    pub fn note_calls(&mut self, calls: u64) {
        self.most_calls = self.most_calls.max(calls);
    }

    pub fn add(&mut self, other: Tally) {
        self.note_calls(other.most_calls);
        for (what, number) in &other.counts {
            self.count(what, *number);
        }
        self.points.extend(other.points);
    }

    pub fn to_json(&self) -> Value {
        json!({ "counts": self.counts, "points": self.points, "most_calls": self.most_calls })
    }

    /// Reads [`Tally::to_json`].
    pub fn from_json(text: &str) -> serde_json::Result<Tally> {
        let mut value: Value = serde_json::from_str(text)?;
        Ok(Tally {
            counts: serde_json::from_value(value["counts"].take())?,
            points: serde_json::from_value(value["points"].take())?,
            most_calls: serde_json::from_value(value["most_calls"].take())?,
        })
    }

    fn runs(&self) -> u64 {
        ["aborts", "kills", "zombies"].into_iter().map(|kind| self.of(kind)).sum()
    }

    /// One line: crash_runs, points, aborts, kills, zombies, lost, doubled, differences, most_calls.
    pub fn report(&self) -> Value {
        json!({
            "crash_runs": self.runs(), "points": self.points.len(),
            "aborts": self.of("aborts"), "kills": self.of("kills"), "zombies": self.of("zombies"),
            "lost": self.of("lost"), "doubled": self.of("doubled"), "differences": self.of("differences"),
            "most_calls": self.most_calls,
        })
    }

    pub fn is_good(&self) -> bool {
        self.of("differences") == 0 && self.of("missing") == 0 && self.runs() > 0
    }
}

/// Chance has not come by everywhere where a machine on the simulated broker must have bad luck first; every other case must happen.
fn is_excused(case: &Case) -> bool {
    case.point == Point::UnknownEnd || case.log == LogKind::Simulated
}
