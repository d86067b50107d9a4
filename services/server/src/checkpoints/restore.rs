//! Where the state comes from when the data directory has none: the newest checkpoint that is whole, beside the log it was made
//! from. What came after it is in the log, and the engine works that off as after any other stop.

use super::{CATALOG, look};
use crate::data_dir::DataDir;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thyme_catalog::Catalog;
use thyme_checkpoint::{Checkpoints, Manifest};
use thyme_core::slice::Slice;
use thyme_core::{Error, ErrorKind, Result};
use thyme_log::EventLog;

/// A state on its way into the data directory. Until [`Restored::settle`] nothing counts, and the next start begins again.
pub struct Restored {
    pub slice: u16,
    pub manifest: Option<Manifest>,
    /// Damaged checkpoints that were passed over, newest first.
    pub unusable: Vec<String>,
    restoring: PathBuf,
    state: PathBuf,
}

/// Whether a database was ever opened there.
pub fn has_state(directory: &Path) -> bool {
    directory.join("CURRENT").exists()
}

/// Fetches the newest usable checkpoint of a slice into a directory of its own.
pub async fn fetch(
    checkpoints: &Checkpoints,
    log: &dyn EventLog,
    data_dir: &DataDir,
    slice: Slice,
) -> Result<Restored> {
    let (restoring, state) = (data_dir.restoring(slice), data_dir.state(slice));
    tracing::info!(slice = slice.index, "there is no state: looking for a checkpoint");
    let identity = slice.note_of(log.identity());
    let fetched = checkpoints.restore(&identity, &restoring, Arc::new(look::verify)).await;
    let found = match fetched {
        Err(error) if error.kind() == ErrorKind::Unavailable && log.topics()?.is_empty() => {
            // Nothing was ever logged, so no checkpoint can be of use.
            tracing::warn!(%error, "the checkpoint store is away; the log is empty, so the server starts without it");
            thyme_checkpoint::Restored::default()
        }
        Err(error) => {
            let away = error.kind() == ErrorKind::Unavailable;
            let error = error.context("the data directory has no state, and it cannot be restored");
            return Err(if away { error.hint(AWAY) } else { error });
        }
        Ok(found) => found,
    };
    let passed_over = |one: &thyme_checkpoint::Unusable| format!("checkpoint {}: {}", one.number, one.reason);
    let unusable: Vec<String> = found.unusable.iter().map(passed_over).collect();
    for reason in &unusable {
        tracing::error!(reason, "a checkpoint is damaged and is passed over");
    }
    match &found.manifest {
        Some(manifest) => {
            tracing::info!(checkpoint = manifest.number, bytes = manifest.size(), "restored");
        }
        None => tracing::info!("no checkpoint can be used: the state is built from the start of the log"),
    }
    Ok(Restored { slice: slice.index, manifest: found.manifest, unusable, restoring, state })
}

const AWAY: &str =
    "make checkpoints.url reachable, or start once without it: the state is then built from the start of the log";

/// Puts the catalog of the newest checkpoint in place, which knows what is in the others. A catalog that is there is newer than any copy.
pub fn take_catalog<'a>(restored: impl Iterator<Item = &'a Restored>, data_dir: &DataDir) -> Result<()> {
    let made_at = |one: &&Restored| one.manifest.as_ref().map(|manifest| manifest.facts.created_at);
    let mut newest_first: Vec<&Restored> = restored.collect();
    newest_first.sort_by_key(|one| std::cmp::Reverse(made_at(one)));
    for one in newest_first {
        let (copy, place) = (one.restoring.join(CATALOG), data_dir.catalog());
        if copy.exists() {
            let moved = if place.exists() { std::fs::remove_file(&copy) } else { std::fs::rename(&copy, &place) };
            moved.map_err(|error| disk_failed(&copy, &error))?;
        }
    }
    Ok(())
}

impl Restored {
    /// There is a catalog: the copy of the checkpoint is not needed.
    pub fn leave_catalog(&self) -> Result<()> {
        let copy = self.restoring.join(CATALOG);
        match std::fs::remove_file(&copy) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk_failed(&copy, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes it the state, if the catalog knows the definitions it was made by: the ids of its tables are the catalog's.
    pub async fn settle(&self, catalog: &dyn Catalog) -> Result<()> {
        let Some(manifest) = &self.manifest else {
            return remove(&self.restoring);
        };
        let commit = &manifest.facts.commit;
        if catalog.commit(commit).await?.is_none() {
            return Err(Error::precondition(format!(
                "checkpoint {} was made under commit {commit}, which the catalog does not know",
                manifest.number
            ))
            .field("checkpoints.url")
            .hint(
                "restore the catalog that belongs to it; if that is gone, give checkpoints.url an empty folder or prefix: the state is \
                 then built from the start of the log",
            ));
        }
        remove(&self.state)?;
        std::fs::rename(&self.restoring, &self.state).map_err(|error| disk_failed(&self.state, &error))?;
        let parent = self.state.parent().unwrap_or(&self.state);
        let synced = std::fs::File::open(parent).and_then(|directory| directory.sync_all());
        synced.map_err(|error| disk_failed(parent, &error))
    }
}

/// Deletes a state: first it is none any more, so that nobody takes what is left of one for a whole one.
pub fn discard(state: &Path, place: &Path) -> Result<()> {
    remove(place)?;
    match std::fs::rename(state, place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk_failed(state, &error)),
        Ok(()) | Err(_) => remove(place),
    }
}

pub fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk_failed(directory, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn disk_failed(path: &Path, error: &std::io::Error) -> Error {
    let message = format!("cannot use {}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::StorageFull => {
            Error::new(ErrorKind::ResourceExhausted, message).hint("free some disk space")
        }
        _ => Error::precondition(message).hint("make the data directory writable for this user"),
    }
}
