//! The command line: every command once, its exit code, and its JSON.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;

use provault_tests::{
    DEFAULT_ROLE, Finished, Manifest, NOTES, Program, Receiver, SampleApp, Sandbox, TestServer,
    clean_command, executable, write_tree,
};
use serde_json::Value;

struct Scene {
    server: TestServer,
    cli: Program,
    sandbox: Sandbox,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let server = TestServer::start(&sandbox.path("server"));
        Self { cli: server.program(), server, sandbox }
    }

    /// What a command prints on success, without the line's end.
    fn line(&self, args: &[&str]) -> String {
        self.cli.run(0, args).stdout.trim_end().to_owned()
    }

    fn add_tree(&self, name: &str) -> String {
        let source = self.sandbox.path(name);
        write_tree(&source);
        let path = source.to_str().unwrap();
        let added = self.cli.json(&["resource", "add", "filesystem", path, "--name", name]);
        added["ResourceArn"].as_str().unwrap().to_owned()
    }
}

fn names(list: &Value, key: &str, name: &str) -> Vec<String> {
    let list = list[key].as_array().unwrap_or_else(|| panic!("no {key} in {list:#}"));
    list.iter().map(|item| item[name].as_str().unwrap().to_owned()).collect()
}

#[test]
fn resources() {
    let scene = Scene::new();
    let app = SampleApp::write(&scene.sandbox.path("app"));
    let path = app.directory.to_str().unwrap();
    let added = scene.cli.json(&[
        "resource",
        "add",
        "filesystem",
        path,
        "--name",
        "myapp",
        "--exclude",
        "*.tmp",
        "--tag",
        "workload=myapp",
        "--tag",
        "env=test",
        "--service",
        "bin/myapp __sample-app",
        "--start-timeout",
        "20s",
        "--probe",
        "http:8080/health,json:/notes>=25,newer:/newest<24h",
        "--rpo",
        "24h",
        "--rto",
        "15m",
        "--test-after-backup",
    ]);
    assert_eq!(added["Config"]["path"], path);
    assert_eq!(added["Config"]["exclude"], serde_json::json!(["*.tmp"]));
    assert_eq!(added["RpoSeconds"], 86_400);
    assert_eq!(added["RtoSeconds"], 900);
    assert_eq!(added["TestAfterBackup"], true);
    assert_eq!(added["Service"]["Command"], serde_json::json!(["bin/myapp", "__sample-app"]));
    assert_eq!(added["Probes"][0]["Assertions"][0]["Minimum"], NOTES);
    let list = scene.cli.json(&["resource", "list"]);
    assert_eq!(names(&list, "Resources", "Name"), ["myapp"]);
    let arn = added["ResourceArn"].as_str().unwrap();
    for name in ["myapp", arn] {
        assert_eq!(scene.cli.json(&["resource", "show", name])["ResourceArn"], arn);
    }
    let table = scene.cli.run(0, &["resource", "list"]).stdout;
    assert!(table.contains("myapp") && table.contains("workload=myapp"), "{table}");
    assert!(!table.contains('\u{1b}'), "no colours into a pipe: {table:?}");
    let tagged = scene.cli.json(&["resource", "tag", "myapp", "env=prod", "--remove", "workload"]);
    assert_eq!(tagged["Tags"], serde_json::json!({ "env": "prod" }));
    scene.cli.run(1, &["resource", "show", "none"]);
    let wrong = scene
        .cli
        .run(2, &["resource", "add", "filesystem", path, "--name", "x", "--probe", "smtp:25"]);
    assert!(wrong.stderr.contains("http:PORT/PATH"), "{wrong}");
    scene.cli.run(1, &["resource", "add", "filesystem", "/no/such/path", "--name", "x"]);
    scene.cli.run(0, &["resource", "remove", "myapp"]);
    let list = scene.cli.json(&["resource", "list"]);
    assert!(names(&list, "Resources", "Name").is_empty());
}

#[test]
fn roles_and_keys() {
    let scene = Scene::new();
    for noun in ["role", "key"] {
        let arn = scene.line(&[noun, "add", "mine"]);
        assert!(arn.starts_with("arn:aws:") && !arn.contains('\n'), "{arn}");
        let list = scene.cli.json(&[noun, "list"]);
        assert_eq!(names(&list, "Items", "Name").len(), 2, "{list:#}");
        assert_eq!(names(&list, "Items", "Arn")[1], arn);
        scene.cli.run(1, &[noun, "add", "mine"]);
        scene.cli.run(0, &[noun, "remove", "mine"]);
        scene.cli.run(1, &[noun, "remove", "mine"]);
        assert_eq!(names(&scene.cli.json(&[noun, "list"]), "Items", "Name").len(), 1);
    }
    // A key that seals a vault stays.
    scene.cli.run(0, &["key", "add", "sealing"]);
    scene.cli.run(0, &["vault", "create", "sealed", "--key", "sealing"]);
    scene.cli.run(1, &["key", "remove", "sealing"]);
}

