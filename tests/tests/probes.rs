//! Probes beside HTTP, the whole way: commands and TCP, asked of a real server's restored copies; and
//! the evidence of what they found, exported and verified without that server.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use provault_tests::{Finished, Program, Sandbox, TestServer, processes, until};
use serde_json::{Value, json};

/// Says how many notes there are, and fails where there are none.
const CHECK: &str = "#!/bin/sh
test -s data/notes.txt || { echo 'no notes' >&2; exit 1; }
echo \"$(wc -l < data/notes.txt) notes\"
";

/// A mail server of sorts: greets with the first note, and answers every line with how many there
/// are. Without its data it is still polite.
const GREETER: &str = r#"#!/usr/bin/perl
use strict; use warnings; use IO::Socket::INET;
$| = 1;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1:2525', Listen => 5, ReuseAddr => 1)
    or die "cannot listen: $!";
while (my $client = $listener->accept) {
    my $file;
    my @notes = open($file, '<', 'data/notes.txt') ? <$file> : ();
    my $first = $notes[0] // "nothing\n"; chomp $first;
    print $client "220 $first\r\n";
    while (my $line = <$client>) { print $client '250 ' . scalar(@notes) . " notes\r\n" }
}
"#;

struct Scene {
    server: TestServer,
    source: PathBuf,
    sandbox: Sandbox,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let server = TestServer::start(&sandbox.path("server"));
        let source = sandbox.directory("app");
        fs::create_dir(source.join("data")).unwrap();
        let notes = (1..=25).map(|n| format!("note {n}")).collect::<Vec<_>>().join("\n") + "\n";
        fs::write(source.join("data/notes.txt"), notes).unwrap();
        let scene = Self { server, source, sandbox };
        scene.program("check.sh", CHECK);
        scene.program("greeter", GREETER);
        scene
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.source.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Registers the directory with one probe, backs it up, tests it.
    fn tested(&self, service: Option<&[&str]>, probe: &Value) -> Value {
        let mut resource = json!({
            "Kind": "filesystem", "Name": "app", "Config": { "path": self.source },
            "Probes": [probe],
        });
        if let Some(command) = service {
            resource["Service"] = json!({ "Command": command, "StartTimeoutSeconds": 5 });
        }
        self.server.back_up(&self.server.add(&resource));
        self.server.test("app")
    }

    fn again(&self) -> Value {
        let resource = self.server.api().get("/provault/v1/resources/app");
        self.server.back_up(resource["ResourceArn"].as_str().unwrap());
        self.server.test("app")
    }
}

fn command(words: &[&str], assertions: &Value) -> Value {
    json!({ "Type": "Command", "Command": words, "Assertions": assertions, "TimeoutSeconds": 30 })
}

fn tcp(send: &str, assertions: &Value) -> Value {
    let mut probe =
        json!({ "Type": "Tcp", "Port": 2525, "Assertions": assertions, "TimeoutSeconds": 2 });
    if !send.is_empty() {
        probe["Send"] = json!(send);
    }
    probe
}

fn assert_verdict(test: &Value, verdict: &str, reason: &str) {
    assert_eq!(test["Verdict"], verdict, "{test:#}");
    let told = test["Reason"].as_str().unwrap();
    assert!(told.contains(reason), "'{reason}' not in the reason: {test:#}");
    assert_eq!(test["CleanedUp"], true, "{test:#}");
}

/// The answer to the probe that is not the comparison of files.
fn answer(test: &Value) -> &Value {
    let probes = test["Probes"].as_array().unwrap();
    probes.iter().find(|probe| probe["Label"] != "files").unwrap_or_else(|| panic!("{test:#}"))
}

fn assert_noticed(test: &Value) {
    let mutants = test["Mutants"].as_array().unwrap();
    let required: Vec<&Value> = mutants.iter().filter(|m| m["Required"] == true).collect();
    assert_eq!(required.len(), 3, "{test:#}");
    assert!(required.iter().all(|m| m["Killed"] == true), "{test:#}");
}

