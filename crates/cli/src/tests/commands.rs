//! Whole command lines against a server that plays the API.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};
use serde_json::{Value, json};

use super::server::{REGION, Reply, Request, Server, credentials, error, ok};
use crate::client::Client;
use crate::commands::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Output;
use crate::{Command, GlobalOptions};

/// As the binary flattens it.
#[derive(Debug, Parser)]
#[command(name = "provault", after_help = crate::EXIT_CODES_HELP)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) options: GlobalOptions,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Default)]
struct Buffer(Rc<RefCell<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

pub(super) struct Ran {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.err))
    }
}

/// Runs a command line; `ctrl_c_after` waits between two looks Ctrl-C comes.
fn run_until(server: &Server, line: &[&str], ctrl_c_after: Option<u32>) -> Ran {
    run_with(server, line, ctrl_c_after, None)
}

/// Runs a command line on a terminal where somebody answers so.
pub(super) fn run_answering(server: &Server, line: &[&str], answer: bool) -> Ran {
    run_with(server, line, None, Some(answer))
}

fn run_with(
    server: &Server,
    line: &[&str],
    ctrl_c_after: Option<u32>,
    answer: Option<bool>,
) -> Ran {
    let cli = Cli::try_parse_from([&["provault"], line].concat()).unwrap_or_else(|e| panic!("{e}"));
    with_context(server, cli.options.json, ctrl_c_after, answer, |context| cli.command.run(context))
}