#[test]
fn vaults_and_topics() {
    let scene = Scene::new();
    scene.cli.run(0, &["vault", "create", "mine", "--tag", "env=test"]);
    let list = scene.cli.json(&["vault", "list"]);
    assert_eq!(names(&list, "BackupVaultList", "BackupVaultName"), ["Default", "mine"]);
    let shown = scene.cli.json(&["vault", "show", "mine"]);
    assert_eq!(shown["repository"]["Format"], "restic", "{shown:#}");
    let password = scene.cli.run(0, &["vault", "export-password", "mine"]).stdout;
    assert_eq!(password.lines().count(), 1, "the password and nothing else");
    assert!(password.trim().len() >= 32);
    assert!(!shown.to_string().contains(password.trim()), "no secret where it was not asked for");

    let receiver = Receiver::start();
    let topic = scene.line(&["topic", "add", "events"]);
    let url = receiver.url();
    let webhook = scene.line(&["topic", "subscribe", "events", "--webhook", &url]);
    let mail = scene.sandbox.directory("mail");
    let mail_dir = mail.to_str().unwrap();
    scene.line(&[
        "topic",
        "subscribe",
        "events",
        "--mail-dir",
        mail_dir,
        "--mail-to",
        "op@example.org",
    ]);
    let subscriptions = scene.cli.json(&["topic", "subscriptions", "events"]);
    assert_eq!(names(&subscriptions, "Subscriptions", "SubscriptionId")[0], webhook);
    assert_eq!(subscriptions["Subscriptions"].as_array().unwrap().len(), 2);
    scene.cli.run(
        0,
        &[
            "vault",
            "notifications",
            "set",
            "mine",
            "--topic",
            "events",
            "--event",
            "BACKUP_JOB_COMPLETED",
        ],
    );
    let set = scene.cli.json(&["vault", "notifications", "show", "mine"]);
    assert_eq!(set["SNSTopicArn"], topic.as_str(), "{set:#}");

    let source = scene.sandbox.path("source");
    write_tree(&source);
    scene
        .cli
        .run(0, &["resource", "add", "filesystem", source.to_str().unwrap(), "--name", "source"]);
    let job = scene.cli.json(&["backup", "source", "--vault", "mine", "--keep", "1d", "--watch"]);
    let id = job["BackupJobId"].as_str().unwrap();
    let message = receiver.wait_for("Notification from AWS Backup", id);
    assert!(message["Message"].as_str().unwrap().starts_with("An AWS Backup job was completed"));
    let deliveries = provault_tests::until("both deliveries", || {
        let list = scene.cli.json(&["delivery", "list", "--job", id]);
        let states = names(&list, "Deliveries", "State");
        (states == ["DELIVERED", "DELIVERED"]).then_some(list)
    });
    assert_eq!(names(&deliveries, "Deliveries", "JobId"), [id, id]);
    let mails: Vec<String> = fs::read_dir(&mail)
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains("op@example.org") && mails[0].contains("AWS Backup"), "{}", mails[0]);

    scene.cli.run(1, &["vault", "delete", "mine"]);
    scene.cli.run(1, &["topic", "remove", "events"]);
    scene.cli.run(0, &["vault", "notifications", "remove", "mine"]);
    scene.cli.run(1, &["vault", "notifications", "show", "mine"]);
    scene.cli.run(0, &["topic", "unsubscribe", &webhook]);
    scene.cli.run(0, &["topic", "remove", "events"]);
    assert!(names(&scene.cli.json(&["topic", "list"]), "Items", "Name").is_empty());
    let point = job["RecoveryPointArn"].as_str().unwrap();
    scene.cli.run(0, &["recovery-points", "delete", point]);
    scene.cli.run(0, &["vault", "delete", "mine"]);
}

