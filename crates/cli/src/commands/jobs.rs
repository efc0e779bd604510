//! `jobs`: backup jobs, restore jobs and restore tests alike.

use std::collections::BTreeMap;

use provault_wire::Timestamp;
use provault_wire::enums::{BackupJobState, RestoreJobStatus};
use provault_wire::provault::JobLog;
use provault_wire::types::{
    BackupJob, DescribeBackupJobInput, DescribeBackupJobOutput, DescribeRestoreJobInput,
    DescribeRestoreJobOutput, ListBackupJobsInput, ListRestoreJobsInput, RestoreJobsListMember,
    StopBackupJobInput,
};
use serde_json::{Value, json};

use super::{Context, gone, restore_test, vault_care};
use crate::client::{Answer, segment};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, epoch, seconds, size, time};
use crate::resolve;
use crate::watch::{Seen, Watched, follow, percent};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct JobsArgs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
pub enum JobsCommand {
    /// List jobs, oldest first
    List(ListArgs),
    /// Show a job
    Show {
        /// The job's id
        id: String,
        /// Wait for its end, and let the exit code tell how it ended
        #[arg(long)]
        watch: bool,
    },
    /// Show everything a job went through, every step with its time
    Log {
        /// The job's id
        id: String,
    },
    /// Stop a job
    Stop {
        /// The job's id
        id: String,
    },
}

#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// Only jobs in this state, such as RUNNING or FAILED
    #[arg(long)]
    state: Option<String>,
    /// Only jobs of this resource, by name or ARN
    #[arg(long)]
    resource: Option<String>,
    /// Wait until every job listed has ended; the exit code tells the worst end
    #[arg(long)]
    watch: bool,
}

const TEST_STATES: [&str; 8] = [
    "PENDING",
    "CHOOSING",
    "RESTORING",
    "TESTING",
    "CONTROLLING",
    "VALIDATING",
    "REAPING",
    "FINISHED",
];

impl JobsArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        match self.command {
            None => list(context, &self.list),
            Some(JobsCommand::List(args)) => list(context, &args),
            Some(JobsCommand::Show { id, watch }) => show(context, &id, watch),
            Some(JobsCommand::Log { id }) => log(context, &id),
            Some(JobsCommand::Stop { id }) => stop(context, &id),
        }
    }
}

/// One row of the list.
struct Row {
    kind: &'static str,
    id: String,
    state: String,
    verdict: Option<String>,
    resource: String,
    percent: Option<String>,
    bytes: Option<i64>,
    created: Option<Timestamp>,
    message: Option<String>,
    ended: bool,
}

/// All jobs that fit, as the API sent them and as rows.
struct Jobs {
    json: Value,
    rows: Vec<Row>,
}

fn gather(context: &Context<'_>, args: &ListArgs) -> Result<Jobs, CliError> {
    let client = context.client;
    let state = args.state.as_ref().map(|state| state.to_ascii_uppercase());
    let has = |known: &[&str]| state.as_ref().is_none_or(|state| known.contains(&state.as_str()));
    let (backup_states, restore_states) = (BackupJobState::KNOWN, RestoreJobStatus::KNOWN);
    if !(has(backup_states) || has(restore_states) || has(&TEST_STATES)) {
        return Err(CliError::usage(format!(
            "no job has the state '{}'; backup jobs have {}, restore jobs {}, restore tests {}",
            args.state.as_deref().unwrap_or_default(),
            backup_states.join(" "),
            restore_states.join(" "),
            TEST_STATES.join(" ")
        )));
    }
    let arn = args.resource.as_ref().map(|r| resolve::resource_arn(client, r)).transpose()?;
    let mut json = json!({ "BackupJobs": [], "RestoreJobs": [], "RestoreTests": [] });
    let mut rows = Vec::new();
    if has(backup_states) {
        let input = ListBackupJobsInput {
            by_state: state.as_deref().map(Into::into),
            by_resource_arn: arn.clone(),
            ..ListBackupJobsInput::default()
        };
        let mut jobs = client.ask_all(&input)?;
        json["BackupJobs"] = jobs.json["BackupJobs"].take();
        rows.extend(jobs.typed.backup_jobs.unwrap_or_default().into_iter().map(backup_row));
    }
    if has(restore_states) {
        let input = ListRestoreJobsInput {
            by_status: state.as_deref().map(Into::into),
            ..ListRestoreJobsInput::default()
        };
        let mut jobs = client.ask_all(&input)?;
        // This list has no filter for the resource.
        let of_arn = |job: &RestoreJobsListMember| arn.is_none() || job.source_resource_arn == arn;
        let mut raw = jobs.json["RestoreJobs"].take();
        if let Some(raw) = raw.as_array_mut() {
            raw.retain(|job| {
                arn.as_ref().is_none_or(|arn| job["SourceResourceArn"].as_str() == Some(arn))
            });
        }
        json["RestoreJobs"] = raw;
        let jobs = jobs.typed.restore_jobs.unwrap_or_default().into_iter().filter(of_arn);
        rows.extend(jobs.map(restore_row));
    }
    if has(&TEST_STATES) {
        let mut tests = restore_test::list(context, arn.as_deref())?;
        let in_state = |name: &str| state.as_ref().is_none_or(|state| state == name);
        let mut raw = tests.json["RestoreTests"].take();
        if let Some(raw) = raw.as_array_mut() {
            raw.retain(|test| test["State"].as_str().is_some_and(in_state));
        }
        json["RestoreTests"] = raw;
        let tests = tests.typed.restore_tests.into_iter().filter(|test| in_state(&test.state));
        rows.extend(tests.map(|t| Row {
            kind: "restore test",
            id: t.restore_test_id,
            ended: t.state == "FINISHED",
            state: t.state,
            verdict: t.verdict,
            resource: t.resource_name,
            percent: None,
            bytes: None,
            created: Timestamp::from_epoch_seconds(t.creation_date),
            message: t.reason.or(t.waiting),
        }));
    }
    rows.sort_by_key(|row| row.created);
    Ok(Jobs { json, rows })
}

