//! The slices that are here: opened when the group assigns them to this node, let go once another node answers for them
//! (`docs/decisions/0026-nodes-that-hold-what-they-own.md`).

use crate::checkpoints;
use crate::checkpoints::restore::{self, Restored};
use crate::checkpoints::taker::{RunningTaker, Taker, report};
use crate::coming::Coming;
use crate::config::CheckpointConfig;
use crate::data_dir::DataDir;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_catalog::{Catalog, Severity};
use thyme_control::{CheckpointBoard, Controller};
use thyme_core::slice::Slice;
use thyme_core::time::Clock;
use thyme_core::{Error, Result};
use thyme_engine::{Engine, EngineOptions, RunningEngine};
use thyme_log::EventLog;
use thyme_query::HolderMap;
use thyme_state::{StateStore, States};
use tokio::task::JoinHandle;

/// How long a slice that could not be opened waits for its next turn.
const OPEN_AGAIN: Duration = Duration::from_secs(5);
/// How long what is still read of a state may take before its directory is left as it is.
const GRACE: Duration = Duration::from_secs(5);

/// What opens slices: where they are kept, and where they come from.
pub struct Opener {
    pub data_dir: Arc<DataDir>,
    pub log: Arc<dyn EventLog>,
    /// How many slices there are.
    pub slices: u16,
    /// Of a follower.
    pub options: EngineOptions,
    pub checkpoints: Option<CheckpointConfig>,
}

/// A slice's state with its engine, which has no work yet.
pub struct Opened {
    slice: Slice,
    state: Arc<StateStore>,
    engine: RunningEngine,
    /// Where the state comes from, if it was not there.
    restored: Option<Restored>,
}

impl Opened {
    pub fn was_restored(&self) -> bool {
        self.restored.is_some()
    }
}

impl Opener {
    pub fn slice(&self, index: u16) -> Slice {
        Slice { index, of: self.slices }
    }

    pub fn has_state(&self, slice: Slice) -> bool {
        restore::has_state(&self.data_dir.state(slice))
    }

    /// Whether there is anything of the slice, whole or not.
    fn has_anything(&self, slice: Slice) -> bool {
        self.data_dir.state(slice).exists() || self.data_dir.restoring(slice).exists()
    }

    /// The newest checkpoint of a slice that has no state here, if checkpoints are taken at all.
    pub async fn fetch(&self, slice: Slice) -> Result<Option<Restored>> {
        restore::remove(&self.data_dir.checkpoint(slice))?;
        let Some(config) = self.checkpoints.as_ref().filter(|_| !self.has_state(slice)) else { return Ok(None) };
        let checkpoints = checkpoints::open(config, slice)?;
        restore::fetch(&checkpoints, self.log.as_ref(), &self.data_dir, slice).await.map(Some)
    }

    /// Deletes what a slice that is not here any more has left. Without checkpoints it stays: it would have to be built from the start of
    /// the log if it came back. Blocks.
    fn clear(&self, slice: Slice, is_closed: bool) -> Result<()> {
        let is_kept = self.checkpoints.is_none() || !is_closed;
        tracing::info!(
            slice = slice.index,
            of = self.slices,
            is_kept,
            "another node answers for a slice that was here"
        );
        if is_kept {
            return Ok(());
        }
        restore::remove(&self.data_dir.checkpoint(slice))?;
        restore::discard(&self.data_dir.state(slice), &self.data_dir.restoring(slice))
    }

    /// Opens what is in the slice's directory.
    pub async fn open(&self, slice: Slice, restored: Option<Restored>) -> Result<Opened> {
        let (directory, log, slices) = (self.data_dir.state(slice), self.log.clone(), self.slices);
        let options = EngineOptions { slice, ..self.options.clone() };
        let opened = tokio::task::spawn_blocking(move || {
            let state = StateStore::open(&directory, thyme_state::Options::default().shared_by(slices))?;
            let engine = Engine::open(state.clone(), log, options)?.spawn()?;
            Ok(Opened { slice, state, engine, restored })
        });
        opened.await.map_err(|error| Error::internal(error.to_string()))?
    }

    /// Both, while the catalog is there.
    async fn fetch_and_open(&self, slice: Slice, catalog: &dyn Catalog) -> Result<Opened> {
        let restored = self.fetch(slice).await?;
        if let Some(restored) = &restored {
            restored.leave_catalog()?;
            restored.settle(catalog).await?;
        }
        self.open(slice, restored).await
    }
}

/// What the slices that are here work with.
#[derive(Clone)]
pub struct SliceParts {
    pub opener: Arc<Opener>,
    pub controller: Arc<Controller>,
    pub catalog: Arc<dyn Catalog>,
    /// Those that are answered for.
    pub states: States,
    pub board: Arc<CheckpointBoard>,
    pub clock: Arc<dyn Clock>,
}