/// Does what a command does, with what it works with.
pub(super) fn with_context(
    server: &Server,
    json: bool,
    ctrl_c_after: Option<u32>,
    answer: Option<bool>,
    work: impl FnOnce(&Context<'_>) -> Result<Exit, CliError>,
) -> Ran {
    let (out, err) = (Buffer::default(), Buffer::default());
    let output = Output::into_buffers(json, Box::new(out.clone()), Box::new(err.clone()));
    let client = Client::new(&server.endpoint, credentials(), REGION)
        .unwrap()
        .with_first_wait(Duration::ZERO);
    let waits = Cell::new(0);
    let context = Context {
        client: &client,
        out: &output,
        before_watch: &|| {},
        sleep: &|_| {
            waits.set(waits.get() + 1);
            Some(waits.get()) == ctrl_c_after
        },
        confirm: &|_| answer,
    };
    let exit = crate::finish(work(&context), &output);
    Ran { exit, out: out.text(), err: err.text() }
}

pub(super) fn run(server: &Server, line: &[&str]) -> Ran {
    run_until(server, line, None)
}

pub(super) fn refused(line: &[&str]) -> String {
    Cli::try_parse_from([&["provault"], line].concat()).unwrap_err().to_string()
}

const ROLE: &str = "arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole";
pub(super) const FS: &str =
    "arn:aws:elasticfilesystem:eu-test-1:123456789012:file-system/fs-0123456789abcdef0";
pub(super) const POINT: &str = "arn:aws:backup:eu-test-1:123456789012:recovery-point:0001";
const TOPIC: &str = "arn:aws:sns:eu-test-1:123456789012:alerts";

fn resource() -> Value {
    json!({
        "ResourceArn": FS, "Kind": "filesystem", "ResourceType": "EFS", "Name": "docs",
        "Config": { "path": "/srv/docs" }, "Tags": { "workload": "myapp" },
        "Service": { "Command": ["./app"], "Environment": { "TOKEN": "hush" } },
        "Probes": [{ "Type": "Files" }], "TestAfterBackup": true, "CreationDate": 1_700_000_000,
    })
}

fn named(name: &str, arn: &str) -> Value {
    json!({ "Items": [{ "Arn": arn, "Name": name, "CreationDate": 0 }] })
}

/// What every command needs, or a refusal that names what was asked for.
pub(super) fn basics(request: &Request) -> Reply {
    match request.line().as_str() {
        "GET /provault/v1/roles" => ok(&named("service-role/AWSBackupDefaultServiceRole", ROLE)),
        "GET /provault/v1/topics" => ok(&named("alerts", TOPIC)),
        "GET /provault/v1/resources/docs" | "POST /provault/v1/resources" => ok(&resource()),
        line => error(404, "ResourceNotFoundException", &format!("nothing at {line}")),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("Exit codes:") && help.contains("--data-dir"), "{help}");
    let error =
        Cli::try_parse_from(["provault", "resource", "add", "filesystem", "--help"]).unwrap_err();
    let help = error.to_string();
    assert!(help.contains("http:PORT/PATH[,PART]") && help.contains("no shell"), "{help}");
    for line in [
        &["backup", "r", "--keep", "36h"][..],
        &["backup", "r", "--keep", "30"],
        &["restore"],
        &["restore", POINT, "--resource", "r"],
        &["restore-test"],
        &["restore-testing-plan", "create", "p"],
        &["restore-testing-selection", "create", "p", "s", "--resource", "r", "--tag", "a=b"],
        &["topic", "subscribe", "t"],
        &["topic", "subscribe", "t", "--mail-dir", "/d"],
        &["topic", "subscribe", "t", "--webhook", "http://h", "--mail-dir", "/d", "--mail-to", "a"],
        &["plan", "create", "p", "--file", "f", "--vault", "v"],
        &["plan", "create", "p", "--vault", "v", "--daily", "--hourly"],
        &["plan", "create", "p", "--vault", "v", "--schedule", "cron(0 5 ? * * *)", "--at", "1:00"],
        &["resource", "tag", "r"],
        &["resource", "add", "filesystem", "/d", "--name", "n", "--start-timeout", "5s"],
    ] {
        assert!(!refused(line).is_empty());
    }
    let error = refused(&[
        "resource",
        "add",
        "filesystem",
        "/d",
        "--name",
        "n",
        "--probe",
        "http:80/,json:/a>=x",
    ]);
    assert!(error.contains("the floor must be a whole number"), "{error}");
    // clap keeps the lines: the mark stands below the wrong part.
    let lines: Vec<&str> = error.lines().collect();
    let at = lines.iter().position(|line| line.trim() == "^").unwrap();
    assert_eq!(lines[at].find('^'), lines[at - 1].find('x'), "{error}");
}

#[test]
fn a_resource_is_registered_with_all_its_settings() {
    let server = Server::start(basics);
    let ran = run(
        &server,
        &[
            "resource",
            "add",
            "filesystem",
            "/srv/docs/",
            "--name",
            "docs",
            "--include",
            "a/**",
            "--exclude",
            "**/cache",
            "--one-file-system",
            "false",
            "--allow-empty",
            "--tag",
            "workload=myapp",
            "--service",
            "./app --port '80 80'",
            "--service-env",
            "TOKEN=hush",
            "--start-timeout",
            "2m",
            "--probe",
            "files",
            "--probe",
            "http:8080/,json:/rows>=3",
            "--rpo",
            "24h",
            "--rto",
            "15m",
            "--test-after-backup",
        ],
    );
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert_eq!(
        server.requests()[0].json(),
        json!({
            "Kind": "filesystem", "Name": "docs",
            "Config": {
                "path": "/srv/docs", "include": ["a/**"], "exclude": ["**/cache"],
                "oneFileSystem": false, "allowEmpty": true, "requireMount": false,
            },
            "Tags": { "workload": "myapp" },
            "Service": {
                "Command": ["./app", "--port", "80 80"], "Environment": { "TOKEN": "hush" },
                "StartTimeoutSeconds": 120,
            },
            "Probes": [
                { "Type": "Files" },
                { "Type": "Http", "Port": 8080, "Path": "/", "Assertions": [
                    { "Type": "JsonAtLeast", "Pointer": "/rows", "Minimum": 3 },
                ] },
            ],
            "RpoSeconds": 86400, "RtoSeconds": 900, "TestAfterBackup": true,
        })
    );
    assert!(ran.out.contains("workload=myapp") && ran.out.contains("TOKEN"), "{}", ran.out);
    assert!(!ran.out.contains("hush"), "the environment's values are printed: {}", ran.out);
}

#[test]
fn json_is_one_document_as_the_api_sent_it() {
    let page = |next: Option<&str>| {
        let list = json!({ "Resources": [resource()], "NextToken": next });
        ok(&list)
    };
    let server = Server::script(vec![page(Some("t")), page(None), page(Some("t")), page(None)]);
    let both = json!({ "Resources": [resource(), resource()] });
    assert_eq!(run(&server, &["--json", "resource", "list"]).json(), both);
    // The option may stand behind the command too.
    assert_eq!(run(&server, &["resource", "list", "--json"]).json(), both);
    assert_eq!(server.lines()[3], "GET /provault/v1/resources?nextToken=t");
    let ran = run(&server, &["resource", "list", "--json"]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Failed, ""), "{}", ran.err);
    assert!(ran.err.starts_with("error: script is over (InternalFailure, HTTP 500"), "{}", ran.err);
}