fn backup_row(job: BackupJob) -> Row {
    let state = job.state.map(|s| s.to_string()).unwrap_or_default();
    Row {
        kind: "backup",
        id: job.backup_job_id.unwrap_or_default(),
        ended: is_final(&state),
        state,
        verdict: None,
        resource: dash(job.resource_name.or(job.resource_arn)),
        percent: job.percent_done,
        bytes: job.backup_size_in_bytes,
        created: job.creation_date,
        message: job.status_message,
    }
}

fn restore_row(job: RestoreJobsListMember) -> Row {
    let state = job.status.map(|s| s.to_string()).unwrap_or_default();
    Row {
        kind: "restore",
        id: job.restore_job_id.unwrap_or_default(),
        ended: is_final(&state),
        state,
        verdict: job.validation_status.map(|s| s.to_string()),
        resource: dash(job.source_resource_arn),
        percent: job.percent_done,
        bytes: job.backup_size_in_bytes,
        created: job.creation_date,
        message: job.status_message,
    }
}

fn is_final(state: &str) -> bool {
    ["ABORTED", "COMPLETED", "FAILED", "EXPIRED", "PARTIAL"].contains(&state)
}

fn list(context: &Context<'_>, args: &ListArgs) -> Result<Exit, CliError> {
    let mut jobs = gather(context, args)?;
    let mut exit = Exit::Done;
    if args.watch {
        exit = watch_all(context, &jobs)?;
        // The state asked for was that of the beginning: show the same jobs as they are now.
        let ids: Vec<String> = jobs.rows.iter().map(|row| row.id.clone()).collect();
        jobs = gather(context, &ListArgs { state: None, ..args.clone() })?;
        jobs.rows.retain(|row| ids.contains(&row.id));
        for (list, id) in [
            ("BackupJobs", "BackupJobId"),
            ("RestoreJobs", "RestoreJobId"),
            ("RestoreTests", "RestoreTestId"),
        ] {
            if let Some(list) = jobs.json[list].as_array_mut() {
                list.retain(|job| job[id].as_str().is_some_and(|id| ids.iter().any(|i| i == id)));
            }
        }
    }
    context.out.show(&jobs.json, || vec![table(jobs.rows)])?;
    Ok(exit)
}

fn table(rows: Vec<Row>) -> View {
    View::table(&["TYPE", "JOB ID", "STATE", "DONE", "RESOURCE", "SIZE", "CREATED", "MESSAGE"])
        .rows(rows.into_iter().map(|row| {
            let done = percent(row.percent.as_deref()).map(|p| format!("{p:.0}%"));
            vec![
                row.kind.to_owned(),
                row.id,
                // The verdict is what one wants to know of a test that is over.
                row.verdict.filter(|_| row.kind == "restore test").unwrap_or(row.state),
                dash(done),
                row.resource,
                dash(row.bytes.map(size)),
                dash(row.created.map(time)),
                dash(row.message),
            ]
        }))
}

/// Follows every job that has not ended, one after the other: the wait is as long as the longest.
fn watch_all(context: &Context<'_>, jobs: &Jobs) -> Result<Exit, CliError> {
    (context.before_watch)();
    let mut exit = Exit::Done;
    for row in jobs.rows.iter().filter(|row| !row.ended) {
        let end = match row.kind {
            "backup" => ended_backup(context, &row.id)?.1,
            "restore" => ended_restore(context, &row.id)?.1,
            _ => ended_test(context, &row.id)?.1,
        };
        exit = exit.worse(end);
    }
    Ok(exit)
}

