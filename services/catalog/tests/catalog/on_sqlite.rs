//! The catalog in a SQLite file and in memory.

use crate::conformance::{T0, check_all, commit_of};
use thyme_catalog::*;

#[tokio::test]
async fn sqlite_file_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = SqlCatalog::sqlite(&directory.path().join("catalog.db")).await.unwrap();
    check_all(&catalog).await;
}

#[tokio::test]
async fn sqlite_in_memory_conforms() {
    check_all(&SqlCatalog::in_memory().await.unwrap()).await;
}

#[tokio::test]
async fn a_reopened_file_remembers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    let catalog = SqlCatalog::sqlite(&path).await.unwrap();
    catalog.begin_commit(commit_of("a", "h1"), false).await.unwrap();
    let ids = catalog.allocate_ids(&["log:A@1".to_string()]).await.unwrap();
    catalog.close().await;
    let catalog = SqlCatalog::sqlite(&path).await.unwrap();
    assert_eq!(catalog.building_commit().await.unwrap().unwrap().id, "a");
    assert_eq!(catalog.find_ids(&["log:A@1".to_string()]).await.unwrap(), ids);
}

#[tokio::test]
async fn another_schema_version_is_refused_with_both_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = sqlx::sqlite::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("PRAGMA user_version = 99").execute(&pool).await.unwrap();
    pool.close().await;
    let error = SqlCatalog::sqlite(&path).await.err().unwrap();
    assert_eq!(error.kind(), thyme_core::ErrorKind::FailedPrecondition);
    assert!(error.message().contains("99") && error.message().contains("1 to 2"), "{error}");
    let hint = error.hint_text().unwrap_or_default();
    assert!(hint.contains("run the version of thyme that wrote") && hint.contains("--data-dir"), "{error}");
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    std::fs::write(&path, "this is not a database, and long enough to have a header ".repeat(20)).unwrap();
    let error = SqlCatalog::sqlite(&path).await.err().unwrap();
    assert_eq!(error.kind(), thyme_core::ErrorKind::DataLoss, "{error}");
}

#[test]
fn new_ids_sort_by_time() {
    assert!(new_id(T0) < new_id(T0 + 1_000));
    assert_ne!(new_id(T0), new_id(T0));
}
