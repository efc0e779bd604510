//! Restore tests.

use provault_app::TestTarget;
use provault_domain::verdict::IsolationLevel;
use provault_domain::{RestoreTest, RestoreTestState};
use provault_wire::provault as wire;

use super::job::{seconds, step};
use super::{Answered, Call, invalid};
use crate::answer::Answer;
use crate::convert::epoch;

pub(super) async fn start(call: &Call<'_>) -> Answered {
    let input: wire::StartRestoreTestInput = call.input()?;
    let target = match (input.resource, input.recovery_point_arn) {
        (Some(resource), None) => TestTarget::Resource(resource),
        (None, Some(arn)) => TestTarget::RecoveryPoint(arn),
        _ => return Err(invalid("Give exactly one of Resource and RecoveryPointArn.")),
    };
    let test = Call::done(call.app.start_restore_test(call.caller, &target).await)?;
    Answer::json(&wire_test(test))
}

pub(super) async fn list(call: &Call<'_>) -> Answered {
    let resource_arn = call.query.get("resourceArn");
    let tests = Call::done(call.app.list_restore_tests(call.caller, resource_arn).await)?;
    let restore_tests = tests.into_iter().map(wire_test).collect();
    Answer::json(&wire::RestoreTestList { restore_tests })
}

pub(super) async fn describe(call: &Call<'_>, id: &str) -> Answered {
    let test = Call::done(call.app.describe_restore_test(call.caller, id).await)?;
    Answer::json(&wire_test(test))
}

pub(super) async fn stop(call: &Call<'_>, id: &str) -> Answered {
    Call::nothing(call.app.stop_restore_test(call.caller, id).await)
}

fn wire_test(test: RestoreTest) -> wire::RestoreTest {
    let findings = test.findings;
    let isolation = findings.isolation.map(|level| match level {
        IsolationLevel::Full => "full",
        IsolationLevel::FilesOnly => "filesonly",
    });
    let probes = findings.probes.into_iter().map(|probe| wire::ProbeResult {
        label: probe.label,
        passed: probe.passed,
        detail: probe.detail,
        seconds: seconds(probe.millis),
        output: probe.output,
    });
    let mutants = findings.mutants.into_iter().map(|mutant| wire::MutantResult {
        name: mutant.name,
        required: mutant.required,
        killed: mutant.killed,
        detail: mutant.detail,
    });
    let validation = findings.validation.map(|asked| wire::TestValidation {
        copy_path: asked.copy,
        until_date: epoch(asked.until),
        status: asked.status.to_string(),
        message: asked.message,
    });
    let pending = test.state == RestoreTestState::Pending;
    let waiting = test.waiting.map_or_else(|| "It waits for its turn.".to_owned(), |w| w.reason);
    let point = test.recovery_point_arn.or(test.requested_point);
    wire::RestoreTest {
        waiting: pending.then_some(waiting),
        restore_test_id: test.id,
        resource_arn: test.resource_arn.to_string(),
        resource_name: test.resource_name,
        state: test.state.to_string(),
        verdict: test.verdict.map(|verdict| verdict.to_string()),
        reason: test.reason,
        recovery_point_arn: point.map(|arn| arn.to_string()),
        restore_job_id: test.restore_job_id,
        backup_job_id: test.after_backup_job,
        recovery_seconds: findings.recovery_millis.map(seconds),
        recovery_point_age_seconds: findings.point_age_seconds,
        rpo_seconds: findings.rpo_seconds,
        rto_seconds: findings.rto_seconds,
        isolation: isolation.map(str::to_owned),
        probes: probes.collect(),
        mutants: mutants.collect(),
        mutants_cached: findings.mutants_cached,
        validation,
        steps: test.steps.into_iter().map(step).collect(),
        cleaned_up: test.cleaned_up,
        creation_date: epoch(test.created_at),
        completion_date: test.completed_at.map(epoch),
    }
}
