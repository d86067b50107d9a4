//! One run: a machine works until it comes to a point, something happens to it there, it (or another one) goes on, and in the end
//! everything is what it would be had nothing happened.

use crate::common::{PARTITIONS, futures_block};
use crate::machine::{Around, Machine, is_final, restored};
use crate::plan::{self, Deed, Step};
use crate::truth::{Differences, TOPIC, batches, check};
use crate::work::Kind;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thyme_core::failpoint::Point;
use thyme_log::chance::Chance;
use thyme_log::model::FaultyLog;
use thyme_log::simulated::{Faults, SimulatedLog};
use thyme_log::{EmbeddedLog, EventLog};

/// One in so many commits fails on the embedded log, in every way a commit can.
const FAULTS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The round ends with an error; the engine is dropped, and another one opened on the state as it is in memory.
    Abort,
    /// The round ends with an error; the same engine tries again.
    Retry,
    /// The process ends by SIGKILL; another one opens the disk.
    Kill,
    /// It stands still while another machine does all the work, and comes back.
    Zombie,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    Embedded,
    Simulated,
}

/// How often each point was come to.
type Counts = BTreeMap<Point, u64>;

/// What [`Case::profile`] has found out.
static PROFILES: Mutex<BTreeMap<(u64, u64, Kind, u64), Counts>> = Mutex::new(BTreeMap::new());

/// What happens where.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub mode: Mode,
    pub log: LogKind,
    pub work: Kind,
    pub point: Point,
    pub seed: u64,
}

/// What is the same whatever the work is, and an erase, which there is none of: a row may be made before it or not.
const NOT_OF_CHAINS: [Point; 8] = [
    Point::Erased,
    Point::LeafSplit,
    Point::CheckpointCopied,
    Point::FileUploaded,
    Point::BeforePointer,
    Point::AfterPointer,
    Point::FileRestored,
    Point::PruneHalf,
];

/// Points inside the journal's writer: no error can be returned there, and who stands still there holds up everybody on that log.
const IN_WRITER: [Point; 2] = [Point::FrameWritten, Point::FrameSynced];

impl Case {
    /// Whether it can happen at all.
    pub fn makes_sense(&self) -> bool {
        let Case { mode, log, work, point, .. } = *self;
        if work == Kind::Chains && NOT_OF_CHAINS.contains(&point) {
            return false;
        }
        match mode {
            Mode::Kill => log == LogKind::Embedded,
            Mode::Abort | Mode::Retry | Mode::Zombie if IN_WRITER.contains(&point) => false,
            Mode::Retry => !point.spoils_memory(),
            // Old checkpoints are deleted where there is one machine.
            Mode::Zombie => point != Point::PruneHalf,
            Mode::Abort => true,
        }
    }

    fn chance(&self) -> Chance {
        Chance::new(self.seed ^ ((self.point as u64) << 32) ^ self.kind())
    }

    fn kind(&self) -> u64 {
        ((self.mode as u64) << 40) ^ ((self.log as u64) << 44) ^ ((self.work as u64) << 48)
    }

    /// One size for all points of a round: what a machine comes to when nothing happens is found out once.
    fn tick_records(&self) -> usize {
        5 + Chance::new(self.seed ^ self.kind()).below(40)
    }

    fn prunes(&self) -> bool {
        self.mode != Mode::Zombie
    }

    /// The gap is there only after a crash between the log's commit and the state's, and is come to again after the next.
    fn steps(&self, hit: u64) -> Vec<Step> {
        use Point::{AfterEnd, BeforeTick, GapReplay};
        let deed = match self.mode {
            Mode::Abort | Mode::Retry => Deed::Fail,
            Mode::Kill => Deed::Kill,
            Mode::Zombie => Deed::Pause,
        };
        let step = |point, hit, deed| Step { point, hit, deed };
        // With one engine the gap begins with a tick that cannot be written after its transaction was committed.
        let gap = [step(AfterEnd, hit, Deed::Await), step(BeforeTick, 1, Deed::Fail), step(GapReplay, 1, deed)];
        match (self.point, self.mode) {
            (GapReplay, Mode::Retry | Mode::Zombie) => gap.to_vec(),
            (GapReplay, _) => vec![step(AfterEnd, hit, deed), step(GapReplay, 1, deed), step(GapReplay, 1, deed)],
            _ => vec![step(self.point, hit, deed)],
        }
    }

