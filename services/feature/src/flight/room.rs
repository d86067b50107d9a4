//! How much of the disk uploaded spines may take. Every byte is counted before it is written, and let go when what it belongs to is.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thyme_core::{Error, ErrorKind, Result};

const GIB: u64 = 1 << 30;

/// What may be taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// By all together.
    pub bytes: u64,
    /// So much of the disk stays free, or so many hundredths of it if that is more.
    pub free_bytes: u64,
    pub free_hundredths: u64,
}

impl Bounds {
    pub const OF_A_SERVER: Bounds = Bounds { bytes: 16 * GIB, free_bytes: GIB, free_hundredths: 10 };
}

pub(crate) struct Room {
    root: PathBuf,
    bounds: Bounds,
    taken: AtomicU64,
}

impl Room {
    pub fn new(root: &Path, bounds: Bounds) -> Arc<Room> {
        Arc::new(Room { root: root.to_path_buf(), bounds, taken: AtomicU64::new(0) })
    }

    /// What one upload will take: nothing yet.
    pub fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share { room: self.clone(), bytes: AtomicU64::new(0) })
    }

    #[cfg(test)]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn check(&self, taken: u64, bytes: u64) -> Result<()> {
        let bounds = &self.bounds;
        if taken > bounds.bytes {
            let message = format!("uploaded spines may take {} together on this node", size(bounds.bytes));
            return Err(full(message).hint(
                "drop those that are not needed (action drop_spine), wait until they expire, or send the spine through DoExchange, which \
                 keeps nothing",
            ));
        }
        let disk = rustix::fs::statvfs(&self.root).map_err(|error| failed("looking at the disk", &error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let hundredth = disk.f_blocks.saturating_mul(disk.f_frsize) / 100;
        let stays = bounds.free_bytes.max(hundredth.saturating_mul(bounds.free_hundredths));
        if free.saturating_sub(bytes) < stays {
            let message = format!("the disk of this node has {} free, and {} stay free", size(free), size(stays));
            return Err(
                full(message).hint("free some disk space, or send the spine through DoExchange, which keeps nothing")
            );
        }
        Ok(())
    }
}

/// What one spine takes of the room, until this is dropped.
pub(crate) struct Share {
    room: Arc<Room>,
    bytes: AtomicU64,
}

impl Share {
    /// Before so many bytes are written.
    fn take(&self, bytes: u64) -> Result<()> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = self.room.taken.fetch_add(bytes, Ordering::Relaxed);
        self.room.check(before.saturating_add(bytes), bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// Writes what there is room for.
pub(crate) struct Counted<W> {
    inner: W,
    share: Arc<Share>,
}

impl<W> Counted<W> {
    pub fn new(inner: W, share: Arc<Share>) -> Counted<W> {
        Counted { inner, share }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.share.take(bytes.len() as u64).map_err(io::Error::other)?;
        self.inner.write_all(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn full(message: String) -> Error {
    Error::new(ErrorKind::ResourceExhausted, message)
}

/// An I/O error as one of ours; one of ours that came through I/O as it was.
pub(crate) fn failed(doing: &str, error: &io::Error) -> Error {
    if let Some(ours) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return ours.clone();
    }
    let message = format!("{doing} failed: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            full(message).hint("free some disk space, or send the spine through DoExchange, which keeps nothing")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::precondition(message).hint("the data directory must be writable by this user")
        }
        _ => Error::unavailable(message),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..GIB => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / GIB as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Bounds = Bounds { bytes: u64::MAX, free_bytes: 0, free_hundredths: 0 };

    fn write(share: &Arc<Share>, bytes: usize) -> Result<()> {
        let written = Counted::new(io::sink(), share.clone()).write_all(&vec![0; bytes]);
        written.map_err(|error| failed("writing", &error))
    }

    #[test]
    fn all_shares_together_are_bounded_and_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let room = Room::new(directory.path(), Bounds { bytes: 100, ..ANY });
        let (first, second) = (room.share(), room.share());
        write(&first, 60).unwrap();
        write(&second, 40).unwrap();
        let error = write(&second, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.message().contains("may take 0 MiB together") && error.hint_text().is_some(), "{error}");
        drop(second);
        assert_eq!(room.taken(), 60, "with what was refused");
        write(&first, 40).unwrap();
    }

    #[test]
    fn a_part_of_the_disk_stays_free() {
        let directory = tempfile::tempdir().unwrap();
        let all = Bounds { free_hundredths: 100, ..ANY };
        for (bounds, is_refused) in [(ANY, false), (all, true), (Bounds { free_bytes: u64::MAX, ..ANY }, true)] {
            let told = write(&Room::new(directory.path(), bounds).share(), 1);
            assert_eq!(told.is_err(), is_refused, "{bounds:?}: {told:?}");
            assert!(told.map_or_else(|error| error.message().contains("stay free"), |()| true));
        }
    }

    #[test]
    fn sizes_are_told_for_people() {
        assert_eq!(
            (size(3 << 20), size(16 * GIB), size(GIB + GIB / 2)),
            ("3 MiB".into(), "16.0 GiB".into(), "1.5 GiB".into())
        );
    }
}
