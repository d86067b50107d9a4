//! Query runs and a real PostgreSQL server that goes away.

use super::*;
use std::collections::BTreeSet;
use thyme_broker::Postgres;
use thyme_catalog::{PostgresSettings, RunFilter, SqlCatalog};
use thyme_core::position::PositionSet;
use thyme_query::RunKind;

fn run_of(number: usize) -> RunRecord {
    RunRecord {
        id: format!("run-{number}").into(),
        featureset: "F".into(),
        kind: RunKind::Online,
        entity_ids: vec![serde_json::json!("u1")],
        requested_timestamp: None,
        ts: 0,
        exclusive: false,
        row_count: 1,
        hit_count: 1,
        latency_us: 10,
        api_key_fingerprint: None,
        commit_id: "c".into(),
        watermark: None,
        position: PositionSet::default(),
        error: None,
        created_at: 1_700_000_000_000_000,
    }
}

async fn catalog_of(server: &Postgres) -> Arc<SqlCatalog> {
    let settings = PostgresSettings::parse(&server.url("thyme")).unwrap();
    Arc::new(SqlCatalog::postgres(&settings).await.unwrap())
}

/// The ids of all recorded runs; none is there twice.
async fn recorded(catalog: &SqlCatalog) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut filter = RunFilter { limit: 1_000, ..RunFilter::default() };
    loop {
        let page = catalog.runs(&filter).await.unwrap();
        for run in page.runs {
            assert!(seen.insert(run.id.clone()), "{} was recorded twice", run.id);
        }
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            return seen;
        }
    }
}

async fn flushed(log: &RunLog) {
    for _ in 0..600 {
        if log.flush().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    log.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_wait_for_a_catalog_that_is_away_and_are_recorded_once() {
    let server = Postgres::start().unwrap();
    let catalog = catalog_of(&server).await;
    let (log, writer) = RunLog::start(catalog.clone(), 100_000);
    let mut count = 0;
    let mut record = |more: usize| {
        (count..count + more).for_each(|number| log.record(&run_of(number)));
        count += more;
    };
    record(300);
    log.flush().await.unwrap();
    for _ in 0..2 {
        server.kill().unwrap();
        record(700);
        assert_eq!(log.flush().await.unwrap_err().kind(), ErrorKind::Unavailable);
        record(700);
        server.restart().unwrap();
        record(50);
        flushed(&log).await;
    }
    // Connections that are ended in the middle: some writes are made whose answer is lost.
    for _ in 0..60 {
        record(25);
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'thyme'").unwrap();
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    flushed(&log).await;
    let seen = recorded(&catalog).await;
    assert_eq!(seen.len(), count);
    drop(log);
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded_and_a_stop_does_not_wait_for_the_catalog() {
    let server = Postgres::start().unwrap();
    let catalog = catalog_of(&server).await;
    let (log, writer) = RunLog::start(catalog.clone(), 1_000_000);
    server.kill().unwrap();
    (0..MAX_WAITING + 5_000).for_each(|number| log.record(&run_of(number)));
    assert!(log.flush().await.is_err());
    (0..5_000).for_each(|number| log.record(&run_of(MAX_WAITING + 5_000 + number)));
    server.restart().unwrap();
    flushed(&log).await;
    let seen = recorded(&catalog).await;
    assert_eq!(seen.len(), MAX_WAITING, "the oldest have the room");
    assert!((0..MAX_WAITING).all(|number| seen.contains(&format!("run-{number}"))));
    server.kill().unwrap();
    log.record(&run_of(1));
    drop(log);
    tokio::time::timeout(Duration::from_secs(30), writer).await.unwrap().unwrap();
}
