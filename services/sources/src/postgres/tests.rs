//! On a real PostgreSQL server: the conformance kit, and what only a database does.

mod histories;
mod refusals;
mod values;

use super::open;
use crate::conformance::{self, Form, Origin, Refused};
use crate::{Poll, Source};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use thyme_broker::Postgres;
use thyme_core::definition::SourceDef;
use thyme_core::schema::{DataType, Field};
use thyme_core::time::format_time;
use thyme_core::{Result, Value};
use tokio::runtime::Runtime;

static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());
/// One test at a time: an open transaction of one would hold back the rows of another.
static TURN: Mutex<()> = Mutex::new(());
static TABLES: AtomicUsize = AtomicUsize::new(0);
/// The role `reader` has as its password what Cargo gives every test in this variable; it may read and nothing else.
const PASSWORD_FROM: &str = "CARGO_PKG_NAME";

/// A connection of the superuser.
struct Client {
    connection: PgConnection,
    runtime: Runtime,
}

impl Client {
    fn new() -> Client {
        let (host, port) = SERVER.address.split_once(':').unwrap();
        let options = PgConnectOptions::new_without_pgpass()
            .host(host)
            .port(port.parse().unwrap())
            .username("postgres")
            .password("secret")
            .database("thyme");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(PgConnection::connect_with(&options)).unwrap();
        Client { connection, runtime }
    }

    #[track_caller]
    fn sql(&mut self, statement: &str) {
        self.runtime.block_on(sqlx::raw_sql(statement).execute(&mut self.connection)).unwrap();
    }

    fn texts(&mut self, statement: &str) -> Vec<String> {
        self.runtime.block_on(sqlx::query_scalar(statement).fetch_all(&mut self.connection)).unwrap()
    }
}

/// A table of a test's own, and the turn.
struct Table {
    name: String,
    client: Client,
    fields: Vec<Field>,
    cursor: Option<&'static str>,
    _turn: MutexGuard<'static, ()>,
}

impl Table {
    /// `columns` without the parentheses.
    fn new(columns: &str, fields: Vec<Field>, cursor: Option<&'static str>) -> Table {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("t{}", TABLES.fetch_add(1, Ordering::SeqCst));
        let mut client = Client::new();
        if client.texts("SELECT rolname::text FROM pg_roles WHERE rolname = 'reader'").is_empty() {
            let password = std::env::var(PASSWORD_FROM).unwrap();
            client.sql(&format!("CREATE ROLE reader LOGIN PASSWORD '{password}'"));
            client.sql("ALTER DATABASE thyme SET TimeZone = 'America/New_York'");
            client.sql("ALTER DATABASE thyme SET DateStyle = 'German'");
        }
        client.sql(&format!("CREATE TABLE {name} ({columns}); GRANT SELECT ON {name} TO reader"));
        Table { name, client, fields, cursor, _turn: turn }
    }

    /// Of id and time.
    fn of_events() -> Table {
        let fields = conformance::fields().into_iter().take(2).collect();
        Table::new("id bigint PRIMARY KEY, ts timestamptz NOT NULL", fields, Some("ts"))
    }

    /// Without the password.
    fn definition(&self) -> SourceDef {
        let (host, port) = SERVER.address.split_once(':').unwrap();
        let definition = json!({
            "kind": "postgres",
            "settings": {
                "table": self.name, "host": host, "port": port.parse::<u16>().unwrap(), "database": "thyme",
                "username": "reader", "password": {"env": PASSWORD_FROM},
            },
            "cursor": self.cursor, "cdc": "append",
        });
        serde_json::from_value(definition).unwrap()
    }

    fn source(&self) -> Box<dyn Source> {
        open(&self.definition(), &self.fields).unwrap()
    }

    fn poll(&self, cursor: Option<&Poll>, max_rows: usize) -> Result<Poll> {
        self.source().poll(cursor.map(|poll| poll.cursor.as_slice()), max_rows)
    }

    #[track_caller]
    fn sql(&mut self, statement: &str) {
        self.client.sql(&statement.replace("$t", &self.name));
    }
}

fn field(name: &str, data_type: &DataType, nullable: bool) -> Field {
    let mut field = conformance::fields().swap_remove(2);
    (field.name, field.data_type, field.nullable) = (name.to_string(), data_type.clone(), nullable);
    field
}

