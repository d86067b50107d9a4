//! A copy of the catalog for a checkpoint: without query runs, which are many and of which nothing depends.

use super::from_sqlx;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{Executor as _, query};
use std::path::Path;
use thyme_core::{Error, Result};

pub(crate) async fn copy_to(main: &SqlitePool, file: &Path) -> Result<()> {
    let failed = |error: sqlx::Error| from_sqlx(error).context(format!("copying the catalog to {}", file.display()));
    let name = file.to_str().ok_or_else(|| Error::invalid(format!("not a name for a file: {}", file.display())))?;
    query("VACUUM INTO ?").bind(name).execute(main).await.map_err(failed)?;
    let options = SqliteConnectOptions::new().filename(file);
    let copy: SqlitePool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(failed)?;
    let emptied = async {
        copy.execute("DELETE FROM run_pages").await?;
        copy.execute("VACUUM").await
    };
    let emptied = emptied.await;
    copy.close().await;
    emptied.map(|_| ()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use crate::{Catalog as _, NewRun, RunFilter, RunPages, SqlCatalog};

    #[tokio::test]
    async fn a_copy_opens_with_all_but_the_runs() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = SqlCatalog::sqlite(&directory.path().join("catalog.db")).await.unwrap();
        let ids = catalog.allocate_ids(&["log:A@1".to_string(), "log:B@1".to_string()]).await.unwrap();
        catalog.retire_ids(&["log:B@1".to_string()]).await.unwrap();
        catalog.save_cursor("A", "here", 5).await.unwrap();
        let mut runs = RunPages::default();
        let run = NewRun {
            id: "r1",
            featureset: "F",
            entity_ids: &[serde_json::json!("ann")],
            requested_timestamp: None,
            kind: "online",
            row_count: 1,
            hit_count: 1,
            latency_us: 1,
            api_key_fingerprint: None,
            commit_id: "c",
            watermark: None,
            error: None,
            created_at: 7,
        };
        runs.push(&run).unwrap();
        catalog.add_runs(&runs, 10).await.unwrap();
        let file = directory.path().join("copy.db");
        assert!(catalog.copy_to(&file).await.unwrap());
        assert!(catalog.copy_to(&file).await.is_err(), "nothing is written over");

        let copy = SqlCatalog::sqlite(&file).await.unwrap();
        assert_eq!(copy.cursor("A").await.unwrap().as_deref(), Some("here"));
        assert!(copy.runs(&RunFilter::default()).await.unwrap().runs.is_empty());
        assert_eq!(catalog.runs(&RunFilter::default()).await.unwrap().runs.len(), 1);
        let again = copy.allocate_ids(&["log:A@1".to_string(), "log:C@1".to_string()]).await.unwrap();
        assert_eq!(again["log:A@1"], ids["log:A@1"]);
        assert!(again["log:C@1"] > ids["log:B@1"], "an id that was retired is not given out again");
    }
}
