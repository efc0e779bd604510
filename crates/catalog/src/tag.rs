//! Tags of vaults, plans and recovery points, by ARN.

use provault_domain::{Arn, Tags};
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::page::Select;
use crate::pool::{Catalog, transact};

/// Tags a thing may carry (AWS's limit).
pub const MAX_TAGS: usize = 50;

impl Catalog {
    /// The tags of `arn`; none when there is no such thing.
    pub async fn tags(&self, arn: &Arn) -> Result<Tags> {
        read(&self.read, arn).await
    }

    /// Adds tags, replacing the values of keys that are there. At most [`MAX_TAGS`] in the end.
    /// Whether `arn` exists is for the caller to know.
    pub async fn put_tags(&self, arn: &Arn, tags: &Tags) -> Result<()> {
        transact!(self, |tx| { put(tx, arn, tags).await })
    }

    /// Takes tags off; keys that are not there are passed over, as in AWS Backup.
    pub async fn remove_tags(&self, arn: &Arn, keys: &[String]) -> Result<()> {
        transact!(self, |tx| {
            for key in keys {
                sqlx::query("DELETE FROM tags WHERE arn = $1 AND key = $2")
                    .bind(arn.to_string())
                    .bind(key.clone())
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(())
        })
    }
}

async fn read<'e, E>(executor: E, arn: &Arn) -> Result<Tags>
where
    E: sqlx::Executor<'e, Database = sqlx::Any>,
{
    let query = Select::new("SELECT key, value FROM tags").and("arn =", arn);
    let mut tags = Tags::new();
    for row in query.rows(executor).await? {
        tags.insert(row.try_get("key")?, row.try_get("value")?);
    }
    Ok(tags)
}

pub(crate) async fn put(tx: &mut AnyConnection, arn: &Arn, tags: &Tags) -> Result<()> {
    let mut all = read(&mut *tx, arn).await?;
    all.extend(tags.iter().map(|(key, value)| (key.clone(), value.clone())));
    if all.len() > MAX_TAGS {
        let what = format!("{} tags on {arn}", all.len());
        return Err(CatalogError::TooMany { what, limit: MAX_TAGS });
    }
    for (key, value) in tags {
        sqlx::query(
            "INSERT INTO tags (arn, key, value) VALUES ($1, $2, $3) \
             ON CONFLICT (arn, key) DO UPDATE SET value = excluded.value",
        )
        .bind(arn.to_string())
        .bind(key.clone())
        .bind(value.clone())
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

pub(crate) async fn remove_all(tx: &mut AnyConnection, arn: &Arn) -> Result<()> {
    sqlx::query("DELETE FROM tags WHERE arn = $1").bind(arn.to_string()).execute(tx).await?;
    Ok(())
}
