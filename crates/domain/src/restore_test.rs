//! Restore tests and their state machine.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backup_testing::{LONGEST_WAIT_FOR_ROOM, Obstacle, TestBudget, Waiting};
use crate::plan::add_minutes;
use crate::restore_job::ValidationStatus;
use crate::step::{MOST_ATTEMPTS, is_zero, state_names};
use crate::verdict::{Failure, Fault, Findings, Validation, decide};
use crate::{
    AccountId, Arn, Effect, IllegalTransition, Kind, Notification, NotificationEvent, Region,
    StepRecord, Verdict,
};

/// One restore test: choose → restore → test → negative control → reap → verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreTest {
    /// UUID.
    pub id: String,
    /// Tenant.
    pub account: AccountId,
    /// Site.
    pub region: Region,
    /// The ownership mark of everything the test creates.
    pub token: String,
    /// What is tested.
    pub resource_arn: Arn,
    /// Its name at the time.
    pub resource_name: String,
    /// Its kind.
    pub kind: Kind,
    /// A certain point asked for; `None` for the newest eligible one.
    pub requested_point: Option<Arn>,
    /// The backup job after which it runs by itself; `None` when asked for by hand.
    pub after_backup_job: Option<String>,
    /// The restore testing plan that made it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<PlannedTest>,
    /// Within which budgets it runs, when it follows a backup by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<TestBudget>,
    /// What keeps it from beginning, while something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it first began; an interruption does not change it.
    pub started_at: Option<Timestamp>,
    /// How often it ran and was broken off by the death of its server; an orderly stop does not count. Findings
    /// and steps are those of the last attempt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interruptions: u32,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Where it stands.
    pub state: RestoreTestState,
    /// The point it tests, once chosen.
    pub recovery_point_arn: Option<Arn>,
    /// The vault of that point.
    pub vault_name: Option<String>,
    /// The restore job that made the copy.
    pub restore_job_id: Option<String>,
    /// The name of the copy, once it was made.
    #[serde(default)]
    pub created_resource_arn: Option<Arn>,
    /// What was found out so far.
    pub findings: Findings,
    /// Every step, timed.
    pub steps: Vec<StepRecord>,
    /// The verdict, at the end.
    pub verdict: Option<Verdict>,
    /// Its reason.
    pub reason: Option<String>,
    /// Whether everything the test created is gone; `None` while it runs.
    pub cleaned_up: Option<bool>,
}

/// What a restore testing plan wants of a test that it made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedTest {
    /// The plan.
    pub plan_arn: Arn,
    /// Its name.
    pub plan_name: String,
    /// The selection that matched the resource.
    pub selection_name: String,
    /// The last moment at which the test may start.
    pub start_by: Timestamp,
    /// The role that the restore runs under.
    pub role_arn: Arn,
    /// Restore metadata that goes before the recovery point's own.
    pub metadata_overrides: BTreeMap<String, String>,
    /// Hours that the copy is kept for somebody outside to look at; 0 for not at all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub validation_window_hours: u32,
    /// The occurrences that the test stands for, where it stands for those that nobody was there to
    /// carry out, too many to make up for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<MissedTests>,
}

/// Occurrences of a restore testing plan that are not made up for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedTests {
    /// How many.
    pub occurrences: u64,
    /// When the first of them was due.
    pub first: Timestamp,
    /// When the last of them was due.
    pub last: Timestamp,
}

impl PlannedTest {
    /// Why a test that is too late was not done.
    pub fn late_message(&self) -> String {
        let Some(missed) = &self.missed else {
            return format!(
                "the start window of restore testing plan {} closed at {} before the test could start.",
                self.plan_name, self.start_by
            );
        };
        let MissedTests { occurrences, first, last } = missed;
        format!(
            "{occurrences} occurrence{} of restore testing plan {}, due from {first} to {last}, {} \
             missed: no server was there to carry {} out, or its clock jumped ahead. Only the newest \
             are made up for.",
            if *occurrences == 1 { "" } else { "s" },
            self.plan_name,
            if *occurrences == 1 { "was" } else { "were" },
            if *occurrences == 1 { "it" } else { "them" },
        )
    }
}

