//! Looking the server over: what keeps it from its work, or soon will.

use std::fmt;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use provault_catalog::{JobFilter, Page};
use provault_domain::{AccountId, BackupJob, BackupVault, DoctorCheck};

use crate::shared::{Shared, blocking};
use crate::{Engine, EngineError, Result};

/// Less room than this is told of: a restore test of anything large, or the next backups, will not
/// fit.
const LITTLE_ROOM: u64 = 2 << 30;
/// Less than this and the catalog itself may stop.
const NO_ROOM: u64 = 128 << 20;
/// A directory that does not answer for so long lies on a mount that hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// A record this far in the future was made by a clock that was ahead, or the clock is behind now.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine,
    /// It works, and somebody should look at it.
    Warning,
    /// Something does not work.
    Failed,
}

impl Level {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "OK",
            Self::Warning => "WARNING",
            Self::Failed => "FAILED",
        }
    }
}

/// What was looked at, and what it is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Such as `disk`, `clock`, `vault Default`.
    pub check: String,
    /// How serious.
    pub level: Level,
    /// What was seen, and what to do where something is wrong.
    pub detail: String,
}

impl Finding {
    /// One of what there is once.
    pub fn new(check: DoctorCheck, level: Level, detail: impl fmt::Display) -> Self {
        Self { check: check.to_string(), level, detail: detail.to_string() }
    }

    /// One of what there may be several of, by its name.
    fn of(check: DoctorCheck, name: &str, level: Level, detail: impl fmt::Display) -> Self {
        Self { check: format!("{check} {name}"), level, detail: detail.to_string() }
    }
}

impl Engine {
    /// Looks at everything that the server needs. It changes nothing; a vault that takes longer than ten
    /// seconds does not answer.
    pub async fn doctor(&self, account: &AccountId) -> Result<Vec<Finding>> {
        let data_dir = self.shared.data_dir.clone();
        let mut findings = vec![room(DoctorCheck::Disk, None, data_dir.clone()).await];
        findings.push(blocking(move || permissions(&data_dir)).await?);
        let stuck = self.stuck();
        if stuck.is_empty() {
            findings.push(Finding::new(DoctorCheck::Engine, Level::Fine, "every loop turns"));
        } else {
            let what = format!("does not turn: {}; see the log, and restart", stuck.join(", "));
            findings.push(Finding::new(DoctorCheck::Engine, Level::Failed, what));
        }
        findings.extend(self.hanging(account));
        findings.extend(self.unreadable(account).await?);
        findings.push(privileges());
        findings.push(self.clock(account).await?);
        findings.push(match self.isolation().await?.as_str() {
            "full" => Finding::new(
                DoctorCheck::Isolation,
                Level::Fine,
                "restored applications are isolated",
            ),
            why => {
                // Where no application is to be started nothing is missing.
                let resources = self.shared.catalog.list_resources(account, Page::all()).await?;
                let needed = resources.items.iter().any(|resource| resource.service.is_some());
                let level = if needed { Level::Failed } else { Level::Warning };
                let what = "restore tests that start an application are INCONCLUSIVE";
                Finding::new(DoctorCheck::Isolation, level, format_args!("{why}: {what}"))
            }
        });
        // All at a time: what does not answer holds up nobody, and the whole no longer than one of them.
        let mut asking = tokio::task::JoinSet::new();
        for vault in self.shared.catalog.list_vaults(account, Page::all()).await?.items {
            asking.spawn(look_at_vault(Arc::clone(&self.shared), vault));
        }
        let mut of_vaults = Vec::new();
        while let Some(found) = asking.join_next().await {
            of_vaults.extend(found.map_err(|error| EngineError::Internal(error.to_string()))?);
        }
        // Of one vault in the order they were found: first whether it answers.
        of_vaults.sort_by(|a: &Finding, b| a.check.cmp(&b.check));
        findings.extend(of_vaults);
        findings.extend(self.receivers(account).await?);
        Ok(findings)
    }

    /// Room where the data directory lies; `None` where it does not say in time.
    pub async fn free_bytes(&self) -> Option<u64> {
        let directory = self.shared.data_dir.clone();
        let asked = blocking(move || provault_proof::free_bytes(&directory));
        tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?.ok()
    }

