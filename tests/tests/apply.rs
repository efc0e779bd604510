//! Documents against a real server: made, exported, applied again, beside AWS's own clients.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::PathBuf;

use provault_tests::clients::aws;
use provault_tests::{DEFAULT_ROLE, Program, Sandbox, TestServer, write_tree};

/// The exit code of a dry run that would change something.
const DIFFERS: i32 = 3;

struct Scene {
    server: TestServer,
    cli: Program,
    sandbox: Sandbox,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let server = TestServer::start(&sandbox.path("server"));
        write_tree(&sandbox.path("files"));
        Self { cli: server.program(), server, sandbox }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.sandbox.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A document of everything there is.
    fn document(&self) -> String {
        let files = self.sandbox.path("files");
        let secret = self.write("secret", "a-secret-of-sixteen-letters\n");
        format!(
            r#"
[[Vaults]]
BackupVaultName = "archive"
Tags = {{ tier = "cold" }}
Care = {{ PruneEveryDays = 3 }}
[Vaults.Notifications]
SNSTopicArn = "ops"
BackupVaultEvents = ["BACKUP_JOB_FAILED", "BACKUP_JOB_COMPLETED"]

[[Topics]]
Name = "ops"
[[Topics.Subscriptions]]
Webhook = "http://127.0.0.1:9/hook"
Secret = {{ FromFile = "{secret}" }}
[[Topics.Subscriptions]]
Smtp = {{ Server = "127.0.0.1", Port = 9, Tls = "none", From = "a@example.org", To = "b@example.org" }}
Events = ["BACKUP_JOB_FAILED"]
[[Topics.Subscriptions]]
Sns = {{ TopicArn = "arn:aws:sns:eu-central-1:123456789012:ops", AccessKeyId = "AKIDEXAMPLEEXAMPLE01", Endpoint = "http://127.0.0.1:9" }}
Secret = {{ FromFile = "{secret}" }}

[[Resources]]
Name = "files"
Config = {{ path = "{files}", exclude = ["**/*.tmp"] }}
Tags = {{ backup = "daily" }}
RpoSeconds = 86400
KeepAtMost = 10
Service = {{ Command = ["./serve"] }}
Probes = [
    {{ Type = "Files" }},
    {{ Type = "Http", Port = 8080, Path = "/", Assertions = [{{ Type = "Status", Equals = 200 }}] }},
    {{ Type = "Tcp", Port = 6379, SendHex = "50494E47", Assertions = [{{ Type = "BodyMatches", Pattern = "PONG" }}] }},
    {{ Type = "Tcp", Port = 25, SendHex = "00FF", TimeoutSeconds = 3 }},
    {{ Type = "Command", Command = ["./check", "--rows"], Assertions = [{{ Type = "ExitCode", Equals = 0 }}] }},
]
TestAfterBackup = false
Exemption = {{ Reason = "made again", Owner = "ann", Until = "{until}" }}

[[Plans]]
BackupPlanName = "daily"
Tags = {{ team = "ops" }}
Testing = {{ TestAfterBackup = true, SharePercent = 25 }}
[[Plans.Rules]]
RuleName = "night"
TargetBackupVaultName = "archive"
ScheduleExpression = "cron(30 2 ? * * *)"
Lifecycle = {{ DeleteAfterDays = 35 }}
[[Plans.Rules]]
RuleName = "defaults"
TargetBackupVaultName = "Default"
[[Plans.Selections]]
SelectionName = "tagged"
Testing = {{ TestAfterBackup = true, TestsAtOnce = 2, Window = {{ From = "01:00", To = "05:00" }} }}
IamRoleArn = "DEFAULT"
ListOfTags = [{{ ConditionType = "STRINGEQUALS", ConditionKey = "backup", ConditionValue = "daily" }}]
[[Plans.Selections]]
SelectionName = "named"
IamRoleArn = "{DEFAULT_ROLE}"
Resources = ["files"]

[[RestoreTestingPlans]]
RestoreTestingPlanName = "weekly"
ScheduleExpression = "cron(0 9 ? * SUN *)"
[RestoreTestingPlans.RecoveryPointSelection]
Algorithm = "LATEST_WITHIN_WINDOW"
IncludeVaults = ["archive"]
RecoveryPointTypes = ["SNAPSHOT"]
[[RestoreTestingPlans.Selections]]
RestoreTestingSelectionName = "files"
IamRoleArn = "DEFAULT"
ProtectedResourceType = "EFS"
ProtectedResourceArns = ["files"]
"#,
            files = files.display(),
            until =
                jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 864_000).unwrap(),
        )
    }

    fn plan(&self) -> (String, usize) {
        let plans = aws(&self.server, &["list-backup-plans"]);
        let id = plans["BackupPlansList"][0]["BackupPlanId"].as_str().unwrap().to_owned();
        let versions = aws(&self.server, &["list-backup-plan-versions", "--backup-plan-id", &id]);
        (id, versions["BackupPlanVersionsList"].as_array().unwrap().len())
    }
}

