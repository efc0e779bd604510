//! boto3: each test runs a script of `tests/python` against a server of its own.

use provault_tests::clients::python;
use provault_tests::{Sandbox, TestServer};

fn holds(script: &str) {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    python(&server, &sandbox, script);
}

#[test]
fn vaults_notifications_and_tags() {
    holds("vaults.py");
}

#[test]
fn plans_with_versions_and_selections() {
    holds("plans.py");
}

#[test]
fn backup_jobs_recovery_points_and_protected_resources() {
    holds("jobs.py");
}

#[test]
fn restore_jobs() {
    holds("restores.py");
}

#[test]
fn restore_testing_plans_are_carried_out_when_they_are_due() {
    holds("restore_testing.py");
}

#[test]
fn a_running_backup_job_is_stopped() {
    holds("stop.py");
}

#[test]
fn bad_input_gets_the_modelled_error_and_changes_nothing() {
    holds("refusals.py");
}

#[test]
fn strangers_are_refused_and_missing_behaviour_is_named() {
    holds("signatures.py");
}
