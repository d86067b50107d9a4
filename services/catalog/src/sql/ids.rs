//! Small ids of logs and tables, and the feature ids that were ever published.

use crate::database::{Database, Session, Writer, args};
use crate::model::PublishedFeature;
use std::collections::BTreeMap;
use thyme_core::{Error, Result};

pub(super) async fn allocate(database: &Database, identities: &[String]) -> Result<BTreeMap<String, u32>> {
    let mut transaction = database.write(Writer::Ids).await?;
    let mut found = BTreeMap::new();
    for identity in identities {
        let id = match id_of(&mut transaction, identity).await? {
            Some(id) => id,
            None => {
                // Neither database hands out a number again, not even after its row was deleted.
                transaction.execute("INSERT INTO ids (identity) VALUES ($1)", &args![identity]).await?;
                let id = id_of(&mut transaction, identity).await?;
                id.ok_or_else(|| Error::internal(format!("catalog: '{identity}' got no id")))?
            }
        };
        found.insert(identity.clone(), id);
    }
    transaction.commit().await?;
    Ok(found)
}

async fn id_of(session: &mut Session, identity: &str) -> Result<Option<u32>> {
    let row = session.row("SELECT id FROM ids WHERE identity = $1", &args![identity]).await?;
    row.map(|row| small(row.number("id")?)).transpose()
}

pub(super) async fn find(database: &Database, identities: &[String]) -> Result<BTreeMap<String, u32>> {
    let mut session = database.plain().await?;
    let mut found = BTreeMap::new();
    for identity in identities {
        if let Some(id) = id_of(&mut session, identity).await? {
            found.insert(identity.clone(), id);
        }
    }
    Ok(found)
}

pub(super) async fn retire(database: &Database, identities: &[String]) -> Result<()> {
    let mut transaction = database.write(Writer::Ids).await?;
    for identity in identities {
        transaction.execute("DELETE FROM ids WHERE identity = $1", &args![identity]).await?;
    }
    transaction.commit().await
}

pub(super) async fn published(database: &Database) -> Result<Vec<PublishedFeature>> {
    let sql = "SELECT featureset, id, name FROM published_features";
    let mut features = Vec::new();
    for row in database.plain().await?.rows(sql, &[]).await? {
        let (featureset, name) = (row.text("featureset")?, row.text("name")?);
        features.push(PublishedFeature { featureset, id: small(row.number("id")?)?, name });
    }
    // Here and not in SQL: databases differ in how they order text.
    features.sort();
    Ok(features)
}

fn small(id: i64) -> Result<u32> {
    u32::try_from(id).map_err(|_| Error::data_loss(format!("the catalog holds id {id}, which is out of range")))
}