#[test]
fn restore_testing_plans_and_selections() {
    let scene = Scene::new();
    scene.add_tree("source");
    let schedule = ["--schedule", "cron(0 5 ? * SUN *)"];
    let create = ["restore-testing-plan", "create", "weekly", "--random", "--vault", "Default"];
    let arn = scene.line(&[&create[..], &schedule, &["--window-days", "7"]].concat());
    let shown = scene.cli.json(&["restore-testing-plan", "show", "weekly"]);
    let plan = &shown["RestoreTestingPlan"];
    assert_eq!(plan["RestoreTestingPlanArn"], arn.as_str(), "{shown:#}");
    let points = &plan["RecoveryPointSelection"];
    assert_eq!(points["Algorithm"], "RANDOM_WITHIN_WINDOW", "{shown:#}");
    assert_eq!(points["SelectionWindowDays"], 7, "{shown:#}");
    let vault = points["IncludeVaults"][0].as_str().unwrap();
    assert!(vault.ends_with(":backup-vault:Default"), "{shown:#}");
    // A name that is taken, a bad schedule, a vault that is not there.
    scene.cli.run(1, &[&create[..], &schedule].concat());
    let bad = ["restore-testing-plan", "create", "bad", "--schedule", "rate(1 day)"];
    scene.cli.run(1, &bad);
    let nowhere = ["restore-testing-plan", "create", "nowhere", "--vault", "none"];
    scene.cli.run(1, &[&nowhere[..], &schedule].concat());
    let list = scene.cli.json(&["restore-testing-plan", "list"]);
    assert_eq!(names(&list, "RestoreTestingPlans", "RestoreTestingPlanName"), ["weekly"]);

    let add = ["restore-testing-selection", "create", "weekly"];
    assert_eq!(scene.line(&[&add[..], &["prod", "--tag", "env=prod"]].concat()), "prod");
    scene.line(&[&add[..], &["one", "--resource", "source"]].concat());
    scene.cli.run(1, &[&add[..], &["bad", "--metadata", "targetPath=/x"]].concat());
    let list = scene.cli.json(&["restore-testing-selection", "list", "weekly"]);
    let all = names(&list, "RestoreTestingSelections", "RestoreTestingSelectionName");
    assert_eq!(all, ["prod", "one"]);
    let shown = scene.cli.json(&["restore-testing-selection", "show", "weekly", "prod"]);
    let condition = &shown["RestoreTestingSelection"]["ProtectedResourceConditions"];
    assert_eq!(condition["StringEquals"][0]["Key"], "aws:ResourceTag/env", "{shown:#}");
    scene.cli.run(0, &["restore-testing-selection", "show", "weekly", "one"]);
    scene.cli.run(1, &["restore-testing-plan", "delete", "weekly"]);
    for name in ["prod", "one"] {
        scene.cli.run(0, &["restore-testing-selection", "delete", "weekly", name]);
    }
    scene.cli.run(0, &["restore-testing-plan", "delete", "weekly"]);
    scene.cli.run(1, &["restore-testing-plan", "delete", "weekly"]);
}

