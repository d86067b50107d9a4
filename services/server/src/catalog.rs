//! Opens the catalog, and refuses a data directory of another: the state in it goes by ids that its catalog gave out.

use crate::config::CatalogConfig;
use crate::data_dir::DataDir;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use thyme_catalog::SqlCatalog;
use thyme_core::{Error, Result};

pub async fn open(config: &CatalogConfig, data_dir: &DataDir) -> Result<SqlCatalog> {
    let known = Belonging::of(data_dir)?;
    match config {
        CatalogConfig::Sqlite => match known {
            Some(other) => Err(foreign(data_dir, &other.place)),
            None => SqlCatalog::sqlite(&data_dir.catalog()).await,
        },
        CatalogConfig::Postgres(settings) => {
            let place = settings.place();
            tracing::info!(catalog = place, "connecting to PostgreSQL");
            let catalog = SqlCatalog::postgres(settings).await?;
            let identity = catalog.identity().unwrap_or_default();
            match known {
                Some(known) if known.identity == identity => {}
                Some(other) => return Err(foreign(data_dir, &other.place)),
                None if data_dir.catalog().exists() => return Err(foreign(data_dir, "sqlite:")),
                None => Belonging { identity: identity.to_string(), place: place.to_string() }.note(data_dir)?,
            }
            Ok(catalog)
        }
    }
}

fn foreign(data_dir: &DataDir, place: &str) -> Error {
    Error::precondition(format!(
        "the data directory {} was made with another catalog, {place}",
        data_dir.root().display()
    ))
    .field("catalog.url")
    .hint("set catalog.url back to it, or choose another directory with --data-dir")
}

/// The file that says to which PostgreSQL catalog a data directory belongs. With SQLite the catalog lies in it.
struct Belonging {
    identity: String,
    /// As it was when the directory was new; it may have moved since.
    place: String,
}

impl Belonging {
    fn file(data_dir: &DataDir) -> PathBuf {
        data_dir.root().join("CATALOG")
    }

    fn of(data_dir: &DataDir) -> Result<Option<Belonging>> {
        let path = Self::file(data_dir);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&path, &error)),
        };
        match text.trim().split_once(' ') {
            Some((identity, place)) => Ok(Some(Belonging { identity: identity.to_string(), place: place.to_string() })),
            None => Err(Error::data_loss(format!("{} does not say which catalog it means", path.display()))),
        }
    }

    fn note(&self, data_dir: &DataDir) -> Result<()> {
        let path = Self::file(data_dir);
        let fresh = path.with_extension("new");
        let written = std::fs::write(&fresh, format!("{} {}\n", self.identity, self.place));
        written.and_then(|()| std::fs::rename(&fresh, &path)).map_err(|error| unusable(&path, &error))
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Error {
    Error::precondition(format!("cannot use {}: {error}", path.display()))
        .hint("make the data directory usable for this user, or choose another with --data-dir")
}