#[test]
fn a_backup_is_watched_to_each_of_its_ends() {
    for (state, exit) in [
        ("COMPLETED", Exit::Done),
        ("PARTIAL", Exit::Partial),
        ("FAILED", Exit::Failed),
        ("ABORTED", Exit::Failed),
        ("EXPIRED", Exit::Failed),
    ] {
        let mut looks = 0;
        let server = Server::start(move |request| match request.path.as_str() {
            "/backup-jobs" => ok(&json!({ "BackupJobId": "j1" })),
            "/backup-jobs/j1" => {
                looks += 1;
                let state = ["CREATED", "RUNNING", "RUNNING", state][looks.min(4) - 1];
                ok(&json!({ "BackupJobId": "j1", "State": state, "PercentDone": "12.5",
                            "StatusMessage": "why", "BackupSizeInBytes": 1_258_291 }))
            }
            _ => basics(request),
        });
        let line = ["backup", "docs", "--vault", "v", "--keep", "1d", "--tag", "a=b", "--watch"];
        let ran = run(&server, &line);
        assert_eq!(ran.exit, exit, "{state}: {}", ran.err);
        let states: Vec<&str> = ran.err.lines().filter_map(|l| l.split(": ").nth(1)).collect();
        assert_eq!(states, ["CREATED", "RUNNING", state]);
        assert!(ran.out.contains("1.2 MiB") && ran.out.contains(state), "{}", ran.out);
        let start = server.requests().into_iter().find(|r| r.method == "PUT").unwrap().json();
        assert_eq!(
            (start["ResourceArn"].as_str(), start["IamRoleArn"].as_str()),
            (Some(FS), Some(ROLE))
        );
        assert_eq!(start["Lifecycle"], json!({ "DeleteAfterDays": 1 }));
        assert_eq!(start["RecoveryPointTags"], json!({ "a": "b" }));
        assert!(start["IdempotencyToken"].as_str().is_some_and(|token| token.len() == 36));
    }
}

#[test]
fn ctrl_c_ends_the_watching_and_not_the_job() {
    let server = Server::start(|request| match request.path.as_str() {
        "/backup-jobs" => ok(&json!({ "BackupJobId": "j1" })),
        "/backup-jobs/j1" => ok(&json!({ "State": "RUNNING" })),
        _ => basics(request),
    });
    let ran = run_until(&server, &["backup", "docs", "--watch"], Some(3));
    assert_eq!(ran.exit, Exit::Interrupted);
    assert!(ran.out.is_empty(), "{}", ran.out);
    assert!(ran.err.contains("backup job j1 goes on"), "{}", ran.err);
    assert!(ran.err.contains("provault jobs stop j1"), "{}", ran.err);
    assert!(server.lines().iter().all(|line| !line.starts_with("POST")), "{:?}", server.lines());
}

#[test]
fn watching_outlives_a_restart_of_the_server_but_not_its_end() {
    let test = |state: &str, verdict: Option<&str>| {
        json!({ "RestoreTestId": "t1", "ResourceArn": FS, "ResourceName": "docs", "State": state,
                "Verdict": verdict, "Probes": [], "Mutants": [], "MutantsCached": false,
                "Steps": [], "CreationDate": 0 })
    };
    for (verdict, exit) in
        [("PASSED", Exit::Done), ("FAILED", Exit::Failed), ("INCONCLUSIVE", Exit::Inconclusive)]
    {
        // 4 torn connections are one failed look.
        let mut script = vec![ok(&test("PENDING", None)), ok(&test("RESTORING", None))];
        script.extend(vec![Reply::Hangup; 12]);
        script.push(ok(&test("FINISHED", Some(verdict))));
        let server = Server::script(script);
        let ran = run(&server, &["restore-test", "docs", "--watch", "--json"]);
        assert_eq!((ran.exit, &ran.json()["Verdict"]), (exit, &json!(verdict)), "{}", ran.err);
        assert!(ran.err.contains("does not answer"), "{}", ran.err);
        assert_eq!(server.requests()[0].json(), json!({ "Resource": "docs" }));
    }
    let mut script = vec![ok(&test("PENDING", None)); 2];
    script.extend(vec![Reply::Hangup; 100]);
    let ran = run(&Server::script(script), &["restore-test", "docs", "--watch"]);
    assert_eq!(ran.exit, Exit::Unreachable);
}

