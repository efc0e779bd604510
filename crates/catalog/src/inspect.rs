//! Looking at an SQLite catalog without changing it: whether this program could take it over.

use std::path::{Path, PathBuf};

use provault_domain::{BackupVault, Key};
use serde::de::DeserializeOwned;
use sqlx::{AnyConnection, Connection, Row};

use crate::before;
use crate::error::{CatalogError, Result};
use crate::migrate;
use crate::page::body;
use crate::pool::{escaped, unreachable_at};

/// Defects that are told of at most.
const MOST_DAMAGE: usize = 20;

/// What a catalog is, as found.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Version of its schema; 0 for one that was never opened.
    pub version: i64,
    /// Newest version that this program knows.
    pub known: i64,
    /// The program that brought it to its version, where that is noted.
    pub program: Option<String>,
    /// Bytes of the file and of what SQLite keeps beside it.
    pub bytes: u64,
    /// What the database finds wrong with itself.
    pub damage: Vec<String>,
    /// Jobs that have not ended: type, state and number.
    pub unfinished: Vec<(String, String, u64)>,
    /// Its vaults; empty for a catalog that is too new to be read.
    pub vaults: Vec<BackupVault>,
    /// Their keys.
    pub keys: Vec<Key>,
    /// Copies from before earlier upgrades, the oldest first.
    pub copies: Vec<PathBuf>,
}

impl Inspection {
    /// The versions that opening it would bring, in order.
    pub fn pending(&self) -> std::ops::RangeInclusive<i64> {
        self.version + 1..=self.known
    }

    /// Reads the catalog at `file`, which must be there, also beside a server that runs. Nothing is
    /// written to the catalog; SQLite may make its own `-shm` file beside it.
    pub async fn of(file: &Path) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let name = file.to_str().ok_or_else(|| CatalogError::Address {
            url: file.display().to_string(),
            why: "the path must be UTF-8.".to_owned(),
        })?;
        let address = format!("sqlite:{}?mode=ro", escaped(name));
        let mut connection = AnyConnection::connect(&address)
            .await
            .map_err(|error| unreachable_at(&address, error))?;
        let looked = look(&mut connection, file).await;
        // What was read is read, whatever comes of the end.
        let _ = connection.close().await;
        looked
    }
}

async fn look(connection: &mut AnyConnection, file: &Path) -> Result<Inspection> {
    sqlx::raw_sql("PRAGMA busy_timeout = 30000").execute(&mut *connection).await?;
    let mut found = Inspection {
        version: 0,
        known: migrate::known(),
        program: None,
        bytes: size(file),
        damage: Vec::new(),
        unfinished: Vec::new(),
        vaults: Vec::new(),
        keys: Vec::new(),
        copies: before::copies(file),
    };
    let integrity = format!("PRAGMA integrity_check({MOST_DAMAGE})");
    match sqlx::query(sqlx::AssertSqlSafe(integrity)).fetch_all(&mut *connection).await {
        Ok(rows) => {
            let said = rows.iter().filter_map(|row| row.try_get::<String, _>(0).ok());
            found.damage.extend(said.filter(|line| line != "ok"));
        }
        // So damaged that not even this can be asked, or no database at all.
        Err(error) => found.damage.push(CatalogError::from(error).to_string()),
    }
    if !found.damage.is_empty() {
        // What else is read there would say little, and may fail.
        found.version = migrate::version_of_file(connection).await.unwrap_or(0);
        return Ok(found);
    }
    found.version = migrate::version_of_file(connection).await?;
    if found.version == 0 {
        return Ok(found);
    }
    found.program = migrate::program(&mut *connection).await;
    let jobs = "SELECT type, state, COUNT(*) AS number FROM jobs WHERE done = 0 \
                GROUP BY type, state ORDER BY type, state";
    // A newer program may keep its rows elsewhere and otherwise.
    if found.version > found.known {
        return Ok(found);
    }
    for row in sqlx::query(jobs).fetch_all(&mut *connection).await? {
        let number: i64 = row.try_get("number")?;
        let number = u64::try_from(number).unwrap_or_default();
        found.unfinished.push((row.try_get("type")?, row.try_get("state")?, number));
    }
    found.vaults = bodies(connection, "SELECT body FROM vaults ORDER BY name").await?;
    found.keys = bodies(connection, "SELECT body FROM keys ORDER BY name").await?;
    Ok(found)
}

async fn bodies<T: DeserializeOwned>(
    connection: &mut AnyConnection,
    sql: &'static str,
) -> Result<Vec<T>> {
    sqlx::query(sql).fetch_all(connection).await?.iter().map(body).collect()
}

fn size(file: &Path) -> u64 {
    let beside = |end: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(end);
        std::fs::metadata(PathBuf::from(name)).map_or(0, |found| found.len())
    };
    beside("") + beside("-wal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;

    fn url(file: &Path) -> String {
        format!("sqlite:{}", file.display())
    }

    #[tokio::test]
    async fn it_tells_what_it_finds_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("catalog.db");
        Inspection::of(&file).await.unwrap_err();
        assert!(!file.exists(), "a catalog that is not there is not made");
        let catalog = Catalog::open(&url(&file)).await.unwrap();
        // Beside a server.
        let found = Inspection::of(&file).await.unwrap();
        assert_eq!((found.version, found.known), (migrate::known(), migrate::known()));
        assert!(found.pending().is_empty());
        assert_eq!(found.program.as_deref(), Some(migrate::THIS_PROGRAM));
        assert!(found.damage.is_empty() && found.unfinished.is_empty() && found.vaults.is_empty());
        catalog.close().await;
        let before = std::fs::read(&file).unwrap();
        assert_eq!(Inspection::of(&file).await.unwrap().bytes, before.len() as u64);
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }

    #[tokio::test]
    async fn damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("catalog.db");
        Catalog::open(&url(&file)).await.unwrap().close().await;
        let whole = std::fs::read(&file).unwrap();
        let mut hurt = whole.clone();
        // The pages behind the first, which holds the list of the tables.
        let half = hurt.len() / 2;
        hurt[4096..half].fill(0xff);
        std::fs::write(&file, hurt).unwrap();
        assert!(!Inspection::of(&file).await.unwrap().damage.is_empty());
        std::fs::write(
            &file,
            b"this is no database, and never was one; it is long enough to be read",
        )
        .unwrap();
        let told = Inspection::of(&file).await;
        assert!(told.is_err() || !told.unwrap().damage.is_empty());
    }
}
