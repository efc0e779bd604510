//! `restore`: a recovery point, or part of it, to a new place.

use std::path::PathBuf;

use provault_wire::types::{GetRecoveryPointRestoreMetadataInput, StartRestoreJobInput};
use serde_json::json;

use super::{Context, absolute, jobs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::resolve;
use crate::words::{Pair, to_map};

/// Where a file system is restored to.
const TARGET: &str = "targetPath";
/// Which paths of it, as a JSON list: AWS Backup's own name for them.
const ITEMS: &str = "ItemsToRestore";

#[derive(Debug, clap::Args)]
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
    /// The directory to restore to; it must not exist yet [default: a new one beside the source]
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
    /// Restore only this path, relative to the resource's root; may be repeated
    #[arg(long, value_name = "PATH")]
    item: Vec<String>,
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
        let items = (!self.item.is_empty()).then(|| json!(self.item).to_string());
        for (option, key, value) in [("--to", TARGET, target), ("--item", ITEMS, items)] {
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
