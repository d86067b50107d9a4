//! The catalog on a real PostgreSQL server: conformance, two servers at once, faults, and what is refused.

use crate::conformance::{T0, check_all, commit_of, run_of};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Connection as _, Executor as _};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;
use thyme_broker::Postgres;
use thyme_catalog::*;
use thyme_core::{ErrorKind, Result};

/// One server for the tests that do it no harm. It ends with this process.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

/// As the superuser.
async fn run_sql(server: &Postgres, database: &str, sql: &str) {
    let mut connection = PgConnection::connect(&server.url(database)).await.unwrap();
    connection.execute(sqlx::raw_sql(sql)).await.unwrap();
    connection.close().await.unwrap();
}

async fn open(url: &str) -> Result<SqlCatalog> {
    SqlCatalog::postgres(&PostgresSettings::parse(url)?).await
}

/// The address of a new database.
async fn new_database(name: &str) -> String {
    run_sql(&SERVER, "postgres", &format!("CREATE DATABASE {name}")).await;
    SERVER.url(name)
}

async fn refused(url: &str, kind: ErrorKind, parts: &[&str]) {
    let error = open(url).await.err().unwrap();
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.field_name(), Some("catalog.url"), "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "'{part}' is missing in: {error}");
    }
    assert!(error.hint_text().is_some() && !error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn it_conforms() {
    let catalog = open(&new_database("conforms").await).await.unwrap();
    check_all(&catalog).await;
    catalog.close().await;
}

#[tokio::test]
async fn what_was_written_is_there_when_it_is_opened_again() {
    let url = new_database("again").await;
    let catalog = open(&url).await.unwrap();
    let identity = catalog.identity().unwrap().to_string();
    catalog.begin_commit(commit_of("a", "h1"), false).await.unwrap();
    let ids = catalog.allocate_ids(&["log:A@1".to_string()]).await.unwrap();
    catalog.close().await;
    let catalog = open(&url).await.unwrap();
    assert_eq!(catalog.identity(), Some(identity.as_str()));
    assert_eq!(catalog.building_commit().await.unwrap().unwrap().id, "a");
    assert_eq!(catalog.find_ids(&["log:A@1".to_string()]).await.unwrap(), ids);
    let other = open(&new_database("other").await).await.unwrap();
    assert_ne!(other.identity(), Some(identity.as_str()));
}

#[tokio::test]
async fn schemas_of_one_database_are_catalogs_of_their_own() {
    let url = new_database("schemas").await;
    run_sql(&SERVER, "schemas", "CREATE SCHEMA one; CREATE SCHEMA two").await;
    for schema in ["one", "two"] {
        let catalog = open(&format!("{url}?options=-csearch_path%3D{schema}")).await.unwrap();
        check_all(&catalog).await;
    }
}

/// Several servers open a new catalog at the same moment and then write to it at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn servers_that_write_at_once_do_not_harm_it() {
    let url = new_database("at_once").await;
    let opened = futures::future::join_all((0..6).map(|_| open(&url))).await;
    let catalogs: Vec<SqlCatalog> = opened.into_iter().map(|opened| opened.unwrap()).collect();

    let names = |server: usize| -> Vec<String> {
        (0..20)
            .map(
                |number| {
                    if number < 10 { format!("log:Shared{number}@1") } else { format!("log:Of{server}x{number}@1") }
                },
            )
            .collect()
    };
    let allocated = futures::future::join_all(
        catalogs
            .iter()
            .enumerate()
            .map(|(server, catalog)| async move { catalog.allocate_ids(&names(server)).await.unwrap() }),
    )
    .await;
    let all: BTreeSet<(String, u32)> = allocated.into_iter().flatten().collect();
    let ids: BTreeSet<u32> = all.iter().map(|(_, id)| *id).collect();
    assert_eq!((all.len(), ids.len()), (10 + 6 * 10, 10 + 6 * 10), "one id for each identity: {all:?}");

    // Of commits begun at once one is being built, and the others are told which.
    for round in 0..5 {
        let begun = futures::future::join_all(catalogs.iter().enumerate().map(|(server, catalog)| async move {
            catalog.begin_commit(commit_of(&format!("c{round}x{server}"), "h"), false).await
        }))
        .await;
        let building = catalogs[0].building_commit().await.unwrap().unwrap();
        for (server, begun) in begun.iter().enumerate() {
            match begun {
                Ok(()) => assert_eq!(building.id, format!("c{round}x{server}")),
                Err(error) => assert!(error.message().contains(&building.id), "{error}"),
            }
        }
        assert_eq!(begun.iter().filter(|begun| begun.is_ok()).count(), 1);
        // And all may try the takeover: it is one.
        let published = [PublishedFeature { featureset: "F".to_string(), id: round, name: building.id.clone() }];
        let activations = catalogs.iter().map(|catalog| catalog.activate_commit(&building.id, T0, &published));
        for activated in futures::future::join_all(activations).await {
            activated.unwrap();
        }
        assert_eq!(catalogs[1].live_commit().await.unwrap().unwrap().id, building.id);
    }
    let commits = catalogs[0].commits(100, None).await.unwrap();
    assert_eq!(commits.len(), 5);
    assert_eq!(commits.iter().filter(|commit| commit.status == CommitStatus::Live).count(), 1);
    assert_eq!(catalogs[0].published_features().await.unwrap().len(), 5);

    let runs = |server: u64, batch: u64| -> Vec<QueryRun> {
        (0..30).map(|number| run_of(server * 10_000 + batch * 100 + number, "A", "online")).collect()
    };
    futures::future::join_all(catalogs.iter().zip(0..).map(|(catalog, server)| async move {
        for batch in 0..10 {
            catalog.add_runs(&RunPages::of(&runs(server, batch)).unwrap(), 10_000).await.unwrap();
        }
    }))
    .await;
    let mut seen = BTreeSet::new();
    let mut filter = RunFilter { limit: 1_000, ..RunFilter::default() };
    loop {
        let page = catalogs[2].runs(&filter).await.unwrap();
        seen.extend(page.runs.into_iter().map(|run| run.id));
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 6 * 10 * 30);
}