#[test]
fn plans_and_selections() {
    let scene = Scene::new();
    scene.add_tree("source");
    let id = scene.line(&[
        "plan",
        "create",
        "nightly",
        "--vault",
        "Default",
        "--daily",
        "--at",
        "03:30",
        "--timezone",
        "Europe/Berlin",
        "--keep",
        "30d",
        "--start-window",
        "60m",
        "--completion-window",
        "2h",
    ]);
    let shown = scene.cli.json(&["plan", "show", "nightly"]);
    assert_eq!(shown["BackupPlanId"], id.as_str(), "{shown:#}");
    let rule = &shown["BackupPlan"]["Rules"][0];
    assert_eq!(rule["ScheduleExpressionTimezone"], "Europe/Berlin", "{shown:#}");
    assert_eq!(rule["Lifecycle"]["DeleteAfterDays"], 30, "{shown:#}");
    let first = shown["VersionId"].as_str().unwrap();
    scene.cli.run(0, &["plan", "update", "nightly", "--schedule", "cron(0 3 1 * ? *)"]);
    let updated = scene.cli.json(&["plan", "show", "nightly"]);
    assert_eq!(updated["BackupPlan"]["Rules"][0]["ScheduleExpression"], "cron(0 3 1 * ? *)");
    let versions = scene.cli.json(&["plan", "versions", "nightly"]);
    assert_eq!(versions["BackupPlanVersionsList"].as_array().unwrap().len(), 2, "{versions:#}");
    let old = scene.cli.json(&["plan", "show", "nightly", "--version", first]);
    assert_eq!(old["BackupPlan"]["Rules"][0]["ScheduleExpression"], rule["ScheduleExpression"]);
    let file = scene.sandbox.path("plan.json");
    fs::write(
        &file,
        r#"{"BackupPlanName": "from-file", "Rules": [{"RuleName": "r", "TargetBackupVaultName": "Default"}]}"#,
    )
    .unwrap();
    scene.cli.run(0, &["plan", "create", "from-file", "--file", file.to_str().unwrap()]);
    let list = scene.cli.json(&["plan", "list"]);
    assert_eq!(names(&list, "BackupPlansList", "BackupPlanName"), ["nightly", "from-file"]);
    scene.cli.run(1, &["plan", "create", "bad", "--vault", "Default", "--schedule", "rate(1 day)"]);

    let selection =
        scene.line(&["selection", "add", "nightly", "by-tag", "--tag", "workload=myapp"]);
    scene.line(&["selection", "add", "nightly", "by-name", "--resource", "source"]);
    let list = scene.cli.json(&["selection", "list", "nightly"]);
    assert_eq!(names(&list, "BackupSelectionsList", "SelectionName"), ["by-tag", "by-name"]);
    let shown = scene.cli.json(&["selection", "show", "nightly", "by-tag"]);
    assert_eq!(shown["SelectionId"], selection.as_str(), "{shown:#}");
    assert_eq!(shown["BackupSelection"]["IamRoleArn"], DEFAULT_ROLE, "{shown:#}");
    scene.cli.run(1, &["plan", "delete", "nightly"]);
    scene.cli.run(0, &["selection", "remove", "nightly", "by-tag"]);
    scene.cli.run(0, &["selection", "remove", "nightly", "by-name"]);
    scene.cli.run(0, &["plan", "delete", "nightly"]);
    let list = scene.cli.json(&["plan", "list"]);
    assert_eq!(names(&list, "BackupPlansList", "BackupPlanName"), ["from-file"]);
    let all = scene.cli.json(&["plan", "list", "--deleted"]);
    assert_eq!(all["BackupPlansList"].as_array().unwrap().len(), 2);
}

#[test]
fn backups_jobs_recovery_points_and_restores() {
    let scene = Scene::new();
    let arn = scene.add_tree("source");
    let source = scene.sandbox.path("source");
    let job =
        scene.cli.json(&["backup", "source", "--keep", "1d", "--tag", "made=by-hand", "--watch"]);
    assert_eq!(job["State"], "COMPLETED", "{job:#}");
    let id = job["BackupJobId"].as_str().unwrap();
    let point = job["RecoveryPointArn"].as_str().unwrap();
    // Without --watch: the id, for a script; then wait for it by another command.
    let second = scene.line(&["backup", &arn]);
    let second = scene.cli.json(&["jobs", "show", &second, "--watch"]);
    assert_eq!(second["State"], "COMPLETED", "{second:#}");
    for args in
        [&["jobs"][..], &["jobs", "list"], &["jobs", "--state", "COMPLETED"], &["jobs", "--watch"]]
    {
        let jobs = scene.cli.json(args).to_string();
        assert!(jobs.contains(id), "{args:?}: {jobs}");
        assert!(scene.cli.run(0, args).stdout.contains(id));
    }
    let log = scene.cli.json(&["jobs", "log", id]);
    assert_eq!(log["JobType"], "BACKUP", "{log:#}");
    assert!(log.to_string().contains("capture and store"), "every step: {log:#}");
    scene.cli.run(1, &["jobs", "stop", id]);
    scene.cli.run(1, &["jobs", "show", "none"]);

    let points = scene.cli.json(&["recovery-points", "list", "--vault", "Default"]);
    assert_eq!(names(&points, "RecoveryPoints", "RecoveryPointArn").len(), 2);
    let points = scene.cli.json(&["recovery-points", "list", "--resource", "source"]);
    assert_eq!(names(&points, "RecoveryPoints", "RecoveryPointArn").len(), 2);
    scene.cli.run(0, &["recovery-points", "list"]);
    let shown = scene.cli.json(&["recovery-points", "show", point]);
    assert_eq!(shown["Status"], "COMPLETED", "{shown:#}");
    let metadata = scene.cli.json(&["recovery-points", "metadata", point]);
    assert_eq!(metadata["RestoreMetadata"]["sourcePath"], source.to_str().unwrap(), "{metadata:#}");

    let whole = scene.sandbox.path("whole");
    let target = whole.to_str().unwrap();
    let restored = scene.cli.json(&["restore", point, "--to", target, "--watch"]);
    assert_eq!(restored["Status"], "COMPLETED", "{restored:#}");
    Manifest::of(&source).assert_same(&Manifest::of(&whole), "the restored directory");
    // Again to the same place: refused, and the exit code says so.
    scene.cli.run(1, &["restore", point, "--to", target, "--watch"]);
    let part = scene.sandbox.path("part");
    scene.cli.run(
        0,
        &[
            "restore",
            "--resource",
            "source",
            "--to",
            part.to_str().unwrap(),
            "--item",
            "docs/2024",
            "--item",
            "small.txt",
            "--watch",
        ],
    );
    assert!(part.join("docs/2024/may/report-03.txt").exists() && part.join("small.txt").exists());
    assert!(!part.join("noise.bin").exists());
    let log = scene.cli.json(&["jobs", "log", restored["RestoreJobId"].as_str().unwrap()]);
    assert_eq!(log["JobType"], "RESTORE", "{log:#}");

    scene.cli.run(0, &["recovery-points", "delete", point]);
    let points = scene.cli.json(&["recovery-points", "list", "--resource", "source"]);
    assert_eq!(names(&points, "RecoveryPoints", "RecoveryPointArn").len(), 1);
}

