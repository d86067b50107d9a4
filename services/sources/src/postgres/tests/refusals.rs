//! What is wrong is said before a row is read, with what to do; no message has a password.

use super::*;
use crate::postgres::settings::Settings;
use sqlx::ConnectOptions as _;
use thyme_core::ErrorKind;

#[track_caller]
fn check(table: &Table, change: impl FnOnce(&mut SourceDef), kind: ErrorKind, says: &str) {
    let mut definition = table.definition();
    change(&mut definition);
    let error = open(&definition, &table.fields).and_then(|mut source| source.poll(None, 10)).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(says), "{text}");
    for variable in [PASSWORD_FROM, "CARGO_PKG_VERSION"] {
        assert!(!text.contains(&std::env::var(variable).unwrap()), "{text}");
    }
}

fn set(name: &'static str, value: serde_json::Value) -> impl FnOnce(&mut SourceDef) {
    move |definition| {
        definition.settings.insert(name.to_string(), value);
    }
}

#[test]
fn who_may_not_and_what_is_not_there() {
    let mut table = Table::of_events();
    check(&table, set("username", json!("nobody")), ErrorKind::FailedPrecondition, "nobody");
    let unset = json!({"env": "NO_SUCH_VARIABLE"});
    check(&table, set("password", unset), ErrorKind::FailedPrecondition, "NO_SUCH_VARIABLE of 'password' is not set");
    check(&table, set("database", json!("tyme")), ErrorKind::NotFound, "\"tyme\" does not exist");
    check(&table, set("table", json!("ordesr")), ErrorKind::NotFound, "no table 'ordesr'");
    check(&table, set("schema", json!("other")), ErrorKind::NotFound, "in schema 'other'");
    check(&table, set("port", json!(1)), ErrorKind::Unavailable, "cannot reach PostgreSQL at 127.0.0.1:1");
    table.sql("REVOKE SELECT ON $t FROM reader");
    check(&table, |_| {}, ErrorKind::FailedPrecondition, "permission denied");
}

#[test]
fn the_password_of_the_environment_goes_where_the_environment_says() {
    let password = |settings: serde_json::Value| {
        let definition = json!({"kind": "postgres", "settings": settings, "cdc": "append"});
        let settings = Settings::of(&serde_json::from_value(definition).unwrap()).unwrap();
        let environment = PgConnectOptions::new_without_pgpass().host("db").port(5433).password("hunter2");
        let url = settings.options_over(environment).unwrap().to_url_lossy();
        url.password().unwrap_or_default().replace("%2D", "-")
    };
    for own in [json!({}), json!({"host": "db"}), json!({"port": 5433}), json!({"host": "db", "port": 5433})] {
        let mut own = own;
        own["table"] = json!("t");
        assert_eq!(password(own.clone()), "hunter2", "{own}");
    }
    for other in [json!({"host": "dc"}), json!({"port": 5432}), json!({"host": "db.example.com", "port": 5433})] {
        let mut other = other;
        other["table"] = json!("t");
        assert_eq!(password(other.clone()), "", "{other}");
        other["password"] = json!({"env": PASSWORD_FROM});
        assert_eq!(password(other.clone()), std::env::var(PASSWORD_FROM).unwrap(), "{other}");
    }
}

#[test]
fn settings_are_checked_before_anything_is_opened() {
    let table = Table::of_events();
    let written = json!("thyme-sources");
    check(&table, set("password", written), ErrorKind::InvalidDefinition, "a secret is not written into a definition");
    for own in ["PGPASSWORD", "THYME_CATALOG__URL", "AWS_SECRET_ACCESS_KEY"] {
        let says = format!("'password' names {own}, which holds a secret of the server's own");
        check(&table, set("password", json!({"env": own})), ErrorKind::InvalidDefinition, &says);
    }
    let two = json!({"env": "A", "value": "thyme-sources"});
    check(&table, set("password", two), ErrorKind::InvalidDefinition, "a secret is not written into a definition");
    check(&table, set("port", json!(0)), ErrorKind::InvalidDefinition, "a port from 1 to 65535, got 0");
    check(&table, set("sslmode", json!("requir")), ErrorKind::InvalidDefinition, "unknown sslmode 'requir'");
    check(&table, set("table", json!("")), ErrorKind::InvalidDefinition, "needs a table");
    check(&table, set("sslmode", json!("require")), ErrorKind::FailedPrecondition, "TLS");
}

#[test]
fn a_table_that_cannot_be_followed() {
    let fields: Vec<Field> = conformance::fields().into_iter().take(2).collect();
    let mut table = Table::new("id bigint, ts timestamptz", fields, Some("ts"));
    check(&table, |_| {}, ErrorKind::FailedPrecondition, "has no primary key");
    table.sql("ALTER TABLE $t ADD PRIMARY KEY (id)");
    check(&table, |_| {}, ErrorKind::FailedPrecondition, "may be null");
    table.sql("CREATE VIEW $t_view AS SELECT * FROM $t");
    let view = json!(format!("{}_view", table.name));
    check(&table, set("table", view), ErrorKind::FailedPrecondition, "is not a table");
    table.cursor = None;
    assert_eq!(table.poll(None, 10).unwrap().rows, []);
}

#[test]
fn a_cursor_of_a_database_that_counted_further_is_refused() {
    let table = Table::of_events();
    check_cursor(&table, "it was restored, or is another one", |cursor| cursor["from"] = json!(4_000_000_000_000_u64));
    check_cursor(&table, "the primary key or the cursor of the table has changed", |cursor| {
        cursor["to"] = cursor["from"].clone();
        cursor["after"] = json!(["a", "b", "c"]);
    });
}

/// A saved cursor with a change is refused, and the way out is told.
#[track_caller]
fn check_cursor(table: &Table, says: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let saved = table.poll(None, 10).unwrap().cursor;
    let mut cursor: serde_json::Value = serde_json::from_slice(&saved).unwrap();
    change(&mut cursor);
    let error = table.source().poll(Some(cursor.to_string().as_bytes()), 10).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{text}");
    assert!(text.contains(says) && text.contains("thyme sources reset"), "{text}");
}

#[test]
fn another_table_or_cluster_is_refused_one_that_moved_is_not() {
    let mut table = Table::of_events();
    table.sql("INSERT INTO $t VALUES (1, '2024-01-15T12:00:00Z')");
    check_cursor(&table, "the source was reading public.other of", |cursor| {
        (cursor["origin"]["table"], cursor["origin"]["table_id"]) = (json!("public.other"), json!("1"));
    });
    check_cursor(&table, "of db.example.com:5432/shop, and this is", |cursor| {
        (cursor["origin"]["place"], cursor["origin"]["system"]) = (json!("db.example.com:5432/shop"), json!("1"));
    });
    let saved = table.poll(None, 10).unwrap().cursor;
    let origin: serde_json::Value = serde_json::from_slice(&saved).unwrap();
    for (was, is) in
        [("place", "old.example.com:5432/thyme"), ("system", "1"), ("table", "public.old"), ("table_id", "1")]
    {
        let mut moved = origin.clone();
        moved["origin"][was] = json!(is);
        let poll = table.source().poll(Some(moved.to_string().as_bytes()), 10).unwrap();
        assert_eq!(ids(&poll), [0; 0], "{was}");
    }
}