/// Where a restore test stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RestoreTestState {
    /// Waiting for its turn.
    Pending,
    /// Choosing the recovery point.
    Choosing,
    /// Restoring into isolation.
    Restoring,
    /// Starting the application and asking the probes.
    Testing,
    /// Asking the same probes of broken copies.
    Controlling,
    /// Keeping a fresh copy for somebody outside who was asked to look at it. No worker holds it.
    Validating,
    /// Deleting everything the test created.
    Reaping,
    /// The verdict is given.
    Finished,
}
state_names!(RestoreTestState {
    Pending = "PENDING",
    Choosing = "CHOOSING",
    Restoring = "RESTORING",
    Testing = "TESTING",
    Controlling = "CONTROLLING",
    Validating = "VALIDATING",
    Reaping = "REAPING",
    Finished = "FINISHED",
});

/// What can happen to a restore test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RestoreTestEvent {
    /// It cannot begin yet.
    Waits {
        /// What keeps it.
        obstacle: Obstacle,
        /// The same for people.
        reason: String,
    },
    /// It is never made: its recovery point was left out, or a newer one has taken its place.
    PassedOver {
        /// Why, for people.
        reason: String,
    },
    /// A runner took it.
    Started,
    /// The recovery point is chosen and its restore job created.
    PointChosen {
        /// The point.
        recovery_point_arn: Arn,
        /// Its vault.
        vault_name: String,
        /// The restore job that will make the copy.
        restore_job_id: String,
        /// What the point lacks, when its backup was PARTIAL.
        incomplete: Option<String>,
        /// Seconds since the point's capture; `None` for a point that the clock says is not yet
        /// captured: its age cannot be known.
        point_age_seconds: Option<u64>,
        /// The resource's target, if set.
        rpo_seconds: Option<u64>,
        /// The resource's target, if set.
        rto_seconds: Option<u64>,
    },
    /// The copy is there.
    Restored {
        /// Its name.
        created_resource_arn: Arn,
    },
    /// The real copy has answered.
    Tested(Box<Findings>),
    /// The broken copies have answered. Where the findings say that somebody outside is asked, the
    /// copy is kept for that, unless nothing that is said could change the verdict.
    Controlled(Box<Findings>),
    /// Somebody outside has looked at the copy, or still does and leaves a word.
    ValidationReported {
        /// What was found; [`ValidationStatus::Validating`] for a word only.
        status: ValidationStatus,
        /// In the reporter's words.
        message: Option<String>,
    },
    /// The time is over for which the copy is kept.
    ValidationClosed,
    /// A step of this kind ended; only recorded.
    StepDone(StepRecord),
    /// A step failed, or the test was stopped or interrupted: what exists is reaped next.
    Broken(Failure),
    /// The server died while it ran, and everything bearing the token is gone: it is begun anew,
    /// as long as there were not too many attempts; then it is broken off.
    Interrupted {
        /// What happened, for people.
        reason: String,
    },
    /// Its server stops in order, and everything bearing the token is gone: it is begun anew, however often
    /// that happens.
    Suspended {
        /// Why, for people.
        reason: String,
    },
    /// Everything bearing the token is gone, or could not be removed.
    Reaped {
        /// Whether all is gone.
        cleaned_up: bool,
    },
}

impl RestoreTest {
    /// Whether the end of its server lets it be begun anew: as long as it works, and has not found
    /// out yet that something is wrong, which must stay found.
    pub fn is_interruptible(&self) -> bool {
        use RestoreTestState as S;
        matches!(self.state, S::Choosing | S::Restoring | S::Testing | S::Controlling)
            && self.findings.failures.is_empty()
    }

