//! `status` and `doctor`: whether all is well, for people and for monitoring.

use provault_wire::provault::{Finding, Health, ResourceStatus, StandingAlarm, Status};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

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
        let healths = ask_each_region::<Health>(context, "/doctor")?;
        let has = |state: &str| healths.iter().any(|(_, health)| health.typed.state == state);
        let worst = ["FAILED", "WARNING"].into_iter().find(|state| has(state)).unwrap_or("OK");
        context.out.show(&together(&healths, "State", &json!(worst)), || {
            let several = healths.len() > 1;
            let view = |(region, health): &(String, Answer<Health>)| {
                let row = |f: &Finding| vec![f.check.clone(), f.state.clone(), f.detail.clone()];
                let findings = health.typed.findings.iter().map(row);
                let view = View::table(&["CHECK", "STATE", "DETAIL"]).rows(findings);
                if several { view.titled(region) } else { view }
            };
            healths.iter().map(view).collect()
        })?;
        // What is to be looked at some day is no reason to wake anybody.
        Ok(if worst == "FAILED" { Exit::Failed } else { Exit::Done })
    }
}

/// What each region of the server says, one after the other.
fn ask_each_region<T: DeserializeOwned>(
    context: &Context<'_>,
    path: &str,
) -> Result<Vec<(String, Answer<T>)>, CliError> {
    let clients = context.client.of_each_region();
    let ask = |client: crate::client::Client| {
        Ok((client.region().to_owned(), client.own("GET", path, &[], None)?))
    };
    clients.into_iter().map(ask).collect()
}

/// The answer as the API gave it; those of several regions by region, and a member that says how all of it is.
fn together<T>(answers: &[(String, Answer<T>)], member: &str, all: &Value) -> Value {
    if let [(_, only)] = answers {
        return only.json.clone();
    }
    let each = answers.iter().map(|(region, answer)| (region.clone(), answer.json.clone()));
    json!({ member: all, "Regions": each.collect::<Map<_, _>>() })
}

impl StatusArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let statuses = ask_each_region::<Status>(context, "/status")?;
        let well = statuses.iter().all(|(_, status)| status.typed.well);
        let several = statuses.len() > 1;
        // One region needs no name.
        let named = |region: &str, text: &str| {
            if several { format!("{region}: {text}") } else { text.to_owned() }
        };
        context.out.show(&together(&statuses, "Well", &json!(well)), || {
            let views = |(region, status): &(String, Answer<Status>)| {
                self.views(&status.typed, |title| named(region, title))
            };
            statuses.iter().flat_map(views).collect()
        })?;
        for (region, status) in statuses.iter().filter(|(_, status)| !status.typed.well) {
            context.out.note(&named(region, &summary(&status.typed)))?;
        }
        Ok(if well { Exit::Done } else { Exit::Failed })
    }

    fn views(&self, status: &Status, title: impl Fn(&str) -> String) -> Vec<View> {
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
            .titled(title("Resources"))
            .rows(resources);
        let alarms = status.alarms.iter().map(|alarm: &StandingAlarm| {
            vec![
                alarm.backup_vault_name.clone(),
                alarm.alarm.clone(),
                epoch(alarm.since),
                alarm.message.clone(),
            ]
        });
        let alarms = View::table(&["VAULT", "ALARM", "SINCE", "MESSAGE"])
            .titled(title("Vaults"))
            .rows(alarms);
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
