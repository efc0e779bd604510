//! Vaults whose repository is being made or removed.
//!
//! A storage and the catalog cannot change together. So what is about to be made or removed in a
//! storage is noted here first, and a crash leaves a note instead of something that has to be
//! searched for.

use provault_domain::BackupVault;
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::page::{Select, body, to_body};
use crate::pool::{Catalog, transact};

/// What is being done with the repository of a vault that is not in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsettledState {
    /// It is being made; the vault is about to be entered.
    Making,
    /// Its making was given up: the vault will not be entered any more.
    Abandoned,
    /// The vault was deleted, and its repository goes after it.
    Removing,
}

impl UnsettledState {
    const ALL: [Self; 3] = [Self::Making, Self::Abandoned, Self::Removing];

    fn as_str(self) -> &'static str {
        match self {
            Self::Making => "MAKING",
            Self::Abandoned => "ABANDONED",
            Self::Removing => "REMOVING",
        }
    }
}

/// A vault that is not in the catalog, whose repository may be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsettledVault {
    /// The vault as it was to be, or as it was.
    pub vault: BackupVault,
    /// What is being done.
    pub state: UnsettledState,
}

impl Catalog {
    /// Notes that the repository of a vault is about to be made at its location.
    pub async fn begin_vault(&self, vault: &BackupVault) -> Result<()> {
        transact!(self, |tx| { put(tx, vault, UnsettledState::Making).await })
    }

    /// Gives up the making of a vault: from now on it cannot be entered. `false` when it has been
    /// entered, or given up, by somebody else.
    pub async fn abandon_vault(&self, location: &str) -> Result<bool> {
        transact!(self, |tx| {
            let changed = sqlx::query(
                "UPDATE unsettled_vaults SET state = $1 WHERE location = $2 AND state = $3",
            )
            .bind(UnsettledState::Abandoned.as_str())
            .bind(location.to_owned())
            .bind(UnsettledState::Making.as_str())
            .execute(&mut *tx)
            .await?;
            Ok(changed.rows_affected() == 1)
        })
    }

    /// Strikes out the note on a place: nothing is left to be done there.
    pub async fn vault_is_settled(&self, location: &str) -> Result<()> {
        transact!(self, |tx| {
            sqlx::query("DELETE FROM unsettled_vaults WHERE location = $1")
                .bind(location.to_owned())
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
    }

    /// Every vault whose repository is being made or removed, or was when a server stopped.
    pub async fn unsettled_vaults(&self) -> Result<Vec<UnsettledVault>> {
        let rows = Select::new("SELECT state, body FROM unsettled_vaults")
            .then("ORDER BY location")
            .rows(&self.read)
            .await?;
        let unsettled = |row| {
            let text: String = sqlx::any::AnyRow::try_get(row, "state")?;
            let state = UnsettledState::ALL.into_iter().find(|state| state.as_str() == text);
            let state = state.ok_or_else(|| CatalogError::Corrupt {
                what: "the state of an unsettled vault".to_owned(),
                message: format!("'{text}' is none"),
            })?;
            Ok(UnsettledVault { vault: body(row)?, state })
        };
        rows.iter().map(unsettled).collect()
    }
}

/// Ends the making of a vault that is being entered.
pub(crate) async fn end_making(tx: &mut AnyConnection, vault: &BackupVault) -> Result<()> {
    let struck = sqlx::query("DELETE FROM unsettled_vaults WHERE location = $1 AND state = $2")
        .bind(vault.location.clone())
        .bind(UnsettledState::Making.as_str())
        .execute(&mut *tx)
        .await?;
    if struck.rows_affected() == 1 {
        return Ok(());
    }
    Err(CatalogError::not_found(format!("the making of backup vault {}", vault.name)))
}

/// Notes that the repository of a vault that is being deleted has to go.
pub(crate) async fn begin_removing(tx: &mut AnyConnection, vault: &BackupVault) -> Result<()> {
    put(tx, vault, UnsettledState::Removing).await
}

async fn put(tx: &mut AnyConnection, vault: &BackupVault, state: UnsettledState) -> Result<()> {
    sqlx::query(
        "INSERT INTO unsettled_vaults (location, state, body) VALUES ($1, $2, $3) \
         ON CONFLICT (location) DO UPDATE SET state = excluded.state, body = excluded.body",
    )
    .bind(vault.location.clone())
    .bind(state.as_str())
    .bind(to_body(vault)?)
    .execute(&mut *tx)
    .await?;
    Ok(())
}