    /// Whether a plan wanted it to have started by now, and it has not.
    pub fn is_late(&self, now: Timestamp) -> bool {
        self.state == RestoreTestState::Pending
            && self.started_at.is_none()
            && self.planned.as_ref().is_some_and(|planned| planned.start_by <= now)
    }

    /// Why it is given up at `now`, when it follows a backup and could not begin within its budgets, or was
    /// interrupted and could not begin anew within those that an interruption gives.
    pub fn given_up(&self, now: Timestamp) -> Option<String> {
        // The start window of a plan closes on what has not started, and only on that.
        let goes_on = self.planned.is_some() && self.started_at.is_some();
        if self.state != RestoreTestState::Pending || !(self.budget.is_some() || goes_on) {
            return None;
        }
        let begin = if self.started_at.is_some() { "begin anew" } else { "begin" };
        let obstacle = self.waiting.as_ref().map(|waiting| format!(" {}", waiting.reason));
        let obstacle = obstacle.unwrap_or_default();
        if let Some(budget) = &self.budget
            && budget.start_by.is_some_and(|by| by <= now)
        {
            let window = budget.window.as_ref().map(ToString::to_string).unwrap_or_default();
            return Some(format!(
                "it could not {begin} in two of its daily windows ({window}, set by {}).{obstacle}",
                budget.said_by
            ));
        }
        let for_room =
            self.waiting.as_ref().filter(|waiting| waiting.obstacle == Obstacle::Room)?;
        let waited = now.duration_since(for_room.since);
        (waited >= LONGEST_WAIT_FOR_ROOM)
            .then(|| format!("it has waited a day for room on the disk.{obstacle}"))
    }

    /// What somebody outside is asked, when a plan wants that and the `findings` so far leave
    /// something to ask: the copy at `copy` is kept from `now` on. One that FAILED is told at once.
    pub fn validation(
        &self,
        findings: &Findings,
        copy: String,
        now: Timestamp,
    ) -> Option<Validation> {
        let hours = self.planned.as_ref().map_or(0, |planned| planned.validation_window_hours);
        (hours > 0 && is_worth_asking(findings)).then(|| Validation {
            copy,
            until: add_minutes(now, i64::from(hours) * 60),
            status: ValidationStatus::Validating,
            message: None,
        })
    }

    /// Whether the time is over for which its copy is kept.
    pub fn is_unheard(&self, now: Timestamp) -> bool {
        self.state == RestoreTestState::Validating
            && self.findings.validation.as_ref().is_none_or(|asked| asked.until <= now)
    }

    /// Its own probes are done: the copy is kept for somebody outside, or deleted.
    fn controlled(&mut self, findings: Findings, now: Timestamp) -> Vec<Effect> {
        self.take(findings);
        match self.findings.validation.take().filter(|_| is_worth_asking(&self.findings)) {
            None => {
                self.state = RestoreTestState::Reaping;
                Vec::new()
            }
            Some(asked) => {
                let effects = self.ask(&asked, now);
                self.state = RestoreTestState::Validating;
                self.findings.validation = Some(asked);
                effects
            }
        }
    }

    fn hear(&mut self, status: ValidationStatus, message: Option<String>) {
        if let Some(asked) = &mut self.findings.validation {
            asked.status = status;
            asked.message = message;
        }
        if status != ValidationStatus::Validating {
            self.state = RestoreTestState::Reaping;
        }
    }

    /// Takes what a runner found out. The age of the point and the targets were fixed when the
    /// point was chosen: a runner that leaves them out must not turn a stale point into a pass.
    fn take(&mut self, findings: Findings) {
        self.findings = Findings {
            incomplete: self.findings.incomplete.take(),
            point_age_seconds: self.findings.point_age_seconds,
            rpo_seconds: self.findings.rpo_seconds,
            rto_seconds: self.findings.rto_seconds,
            ..findings
        };
    }

