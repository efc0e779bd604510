//! The aws CLI, as people type it: making what is to be protected, and every command that a runbook
//! reads with.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use provault_tests::clients::{aws, aws_run};
use provault_tests::{ACCOUNT, DEFAULT_ROLE, REGION, Sandbox, TestServer, write_tree};
use serde_json::Value;

const LAB: &str = "BACKUP-LAB-VAULT";
const PROD: &str = "myappdbprod_backup_vault";

fn strings<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap()).collect()
}

fn wait_for(server: &TestServer, job: &str) -> Value {
    provault_tests::until("the backup job's end", || {
        let job = aws(server, &["describe-backup-job", "--backup-job-id", job]);
        ["COMPLETED", "FAILED", "PARTIAL"].contains(&job["State"].as_str().unwrap()).then_some(job)
    })
}

#[test]
fn notifications_of_a_vault_are_put_got_and_deleted() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    aws(&server, &["create-backup-vault", "--backup-vault-name", LAB]);
    // The command line prints the ARN alone, for a script to take.
    let topic = server.program().run(0, &["topic", "add", "BACKUP-LAB-TOPIC"]).stdout;
    let topic = topic.trim_end();
    assert_eq!(topic, format!("arn:aws:sns:{REGION}:{ACCOUNT}:BACKUP-LAB-TOPIC"));
    let put = aws(
        &server,
        &[
            "put-backup-vault-notifications",
            "--region",
            REGION,
            "--backup-vault-name",
            LAB,
            "--backup-vault-events",
            "BACKUP_JOB_COMPLETED",
            "RESTORE_JOB_COMPLETED",
            "--sns-topic-arn",
            topic,
        ],
    );
    assert_eq!(put, Value::Null);
    let get = ["get-backup-vault-notifications", "--backup-vault-name", LAB, "--region", REGION];
    let got = aws(&server, &get);
    assert_eq!(got["BackupVaultName"], LAB);
    assert_eq!(got["SNSTopicArn"], topic);
    let events = serde_json::json!(["BACKUP_JOB_COMPLETED", "RESTORE_JOB_COMPLETED"]);
    assert_eq!(got["BackupVaultEvents"], events);
    aws(&server, &["delete-backup-vault-notifications", "--backup-vault-name", LAB]);
    let gone = aws_run(&server, &get);
    assert_ne!(gone.code, Some(0), "{gone}");
    assert!(gone.stderr.contains("ResourceNotFoundException"), "{gone}");
}

#[test]
fn the_commands_of_a_runbook_run_as_printed() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.path("source");
    write_tree(&source);
    let resource = server.add_directory("myappdbprod", &source);
    let role = server.program().run(0, &["role", "add", "myappdbprod_backup_role"]).stdout;
    let role = role.trim_end();
    assert_eq!(role, format!("arn:aws:iam::{ACCOUNT}:role/myappdbprod_backup_role"));
    aws(&server, &["create-backup-vault", "--backup-vault-name", PROD]);

    let plan = r#"{"BackupPlanName": "myappdbprod_backup_plan", "Rules": [{
        "RuleName": "Monthly", "TargetBackupVaultName": "myappdbprod_backup_vault",
        "ScheduleExpression": "cron(0 3 1 * ? *)", "Lifecycle": {"DeleteAfterDays": 180}}]}"#;
    let plan = aws(&server, &["create-backup-plan", "--backup-plan", plan]);
    let plan = plan["BackupPlanId"].as_str().unwrap();
    let selection = format!(
        r#"{{"SelectionName": "myappdbprod_selection", "IamRoleArn": "{role}", "Resources": ["{resource}"]}}"#
    );
    let made = aws(
        &server,
        &["create-backup-selection", "--backup-plan-id", plan, "--backup-selection", &selection],
    );
    let selection = made["SelectionId"].as_str().unwrap();

    let started = aws(
        &server,
        &[
            "start-backup-job",
            "--backup-vault-name",
            PROD,
            "--resource-arn",
            &resource,
            "--iam-role-arn",
            role,
        ],
    );
    let job = wait_for(&server, started["BackupJobId"].as_str().unwrap());
    assert_eq!(job["State"], "COMPLETED", "{job}");
    let point = job["RecoveryPointArn"].as_str().unwrap();

    let jobs = aws(&server, &["list-backup-jobs"]);
    assert_eq!(strings(&jobs["BackupJobs"], "RecoveryPointArn"), [point]);
    assert_eq!(strings(&jobs["BackupJobs"], "IamRoleArn"), [role]);
    let vaults = aws(&server, &["list-backup-vaults"]);
    assert_eq!(strings(&vaults["BackupVaultList"], "BackupVaultName"), ["Default", PROD]);
    let plans = aws(&server, &["list-backup-plans"]);
    assert_eq!(strings(&plans["BackupPlansList"], "BackupPlanId"), [plan]);
    let protected = aws(&server, &["list-protected-resources"]);
    assert_eq!(strings(&protected["Results"], "ResourceArn"), [&*resource]);
    let vault = aws(&server, &["describe-backup-vault", "--backup-vault-name", PROD]);
    assert_eq!(vault["NumberOfRecoveryPoints"], 1);
    let got = aws(&server, &["get-backup-plan", "--backup-plan-id", plan]);
    let monthly = &got["BackupPlan"]["Rules"][0];
    assert_eq!(monthly["ScheduleExpression"], "cron(0 3 1 * ? *)");
    assert_eq!(monthly["Lifecycle"]["DeleteAfterDays"], 180);
    let listed = aws(&server, &["list-backup-selections", "--backup-plan-id", plan]);
    assert_eq!(strings(&listed["BackupSelectionsList"], "SelectionId"), [selection]);
    let get = ["get-backup-selection", "--backup-plan-id", plan, "--selection-id", selection];
    let got = aws(&server, &get);
    assert_eq!(got["BackupSelection"]["Resources"], serde_json::json!([resource]));
    let points = aws(
        &server,
        &[
            "list-recovery-points-by-backup-vault",
            "--backup-vault-name",
            PROD,
            "--max-results",
            "30",
        ],
    );
    assert_eq!(strings(&points["RecoveryPoints"], "RecoveryPointArn"), [point]);

    // A job of a vault that does not exist, as AWS words it to clients that depend on it.
    let denied = aws_run(&server, &["describe-backup-vault", "--backup-vault-name", "none"]);
    assert!(denied.stderr.contains("AccessDeniedException"), "{denied}");
}

