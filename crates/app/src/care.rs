//! Care of vaults: runs, settings, alarms.

use provault_catalog::{CatalogError, JobFilter, Page};
use provault_domain::care::{CareOptions, CareSettings};
use provault_domain::vault::validate_vault_name;
use provault_domain::{BackupVault, CareOperation, CareRun, Tags};
use provault_engine::{EngineError, VaultCareView, VaultPlace};

use crate::{App, AppError, Caller, Result};

/// How many runs a list holds at most.
const LONGEST_LIST: usize = 1000;

/// Settings to change; what is absent stays, and 0 days switch something off.
#[derive(Debug, Clone, Copy, Default)]
pub struct CareUpdate {
    /// See [`CareSettings::prune_every_days`].
    pub prune_every_days: Option<u32>,
    /// See [`CareSettings::check_every_days`].
    pub check_every_days: Option<u32>,
    /// See [`CareSettings::verify_within_days`].
    pub verify_within_days: Option<u32>,
    /// See [`CareSettings::verify_max_bytes_per_second`].
    pub verify_max_bytes_per_second: Option<u64>,
    /// See [`CareSettings::catalog_backup_every_days`].
    pub catalog_backup_every_days: Option<u32>,
}

impl CareUpdate {
    fn applied_to(self, mut care: CareSettings) -> CareSettings {
        let days = |new: Option<u32>, old: &mut Option<u32>| {
            if let Some(new) = new {
                *old = (new > 0).then_some(new);
            }
        };
        days(self.prune_every_days, &mut care.prune_every_days);
        days(self.check_every_days, &mut care.check_every_days);
        days(self.verify_within_days, &mut care.verify_within_days);
        days(self.catalog_backup_every_days, &mut care.catalog_backup_every_days);
        if let Some(rate) = self.verify_max_bytes_per_second {
            care.verify_max_bytes_per_second = rate;
        }
        care
    }
}

/// A repository to be adopted as a vault.
#[derive(Clone)]
pub struct ImportVault {
    /// The vault's name.
    pub name: String,
    /// Where it lies: a path or a URL, see [`VaultPlace::named`].
    pub location: String,
    /// Its password.
    pub password: String,
    /// The key that seals the password; the default key when absent.
    pub encryption_key_arn: Option<String>,
}

/// A place for a vault, in one way of writing: an absolute path or `s3://BUCKET/PREFIX`.
fn place(location: &str) -> Result<String> {
    let place = VaultPlace::named(location).map_err(|why| AppError::invalid("Location", why))?;
    Ok(place.to_string())
}

