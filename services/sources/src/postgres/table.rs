//! What the table is now: its columns against the dataset's fields, and the key that orders its rows.

use super::cursor::Origin;
use super::session::Session;
use super::settings::Settings;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use thyme_core::schema::{DataType, Field};
use thyme_core::{Error, Result, suggest};

const FIND: &str = "SELECT c.oid::int8::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind::text, \
    (SELECT system_identifier::text FROM pg_control_system()), current_database()::text \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relname = $1::text AND (n.nspname = $2::text OR ($2::text IS NULL AND pg_table_is_visible(c.oid)))";

/// Domains stand for their base types. Of an array also the type of its items.
const COLUMNS: &str = "SELECT a.attname::text, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), \
    CASE WHEN a.attnotnull THEN 'yes' ELSE 'no' END, format_type(b.oid, NULL), b.typcategory::text, \
    CASE WHEN b.typcategory = 'A' THEN format_type(i.oid, NULL) END, \
    CASE WHEN b.typcategory = 'A' THEN i.typcategory::text END \
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
    JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
    LEFT JOIN pg_type i ON i.oid = b.typelem \
    WHERE a.attrelid = $1::text::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const PRIMARY_KEY: &str = "SELECT a.attname::text FROM pg_index i \
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) \
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
    WHERE i.indrelid = $1::text::int8::oid AND i.indisprimary ORDER BY k.place";

pub struct Table {
    /// Quoted, with its schema.
    pub name: String,
    pub origin: Origin,
    /// One per field, in stored order.
    pub columns: Vec<Column>,
    /// Cursor, then the primary key.
    pub keys: Vec<Key>,
}

pub struct Column {
    /// SQL whose text [`super::values`] reads.
    pub expression: String,
    pub form: Form,
}

/// How the text of a value is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As the dataset's own text form.
    Plain,
    /// Digits, perhaps with zeros after a point.
    Whole,
    /// Hexadecimal.
    Hex,
    Json,
}

pub struct Key {
    /// Quoted.
    pub name: String,
    pub type_name: String,
}

struct Found {
    name: String,
    quoted: String,
    type_name: String,
    is_not_null: bool,
    base: Type,
    /// Of an array.
    item: Option<Type>,
}

/// As PostgreSQL names it, with its category.
struct Type {
    name: String,
    category: String,
}

impl Table {
    pub async fn describe(
        session: &mut Session,
        settings: &Settings,
        fields: &[Field],
        order_by: Option<&str>,
    ) -> Result<Table> {
        let (name, origin) = find(session, settings).await?;
        let oid = origin.table_id.clone();
        let rows = session.rows(COLUMNS, &[Some(&oid)]).await?;
        let found = rows.iter().map(|row| column(session, row)).collect::<Result<Vec<Found>>>()?;
        let rows = session.rows(PRIMARY_KEY, &[Some(&oid)]).await?;
        let texts = rows.iter().map(|row| text(session, row, 0));
        let primary_key = texts.collect::<Result<Vec<String>>>()?;
        if primary_key.is_empty() {
            return Err(Error::precondition(format!("table {name} has no primary key"))
                .hint("rows are told apart by it: add one, such as an identity column"));
        }
        let columns = fields.iter().map(|field| column_of(field, &found, &name)).collect::<Result<Vec<Column>>>()?;
        let keys = keys(&found, order_by, &primary_key, &name)?;
        Ok(Table { name, origin, columns, keys })
    }
}

async fn find(session: &mut Session, settings: &Settings) -> Result<(String, Origin)> {
    let rows = session.rows(FIND, &[Some(&settings.table), settings.schema.as_deref()]).await?;
    let Some(row) = rows.first() else {
        let schema = settings.schema.as_ref().map(|schema| format!(" in schema '{schema}'")).unwrap_or_default();
        return Err(Error::not_found(format!("no table '{}'{schema}", settings.table)).field("table").hint(
            "names are written as they are stored, mostly in lower case; name its schema if it has another one",
        ));
    };
    let (oid, name, kind) = (text(session, row, 0)?, text(session, row, 1)?, text(session, row, 2)?);
    if !matches!(kind.as_str(), "r" | "p") {
        return Err(Error::precondition(format!("{name} is not a table"))
            .field("table")
            .hint("a view does not tell which transaction wrote a row; read the table under it"));
    }
    let place = format!("{}/{}", settings.address(), text(session, row, 4)?);
    let origin = Origin { system: text(session, row, 3)?, place, table_id: oid, table: name.clone() };
    Ok((name, origin))
}

fn text(session: &Session, row: &PgRow, index: usize) -> Result<String> {
    row.try_get(index).map_err(|error| session.wrong(&error))
}

fn column(session: &Session, row: &PgRow) -> Result<Found> {
    let text = |index| text(session, row, index);
    let maybe = |index| row.try_get::<Option<String>, _>(index).map_err(|error| session.wrong(&error));
    let item = maybe(6)?.zip(maybe(7)?).map(|(name, category)| Type { name, category });
    Ok(Found {
        name: text(0)?,
        quoted: text(1)?,
        type_name: text(2)?,
        is_not_null: text(3)? == "yes",
        base: Type { name: text(4)?, category: text(5)? },
        item,
    })
}

