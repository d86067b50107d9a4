//! The data directory: its layout, its format version, and the lock that keeps a second server out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use thyme_core::slice::Slice;
use thyme_core::{Error, ErrorKind, Result};

/// Format of the directory as a whole; log, state and catalog have versions of their own.
const FORMAT: &str = "1";

/// An opened data directory; the lock is held as long as this lives.
pub struct DataDir {
    root: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if needed, takes the lock, and checks the format.
    pub fn open(path: &Path) -> Result<DataDir> {
        std::fs::create_dir_all(path).map_err(|error| unusable(path, &error))?;
        let root = path.canonicalize().map_err(|error| unusable(path, &error))?;
        let lock = lock(&root)?;
        check_format(&root)?;
        Ok(DataDir { root, _lock: lock })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }
    /// Refuses the states of a log whose work has another number of slices.
    pub fn check_slices(&self, slices: u16) -> Result<()> {
        let own: Vec<PathBuf> = Slice::all(slices).map(|slice| self.state(slice)).collect();
        let entries = std::fs::read_dir(&self.root).map_err(|error| unusable(&self.root, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| unusable(&self.root, &error))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if is_state(&name) && !own.contains(&path) && path.join("CURRENT").exists() {
                return Err(Error::precondition(format!(
                    "{} is of a log whose work has another number of slices than {slices}",
                    path.display()
                ))
                .hint("set log.url to the log it was made from, or delete it: the state is then restored or built from the log"));
            }
        }
        Ok(())
    }

    pub fn state(&self, slice: Slice) -> PathBuf {
        self.root.join(slice.name("state"))
    }
    /// A copy of the state while it is uploaded.
    pub fn checkpoint(&self, slice: Slice) -> PathBuf {
        self.root.join(slice.name("checkpoint"))
    }
    /// A state that is being restored and does not count yet.
    pub fn restoring(&self, slice: Slice) -> PathBuf {
        self.root.join(slice.name("restoring"))
    }
    /// What `thyme rebuild` works in.
    pub fn rebuild(&self) -> PathBuf {
        self.root.join("rebuild")
    }
    /// Spines that clients have put; emptied at the start.
    pub fn spines(&self) -> PathBuf {
        self.root.join("spines")
    }
    /// What this node is called among others; made up when the directory is new.
    pub fn node_id(&self) -> Result<String> {
        let path = self.root.join("NODE");
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_string()),
            Ok(_) => self.name_node(&path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.name_node(&path),
            Err(error) => Err(unusable(&self.root, &error)),
        }
    }

    fn name_node(&self, path: &Path) -> Result<String> {
        let id = uuid::Uuid::now_v7().to_string();
        std::fs::write(path, format!("{id}\n")).map_err(|error| unusable(&self.root, &error))?;
        Ok(id)
    }

    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog.db")
    }
}

/// `state`, or that of a slice: `state-2-of-4`.
fn is_state(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let of_slice = |rest: &str| rest.split_once("-of-").is_some_and(|(index, of)| is_number(index) && is_number(of));
    name == "state" || name.strip_prefix("state-").is_some_and(of_slice)
}

fn unusable(path: &Path, error: &std::io::Error) -> Error {
    let message = format!("cannot use the data directory {}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::StorageFull => {
            Error::new(ErrorKind::ResourceExhausted, message).hint("free some disk space")
        }
        _ => Error::precondition(message).hint("make it writable for this user, or choose another with --data-dir"),
    }
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("server.lock");
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| unusable(root, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let process = match file.read_to_string(&mut holder) {
                Ok(_) if !holder.trim().is_empty() => format!(" (process {})", holder.trim()),
                _ => String::new(),
            };
            let message = format!("another server{process} is using the data directory {}", root.display());
            return Err(Error::conflict(message).hint("stop it, or choose another directory with --data-dir"));
        }
        Err(TryLockError::Error(error)) => return Err(unusable(root, &error)),
    }
    let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(|error| unusable(root, &error))?;
    Ok(file)
}

fn check_format(root: &Path) -> Result<()> {
    let path = root.join("FORMAT");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim() == FORMAT => Ok(()),
        Ok(text) => Err(Error::precondition(format!(
            "the data directory {} has format {}, this build reads {FORMAT}",
            root.display(),
            text.trim()
        ))
        .hint("run the version of thyme that wrote it, or choose another with --data-dir")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::write(&path, format!("{FORMAT}\n")).map_err(|error| unusable(root, &error))
        }
        Err(error) => Err(unusable(root, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_second_server_is_refused_and_told_by_whom() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        // A process that another test begins meanwhile has the file open too, until it is another program.
        let until = Instant::now() + Duration::from_secs(20);
        while let Err(error) = DataDir::open(&path) {
            assert!(Instant::now() < until, "{error}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn an_unknown_format_is_refused_with_both_versions() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("FORMAT"), "7\n").unwrap();
        let error = DataDir::open(directory.path()).err().unwrap();
        assert!(error.message().contains("format 7") && error.message().contains("reads 1"), "{error}");
    }

    #[test]
    fn the_states_of_another_number_of_slices_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        for (left, of) in [(data.state(Slice::WHOLE), 4), (data.state(Slice { index: 1, of: 4 }), 1)] {
            std::fs::create_dir(&left).unwrap();
            data.check_slices(of).unwrap();
            std::fs::write(left.join("CURRENT"), "x").unwrap();
            let error = data.check_slices(of).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
            assert!(error.message().contains(&left.display().to_string()), "{error}");
            std::fs::remove_dir_all(&left).unwrap();
        }
        // Its own, and what a person has put there.
        let own = data.state(Slice { index: 3, of: 4 });
        for path in [own, data.root().join("state-backup"), data.root().join("state-1-of-before")] {
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("CURRENT"), "x").unwrap();
        }
        data.check_slices(4).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "x").unwrap();
        let error = DataDir::open(&path).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    }
}
