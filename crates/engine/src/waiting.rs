//! Jobs that cannot go on yet, as what they need is away and may come back: a vault whose disk is not mounted,
//! a storage that does not answer. They are given back, and tried again the less often the longer it lasts.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use provault_catalog::{CatalogError, Claim, Job};
use provault_domain::{AccountId, BackupVault};
use provault_repository::Repository;

use crate::shared::{Shared, blocking};
use crate::{EngineError, Result};

/// Seconds between two tries: the first, and the longest.
const LEAST_PAUSE: i64 = 15;
const LONGEST_PAUSE: i64 = 600;

/// A vault's repository, which is there now: it may have been opened long ago.
pub(crate) async fn open_vault(shared: &Arc<Shared>, vault: &BackupVault) -> Result<Repository> {
    let repository = shared.repository(vault).await?;
    let there = repository.clone();
    blocking(move || there.look()).await?.map_err(EngineError::repository(&vault.name))?;
    Ok(repository)
}

/// Whether what keeps a vault from being opened may be over by itself.
pub(crate) fn may_help(error: &EngineError) -> bool {
    use provault_repository::Error as R;
    match error {
        EngineError::Repository { source, .. } => {
            matches!(**source, R::Storage(_) | R::NotARepository | R::Locked { .. })
        }
        // Its file may lie on a disk that is not mounted yet.
        EngineError::Key { .. } | EngineError::Catalog(_) => true,
        EngineError::Invalid(_) | EngineError::Refused(_) | EngineError::Internal(_) => false,
    }
}

/// Gives a job of this account, created then, back with an event that says why. False when it was stopped or
/// ended in the same moment.
pub(crate) async fn put_off<J: Job>(
    shared: &Shared,
    account: &AccountId,
    created_at: Timestamp,
    claim: &Claim,
    event: J::Event,
) -> std::result::Result<bool, CatalogError> {
    let now = shared.now();
    let waited = now.duration_since(created_at).as_secs();
    let pause = SignedDuration::from_secs((waited / 4).clamp(LEAST_PAUSE, LONGEST_PAUSE));
    let until = now.checked_add(pause).unwrap_or(Timestamp::MAX);
    let job = &claim.job_id;
    match shared.catalog.put_off::<J>(account, claim, event, now, until).await {
        Ok(_) => {
            tracing::warn!(job, %until, "a {} cannot go on yet; it is tried again", J::NAME);
            Ok(true)
        }
        Err(CatalogError::Illegal(_)) => Ok(false),
        Err(error @ CatalogError::Fenced { .. }) => {
            tracing::warn!(job, "another worker has the job; it is left to that one");
            Err(error)
        }
        Err(error) => {
            tracing::error!(job, %error, "the job was not given back; it is tried again when its lease ends");
            Err(error)
        }
    }
}
