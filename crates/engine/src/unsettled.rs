//! Vaults whose making or removal was cut short, so that what is in their storage belongs to
//! nobody.
//!
//! Where a repository is made or removed is noted in the catalog before the storage is touched, so
//! nothing has to be searched for, and what this server did not note it never deletes. Each note
//! is struck out when nothing is left to be done.

use std::sync::Arc;

use provault_catalog::UnsettledState;
use provault_domain::BackupVault;

use crate::Result;
use crate::shared::{Shared, blocking};
use crate::vaults::Cleared;

/// Settles everything that an earlier process left. What cannot be settled now stays noted.
pub(crate) async fn settle_all(shared: &Arc<Shared>) {
    let noted = match shared.catalog.unsettled_vaults().await {
        Ok(noted) => noted,
        Err(error) => {
            tracing::error!(%error, "vaults half made or half removed could not be looked up");
            return;
        }
    };
    for noted in noted {
        let was_in_use = noted.state == UnsettledState::Removing;
        if let Err(error) = settle(shared, &noted.vault, was_in_use).await {
            tracing::error!(
                vault = noted.vault.name,
                place = %shared.vaults.place(&noted.vault),
                %error,
                "what is left of a vault could not be removed; it is tried again at the next start"
            );
        }
    }
}

/// Removes what is left of a vault that is not in the catalog: one that was in use and deleted, or
/// one that never got so far.
pub(crate) async fn settle(
    shared: &Arc<Shared>,
    vault: &BackupVault,
    was_in_use: bool,
) -> Result<()> {
    let catalog = &shared.catalog;
    if !was_in_use {
        // From here on nobody enters it any more.
        catalog.abandon_vault(&vault.location).await?;
    }
    let place = shared.vaults.place(vault);
    // A catalog that was brought back from a copy may tell of a time when a vault was just being
    // made that has been in use since.
    let named = |other: &BackupVault| shared.vaults.place(other) == place;
    if catalog.all_vaults().await?.iter().any(named) {
        return Ok(catalog.vault_is_settled(&vault.location).await?);
    }
    let key = catalog.key(&vault.encryption_key_arn).await?;
    let cleared = {
        let (shared, vault) = (Arc::clone(shared), vault.clone());
        blocking(move || shared.vaults.clear(&vault, key.as_ref(), was_in_use)).await??
    };
    match cleared {
        Cleared::Gone => tracing::info!(
            vault = vault.name, %place,
            "nothing is left of a vault whose making or removal was cut short"
        ),
        Cleared::Left(snapshots) => tracing::warn!(
            vault = vault.name, %place, snapshots,
            "a repository that no vault names holds snapshots; it is left where it is. Adopt it \
             with 'provault vault import', or remove it by hand"
        ),
        Cleared::Foreign => tracing::warn!(
            vault = vault.name, %place,
            "what lies where a vault was is no repository; it is left where it is"
        ),
    }
    Ok(catalog.vault_is_settled(&vault.location).await?)
}