/// A repository that does not open is what the caller named, not a fault of this server.
fn refused_place(ask: &ImportVault, why: &str) -> AppError {
    AppError::refused(format!(
        "The repository at {} could not be adopted: {why}. Nothing was changed.",
        ask.location
    ))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A vault, its settings, and how well it is.
#[derive(Debug, Clone)]
pub struct VaultCareReport {
    /// The vault.
    pub vault: BackupVault,
    /// What is known of it.
    pub view: VaultCareView,
}

impl App {
    /// `provault:StartCareRun`.
    pub async fn start_care_run(
        &self,
        caller: &Caller,
        vault: &str,
        operation: &str,
        options: CareOptions,
    ) -> Result<CareRun> {
        const ACTION: &str = "provault:StartCareRun";
        let arn = self.vault_arn(caller, vault);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            let operation: CareOperation = operation.parse().map_err(|_| {
                let known: Vec<&str> = CareOperation::ALL.iter().map(|o| o.as_str()).collect();
                AppError::invalid(
                    "Operation",
                    format!("'{operation}' is none; use one of {}.", known.join(", ")),
                )
            })?;
            options.validate(operation)?;
            let vault = self.vault_named(caller, vault).await?;
            if let Some(from) = &options.from_vault {
                if *from == vault.name {
                    return Err(AppError::invalid(
                        "FromVault",
                        "a vault cannot be repaired from itself; name another one.",
                    ));
                }
                self.vault_named(caller, from).await?;
            }
            Ok(self.engine().start_care(&vault, operation, options).await?)
        })
        .await
    }

    /// `provault:ImportVault`: adopts a restic repository as a vault, and enters its snapshots by a
    /// care run. Repeated, it looks for new snapshots.
    pub async fn import_vault(&self, caller: &Caller, ask: ImportVault) -> Result<CareRun> {
        const ACTION: &str = "provault:ImportVault";
        let arn = self.vault_arn(caller, &ask.name);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            validate_vault_name("BackupVaultName", &ask.name)?;
            let location = place(&ask.location)?;
            if ask.password.is_empty() {
                return Err(AppError::invalid("Password", "a repository has one; give it."));
            }
            let key = self.vault_key(caller, ask.encryption_key_arn.as_deref()).await?;
            let vault = BackupVault {
                name: ask.name.clone(),
                arn: arn.clone(),
                account: caller.account().clone(),
                region: self.region().clone(),
                encryption_key_arn: key,
                creator_request_id: None,
                created_at: self.now(),
                location,
                sealed_password: String::new(),
                notifications: None,
                // Nothing is removed from somebody's repository without being asked.
                care: CareSettings {
                    prune_every_days: None,
                    catalog_backup_every_days: None,
                    ..CareSettings::default()
                },
                imported: true,
            };
            let run = self.engine().import_vault(vault, &ask.password, &Tags::new()).await;
            run.map_err(|error| match error {
                EngineError::Catalog(CatalogError::AlreadyExists { .. }) => AppError::exists(
                    format!(
                        "A backup vault '{}' exists already, of another place; use another name.",
                        ask.name
                    ),
                    Some(arn.clone()),
                ),
                EngineError::Repository { source, .. } => refused_place(&ask, &source.to_string()),
                EngineError::Refused(why) => AppError::refused(capital(&why)),
                other => other.into(),
            })
        })
        .await
    }

    async fn care_run_of(&self, caller: &Caller, id: &str) -> Result<CareRun> {
        self.catalog().job::<CareRun>(caller.account(), id).await?.ok_or_else(|| {
            AppError::not_found(format!(
                "There is no care run '{id}'; see `provault vault runs` for those there are."
            ))
        })
    }

    /// `provault:DescribeCareRun`.
    pub async fn describe_care_run(&self, caller: &Caller, id: &str) -> Result<CareRun> {
        self.permitted_run(caller, "provault:DescribeCareRun", id).await
    }

    /// A care run of a vault to which the caller may do `action`.
    async fn permitted_run(&self, caller: &Caller, action: &str, id: &str) -> Result<CareRun> {
        let found = self.care_run_of(caller, id).await;
        self.permit_found(caller, action, id, found, |run| {
            vec![self.vault_arn(caller, &run.vault_name).to_string()]
        })
    }

    /// `provault:ListCareRuns`, of one vault or of all, newest first, at most a thousand.
    pub async fn list_care_runs(
        &self,
        caller: &Caller,
        vault: Option<&str>,
    ) -> Result<Vec<CareRun>> {
        self.permit(caller, "provault:ListCareRuns", "*")?;
        if let Some(vault) = vault {
            self.vault_named(caller, vault).await?;
        }
        let filter = JobFilter {
            account: Some(caller.account().clone()),
            vault_name: vault.map(str::to_owned),
            ..JobFilter::default()
        };
        let mut runs = self.catalog().list_jobs::<CareRun>(&filter, Page::all()).await?.items;
        runs.reverse();
        runs.truncate(LONGEST_LIST);
        Ok(runs)
    }

    /// `provault:StopCareRun`. What it has done stays done.
    pub async fn stop_care_run(&self, caller: &Caller, id: &str) -> Result<()> {
        const ACTION: &str = "provault:StopCareRun";
        self.audited(caller, ACTION, id, async {
            self.permitted_run(caller, ACTION, id).await?;
            let reason = format!("Stopped by {}.", caller.principal());
            self.engine().stop_care(caller.account(), id, &reason).await?;
            Ok(())
        })
        .await
    }

    /// `provault:DescribeVaultCare`.
    pub async fn describe_vault_care(
        &self,
        caller: &Caller,
        vault: &str,
    ) -> Result<VaultCareReport> {
        self.permit(caller, "provault:DescribeVaultCare", self.vault_arn(caller, vault))?;
        let vault = self.vault_named(caller, vault).await?;
        let view = self.engine().care_of(&vault).await?;
        Ok(VaultCareReport { vault, view })
    }

    /// `provault:UpdateVaultCare`.
    pub async fn update_vault_care(
        &self,
        caller: &Caller,
        vault: &str,
        update: CareUpdate,
    ) -> Result<VaultCareReport> {
        const ACTION: &str = "provault:UpdateVaultCare";
        let arn = self.vault_arn(caller, vault);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            let mut vault = self.vault_named(caller, vault).await?;
            vault.care = update.applied_to(vault.care);
            vault.care.validate()?;
            self.catalog().update_vault(&vault).await?;
            let view = self.engine().care_of(&vault).await?;
            Ok(VaultCareReport { vault, view })
        })
        .await
    }
}