    /// Whether the time of day can be what it says.
    async fn clock(&self, account: &AccountId) -> Result<Finding> {
        let now = self.now();
        let filter = JobFilter {
            account: Some(account.clone()),
            created_after: now.checked_add(AHEAD).ok(),
            ..JobFilter::default()
        };
        let one = Page::first(1);
        let later = self.shared.catalog.list_jobs::<BackupJob>(&filter, one).await?.items.pop();
        if let Some(newest) = later.map(|job| job.created_at) {
            return Ok(Finding::new(
                DoctorCheck::Clock,
                Level::Failed,
                format_args!(
                    "it is {now}, and a backup job was created at {newest}: the clock is behind, or was \
                     ahead then. Set it right; schedules go on from now."
                ),
            ));
        }
        let owed = self.shared.clock_is_owed().await?;
        if !owed.is_zero() {
            let hours = owed.as_secs().div_ceil(3600);
            return Ok(Finding::new(
                DoctorCheck::Clock,
                Level::Warning,
                format_args!(
                    "it is {now}: it jumped ahead, or the server was off for more than a day. Nothing \
                     expires until it has run steadily for {hours} h more. If the time is right, start \
                     the server once with --trust-the-clock"
                ),
            ));
        }
        Ok(Finding::new(DoctorCheck::Clock, Level::Fine, now))
    }

    /// Sources that do not answer, and keep a thread each.
    fn hanging(&self, account: &AccountId) -> Vec<Finding> {
        let mut reads = self.hung_reads();
        reads.retain(|read| read.account == *account);
        reads.sort_by(|a, b| a.resource_name.cmp(&b.resource_name));
        let told = reads.into_iter().map(|read| {
            Finding::of(DoctorCheck::Source, &read.resource_name, Level::Failed, &read)
        });
        told.collect()
    }

    /// Jobs that nobody works on, because their rows cannot be read.
    async fn unreadable(&self, account: &AccountId) -> Result<Vec<Finding>> {
        let jobs = self.shared.catalog.unreadable_jobs(account).await?;
        let told = jobs.into_iter().map(|job| {
            let detail = format!(
                "it is {} and will not be worked on: {}. A newer program may have written it, or the \
                 catalog is hurt; bring the catalog back from a copy, or ask for the job again",
                job.state, job.message
            );
            // By the kind of job: there is no other name for it.
            Finding { check: format!("{} {}", job.what, job.id), level: Level::Failed, detail }
        });
        Ok(told.collect())
    }

    /// Receivers that do not get what they are sent.
    async fn receivers(&self, account: &AccountId) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for topic in self.shared.catalog.list_topics(account).await? {
            for subscription in self.shared.catalog.list_subscriptions(&topic.arn).await? {
                if self.shared.catalog.waiting_error(&subscription.id).await?.is_some() {
                    findings.push(Finding::of(
                        DoctorCheck::Topic,
                        &topic.name,
                        Level::Warning,
                        format_args!(
                            "the subscription {} did not get what waits for it; see `provault \
                             delivery list`, try `provault subscription test {}`",
                            subscription.id, subscription.id
                        ),
                    ));
                }
            }
        }
        let dead = self.shared.catalog.count_dead_deliveries(account).await?;
        if dead > 0 {
            findings.push(Finding::new(
                DoctorCheck::Deliveries,
                Level::Warning,
                format_args!(
                    "{dead} were given up; see `provault delivery list --dead`, then send them again or \
                     forget them"
                ),
            ));
        } else if findings.is_empty() {
            findings.push(Finding::new(DoctorCheck::Deliveries, Level::Fine, "none was given up"));
        }
        Ok(findings)
    }
}

/// Whether a vault answers, and how much room there is.
async fn look_at_vault(shared: Arc<Shared>, vault: BackupVault) -> Vec<Finding> {
    let found = |level, what: String| Finding::of(DoctorCheck::Vault, &vault.name, level, what);
    let place = shared.vaults.place(&vault);
    let counted = async {
        let repository = shared.repository(&vault).await.map_err(|error| error.to_string())?;
        let listed = blocking(move || repository.snapshot_ids()).await;
        let listed = listed.map_err(|error| error.to_string())?;
        listed.map(|ids| ids.len()).map_err(|error| error.to_string())
    };
    match tokio::time::timeout(PATIENCE, counted).await {
        Err(_) => {
            let what = format!("{place} does not answer within {} seconds", PATIENCE.as_secs());
            vec![found(Level::Failed, what)]
        }
        Ok(Err(why)) => vec![found(Level::Failed, why)],
        Ok(Ok(count)) => {
            let seen = format!("{count} snapshots at {place}");
            let mut findings = vec![found(Level::Fine, seen)];
            if let Some(directory) = place.directory() {
                findings
                    .push(room(DoctorCheck::Vault, Some(&vault.name), directory.to_owned()).await);
            }
            findings
        }
    }
}