/// The slices that are here.
pub struct Slices {
    parts: SliceParts,
    open: BTreeMap<u16, Open>,
    opening: BTreeMap<u16, JoinHandle<Result<Opened>>>,
    closing: BTreeMap<u16, JoinHandle<Result<()>>>,
    /// When slices that could not be opened are tried again.
    again: BTreeMap<u16, Instant>,
    /// Those of which an earlier process may have left something.
    left: BTreeSet<u16>,
}

struct Open {
    state: Arc<StateStore>,
    engine: RunningEngine,
    /// None where no checkpoints are taken.
    taker: Option<RunningTaker>,
    /// Until it is answered for.
    coming: Coming,
}

impl Slices {
    pub fn new(parts: SliceParts) -> Slices {
        let left = (0..parts.opener.slices).collect();
        Slices {
            parts,
            open: BTreeMap::new(),
            opening: BTreeMap::new(),
            closing: BTreeMap::new(),
            again: BTreeMap::new(),
            left,
        }
    }

    /// The slice works with the others from now on.
    pub async fn add(&mut self, opened: Opened) -> Result<()> {
        let Opened { slice, state, engine, restored } = opened;
        self.left.remove(&slice.index);
        let taker = self.taker(slice, &state)?;
        let goal = self.parts.controller.add_slice(&engine.handle).await?;
        if let Some(taker) = &taker {
            self.parts.board.update(slice.index, |status| status.url.clone_from(&taker.config.url));
        }
        if let Some(restored) = &restored {
            self.tell(restored).await;
        }
        let taker = taker.map(Taker::start);
        let coming = Coming::watch(slice.index, goal, engine.handle.clone(), &state, self.parts.states.clone());
        self.open.insert(slice.index, Open { state, engine, taker, coming });
        Ok(())
    }

    /// Whether one is on its way.
    pub fn is_opening(&self) -> bool {
        !self.opening.is_empty()
    }

    /// Begins to open slices that are wanted, goes on with those that are open by now, and lets go of those that are not wanted and that
    /// another node answers for.
    pub async fn keep(&mut self, wanted: &BTreeSet<u16>, others: &HolderMap) {
        for &slice in wanted.iter().filter(|slice| !self.open.contains_key(slice)) {
            let may_begin = self.again.get(&slice).is_none_or(|again| *again <= Instant::now());
            if may_begin && !self.opening.contains_key(&slice) && !self.closing.contains_key(&slice) {
                self.opening.insert(slice, self.begin(slice));
            }
        }
        let ended: Vec<u16> =
            self.opening.iter().filter(|(_, task)| task.is_finished()).map(|(slice, _)| *slice).collect();
        for slice in ended {
            if let Err(error) = self.end(slice).await {
                self.failed(slice, &error).await;
            }
        }
        for slice in self.again.extract_if(.., |slice, _| !wanted.contains(slice)) {
            self.parts.controller.slice_is_unopened(slice.0, None);
        }
        let unwanted: Vec<u16> = self.open.keys().filter(|slice| !wanted.contains(slice)).copied().collect();
        for slice in unwanted.into_iter().filter(|slice| others.has_owner(*slice)) {
            if let Err(error) = self.let_go(slice).await {
                tracing::warn!(slice, %error, "a slice that another node answers for could not be let go");
            }
        }
        self.clear_what_is_left(wanted, others);
        self.hear_of_closed().await;
    }

    /// What an earlier process has left of slices that another node answers for is deleted: were one to come back, its newest checkpoint
    /// is better.
    fn clear_what_is_left(&mut self, wanted: &BTreeSet<u16>, others: &HolderMap) {
        let is_busy = |slice: &u16| self.open.contains_key(slice) || self.opening.contains_key(slice);
        let is_left = |slice: &u16| !wanted.contains(slice) && !is_busy(slice) && others.has_owner(*slice);
        let left: Vec<u16> = self.left.iter().filter(|slice| is_left(slice)).copied().collect();
        for slice in left {
            self.left.remove(&slice);
            let opener = self.parts.opener.clone();
            if opener.has_anything(opener.slice(slice)) {
                let cleared = tokio::task::spawn_blocking(move || opener.clear(opener.slice(slice), true));
                self.closing.insert(slice, cleared);
            }
        }
    }

    fn begin(&self, slice: u16) -> JoinHandle<Result<Opened>> {
        tracing::info!(slice, of = self.parts.opener.slices, "a slice comes to this node");
        let (opener, catalog) = (self.parts.opener.clone(), self.parts.catalog.clone());
        let slice = opener.slice(slice);
        tokio::spawn(async move { opener.fetch_and_open(slice, catalog.as_ref()).await })
    }

