//! A machine with a disk of its own, and the work it does from beginning to end: it starts, gains pipelines that are built while
//! it runs, loses the work and gets it back, loses a pipeline, takes checkpoints. What was last decided is in a file, as the catalog
//! would have it; whoever starts again goes on from there.

use crate::diary::Diary;
use crate::work::{Kind, OLD, Work};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thyme_checkpoint::{Check, Checkpoints, Facts, Place, S3Options, open_store};
use thyme_core::{Error, ErrorKind, Result};
use thyme_engine::{Engine, EngineOptions, JobSpec, Role};
use thyme_log::EventLog;
use thyme_log::simulated::SimulatedLog;
use thyme_state::{Options, StateStore};

/// What was decided last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// What is there from the start, and a first pipeline.
    Early,
    /// More of them, which are built from the start of the log.
    Building,
    /// They have taken over; the first one goes.
    TakenOver,
    Final,
}

const PHASES: [Phase; 4] = [Phase::Early, Phase::Building, Phase::TakenOver, Phase::Final];

/// What machines share.
#[derive(Clone)]
pub struct Around {
    pub log: Arc<dyn EventLog>,
    /// Where time passes when somebody waits.
    pub broker: Option<Arc<SimulatedLog>>,
    /// Of the checkpoints.
    pub store: PathBuf,
    pub kind: Kind,
}

pub struct Machine {
    work: Work,
    pub state: Arc<StateStore>,
    directory: PathBuf,
    around: Around,
    options: EngineOptions,
    /// Whether what failed is tried again with the same engine.
    tries_again: bool,
    /// Whether old checkpoints are deleted at once. (Not with two machines: what one uploads the other may take away.)
    prunes: bool,
    diary: Mutex<Diary>,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn state_options() -> Options {
    Options { block_cache_bytes: 8 << 20, write_buffer_bytes: 1 << 20, row_cache_bytes: 4 << 20, background_jobs: 1 }
}

impl Machine {
    pub fn open(directory: &Path, around: &Around, tick_records: usize, tries_again: bool, prunes: bool) -> Machine {
        std::fs::create_dir_all(directory).unwrap();
        Machine {
            work: Work::new(around.kind),
            state: StateStore::open(directory.join("state"), state_options()).unwrap(),
            directory: directory.to_path_buf(),
            around: around.clone(),
            options: EngineOptions { tick_records, durable: false, ..EngineOptions::default() },
            tries_again,
            prunes,
            diary: Mutex::default(),
        }
    }

    /// From wherever the last attempt ended to the end of the work, with an engine of its own.
    pub fn work(&self) -> Result<()> {
        let open = || Engine::open(self.state.clone(), self.around.log.clone(), self.options.clone());
        let mut engine = self.insist("open", open)?;
        loop {
            let phase = self.phase();
            self.insist("deploy", || engine.deploy(&self.spec(phase)))?;
            match phase {
                Phase::Early => {
                    for _ in 0..3 {
                        self.step(&mut engine)?;
                    }
                    self.enter(Phase::Building);
                }
                Phase::Building => {
                    self.step(&mut engine)?;
                    self.lose_and_gain(&mut engine)?;
                    while !self.is_built(&engine) {
                        self.step(&mut engine)?;
                        self.pass_time();
                    }
                    self.insist("checkpoint", || self.take_checkpoint())?;
                    self.enter(Phase::TakenOver);
                }
                Phase::TakenOver => {
                    self.insist("drop", || engine.drop_state(&[OLD]))?;
                    self.enter(Phase::Final);
                }
                Phase::Final => {
                    while self.step(&mut engine)? > 0 {
                        self.pass_time();
                    }
                    return self.insist("checkpoint", || self.take_checkpoint());
                }
            }
        }
    }

    /// The work is nobody's for a while, then this machine's again: what it took in meanwhile is still to be sent.
    fn lose_and_gain(&self, engine: &mut Engine) -> Result<()> {
        self.insist("follow", || engine.set_role(Role::Follower))?;
        for _ in 0..2 {
            self.step(engine)?;
            self.pass_time();
        }
        self.insist("own", || engine.set_role(Role::Owner))
    }

    fn is_built(&self, engine: &Engine) -> bool {
        self.work.built().into_iter().all(|table| engine.handle().build_progress(table).caught_up)
    }