    /// Everything is in the log before the work begins.
    fn fill(&self, log: &dyn EventLog) {
        log.create_topic(TOPIC, PARTITIONS).unwrap();
        for (index, batch) in batches(self.work, self.seed).into_iter().enumerate() {
            let mut tries = 0;
            while futures_block(log.append(vec![batch.clone()])).is_err() {
                tries += 1;
                assert!(tries < 100, "batch {index} cannot be appended");
            }
        }
    }

    fn around(&self, directory: &Path) -> Around {
        let store = directory.join("store");
        std::fs::create_dir_all(&store).unwrap();
        let (log, broker): (Arc<dyn EventLog>, _) = match self.log {
            LogKind::Embedded => {
                let inner: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory().unwrap());
                self.fill(inner.as_ref());
                (Arc::new(FaultyLog::seeded_commits(inner, self.seed, FAULTS)), None)
            }
            LogKind::Simulated => {
                let broker = Arc::new(SimulatedLog::new(self.seed, Faults::STORM));
                self.fill(broker.as_ref());
                (broker.clone(), Some(broker))
            }
        };
        Around { log, broker, store, kind: self.work }
    }

    fn machine(&self, directory: &Path, around: &Around) -> Machine {
        Machine::open(directory, around, self.tick_records(), self.mode != Mode::Abort, self.prunes())
    }

    /// How often a machine that nothing happens to comes to each point.
    fn profile(&self) -> Counts {
        let kind = (self.mode as u64, self.log as u64, self.work, self.seed);
        if let Some(known) = PROFILES.lock().get(&kind) {
            return known.clone();
        }
        let directory = folder();
        let around = self.around(directory.path());
        plan::arm(&[]);
        until_done(&self.machine(&directory.path().join("one"), &around));
        PROFILES.lock().entry(kind).or_insert(plan::counts()).clone()
    }

    /// Runs it; `None` if the point was not reached. A panic is a difference.
    pub fn run(&self) -> Option<Differences> {
        let mut steps = Vec::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.attempts(&mut steps)));
        let found = outcome.unwrap_or_else(|panic| Some(Differences::of_panic(panic.as_ref())))?;
        Some(found.after(&steps))
    }

    /// Earlier and earlier until the point is reached. `steps` is the plan of the last attempt.
    fn attempts(&self, steps: &mut Vec<Step>) -> Option<Differences> {
        // Not every transaction leaves a gap: that of a round in which only emitters had something leaves none.
        let counted = if self.point == Point::GapReplay { Point::AfterEnd } else { self.point };
        let reached = self.profile().get(&counted).copied().unwrap_or_default();
        let mut hit = 1 + self.chance().below(reached as usize) as u64;
        loop {
            let directory = folder();
            *steps = self.steps(hit);
            let found = match self.mode {
                Mode::Kill => self.killed(directory.path(), steps),
                Mode::Abort | Mode::Retry => self.failed(directory.path(), steps),
                Mode::Zombie => self.paused(directory.path(), steps),
            };
            // A run to which something happens may be a little shorter than one to which nothing does.
            if found.is_some() || hit == 1 {
                return found;
            }
            hit = hit.div_ceil(2).min(hit - 1);
        }
    }

    fn failed(&self, directory: &Path, steps: &[Step]) -> Option<Differences> {
        let around = self.around(directory);
        let machine = self.machine(&directory.join("one"), &around);
        plan::arm(steps);
        until_done(&machine);
        let is_reached = plan::is_done();
        plan::arm(&[]);
        is_reached.then(|| judge(directory, &around, &[&machine]))
    }

    fn paused(&self, directory: &Path, steps: &[Step]) -> Option<Differences> {
        let around = self.around(directory);
        let one = self.machine(&directory.join("one"), &around);
        let two = Machine::open(&directory.join("two"), &around, 1 + self.tick_records() / 2, true, false);
        plan::arm(steps);
        let is_over = AtomicBool::new(false);
        let is_reached = std::thread::scope(|scope| {
            let zombie = scope.spawn(|| {
                let outcome = catch_unwind(AssertUnwindSafe(|| until_done(&one)));
                is_over.store(true, Ordering::SeqCst);
                outcome
            });
            let is_reached = plan::wait_for_pause(|| is_over.load(Ordering::SeqCst));
            // Whatever becomes of the other one, nobody is left standing.
            let other = catch_unwind(AssertUnwindSafe(|| {
                if is_reached {
                    until_done(&two)
                }
            }));
            plan::resume();
            zombie.join().unwrap().and(other).unwrap_or_else(|panic| resume_unwind(panic));
            is_reached
        });
        plan::arm(&[]);
        is_reached.then(|| judge(directory, &around, &[&one, &two]))
    }

    fn killed(&self, directory: &Path, steps: &[Step]) -> Option<Differences> {
        {
            let log = EmbeddedLog::open(directory.join("log")).unwrap();
            self.fill(&log);
        }
        for step in steps {
            let status = self.live(directory, &format!("{}:{}", step.point.name(), step.hit));
            if status.success() {
                return None;
            }
            assert!(status.code().is_none(), "{self:?}: it was not killed: {status}");
        }
        let status = self.live(directory, "");
        assert!(status.success(), "{self:?}: {status}");
        plan::arm(&[]);
        let around = on_disk(directory, self.work, self.seed);
        let machine = self.machine(&directory.join("one"), &around);
        Some(judge(directory, &around, &[&machine]))
    }

    /// One life of a process that does the work.
    fn live(&self, directory: &Path, dies_at: &str) -> std::process::ExitStatus {
        let program = std::env::current_exe().unwrap();
        let (work, seed) = (format!("{:?}", self.work), self.seed.to_string());
        let (directory, tick_records) = (directory.display().to_string(), self.tick_records().to_string());
        let arguments = ["life", &directory, &work, &seed, &tick_records, dies_at];
        Command::new(program).args(arguments).status().unwrap()
    }
}

