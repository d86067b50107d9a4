//! Files of a state's directory: what they are, to the store, and back.

use crate::failure::{disk_failed, store_failed};
use crate::manifest::FileEntry;
use futures::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, WriteMultipart};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use thyme_core::{Error, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A larger file goes up in parts.
const PART_BYTES: usize = 8 << 20;
/// Parts of one file on their way at once.
const PARTS: usize = 4;

pub fn hex_of(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file on the local disk and what is in it.
#[derive(Debug, Clone)]
pub struct LocalFile {
    pub path: PathBuf,
    pub entry: FileEntry,
}

/// Files that never change once they are written: their SHA-256 needs to be computed once.
fn is_immutable(name: &str) -> bool {
    name.ends_with(".sst")
}

/// The database's own notes and its lock are no part of a checkpoint.
fn is_left_out(name: &str) -> bool {
    name == "LOCK" || name.starts_with("LOG")
}

/// What a checkpoint directory holds, by name. `known` are immutable files of earlier checkpoints of the same state.
pub fn read_directory(directory: &Path, known: &HashMap<String, FileEntry>) -> Result<Vec<LocalFile>> {
    let failed = |error: std::io::Error| disk_failed("reading", directory, &error);
    let mut found = Vec::new();
    for item in std::fs::read_dir(directory).map_err(failed)? {
        let item = item.map_err(failed)?;
        let name = item.file_name().to_string_lossy().into_owned();
        if is_left_out(&name) {
            continue;
        }
        let (path, size) = (item.path(), item.metadata().map_err(failed)?.len());
        let entry = match known.get(&name).filter(|entry| entry.size == size && is_immutable(&name)) {
            Some(entry) => entry.clone(),
            None => describe(&path, name)?,
        };
        found.push(LocalFile { path, entry });
    }
    found.sort_by(|one, other| one.entry.name.cmp(&other.entry.name));
    Ok(found)
}

fn describe(path: &Path, name: String) -> Result<FileEntry> {
    let failed = |error: std::io::Error| disk_failed("reading", path, &error);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok(FileEntry { name, size, sha256: hex(hasher.finalize().as_slice()) });
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

/// To its place in the store.
pub async fn upload(store: &dyn ObjectStore, file: &LocalFile) -> Result<()> {
    let (place, path) = (file.entry.path(), &file.path);
    let doing = format!("writing {place}");
    let failed = |error: std::io::Error| disk_failed("reading", path, &error);
    if file.entry.size <= PART_BYTES as u64 {
        let bytes = tokio::fs::read(path).await.map_err(failed)?;
        return store.put(&place, bytes.into()).await.map(|_| ()).map_err(|error| store_failed(&doing, error));
    }
    let mut source = tokio::fs::File::open(path).await.map_err(failed)?;
    let upload = store.put_multipart(&place).await.map_err(|error| store_failed(&doing, error))?;
    let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    let mut buffer = vec![0; 1 << 20];
    let copied: Result<()> = async {
        loop {
            let count = source.read(&mut buffer).await.map_err(failed)?;
            if count == 0 {
                return Ok(());
            }
            parts.wait_for_capacity(PARTS).await.map_err(|error| store_failed(&doing, error))?;
            parts.write(&buffer[..count]);
        }
    }
    .await;
    match copied {
        Ok(()) => parts.finish().await.map(|_| ()).map_err(|error| store_failed(&doing, error)),
        Err(error) => {
            if let Err(left) = parts.abort().await {
                tracing::warn!(error = %left, "an upload that was given up may have left parts in the store");
            }
            Err(error)
        }
    }
}

/// From the store into `directory`, on disk when it returns. `DataLoss` if it is not there or not what it should be.
pub async fn download(store: &dyn ObjectStore, entry: &FileEntry, directory: &Path) -> Result<()> {
    let place = entry.path();
    let damaged = |why: String| Error::data_loss(format!("file {} of the checkpoint {why} ({place})", entry.name));
    let found = match store.get(&place).await {
        Err(object_store::Error::NotFound { .. }) => return Err(damaged("is missing".to_string())),
        found => found.map_err(|error| store_failed(&format!("reading {place}"), error))?,
    };
    if found.meta.size != entry.size {
        return Err(damaged(format!("has {} bytes, not {}", found.meta.size, entry.size)));
    }
    let path = directory.join(&entry.name);
    let failed = |error: std::io::Error| disk_failed("writing", &path, &error);
    let mut file = tokio::fs::File::create(&path).await.map_err(failed)?;
    let (mut hasher, mut chunks) = (Sha256::new(), found.into_stream());
    while let Some(chunk) = chunks.try_next().await.map_err(|error| store_failed(&format!("reading {place}"), error))? {
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(failed)?;
    }
    if hex(hasher.finalize().as_slice()) != entry.sha256 {
        return Err(damaged("is not what was written".to_string()));
    }
    file.sync_all().await.map_err(failed)
}
