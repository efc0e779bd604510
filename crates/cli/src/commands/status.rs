//! `status` and `doctor`: whether all is well, for people and for monitoring.

use provault_wire::provault::{Finding, Health, ResourceStatus, StandingAlarm, Status};

use super::Context;
use crate::client::Answer;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, epoch};

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Show only what is not as it should be
    #[arg(long)]
    troubles: bool,
}

#[derive(Debug, clap::Args)]
pub struct DoctorArgs {}

impl DoctorArgs {
    #[allow(clippy::unused_self, reason = "commands with and without options are run alike")]
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let health: Answer<Health> = context.client.own("GET", "/doctor", &[], None)?;
        context.out.show(&health.json, || {
            let row = |f: &Finding| vec![f.check.clone(), f.state.clone(), f.detail.clone()];
            let findings = health.typed.findings.iter().map(row);
            vec![View::table(&["CHECK", "STATE", "DETAIL"]).rows(findings)]
        })?;
        // What is to be looked at some day is no reason to wake anybody.
        Ok(if health.typed.state == "FAILED" { Exit::Failed } else { Exit::Done })
    }
}

impl StatusArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let status: Answer<Status> = context.client.own("GET", "/status", &[], None)?;
        context.out.show(&status.json, || self.views(&status.typed))?;
        if status.typed.well {
            return Ok(Exit::Done);
        }
        context.out.note(&summary(&status.typed))?;
        Ok(Exit::Failed)
    }

    fn views(&self, status: &Status) -> Vec<View> {
        let shown = |resource: &&ResourceStatus| !self.troubles || !resource.troubles.is_empty();
        let resources = status.resources.iter().filter(shown).map(|resource| {
            vec![
                resource.name.clone(),
                resource.protection.clone(),
                dash(resource.verdict.clone()),
                dash(resource.last_backup_time.map(epoch)),
                dash(Some(reasons(resource))),
            ]
        });
        let resources = View::table(&["NAME", "PROTECTION", "VERDICT", "LAST BACKUP", "REASON"])
            .titled("Resources")
            .rows(resources);
        let alarms = status.alarms.iter().map(|alarm: &StandingAlarm| {
            vec![
                alarm.backup_vault_name.clone(),
                alarm.alarm.clone(),
                epoch(alarm.since),
                alarm.message.clone(),
            ]
        });
        let alarms =
            View::table(&["VAULT", "ALARM", "SINCE", "MESSAGE"]).titled("Vaults").rows(alarms);
        let both = [resources, alarms].into_iter();
        both.filter(|view| !view.is_empty()).collect()
    }
}

/// What is wrong, or why that is none.
fn reasons(resource: &ResourceStatus) -> String {
    if let Some(exemption) = resource.exemption.as_ref().filter(|_| resource.protection == "EXEMPT")
    {
        let until = epoch(exemption.end_date);
        return format!("until {until}, {}: {}", exemption.owner, exemption.reason);
    }
    let reasons: Vec<&str> = resource.troubles.iter().map(|t| t.reason.as_str()).collect();
    // Where nothing is wrong, why the newest point has no verdict.
    if reasons.is_empty() {
        return resource.left_out.clone().unwrap_or_default();
    }
    reasons.join(" ")
}

/// One line that says how much is wrong.
fn summary(status: &Status) -> String {
    let resources = status.resources.iter().filter(|r| !r.troubles.is_empty()).count();
    let count = |n: usize, one: &str, more: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {more}"),
    };
    format!(
        "not well: {} of {} with a trouble, {}",
        count(resources, "resource", "resources"),
        status.resources.len(),
        count(status.alarms.len(), "alarm of a vault", "alarms of vaults"),
    )
}
