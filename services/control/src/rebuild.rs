//! `thyme rebuild`: the live commit's state once more from the log, beside the one that answers, and whether they are equal.

use crate::controller::Controller;
use crate::version::{Version, job_spec};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thyme_catalog::Severity;
use thyme_core::slice::Slice;
use thyme_core::{Error, Result};
use thyme_engine::{Comparison, EngineOptions};
use thyme_state::{Options, Snapshots, StateStore, States};

/// Both digests of one table, by the name of its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDigests {
    pub table: String,
    pub state: String,
    pub rebuilt: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildOutcome {
    pub equal: bool,
    /// Of all tables together.
    pub state: String,
    pub rebuilt: String,
    pub tables: Vec<TableDigests>,
    /// The place in the log where both are.
    pub position: String,
}

/// A directory that is gone with this value.
struct Workplace(PathBuf);

impl Workplace {
    fn new(path: PathBuf) -> Result<Workplace> {
        remove(&path)?;
        std::fs::create_dir_all(&path)
            .map_err(|error| Error::precondition(format!("cannot create {}: {error}", path.display())))?;
        Ok(Workplace(path))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(%error, "a rebuild left its directory behind; the next start deletes it");
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::precondition(format!("cannot delete {}: {error}", path.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Controller {
    /// Compares the state that is here with one that is built anew. `progress` is told records read and records to read, and says whether to go
    /// on. One at a time. What it finds goes to the event feed.
    pub async fn rebuild(
        self: &Arc<Self>,
        progress: impl FnMut(u64, u64) -> bool + Send + 'static,
    ) -> Result<RebuildOutcome> {
        if self.rebuilding.swap(true, Ordering::AcqRel) {
            return Err(Error::conflict("another rebuild is under way").hint("wait until it is done"));
        }
        let of_task = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let outcome = of_task.rebuild_blocking(progress);
            // Here and not by the caller, who may go away before this is done.
            of_task.rebuilding.store(false, Ordering::Release);
            outcome
        });
        let outcome = task.await.map_err(|error| Error::internal(error.to_string()))??;
        let (severity, message) = if outcome.equal {
            (Severity::Info, "a rebuild from the log has the digest of the state".to_string())
        } else {
            let wrong = outcome.tables.iter().filter(|table| table.state != table.rebuilt);
            let names: Vec<&str> = wrong.map(|table| table.table.as_str()).collect();
            let message = format!("the state is not what the log makes: other digests of {}", names.join(", "));
            tracing::error!("{message}");
            (Severity::Error, message)
        };
        let event_type = if outcome.equal { "rebuild.equal" } else { "rebuild.diverged" };
        let detail = serde_json::json!({"state_digest": outcome.state, "rebuilt_digest": outcome.rebuilt});
        self.report(event_type, severity, "", message, detail).await;
        Ok(outcome)
    }

    /// Works a copy of a slice's state off up to places of the logs, (log id, partition) -> next offset, by the definitions that are live.
    /// Blocks; `goes_on` is asked now and then.
    pub fn catch_up(
        &self,
        copy: &Arc<StateStore>,
        slice: Slice,
        places: &HashMap<(u32, u16), u64>,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let Some(live) = self.serving().live.clone() else { return Ok(()) };
        let options = EngineOptions { clock: self.parts.clock_mode, slice, ..EngineOptions::default() };
        let spec = job_spec(&[live.as_ref()])?;
        thyme_engine::catch_up(copy, &self.parts.log, &spec, places, &options, goes_on)
    }

    fn rebuild_blocking(&self, mut progress: impl FnMut(u64, u64) -> bool) -> Result<RebuildOutcome> {
        let workplace = Workplace::new(Path::new(&self.parts.data_dir).join("rebuild"))?;
        let (live, copies) = self.copies(&workplace)?;
        let fresh = States::of_none(copies.slices());
        for (slice, _) in copies.by_slice() {
            fresh.add(slice, &StateStore::open(workplace.0.join(format!("fresh-{slice}")), small())?);
        }
        let options = EngineOptions { clock: self.parts.clock_mode, ..EngineOptions::default() };
        let spec = job_spec(&[live.as_ref()])?;
        let found = thyme_engine::rebuild(&copies, &fresh, &self.parts.log, &spec, &options, &mut progress)?;
        Ok(named(&found, &live.ids))
    }

    /// What is live, and the states of before anything of it was dropped: once another commit has taken over, tables that only this one
    /// had go, and a copy may have some of their rows no more.
    fn copies(&self, workplace: &Workplace) -> Result<(Arc<Version>, Snapshots)> {
        let nothing = || Error::precondition("nothing is committed yet").hint("thyme commit features.py");
        loop {
            let live = self.serving().live.clone().ok_or_else(nothing)?;
            let mut copies = BTreeMap::new();
            for (slice, state) in self.parts.engine.states() {
                let copy = workplace.0.join(format!("copy-{slice}"));
                remove(&copy)?;
                state.checkpoint(&copy)?;
                copies.insert(slice, StateStore::open_read_only(&copy, small())?.snapshot());
            }
            if self.serving().live.as_ref().is_some_and(|now| Arc::ptr_eq(now, &live)) {
                return Ok((live, Snapshots::new(self.parts.engine.slices(), copies)));
            }
        }
    }
}

/// Of states that are read or written once.
fn small() -> Options {
    Options { block_cache_bytes: 32 << 20, row_cache_bytes: 16 << 20, ..Options::default() }
}

fn named(found: &Comparison, ids: &BTreeMap<String, u32>) -> RebuildOutcome {
    let is_table = |id: &u32| found.state.tables.contains_key(id) || found.rebuilt.tables.contains_key(id);
    let digests = |(name, id): (&String, &u32)| TableDigests {
        table: name.clone(),
        state: found.state.table(*id).to_string(),
        rebuilt: found.rebuilt.table(*id).to_string(),
    };
    RebuildOutcome {
        equal: found.is_equal(),
        state: found.state.total().to_string(),
        rebuilt: found.rebuilt.total().to_string(),
        tables: ids.iter().filter(|(_, id)| is_table(id)).map(digests).collect(),
        position: found.position.encode(),
    }
}