    fn step(&self, engine: &mut Engine) -> Result<usize> {
        let records = self.insist("round", || engine.step())?;
        if records == 0 {
            self.diary.lock().note("there was nothing to do".to_string());
        }
        Ok(records)
    }

    /// Calls until it goes well, if it may be tried again.
    fn insist<T>(&self, what: &str, mut call: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            let outcome = call();
            let became = outcome.as_ref().err().map_or("done".to_string(), Error::to_string);
            self.diary.lock().note(format!("{:?}, {what}: {became}", self.phase()));
            match &outcome {
                Err(error) if self.tries_again && !is_final(error) => self.pass_time(),
                _ => return outcome,
            }
        }
    }

    /// What it did last.
    pub fn told(&self) -> String {
        self.diary.lock().to_string()
    }

    fn pass_time(&self) {
        if let Some(broker) = &self.around.broker {
            broker.pass_time();
        }
    }

    fn spec(&self, phase: Phase) -> JobSpec {
        let mut spec = if phase == Phase::Early { self.work.early() } else { self.work.spec() };
        if matches!(phase, Phase::Early | Phase::Building) {
            spec.datasets[0].pipelines.push(self.work.old());
        }
        spec
    }

    fn phase(&self) -> Phase {
        let stored = std::fs::read_to_string(self.directory.join("phase")).unwrap_or_default();
        PHASES.into_iter().find(|phase| format!("{phase:?}") == stored).unwrap_or(Phase::Early)
    }

    fn enter(&self, phase: Phase) {
        let fresh = self.directory.join("phase.fresh");
        std::fs::write(&fresh, format!("{phase:?}")).unwrap();
        std::fs::rename(fresh, self.directory.join("phase")).unwrap();
    }

    fn take_checkpoint(&self) -> Result<()> {
        let copy = self.directory.join("copy");
        if copy.exists() {
            std::fs::remove_dir_all(&copy).unwrap();
        }
        self.state.checkpoint(&copy)?;
        let opened = StateStore::open_read_only(&copy, state_options())?.snapshot();
        let place = |(consumer, partition, next_offset)| Place { consumer, partition, next_offset };
        let facts = Facts {
            log: self.around.log.identity().to_string(),
            commit: format!("{:?}", self.phase()),
            created_at: 0,
            digest: opened.digest()?.total().to_string(),
            places: opened.all_progress()?.into_iter().map(place).collect(),
        };
        drop(opened);
        let checkpoints = checkpoints(&self.around.store);
        runtime().block_on(async {
            checkpoints.save(&copy, facts).await?;
            if self.prunes {
                checkpoints.prune(1, Duration::ZERO, i64::MAX).await?;
            }
            // Whoever starts with an empty disk would do this.
            let restored = checkpoints
                .restore(self.around.log.identity(), &self.directory.join("restored"), same_digest())
                .await?;
            restored.manifest.map(|_| ()).ok_or_else(|| Error::internal("no checkpoint can be restored"))
        })
    }
}

/// Against what is lost no patience helps.
pub fn is_final(error: &Error) -> bool {
    error.kind() == ErrorKind::DataLoss
}

fn checkpoints(store: &Path) -> Checkpoints {
    Checkpoints::new(open_store(&format!("file://{}", store.display()), &S3Options::default()).unwrap())
}

fn same_digest() -> Check {
    Arc::new(|path, manifest| {
        let digest = StateStore::open_read_only(path, state_options())?.snapshot().digest()?.total().to_string();
        if digest == manifest.facts.digest {
            return Ok(());
        }
        Err(Error::data_loss(format!("the digest is {digest}, not {}", manifest.facts.digest)))
    })
}

/// A machine with an empty disk, from the newest checkpoint.
pub fn restored(directory: &Path, around: &Around) -> Machine {
    std::fs::create_dir_all(directory).unwrap();
    let restored = runtime()
        .block_on(checkpoints(&around.store).restore(around.log.identity(), &directory.join("state"), same_digest()))
        .unwrap();
    assert!(restored.unusable.is_empty(), "damaged checkpoints: {:?}", restored.unusable);
    let manifest = restored.manifest.expect("there is no checkpoint");
    std::fs::write(directory.join("phase"), &manifest.facts.commit).unwrap();
    Machine::open(directory, around, 50, false, false)
}
