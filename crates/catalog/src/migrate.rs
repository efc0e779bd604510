//! The schema's versions. Forward only: a change of the schema is a new file in `migrations/`,
//! never an edit of one that was released.

use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::pool::{Catalog, transact};

/// Every migration in order; version n is the n-th.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_catalog.sql"),
    include_str!("../migrations/0002_vault_care.sql"),
    include_str!("../migrations/0003_unsettled_vaults.sql"),
    include_str!("../migrations/0004_retention.sql"),
    include_str!("../migrations/0005_users.sql"),
    include_str!("../migrations/0006_absence.sql"),
    include_str!("../migrations/0007_restore_testing.sql"),
    include_str!("../migrations/0008_backup_testing.sql"),
];

/// Newest version known here.
fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Brings the schema up to date in one transaction (both databases roll schema changes back).
/// Servers that start at the same time do it one after the other.
pub(crate) async fn run(catalog: &Catalog) -> Result<()> {
    transact!(catalog, |tx| {
        // PostgreSQL reports two sessions that create the same table in several ways; the lock
        // on a row is not there yet. Whoever comes second is told to try again.
        sqlx::raw_sql(
            "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT PRIMARY KEY NOT NULL)",
        )
        .execute(&mut *tx)
        .await
        .map_err(contended)?;
        let found = version(tx).await?;
        if found > known() {
            return Err(CatalogError::Newer { found, known: known() });
        }
        for (version, sql) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
            // First the number: of two servers one waits here for the other.
            sqlx::query("INSERT INTO schema_versions (version) VALUES ($1)")
                .bind(version)
                .execute(&mut *tx)
                .await?;
            sqlx::raw_sql(*sql).execute(&mut *tx).await?;
        }
        Ok(())
    })
}

async fn version(tx: &mut AnyConnection) -> Result<i64> {
    let row = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM schema_versions")
        .fetch_one(tx)
        .await?;
    Ok(row.try_get("version")?)
}

/// Duplicate table (42P07) and duplicate object (42710) are contention here and nowhere else.
fn contended(error: sqlx::Error) -> CatalogError {
    let code = error.as_database_error().and_then(|e| e.code().map(String::from));
    match code.as_deref() {
        Some("42P07" | "42710") => CatalogError::conflict("the schema"),
        _ => error.into(),
    }
}
