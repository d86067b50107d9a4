//! Small ids of logs and tables, and the feature ids that were ever published.

use super::{SqliteCatalog, from_sqlx};
use crate::model::PublishedFeature;
use sqlx::Row;
use std::collections::BTreeMap;
use thyme_core::{Error, Result};

pub(super) async fn allocate(catalog: &SqliteCatalog, identities: &[String]) -> Result<BTreeMap<String, u32>> {
    let mut transaction = catalog.write().await?;
    let mut found = BTreeMap::new();
    for identity in identities {
        // AUTOINCREMENT never hands out a number again, not even after its row was deleted.
        sqlx::query("INSERT INTO ids (identity) VALUES (?) ON CONFLICT (identity) DO NOTHING")
            .bind(identity)
            .execute(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
        let id: i64 = sqlx::query_scalar("SELECT id FROM ids WHERE identity = ?")
            .bind(identity)
            .fetch_one(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
        found.insert(identity.clone(), small(id)?);
    }
    transaction.commit().await.map_err(from_sqlx)?;
    Ok(found)
}

pub(super) async fn find(catalog: &SqliteCatalog, identities: &[String]) -> Result<BTreeMap<String, u32>> {
    let mut found = BTreeMap::new();
    for identity in identities {
        let id: Option<i64> = sqlx::query_scalar("SELECT id FROM ids WHERE identity = ?")
            .bind(identity)
            .fetch_optional(&catalog.main)
            .await
            .map_err(from_sqlx)?;
        if let Some(id) = id {
            found.insert(identity.clone(), small(id)?);
        }
    }
    Ok(found)
}

pub(super) async fn retire(catalog: &SqliteCatalog, identities: &[String]) -> Result<()> {
    let mut transaction = catalog.write().await?;
    for identity in identities {
        sqlx::query("DELETE FROM ids WHERE identity = ?")
            .bind(identity)
            .execute(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
    }
    transaction.commit().await.map_err(from_sqlx)
}

pub(super) async fn published(catalog: &SqliteCatalog) -> Result<Vec<PublishedFeature>> {
    let rows = sqlx::query("SELECT featureset, id, name FROM published_features ORDER BY featureset, id")
        .fetch_all(&catalog.main)
        .await
        .map_err(from_sqlx)?;
    let mut features = Vec::with_capacity(rows.len());
    for row in rows {
        features.push(PublishedFeature {
            featureset: row.try_get("featureset").map_err(from_sqlx)?,
            id: small(row.try_get("id").map_err(from_sqlx)?)?,
            name: row.try_get("name").map_err(from_sqlx)?,
        });
    }
    Ok(features)
}

fn small(id: i64) -> Result<u32> {
    u32::try_from(id).map_err(|_| Error::data_loss(format!("the catalog holds id {id}, which is out of range")))
}