fn column_of(field: &Field, found: &[Found], table: &str) -> Result<Column> {
    let Some(column) = found.iter().find(|column| column.name == field.name) else {
        let hint = suggest::hint(&field.name, found.iter().map(|column| column.name.as_str()));
        let message = format!("table {table} has no column '{}'", field.name);
        return Err(Error::precondition(message).field(&field.name).hint(hint));
    };
    let (expression, form) = read_as(column, &field.data_type).ok_or_else(|| {
        let (name, found, wanted) = (&column.name, &column.type_name, &field.data_type);
        Error::precondition(format!("column '{name}' of {table} is {found}, which is not read as {wanted}"))
            .field(&field.name)
            .hint("give the field the type of the column, or read a table that has it as wanted")
    })?;
    Ok(Column { expression, form })
}

/// SQL for a column of one of the types that a field takes, and how its text is read.
fn read_as(column: &Found, wanted: &DataType) -> Option<(String, Form)> {
    let name = format!("t.{}", column.quoted);
    match (wanted, &column.item) {
        (DataType::List(_) | DataType::Map(_), None) => {
            let is_json = matches!(column.base.name.as_str(), "json" | "jsonb");
            is_json.then(|| (format!("{name}::text"), Form::Json))
        }
        (DataType::List(item), Some(found)) => array_as(name, found, innermost(item)),
        (_, None) => scalar_as(name, &column.base, wanted),
        (_, Some(_)) => None,
    }
}

fn scalar_as(name: String, found: &Type, wanted: &DataType) -> Option<(String, Form)> {
    let base = found.name.as_str();
    let plain = format!("{name}::text");
    match (wanted, base) {
        (DataType::Bool, "boolean")
        | (DataType::Int, "smallint" | "integer" | "bigint")
        | (DataType::Float, "double precision" | "numeric" | "smallint" | "integer" | "bigint")
        | (DataType::Decimal, "numeric" | "smallint" | "integer" | "bigint")
        | (DataType::Str, "uuid" | "json" | "jsonb" | "numeric" | "xml")
        | (DataType::Time, "timestamp without time zone") => Some((plain, Form::Plain)),
        (DataType::Int, "numeric") => Some((plain, Form::Whole)),
        // A real is what it is as a double: not its shortest text.
        (DataType::Float, "real") => Some((format!("{name}::float8::text"), Form::Plain)),
        (DataType::Str, _) if is_text(found) => Some((plain, Form::Plain)),
        (DataType::Time, "timestamp with time zone") => {
            Some((format!("({name} AT TIME ZONE 'UTC')::text"), Form::Plain))
        }
        (DataType::Time, "date") => Some((format!("{name}::timestamp::text"), Form::Plain)),
        (DataType::Bytes, "bytea") => Some((format!("encode({name}, 'hex')"), Form::Hex)),
        _ => None,
    }
}

/// Arrays are read as JSON, as far as that says the same as the items' own texts.
fn array_as(name: String, found: &Type, wanted: &DataType) -> Option<(String, Form)> {
    let name = match (wanted, found.name.as_str()) {
        (DataType::Float, "real") => format!("{name}::float8[]"),
        // A number in JSON would be read as a float.
        (DataType::Decimal, "numeric" | "smallint" | "integer" | "bigint") => format!("{name}::text[]"),
        (DataType::Bool, "boolean")
        | (DataType::Int, "smallint" | "integer" | "bigint")
        | (DataType::Float, "double precision" | "numeric" | "smallint" | "integer" | "bigint")
        | (DataType::Str, "uuid")
        | (DataType::Time, "timestamp with time zone" | "timestamp without time zone" | "date") => name,
        (DataType::Str, _) if is_text(found) => name,
        _ => return None,
    };
    Some((format!("to_json({name})::text"), Form::Json))
}

/// Texts, enumerations and network addresses.
fn is_text(found: &Type) -> bool {
    matches!(found.category.as_str(), "S" | "E" | "I")
}

/// PostgreSQL's type of an array does not tell its dimensions.
fn innermost(item: &DataType) -> &DataType {
    match item {
        DataType::List(item) => innermost(item),
        item => item,
    }
}

/// The order of the rows. A null would hide its row, so no key column may be null.
fn keys(found: &[Found], order_by: Option<&str>, primary_key: &[String], table: &str) -> Result<Vec<Key>> {
    let rest = primary_key.iter().map(String::as_str).filter(|name| order_by != Some(*name));
    let mut keys = Vec::new();
    for name in order_by.into_iter().chain(rest) {
        let Some(column) = found.iter().find(|column| column.name == name) else {
            return Err(Error::precondition(format!("table {table} has no column '{name}'")).field("cursor"));
        };
        if !column.is_not_null {
            return Err(Error::precondition(format!("the cursor '{name}' of {table} may be null"))
                .field("cursor")
                .hint(format!(
                    "ALTER TABLE {table} ALTER COLUMN {} SET NOT NULL, or leave out cursor=",
                    column.quoted
                )));
        }
        keys.push(Key { name: format!("t.{}", column.quoted), type_name: column.type_name.clone() });
    }
    Ok(keys)
}
