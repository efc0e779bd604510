//! `restore-test`: the proof of a recovery point.

use provault_wire::enums::RestoreValidationStatus;
use provault_wire::provault::{RestoreTest, RestoreTestList, StartRestoreTestInput, Step};
use provault_wire::types::PutRestoreValidationResultInput;
use serde_json::Value;

use super::resource::body;
use super::{Context, gone, jobs};
use crate::client::{Answer, segment};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, epoch, seconds};
use crate::resolve;
use crate::watch::Seen;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RestoreTestArgs {
    #[command(subcommand)]
    command: Option<RestoreTestCommand>,
    /// Test the newest recovery point of this resource, by name or ARN (one that is called list,
    /// show, stop or validate by its ARN)
    #[arg(required_unless_present = "recovery_point", conflicts_with = "recovery_point")]
    resource: Option<String>,
    /// Test this recovery point
    #[arg(long, value_name = "ARN")]
    recovery_point: Option<String>,
    /// Wait for the verdict and show how the test goes on
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, clap::Subcommand)]
pub enum RestoreTestCommand {
    /// List restore tests, newest first
    List {
        /// Only those of this resource, by name or ARN
        #[arg(long)]
        resource: Option<String>,
    },
    /// Show a restore test: its verdict and the evidence for it
    Show {
        /// The test's id
        id: String,
    },
    /// Stop a restore test; what it created is deleted
    Stop {
        /// The test's id
        id: String,
    },
    /// Say what you found in the copy that a restore test keeps for validation; the copy is deleted
    Validate {
        /// The id of the test, or of its restore job
        id: String,
        #[command(flatten)]
        found: Found,
        /// Why, in a line; it stands in the verdict's reason
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Found {
    /// The copy is what it should be
    #[arg(long)]
    successful: bool,
    /// It is not: the test FAILED
    #[arg(long)]
    failed: bool,
    /// It cannot be said: the test is INCONCLUSIVE
    #[arg(long)]
    timed_out: bool,
}

impl Found {
    fn status(&self) -> &'static str {
        match (self.successful, self.failed) {
            (true, _) => "SUCCESSFUL",
            (_, true) => "FAILED",
            _ => "TIMED_OUT",
        }
    }
}

impl RestoreTestArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        match self.command {
            Some(RestoreTestCommand::List { resource }) => {
                let list = list(context, resource.as_deref())?;
                context.out.show(&list.json, || vec![table(&list.typed.restore_tests)])?;
                Ok(Exit::Done)
            }
            Some(RestoreTestCommand::Show { id }) => {
                show(context, &get(context, &id)?)?;
                Ok(Exit::Done)
            }
            Some(RestoreTestCommand::Stop { id }) => stop(context, &id),
            Some(RestoreTestCommand::Validate { id, found, message }) => {
                validate(context, &id, &found, message)
            }
            None => {
                let (resource, recovery_point_arn) = (self.resource, self.recovery_point);
                let body = body(&StartRestoreTestInput { resource, recovery_point_arn })?;
                let started: Answer<RestoreTest> =
                    client.own("POST", "/restore-tests", &[], Some(&body))?;
                if self.watch {
                    return jobs::watch_test(context, &started.typed.restore_test_id);
                }
                context.out.show_line(&started.json, &started.typed.restore_test_id)?;
                Ok(Exit::Done)
            }
        }
    }
}

pub(super) fn get(context: &Context<'_>, id: &str) -> Result<Answer<RestoreTest>, CliError> {
    context.client.own("GET", &format!("/restore-tests/{}", segment(id)), &[], None)
}

pub(super) fn stop(context: &Context<'_>, id: &str) -> Result<Exit, CliError> {
    let path = format!("/restore-tests/{}/stop", segment(id));
    context.client.own::<Value>("POST", &path, &[], None)?;
    gone(context, &format!("asked restore test {id} to stop; it deletes what it created"))
}

/// The API knows the restore job alone; a person has the test's id, a notification the job's.
fn validate(
    context: &Context<'_>,
    id: &str,
    found: &Found,
    message: Option<String>,
) -> Result<Exit, CliError> {
    let job = match get(context, id) {
        Ok(test) => test.typed.restore_job_id.ok_or_else(|| {
            CliError::Name(format!(
                "restore test {id} has made no copy yet; see 'provault restore-test show {id}'"
            ))
        })?,
        // No test, or none that the caller may see: the server says what becomes of a job of this id.
        Err(CliError::Api(_)) => id.to_owned(),
        Err(error) => return Err(error),
    };
    context.client.ask(&PutRestoreValidationResultInput {
        restore_job_id: Some(job.clone()),
        validation_status: Some(RestoreValidationStatus::from(found.status())),
        validation_status_message: message,
    })?;
    gone(context, &format!("reported {} about restore job {job}", found.status()))
}

pub(super) fn list(
    context: &Context<'_>,
    resource: Option<&str>,
) -> Result<Answer<RestoreTestList>, CliError> {
    let arn = resource.map(|name| resolve::resource_arn(context.client, name)).transpose()?;
    let query: Vec<(&str, &str)> = arn.iter().map(|arn| ("resourceArn", arn.as_str())).collect();
    context.client.own("GET", "/restore-tests", &query, None)
}

