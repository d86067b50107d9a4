//! Restoring: the newest checkpoint that is whole, else the one before.

use crate::checkpoints::{Checkpoints, FILES_AT_ONCE};
use crate::failure::disk_failed;
use crate::files::download;
use crate::manifest::Manifest;
use futures::StreamExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thyme_core::failpoint::{Point, pass};
use thyme_core::{Error, ErrorKind, Result};

/// Looks at a restored directory before it counts as restored: opens it and compares its digest. Blocks. `DataLoss` if it is not
/// what the manifest says.
pub type Check = Arc<dyn Fn(&Path, &Manifest) -> Result<()> + Send + Sync>;

/// What was restored, and what had to be passed over.
#[derive(Debug, Default)]
pub struct Restored {
    /// `None` if there is no checkpoint that can be used: the directory is empty.
    pub manifest: Option<Manifest>,
    /// Newest first.
    pub unusable: Vec<Unusable>,
}

/// A checkpoint that is damaged.
#[derive(Debug)]
pub struct Unusable {
    pub number: u64,
    pub reason: Error,
}

const DAMAGED: &str = "nothing is lost: an older checkpoint or the log stands in for it, and the next one is stored whole; find what \
                       changed or deleted files under checkpoints.url, or give the server another folder or prefix";

impl Checkpoints {
    /// Fills `directory` with the newest checkpoint of `log` that verifies: every file with its size and SHA-256, then `check`. What
    /// was in the directory is deleted. Fails if the store cannot be reached, for the checkpoints of another log and for those of a
    /// later format: then it is not for this process to choose an older one.
    pub async fn restore(&self, log: &str, directory: &Path, check: Check) -> Result<Restored> {
        let mut restored = Restored::default();
        for (number, _) in self.numbers().await?.into_iter().rev() {
            empty(directory).await?;
            match self.restore_one(number, log, directory, check.clone()).await {
                Ok(manifest) => {
                    restored.manifest = Some(manifest);
                    return Ok(restored);
                }
                Err(reason) if reason.kind() == ErrorKind::DataLoss => {
                    self.damaged.lock().numbers.insert(number);
                    restored.unusable.push(Unusable { number, reason: reason.hint(DAMAGED) });
                }
                Err(error) => return Err(error),
            }
        }
        empty(directory).await?;
        Ok(restored)
    }

    async fn restore_one(&self, number: u64, log: &str, directory: &Path, check: Check) -> Result<Manifest> {
        let manifest = self.manifest(number).await?;
        manifest.must_be_of(log)?;
        let has_failed = Arc::new(AtomicBool::new(false));
        let downloads = futures::stream::iter(manifest.files.clone().into_iter().map(|entry| {
            let (store, directory, has_failed) = (self.store.clone(), directory.to_path_buf(), has_failed.clone());
            async move {
                if has_failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let done = download(store.as_ref(), &entry, &directory).await;
                if done.as_ref().is_err_and(|error| error.kind() == ErrorKind::DataLoss) {
                    self.damaged.lock().files.insert(entry.path());
                }
                let done = done.and_then(|()| pass(Point::FileRestored));
                has_failed.fetch_or(done.is_err(), Ordering::Relaxed);
                done
            }
        }));
        // What has begun is waited for, also after one has failed: a file that a thread makes a little later would be in the way of the
        // next checkpoint's.
        let ended: Vec<Result<()>> = downloads.buffer_unordered(FILES_AT_ONCE).collect().await;
        ended.into_iter().collect::<Result<()>>()?;
        let (path, checked) = (directory.to_path_buf(), manifest.clone());
        let outcome = tokio::task::spawn_blocking(move || {
            check(&path, &checked)?;
            let synced = std::fs::File::open(&path).and_then(|directory| directory.sync_all());
            synced.map_err(|error| disk_failed("syncing", &path, &error))
        });
        outcome.await.map_err(|error| Error::internal(error.to_string()))??;
        Ok(manifest)
    }
}

/// An empty directory, whatever was there.
async fn empty(directory: &Path) -> Result<()> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(disk_failed("emptying", directory, &error));
        }
        Ok(()) | Err(_) => {}
    }
    tokio::fs::create_dir_all(directory).await.map_err(|error| disk_failed("creating", directory, &error))
}
