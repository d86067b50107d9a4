//! Taking old checkpoints away, and files that no checkpoint names.

use crate::checkpoints::Checkpoints;
use crate::failure::store_failed;
use crate::manifest::{FILES, manifest_path};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStoreExt as _};
use std::collections::HashSet;
use std::time::Duration;
use thyme_core::failpoint::{Point, pass};
use thyme_core::time::Micros;
use thyme_core::{Error, ErrorKind, Result};

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    pub checkpoints: u64,
    pub files: u64,
}

impl Checkpoints {
    /// Keeps the newest `keep` checkpoints that can be read, and deletes the older ones and the files that no remaining one names.
    /// What is younger than `grace` stays in any case: it may belong to an upload under way, or be read by a server that is just
    /// starting.
    pub async fn prune(&self, keep: usize, grace: Duration, now: Micros) -> Result<Pruned> {
        // Files first: what is uploaded after this listing is not in it.
        let files = self.list(FILES).await?;
        let is_old = |object: &ObjectMeta| {
            let age = now.saturating_sub(object.last_modified.timestamp_micros());
            u128::try_from(age).is_ok_and(|age| age > grace.as_micros())
        };
        let (mut kept, mut named, mut pruned) = (0, HashSet::<ObjectPath>::new(), Pruned::default());
        for (number, object) in self.numbers().await?.into_iter().rev() {
            let manifest = match self.manifest(number).await {
                Ok(manifest) => Some(manifest),
                Err(error) if error.kind() == ErrorKind::DataLoss => None,
                Err(error) => return Err(error.context("old checkpoints are not deleted")),
            };
            if kept >= keep && is_old(&object) {
                self.delete(&manifest_path(number)).await?;
                pass(Point::PruneHalf)?;
                pruned.checkpoints += 1;
                continue;
            }
            kept += usize::from(manifest.is_some());
            named.extend(manifest.iter().flat_map(|manifest| manifest.files.iter().map(|file| file.path())));
        }
        if kept == 0 {
            // Nothing can be told about the files: better too many than one too few.
            return Ok(pruned);
        }
        for file in files.iter().filter(|file| is_old(file) && !named.contains(&file.location)) {
            self.delete(&file.location).await?;
            pruned.files += 1;
        }
        Ok(pruned)
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), Error> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(store_failed(&format!("deleting {path}"), error)),
        }
    }
}
