//! What is to happen at which point: one after the other, each at the n-th time the point is reached since the last.

use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::process::Command;
use std::time::Duration;
use thyme_core::failpoint::{Point, install};
use thyme_core::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// The point returns an error.
    Fail,
    /// SIGKILL for the process.
    Kill,
    /// Whoever is there stands still until [`resume`].
    Pause,
    /// Nothing; what comes after it in the plan waits for this.
    Await,
}

#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub point: Point,
    /// From 1.
    pub hit: u64,
    pub deed: Deed,
}

#[derive(Default)]
struct Plan {
    steps: VecDeque<Step>,
    /// How often each point was reached since the last deed.
    counts: BTreeMap<Point, u64>,
    is_paused: bool,
}

static PLAN: Mutex<Plan> = Mutex::new(Plan { steps: VecDeque::new(), counts: BTreeMap::new(), is_paused: false });
static CHANGED: Condvar = Condvar::new();

/// From now on the points of this process follow the plan.
pub fn obey() {
    assert!(install(Box::new(at)), "there is a hook already");
}

pub fn arm(steps: &[Step]) {
    *PLAN.lock() = Plan { steps: steps.iter().copied().collect(), ..Plan::default() };
}

/// The points reached since the last deed or [`arm`], and how often.
pub fn counts() -> BTreeMap<Point, u64> {
    PLAN.lock().counts.clone()
}

/// Whether every step was reached.
pub fn is_done() -> bool {
    PLAN.lock().steps.is_empty()
}

/// Waits until somebody stands still, or `is_over`.
pub fn wait_for_pause(is_over: impl Fn() -> bool) -> bool {
    let mut plan = PLAN.lock();
    while !plan.is_paused && !is_over() {
        CHANGED.wait_for(&mut plan, Duration::from_millis(2));
    }
    plan.is_paused
}

/// Who stands still goes on.
pub fn resume() {
    PLAN.lock().is_paused = false;
    CHANGED.notify_all();
}

fn at(point: Point) -> Result<()> {
    let mut plan = PLAN.lock();
    let count = plan.counts.entry(point).or_default();
    *count += 1;
    let (count, next) = (*count, plan.steps.front().copied());
    let Some(step) = next.filter(|step| step.point == point && step.hit == count) else { return Ok(()) };
    plan.steps.pop_front();
    plan.counts.clear();
    match step.deed {
        Deed::Await => Ok(()),
        Deed::Fail => Err(Error::unavailable(format!("a crash at {}", point.name()))),
        Deed::Kill => {
            let killed = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
            panic!("still alive after {killed:?}");
        }
        Deed::Pause => {
            plan.is_paused = true;
            CHANGED.notify_all();
            while plan.is_paused {
                CHANGED.wait(&mut plan);
            }
            Ok(())
        }
    }
}