/// What a look at a running test shows.
pub(super) fn seen(test: &RestoreTest) -> Seen {
    let ended = test.state == "FINISHED";
    let detail = match (&test.verdict, &test.reason) {
        (Some(verdict), Some(reason)) => format!("{verdict}: {reason}"),
        (Some(verdict), None) => verdict.clone(),
        _ if test.waiting.is_some() => test.waiting.clone().unwrap_or_default(),
        _ if test.state == "VALIDATING" => kept(test).unwrap_or_default(),
        _ => test.steps.last().map_or_else(String::new, |step| {
            format!("after {}, {}", step.name, seconds(step.seconds))
        }),
    };
    Seen { state: test.state.clone(), percent: None, detail, ended }
}

pub(super) fn show(context: &Context<'_>, test: &Answer<RestoreTest>) -> Result<(), CliError> {
    context.out.show(&test.json, || views(&test.typed))
}

/// Where the copy lies that somebody is to look at, and how long.
fn kept(test: &RestoreTest) -> Option<String> {
    let asked = test.validation.as_ref()?;
    Some(format!("{} until {}", asked.copy_path, epoch(asked.until_date)))
}

/// What was said of the copy, once something was.
fn said(test: &RestoreTest) -> Option<String> {
    let asked = test.validation.as_ref()?;
    Some(match &asked.message {
        Some(message) => format!("{}: {message}", asked.status),
        None => asked.status.clone(),
    })
}

fn table(tests: &[RestoreTest]) -> View {
    View::table(&["ID", "CREATED", "STATE", "VERDICT", "RESOURCE", "RECOVERY TIME", "REASON"]).rows(
        tests.iter().map(|t| {
            vec![
                t.restore_test_id.clone(),
                epoch(t.creation_date),
                t.state.clone(),
                dash(t.verdict.clone()),
                t.resource_name.clone(),
                dash(t.recovery_seconds.map(seconds)),
                dash(t.reason.clone().or_else(|| t.waiting.clone())),
            ]
        }),
    )
}

fn views(t: &RestoreTest) -> Vec<View> {
    let target = |measured: String, target: Option<u64>| match target {
        Some(limit) => format!("{measured} (target {})", crate::duration::Seconds(limit)),
        None => format!("{measured} (no target set)"),
    };
    #[allow(clippy::cast_precision_loss)] // An age in seconds, shown to the tenth.
    let age = t.recovery_point_age_seconds.map(|age| seconds(age as f64));
    let mut views = vec![
        View::fields()
            .field("Id", t.restore_test_id.clone())
            .field("Resource", format!("{} ({})", t.resource_name, t.resource_arn))
            .field("State", t.state.clone())
            .field("Verdict", t.verdict.clone())
            .field("Reason", t.reason.clone())
            .field("Waiting", t.waiting.clone())
            .field("Copy kept", kept(t).filter(|_| t.state == "VALIDATING"))
            .field("Validation", said(t))
            .field("Recovery point", t.recovery_point_arn.clone())
            .field("Recovery time", t.recovery_seconds.map(|s| target(seconds(s), t.rto_seconds)))
            .field("Age of the point", age.map(|age| target(age, t.rpo_seconds)))
            .field("Isolation", t.isolation.clone())
            .field("Restore job", t.restore_job_id.clone())
            .field("After backup job", t.backup_job_id.clone())
            .field("Cleaned up", t.cleaned_up.map(|done| done.to_string()))
            .field("Created", epoch(t.creation_date))
            .field("Completed", t.completion_date.map(epoch)),
        View::table(&["PROBE", "PASSED", "AFTER", "DETAIL"]).titled("Probes").rows(
            t.probes.iter().map(|p| {
                vec![p.label.clone(), p.passed.to_string(), seconds(p.seconds), p.detail.clone()]
            }),
        ),
        View::table(&["PROBE", "OUTPUT"]).titled("What the copy answered").rows(
            t.probes.iter().filter_map(|p| {
                let output = p.output.as_deref()?.trim();
                (!output.is_empty()).then(|| vec![p.label.clone(), output.to_owned()])
            }),
        ),
        View::table(&["BROKEN COPY", "REQUIRED", "NOTICED", "DETAIL"])
            .titled(if t.mutants_cached {
                "Negative control (from an earlier test with the same probes)"
            } else {
                "Negative control"
            })
            .rows(t.mutants.iter().map(|m| {
                vec![
                    m.name.clone(),
                    m.required.to_string(),
                    m.killed.map_or_else(|| "not tried".to_owned(), |killed| killed.to_string()),
                    m.detail.clone(),
                ]
            })),
        View::table(&["STEP", "STARTED", "TOOK", "OK", "DETAIL"])
            .titled("Steps")
            .rows(t.steps.iter().map(step)),
    ];
    views.retain(|view| !view.is_empty());
    views
}

fn step(s: &Step) -> Vec<String> {
    vec![
        s.name.clone(),
        epoch(s.start_date),
        seconds(s.seconds),
        s.ok.to_string(),
        s.detail.clone(),
    ]
}
