//! The schema's versions. Forward only: a change of the schema is a new file in `migrations/`,
//! never an edit of one that was released.
//!
//! A catalog in a file is copied before it is changed, so that the older program can be gone back to.
//! All changes are one transaction: one that fails leaves the catalog as it was.

use std::path::Path;

use sqlx::{AnyConnection, Row};

use crate::before::{self, CopyBefore};
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
    include_str!("../migrations/0009_time.sql"),
    include_str!("../migrations/0010_trail_and_outbox.sql"),
];

/// The setting that tells which program brought the schema to its version.
const PROGRAM: &str = "program-version";
/// The version of this program.
pub(crate) const THIS_PROGRAM: &str = env!("CARGO_PKG_VERSION");

fn length(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}

/// Newest version known here.
pub(crate) fn known() -> i64 {
    length(MIGRATIONS)
}

/// Brings the schema up to date in one transaction (both databases roll schema changes back).
/// Servers that start at the same time do it one after the other. `file` is where an SQLite catalog
/// lies.
pub(crate) async fn run(catalog: &Catalog, file: Option<&Path>) -> Result<()> {
    bring_up(catalog, file, MIGRATIONS).await
}

async fn bring_up(
    catalog: &Catalog,
    file: Option<&Path>,
    migrations: &[&'static str],
) -> Result<()> {
    // Before anything is written: a newer catalog is left as it is found, and an older one copied.
    let found = match file {
        Some(_) => version_of_file(&mut *catalog.write.acquire().await?).await?,
        None => 0,
    };
    if found > length(migrations) {
        return Err(newer(&mut *catalog.write.acquire().await?, found, length(migrations)).await);
    }
    let copy = match file {
        Some(file) if found > 0 && found < length(migrations) => {
            Some(before::copy(catalog, file, found + 1).await?)
        }
        _ => None,
    };
    let changed = change(catalog, migrations).await;
    let went_back = |message: String| CatalogError::NotUpgraded {
        message,
        copy: copy.as_ref().map(CopyBefore::place),
    };
    match changed {
        Ok(from) => {
            if let Some(copy) = &copy {
                tracing::info!(
                    from,
                    to = length(migrations),
                    copy = copy.place(),
                    "the catalog is upgraded; the copy is from before"
                );
            }
            before::keep_newest(file);
            Ok(())
        }
        Err(CatalogError::NotUpgraded { message, .. }) => Err(went_back(message)),
        Err(error) => Err(error),
    }
}

/// Answers with the version that was found.
async fn change(catalog: &Catalog, migrations: &[&'static str]) -> Result<i64> {
    transact!(catalog, |tx| {
        // PostgreSQL reports two sessions that create the same table in several ways; the lock
        // on a row is not there yet. Whoever comes second is told to try again.
        sqlx::raw_sql(
            "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT PRIMARY KEY NOT NULL)",
        )
        .execute(&mut *tx)
        .await
        .map_err(contended)?;
        let found = version(&mut *tx).await?;
        if found > length(migrations) {
            return Err(newer(&mut *tx, found, length(migrations)).await);
        }
        for (version, sql) in (1_i64..).zip(migrations).filter(|(version, _)| *version > found) {
            // First the number: of two servers one waits here for the other.
            sqlx::query("INSERT INTO schema_versions (version) VALUES ($1)")
                .bind(version)
                .execute(&mut *tx)
                .await?;
            sqlx::raw_sql(*sql).execute(&mut *tx).await.map_err(|e| failed(version, e))?;
        }
        if found < length(migrations) {
            note_program(tx).await?;
        }
        Ok(found)
    })
}

/// Remembers which program made the schema what it is, for one that is too old to read it.
async fn note_program(tx: &mut AnyConnection) -> Result<()> {
    sqlx::query(
        "INSERT INTO settings (key, value) VALUES ($1, $2) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(PROGRAM)
    .bind(THIS_PROGRAM)
    .execute(tx)
    .await?;
    Ok(())
}

/// A migration that cannot be made; of contention the transaction is run again as always.
fn failed(version: i64, error: sqlx::Error) -> CatalogError {
    match CatalogError::from(error) {
        contention @ CatalogError::Conflict { .. } => contention,
        other => CatalogError::NotUpgraded {
            message: format!("version {version} of its schema: {other}"),
            copy: None,
        },
    }
}

/// The version of an SQLite catalog; 0 for one that is empty. Changes nothing.
pub(crate) async fn version_of_file(connection: &mut AnyConnection) -> Result<i64> {
    let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_versions'";
    match sqlx::query(table).fetch_optional(&mut *connection).await? {
        Some(_) => version(connection).await,
        None => Ok(0),
    }
}

async fn version(connection: &mut AnyConnection) -> Result<i64> {
    let row = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM schema_versions")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get("version")?)
}

/// The program that brought the schema to its version, where it is known.
pub(crate) async fn program(connection: &mut AnyConnection) -> Option<String> {
    let query = sqlx::query("SELECT value FROM settings WHERE key = $1").bind(PROGRAM);
    let row = query.fetch_optional(connection).await.ok()??;
    row.try_get("value").ok()
}

async fn newer(connection: &mut AnyConnection, found: i64, known: i64) -> CatalogError {
    // Best effort: a newer program may keep this elsewhere.
    let program =
        program(connection).await.map_or_else(String::new, |by| format!(" ({by} or newer)"));
    CatalogError::Newer { found, known, program }
}

/// Duplicate table (42P07) and duplicate object (42710) are contention here and nowhere else.
fn contended(error: sqlx::Error) -> CatalogError {
    let code = error.as_database_error().and_then(|e| e.code().map(String::from));
    match code.as_deref() {
        Some("42P07" | "42710") => CatalogError::conflict("the schema"),
        _ => error.into(),
    }
}

#[cfg(test)]
mod lived;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("catalog.db")
        }

        async fn opened(&self, migrations: &[&'static str]) -> Result<Catalog> {
            sqlx::any::install_default_drivers();
            let file = self.file();
            let catalog = Catalog::open_sqlite(file.to_str().unwrap()).await?;
            bring_up(&catalog, Some(&file), migrations).await.map(|()| catalog)
        }

        /// What lies beside the catalog, apart from SQLite's own files.
        fn copies(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.filter(|n| !n.starts_with("catalog.db")).collect();
            names.sort();
            names
        }
    }

    /// All migrations, and so many more that add a table each.
    fn later(more: usize) -> Vec<&'static str> {
        let mut all = MIGRATIONS.to_vec();
        let added = (0..more).map(|n| format!("CREATE TABLE later_{n} (x BIGINT);").leak() as &str);
        all.extend(added);
        all
    }

    #[tokio::test]
    async fn an_older_catalog_is_copied_before_it_is_changed() {
        let place = Place::new();
        let catalog = place.opened(MIGRATIONS).await.unwrap();
        catalog.put_setting("key", "from before").await.unwrap();
        catalog.close().await;
        assert!(place.copies().is_empty(), "a new catalog has nothing to be copied");

        place.opened(&later(2)).await.unwrap().close().await;
        let name = format!("catalog-before-{:04}.db", known() + 1);
        assert_eq!(place.copies(), std::slice::from_ref(&name));
        let copy = place.0.path().join(&name);
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        // The older program goes on with the copy in place of the catalog.
        for end in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(place.0.path().join(format!("catalog.db{end}")));
        }
        fs::rename(copy, place.file()).unwrap();
        let catalog = place.opened(MIGRATIONS).await.unwrap();
        assert_eq!(catalog.setting("key").await.unwrap().as_deref(), Some("from before"));
        catalog.close().await;
        // It is as it was: nothing is copied again.
        place.opened(MIGRATIONS).await.unwrap().close().await;
        assert!(place.copies().is_empty());
    }

    #[tokio::test]
    async fn the_last_three_copies_are_kept_and_nothing_else_is_touched() {
        let place = Place::new();
        fs::write(place.0.path().join("catalog-before-the-flood.db"), "mine").unwrap();
        for more in 0..6 {
            place.opened(&later(more)).await.unwrap().close().await;
        }
        let mut expected: Vec<_> = (3..=5)
            .map(|more| format!("catalog-before-{:04}.db", known() + more))
            .chain(["catalog-before-the-flood.db".to_owned()])
            .collect();
        expected.sort();
        assert_eq!(place.copies(), expected);
    }

    #[tokio::test]
    async fn a_newer_catalog_is_refused_unchanged_and_told_what_it_needs() {
        let place = Place::new();
        place.opened(&later(1)).await.unwrap().close().await;
        let before = fs::read(place.file()).unwrap();
        let refused = place.opened(MIGRATIONS).await.unwrap_err();
        let (found, known) = (known() + 1, known());
        assert!(
            matches!(refused, CatalogError::Newer { found: f, known: k, .. } if (f, k) == (found, known)),
            "{refused}"
        );
        assert!(refused.to_string().contains(THIS_PROGRAM), "{refused}");
        assert_eq!(fs::read(place.file()).unwrap(), before);
        assert!(place.copies().is_empty());
        place.opened(&later(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_the_old_catalog_usable() {
        let place = Place::new();
        let catalog = place.opened(MIGRATIONS).await.unwrap();
        catalog.put_setting("key", "kept").await.unwrap();
        catalog.close().await;
        let mut broken = later(1);
        broken.push("CREATE TABLE half (x BIGINT); INSERT INTO nowhere VALUES (1);");
        let failed = place.opened(&broken).await.unwrap_err();
        let copy = place.0.path().join(format!("catalog-before-{:04}.db", known() + 1));
        let CatalogError::NotUpgraded { message, copy: named } = &failed else {
            panic!("{failed}");
        };
        assert!(message.contains(&format!("version {}", known() + 2)), "{message}");
        assert_eq!(named.as_deref(), copy.to_str());
        assert!(copy.is_file());
        let catalog = place.opened(MIGRATIONS).await.unwrap();
        assert_eq!(catalog.setting("key").await.unwrap().as_deref(), Some("kept"));
        catalog.close().await;
        // Tried again, it makes the same copy again, and this time it goes well.
        place.opened(&later(2)).await.unwrap().close().await;
        assert!(copy.is_file());
    }

    #[tokio::test]
    async fn without_a_copy_nothing_is_changed() {
        let place = Place::new();
        place.opened(MIGRATIONS).await.unwrap().close().await;
        // Where the copy would lie is something that it cannot take the place of.
        let taken = place.0.path().join(format!("catalog-before-{:04}.db", known() + 1));
        fs::create_dir_all(taken.join("full")).unwrap();
        let refused = place.opened(&later(1)).await.unwrap_err();
        assert!(matches!(refused, CatalogError::NoCopy { .. }), "{refused}");
        place.opened(MIGRATIONS).await.unwrap();
    }
}
