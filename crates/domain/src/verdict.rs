//! Verdicts: what a restore test proved.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::restore_job::ValidationStatus;
use crate::step::state_names;

/// The answer of a restore test about a recovery point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Restored, answered, complete, fresh, in time; and the probes were seen to fail on broken
    /// copies.
    Passed,
    /// The recovery point or the application in it is not what it should be.
    Failed,
    /// The test itself could not be done, or could not tell broken from whole.
    Inconclusive,
    /// There is a recovery point and no test of it.
    NotTested,
    /// There should be a newer recovery point or test than there is.
    Overdue,
}
state_names!(Verdict {
    Passed = "PASSED",
    Failed = "FAILED",
    Inconclusive = "INCONCLUSIVE",
    NotTested = "NOT_TESTED",
    Overdue = "OVERDUE",
});

impl Verdict {
    /// The verdict as AWS's validation status of the test's restore job.
    pub fn validation_status(self) -> ValidationStatus {
        match self {
            Verdict::Passed => ValidationStatus::Successful,
            Verdict::Failed => ValidationStatus::Failed,
            Verdict::Inconclusive | Verdict::NotTested | Verdict::Overdue => {
                ValidationStatus::TimedOut
            }
        }
    }
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The recovery point's data is unreadable, damaged or incomplete.
    Data,
    /// The host could not do the test: disk, namespaces, a crash, a stop.
    Host,
}

/// A step that did not end well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose fault.
    pub fault: Fault,
    /// Such as `restore` or `isolate`.
    pub step: String,
    /// What happened, for people.
    pub message: String,
}

/// The answer to one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// [`crate::Probe::label`].
    pub label: String,
    /// Whether it answered and everything it should hold held.
    pub passed: bool,
    /// What was seen: `HTTP 200, 3 of 3 assertions`, `notes.json is missing`, …
    pub detail: String,
    /// The HTTP status, where there was one.
    pub http_status: Option<u16>,
    /// Milliseconds from the start of the application to this answer; of a copy without one, from
    /// when the isolation stood.
    pub millis: u64,
    /// The end of what a command wrote, or the beginning of what came over a TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// What became of one deliberately broken copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutantResult {
    /// Such as `everything-emptied`.
    pub name: String,
    /// Whether the verdict depends on it.
    pub required: bool,
    /// Whether the probes found it broken; `None` when it could not be tried.
    pub killed: Option<bool>,
    /// Which probe found it, or why it could not be tried.
    pub detail: String,
}

/// How strongly a copy was held while it was tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IsolationLevel {
    /// Own user, mount, network, process and IPC namespaces: no route, no production path, no
    /// host socket.
    Full,
    /// Nothing was started: only files were compared, which needs no isolation.
    FilesOnly,
}

/// What somebody outside was asked about the copy, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validation {
    /// Where the copy lies: a directory on the server's machine.
    pub copy: String,
    /// How long it is kept.
    pub until: Timestamp,
    /// The last word; [`ValidationStatus::Validating`] while there is none that counts.
    pub status: ValidationStatus,
    /// In the reporter's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Validation {
    /// What becomes of the test's own verdict. A test whose outside validator was silent, or gave
    /// up, has not passed; and nobody outside can make a pass of what the test itself found wanting.
    fn weigh(&self, own: Verdict, reason: String) -> (Verdict, String) {
        let said = match &self.message {
            Some(message) => format!(": {message}"),
            None => ".".to_owned(),
        };
        if own == Verdict::Failed {
            return (own, reason);
        }
        match self.status {
            ValidationStatus::Failed => {
                (Verdict::Failed, format!("validation from outside FAILED{said}"))
            }
            _ if own != Verdict::Passed => (own, reason),
            ValidationStatus::Successful => {
                (own, format!("{reason} Validation from outside was SUCCESSFUL{said}"))
            }
            ValidationStatus::TimedOut => {
                (Verdict::Inconclusive, format!("validation from outside TIMED_OUT{said}"))
            }
            ValidationStatus::Validating => {
                let last = match &self.message {
                    Some(message) => format!(" The last word was: {message}"),
                    None => String::new(),
                };
                let reason = format!(
                    "the test's own probes passed, but validation from outside was asked for and no \
                     result was reported by {}.{last}",
                    self.until
                );
                (Verdict::Inconclusive, reason)
            }
        }
    }
}

/// Everything a restore test found out; [`decide`] turns it into a verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Steps that did not end well.
    pub failures: Vec<Failure>,
    /// How the copy was held, when it was.
    pub isolation: Option<IsolationLevel>,
    /// Answers of the real copy.
    pub probes: Vec<ProbeResult>,
    /// Answers of broken copies.
    pub mutants: Vec<MutantResult>,
    /// Whether the mutants' answers were taken from an earlier test with the same probes.
    pub mutants_cached: bool,
    /// What the recovery point lacks, when its backup was PARTIAL: how many paths, and which first.
    #[serde(default)]
    pub incomplete: Option<String>,
    /// Age of the recovery point when the test began, in seconds.
    pub point_age_seconds: Option<u64>,
    /// The resource's recovery point objective, in seconds.
    pub rpo_seconds: Option<u64>,
    /// From the choice of the point to the last passed probe, in milliseconds: the measured
    /// recovery time. Negative controls do not count.
    pub recovery_millis: Option<u64>,
    /// The resource's recovery time objective, in seconds.
    pub rto_seconds: Option<u64>,
    /// What somebody outside was asked, where the copy was kept for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
}

