//! Segments as files of a directory that one process holds.

use super::store::Store;
use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thyme_core::{Error, Result};

const LOCK_FILE: &str = "lock";
/// How many segments are kept open for reading.
const OPEN_FILES: usize = 64;
const EXTENSION: &str = "journal";

pub struct DiskStore {
    directory: PathBuf,
    /// Held for as long as the log is open: the lock goes with the file handle, also when the process dies.
    lock: Mutex<Option<File>>,
    files: RwLock<HashMap<u32, Arc<File>>>,
}

impl DiskStore {
    /// Makes the directory if need be and keeps other processes out of it.
    pub fn open(directory: &Path) -> Result<DiskStore> {
        let cannot_write =
            |error: io::Error| super::io_error(&format!("cannot write to {}", directory.display()), &error);
        std::fs::create_dir_all(directory).map_err(cannot_write)?;
        let lock_path = directory.join(LOCK_FILE);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock_path).map_err(cannot_write)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another process uses this data directory: {}", directory.display());
                return Err(
                    Error::precondition(message).hint("stop the other server, or give this one another --data-dir")
                );
            }
            Err(TryLockError::Error(error)) => return Err(cannot_write(error)),
        }
        Ok(DiskStore { directory: directory.to_path_buf(), lock: Mutex::new(Some(lock)), files: RwLock::default() })
    }

    fn path(&self, segment: u32) -> PathBuf {
        self.directory.join(format!("{segment:010}.{EXTENSION}"))
    }

    fn file(&self, segment: u32) -> io::Result<Arc<File>> {
        if let Some(file) = self.files.read().get(&segment) {
            return Ok(file.clone());
        }
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(self.path(segment))?);
        let mut files = self.files.write();
        if files.len() >= OPEN_FILES {
            // The newest is the one being written.
            let newest = files.keys().max().copied();
            files.retain(|other, _| Some(*other) == newest);
        }
        Ok(files.entry(segment).or_insert(file).clone())
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

impl Store for DiskStore {
    fn segments(&self) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
                found.push(number.ok_or_else(|| io::Error::other(format!("unexpected file {}", path.display())))?);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn length(&self, segment: u32) -> io::Result<u64> {
        Ok(self.file(segment)?.metadata()?.len())
    }

    fn create(&self, segment: u32, header: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.path(segment))?;
        file.write_all_at(header, 0)?;
        file.sync_all()?;
        self.sync_directory()?;
        self.files.write().insert(segment, Arc::new(file));
        Ok(())
    }

    fn append(&self, segment: u32, position: u64, bytes: &Bytes) -> io::Result<()> {
        self.file(segment)?.write_all_at(bytes, position)
    }

    fn sync(&self, segment: u32) -> io::Result<()> {
        self.file(segment)?.sync_data()
    }

    fn truncate(&self, segment: u32, length: u64) -> io::Result<()> {
        let file = self.file(segment)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn read(&self, segment: u32, position: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(length);
        self.file(segment)?.read_exact_at(&mut buffer, position)?;
        Ok(buffer.freeze())
    }

    fn name(&self, segment: u32) -> String {
        self.path(segment).display().to_string()
    }

    fn unlock(&self) {
        self.lock.lock().take();
    }
}
