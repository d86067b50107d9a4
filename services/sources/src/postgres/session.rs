//! A connection and the three questions it is asked: what is settled, a page of rows, do rows wait. Each poll is one transaction
//! that only reads, so that its settings hold behind a pooler too, which may give every transaction another connection.

use super::cursor::{Horizon, Range};
use super::errors::from_sqlx;
use super::settings::Settings;
use super::table::Table;
use super::values::PageRow;
use sqlx::postgres::PgRow;
use sqlx::{ConnectOptions as _, PgConnection, Row as _};
use std::time::Duration;
use thyme_core::{Error, Result};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Texts of times and numbers depend on these. Each statement sees what is committed when it begins.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL TimeZone = 'UTC'; \
    SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL extra_float_digits = 1; SET LOCAL statement_timeout = '290s'";
/// Transaction ids in rows have 32 bits.
const ROUND: u64 = 1 << 32;

pub struct Session {
    connection: PgConnection,
    place: String,
}

impl Session {
    async fn open(settings: &Settings) -> Result<Session> {
        let place = settings.place();
        let options = settings.options()?;
        let connecting = tokio::time::timeout(CONNECT_DEADLINE, options.connect()).await;
        let Ok(connected) = connecting else {
            let message = format!("{place} did not answer within {} s", CONNECT_DEADLINE.as_secs());
            return Err(Error::unavailable(message).hint("check host and port, and that it is up"));
        };
        let connection = connected.map_err(|error| from_sqlx(&place, &error))?;
        Ok(Session { connection, place })
    }

    /// A connection in a new transaction: the one of the last poll, unless it was lost meanwhile.
    pub async fn begin(kept: Option<Session>, settings: &Settings) -> Result<Session> {
        if let Some(mut kept) = kept {
            let begun = tokio::time::timeout(CONNECT_DEADLINE, kept.run(BEGIN)).await;
            if matches!(begun, Ok(Ok(()))) {
                return Ok(kept);
            }
        }
        let mut session = Session::open(settings).await?;
        session.run(BEGIN).await?;
        Ok(session)
    }

    pub async fn end(&mut self) -> Result<()> {
        self.run("COMMIT").await
    }

    async fn run(&mut self, statements: &str) -> Result<()> {
        let done = sqlx::raw_sql(statements).execute(&mut self.connection).await;
        done.map(|_| ()).map_err(|error| from_sqlx(&self.place, &error))
    }

    /// Rows of a statement whose parameters are texts.
    pub async fn rows(&mut self, statement: &str, parameters: &[Option<&str>]) -> Result<Vec<PgRow>> {
        let mut query = sqlx::query(statement).persistent(false);
        for parameter in parameters {
            query = query.bind(*parameter);
        }
        query.fetch_all(&mut self.connection).await.map_err(|error| from_sqlx(&self.place, &error))
    }

    pub fn wrong(&self, error: &sqlx::Error) -> Error {
        from_sqlx(&self.place, error)
    }

    pub async fn horizon(&mut self) -> Result<Horizon> {
        let statement =
            "SELECT pg_snapshot_xmin(s)::text::int8, pg_snapshot_xmax(s)::text::int8 FROM pg_current_snapshot() AS s";
        let (oldest_open, next): (i64, i64) = sqlx::query_as(statement)
            .persistent(false)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| from_sqlx(&self.place, &error))?;
        Ok(Horizon { oldest_open: oldest_open.unsigned_abs(), next: next.unsigned_abs() })
    }

    /// At most `limit` rows of the range, in order.
    pub async fn page(&mut self, table: &Table, range: &Range, limit: usize) -> Result<Vec<PageRow>> {
        let columns = table.columns.iter().map(|column| column.expression.clone());
        let keys = table.keys.iter().map(|key| format!("{}::text", key.name));
        let selected: Vec<String> = columns.chain(keys).collect();
        let order: Vec<&str> = table.keys.iter().map(|key| key.name.as_str()).collect();
        let after = match &range.after {
            None => String::new(),
            Some(_) => {
                let bounds: Vec<String> = table
                    .keys
                    .iter()
                    .enumerate()
                    .map(|(index, key)| format!("${}::text::{}", index + 1, key.type_name))
                    .collect();
                format!(" AND ({}) > ({})", order.join(", "), bounds.join(", "))
            }
        };
        let statement = format!(
            "SELECT {} FROM {} AS t WHERE {}{after} ORDER BY {} LIMIT {limit}",
            selected.join(", "),
            table.name,
            written_in(range),
            order.join(", ")
        );
        let parameters: Vec<Option<&str>> = range.after.iter().flatten().map(|text| Some(text.as_str())).collect();
        let rows = self.rows(&statement, &parameters).await?;
        rows.iter().map(|row| self.page_row(table, row)).collect()
    }

    fn page_row(&self, table: &Table, row: &PgRow) -> Result<PageRow> {
        let text = |index: usize| row.try_get::<Option<String>, _>(index).map_err(|error| self.wrong(&error));
        let columns = (0..table.columns.len()).map(text).collect::<Result<Vec<Option<String>>>>()?;
        let first_key = table.columns.len();
        let keys = (0..table.keys.len()).map(|index| Ok(text(first_key + index)?.unwrap_or_default()));
        Ok(PageRow { columns, keys: keys.collect::<Result<Vec<String>>>()? })
    }

    /// Why rows that can be seen are not read yet, if there are some.
    pub async fn waiting(&mut self, table: &Table, horizon: &Horizon) -> Result<Option<String>> {
        if horizon.oldest_open >= horizon.next {
            return Ok(None);
        }
        let open = Range { from: horizon.oldest_open, to: horizon.next, after: None };
        let statement = format!("SELECT 1 FROM {} AS t WHERE {} LIMIT 1", table.name, written_in(&open));
        let rows = self.rows(&statement, &[]).await?;
        let transaction = horizon.oldest_open;
        Ok((!rows.is_empty()).then(|| {
            format!(
                "new rows wait until transaction {transaction}, which is older and still open, has ended \
                 (select * from pg_stat_activity where backend_xid = '{0}'; select * from pg_prepared_xacts where \
                 transaction = '{0}')",
                transaction % ROUND
            )
        }))
    }
}

/// The condition that a row was written by a transaction of the range. The first range has no beginning: it has all that no
/// transaction from `to` on has written.
fn written_in(range: &Range) -> String {
    let since = |id: u64| format!("((t.xmin::text::int8 - {} + {ROUND}) % {ROUND})", id % ROUND);
    match range.from {
        0 => format!("NOT ({} < pg_snapshot_xmax(pg_current_snapshot())::text::int8 - {})", since(range.to), range.to),
        from => format!("{} < {}", since(from), range.to - from),
    }
}