#[test]
fn a_command_alone_proves_a_copy_that_has_no_application() {
    let scene = Scene::new();
    let rows = json!([{ "Type": "BodyMatches", "Pattern": "^25 notes\n$" }]);
    let test = scene.tested(None, &command(&["./check.sh"], &rows));
    assert_verdict(&test, "PASSED", "1 command satisfied with the copy");
    assert_eq!(test["Isolation"], "full", "{test:#}");
    assert_noticed(&test);
    let told = answer(&test);
    assert_eq!(told["Label"], "command:./check.sh");
    assert_eq!(told["Output"], "25 notes\n");
    let evidence = scene.server.api().get("/provault/v1/evidence");
    let probes = &evidence["Records"][0]["Body"]["findings"]["probes"];
    let shown = probes.as_array().unwrap().iter().any(|probe| probe["output"] == "25 notes\n");
    assert!(shown, "the output is in the evidence: {evidence:#}");

    // The same script need not be asked about broken copies again; another one has to be.
    let again = scene.again();
    assert_verdict(&again, "PASSED", "");
    assert_eq!(again["MutantsCached"], true, "{again:#}");
    scene.program("check.sh", "#!/bin/sh\necho '25 notes'\n");
    let blind = scene.again();
    assert_eq!(blind["MutantsCached"], false, "{blind:#}");
    assert_verdict(&blind, "INCONCLUSIVE", "cannot tell broken from whole");
    scene.program("check.sh", CHECK);
    fs::write(scene.source.join("data/notes.txt"), "").unwrap();
    let failed = scene.again();
    assert_verdict(&failed, "FAILED", "exit code 1: it should be 0");
    assert!(answer(&failed)["Output"].as_str().unwrap().contains("no notes"), "{failed:#}");
}

#[test]
fn a_command_that_is_always_satisfied_proves_nothing() {
    let scene = Scene::new();
    let test = scene.tested(None, &command(&["true"], &json!([])));
    assert_verdict(&test, "INCONCLUSIVE", "cannot tell broken from whole");
    assert_eq!(answer(&test)["Passed"], true);
}

#[test]
fn a_command_that_hangs_fails_at_its_limit_and_leaves_nothing() {
    let scene = Scene::new();
    let mut hangs = command(&["sh", "-c", "echo working; sleep 1000 & sleep 1000"], &json!([]));
    hangs["TimeoutSeconds"] = json!(2);
    let test = scene.tested(None, &hangs);
    assert_verdict(&test, "FAILED", "not done after 2 s, so it was ended; it last wrote: working");
    until("the end of every helper", || {
        processes::below(scene.server.pid()).is_empty().then_some(())
    });
}

#[test]
fn a_program_that_this_host_lacks_says_nothing_of_the_copy() {
    let scene = Scene::new();
    let test = scene.tested(None, &command(&["no-such-program-anywhere"], &json!([])));
    assert_verdict(&test, "INCONCLUSIVE", "install it on this host");
}

#[test]
fn tcp_alone_proves_an_application() {
    let scene = Scene::new();
    let banner = json!([
        { "Type": "BodyMatches", "Pattern": "^220 note 1\r\n" },
        { "Type": "BodyContains", "Text": "250 25 notes" },
    ]);
    let test = scene.tested(Some(&["./greeter"]), &tcp("NOOP\r\n", &banner));
    assert_verdict(&test, "PASSED", "TCP answered by the application");
    assert_eq!(test["Isolation"], "full");
    assert_noticed(&test);
    assert_eq!(answer(&test)["Output"], "220 note 1\r\n250 25 notes\r\n", "{test:#}");
}

#[test]
fn tcp_that_looks_at_nothing_of_the_data_proves_nothing() {
    let scene = Scene::new();
    let polite = json!([{ "Type": "BodyMatches", "Pattern": "^220 " }]);
    let test = scene.tested(Some(&["./greeter"]), &tcp("", &polite));
    assert_verdict(&test, "INCONCLUSIVE", "cannot tell broken from whole");
}