#[test]
fn exit_codes_tell_how_it_ended() {
    let scene = Scene::new();
    // 1: an empty source is not backed up.
    let empty = scene.sandbox.directory("empty");
    scene
        .cli
        .run(0, &["resource", "add", "filesystem", empty.to_str().unwrap(), "--name", "empty"]);
    let failed = scene.cli.json_with(1, &["backup", "empty", "--watch"]);
    assert_eq!(failed["State"], "FAILED", "{failed:#}");
    assert!(failed["StatusMessage"].as_str().unwrap().contains("--allow-empty"), "{failed:#}");
    // 2: the command line is wrong.
    scene.cli.run(2, &["backup"]);
    scene.cli.run(2, &["restore"]);
    scene.cli.run(2, &["no-such-command"]);
    // 5: nobody there.
    let nobody = Program::of(&scene.sandbox.path("nowhere"));
    let finished = nobody.run(5, &["vault", "list"]);
    assert!(finished.stderr.contains("nowhere"), "it says where it looked: {finished}");
    let mut command = Program::bare(&["vault", "list", "--endpoint", "http://127.0.0.1:9"]);
    command
        .env("AWS_SHARED_CREDENTIALS_FILE", scene.server.data_dir().join("credentials"))
        .env("AWS_REGION", "us-east-1");
    let finished = Finished::of(&mut command, "").expect(5);
    assert!(finished.stderr.contains("127.0.0.1:9"), "{finished}");
}

#[test]
fn the_server_is_found_as_aws_clients_find_it() {
    let scene = Scene::new();
    let mut command = Program::bare(&["vault", "list", "--json"]);
    command
        .env("AWS_ENDPOINT_URL_BACKUP", scene.server.endpoint())
        .env("AWS_SHARED_CREDENTIALS_FILE", scene.server.data_dir().join("credentials"))
        .env("AWS_REGION", "us-east-1");
    let list = Finished::of(&mut command, "").expect(0).json();
    assert_eq!(names(&list, "BackupVaultList", "BackupVaultName"), ["Default"]);
    // Or in the default place of the data directory.
    let state = scene.sandbox.directory("state");
    std::os::unix::fs::symlink(scene.server.data_dir(), state.join("provault")).unwrap();
    let mut command = Program::bare(&["vault", "list", "--json"]);
    command.env("XDG_STATE_HOME", &state);
    assert_eq!(Finished::of(&mut command, "").expect(0).json(), list);
    let mut command = Program::bare(&["vault", "list", "--json"]);
    command.env("PROVAULT_DATA_DIR", scene.server.data_dir());
    assert_eq!(Finished::of(&mut command, "").expect(0).json(), list);
    // The wrong key.
    let wrong = scene.sandbox.path("wrong");
    fs::write(&wrong, "[default]\naws_access_key_id = AKIAX\naws_secret_access_key = x\n").unwrap();
    let mut command = Program::bare(&["vault", "list"]);
    command
        .env("AWS_ENDPOINT_URL_BACKUP", scene.server.endpoint())
        .env("AWS_SHARED_CREDENTIALS_FILE", &wrong)
        .env("AWS_REGION", "us-east-1");
    let refused = Finished::of(&mut command, "").expect(1);
    assert!(refused.stderr.contains("UnrecognizedClientException"), "{refused}");
}

