//! `vault check`, `vault verify` and the like: care of a vault.

use std::path::{Path, PathBuf};

use provault_wire::provault::{
    Alarm, CareRun, CareRunList, ImportVaultInput, StartCareRunInput, UpdateVaultCareInput,
    VaultCare, Verification,
};
use serde_json::Value;

use super::resource::body;
use super::{Context, absolute, gone};
use crate::client::{Answer, segment};
use crate::error::CliError;
use crate::exit::Exit;
use crate::input_file::first_line;
use crate::output::{View, dash, epoch, size};
use crate::resolve;
use crate::watch::{Seen, Watched, follow};

#[derive(Debug, clap::Subcommand)]
pub enum VaultCareCommand {
    /// Look whether all that the recovery points need is there; names those that are hurt
    #[command(after_help = crate::exit::EXIT_CODES_HELP)]
    Check {
        /// The vault's name
        name: String,
        /// Read every pack to the last byte
        #[arg(long)]
        read_data: bool,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Free the space of what no recovery point needs any more
    #[command(after_help = crate::exit::EXIT_CODES_HELP)]
    Prune {
        /// The vault's name
        name: String,
        /// Only tell what would go and how much it frees
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Put back what is damaged or missing, as far as it can be had
    ///
    /// What nobody has any more, the next backup of the same resource reads again if it still
    /// exists there.
    #[command(after_help = crate::exit::EXIT_CODES_HELP)]
    Repair {
        /// The vault's name
        name: String,
        /// The vault to take from what is missing here
        #[arg(long, value_name = "VAULT")]
        from: Option<String>,
        /// Read every pack to the last byte first, not only those known or seen to be damaged
        #[arg(long)]
        read_data: bool,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Read now what was not verified within the vault's period, or show how far verification is
    #[command(after_help = crate::exit::EXIT_CODES_HELP)]
    Verify {
        /// The vault's name
        name: String,
        /// Only show what is verified; exits with 1 when the promise is not kept or data is damaged
        #[arg(long, conflicts_with = "watch")]
        status: bool,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Store a copy of the catalog in a vault now
    #[command(after_help = crate::exit::EXIT_CODES_HELP)]
    BackupCatalog {
        /// The vault's name
        name: String,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Adopt a restic repository that exists as a vault, or look for new snapshots in it
    ///
    /// Its snapshots become recovery points, which are restored and tested like any other. The
    /// repository is not changed.
    #[command(after_help = crate::exit::EXIT_CODES_HELP)]
    Import {
        /// The vault's name
        name: String,
        /// Where the repository lies: a directory of the server's machine or s3://BUCKET/PREFIX
        #[arg(long, value_name = "PATH|URL")]
        location: PathBuf,
        /// The file whose first line is the repository's password; - for standard input
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
        /// The key that seals the password, by name or ARN [default: the account's default key]
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Look for new snapshots in a vault, without its password
    #[command(after_help = crate::exit::EXIT_CODES_HELP)]
    Refresh {
        /// The vault's name
        name: String,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Show or change how a vault is looked after
    Care(CareArgs),
    /// List care runs, newest first
    Runs {
        /// Only those of this vault
        vault: Option<String>,
    },
    /// Show a care run: what it found and did
    ShowRun {
        /// The run's id
        id: String,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Stop a care run; what it has done stays done
    StopRun {
        /// The run's id
        id: String,
    },
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub struct WatchArgs {
    /// Wait for the end, and let the exit code tell how it ended
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, clap::Args)]
pub struct CareArgs {
    /// The vault's name
    name: String,
    /// Days between two prunes; 0 for never by itself
    #[arg(long, value_name = "DAYS")]
    prune_every_days: Option<u32>,
    /// Days between two checks of the structure; 0 for never by itself
    #[arg(long, value_name = "DAYS")]
    check_every_days: Option<u32>,
    /// Verify every pack at least once in so many days; 0 for no verification
    #[arg(long, value_name = "DAYS")]
    verify_within_days: Option<u32>,
    /// What verification may read on average, bytes a second
    #[arg(long, value_name = "BYTES")]
    verify_max_bytes_per_second: Option<u64>,
    /// Days between two copies of the catalog in the vault; 0 for none
    #[arg(long, value_name = "DAYS")]
    catalog_backup_every_days: Option<u32>,
}

impl VaultCareCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let plain = |operation: &str| StartCareRunInput {
            operation: operation.to_owned(),
            read_data: false,
            dry_run: false,
            from_vault: None,
        };
        match self {
            Self::Check { name, read_data, watch } => {
                start(context, &name, &StartCareRunInput { read_data, ..plain("CHECK") }, watch)
            }
            Self::Prune { name, dry_run, watch } => {
                start(context, &name, &StartCareRunInput { dry_run, ..plain("PRUNE") }, watch)
            }
            Self::Repair { name, from, read_data, watch } => {
                let input = StartCareRunInput { read_data, from_vault: from, ..plain("REPAIR") };
                start(context, &name, &input, watch)
            }
            Self::Verify { name, status: true, .. } => status(context, &name),
            Self::Verify { name, watch, .. } => start(context, &name, &plain("VERIFY"), watch),
            Self::BackupCatalog { name, watch } => {
                start(context, &name, &plain("CATALOG_BACKUP"), watch)
            }
            Self::Import { name, location, password_file, key, watch } => {
                let input = ImportVaultInput {
                    location: place(&location)?,
                    password: first_line(&password_file)?,
                    encryption_key_arn: key
                        .map(|key| resolve::key_arn(context.client, &key))
                        .transpose()?,
                };
                let path = format!("/vaults/{}/import", segment(&name));
                let run: Answer<CareRun> =
                    context.client.own("POST", &path, &[], Some(&body(&input)?))?;
                finish(context, &run, watch.watch)
            }
            Self::Refresh { name, watch } => start(context, &name, &plain("IMPORT"), watch),
            Self::Care(args) => args.run(context),
            Self::Runs { vault } => list(context, vault.as_deref()),
            Self::ShowRun { id, watch: WatchArgs { watch: true } } => watch_run(context, &id),
            Self::ShowRun { id, .. } => {
                show_run(context, &get_run(context, &id)?)?;
                Ok(Exit::Done)
            }
            Self::StopRun { id } => stop(context, &id),
        }
    }
}

/// A path as the server has to know it; a URL as it is.
fn place(location: &Path) -> Result<String, CliError> {
    match location.to_str() {
        Some(url) if url.contains("://") => Ok(url.to_owned()),
        _ => absolute(location),
    }
}

fn start(
    context: &Context<'_>,
    vault: &str,
    input: &StartCareRunInput,
    WatchArgs { watch }: WatchArgs,
) -> Result<Exit, CliError> {
    let path = format!("/vaults/{}/care-runs", segment(vault));
    let run: Answer<CareRun> = context.client.own("POST", &path, &[], Some(&body(input)?))?;
    finish(context, &run, watch)
}

/// Shows the id of a run that was started, or watches it.
pub(super) fn finish(
    context: &Context<'_>,
    run: &Answer<CareRun>,
    watch: bool,
) -> Result<Exit, CliError> {
    if watch {
        return watch_run(context, &run.typed.care_run_id);
    }
    context.out.show_line(&run.json, &run.typed.care_run_id)?;
    Ok(Exit::Done)
}

pub(super) fn watch(context: &Context<'_>, id: &str) -> Result<Exit, CliError> {
    watch_run(context, id)
}

fn watch_run(context: &Context<'_>, id: &str) -> Result<Exit, CliError> {
    (context.before_watch)();
    let what = format!("care run {id}");
    let run = follow(context, &Watched { what: &what, id }, || {
        let run = get_run(context, id)?;
        let seen = Seen {
            state: run.typed.state.clone(),
            percent: run.typed.percent_done,
            detail: run.typed.status_message.clone().unwrap_or_default(),
            ended: ["COMPLETED", "FAILED", "ABORTED"].contains(&run.typed.state.as_str()),
        };
        Ok((seen, run))
    })?;
    show_run(context, &run)?;
    Ok(exit_of(&run.typed))
}

/// A run that did its work and found damage is no success.
fn exit_of(run: &CareRun) -> Exit {
    match &run.report {
        Some(report) if !report.clean => Exit::Failed,
        _ => Exit::of_state(&run.state),
    }
}

pub(super) fn get_run(context: &Context<'_>, id: &str) -> Result<Answer<CareRun>, CliError> {
    context.client.own("GET", &format!("/care-runs/{}", segment(id)), &[], None)
}

pub(super) fn stop(context: &Context<'_>, id: &str) -> Result<Exit, CliError> {
    let path = format!("/care-runs/{}/stop", segment(id));
    context.client.own::<Value>("POST", &path, &[], None)?;
    gone(context, &format!("asked care run {id} to stop"))
}

fn list(context: &Context<'_>, vault: Option<&str>) -> Result<Exit, CliError> {
    let query: Vec<(&str, &str)> = vault.iter().map(|vault| ("vaultName", *vault)).collect();
    let list: Answer<CareRunList> = context.client.own("GET", "/care-runs", &query, None)?;
    context.out.show(&list.json, || {
        let headers =
            ["ID", "CREATED", "VAULT", "OPERATION", "TRIGGER", "STATE", "CLEAN", "MESSAGE"];
        let rows = list.typed.care_runs.into_iter().map(|run| {
            vec![
                run.care_run_id,
                epoch(run.creation_date),
                run.backup_vault_name,
                run.operation,
                run.trigger,
                run.state,
                dash(run.report.map(|report| report.clean.to_string())),
                dash(run.status_message),
            ]
        });
        vec![View::table(&headers).rows(rows)]
    })?;
    Ok(Exit::Done)
}

pub(super) fn show_run(context: &Context<'_>, run: &Answer<CareRun>) -> Result<(), CliError> {
    context.out.show(&run.json, || run_views(&run.typed))
}

fn run_views(run: &CareRun) -> Vec<View> {
    let mut views = vec![
        View::fields()
            .field("Id", run.care_run_id.clone())
            .field("Vault", run.backup_vault_name.clone())
            .field("Operation", run.operation.clone())
            .field("Only told, not done", run.dry_run.then(|| "yes".to_owned()))
            .field("Started by", run.trigger.to_lowercase())
            .field("State", run.state.clone())
            .field("Message", run.status_message.clone())
            .field("Done", run.percent_done.map(|p| format!("{p:.0}%")))
            .field("Created", epoch(run.creation_date))
            .field("Started", run.start_date.map(epoch))
            .field("Completed", run.completion_date.map(epoch)),
    ];
    if let Some(report) = &run.report {
        let figures = report.figures.iter().map(|(name, n)| {
            let bytes = name.to_ascii_lowercase().contains("bytes");
            vec![
                name.clone(),
                if bytes { size(i64::try_from(*n).unwrap_or(i64::MAX)) } else { n.to_string() },
            ]
        });
        views.push(View::table(&["FIGURE", "VALUE"]).titled("Figures").rows(figures));
        let hurt = report.hurt.iter().map(|hurt| {
            let files = if hurt.gone {
                "all: its snapshot is gone".to_owned()
            } else {
                let more = hurt.files_total.saturating_sub(hurt.files.len() as u64);
                let and = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("{}{and}", hurt.files.join(", "))
            };
            vec![dash(hurt.recovery_point_arn.clone()), hurt.snapshot_id.clone(), files]
        });
        let hurt =
            View::table(&["ARN", "SNAPSHOT", "DETAIL"]).titled("Hurt recovery points").rows(hurt);
        let problems = report.problems.iter().map(|problem| vec![problem.clone()]);
        let problems = View::table(&["DETAIL"]).titled("Problems").rows(problems);
        views.extend([hurt, problems].into_iter().filter(|view| !view.is_empty()));
    }
    views
}

pub(super) fn get(context: &Context<'_>, vault: &str) -> Result<Answer<VaultCare>, CliError> {
    context.client.own("GET", &format!("/vaults/{}/care", segment(vault)), &[], None)
}

fn status(context: &Context<'_>, vault: &str) -> Result<Exit, CliError> {
    let care = get(context, vault)?;
    context.out.show(&care.json, || views(&care.typed))?;
    let told = &care.typed.verification;
    let bad = told.kept == Some(false) || told.damaged_packs > 0;
    Ok(if bad { Exit::Failed } else { Exit::Done })
}

impl CareArgs {
    fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let input = UpdateVaultCareInput {
            prune_every_days: self.prune_every_days,
            check_every_days: self.check_every_days,
            verify_within_days: self.verify_within_days,
            verify_max_bytes_per_second: self.verify_max_bytes_per_second,
            catalog_backup_every_days: self.catalog_backup_every_days,
        };
        let json = body(&input)?;
        let nothing = json.as_object().is_some_and(serde_json::Map::is_empty);
        let care = if nothing {
            get(context, &self.name)?
        } else {
            let path = format!("/vaults/{}/care", segment(&self.name));
            context.client.own("POST", &path, &[], Some(&json))?
        };
        context.out.show(&care.json, || views(&care.typed))?;
        Ok(Exit::Done)
    }
}

/// How a vault is looked after, what is verified, and what is wrong.
pub(super) fn views(care: &VaultCare) -> Vec<View> {
    let every = |days: u32| match days {
        0 => "never by itself".to_owned(),
        1 => "every day".to_owned(),
        n => format!("every {n} days"),
    };
    let settings = View::fields()
        .titled("Care")
        .field("Check", every(care.check_every_days))
        .field("Prune", every(care.prune_every_days))
        .field("Copy of the catalog", every(care.catalog_backup_every_days))
        .field("Verification", verification(care.verify_within_days, &care.verification));
    let alarms = care
        .alarms
        .iter()
        .map(|a: &Alarm| vec![a.alarm.clone(), epoch(a.since), a.message.clone()]);
    let alarms = View::table(&["ALARM", "SINCE", "MESSAGE"]).titled("Alarms").rows(alarms);
    [settings, alarms].into_iter().filter(|view| !view.is_empty()).collect()
}

fn verification(days: u32, told: &Verification) -> String {
    let bytes = |n: u64| size(i64::try_from(n).unwrap_or(i64::MAX));
    let oldest = told
        .oldest_age_seconds
        .map_or(String::new(), |age| format!("; longest ago: {}", crate::duration::Seconds(age)));
    let (period, promise) = match days {
        0 => (30, "off".to_owned()),
        n => (n, format!("every pack within {n} days, {}/s", bytes(told.bytes_per_second))),
    };
    let mut text = format!(
        "{promise}. {} of {} packs ({} of {}) verified within {period} days{oldest}",
        told.verified_packs,
        told.packs,
        bytes(told.verified_bytes),
        bytes(told.bytes),
    );
    if told.overdue_packs > 0 {
        text = format!("{text}; {} OVERDUE", told.overdue_packs);
    }
    if told.damaged_packs > 0 {
        text = format!("{text}; {} DAMAGED", told.damaged_packs);
    }
    if told.kept == Some(false) {
        let needed = bytes(told.needed_bytes_per_second);
        text = format!("{text}; the promise needs {needed}/s and cannot be kept");
    }
    text
}