#[test]
fn a_server_that_says_something_else_or_nothing_fails() {
    let scene = Scene::new();
    let wrong = json!([{ "Type": "BodyContains", "Text": "+PONG" }]);
    let test = scene.tested(Some(&["./greeter"]), &tcp("", &wrong));
    assert_verdict(&test, "FAILED", "what came does not contain \"+PONG\"");
    scene.server.api().delete("/provault/v1/resources/app");
    let mute = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => \
        '127.0.0.1:2525', Listen => 5) or die $!; my @kept; push @kept, $s->accept while 1";
    let test = scene.tested(Some(&["perl", "-e", mute]), &tcp("", &wrong));
    assert_verdict(&test, "FAILED", "port 2525 answered nothing");
    scene.server.api().delete("/provault/v1/resources/app");
    let test = scene.tested(Some(&["sleep", "1000"]), &tcp("", &wrong));
    assert_verdict(&test, "FAILED", "nothing listens on port 2525");
}

/// Registered, shown and refused as people write it.
#[test]
fn probes_are_written_on_the_command_line() {
    let scene = Scene::new();
    let cli = scene.server.program();
    let path = scene.source.to_str().unwrap();
    let add = ["resource", "add", "filesystem", path, "--name", "app"];
    let with = |more: &[&'static str]| [add.as_slice(), more].concat();
    let check = "command:./check.sh,json:>=25,timeout=30s";
    for (probe, said) in [
        ("tcp:2525,expect=220", "send=TEXT, contains=TEXT, matches=REGEX"),
        ("command:./check.sh,status=0", "exit=N"),
        ("udp:53", "'tcp:PORT'"),
    ] {
        let refused = cli.run(2, &with(&["--probe", probe]));
        assert!(refused.stderr.contains(said), "{refused}");
    }
    let refused = cli.run(1, &with(&["--probe", "tcp:2525"]));
    assert!(refused.stderr.contains("--service"), "{refused}");
    let refused = cli.run(1, &with(&["--probe", "command:./check.sh,matches=("]));
    assert!(refused.stderr.contains("regular expression"), "{refused}");
    cli.run(
        0,
        &with(&[
            "--service",
            "./greeter",
            "--probe",
            r"tcp:2525,send=NOOP\r\n,matches=^220 note \d+\r\n,contains=25 notes",
            "--probe",
            "command:sh -c 'wc -l < data/notes.txt',json:>=25",
        ]),
    );
    let shown = cli.run(0, &["resource", "show", "app"]).stdout;
    let tcp = r"tcp:2525,send=NOOP\r\n,matches=^220 note \d+\r\n,contains=25 notes,timeout=10s";
    assert!(shown.contains(tcp), "{shown}");
    assert!(
        shown.contains("command:sh -c 'wc -l < data/notes.txt',json:>=25,timeout=1m"),
        "{shown}"
    );
    cli.run(0, &["backup", "app", "--watch"]);
    let test = cli.json(&["restore-test", "app", "--watch"]);
    assert_eq!(test["Verdict"], "PASSED", "{test:#}");
    let id = test["RestoreTestId"].as_str().unwrap();
    let shown = cli.run(0, &["restore-test", "show", id]).stdout;
    assert!(shown.contains("What the copy answered"), "{shown}");
    // The text of the check is no number: it can be registered, and fails.
    cli.run(0, &["resource", "remove", "app"]);
    cli.run(0, &with(&["--probe", check]));
    cli.run(0, &["backup", "app", "--watch"]);
    let test = cli.json_with(1, &["restore-test", "app", "--watch"]);
    assert!(test["Reason"].as_str().unwrap().contains("the output is not JSON"), "{test:#}");
}

/// The command line on a machine that has no server and no catalog.
fn elsewhere(directory: &Path, code: i32, args: &[&str]) -> Finished {
    let mut command = Program::bare(args);
    command.arg("--data-dir").arg(directory.join("nothing-here")).env("HOME", directory);
    Finished::of(&mut command, "it was just there").expect(code)
}

#[test]
fn evidence_is_exported_and_verified_without_the_server() {
    let mut scene = Scene::new();
    let export = scene.sandbox.path("evidence.jsonl");
    let file = export.to_str().unwrap();
    let cli = scene.server.program();
    // Of a server that has tested nothing there is a chain, too.
    let empty = cli.run(0, &["evidence", "export"]);
    assert_eq!(empty.stdout.lines().count(), 1, "{empty}");
    let first = scene.tested(None, &command(&["./check.sh"], &json!([])));
    assert_eq!(first["Verdict"], "PASSED", "{first:#}");
    let noted = cli.json(&["evidence", "verify"]);
    assert_eq!((&noted["Chain"], &noted["Records"]), (&json!("VERIFIED"), &json!(1)), "{noted:#}");
    for _ in 0..2 {
        scene.server.test("app");
    }
    let told = cli.json(&["evidence", "export", "--out", file]);
    assert_eq!((&told["Chain"], &told["Records"]), (&json!("VERIFIED"), &json!(3)), "{told:#}");
    let head = told["Head"].as_str().unwrap().to_owned();
    let noted = noted["Head"].as_str().unwrap().to_owned();
    let refused = cli.run(2, &["evidence", "export", "--out", file]);
    assert!(refused.stderr.contains("is there already"), "{refused}");
    let text = fs::read_to_string(&export).unwrap();
    assert_eq!(cli.run(0, &["evidence", "export"]).stdout, text);
    assert_eq!(fs::metadata(&export).unwrap().permissions().mode() & 0o777, 0o600);
    scene.server.kill9();
    fs::remove_dir_all(scene.server.data_dir()).unwrap();

    let sandbox = &scene.sandbox;
    let away = sandbox.directory("away");
    let verify = |code, args: &[&str]| {
        elsewhere(&away, code, &[["evidence", "verify"].as_slice(), args].concat())
    };
    let verified =
        verify(0, &[file, "--expect-head", &head, "--includes", &noted, "--json"]).json();
    assert_eq!(verified["Records"], 3, "{verified:#}");
    assert_eq!(verified["Head"], head.as_str());
    let upper = head.to_uppercase();
    let shown = verify(0, &[file, "--expect-head", &upper]).stdout;
    assert!(shown.contains("VERIFIED") && shown.contains(&head), "{shown}");
    // An earlier head is in the chain and is not its last one.
    assert!(verify(1, &[file, "--expect-head", &noted]).stderr.contains(&noted));

    let changed = sandbox.path("changed.jsonl");
    let wrong = |text: &str, record: i64| {
        fs::write(&changed, text).unwrap();
        let told = verify(1, &[changed.to_str().unwrap(), "--json"]);
        assert_eq!(told.json()["Record"], record, "{told}");
        assert!(told.stderr.contains(&format!("record {record}:")), "{told}");
    };
    wrong(&text.replacen("PASSED", "FAILED", 1), 1);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 4);
    wrong(&lines[1..].concat(), 1);
    wrong(&[lines[0], lines[2], lines[3]].concat(), 2);
    wrong(&[lines[0], lines[1], lines[3]].concat(), 3);
    wrong(&lines[..3].concat(), 4);
    wrong(&[lines[1], lines[0], lines[2], lines[3]].concat(), 1);
    wrong("", 1);

    for args in [
        [away.join("missing").to_str().unwrap(), "--json"].as_slice(),
        &[away.to_str().unwrap()],
        &[file, "--expect-head", "abc"],
        &[file, "--includes", ""],
    ] {
        verify(2, args);
    }
    // Without a file there would have to be a server.
    verify(5, &[]);
}
