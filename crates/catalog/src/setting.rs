//! Settings of the server itself: secrets and ids that live as long as the catalog.

use jiff::Timestamp;
use sqlx::Row;

use crate::error::{CatalogError, Result};
use crate::page::Select;
use crate::pool::{Catalog, transact};

impl Catalog {
    /// The value of `key`.
    pub async fn setting(&self, key: &str) -> Result<Option<String>> {
        let query = Select::new("SELECT value FROM settings").and("key =", key);
        let row = query.row(&self.read).await?;
        Ok(row.map(|row| row.try_get("value")).transpose()?)
    }

    /// Sets `key`, whatever it was before.
    pub async fn put_setting(&self, key: &str, value: &str) -> Result<()> {
        transact!(self, |tx| {
            sqlx::query(
                "INSERT INTO settings (key, value) VALUES ($1, $2) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )
            .bind(key.to_owned())
            .bind(value.to_owned())
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }

    /// Writes a row and reads it again: whether the catalog is there, and its disk takes something.
    pub async fn try_writing(&self, now: Timestamp) -> Result<()> {
        const KEY: &str = "written-by-readiness";
        let value = now.to_string();
        self.put_setting(KEY, &value).await?;
        match self.setting(KEY).await? {
            Some(_) => Ok(()),
            None => Err(CatalogError::conflict(format!("setting {KEY}"))),
        }
    }

    /// Sets `key` unless it has a value, and answers with the value in force: of several servers
    /// that start together with an own secret each, all end up with the same one.
    pub async fn put_setting_if_absent(&self, key: &str, value: &str) -> Result<String> {
        transact!(self, |tx| {
            sqlx::query(
                "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING",
            )
            .bind(key.to_owned())
            .bind(value.to_owned())
            .execute(&mut *tx)
            .await?;
            let query = Select::new("SELECT value FROM settings").and("key =", key);
            match query.row(&mut *tx).await? {
                Some(row) => Ok(row.try_get("value")?),
                None => Err(CatalogError::conflict(format!("setting {key}"))),
            }
        })
    }
}
