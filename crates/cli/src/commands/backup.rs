//! `backup`: an on-demand backup.

use provault_wire::types::{Lifecycle, StartBackupJobInput};

use super::{Context, jobs};
use crate::duration::{Days, Minutes};
use crate::error::CliError;
use crate::exit::Exit;
use crate::resolve;
use crate::words::{Pair, to_map};

#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// The resource, by name or ARN
    resource: String,
    /// The vault that the recovery point goes to
    #[arg(long, default_value = "Default")]
    vault: String,
    /// How long the recovery point is kept, in whole days: 1d [default: for ever]
    #[arg(long, value_name = "TIME")]
    keep: Option<Days>,
    /// Wait for the job's end and show its progress
    #[arg(long)]
    watch: bool,
    /// The role that the job runs under, by name or ARN
    #[arg(long, default_value = "DEFAULT")]
    role: String,
    /// Tag KEY=VALUE of the recovery point; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<Pair>,
    /// How long the job may wait for its start, at least 60m
    #[arg(long, value_name = "TIME")]
    start_window: Option<Minutes>,
    /// How long the job may take
    #[arg(long, value_name = "TIME")]
    completion_window: Option<Minutes>,
}

impl BackupArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        let tags = to_map("--tag", &self.tag)?;
        let input = StartBackupJobInput {
            resource_arn: Some(resolve::resource_arn(client, &self.resource)?),
            iam_role_arn: Some(resolve::role_arn(client, &self.role)?),
            backup_vault_name: Some(self.vault),
            lifecycle: self.keep.map(|Days(days)| Lifecycle {
                delete_after_days: Some(days),
                ..Lifecycle::default()
            }),
            recovery_point_tags: (!tags.is_empty()).then_some(tags),
            start_window_minutes: self.start_window.map(|Minutes(minutes)| minutes),
            complete_window_minutes: self.completion_window.map(|Minutes(minutes)| minutes),
            // The same token on a repetition means the same job.
            idempotency_token: Some(uuid::Uuid::new_v4().to_string()),
            ..StartBackupJobInput::default()
        };
        let started = client.ask(&input)?;
        let id = started.typed.backup_job_id.unwrap_or_default();
        if self.watch {
            return jobs::watch_backup(context, &id);
        }
        context.out.show_line(&started.json, &id)?;
        Ok(Exit::Done)
    }
}