#[test]
fn restore_tests_and_evidence() {
    let scene = Scene::new();
    let app = SampleApp::write(&scene.sandbox.path("app"));
    let path = app.directory.to_str().unwrap();
    let add = |name: &str, probe: &str| {
        scene.cli.run(
            0,
            &[
                "resource",
                "add",
                "filesystem",
                path,
                "--name",
                name,
                "--service",
                "bin/myapp __sample-app",
                "--probe",
                probe,
            ],
        );
        scene.cli.json(&["backup", name, "--watch"])
    };
    let job = add("good", "http:8080/health,json:/notes>=25");
    let point = job["RecoveryPointArn"].as_str().unwrap();
    let test = scene.cli.json(&["restore-test", "good", "--watch"]);
    assert_eq!(test["Verdict"], "PASSED", "{test:#}");
    let id = test["RestoreTestId"].as_str().unwrap();
    let test = scene.cli.json(&["restore-test", "--recovery-point", point, "--watch"]);
    assert_eq!(test["Verdict"], "PASSED", "{test:#}");
    let list = scene.cli.json(&["restore-test", "list"]);
    assert_eq!(names(&list, "RestoreTests", "Verdict"), ["PASSED", "PASSED"]);
    assert_eq!(scene.cli.json(&["restore-test", "show", id])["RestoreTestId"], id);
    let shown = scene.cli.run(0, &["restore-test", "show", id]).stdout;
    assert!(shown.contains("PASSED"), "{shown}");
    scene.cli.run(1, &["restore-test", "stop", id]);
    let log = scene.cli.run(0, &["jobs", "log", id]).stdout;
    for step in ["choose", "restore", "start and probe", "negative control", "reap"] {
        assert!(log.contains(step), "step {step} not in\n{log}");
    }
    scene.cli.run(0, &["resource", "remove", "good"]);

    // 4: the probes cannot tell.
    add("blind", "http:8080/,status=200");
    // Everything gone kills it, for the program is gone; everything emptied, too. A blind probe is
    // one whose service does not live in the copy.
    scene.cli.run(0, &["resource", "remove", "blind"]);
    let outside = "/usr/bin/perl -MIO::Socket::INET -e '$s=IO::Socket::INET->new(LocalAddr=>\
        \"127.0.0.1:8080\",Listen=>5);while($c=$s->accept){<$c>;\
        print $c \"HTTP/1.0 200 OK\\r\\n\\r\\n\";close $c}'";
    scene.cli.run(
        0,
        &[
            "resource",
            "add",
            "filesystem",
            path,
            "--name",
            "outside",
            "--service",
            outside,
            "--probe",
            "http:8080/",
        ],
    );
    scene.cli.run(0, &["backup", "outside", "--watch"]);
    let test = scene.cli.json_with(4, &["restore-test", "outside", "--watch"]);
    assert_eq!(test["Verdict"], "INCONCLUSIVE", "{test:#}");
    // 1: it fails.
    scene.cli.run(0, &["resource", "remove", "outside"]);
    add("wanting", "http:8080/health,json:/notes>=26");
    let test = scene.cli.json_with(1, &["restore-test", "wanting", "--watch"]);
    assert_eq!(test["Verdict"], "FAILED", "{test:#}");

    let evidence = scene.cli.json(&["evidence", "list"]);
    assert_eq!(evidence["Records"].as_array().unwrap().len(), 4, "{evidence:#}");
    let one = scene.cli.json(&["evidence", "list", "--resource", "wanting"]);
    assert_eq!(one["Records"].as_array().unwrap().len(), 1, "{one:#}");
    scene.cli.run(0, &["evidence", "list"]);
}

#[test]
fn help_is_there_for_everything() {
    let text = Finished::of(clean_command(executable()).arg("--help"), "").expect(0).stdout;
    for command in [
        "serve",
        "lab",
        "resource",
        "role",
        "key",
        "vault",
        "plan",
        "selection",
        "backup",
        "jobs",
        "recovery-points",
        "restore",
        "restore-test",
        "evidence",
        "topic",
    ] {
        assert!(text.contains(&format!("\n  {command}")), "{command} not in\n{text}");
        let help =
            Finished::of(clean_command(executable()).args([command, "--help"]), "").expect(0);
        assert!(!help.stdout.is_empty());
    }
    assert!(!text.contains("__isolate"), "what only the server starts is not shown");
}
