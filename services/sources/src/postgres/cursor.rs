//! How far a table was read: which transactions, and within a range of them which rows.

use crate::saved::{START_OVER, Saved};
use serde::{Deserialize, Serialize};
use thyme_core::{Error, Result};

/// After so many transactions without a new row the cursor moves on, so that ids of 32 bits stay unambiguous.
const LONGEST_RANGE: u64 = 1 << 30;

/// What is settled now, by the snapshot of one statement.
#[derive(Debug, Clone, Copy)]
pub struct Horizon {
    /// No transaction below is open.
    pub oldest_open: u64,
    /// No transaction from here on has begun.
    pub next: u64,
}

/// Rows of the transactions `from <= id < to`, after a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    pub from: u64,
    pub to: u64,
    pub after: Option<Vec<String>>,
}

/// What was read: what it is, and what it is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The cluster's own identifier.
    pub system: String,
    /// Host, port and database.
    pub place: String,
    /// The object id of the table.
    pub table_id: String,
    pub table: String,
}

impl Origin {
    /// A cluster keeps its identifier when it moves to another address, and its address when it is upgraded; a table its id when it is
    /// renamed, and its name when it is made anew. Where both differ, transaction ids say nothing about these rows.
    fn is(&self, other: &Origin) -> bool {
        (self.system == other.system || self.place == other.place)
            && (self.table_id == other.table_id || self.table == other.table)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    version: u32,
    origin: Origin,
    /// Rows of transactions below are read; 0 before the first range is.
    from: u64,
    /// The end of the range that is being read.
    to: Option<u64>,
    /// The key of its last row that was read, as text.
    after: Option<Vec<String>>,
}

impl Saved for Cursor {
    const VERSION: u32 = 1;
    const OF: &str = "a PostgreSQL table";

    fn version(&self) -> u32 {
        self.version
    }
}

impl Cursor {
    pub fn start(origin: Origin) -> Cursor {
        Cursor { version: Cursor::VERSION, origin, from: 0, to: None, after: None }
    }

    /// Refuses another table, and another key in the midst of a range.
    pub fn of_table(self, origin: &Origin, key_columns: usize) -> Result<Cursor> {
        if !self.origin.is(origin) {
            let (was, is) = (&self.origin, origin);
            let message = format!(
                "the source was reading {} of {}, and this is {} of {}",
                was.table, was.place, is.table, is.place
            );
            return Err(Error::precondition(message).hint(START_OVER));
        }
        if self.after.as_ref().is_none_or(|after| after.len() == key_columns) {
            return Ok(self);
        }
        Err(Error::precondition("the primary key or the cursor of the table has changed while it was being read")
            .hint(START_OVER))
    }

    /// What to read now; `None` if nothing can be new. Transaction ids never go backward within one cluster.
    pub fn range(&self, horizon: &Horizon) -> Result<Option<Range>> {
        let to = self.to.unwrap_or(horizon.oldest_open);
        if horizon.next < self.from || horizon.oldest_open < to {
            return Err(Error::precondition(
                "the database counts fewer transactions than when it was last read: it was restored, or is another one",
            )
            .hint(START_OVER));
        }
        Ok((self.from < to).then(|| Range { from: self.from, to, after: self.after.clone() }))
    }

    /// After a page of this table that ended with this key.
    pub fn after(self, origin: Origin, range: Range, last: Option<Vec<String>>, has_more: bool) -> Cursor {
        if has_more {
            return Cursor { version: Cursor::VERSION, origin, from: range.from, to: Some(range.to), after: last };
        }
        // An idle table keeps its cursor, so that nothing is saved for an empty poll.
        let is_empty = last.is_none() && range.after.is_none() && self.to.is_none();
        if is_empty && range.from > 0 && range.to - range.from < LONGEST_RANGE {
            return self;
        }
        Cursor { version: Cursor::VERSION, origin, from: range.to, to: None, after: None }
    }
}
