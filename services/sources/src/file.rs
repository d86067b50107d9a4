//! A file as a source: JSON lines or CSV, followed while they grow, or Parquet, read once.
//!
//! - A row is one line of JSON, one record of CSV (RFC 4180, with a header), one row of Parquet. A row that does not fit the
//!   dataset is rejected with its line; members and columns that are no fields are ignored.
//! - The cursor is the byte after the last row that was read (for Parquet: row group and row), with a fingerprint of what lies
//!   before it. A file that shrank or whose beginning changed is an error: what was read is not what is there.
//! - An incomplete last line waits until it ends. A complete JSON object at the end needs no line end.
//! - A row's event id is its place and a hash of path and content.

mod csv;
mod cursor;
mod jsonl;
mod parquet;
mod text;

use crate::{Connector, Poll, Source, settings};
use std::path::PathBuf;
use std::time::Duration;
use thyme_core::definition::SourceDef;
use thyme_core::record::EventId;
use thyme_core::schema::Field;
use thyme_core::{Error, ErrorKind, Result, suggest};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub const CONNECTOR: Connector =
    Connector { kind: "file", settings: &["path", "format"], every: Duration::from_secs(1), open };

/// Format names, and the file name endings that stand for them.
const FORMATS: &[(&str, Format, &[&str])] = &[
    ("jsonl", Format::JsonLines, &["jsonl", "ndjson", "json"]),
    ("csv", Format::Csv, &["csv"]),
    ("parquet", Format::Parquet, &["parquet", "pq"]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    JsonLines,
    Csv,
    Parquet,
}

struct FileSource {
    file: SourceFile,
    format: Format,
    fields: Vec<Field>,
}

/// The file, and what makes the ids of its rows its own.
struct SourceFile {
    path: PathBuf,
    path_hash: u64,
}

fn open(source: &SourceDef, fields: &[Field]) -> Result<Box<dyn Source>> {
    let setting = |name: &str| settings::text(source, name);
    let path = setting("path")?.filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| Error::definition("a file source needs a path").field("path"))?;
    let names = || FORMATS.iter().map(|(name, _, _)| *name);
    let format = match setting("format")? {
        Some(format) => FORMATS.iter().find(|(name, _, _)| *name == format).ok_or_else(|| {
            Error::definition(format!("unknown format '{format}'")).field("format").hint(suggest::hint(format, names()))
        })?,
        None => {
            let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending).to_lowercase();
            FORMATS.iter().find(|(_, _, endings)| endings.contains(&ending.as_str())).ok_or_else(|| {
                Error::definition(format!("no format is known for '{path}'"))
                    .field("format")
                    .hint("name one: format=\"jsonl\", \"csv\" or \"parquet\"")
            })?
        }
    };
    let path_hash = xxhash_rust::xxh3::xxh3_64(path.as_bytes());
    let file = SourceFile { path: PathBuf::from(path), path_hash };
    Ok(Box::new(FileSource { file, format: format.1, fields: fields.to_vec() }))
}

impl Source for FileSource {
    fn poll(&mut self, cursor: Option<&[u8]>, max_rows: usize) -> Result<Poll> {
        let max_rows = max_rows.max(1);
        match self.format {
            Format::JsonLines => text::poll(&self.file, &jsonl::JsonLines, &self.fields, cursor, max_rows),
            Format::Csv => text::poll(&self.file, &csv::Csv, &self.fields, cursor, max_rows),
            Format::Parquet => parquet::poll(&self.file, &self.fields, cursor, max_rows),
        }
    }
}

impl SourceFile {
    fn open(&self) -> Result<std::fs::File> {
        std::fs::File::open(&self.path).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        let message = format!("cannot read {}: {error}", self.path.display());
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::not_found(message).hint("relative paths are read from the server's working directory")
            }
            std::io::ErrorKind::PermissionDenied => Error::precondition(message),
            _ => Error::unavailable(message),
        }
    }

    /// What was read before the cursor is not what is there now.
    fn replaced(&self, what: &str) -> Error {
        let message = format!("{} was replaced or rewritten: {what}", self.path.display());
        Error::new(ErrorKind::FailedPrecondition, message)
            .hint("files may only grow; give new data a path of its own and commit the source with it")
    }

    /// The id of a row: its place, and a hash of path and content, so that another file never has the same ids.
    fn id(&self, place: u64, content: &[u8]) -> EventId {
        let hash = xxh3_64_with_seed(content, self.path_hash);
        EventId::Given(format!("file:{place}:{hash:016x}").into_bytes().into())
    }
}

#[cfg(test)]
mod tests;