fn get_backup(
    context: &Context<'_>,
    id: &str,
) -> Result<Answer<DescribeBackupJobOutput>, CliError> {
    context.client.ask(&DescribeBackupJobInput { backup_job_id: Some(id.to_owned()) })
}

fn get_restore(
    context: &Context<'_>,
    id: &str,
) -> Result<Answer<DescribeRestoreJobOutput>, CliError> {
    context.client.ask(&DescribeRestoreJobInput { restore_job_id: Some(id.to_owned()) })
}

fn ended_backup(
    context: &Context<'_>,
    id: &str,
) -> Result<(Answer<DescribeBackupJobOutput>, Exit), CliError> {
    let what = format!("backup job {id}");
    let job = follow(context, &Watched { what: &what, id }, || {
        let job = get_backup(context, id)?;
        let state = job.typed.state.as_ref().map(ToString::to_string).unwrap_or_default();
        let ended = is_final(&state);
        let bytes = job.typed.bytes_transferred.map(|bytes| format!("{} read", size(bytes)));
        let detail = job.typed.status_message.clone().filter(|text| !text.is_empty()).or(bytes);
        let percent = percent(job.typed.percent_done.as_deref());
        Ok((Seen { state, percent, detail: detail.unwrap_or_default(), ended }, job))
    })?;
    let exit = Exit::of_state(job.typed.state.as_ref().map_or("", BackupJobState::as_str));
    Ok((job, exit))
}

fn ended_restore(
    context: &Context<'_>,
    id: &str,
) -> Result<(Answer<DescribeRestoreJobOutput>, Exit), CliError> {
    let what = format!("restore job {id}");
    let job = follow(context, &Watched { what: &what, id }, || {
        let job = get_restore(context, id)?;
        let state = job.typed.status.as_ref().map(ToString::to_string).unwrap_or_default();
        let ended = is_final(&state);
        let detail = job.typed.status_message.clone().unwrap_or_default();
        let percent = percent(job.typed.percent_done.as_deref());
        Ok((Seen { state, percent, detail, ended }, job))
    })?;
    let exit = Exit::of_state(job.typed.status.as_ref().map_or("", RestoreJobStatus::as_str));
    Ok((job, exit))
}

fn ended_test(
    context: &Context<'_>,
    id: &str,
) -> Result<(Answer<provault_wire::provault::RestoreTest>, Exit), CliError> {
    let what = format!("restore test {id}");
    let test = follow(context, &Watched { what: &what, id }, || {
        let test = restore_test::get(context, id)?;
        Ok((restore_test::seen(&test.typed), test))
    })?;
    let exit = Exit::of_verdict(test.typed.verdict.as_deref());
    Ok((test, exit))
}

pub(super) fn watch_backup(context: &Context<'_>, id: &str) -> Result<Exit, CliError> {
    (context.before_watch)();
    let (job, exit) = ended_backup(context, id)?;
    show_backup(context, job)?;
    Ok(exit)
}

pub(super) fn watch_restore(context: &Context<'_>, id: &str) -> Result<Exit, CliError> {
    (context.before_watch)();
    let (job, exit) = ended_restore(context, id)?;
    show_restore(context, job)?;
    Ok(exit)
}

pub(super) fn watch_test(context: &Context<'_>, id: &str) -> Result<Exit, CliError> {
    (context.before_watch)();
    let (test, exit) = ended_test(context, id)?;
    restore_test::show(context, &test)?;
    Ok(exit)
}

fn get_log(context: &Context<'_>, id: &str) -> Result<Answer<JobLog>, CliError> {
    context.client.own("GET", &format!("/jobs/{}/log", segment(id)), &[], None)
}

/// The log is the one place that knows all jobs, and says of which type one is.
fn job_type(context: &Context<'_>, id: &str) -> Result<String, CliError> {
    Ok(get_log(context, id)?.typed.job_type)
}

fn unknown_type(id: &str, job_type: &str) -> CliError {
    CliError::Name(format!(
        "job {id} is of the type {job_type}, which this program does not know; use the one that \
         belongs to the server"
    ))
}

fn show(context: &Context<'_>, id: &str, watch: bool) -> Result<Exit, CliError> {
    match (job_type(context, id)?.as_str(), watch) {
        ("BACKUP", true) => return watch_backup(context, id),
        ("RESTORE", true) => return watch_restore(context, id),
        ("RESTORE_TEST", true) => return watch_test(context, id),
        ("CARE", true) => return vault_care::watch(context, id),
        ("CARE", false) => vault_care::show_run(context, &vault_care::get_run(context, id)?)?,
        ("BACKUP", false) => show_backup(context, get_backup(context, id)?)?,
        ("RESTORE", false) => show_restore(context, get_restore(context, id)?)?,
        ("RESTORE_TEST", false) => restore_test::show(context, &restore_test::get(context, id)?)?,
        (other, _) => return Err(unknown_type(id, other)),
    }
    Ok(Exit::Done)
}

