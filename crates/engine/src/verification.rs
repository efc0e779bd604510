//! Rotating verification: every pack is read at least once in N days, in small slices.
//!
//! What is read next and how fast is the domain's to say; what was read when is in the catalog, one
//! row a pack. A catalog that is lost takes these rows with it: then every pack counts as never
//! verified, which is the truth as far as anybody can know it, and the rotation begins anew. A
//! crash between reading a pack and noting it reads that pack once more.

use std::sync::Arc;

use jiff::SignedDuration;
use provault_catalog::{JobFilter, PackRead, Page};
use provault_domain::care::{CareOptions, CareReport, CareSettings, CareTrigger, VaultAlarm};
use provault_domain::verification::{
    Coverage, Promise, VerifiedPack, coverage, in_order, may_read, next_at,
};
use provault_domain::{BackupVault, CareOperation, CareRun};
use provault_repository::{Id, PackVerdict, Repository};

use crate::care::{Done, Work};
use crate::care_report::count;
use crate::shared::{Shared, blocking};
use crate::{EngineError, Result};

/// Verification reads so many bytes at a time at most, then lets others have the disk.
const SLICE: u64 = 512 << 20;
/// Time that may be made up for when nothing was read for a while.
const BURST: SignedDuration = SignedDuration::from_hours(6);

/// What the settings promise, if anything.
pub(crate) fn promise(care: &CareSettings) -> Option<Promise> {
    let max_bytes_per_second = care.verify_max_bytes_per_second;
    care.verify_within_days.map(|within_days| Promise { within_days, max_bytes_per_second })
}

/// Makes the packs in the catalog those of the vault; gives them with their sizes.
pub(crate) async fn sync(
    shared: &Shared,
    vault: &BackupVault,
    repository: &Repository,
) -> Result<Vec<(Id, u64)>> {
    let listing = repository.clone();
    let packs = blocking(move || listing.verifier()?.packs())
        .await?
        .map_err(EngineError::repository(&vault.name))?;
    let named: Vec<(String, u64)> = packs.iter().map(|(id, n)| (id.to_string(), *n)).collect();
    shared.catalog.sync_packs(&vault.arn, &named, shared.now()).await?;
    Ok(packs)
}

/// The packs that were damaged when they were last read.
pub(crate) async fn damaged_packs(shared: &Shared, vault: &BackupVault) -> Result<Vec<Id>> {
    let packs = shared.catalog.verified_packs(&vault.arn).await?;
    packs.iter().filter(|pack| pack.damage.is_some()).map(|pack| id_of(&pack.id)).collect()
}

fn id_of(text: &str) -> Result<Id> {
    text.parse().map_err(|_| EngineError::Internal(format!("'{text}' is not the id of a pack")))
}

/// Reads one pack.
pub(crate) async fn read_pack(
    vault: &BackupVault,
    repository: &Repository,
    id: Id,
) -> Result<PackVerdict> {
    let repository = repository.clone();
    blocking(move || repository.verifier()?.verify(id))
        .await?
        .map_err(EngineError::repository(&vault.name))
}

/// How a verified pack is told of.
fn damage_of(pack: &str, verdict: &PackVerdict) -> Option<String> {
    match verdict {
        PackVerdict::Damaged { reason, .. } => Some(format!("pack {pack}: {reason}")),
        PackVerdict::Whole { .. } | PackVerdict::Dropped => None,
    }
}

/// Notes a pack as read. Damage raises the alarm and starts a check, which names who suffers,
/// unless one waits or runs.
async fn note(
    shared: &Shared,
    vault: &BackupVault,
    pack: &VerifiedPack,
    verdict: &PackVerdict,
    next: Option<jiff::Timestamp>,
) -> Result<()> {
    let damage = damage_of(&pack.id, verdict);
    let now = shared.now();
    let known = pack.damage.is_some();
    let read = [PackRead { pack: pack.id.clone(), damage: damage.clone() }];
    let message = damage.map(|what| {
        format!("Verification found damage: {what}. A check names the recovery points hurt.")
    });
    // Damage that is known already was told, and its check has been.
    let message = message.filter(|_| !known);
    let check = match &message {
        Some(_) if !is_under_way(shared, vault, CareOperation::Check).await? => {
            let id = uuid::Uuid::new_v4().to_string();
            let (options, trigger) = (CareOptions::default(), CareTrigger::Verification);
            Some(CareRun::new(id, vault, CareOperation::Check, options, trigger, now))
        }
        _ => None,
    };
    if let Some(message) = &message {
        tracing::error!(vault = vault.name, "{message}");
    }
    let told = message.as_deref().map(|message| (message, check.as_ref()));
    shared.catalog.packs_read(vault, &read, next, told, now).await?;
    if check.is_some() {
        shared.bell.notify_waiters();
    }
    Ok(())
}

/// Whether a run of the operation waits for its turn. One that runs may have passed by what was
/// found after it began.
async fn is_under_way(
    shared: &Shared,
    vault: &BackupVault,
    operation: CareOperation,
) -> Result<bool> {
    let filter = JobFilter {
        account: Some(vault.account.clone()),
        vault_name: Some(vault.name.clone()),
        states: vec!["PENDING".to_owned()],
        unfinished_only: true,
        ..JobFilter::default()
    };
    let runs = shared.catalog.list_jobs::<CareRun>(&filter, Page::all()).await?.items;
    Ok(runs.iter().any(|run| run.operation == operation))
}

/// What may be said of a vault's verification now.
pub(crate) async fn coverage_of(
    shared: &Shared,
    vault: &BackupVault,
    promise: Promise,
) -> Result<Coverage> {
    let packs = shared.catalog.verified_packs(&vault.arn).await?;
    Ok(coverage(&packs, promise, shared.now()))
}

