//! What an export tells at its end: how many rows and known keys, what its features are, and its plan with what was done.

use crate::answer::{FeatureValue, Status};
use std::sync::Arc;
use thyme_state::Way;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSummary {
    pub rows: u64,
    /// Rows whose key was known.
    pub known: u64,
    /// In the order of the columns.
    pub features: Vec<FeatureCounts>,
    /// With what was done.
    pub plan: ExportPlan,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureCounts {
    /// Of the column.
    pub name: String,
    pub counts: Counts,
}

/// What the cells of a feature's column are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whatever their status.
    pub nulls: u64,
    pub defaults: u64,
    pub errors: u64,
    /// Of the first row with an ERROR.
    pub first_error: Option<Arc<str>>,
}

impl Counts {
    pub(crate) fn of(values: &[FeatureValue]) -> Counts {
        let mut counts = Counts::default();
        for FeatureValue { value, status } in values {
            counts.nulls += u64::from(value.is_null());
            match status {
                Status::Ok => {}
                Status::Default => counts.defaults += 1,
                Status::Error(reason) => {
                    counts.errors += 1;
                    counts.first_error.get_or_insert_with(|| reason.clone());
                }
            }
        }
        counts
    }

    /// Takes in those of later rows.
    pub(crate) fn add(&mut self, later: Counts) {
        self.nulls += later.nulls;
        self.defaults += later.defaults;
        self.errors += later.errors;
        self.first_error = self.first_error.take().or(later.first_error);
    }
}

/// How an export gets at its values. Rows are sorted by key and time, chunk by chunk, and each key's events are read once for all of a
/// chunk's rows: swept where a key has at most 128 of them per time asked, else each time is sought by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPlan {
    pub reads: Vec<ExportRead>,
    /// In the order in which they are called.
    pub calls: Vec<ExportCall>,
    /// At most so many rows in a chunk.
    pub chunk_rows: usize,
}

/// A native read: one table, one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRead {
    /// A pipeline, or a dataset whose newest row is read.
    pub table: String,
    /// Features that hold the key.
    pub key: Vec<String>,
    /// None where the newest row is read.
    pub windows: Vec<String>,
    pub features: Vec<String>,
    /// Those over which windows do not slide.
    pub one_by_one: Vec<String>,
    /// Unset in a plan of which nothing was done yet, and where a pin was given.
    pub done: Option<ReadCounts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportCall {
    /// `Featureset.extractor`.
    pub extractor: String,
    /// Does without the interpreter.
    pub native: bool,
    /// Receives and returns columns.
    pub batch: bool,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
}

/// What was done for a read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCounts {
    pub chunks: u64,
    /// Added up over the chunks.
    pub keys: u64,
    /// Rows of the spine.
    pub rows_swept: u64,
    pub rows_sought: u64,
    /// Different times of the same key in a chunk.
    pub times: u64,
    /// Rows of the state.
    pub trie_rows: u64,
}

impl ReadCounts {
    pub(crate) fn add_key(&mut self, way: Way, rows: usize, times: usize, trie_rows: u64) {
        self.keys += 1;
        match way {
            Way::Swept => self.rows_swept += rows as u64,
            Way::Sought => self.rows_sought += rows as u64,
        }
        self.times += times as u64;
        self.trie_rows += trie_rows;
    }

    pub(crate) fn add(&mut self, other: &ReadCounts) {
        self.chunks += other.chunks;
        self.keys += other.keys;
        self.rows_swept += other.rows_swept;
        self.rows_sought += other.rows_sought;
        self.times += other.times;
        self.trie_rows += other.trie_rows;
    }
}