/// In memory where the system has a place for that: what a killed process has written is there all the same, and nobody waits for
/// a disk.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The log on disk that successive lives share, with commits that fail.
fn on_disk(directory: &Path, kind: Kind, seed: u64) -> Around {
    let inner: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(directory.join("log")).unwrap());
    let store = directory.join("store");
    std::fs::create_dir_all(&store).unwrap();
    Around { log: Arc::new(FaultyLog::seeded_commits(inner, seed, FAULTS)), broker: None, store, kind }
}

/// What a child process does: the work, unless it dies.
pub fn life(directory: &Path, kind: Kind, seed: u64, tick_records: usize, dies_at: &str) {
    let around = on_disk(directory, kind, seed);
    let machine = Machine::open(&directory.join("one"), &around, tick_records, true, true);
    let step = dies_at.split_once(':').map(|(name, hit)| Step {
        point: *Point::ALL.iter().find(|point| point.name() == name).unwrap(),
        hit: hit.parse().unwrap(),
        deed: Deed::Kill,
    });
    plan::arm(step.as_slice());
    until_done(&machine);
}

/// An engine that fails is dropped and another one opened.
fn until_done(machine: &Machine) {
    while let Err(error) = machine.work() {
        assert!(!is_final(&error), "{error}, {}", machine.told());
    }
}

/// Nothing happens any more; every machine works off what is left, then is compared with the truth, and so is one that begins with
/// the newest checkpoint.
fn judge(directory: &Path, around: &Around, machines: &[&Machine]) -> Differences {
    if let Some(broker) = &around.broker {
        broker.heal();
    }
    machines.iter().for_each(|machine| until_done(machine));
    let fresh = restored(&directory.join("fresh"), around);
    until_done(&fresh);
    let all: Vec<&Machine> = machines.iter().copied().chain([&fresh]).collect();
    check(around.kind, &around.log, &all)
}