/// A daily plan, a selection by tag, an on-demand backup kept one day, a restore, tear-down.
#[test]
fn a_whole_protection_is_set_up_used_and_torn_down() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.path("source");
    write_tree(&source);
    let resource = server.add_directory("myapp", &source);
    server.program().run(0, &["resource", "tag", "myapp", "workload=myapp"]);
    aws(&server, &["create-backup-vault", "--backup-vault-name", LAB]);
    let plan = r#"{"BackupPlanName": "BACKUP-LAB", "Rules": [{"RuleName": "BACKUP-LAB-RULE",
        "TargetBackupVaultName": "BACKUP-LAB-VAULT", "ScheduleExpression": "cron(0 5 ? * * *)"}]}"#;
    let plan = aws(&server, &["create-backup-plan", "--backup-plan", plan]);
    let plan = plan["BackupPlanId"].as_str().unwrap();
    let selection = format!(
        r#"{{"SelectionName": "by-tag", "IamRoleArn": "{DEFAULT_ROLE}", "ListOfTags": [
        {{"ConditionType": "STRINGEQUALS", "ConditionKey": "workload", "ConditionValue": "myapp"}}]}}"#
    );
    let made = aws(
        &server,
        &["create-backup-selection", "--backup-plan-id", plan, "--backup-selection", &selection],
    );
    let selection = made["SelectionId"].as_str().unwrap();
    let started = aws(
        &server,
        &[
            "start-backup-job",
            "--backup-vault-name",
            LAB,
            "--resource-arn",
            &resource,
            "--iam-role-arn",
            DEFAULT_ROLE,
            "--lifecycle",
            "DeleteAfterDays=1",
        ],
    );
    let job = wait_for(&server, started["BackupJobId"].as_str().unwrap());
    assert_eq!(job["State"], "COMPLETED", "{job}");
    let point = job["RecoveryPointArn"].as_str().unwrap();

    let at = ["--backup-vault-name", LAB, "--recovery-point-arn", point];
    let metadata = aws(&server, &[&["get-recovery-point-restore-metadata"], &at[..]].concat());
    let mut metadata = metadata["RestoreMetadata"].clone();
    let target = sandbox.path("restored");
    metadata["targetPath"] = serde_json::json!(target);
    let started = aws(
        &server,
        &[
            "start-restore-job",
            "--recovery-point-arn",
            point,
            "--iam-role-arn",
            DEFAULT_ROLE,
            "--metadata",
            &metadata.to_string(),
        ],
    );
    let id = started["RestoreJobId"].as_str().unwrap();
    let restored = provault_tests::until("the restore job's end", || {
        let job = aws(&server, &["describe-restore-job", "--restore-job-id", id]);
        ["COMPLETED", "FAILED"].contains(&job["Status"].as_str().unwrap()).then_some(job)
    });
    assert_eq!(restored["Status"], "COMPLETED", "{restored}");
    let (was, is) = (provault_tests::Manifest::of(&source), provault_tests::Manifest::of(&target));
    was.assert_same(&is, "the restored directory");
    let jobs = aws(&server, &["list-restore-jobs"]);
    assert_eq!(strings(&jobs["RestoreJobs"], "RestoreJobId"), [id]);

    let id = ["--backup-plan-id", plan];
    let delete = [&["delete-backup-selection", "--selection-id", selection], &id[..]].concat();
    aws(&server, &delete);
    aws(&server, &[&["delete-backup-plan"], &id[..]].concat());
    aws(&server, &[&["delete-recovery-point"], &at[..]].concat());
    aws(&server, &["delete-backup-vault", "--backup-vault-name", LAB]);
    let vaults = aws(&server, &["list-backup-vaults"]);
    assert_eq!(strings(&vaults["BackupVaultList"], "BackupVaultName"), ["Default"]);
}