/// Raises the alarm when the promise is not kept or cannot be, and takes it away when it is again.
async fn judge(
    shared: &Shared,
    vault: &BackupVault,
    told: &Coverage,
    promise: Promise,
) -> Result<()> {
    if told.keeps(promise) {
        shared.catalog.clear_alarm(&vault.arn, VaultAlarm::VerificationBehind).await?;
        return Ok(());
    }
    let message = format!(
        "Not every pack is verified within {} days: {} overdue of {}; to keep up, {} bytes a second \
         have to be read, and {} are allowed. Raise the limit, lengthen the period, or see why the \
         server did not run.",
        promise.within_days,
        count(told.overdue_packs, "pack"),
        told.packs,
        told.needed_bytes_per_second,
        promise.max_bytes_per_second,
    );
    shared
        .catalog
        .raise_alarm(vault, VaultAlarm::VerificationBehind, &message, shared.now())
        .await?;
    Ok(())
}

/// Reads what may be read of a vault now.
pub(crate) async fn tick(
    shared: &Arc<Shared>,
    vault: &BackupVault,
    promise: Promise,
) -> Result<()> {
    let mut free_at = shared.catalog.vault_care(&vault.arn).await?.verify_next_at;
    if !may_read(free_at, promise, shared.now()) {
        return Ok(());
    }
    let mut packs = shared.catalog.verified_packs(&vault.arn).await?;
    if packs.is_empty() {
        return Ok(());
    }
    let rate = coverage(&packs, promise, shared.now()).bytes_per_second;
    in_order(&mut packs, shared.now());
    let repository = shared.repository(vault).await?;
    let verifier = {
        let repository = repository.clone();
        blocking(move || repository.verifier())
            .await?
            .map_err(EngineError::repository(&vault.name))?
    };
    let verifier = Arc::new(verifier);
    let mut bytes = 0;
    for pack in &packs {
        let now = shared.now();
        if shared.is_stopping() || bytes >= SLICE || !may_read(free_at, promise, now) {
            break;
        }
        let (id, reader) = (id_of(&pack.id)?, Arc::clone(&verifier));
        let verdict = blocking(move || reader.verify(id))
            .await?
            .map_err(EngineError::repository(&vault.name))?;
        // A moment far ahead was written by a clock that was ahead.
        free_at = Some(next_at(free_at, pack.size, rate, BURST, now));
        note(shared, vault, pack, &verdict, free_at).await?;
        bytes += pack.size;
    }
    judge(shared, vault, &coverage_of(shared, vault, promise).await?, promise).await
}

/// Lists the packs of a vault, and judges what is known of them.
pub(crate) async fn list(shared: &Arc<Shared>, vault: &BackupVault) -> Result<()> {
    let repository = shared.repository(vault).await?;
    sync(shared, vault, &repository).await?;
    if let Some(promise) = promise(&vault.care) {
        return judge(shared, vault, &coverage_of(shared, vault, promise).await?, promise).await;
    }
    shared.catalog.clear_alarm(&vault.arn, VaultAlarm::VerificationBehind).await?;
    Ok(())
}

/// VERIFY: reads now every pack that was not verified within the period, at full speed.
pub(crate) async fn catch_up(work: &Work) -> Result<Done> {
    let (shared, vault) = (&work.shared, &work.vault);
    let default = CareSettings::default();
    let promise = promise(&vault.care).or(promise(&default)).unwrap_or(Promise {
        within_days: 30,
        max_bytes_per_second: default.verify_max_bytes_per_second,
    });
    let repository = shared.repository(vault).await?;
    sync(shared, vault, &repository).await?;
    let mut packs = shared.catalog.verified_packs(&vault.arn).await?;
    in_order(&mut packs, shared.now());
    let due: Vec<VerifiedPack> =
        packs.into_iter().filter(|pack| is_due(pack, promise, shared.now())).collect();
    let total: u64 = due.iter().map(|pack| pack.size).sum();
    let (mut bytes, mut read, mut problems) = (0, 0, Vec::new());
    for pack in &due {
        if work.cancel.is_raised() {
            return Err(work.failed(provault_repository::Error::Cancelled));
        }
        let verdict = read_pack(vault, &repository, id_of(&pack.id)?).await?;
        note(shared, vault, pack, &verdict, None).await?;
        problems.extend(damage_of(&pack.id, &verdict));
        bytes += pack.size;
        read += 1;
        work.progress.set(bytes, Some(total));
    }
    let told = coverage_of(shared, vault, promise).await?;
    judge(shared, vault, &told, promise).await?;
    let clean = problems.is_empty() && told.damaged_packs == 0;
    let summary = format!(
        "{} read now; {} of {} verified within {} days, {} damaged.",
        count(read, "pack"),
        told.verified_packs,
        count(told.packs, "pack"),
        promise.within_days,
        told.damaged_packs,
    );
    let figures = [
        ("packs", told.packs),
        ("bytes", told.bytes),
        ("packsRead", read),
        ("bytesRead", bytes),
        ("verifiedPacks", told.verified_packs),
        ("verifiedBytes", told.verified_bytes),
        ("damagedPacks", told.damaged_packs),
    ];
    let report = CareReport {
        clean,
        summary,
        figures: figures.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
        problems_total: problems.len() as u64,
        problems: problems.into_iter().take(100).collect(),
        hurt: Vec::new(),
    };
    Ok((report, Vec::new()))
}

/// Whether a pack was not found whole within the period.
fn is_due(pack: &VerifiedPack, promise: Promise, now: jiff::Timestamp) -> bool {
    let one = coverage(std::slice::from_ref(pack), promise, now);
    one.verified_packs == 0
}