    async fn end(&mut self, slice: u16) -> Result<()> {
        let Some(task) = self.opening.remove(&slice) else { return Ok(()) };
        let opened = task.await.map_err(|error| Error::internal(format!("opening a slice stopped: {error}")))??;
        self.add(opened).await?;
        self.again.remove(&slice);
        self.parts.controller.slice_is_unopened(slice, None);
        Ok(())
    }

    async fn failed(&mut self, slice: u16, error: &Error) {
        tracing::error!(slice, %error, "a slice could not be opened, and is tried again");
        let message = format!("slice {slice} could not be opened, and is tried again: {error}");
        self.parts.controller.slice_is_unopened(slice, Some(message.clone()));
        if self.again.insert(slice, Instant::now() + OPEN_AGAIN).is_none() {
            self.report("slice.failed", Severity::Error, message).await;
        }
    }

    /// Nothing of the slice is here from now on; its engine and state are closed beside everything else.
    async fn let_go(&mut self, slice: u16) -> Result<()> {
        self.parts.controller.remove_slice(slice).await?;
        let Some(Open { state, engine, taker, coming }) = self.open.remove(&slice) else { return Ok(()) };
        // It may just have come to where it was to be.
        coming.give_up();
        self.parts.states.remove(slice);
        let (opener, board) = (self.parts.opener.clone(), self.parts.board.clone());
        self.closing.insert(
            slice,
            tokio::spawn(async move {
                if let Some(taker) = taker {
                    taker.stop().await;
                    board.remove(slice);
                }
                let closed = tokio::task::spawn_blocking(move || {
                    let closing = state.closing();
                    drop(state);
                    engine.stop();
                    opener.clear(opener.slice(slice), closing.wait(GRACE))
                });
                closed.await.map_err(|error| Error::internal(error.to_string()))?
            }),
        );
        Ok(())
    }

    async fn hear_of_closed(&mut self) {
        let ended: Vec<u16> =
            self.closing.iter().filter(|(_, task)| task.is_finished()).map(|(slice, _)| *slice).collect();
        for slice in ended {
            let Some(task) = self.closing.remove(&slice) else { continue };
            let closed = task.await.map_err(|error| Error::internal(error.to_string()));
            if let Err(error) = closed.flatten() {
                tracing::warn!(slice, %error, "the directories of a slice that is not here any more could not be deleted");
            }
        }
    }

    fn taker(&self, slice: Slice, state: &Arc<StateStore>) -> Result<Option<Taker>> {
        let SliceParts { opener, controller, catalog, board, clock, .. } = self.parts.clone();
        let Some(config) = opener.checkpoints.clone() else { return Ok(None) };
        let checkpoints = checkpoints::open(&config, slice)?;
        let directory = opener.data_dir.checkpoint(slice);
        let state = state.clone();
        Ok(Some(Taker { checkpoints, slice, config, directory, state, controller, catalog, board, clock }))
    }

    /// Where the state came from, for the status and the event feed.
    async fn tell(&self, restored: &Restored) {
        let number = restored.manifest.as_ref().map(|manifest| manifest.number);
        self.parts.board.update(restored.slice, |status| {
            status.restored = number;
            status.unusable.clone_from(&restored.unusable);
        });
        for reason in &restored.unusable {
            let message = format!("a damaged checkpoint was passed over: {reason}");
            self.report("checkpoint.unusable", Severity::Error, message).await;
        }
        if let Some(number) = number {
            // Of several slices that is how they move.
            let (state, severity) = match self.parts.opener.slices {
                1 => ("no state".to_string(), Severity::Warning),
                of => (format!("no state of slice {} of {of}", restored.slice), Severity::Info),
            };
            let message = format!("the data directory had {state}: it was restored from checkpoint {number}");
            self.report("checkpoint.restored", severity, message).await;
        }
    }

    async fn report(&self, event_type: &str, severity: Severity, message: String) {
        report(self.parts.catalog.as_ref(), self.parts.clock.now(), event_type, severity, message).await;
    }

    /// No more checkpoints are taken, and nothing is opened any more.
    pub async fn rest(&mut self) {
        for taker in self.open.values_mut().filter_map(|open| open.taker.take()) {
            taker.stop().await;
        }
        for (_, task) in std::mem::take(&mut self.opening) {
            // What it has opened by then closes by itself.
            task.abort();
        }
        for (_, task) in std::mem::take(&mut self.closing) {
            if let Err(error) = task.await {
                tracing::error!(%error, "closing a slice ended badly");
            }
        }
    }

    /// Ends the engines. Blocks. Whether all states were closed in time is told by what is returned, once nobody reads them any more.
    pub fn close(self) -> Vec<thyme_state::Closing> {
        let mut closing = Vec::new();
        for (_, Open { state, engine, .. }) in self.open {
            closing.push(state.closing());
            engine.stop();
        }
        closing
    }
}