fn stop(context: &Context<'_>, id: &str) -> Result<Exit, CliError> {
    match job_type(context, id)?.as_str() {
        "BACKUP" => {
            context.client.ask(&StopBackupJobInput { backup_job_id: Some(id.to_owned()) })?;
            gone(context, &format!("asked backup job {id} to stop"))
        }
        "RESTORE" => {
            let path = format!("/restore-jobs/{}/stop", segment(id));
            context.client.own::<Value>("POST", &path, &[], None)?;
            gone(context, &format!("asked restore job {id} to stop"))
        }
        "RESTORE_TEST" => restore_test::stop(context, id),
        "CARE" => vault_care::stop(context, id),
        other => Err(unknown_type(id, other)),
    }
}

fn log(context: &Context<'_>, id: &str) -> Result<Exit, CliError> {
    let log = get_log(context, id)?;
    context.out.show(&log.json, || {
        let rows = log.typed.entries.iter().map(|entry| {
            let step = entry.step.as_ref();
            // The step's name has a column of its own, so its detail says the rest.
            let detail = step.map(|s| s.detail.as_str()).filter(|d| !d.is_empty());
            let message = detail.unwrap_or(&entry.message).to_owned();
            vec![
                entry.sequence.to_string(),
                epoch(entry.time),
                dash(entry.state.clone()),
                dash(step.map(|s| s.name.clone())),
                dash(step.map(|s| seconds(s.seconds))),
                dash(step.map(|s| if s.ok { "ok" } else { "failed" }.to_owned())),
                message,
            ]
        });
        let headers = ["NUMBER", "TIME", "STATE", "STEP", "TOOK", "RESULT", "MESSAGE"];
        let mut views = vec![View::table(&headers).rows(rows)];
        if !log.typed.skipped.is_empty() {
            let rows = log.typed.skipped.iter().map(|s| vec![s.path.clone(), s.reason.clone()]);
            views.push(View::table(&["PATH", "REASON"]).titled("Not in the backup").rows(rows));
        }
        views
    })?;
    Ok(Exit::Done)
}

fn show_backup(
    context: &Context<'_>,
    job: Answer<DescribeBackupJobOutput>,
) -> Result<(), CliError> {
    context.out.show(&job.json, || {
        let j = job.typed;
        let states = |map: BTreeMap<BackupJobState, i64>| {
            map.iter().map(|(s, n)| format!("{s} {n}")).collect::<Vec<_>>().join(", ")
        };
        let view = View::fields()
            .field("Job", j.backup_job_id)
            .field("State", j.state.map(|s| s.to_string()))
            .field("Message", j.status_message)
            .field("Done", percent(j.percent_done.as_deref()).map(|p| format!("{p:.0}%")))
            .field("Resource", j.resource_name)
            .field("Resource ARN", j.resource_arn)
            .field("Resource type", j.resource_type)
            .field("Vault", j.backup_vault_name)
            .field("Recovery point", j.recovery_point_arn)
            .field("Size", j.backup_size_in_bytes.map(size))
            .field("Transferred", j.bytes_transferred.map(size))
            .field("Role", j.iam_role_arn)
            .field("Plan", j.created_by.and_then(|by| by.backup_plan_id))
            .field("Child jobs", j.child_jobs_in_state.map(states))
            .field("Created", j.creation_date.map(time))
            .field("Must start by", j.start_by.map(time))
            .field("Completed", j.completion_date.map(time));
        vec![view]
    })
}

fn show_restore(
    context: &Context<'_>,
    job: Answer<DescribeRestoreJobOutput>,
) -> Result<(), CliError> {
    context.out.show(&job.json, || {
        let j = job.typed;
        let view = View::fields()
            .field("Job", j.restore_job_id)
            .field("Status", j.status.map(|s| s.to_string()))
            .field("Message", j.status_message)
            .field("Done", percent(j.percent_done.as_deref()).map(|p| format!("{p:.0}%")))
            .field("Recovery point", j.recovery_point_arn)
            .field("Source", j.source_resource_arn)
            .field("Created resource", j.created_resource_arn)
            .field("Resource type", j.resource_type)
            .field("Size", j.backup_size_in_bytes.map(size))
            .field("Role", j.iam_role_arn)
            .field("Validation", j.validation_status.map(|s| s.to_string()))
            .field("Validation message", j.validation_status_message)
            .field("Deletion", j.deletion_status.map(|s| s.to_string()))
            .field("Deletion message", j.deletion_status_message)
            .field("Created", j.creation_date.map(time))
            .field("Completed", j.completion_date.map(time));
        vec![view]
    })
}
