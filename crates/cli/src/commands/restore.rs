//! `restore`: a recovery point, or part of it, to a new place or in place.

use std::path::PathBuf;

use provault_wire::provault::PreviewRestoreInput;
use provault_wire::types::{GetRecoveryPointRestoreMetadataInput, StartRestoreJobInput};
use serde_json::json;

use super::{Context, absolute, jobs, restore_preview};
use crate::error::CliError;
use crate::exit::Exit;
use crate::resolve;
use crate::words::{Pair, to_map};

/// Where a file system is restored to.
const TARGET: &str = "targetPath";
/// Which paths of it, as a JSON list: AWS Backup's own name for them.
const ITEMS: &str = "ItemsToRestore";

/// What may be written over in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Overwrite {
    /// Nothing: only what is missing is written
    Never,
    /// What is older than what was backed up; what is newer stays
    IfOlder,
    /// Whatever has another size or time
    IfChanged,
    /// Whatever differs, read to the last byte; also a directory where a file belongs
    Always,
}

impl Overwrite {
    /// As the restore metadata has it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::IfOlder => "if-older",
            Self::IfChanged => "if-changed",
            Self::Always => "always",
        }
    }
}

#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct RestoreArgs {
    /// The recovery point's ARN
    #[arg(required_unless_present = "resource", conflicts_with = "resource")]
    recovery_point: Option<String>,
    /// Restore the newest recovery point of this resource, by name or ARN
    #[arg(long, value_name = "NAME|ARN")]
    resource: Option<String>,
    /// The recovery point's vault [default: looked for in all]
    #[arg(long)]
    vault: Option<String>,
    /// The directory to restore to; without --in-place it must not exist yet [default: a new one
    /// beside the source; in place, the source]
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
    /// Restore into the source itself, or the directory that --to names
    #[arg(long)]
    in_place: bool,
    /// What may be written over in place; required when the directory is not empty
    #[arg(long, value_enum, value_name = "MODE", requires = "in_place")]
    overwrite: Option<Overwrite>,
    /// Delete what the recovery point does not have, also what its backup excluded; with
    /// --overwrite if-changed or always
    #[arg(long, requires = "overwrite")]
    delete_extra: bool,
    /// Restore only this path, relative to the resource's root; may be repeated
    #[arg(long, value_name = "PATH")]
    item: Vec<String>,
    /// Restore only this path and what is below it; may be repeated. With *, ? or [...] it is a
    /// pattern, as for --exclude
    #[arg(long, value_name = "PATH|PATTERN")]
    include: Vec<String>,
    /// Leave this out and what is below it; may be repeated: '*.log' at any depth, '/etc/*' from
    /// the resource's root; ** stands for any directories
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Do not read back what was written
    #[arg(long)]
    no_verify: bool,
    /// Only tell what would be created, overwritten, left and deleted
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
    /// Restore metadata KEY=VALUE, see `recovery-points metadata`; may be repeated, wins over the
    /// recovery point's own
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<Pair>,
    /// The role that the job runs under, by name or ARN
    #[arg(long, default_value = "DEFAULT")]
    role: String,
    /// Wait for the job's end and show its progress
    #[arg(long)]
    watch: bool,
}

impl RestoreArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        let mut edits = to_map("--metadata", &self.metadata)?;
        let target = self.to.as_deref().map(absolute).transpose()?;
        // What holds none of a pattern's characters is a path.
        let (patterns, paths): (Vec<String>, Vec<String>) =
            self.include.into_iter().partition(|text| text.contains(['*', '?', '[']));
        let items: Vec<String> = self.item.into_iter().chain(paths).collect();
        let list = |list: Vec<String>| (!list.is_empty()).then(|| json!(list).to_string());
        let options = [
            ("--to", TARGET, target),
            ("--in-place", "newFileSystem", self.in_place.then(|| "false".to_owned())),
            ("--overwrite", "overwrite", self.overwrite.map(|mode| mode.as_str().to_owned())),
            ("--delete-extra", "deleteExtra", self.delete_extra.then(|| "true".to_owned())),
            ("--item", ITEMS, list(items)),
            ("--include", "include", list(patterns)),
            ("--exclude", "exclude", list(self.exclude)),
            ("--no-verify", "verify", self.no_verify.then(|| "false".to_owned())),
        ];
        for (option, key, value) in options {
            if let Some(value) = value
                && edits.insert(key.to_owned(), value).is_some()
            {
                return Err(CliError::usage(format!(
                    "{option} and --metadata {key} say the same thing; give one of them"
                )));
            }
        }

        let (arn, vault) = match (self.recovery_point, self.resource) {
            (Some(arn), _) => {
                let vault = resolve::vault_of_point(client, &arn, self.vault.as_deref())?;
                (arn, vault)
            }
            (None, resource) => {
                // The command line wants one of the two.
                let resource = resource.unwrap_or_default();
                let point = resolve::newest_point(client, &resource)?;
                let arn = point.recovery_point_arn.unwrap_or_default();
                let status = point.status.map(|s| s.to_string()).unwrap_or_default();
                if status == "PARTIAL" {
                    context.out.note(&format!(
                        "note: the newest recovery point, {arn}, is PARTIAL: it lacks some paths"
                    ))?;
                }
                let vault = match (point.backup_vault_name, self.vault) {
                    (Some(found), Some(wanted)) if found != wanted => {
                        return Err(CliError::Name(format!(
                            "the newest recovery point of '{resource}' is in vault {found}, not in \
                             {wanted}; leave --vault out, or give a recovery point's ARN"
                        )));
                    }
                    (Some(found), _) => found,
                    (None, wanted) => resolve::vault_of_point(client, &arn, wanted.as_deref())?,
                };
                (arn, vault)
            }
        };

        let found = client.ask(&GetRecoveryPointRestoreMetadataInput {
            backup_vault_name: Some(vault),
            recovery_point_arn: Some(arn.clone()),
            ..GetRecoveryPointRestoreMetadataInput::default()
        })?;
        let mut metadata = found.typed.restore_metadata.unwrap_or_default();
        metadata.extend(edits);
        if self.dry_run {
            let asked = PreviewRestoreInput {
                recovery_point_arn: arn,
                metadata,
                resource_type: found.typed.resource_type,
            };
            return restore_preview::show(context, &asked);
        }
        let started = client.ask(&StartRestoreJobInput {
            recovery_point_arn: Some(arn),
            metadata: Some(metadata),
            resource_type: found.typed.resource_type,
            iam_role_arn: Some(resolve::role_arn(client, &self.role)?),
            idempotency_token: Some(uuid::Uuid::new_v4().to_string()),
            ..StartRestoreJobInput::default()
        })?;
        let id = started.typed.restore_job_id.unwrap_or_default();
        if self.watch {
            return jobs::watch_restore(context, &id);
        }
        context.out.show_line(&started.json, &id)?;
        Ok(Exit::Done)
    }
}