#[test]
fn a_document_is_made_once_and_exported_as_it_is() {
    let scene = Scene::new();
    let file = scene.write("all.toml", &scene.document());
    let refused = scene.cli.run(2, &["apply", "-f", &file]);
    assert!(refused.stderr.contains("--yes"), "{refused}");
    scene.cli.run(DIFFERS, &["apply", "-f", &file, "--dry-run"]);
    let made = scene.cli.run(0, &["apply", "-f", &file, "--yes"]);
    assert!(
        made.stdout.contains("+ plan 'daily'") && made.stdout.contains("changes made"),
        "{made}"
    );

    let again = scene.cli.run(0, &["apply", "-f", &file, "--yes"]);
    assert!(again.stdout.contains("nothing to change"), "{again}");
    assert_eq!(scene.plan().1, 1, "versions of the plan do not grow");

    let exported = scene.cli.run(0, &["export"]);
    assert!(!exported.stdout.contains("sixteen letters"), "{exported}");
    assert!(exported.stdout.contains("PROVAULT_OPS_"), "{exported}");
    assert_eq!(scene.cli.run(0, &["export"]).stdout, exported.stdout, "fit for git");
    let file = scene.write("exported.toml", &exported.stdout);
    let same = scene.cli.run(0, &["apply", "-f", &file, "--dry-run"]);
    assert!(same.stdout.contains("nothing to change"), "{same}");
    let json = scene.cli.json(&["export"]);
    let file = scene.write("exported.json", &json.to_string());
    scene.cli.run(0, &["apply", "-f", &file, "--dry-run"]);
}

#[test]
fn what_aws_clients_change_is_seen_exported_and_taken_back() {
    let scene = Scene::new();
    let file = scene.write("all.toml", &scene.document());
    scene.cli.run(0, &["apply", "-f", &file, "--yes"]);
    let (id, _) = scene.plan();
    let mut plan =
        aws(&scene.server, &["get-backup-plan", "--backup-plan-id", &id])["BackupPlan"].take();
    for rule in plan["Rules"].as_array_mut().unwrap() {
        rule.as_object_mut().unwrap().remove("RuleId");
        if rule["RuleName"] == "night" {
            rule["Lifecycle"]["DeleteAfterDays"] = 7.into();
        }
    }
    let plan = plan.to_string();
    aws(&scene.server, &["update-backup-plan", "--backup-plan-id", &id, "--backup-plan", &plan]);
    aws(
        &scene.server,
        &["create-backup-vault", "--backup-vault-name", "byhand", "--backup-vault-tags", "a=b"],
    );

    let differs = scene.cli.run(DIFFERS, &["apply", "-f", &file, "--dry-run"]);
    assert!(
        differs.stdout.contains("Rules[night].Lifecycle.DeleteAfterDays: 7 -> 35"),
        "{differs}"
    );
    assert!(!differs.stdout.contains("byhand"), "only --prune removes: {differs}");
    let exported = scene.write("exported.toml", &scene.cli.run(0, &["export"]).stdout);
    scene.cli.run(0, &["apply", "-f", &exported, "--dry-run"]);

    let applied = scene.cli.run(0, &["apply", "-f", &file, "--yes", "--prune"]);
    assert!(applied.stdout.contains("- vault 'byhand'"), "{applied}");
    assert!(!applied.stdout.contains("- subscription"), "every kind can be declared: {applied}");
    assert!(!applied.stdout.contains("- vault 'Default'"), "{applied}");
    let plan = aws(&scene.server, &["get-backup-plan", "--backup-plan-id", &id]);
    assert!(plan.to_string().contains("\"DeleteAfterDays\":35"), "{plan}");
    scene.cli.run(0, &["apply", "-f", &file, "--dry-run"]);
}