fn points() -> Value {
    let point = |id: &str, at: i64, status: &str| json!({ "RecoveryPointArn": id, "CreationDate": at, "Status": status, "BackupVaultName": "v" });
    json!({ "RecoveryPoints": [
        point("old", 10, "COMPLETED"), point(POINT, 30, "PARTIAL"), point("new", 40, "DELETING"),
        point("mid", 20, "COMPLETED"),
    ] })
}

#[test]
fn the_newest_point_is_restored_with_its_own_metadata_and_the_edits() {
    let server = Server::start(|request| {
        if request.path.ends_with("/restore-metadata") {
            assert!(request.path.starts_with("/backup-vaults/v/"), "{}", request.path);
            return ok(&json!({ "ResourceType": "EFS", "RestoreMetadata": {
                "file-system-id": "fs-1", "targetPath": "/default" } }));
        }
        if request.path.ends_with("/recovery-points/") || request.path.ends_with("/recovery-points")
        {
            return ok(&points());
        }
        match request.path.as_str() {
            "/restore-jobs" => ok(&json!({ "RestoreJobId": "r1" })),
            _ => basics(request),
        }
    });
    let line =
        ["restore", "--resource", "docs", "--to", "/new", "--item", "a b", "--item", "c,\"d"];
    let ran = run(&server, &line);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Done, "r1\n"), "{}", ran.err);
    assert!(ran.err.contains("PARTIAL"), "{}", ran.err);
    let start = server.requests().into_iter().find(|r| r.method == "PUT").unwrap().json();
    assert_eq!(start["RecoveryPointArn"], POINT);
    assert_eq!(start["ResourceType"], "EFS");
    assert_eq!(
        start["Metadata"],
        json!({
            "file-system-id": "fs-1", "targetPath": "/new", "ItemsToRestore": r#"["a b","c,\"d"]"#,
        })
    );
    let twice = run(&server, &["restore", POINT, "--to", "/new", "--metadata", "targetPath=/x"]);
    assert_eq!(twice.exit, Exit::Usage);
}

