//! What a copy of the state says of itself.

use std::path::Path;
use thyme_checkpoint::{Facts, Manifest, Place};
use thyme_core::time::Micros;
use thyme_core::{Error, Result};
use thyme_state::{Options, Snapshot, StateStore};

/// The copy is read once from end to end: no blocks are kept.
pub fn options() -> Options {
    Options { block_cache_bytes: 8 << 20, row_cache_bytes: 1 << 20, ..Options::default() }
}

fn open(directory: &Path) -> Result<Snapshot> {
    Ok(StateStore::open_read_only(directory, options())?.snapshot())
}

/// What the manifest of a copy says. Blocks; reads every row.
pub fn facts_of(directory: &Path, commit: String, created_at: Micros) -> Result<Facts> {
    facts_in(&open(directory)?, commit, created_at)
}

pub fn facts_in(snapshot: &Snapshot, commit: String, created_at: Micros) -> Result<Facts> {
    let log = snapshot.log_identity()?.ok_or_else(|| Error::internal("the state does not know its log"))?;
    let digest = snapshot.digest()?.total().to_string();
    Ok(Facts { log, commit, created_at, digest, places: places_of(snapshot)? })
}

/// How far everything is that reads a log.
pub fn places_of(snapshot: &Snapshot) -> Result<Vec<Place>> {
    let place = |(consumer, partition, next_offset)| Place { consumer, partition, next_offset };
    Ok(snapshot.all_progress()?.into_iter().map(place).collect())
}

pub fn places_in(directory: &Path) -> Result<Vec<Place>> {
    places_of(&open(directory)?)
}

/// Whether a restored directory is what its manifest says; `DataLoss` if not. Blocks; reads every row.
pub fn verify(directory: &Path, manifest: &Manifest) -> Result<()> {
    let found = facts_of(directory, manifest.facts.commit.clone(), manifest.facts.created_at)?;
    if found == manifest.facts {
        return Ok(());
    }
    Err(Error::data_loss(format!(
        "checkpoint {} does not hold the state that its manifest names: digest={} manifest={}",
        manifest.number, found.digest, manifest.facts.digest
    )))
}
