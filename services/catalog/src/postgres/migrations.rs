//! The tables, as steps that sqlx takes under an advisory lock of the database: two servers that start at once take each once.

use super::errors::from_sqlx;
use sqlx::PgConnection;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use thyme_core::{Error, Result};

/// Step n makes version n. A step that was released never changes: sqlx keeps and compares its checksum.
const STEPS: &[(&str, &str)] = &[("catalog", include_str!("../../migrations/postgres/0001_catalog.sql"))];

pub(super) async fn run(connection: &mut PgConnection, place: &str) -> Result<()> {
    let steps = STEPS.iter().zip(1..).map(|((name, sql), version)| {
        Migration::new(version, (*name).into(), MigrationType::Simple, (*sql).into(), false)
    });
    let migrator = Migrator { migrations: steps.collect::<Vec<_>>().into(), ..Migrator::DEFAULT };
    let choose_another = "or choose another database with catalog.url";
    match migrator.run_direct(connection).await {
        Ok(()) => Ok(()),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(from_sqlx(place, error)),
        Err(MigrateError::VersionMissing(_)) => {
            let found: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
                .fetch_one(connection)
                .await
                .map_err(|error| from_sqlx(place, error))?;
            let known = STEPS.len();
            let message = format!("{place} has schema version {found}, this build knows 1 to {known}");
            Err(Error::precondition(message).hint(format!("run the version of thyme that wrote it, {choose_another}")))
        }
        Err(MigrateError::VersionMismatch(version)) => {
            let message = format!("schema version {version} of {place} was made by another program");
            Err(Error::precondition(message)
                .hint(format!("give thyme a schema of its own (options=-csearch_path=…), {choose_another}")))
        }
        Err(other) => Err(Error::internal(format!("the tables of {place} could not be made: {other}"))),
    }
}