#[test]
fn jobs_of_all_three_types_are_one_list() {
    let handler = |request: &Request| match request.path.trim_end_matches('/') {
        "/backup-jobs" => ok(&json!({ "BackupJobs": [
            { "BackupJobId": "b1", "State": "COMPLETED", "CreationDate": 1, "ResourceName": "docs" } ] })),
        "/restore-jobs" => ok(&json!({ "RestoreJobs": [
            { "RestoreJobId": "r1", "Status": "COMPLETED", "CreationDate": 3, "SourceResourceArn": FS },
            { "RestoreJobId": "r2", "Status": "FAILED", "CreationDate": 2, "SourceResourceArn": "arn:x" } ] })),
        "/provault/v1/restore-tests" => ok(&json!({ "RestoreTests": [
            { "RestoreTestId": "t1", "ResourceArn": FS, "ResourceName": "docs", "State": "FINISHED",
              "Verdict": "PASSED", "Probes": [], "Mutants": [], "MutantsCached": false, "Steps": [],
              "CreationDate": 4 } ] })),
        "/provault/v1/jobs/t1/log" => ok(&json!({ "JobId": "t1", "JobType": "RESTORE_TEST",
            "Entries": [{ "Sequence": 1, "Time": 0, "Message": "a\u{1b}[2J", "Step": {
                "Name": "restore", "StartDate": 0, "Seconds": 1.25, "Ok": true, "Detail": "9 files" } }],
            "Skipped": [{ "Path": "x\ny", "Reason": "denied" }] })),
        "/provault/v1/restore-tests/t1/stop" => ok(&Value::Null),
        _ => basics(request),
    };
    let server = Server::start(handler);
    let ran = run(&server, &["jobs"]);
    let ids: Vec<&str> = ran
        .out
        .lines()
        .skip(1)
        .filter_map(|l| l.split_whitespace().find(|w| w.len() == 2))
        .collect();
    assert_eq!(ids, ["b1", "r2", "r1", "t1"], "{}", ran.out);
    let ran = run(&server, &["jobs", "list", "--resource", "docs", "--json"]);
    assert_eq!(ran.json()["RestoreJobs"].as_array().unwrap().len(), 1);
    let ran = run(&server, &["jobs", "list", "--state", "sleeping"]);
    assert_eq!(ran.exit, Exit::Usage);
    let ran = run(&server, &["jobs", "log", "t1"]);
    assert!(ran.out.contains("1.2 s") || ran.out.contains("1.3 s"), "{}", ran.out);
    assert!(ran.out.contains("9 files") && ran.out.contains("x y"), "{}", ran.out);
    assert!(!ran.out.contains('\u{1b}'));
    let ran = run(&server, &["jobs", "stop", "t1"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert_eq!(server.lines().last().unwrap(), "POST /provault/v1/restore-tests/t1/stop");
}

#[test]
fn a_plan_is_made_by_options_and_changed_rule_by_rule() {
    let server = Server::start(|request| {
        match (request.method.as_str(), request.path.trim_end_matches('/')) {
            ("PUT", "/backup/plans") => ok(&json!({ "BackupPlanId": "p1" })),
            ("GET", "/backup/plans") => ok(&json!({ "BackupPlansList": [
            { "BackupPlanId": "p1", "BackupPlanName": "lab" } ] })),
            ("GET", "/backup/plans/p1") => ok(&json!({ "BackupPlanId": "p1", "BackupPlan": {
            "BackupPlanName": "lab", "Rules": [
                { "RuleId": "i1", "RuleName": "day", "TargetBackupVaultName": "v",
                  "ScheduleExpression": "cron(0 5 ? * * *)", "StartWindowMinutes": 480 },
                { "RuleId": "i2", "RuleName": "month", "TargetBackupVaultName": "w" } ] } })),
            ("POST", "/backup/plans/p1") => ok(&json!({ "VersionId": "v2" })),
            _ => basics(request),
        }
    });
    let ran = run(
        &server,
        &[
            "plan",
            "create",
            "lab",
            "--rule-name",
            "BACKUP-LAB-RULE",
            "--vault",
            "v",
            "--daily",
            "--at",
            "01:30",
            "--keep",
            "35d",
            "--start-window",
            "8h",
            "--timezone",
            "Europe/Berlin",
        ],
    );
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Done, "p1\n"), "{}", ran.err);
    assert_eq!(
        server.requests()[0].json()["BackupPlan"],
        json!({
            "BackupPlanName": "lab", "Rules": [{
                "RuleName": "BACKUP-LAB-RULE", "TargetBackupVaultName": "v",
                "ScheduleExpression": "cron(30 1 ? * * *)", "ScheduleExpressionTimezone": "Europe/Berlin",
                "Lifecycle": { "DeleteAfterDays": 35 }, "StartWindowMinutes": 480 }],
        })
    );
    // Which of two rules is meant must be said; nothing is changed before.
    assert_eq!(run(&server, &["plan", "update", "lab", "--keep", "7d"]).exit, Exit::Usage);
    assert_eq!(run(&server, &["plan", "update", "lab"]).exit, Exit::Usage);
    let ran = run(&server, &["plan", "update", "lab", "--remove-rule", "none"]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(server.lines().iter().all(|line| !line.starts_with("POST")));
    let line =
        ["plan", "update", "lab", "--rule-name", "day", "--keep", "7d", "--remove-rule", "month"];
    assert_eq!(run(&server, &line).exit, Exit::Done);
    assert_eq!(
        server.requests().last().unwrap().json()["BackupPlan"]["Rules"],
        json!([
        { "RuleName": "day", "TargetBackupVaultName": "v", "ScheduleExpression": "cron(0 5 ? * * *)",
          "StartWindowMinutes": 480, "Lifecycle": { "DeleteAfterDays": 7 } } ])
    );
    let ran = run(&server, &["plan", "delete", "nightly"]);
    assert!(ran.err.contains("there is no plan 'nightly'; there are: lab"), "{}", ran.err);

    // A plan file, given back as `plan show --json` has it.
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let plan =
        json!({ "Rules": [{ "RuleId": "i", "RuleName": "r", "TargetBackupVaultName": "v" }] });
    std::fs::write(path, plan.to_string()).unwrap();
    assert_eq!(run(&server, &["plan", "update", "lab", "--file", path]).exit, Exit::Done);
    assert_eq!(
        server.requests().last().unwrap().json()["BackupPlan"],
        json!({
        "BackupPlanName": "lab", "Rules": [{ "RuleName": "r", "TargetBackupVaultName": "v" }] })
    );
    std::fs::write(path, r#"{"Rules": [{"Rulename": "r"}]}"#).unwrap();
    let ran = run(&server, &["plan", "create", "lab", "--file", path]);
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("Rules[0].Rulename"), "{}", ran.err);
}

#[test]
fn a_selection_looks_names_up() {
    let server = Server::start(|request| {
        match (request.method.as_str(), request.path.trim_end_matches('/')) {
            ("GET", "/backup/plans") => ok(&json!({ "BackupPlansList": [
            { "BackupPlanId": "p1", "BackupPlanName": "lab" } ] })),
            ("PUT", "/backup/plans/p1/selections") => ok(&json!({ "SelectionId": "s1" })),
            _ => basics(request),
        }
    });
    let ran = run(
        &server,
        &[
            "selection",
            "add",
            "lab",
            "by-tag",
            "--tag",
            "workload=myapp",
            "--resource",
            "docs",
            "--not-resource",
            "arn:aws:s3:::*",
        ],
    );
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Done, "s1\n"), "{}", ran.err);
    assert_eq!(
        server.requests().last().unwrap().json()["BackupSelection"],
        json!({
            "SelectionName": "by-tag", "IamRoleArn": ROLE, "Resources": [FS],
            "NotResources": ["arn:aws:s3:::*"], "ListOfTags": [{ "ConditionType": "STRINGEQUALS",
                "ConditionKey": "workload", "ConditionValue": "myapp" }],
        })
    );
    let ran = run(&server, &["selection", "add", "lab", "all", "--tag", "a=b", "--role", "who"]);
    assert!(ran.err.contains("there is no role 'who'"), "{}", ran.err);
    assert_eq!(run(&server, &["selection", "add", "lab", "none"]).exit, Exit::Usage);
}