/// How much room there is where a directory lies, perhaps that of a vault.
async fn room(check: DoctorCheck, vault: Option<&str>, directory: PathBuf) -> Finding {
    let found = |level, what: String| match vault {
        Some(vault) => Finding::of(check, vault, level, what),
        None => Finding::new(check, level, what),
    };
    let shown = directory.display().to_string();
    let asked = blocking(move || provault_proof::free_bytes(&directory));
    let free = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(Ok(free))) => free,
        Ok(Ok(Err(error))) => return found(Level::Failed, error.to_string()),
        Ok(Err(error)) => return found(Level::Failed, error.to_string()),
        Err(_) => {
            return found(Level::Failed, format!("{shown} does not answer: its mount hangs"));
        }
    };
    let level = level_of_room(free);
    let advice = if level == Level::Fine { "" } else { "; free some, or move what grows" };
    found(level, format!("{} MiB are free in {shown}{advice}", free >> 20))
}

fn level_of_room(free: u64) -> Level {
    match free {
        0..NO_ROOM => Level::Failed,
        NO_ROOM..LITTLE_ROOM => Level::Warning,
        _ => Level::Fine,
    }
}

/// Whether the data directory is its user's alone.
fn permissions(directory: &Path) -> Finding {
    let found = match std::fs::metadata(directory) {
        Ok(found) => found,
        Err(error) => {
            let what = format!("{}: {error}", directory.display());
            return Finding::new(DoctorCheck::Permissions, Level::Failed, what);
        }
    };
    let mode = found.permissions().mode() & 0o777;
    if found.uid() != nix::unistd::geteuid().as_raw() {
        let what = format!("{} belongs to another user than the server's", directory.display());
        return Finding::new(DoctorCheck::Permissions, Level::Failed, what);
    }
    if mode & 0o077 != 0 {
        let what = format!(
            "{} has mode {mode:03o}: others may look into it; chmod 700",
            directory.display()
        );
        return Finding::new(DoctorCheck::Permissions, Level::Failed, what);
    }
    match open_secret(directory) {
        Some(path) => Finding::new(
            DoctorCheck::Permissions,
            Level::Failed,
            format_args!("others may read {}, which is a secret; chmod 600", path.display()),
        ),
        None => Finding::new(
            DoctorCheck::Permissions,
            Level::Fine,
            format_args!("{} is private", directory.display()),
        ),
    }
}

/// A file with a secret that others than its owner may read.
fn open_secret(directory: &Path) -> Option<PathBuf> {
    let in_directory = |name: &str| {
        let entries = std::fs::read_dir(directory.join(name)).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "key"))
    };
    let named =
        ["credentials", "credentials.old", "metrics-token"].map(|name| directory.join(name));
    named.into_iter().chain(in_directory("keys")).chain(in_directory("tls")).find(|path| {
        std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
    })
}

/// Whether the server may read what belongs to others.
fn privileges() -> Finding {
    if nix::unistd::geteuid().is_root() {
        return Finding::new(DoctorCheck::Privileges, Level::Fine, "the server runs as root");
    }
    Finding::new(
        DoctorCheck::Privileges,
        Level::Warning,
        "the server does not run as root: what it may not read is left out of backups, which are PARTIAL \
         then, and restored files belong to its user",
    )
}

#[cfg(test)]
mod tests {
    use super::Level::{Failed, Fine, Warning};
    use super::*;

    #[test]
    fn little_room_is_a_warning_and_none_has_failed() {
        let levels = [0, NO_ROOM - 1, NO_ROOM, LITTLE_ROOM - 1, LITTLE_ROOM, u64::MAX];
        let levels = levels.map(level_of_room);
        assert_eq!(levels, [Failed, Failed, Warning, Warning, Fine, Fine]);
    }
}
