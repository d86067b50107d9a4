//! [`Checkpoints`]: those of one state in one store. Taking one.

use crate::failure::store_failed;
use crate::files::{LocalFile, read_directory, upload};
use crate::manifest::{FILES, FORMAT, Facts, FileEntry, MANIFESTS, Manifest, manifest_path, number_of};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use thyme_core::failpoint::{Point, pass};
use thyme_core::{Error, ErrorKind, Result};

/// Files on their way at once.
pub const FILES_AT_ONCE: usize = 4;

pub struct Checkpoints {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Files described by earlier calls of `save`, by name.
    known: Mutex<HashMap<String, FileEntry>>,
    /// What a restore found damaged: checkpoints that count as absent, and files that are sent again.
    pub(crate) damaged: Mutex<Damaged>,
}

#[derive(Debug, Default)]
pub(crate) struct Damaged {
    pub numbers: HashSet<u64>,
    pub files: HashSet<ObjectPath>,
}

/// What became of a checkpoint.
#[derive(Debug)]
pub enum Saved {
    Written(Manifest, Upload),
    /// The newest one says the same already.
    Current(Manifest),
    /// Another writer was quicker, or is further: its checkpoint, which stays the newest.
    Superseded(Manifest),
    /// The newest one is of the same definitions and equally far, and its digest is another: one of the two states is wrong. Nothing
    /// was written.
    Diverged(Manifest),
}

/// What had to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upload {
    pub files: u64,
    pub bytes: u64,
}

impl Checkpoints {
    pub fn new(store: Arc<dyn ObjectStore>) -> Checkpoints {
        Checkpoints { store, known: Mutex::default(), damaged: Mutex::default() }
    }

    /// The newest checkpoint that can be read and that no restore of this process found damaged; `None` if there is none. Files
    /// are not looked at.
    pub async fn newest(&self) -> Result<Option<Manifest>> {
        for (number, _) in self.numbers().await?.into_iter().rev() {
            if self.damaged.lock().numbers.contains(&number) {
                continue;
            }
            match self.manifest(number).await {
                Err(error) if error.kind() == ErrorKind::DataLoss => {}
                found => return found.map(Some),
            }
        }
        Ok(None)
    }

    /// Stores `directory` (a checkpoint of the state that nobody writes to) as the newest checkpoint: first the files that are
    /// not there yet, last the manifest.
    pub async fn save(&self, directory: &Path, facts: Facts) -> Result<Saved> {
        if let Some(newest) = self.newest().await? {
            newest.must_be_of(&facts.log)?;
            if newest.is_ahead_of(&facts.places) {
                return Ok(Saved::Superseded(newest));
            }
            let is_equally_far = (&newest.facts.commit, &newest.facts.places) == (&facts.commit, &facts.places);
            if is_equally_far && newest.facts.digest != facts.digest {
                return Ok(Saved::Diverged(newest));
            }
            if is_equally_far && self.first_missing(newest.files.iter()).await?.is_none() {
                return Ok(Saved::Current(newest));
            }
        }
        let local = self.describe(directory).await?;
        // Before the upload: a writer that comes to its end meanwhile takes the number.
        let number = self.numbers().await?.last().map_or(1, |(number, _)| number + 1);
        let upload = self.upload_missing(&local).await?;
        // A manifest must not name what is not there, whatever happened on the way.
        if let Some(file) = self.first_missing(local.iter().map(|file| &file.entry)).await? {
            let message = format!("file {} was written to the checkpoint store and is not there", file.path());
            return Err(Error::unavailable(message).hint("does anything else delete under checkpoints.url?"));
        }
        let files = local.into_iter().map(|file| file.entry).collect();
        let manifest = Manifest { format: FORMAT, number, facts, files };
        pass(Point::BeforePointer)?;
        let other = self.publish(&manifest).await?;
        pass(Point::AfterPointer)?;
        if let Some(other) = other {
            return Ok(Saved::Superseded(other));
        }
        Ok(Saved::Written(manifest, upload))
    }

    async fn describe(&self, directory: &Path) -> Result<Vec<LocalFile>> {
        let known = self.known.lock().clone();
        let directory = directory.to_path_buf();
        let read = tokio::task::spawn_blocking(move || read_directory(&directory, &known)).await;
        let local = read.map_err(|error| Error::internal(error.to_string()))??;
        // Those of this checkpoint only: what the state has deleted never comes back.
        *self.known.lock() = local.iter().map(|file| (file.entry.name.clone(), file.entry.clone())).collect();
        Ok(local)
    }

    async fn upload_missing(&self, local: &[LocalFile]) -> Result<Upload> {
        let mut stored = self.stored_files().await?;
        stored.retain(|place, _| !self.damaged.lock().files.contains(place));
        let mut missing: Vec<LocalFile> =
            local.iter().filter(|file| stored.get(&file.entry.path()) != Some(&file.entry.size)).cloned().collect();
        missing.dedup_by_key(|file| file.entry.path());
        let sum = Upload { files: missing.len() as u64, bytes: missing.iter().map(|file| file.entry.size).sum() };
        let uploads = futures::stream::iter(missing.into_iter().map(|file| {
            let store = self.store.clone();
            async move {
                upload(store.as_ref(), &file).await?;
                self.damaged.lock().files.remove(&file.entry.path());
                pass(Point::FileUploaded)
            }
        }));
        uploads.buffer_unordered(FILES_AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(sum)
    }

    /// A file that is not in the store in its size.
    async fn first_missing<'a>(&self, mut files: impl Iterator<Item = &'a FileEntry>) -> Result<Option<&'a FileEntry>> {
        let stored = self.stored_files().await?;
        Ok(files.find(|file| stored.get(&file.path()) != Some(&file.size)))
    }

    /// Makes the manifest the newest. The other one if its number is taken.
    async fn publish(&self, manifest: &Manifest) -> Result<Option<Manifest>> {
        let path = manifest_path(manifest.number);
        let put = self.store.put_opts(&path, manifest.encode()?.into(), PutMode::Create.into()).await;
        match put {
            Ok(_) => Ok(None),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                // Also when the answer to our own write was lost and the client wrote again.
                let there = self.manifest(manifest.number).await?;
                Ok((there != *manifest).then_some(there))
            }
            Err(error) => Err(store_failed(&format!("writing {path}"), error)),
        }
    }

    pub(crate) async fn manifest(&self, number: u64) -> Result<Manifest> {
        let path = manifest_path(number);
        let failed = |error| store_failed(&format!("reading {path}"), error);
        let bytes = match self.store.get(&path).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(Error::data_loss(format!("the manifest of checkpoint {number} is gone")));
            }
            found => found.map_err(failed)?.bytes().await.map_err(failed)?,
        };
        Manifest::decode(&bytes, number)
    }

    /// Numbers of all manifests, ascending.
    pub(crate) async fn numbers(&self) -> Result<Vec<(u64, ObjectMeta)>> {
        let listed = self.list(MANIFESTS).await?;
        let mut found: Vec<(u64, ObjectMeta)> =
            listed.into_iter().filter_map(|object| Some((number_of(&object.location)?, object))).collect();
        found.sort_by_key(|(number, _)| *number);
        Ok(found)
    }

    async fn stored_files(&self) -> Result<HashMap<ObjectPath, u64>> {
        Ok(self.list(FILES).await?.into_iter().map(|object| (object.location, object.size)).collect())
    }

    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<ObjectMeta>> {
        let listed = self.store.list(Some(&ObjectPath::from(folder))).try_collect().await;
        listed.map_err(|error| store_failed(&format!("listing {folder}"), error))
    }
}