#[test]
fn vaults_and_topics_print_what_a_script_takes() {
    let server = Server::start(|request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/backup-vaults/v") => {
            ok(&json!({ "BackupVaultName": "v", "NumberOfRecoveryPoints": 2 }))
        }
        (_, "/provault/v1/vaults/v/repository") => ok(&json!({ "Format": "restic", "Version": 2,
            "Location": "/data/v", "RepositoryId": "ab" })),
        (_, "/provault/v1/vaults/v/care") => ok(&super::vault_care()),
        (_, "/provault/v1/vaults/v/export-password") => {
            ok(&json!({ "BackupVaultName": "v", "Password": "p w" }))
        }
        ("POST", "/provault/v1/topics") => {
            ok(&json!({ "Arn": TOPIC, "Name": "alerts", "CreationDate": 0 }))
        }
        ("PUT", "/backup-vaults/v/notification-configuration")
        | ("DELETE", "/provault/v1/topics/alerts") => {
            Reply::Answer { status: 200, headers: Vec::new(), body: String::new() }
        }
        _ => basics(request),
    });
    let shown = run(&server, &["vault", "show", "v", "--json"]).json();
    assert_eq!(shown["NumberOfRecoveryPoints"], 2);
    assert_eq!(shown["repository"]["Location"], "/data/v");
    assert_eq!(run(&server, &["vault", "export-password", "v"]).out, "p w\n");
    assert_eq!(run(&server, &["topic", "add", "alerts"]).out, format!("{TOPIC}\n"));
    let line = [
        "vault",
        "notifications",
        "set",
        "v",
        "--topic",
        "alerts",
        "--event",
        "BACKUP_JOB_COMPLETED",
    ];
    let ran = run(&server, &line);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert_eq!(
        server.requests().last().unwrap().json(),
        json!({
        "BackupVaultEvents": ["BACKUP_JOB_COMPLETED"], "SNSTopicArn": TOPIC })
    );
    let ran = run(&server, &["topic", "remove", "alerts"]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Done, "removed topic alerts\n"), "{}", ran.err);
}