/// Broken copies the probes must have found broken before a pass counts: one with everything
/// emptied, one with everything gone.
pub const REQUIRED_MUTANTS: usize = 2;

/// The verdict and its reason: the test's own, and what somebody outside had to say to it.
pub fn decide(findings: &Findings) -> (Verdict, String) {
    let (own, reason) = decide_alone(findings);
    match &findings.validation {
        Some(validation) => validation.weigh(own, reason),
        None => (own, reason),
    }
}

/// The verdict and its reason. Trouble with the data outweighs trouble of the host, which
/// outweighs what could not be asked because of it.
fn decide_alone(findings: &Findings) -> (Verdict, String) {
    let fault = |fault: Fault| findings.failures.iter().find(|f| f.fault == fault);
    if let Some(failure) = fault(Fault::Data) {
        return (Verdict::Failed, format!("{}: {}", failure.step, failure.message));
    }
    // A probe that failed in a test that the host broke proves nothing.
    if let Some(failure) = fault(Fault::Host) {
        return (Verdict::Inconclusive, format!("{}: {}", failure.step, failure.message));
    }
    if findings.probes.is_empty() {
        return (Verdict::Inconclusive, "nothing was asked of the restored copy.".to_owned());
    }
    if findings.isolation.is_none() {
        let reason = "it is not known how the restored copy was isolated.".to_owned();
        return (Verdict::Inconclusive, reason);
    }
    if let Some(probe) = findings.probes.iter().find(|p| !p.passed) {
        return (Verdict::Failed, format!("probe {}: {}", probe.label, probe.detail));
    }
    // What could not be read at the backup is not in the manifest either, so no comparison would
    // ever miss it.
    if let Some(what) = &findings.incomplete {
        return (Verdict::Failed, format!("the recovery point is not complete: {what}"));
    }
    if let (Some(age), Some(rpo)) = (findings.point_age_seconds, findings.rpo_seconds)
        && age > rpo
    {
        let reason = format!(
            "the recovery point is {} old, the recovery point objective is {}.",
            duration(age),
            duration(rpo)
        );
        return (Verdict::Failed, reason);
    }
    if let (Some(millis), Some(rto)) = (findings.recovery_millis, findings.rto_seconds)
        && millis > rto.saturating_mul(1000)
    {
        let reason = format!(
            "recovery took {}, the recovery time objective is {}.",
            duration(millis.div_ceil(1000)),
            duration(rto)
        );
        return (Verdict::Failed, reason);
    }
    // A target that was not measured against is not met.
    if findings.rpo_seconds.is_some() && findings.point_age_seconds.is_none() {
        let reason = "there is a recovery point objective, but the point's age is not known.";
        return (Verdict::Inconclusive, reason.to_owned());
    }
    if findings.rto_seconds.is_some() && findings.recovery_millis.is_none() {
        let reason = "there is a recovery time objective, but the recovery was not timed.";
        return (Verdict::Inconclusive, reason.to_owned());
    }
    let required: Vec<_> = findings.mutants.iter().filter(|m| m.required).collect();
    if let Some(mutant) = required.iter().find(|m| m.killed == Some(false)) {
        let reason = format!(
            "the probes cannot tell broken from whole: they passed on a copy with {}. \
             Add an assertion on the data.",
            mutant.name
        );
        return (Verdict::Inconclusive, reason);
    }
    if let Some(mutant) = required.iter().find(|m| m.killed.is_none()) {
        let reason = format!("negative control {} was not done: {}", mutant.name, mutant.detail);
        return (Verdict::Inconclusive, reason);
    }
    // The same broken copy twice is one negative control.
    let controls: BTreeSet<&str> = required.iter().map(|m| m.name.as_str()).collect();
    if controls.len() < REQUIRED_MUTANTS {
        let reason = format!(
            "{} of {REQUIRED_MUTANTS} required negative controls were done.",
            controls.len()
        );
        return (Verdict::Inconclusive, reason);
    }
    let recovery = findings
        .recovery_millis
        .map_or(String::new(), |ms| format!(" after {}.{:03} s", ms / 1000, ms % 1000));
    let n = findings.probes.len();
    let tried = findings.mutants.iter().filter(|m| m.killed.is_some()).count();
    let noticed = findings.mutants.iter().filter(|m| m.killed == Some(true)).count();
    (
        Verdict::Passed,
        format!(
            "{}; recovered{recovery}, {n} probe{} passed and noticed {noticed} of {tried} broken \
             copies.",
            answered(&findings.probes),
            if n == 1 { "" } else { "s" }
        ),
    )
}

/// What the copy answered with: only an application that was asked by HTTP has returned anything
/// that has a name.
fn answered(probes: &[ProbeResult]) -> String {
    let of_kind = |kind: &str| probes.iter().filter(|p| p.label.starts_with(kind)).count();
    let statuses: BTreeSet<u16> = probes.iter().filter_map(|p| p.http_status).collect();
    let mut told = Vec::new();
    if !statuses.is_empty() {
        let list: Vec<String> = statuses.iter().map(|status| format!("HTTP {status}")).collect();
        told.push(format!("{} returned by the application", list.join(" and ")));
    }
    if of_kind("tcp:") > 0 {
        told.push("TCP answered by the application".to_owned());
    }
    match of_kind("command:") {
        0 => {}
        1 => told.push("1 command satisfied with the copy".to_owned()),
        n => told.push(format!("{n} commands satisfied with the copy")),
    }
    if told.is_empty() { "files compared".to_owned() } else { told.join(", ") }
}

/// Seconds for people: `45 s`, `15 min`, `26 h`, `3 d`.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
