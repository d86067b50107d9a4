//! A table of PostgreSQL (13 and later) as a source: every committed row is read once, in the order of cursor and primary key.
//!
//! - **Which rows.** A row carries the id of the transaction that wrote it. A poll asks for the oldest transaction that is
//!   still open, the *horizon*: whatever is below it is settled, and no row below it can appear any more, whatever its cursor
//!   value is. A range of polls reads the rows written at or above the last horizon and below this one, each exactly
//!   once. So a row that commits late with an older cursor value is neither lost nor doubled, and a tie at a page's edge
//!   is told apart by the primary key. Transactions of savepoints have greater ids than their parents and are covered.
//! - **The price.** Rows wait while an older transaction that writes is open anywhere in the cluster; the poll says so.
//!   After the first read a poll scans the table for what is new, if any transaction has ended since.
//! - A row that is updated is a new event; a deleted one is not seen. Rows are meant to be inserted only.
//! - The cursor column is NOT NULL, and the table has a primary key: both are checked before anything is read.
//! - Values are asked for as text, with the session in UTC. A column whose type does not fit its field is an error for the
//!   whole source, a value that does not fit goes to the dead letters with its key.
//! - A row's event id is a hash of table, key and content.
//! - The cursor names the cluster and the table: where both what they are and what they are called have changed, it is refused.
//!
//! A transaction id has 32 bits in a row. A row that is exactly one round (4 billion transactions) older than a new one may
//! be read a second time; it has its old event id.

mod cursor;
mod errors;
mod session;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod values;

use crate::saved::Saved as _;
use crate::{Connector, Place, Poll, RejectedRow, Source, SourceRow, coerce};
use cursor::Cursor;
use session::Session;
use settings::Settings;
use std::future::Future;
use std::time::Duration;
use table::Table;
use thyme_core::definition::SourceDef;
use thyme_core::record::EventId;
use thyme_core::schema::Field;
use thyme_core::{Error, Result};
use tokio::runtime::Runtime;
use values::PageRow;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

pub const CONNECTOR: Connector =
    Connector { kind: "postgres", settings: settings::NAMES, every: Duration::from_secs(1), open };

/// How long a poll may wait for the database: the first one may sort a large table.
const DEADLINE: Duration = Duration::from_secs(300);

fn open(source: &SourceDef, fields: &[Field]) -> Result<Box<dyn Source>> {
    let settings = Settings::of(source)?;
    Ok(Box::new(PostgresSource {
        settings,
        order_by: source.cursor.clone(),
        fields: fields.to_vec(),
        horizon: None,
        session: None,
        runtime: None,
    }))
}

struct PostgresSource {
    settings: Settings,
    /// The field that the rows are ordered by; the primary key alone where there is none.
    order_by: Option<String>,
    fields: Vec<Field>,
    /// Below which everything was settled at the last poll.
    horizon: Option<u64>,
    session: Option<Session>,
    runtime: Option<Runtime>,
}

impl Source for PostgresSource {
    fn poll(&mut self, cursor: Option<&[u8]>, max_rows: usize) -> Result<Poll> {
        let saved = cursor.map(Cursor::decode).transpose()?;
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Error::internal(format!("no runtime for a PostgreSQL source: {error}")))?,
        };
        let place = self.settings.place();
        let polled = runtime.block_on(in_time(&place, self.read(saved, max_rows.max(1))));
        self.runtime = Some(runtime);
        if polled.is_err() {
            // Whatever the connection was doing, the next poll has a new one.
            self.session = None;
        }
        polled
    }
}

async fn in_time<T>(place: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| Err(Error::unavailable(format!("{place} did not answer within {} s", DEADLINE.as_secs()))))
}

impl Drop for PostgresSource {
    /// A source may be dropped where blocking is not allowed.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl PostgresSource {
    async fn read(&mut self, saved: Option<Cursor>, max_rows: usize) -> Result<Poll> {
        let mut session = Session::begin(self.session.take(), &self.settings).await?;
        let table = Table::describe(&mut session, &self.settings, &self.fields, self.order_by.as_deref()).await?;
        let cursor = match saved {
            Some(cursor) => cursor.of_table(&table.origin, table.keys.len())?,
            None => Cursor::start(table.origin.clone()),
        };
        let horizon = session.horizon().await?;
        let range = cursor.range(&horizon)?;
        let rows = match &range {
            Some(range) => session.page(&table, range, max_rows).await?,
            None => Vec::new(),
        };
        let has_more = rows.len() == max_rows;
        let next = match range {
            Some(range) => cursor.after(table.origin.clone(), range, rows.last().map(|row| row.keys.clone()), has_more),
            None => cursor,
        };
        // To see whether rows wait costs a scan, so it is asked only where the horizon stands still.
        let stands_still = self.horizon.is_none_or(|last| last == horizon.oldest_open);
        self.horizon = Some(horizon.oldest_open);
        let pending = if stands_still && !has_more { session.waiting(&table, &horizon).await? } else { None };
        session.end().await?;
        let mut poll = Poll { rows: vec![], rejected: vec![], cursor: next.encode()?, has_more, pending };
        let seed = xxh3_64(table.name.as_bytes());
        for row in &rows {
            self.take(row, &table, seed, &mut poll);
        }
        self.session = Some(session);
        Ok(poll)
    }

    fn take(&self, row: &PageRow, table: &Table, seed: u64, poll: &mut Poll) {
        let hash = xxh3_128_with_seed(row.content().as_bytes(), seed);
        let id = EventId::Given(format!("pg:{hash:032x}").into_bytes().into());
        match values::of_row(row, table, &self.fields) {
            Ok(values) => poll.rows.push(SourceRow { values, id }),
            Err(reason) => {
                let sample = coerce::sample(row.shown(&self.fields).as_bytes());
                let values = values::readable(row, table, &self.fields);
                let place = Place::Key(row.key_text(table));
                poll.rejected.push(RejectedRow { place, reason, sample, values, id });
            }
        }
    }
}