    fn keep_waiting(&mut self, obstacle: Obstacle, reason: String, now: Timestamp) {
        let same = self.waiting.take().filter(|waiting| waiting.obstacle == obstacle);
        let since = same.map_or(now, |waiting| waiting.since);
        self.waiting = Some(Waiting { since, obstacle, reason });
    }

    /// Waits for its next attempt. What this one found out says nothing of the one that counts.
    fn begin_anew(&mut self, now: Timestamp) {
        self.state = RestoreTestState::Pending;
        self.waiting = None;
        if let Some(budget) = &mut self.budget {
            budget.count_from(now);
        }
        self.findings = Findings::default();
        self.steps.clear();
        self.recovery_point_arn = None;
        // Of a certain point the vault is known, whose topic hears of it if it never begins anew.
        if self.requested_point.is_none() {
            self.vault_name = None;
        }
        self.restore_job_id = None;
        self.created_resource_arn = None;
    }

    /// There is no result to tell of: whoever asks finds the row and its evidence.
    fn pass_over(&mut self, reason: String, now: Timestamp) {
        self.state = RestoreTestState::Finished;
        self.waiting = None;
        self.verdict = Some(Verdict::NotTested);
        self.reason = Some(reason);
        self.cleaned_up = Some(true);
        self.completed_at = Some(now);
    }

    fn finish(&mut self, cleaned_up: bool, now: Timestamp) -> Vec<Effect> {
        self.state = RestoreTestState::Finished;
        self.cleaned_up = Some(cleaned_up);
        self.completed_at = Some(now);
        let (verdict, reason) = decide(&self.findings);
        self.verdict = Some(verdict);
        self.reason = Some(reason);
        self.notify(verdict, now)
    }

    fn notify(&self, verdict: Verdict, now: Timestamp) -> Vec<Effect> {
        let event = NotificationEvent::RestoreTestEnded {
            verdict,
            cleaned_up: self.cleaned_up == Some(true),
        };
        self.tell(event, self.id.clone(), self.reason.clone(), now)
    }

    /// Whoever is to look at the copy reports about the restore job: its id is the one to know.
    fn ask(&self, asked: &Validation, now: Timestamp) -> Vec<Effect> {
        let id = self.restore_job_id.clone().unwrap_or_else(|| self.id.clone());
        let reason = format!("the copy lies in {} until {}.", asked.copy, asked.until);
        self.tell(NotificationEvent::ValidationAsked, id, Some(reason), now)
    }

    fn tell(
        &self,
        event: NotificationEvent,
        job_id: String,
        reason: Option<String>,
        now: Timestamp,
    ) -> Vec<Effect> {
        // Without a point there is no vault whose topic could be told; the verdict stands in the
        // evidence and in the list of tests all the same.
        let Some(vault_name) = self.vault_name.clone() else { return Vec::new() };
        vec![Effect::Notify(Box::new(Notification {
            event,
            account: self.account.clone(),
            region: self.region.clone(),
            vault_name,
            at: now,
            job_id,
            started_at: self.started_at.unwrap_or(self.created_at),
            resource_arn: Some(self.resource_arn.clone()),
            recovery_point_arn: self.recovery_point_arn.clone(),
            created_resource_arn: self.created_resource_arn.clone(),
            reason,
        }))]
    }
}

/// Whether somebody outside could still change the verdict.
fn is_worth_asking(findings: &Findings) -> bool {
    findings.failures.is_empty() && decide(findings).0 != Verdict::Failed
}

