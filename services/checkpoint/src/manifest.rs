//! A manifest: JSON, then a line with its SHA-256. It is never changed; where it lies says its number.

use crate::files::hex_of;
use object_store::path::Path as ObjectPath;
use serde::{Deserialize, Serialize};
use thyme_core::time::Micros;
use thyme_core::{Error, Result};

/// Format of manifests. A greater one is refused, because what it needs is not known.
pub const FORMAT: u32 = 1;

pub const MANIFESTS: &str = "manifests";
pub const FILES: &str = "files";

/// How far a consumer had come in a partition of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub consumer: u32,
    pub partition: u16,
    pub next_offset: u64,
}

/// What is said of a checkpoint by who takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Which log the state was made from: it is of no use with another.
    pub log: String,
    /// The definitions that ran, by their commit.
    pub commit: String,
    pub created_at: Micros,
    /// Digest of the state, to be compared when it is opened again.
    pub digest: String,
    pub places: Vec<Place>,
}

/// A file of the state's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub name: String,
    pub size: u64,
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub number: u64,
    #[serde(flatten)]
    pub facts: Facts,
    pub files: Vec<FileEntry>,
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: u32,
}

impl FileEntry {
    /// Where it lies: named by its content, so that equal files are stored once.
    pub fn path(&self) -> ObjectPath {
        ObjectPath::from(format!("{FILES}/{}-{}", self.sha256, self.size))
    }
}

/// Where the manifest of a number lies. With leading zeros, so that a listing is in order.
pub fn manifest_path(number: u64) -> ObjectPath {
    ObjectPath::from(format!("{MANIFESTS}/{number:020}.json"))
}

/// The number of a manifest; `None` for what is no manifest.
pub fn number_of(path: &ObjectPath) -> Option<u64> {
    path.filename()?.strip_suffix(".json")?.parse().ok()
}

impl Manifest {
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::internal(format!("a manifest does not encode: {error}")))?;
        let line = format!("\n{}\n", hex_of(&bytes));
        bytes.extend_from_slice(line.as_bytes());
        Ok(bytes)
    }

    /// `DataLoss` for what is damaged, `FailedPrecondition` for a format of a later version.
    pub fn decode(bytes: &[u8], number: u64) -> Result<Manifest> {
        let damaged = |why: &str| Error::data_loss(format!("the manifest of checkpoint {number} is damaged: {why}"));
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let (body, sum) = text.trim_end().rsplit_once('\n').ok_or_else(|| damaged("it ends early"))?;
        if hex_of(body.as_bytes()) != sum {
            return Err(damaged("it does not have the SHA-256 it names"));
        }
        let found: OnlyFormat = serde_json::from_str(body).map_err(|error| damaged(&error.to_string()))?;
        if found.format > FORMAT {
            return Err(Error::precondition(format!(
                "checkpoint {number} has format {}, this build reads {FORMAT}",
                found.format
            ))
            .field("checkpoints.url")
            .hint("run the version of thyme that wrote it, or give this one another folder or prefix"));
        }
        let manifest: Manifest = serde_json::from_str(body).map_err(|error| damaged(&error.to_string()))?;
        if manifest.number != number {
            return Err(damaged(&format!("it says that it is checkpoint {}", manifest.number)));
        }
        if let Some(file) = manifest.files.iter().find(|file| !is_plain_name(&file.name)) {
            return Err(damaged(&format!("'{}' is not the name of a file", file.name)));
        }
        Ok(manifest)
    }

    /// `FailedPrecondition` for the checkpoint of another log.
    pub fn must_be_of(&self, log: &str) -> Result<()> {
        if self.facts.log == log {
            return Ok(());
        }
        Err(Error::precondition(format!(
            "checkpoints.url holds the checkpoints of another log: checkpoint={} its_log={} this_log={log}",
            self.number, self.facts.log
        ))
        .field("checkpoints.url")
        .hint("give this server a folder or prefix of its own; if the other log is gone for good, empty this one"))
    }

    /// Whether the state is behind the one of `other` anywhere that both know.
    pub fn is_ahead_of(&self, places: &[Place]) -> bool {
        let is_behind = |ours: &Place| {
            let same = |theirs: &&Place| theirs.consumer == ours.consumer && theirs.partition == ours.partition;
            self.facts.places.iter().find(same).is_some_and(|theirs| theirs.next_offset > ours.next_offset)
        };
        places.iter().any(is_behind)
    }
}

fn is_plain_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use thyme_core::ErrorKind;

    fn manifest() -> Manifest {
        let places = vec![Place { consumer: 1, partition: 0, next_offset: 7 }];
        let facts = Facts { log: "a log".into(), commit: "c1".into(), created_at: 5, digest: "00ff".into(), places };
        let file = FileEntry { name: "000001.sst".into(), size: 3, sha256: "ab".into() };
        Manifest { format: FORMAT, number: 3, facts, files: vec![file] }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = manifest().encode().unwrap();
        assert_eq!(Manifest::decode(&bytes, 3).unwrap(), manifest());
        assert_eq!(number_of(&manifest_path(3)), Some(3));
        assert_eq!(number_of(&ObjectPath::from("manifests/readme.txt")), None);
    }

    #[test]
    fn any_cut_and_any_changed_byte_is_noticed() {
        let bytes = manifest().encode().unwrap();
        for length in 0..bytes.len() - 1 {
            let error = Manifest::decode(&bytes[..length], 3).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DataLoss, "{length}: {error}");
        }
        for index in 0..bytes.len() - 1 {
            let mut changed = bytes.clone();
            changed[index] ^= 0x11;
            assert!(Manifest::decode(&changed, 3).is_err(), "byte {index}");
        }
        assert_eq!(Manifest::decode(&bytes, 4).unwrap_err().kind(), ErrorKind::DataLoss);
    }

    #[test]
    fn a_later_format_is_refused_with_both_numbers() {
        let mut later = manifest();
        later.format = FORMAT + 1;
        let error = Manifest::decode(&later.encode().unwrap(), 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert_eq!(error.message(), "checkpoint 3 has format 2, this build reads 1");
    }

    #[test]
    fn a_file_stays_in_its_directory() {
        for name in ["../x", "a/b", "", ".hidden", "/etc/passwd"] {
            let mut wrong = manifest();
            wrong.files[0].name = name.to_string();
            let error = Manifest::decode(&wrong.encode().unwrap(), 3).unwrap_err();
            assert!(error.message().contains("is not the name of a file"), "{error}");
        }
    }

    #[test]
    fn ahead_is_told_by_what_both_know() {
        let at = |consumer, next_offset| Place { consumer, partition: 0, next_offset };
        assert!(manifest().is_ahead_of(&[at(1, 6)]));
        assert!(!manifest().is_ahead_of(&[at(1, 7)]));
        assert!(!manifest().is_ahead_of(&[at(2, 0)]));
        assert!(!manifest().is_ahead_of(&[]));
    }
}