#[tokio::test]
async fn a_catalog_of_another_version_is_refused_with_both_named() {
    let url = new_database("newer").await;
    open(&url).await.unwrap().close().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (7, 'later', true, '', 0), (8, 'still later', true, '', 0)";
    run_sql(&SERVER, "newer", newer).await;
    refused(&url, ErrorKind::FailedPrecondition, &["version 8", "1 to 1", "run the version of thyme that wrote it"])
        .await;
    run_sql(&SERVER, "newer", "DELETE FROM _sqlx_migrations WHERE version > 1").await;
    open(&url).await.unwrap().close().await;
    run_sql(&SERVER, "newer", "UPDATE _sqlx_migrations SET checksum = 'x'").await;
    refused(&url, ErrorKind::FailedPrecondition, &["version 1", "another program", "search_path"]).await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_the_fix() {
    let url = new_database("refusals").await;
    let address = &SERVER.address;
    let wrong = format!("postgres://postgres:secret2@{address}/refusals");
    refused(&wrong, ErrorKind::Unavailable, &["password authentication failed", address, "correct the password"]).await;
    let nobody = format!("postgres://nobody:secret@{address}/refusals");
    refused(&nobody, ErrorKind::Unavailable, &["nobody", "correct the password"]).await;
    refused(&SERVER.url("missing"), ErrorKind::Unavailable, &["\"missing\" does not exist", "create the database"])
        .await;
    let tls = format!("{url}?sslmode=require");
    refused(&tls, ErrorKind::Unavailable, &["TLS", "sslmode"]).await;
    let schema = format!("{url}?options=-csearch_path%3Dnowhere");
    refused(&schema, ErrorKind::Unavailable, &["schema", "search_path"]).await;
    let nowhere = "postgres://postgres:secret@127.0.0.1:1/refusals";
    refused(nowhere, ErrorKind::Unavailable, &["127.0.0.1:1", "refused", "PostgreSQL runs there"]).await;
    let host = "postgres://postgres:secret@no-such-host.invalid/refusals";
    refused(host, ErrorKind::Unavailable, &["no-such-host.invalid", "PostgreSQL runs there"]).await;
    run_sql(&SERVER, "postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0").await;
    refused(&SERVER.url("latin"), ErrorKind::FailedPrecondition, &["LATIN1", "ENCODING 'UTF8'"]).await;

    run_sql(&SERVER, "refusals", "CREATE ROLE guest LOGIN PASSWORD 'secret'").await;
    let guest = format!("postgres://guest:secret@{address}/refusals");
    refused(&guest, ErrorKind::Unavailable, &["permission denied for schema public", "GRANT CREATE"]).await;
    run_sql(&SERVER, "refusals", "GRANT CREATE, USAGE ON SCHEMA public TO guest").await;
    open(&guest).await.unwrap().close().await;
}

#[tokio::test]
async fn while_the_server_is_away_callers_are_told_and_afterwards_all_goes_on() {
    let server = Postgres::start().unwrap();
    let catalog = open(&server.url("thyme")).await.unwrap();
    catalog.begin_commit(commit_of("a", "h1"), false).await.unwrap();
    let runs = RunPages::of(&[run_of(1, "A", "online")]).unwrap();

    for round in 0..2 {
        if round == 0 {
            server.kill().unwrap()
        } else {
            server.pause().unwrap()
        }
        let began = std::time::Instant::now();
        let (read, commit, written) = futures::join!(
            catalog.live_commit(),
            catalog.begin_commit(commit_of("b", "h2"), true),
            catalog.add_runs(&runs, 100),
        );
        for error in [read.unwrap_err(), commit.unwrap_err(), written.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.message().contains(&server.address) && error.hint_text().is_some(), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(60), "nobody waits for long");
        if round == 0 {
            server.restart().unwrap()
        } else {
            server.resume().unwrap()
        }
        let mut tries = 0;
        while let Err(error) = catalog.add_runs(&runs, 100).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            tries += 1;
            assert!(tries < 100, "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert!(catalog.building_commit().await.unwrap().is_some());
}

/// Connections that the server ends one by one, as a failover or an operator does, while others write.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_answered_is_there_however_connections_end() {
    let url = new_database("ended").await;
    let catalog = open(&url).await.unwrap();
    let operator = PgPool::connect(&SERVER.url("postgres")).await.unwrap();
    let ended = async {
        for _ in 0..40 {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'ended'";
            sqlx::query(end).execute(&operator).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let written = async {
        let mut answered = Vec::new();
        for number in 0..200 {
            let name = format!("log:N{number}@1");
            match catalog.allocate_ids(std::slice::from_ref(&name)).await {
                Ok(ids) => answered.push((name.clone(), ids[&name])),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
        }
        answered
    };
    let ((), answered) = futures::join!(ended, written);
    assert!(!answered.is_empty());
    let names: Vec<String> = answered.iter().map(|(name, _)| name.clone()).collect();
    let found = catalog.find_ids(&names).await.unwrap();
    assert!(answered.iter().all(|(name, id)| found[name] == *id));
    let distinct: BTreeSet<u32> = found.values().copied().collect();
    assert_eq!(distinct.len(), found.len());
}
