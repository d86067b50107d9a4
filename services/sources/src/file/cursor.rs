//! How far a file was read, and how to recognise it.

use crate::saved::Saved;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// How much of the file's beginning, and of what lies before the cursor, is fingerprinted.
pub const HEAD: u64 = 4096;
pub const TAIL: u64 = 512;

/// In a JSON lines or CSV file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextCursor {
    version: u32,
    /// The byte to read next.
    pub at: u64,
    /// The line that begins there, from 1.
    pub line: u64,
    /// Inside a line that was too long and is skipped to its end.
    pub skipping: bool,
    /// Hashes of the first [`HEAD`] bytes and of the [`TAIL`] bytes before `at`.
    pub head: u64,
    pub tail: u64,
}

impl TextCursor {
    pub fn start() -> TextCursor {
        TextCursor { version: Self::VERSION, line: 1, head: xxh3_64(b""), tail: xxh3_64(b""), ..TextCursor::default() }
    }
    /// The two stretches that are fingerprinted.
    pub fn stretches(&self) -> [(u64, u64); 2] {
        [(0, self.at.min(HEAD)), (self.at.saturating_sub(TAIL), self.at)]
    }
}

/// In a Parquet file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParquetCursor {
    version: u32,
    pub row_group: usize,
    /// The row to read next, within the row group.
    pub row: usize,
    /// Length of the file and hash of its last bytes.
    pub length: u64,
    pub footer: u64,
}

impl ParquetCursor {
    pub fn start(length: u64, footer: u64) -> ParquetCursor {
        ParquetCursor { version: Self::VERSION, row_group: 0, row: 0, length, footer }
    }
    /// Goes on to the next row group that has a row left, so that one place has one cursor.
    pub fn settle(&mut self, row_group_sizes: &[usize]) {
        while row_group_sizes.get(self.row_group).is_some_and(|size| self.row >= *size) {
            self.row_group += 1;
            self.row = 0;
        }
    }
}

impl Saved for TextCursor {
    const VERSION: u32 = 1;
    const OF: &str = "this file format";

    fn version(&self) -> u32 {
        self.version
    }
}

impl Saved for ParquetCursor {
    const VERSION: u32 = 1;
    const OF: &str = "this file format";

    fn version(&self) -> u32 {
        self.version
    }
}

pub fn fingerprint(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}