/// The one way a restore test changes: the new test and the effects that belong to the change.
pub fn step(
    test: &RestoreTest,
    event: RestoreTestEvent,
    now: Timestamp,
) -> Result<(RestoreTest, Vec<Effect>), IllegalTransition> {
    use RestoreTestEvent as E;
    use RestoreTestState as S;
    let mut test = test.clone();
    let refuse = |event| {
        Err(IllegalTransition {
            what: format!("restore test {}", test.id),
            state: test.state.to_string(),
            event,
        })
    };
    match (test.state, event) {
        (S::Pending, E::Waits { obstacle, reason }) => test.keep_waiting(obstacle, reason, now),
        (_, E::Waits { .. }) => return refuse("kept waiting"),
        (S::Pending, E::PassedOver { reason }) => test.pass_over(reason, now),
        (_, E::PassedOver { .. }) => return refuse("passed over"),
        (S::Pending, E::Started) => {
            test.state = S::Choosing;
            test.waiting = None;
            test.started_at.get_or_insert(now);
        }
        (_, E::Started) => return refuse("started"),
        (
            S::Choosing,
            E::PointChosen {
                recovery_point_arn,
                vault_name,
                restore_job_id,
                incomplete,
                point_age_seconds,
                rpo_seconds,
                rto_seconds,
            },
        ) => {
            test.state = S::Restoring;
            test.recovery_point_arn = Some(recovery_point_arn);
            test.vault_name = Some(vault_name);
            test.restore_job_id = Some(restore_job_id);
            test.findings.incomplete = incomplete;
            test.findings.point_age_seconds = point_age_seconds;
            test.findings.rpo_seconds = rpo_seconds;
            test.findings.rto_seconds = rto_seconds;
        }
        (_, E::PointChosen { .. }) => return refuse("given a recovery point"),
        (S::Restoring, E::Restored { created_resource_arn }) => {
            test.state = S::Testing;
            test.created_resource_arn = Some(created_resource_arn);
        }
        (_, E::Restored { .. }) => return refuse("restored"),
        (S::Testing, E::Tested(findings)) => {
            test.take(*findings);
            test.state = S::Controlling;
        }
        (_, E::Tested(_)) => return refuse("tested"),
        (S::Controlling, E::Controlled(findings)) => {
            let effects = test.controlled(*findings, now);
            return Ok((test, effects));
        }
        (_, E::Controlled(_)) => return refuse("controlled"),
        (S::Validating, E::ValidationReported { status, message }) => test.hear(status, message),
        (_, E::ValidationReported { .. }) => return refuse("validated from outside"),
        (_, E::ValidationClosed) if test.is_unheard(now) => test.state = S::Reaping,
        (_, E::ValidationClosed) => return refuse("given up by whoever was to validate it"),
        (S::Finished, E::StepDone(_)) => return refuse("advanced"),
        (_, E::StepDone(record)) => test.steps.push(record),
        (S::Finished, E::Broken(_)) => return refuse("broken off"),
        (_, E::Broken(failure)) => {
            test.findings.failures.push(failure);
            test.state = S::Reaping;
            test.waiting = None;
        }
        (_, E::Interrupted { reason }) if test.is_interruptible() => {
            test.interruptions += 1;
            if test.interruptions >= MOST_ATTEMPTS {
                let why = format!("{reason} That was attempt {MOST_ATTEMPTS}, the last one.");
                test.findings.failures.push(interrupted(test.state, &why));
                test.state = S::Reaping;
            } else {
                test.begin_anew(now);
            }
        }
        (_, E::Suspended { .. }) if test.is_interruptible() => test.begin_anew(now),
        (_, E::Interrupted { .. } | E::Suspended { .. }) => return refuse("interrupted"),
        (S::Reaping, E::Reaped { cleaned_up }) => {
            let effects = test.finish(cleaned_up, now);
            return Ok((test, effects));
        }
        (_, E::Reaped { .. }) => return refuse("reaped"),
    }
    Ok((test, Vec::new()))
}

/// The failure that a stop of the server, or of the test by somebody, amounts to.
pub fn interrupted(state: RestoreTestState, why: &str) -> Failure {
    Failure { fault: Fault::Host, step: state.as_str().to_lowercase(), message: why.to_owned() }
}