fn ids(poll: &Poll) -> Vec<i64> {
    poll.rows.iter().map(|row| row.values[0].as_int().unwrap()).collect()
}

struct TableOrigin {
    /// With a transaction that is open.
    late: Option<Client>,
    table: Table,
}

impl TableOrigin {
    fn new(cursor: Option<&'static str>, rows: &[Vec<Value>]) -> TableOrigin {
        let columns = "id bigint PRIMARY KEY, ts timestamptz NOT NULL, amount double precision, note text, flag boolean, \
                       price numeric";
        let mut origin = TableOrigin { table: Table::new(columns, conformance::fields(), cursor), late: None };
        origin.add(rows);
        origin
    }

    /// A statement that inserts the rows.
    fn insert(&self, rows: &[Vec<Value>]) -> String {
        let literal = |value: &Value| match value {
            Value::Null => "NULL".to_string(),
            Value::Time(time) => format!("'{}'", format_time(*time)),
            Value::Str(text) => format!("'{text}'"),
            Value::Decimal(number) => number.to_string(),
            other => other.to_json().to_string(),
        };
        let tuple = |row: &Vec<Value>| format!("({})", row.iter().map(literal).collect::<Vec<_>>().join(", "));
        let tuples: Vec<String> = rows.iter().map(tuple).collect();
        format!("INSERT INTO {} VALUES {}", self.table.name, tuples.join(", "))
    }
}

impl Origin for TableOrigin {
    fn open(&self) -> Result<Box<dyn Source>> {
        open(&self.table.definition(), &self.table.fields)
    }

    fn add(&mut self, rows: &[Vec<Value>]) -> bool {
        if !rows.is_empty() {
            let insert = self.insert(rows);
            self.table.sql(&insert);
        }
        true
    }

    fn add_at(&mut self, number: i64, time: &str) -> bool {
        self.table.sql(&format!("INSERT INTO $t (id, ts) VALUES ({number}, '{time}')"));
        true
    }

    fn change(&mut self, form: Form, number: i64) -> bool {
        match form {
            Form::Fields => {
                let columns = "SELECT column_name::text || ' ' || data_type FROM information_schema.columns WHERE table_name = '$t'";
                let columns = self.table.client.texts(&columns.replace("$t", &self.table.name));
                if columns.contains(&"number bigint".to_string()) {
                    self.table.sql("ALTER TABLE $t RENAME COLUMN number TO id");
                }
                if columns.contains(&"id text".to_string()) {
                    self.table.sql("ALTER TABLE $t ALTER COLUMN id TYPE bigint USING id::bigint");
                }
                return true;
            }
            Form::Wider => self.table.sql("ALTER TABLE $t ADD COLUMN more int DEFAULT 7"),
            Form::KeyIsText => self.table.sql("ALTER TABLE $t ALTER COLUMN id TYPE text"),
            Form::KeyIsGone => self.table.sql("ALTER TABLE $t RENAME COLUMN id TO number"),
        }
        self.table.sql(&format!("INSERT INTO $t VALUES ({number}, '2024-01-15T12:00:00Z')"));
        true
    }

    fn hold(&mut self, rows: &[Vec<Value>]) -> bool {
        let mut late = Client::new();
        late.sql(&format!("BEGIN; {}", self.insert(rows)));
        self.late = Some(late);
        true
    }

    fn release(&mut self) {
        self.late.take().unwrap().sql("COMMIT");
    }

    fn refused(&self) -> Option<Refused> {
        let mut definition = self.table.definition();
        let other = "CARGO_PKG_VERSION";
        definition.settings.insert("password".to_string(), json!({"env": other}));
        let source = open(&definition, &self.table.fields).unwrap();
        let secrets = [PASSWORD_FROM, other].map(|variable| std::env::var(variable).unwrap());
        Some(Refused { source, says: "password authentication failed", secrets: secrets.into() })
    }
}

mod by_cursor {
    crate::source_conformance!(|rows: &[Vec<thyme_core::Value>]| super::TableOrigin::new(Some("ts"), rows));
}

mod by_primary_key {
    crate::source_conformance!(|rows: &[Vec<thyme_core::Value>]| super::TableOrigin::new(None, rows));
}