#[test]
fn a_vault_with_recovery_points_is_never_pruned_and_mistakes_change_nothing() {
    let scene = Scene::new();
    let document = scene.document();
    let file = scene.write("all.toml", &document);
    scene.cli.run(0, &["apply", "-f", &file, "--yes"]);
    scene.cli.run(0, &["backup", "files", "--vault", "archive"]);
    let before = scene.cli.run(0, &["export"]).stdout;

    let wrong = scene.write("wrong.toml", &document.replace("cron(30 2 ? * * *)", "cron(30 2)"));
    let refused = scene.cli.run(1, &["apply", "-f", &wrong, "--yes"]);
    assert!(refused.stderr.contains("0 of 1 changes were made"), "{refused}");
    let wrong = scene.write("wrong.toml", &document.replace("RuleName", "RuleNmae"));
    let refused = scene.cli.run(2, &["apply", "-f", &wrong, "--yes"]);
    assert!(refused.stderr.contains("did you mean RuleName?"), "{refused}");
    assert_eq!(scene.cli.run(0, &["export"]).stdout, before);

    // Nobody listens there, so that the notification of the backup waits.
    let hook = "Webhook = \"http://127.0.0.1:9/hook\"\n";
    let digest = document.replace(hook, &format!("{hook}DigestMinutes = 5\n"));
    let digest = scene.write("digest.toml", &digest);
    let refused = scene.cli.run(1, &["apply", "-f", &digest, "--yes"]);
    assert!(refused.stderr.contains("would be given up"), "{refused}");
    assert_eq!(scene.cli.run(0, &["export"]).stdout, before);

    let nothing = scene.write("nothing.toml", "");
    let pruned = scene.cli.run(0, &["apply", "-f", &nothing, "--yes", "--prune"]);
    assert!(
        pruned.stdout.contains("vault 'archive' is kept: it holds 1 recovery points"),
        "{pruned}"
    );
    let vaults = aws(&scene.server, &["list-backup-vaults"]);
    assert_eq!(vaults["BackupVaultList"].as_array().unwrap().len(), 2);
    let notified = &["get-backup-vault-notifications", "--backup-vault-name", "archive"];
    let topic = aws(&scene.server, notified)["SNSTopicArn"].to_string();
    assert!(topic.ends_with(":ops\""), "whoever was told of failures still is: {topic}");
    let receivers = scene.cli.json(&["topic", "subscriptions", "ops"]);
    assert_eq!(receivers["Subscriptions"].as_array().unwrap().len(), 3, "{receivers}");
    let named = "[[Vaults]]\nBackupVaultName = \"new\"\n[[Plans]]\nBackupPlanName = \"p\"\nRules = [{ RuleName = \"r\", TargetBackupVaultName = \"gone\" }]\n";
    let gone = scene.write("gone.toml", &named.replace("\"new\"", "\"gone\""));
    scene.cli.run(0, &["apply", "-f", &gone, "--yes"]);
    let dangling = scene.write("dangling.toml", named);
    let refused = scene.cli.run(2, &["apply", "-f", &dangling, "--yes", "--prune"]);
    assert!(refused.stderr.contains("the vault 'gone' is not declared"), "{refused}");
    scene.cli.run(0, &["apply", "-f", &nothing, "--yes", "--prune"]);
    // And all of it comes back, but for the resource's recovery points' ARN.
    scene.cli.run(0, &["apply", "-f", &file, "--yes"]);
    assert!(
        scene.cli.run(0, &["apply", "-f", &file, "--yes"]).stdout.contains("nothing to change")
    );
}

#[test]
fn what_is_said_about_tests_outlives_a_changed_selection_and_is_taken_back() {
    let scene = Scene::new();
    let document = scene.document();
    let file = scene.write("all.toml", &document);
    scene.cli.run(0, &["apply", "-f", &file, "--yes"]);
    let of_selection = || {
        let said = scene.cli.json(&["selection", "testing", "daily", "tagged"]);
        (said["TestAfterBackup"].clone(), said["TestsAtOnce"].clone(), said["Window"]["To"].clone())
    };
    let (plan, resource) = (["plan", "testing", "daily"], ["resource", "testing", "files"]);
    assert_eq!(of_selection(), (true.into(), 2.into(), "05:00".into()));
    assert_eq!(scene.cli.json(&plan)["SharePercent"], 25);
    assert_eq!(scene.cli.json(&resource)["TestAfterBackup"], false);

    let changed = document.replace("ConditionValue = \"daily\"", "ConditionValue = \"nightly\"");
    let file = scene.write("all.toml", &changed);
    scene.cli.run(0, &["apply", "-f", &file, "--yes"]);
    let said = of_selection();
    assert_eq!(said, (true.into(), 2.into(), "05:00".into()), "made anew it says the same");

    // Off is said, nothing is not: what the document leaves out is taken back.
    let (_, versions) = scene.plan();
    let shorter = changed
        .replace("Testing = { TestAfterBackup = true, SharePercent = 25 }\n", "")
        .replace("TestAfterBackup = false\n", "");
    let file = scene.write("all.toml", &shorter);
    let applied = scene.cli.run(0, &["apply", "-f", &file, "--yes"]);
    assert!(applied.stdout.contains("Testing.SharePercent: 25 -> (not set)"), "{applied}");
    for args in [plan, resource] {
        assert_eq!(scene.cli.json(&args), serde_json::json!({}), "{args:?}");
    }
    assert_eq!(scene.plan().1, versions, "it is no part of a version");
    scene.cli.run(0, &["apply", "-f", &file, "--dry-run"]);
}
