//! Restore tests of a real small application: what passes, what fails and for which reason, what
//! cannot be told.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::{Path, PathBuf};

use provault_tests::{
    Manifest, NOTES, Receiver, SampleApp, Sandbox, TestServer, VAULT, until, vault_files,
};
use serde_json::{Value, json};

struct Scene {
    server: TestServer,
    app: SampleApp,
    sandbox: Sandbox,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let server = TestServer::start(&sandbox.path("server"));
        let app = SampleApp::write(&sandbox.path("myapp"));
        Self { server, app, sandbox }
    }

    /// Registers the application with changes to how it is described, and backs it up.
    fn protect(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut resource = self.app.resource("myapp");
        change(&mut resource);
        let arn = self.server.add(&resource);
        self.server.back_up(&arn)
    }

    fn leftovers(&self) -> Vec<PathBuf> {
        let tests = self.server.data_dir().join("restore-tests");
        fs::read_dir(tests).map_or_else(
            |_| Vec::new(),
            |entries| entries.map(|entry| entry.unwrap().path()).collect(),
        )
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value:#}"))
}

fn assert_verdict(test: &Value, verdict: &str, reason: &str) {
    assert_eq!(test["Verdict"], verdict, "{test:#}");
    assert!(text(test, "Reason").contains(reason), "'{reason}' not in the reason: {test:#}");
    assert_eq!(test["CleanedUp"], true, "{test:#}");
}

#[test]
fn a_whole_application_passes_from_its_copy_alone() {
    let scene = Scene::new();
    let receiver = Receiver::start();
    scene.server.notify(&receiver);
    let point = scene.protect(|resource| {
        resource["RpoSeconds"] = json!(3600);
        resource["RtoSeconds"] = json!(600);
    });
    // The source is away: what answers can only be the copy, program and data.
    let away = scene.sandbox.path("away");
    fs::rename(&scene.app.directory, &away).unwrap();
    let test = scene.server.test("myapp");
    fs::rename(&away, &scene.app.directory).unwrap();
    assert_verdict(&test, "PASSED", "HTTP 200 returned by the application");
    assert_eq!(test["RecoveryPointArn"], point);
    assert_eq!(test["Isolation"], "full", "{test:#}");
    assert!(test["RecoverySeconds"].as_f64().unwrap() > 0.0);
    assert!(test["RecoveryPointAgeSeconds"].as_u64().unwrap() < 600);
    let probes = test["Probes"].as_array().unwrap();
    assert!(probes.len() >= 3, "files and two questions: {test:#}");
    assert!(probes.iter().all(|probe| probe["Passed"] == true), "{test:#}");
    let mutants = test["Mutants"].as_array().unwrap();
    for name in ["everything-emptied", "everything-gone"] {
        let mutant = mutants.iter().find(|mutant| mutant["Name"] == name);
        assert_eq!(mutant.map(|m| &m["Required"]), Some(&json!(true)), "{name}: {test:#}");
    }
    for mutant in mutants.iter().filter(|mutant| mutant["Required"] == true) {
        assert_eq!(mutant["Killed"], true, "{test:#}");
    }
    assert_eq!(test["MutantsCached"], false);
    for step in
        ["choose", "restore", "compare files", "start and probe", "negative control", "reap"]
    {
        let steps = test["Steps"].as_array().unwrap();
        let found = steps.iter().find(|s| s["Name"] == step);
        assert_eq!(found.map(|s| &s["Ok"]), Some(&json!(true)), "step {step}: {test:#}");
    }
    assert!(scene.leftovers().is_empty(), "{:?}", scene.leftovers());

    // It is an ordinary restore job, validated and deleted again.
    let job = scene.server.api().get(&format!("/restore-jobs/{}", text(&test, "RestoreJobId")));
    assert_eq!(job["Status"], "COMPLETED", "{job:#}");
    assert_eq!(job["ValidationStatus"], "SUCCESSFUL", "{job:#}");
    assert_eq!(job["DeletionStatus"], "SUCCESSFUL", "{job:#}");
    let told = receiver.wait_for("Restore Test Status", &point);
    let message = text(&told, "Message");
    assert!(message.contains(&format!("Restore from {point} was successful.")), "{message}");
    assert!(message.contains("has been cleaned up."), "{message}");
    // What was restored for the test is not among the resources.
    let resources = scene.server.api().get("/provault/v1/resources");
    assert_eq!(resources["Resources"].as_array().unwrap().len(), 1, "{resources:#}");
    assert_eq!(resources["Resources"][0]["Verdict"], "PASSED");
    // The next test with the same probes knows that they can fail.
    let again = scene.server.test("myapp");
    assert_verdict(&again, "PASSED", "");
    assert_eq!(again["MutantsCached"], true, "{again:#}");
    let evidence = scene.server.api().get("/provault/v1/evidence");
    assert_eq!(evidence["Records"].as_array().unwrap().len(), 2);
}

#[test]
fn a_test_follows_the_backup_by_itself_where_it_is_asked_for() {
    let scene = Scene::new();
    let mut resource = scene.app.resource("myapp");
    resource["TestAfterBackup"] = json!(true);
    let arn = scene.server.add(&resource);
    let job = scene.server.start_backup(&arn);
    let job = scene.server.ended_backup(&job);
    assert_eq!(job["State"], "COMPLETED", "{job}");
    let test = until("the test after the backup", || {
        let tests = scene.server.api().get("/provault/v1/restore-tests");
        let test = tests["RestoreTests"].get(0).cloned()?;
        (test["State"] == "FINISHED").then_some(test)
    });
    assert_verdict(&test, "PASSED", "");
    assert_eq!(test["BackupJobId"], job["BackupJobId"]);
}

#[test]
fn emptied_data_fails_although_the_application_answers_200() {
    let scene = Scene::new();
    fs::write(scene.app.data(), "[]").unwrap();
    scene.protect(|_| {});
    let test = scene.server.test("myapp");
    assert_verdict(&test, "FAILED", "/notes");
    let probes = test["Probes"].as_array().unwrap();
    let page = probes.iter().find(|p| text(p, "Label") == "http:8080/").unwrap();
    assert_eq!(page["Passed"], true, "it does answer 200: {test:#}");
    assert!(text(&test, "Reason").contains(&NOTES.to_string()), "the floor: {test:#}");
    assert!(test["Mutants"].as_array().unwrap().is_empty(), "a failure needs no control: {test:#}");
    let job = scene.server.api().get(&format!("/restore-jobs/{}", text(&test, "RestoreJobId")));
    assert_eq!(job["ValidationStatus"], "FAILED", "{job:#}");
    let resources = scene.server.api().get("/provault/v1/resources/myapp");
    assert_eq!(resources["Verdict"], "FAILED");
}

#[test]
fn a_removed_program_fails() {
    let scene = Scene::new();
    fs::remove_file(scene.app.program()).unwrap();
    scene.protect(|_| {});
    assert_verdict(&scene.server.test("myapp"), "FAILED", "bin/myapp");
}

#[test]
fn a_point_older_than_the_rpo_fails() {
    let scene = Scene::new();
    scene.protect(|resource| resource["RpoSeconds"] = json!(1));
    // The age is counted in whole seconds, and has to be more than one.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let test = scene.server.test("myapp");
    assert_verdict(&test, "FAILED", "recovery point objective");
    assert!(test["Probes"].as_array().unwrap().iter().all(|p| p["Passed"] == true), "{test:#}");
    let resource = scene.server.api().get("/provault/v1/resources/myapp");
    assert_eq!(resource["Verdict"], "OVERDUE");
}

#[test]
fn a_recovery_longer_than_the_rto_fails() {
    let scene = Scene::new();
    scene.protect(|resource| {
        resource["RtoSeconds"] = json!(1);
        let slow = "sleep 3; exec bin/myapp __sample-app";
        resource["Service"]["Command"] = json!(["/bin/sh", "-c", slow]);
    });
    let test = scene.server.test("myapp");
    assert_verdict(&test, "FAILED", "recovery time objective");
    assert!(test["RecoverySeconds"].as_f64().unwrap() >= 3.0, "{test:#}");
}

#[test]
fn a_flipped_bit_of_stored_data_fails_and_is_named() {
    let scene = Scene::new();
    scene.protect(|_| {});
    vault_files::flip_a_byte(scene.server.data_dir(), VAULT);
    let test = scene.server.test("myapp");
    // The program is by far the largest file.
    assert_verdict(&test, "FAILED", "bin/myapp");
    assert!(text(&test, "Reason").contains("damaged"), "{test:#}");
    // An operator's restore fails in the same words, and leaves nothing.
    let target = scene.sandbox.path("target");
    let job = scene.server.start_restore(&scene.server.points()[0], &target);
    let job = scene.server.ended_restore(&job);
    assert_eq!(job["Status"], "FAILED", "{job}");
    assert!(text(&job, "StatusMessage").contains("bin/myapp"), "{job}");
    assert!(!target.exists());
}

#[test]
fn probes_that_pass_on_a_broken_copy_prove_nothing() {
    let scene = Scene::new();
    scene.protect(|resource| {
        // A service from outside the copy: it answers 200 whatever became of the data.
        let server = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => \
            '127.0.0.1:8080', Listen => 5, ReuseAddr => 1) or die $!; while (my $c = $s->accept) { \
            while (<$c>) { last if /^\\r?$/ } \
            print $c \"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok\"; \
            close $c }";
        resource["Service"]["Command"] = json!(["/usr/bin/perl", "-e", server]);
        resource["Probes"] = json!([{
            "Type": "Http", "Port": 8080, "Path": "/",
            "Assertions": [{ "Type": "Status", "Equals": 200 }],
        }]);
    });
    let test = scene.server.test("myapp");
    assert_verdict(&test, "INCONCLUSIVE", "cannot tell broken from whole");
    assert!(test["Probes"].as_array().unwrap().iter().all(|p| p["Passed"] == true), "{test:#}");
    let job = scene.server.api().get(&format!("/restore-jobs/{}", text(&test, "RestoreJobId")));
    assert_eq!(job["ValidationStatus"], "TIMED_OUT", "{job:#}");
    // What was not proven is not remembered as proven.
    let again = scene.server.test("myapp");
    assert_verdict(&again, "INCONCLUSIVE", "cannot tell broken from whole");
    assert_eq!(again["MutantsCached"], false);
}

/// The application answers 200 without its data, and 200 is all that is asked.
#[test]
fn a_probe_that_does_not_look_at_the_data_proves_nothing() {
    let scene = Scene::new();
    scene.protect(|resource| {
        resource["Probes"] = json!([{ "Type": "Http", "Port": 8080, "Path": "/" }]);
    });
    let test = scene.server.test("myapp");
    assert_verdict(&test, "INCONCLUSIVE", "cannot tell broken from whole");
    let mutants = test["Mutants"].as_array().unwrap();
    let emptied = mutants.iter().find(|m| m["Name"] == "data-emptied").unwrap();
    assert_eq!(emptied["Killed"], false, "{test:#}");
}

/// What the backup could not read is in no manifest, and no comparison would miss it.
#[test]
fn a_point_that_lacks_paths_does_not_pass() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.directory("source");
    fs::write(source.join("here.txt"), "here\n").unwrap();
    // Deeper than the driver goes: unreadable for everybody, root included.
    let deep = source.join(vec!["d"; 600].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("lost.txt"), "lost\n").unwrap();
    let resource = server.add_directory("deep", &source);
    let job = server.ended_backup(&server.start_backup(&resource));
    assert_eq!(job["State"], "PARTIAL", "{job}");
    let log = server.api().get(&format!("/provault/v1/jobs/{}/log", text(&job, "BackupJobId")));
    assert_eq!(log["Skipped"].as_array().unwrap().len(), 1, "every path is listed: {log}");
    let point = provault_tests::encode(text(&job, "RecoveryPointArn"));
    let path = format!("/backup-vaults/{VAULT}/recovery-points/{point}");
    assert_eq!(server.api().get(&path)["Status"], "PARTIAL");
    assert_verdict(&server.test("deep"), "FAILED", "not complete");
    // The command line tells it apart.
    let watched = server.program().json_with(3, &["backup", "deep", "--watch"]);
    assert_eq!(watched["State"], "PARTIAL", "{watched:#}");
    server.program().run(1, &["restore-test", "deep", "--watch"]);
}

/// An operator restores the very recovery point that is being tested; no clean-up may touch that.
#[test]
fn an_operators_restore_is_untouched_by_every_cleanup() {
    let mut scene = Scene::new();
    let slow = "sleep 2; exec bin/myapp __sample-app";
    let point = scene.protect(|resource| {
        resource["Service"]["Command"] = json!(["/bin/sh", "-c", slow]);
    });
    let source = Manifest::of(&scene.app.directory);
    let root = scene.server.data_dir().join("restore-tests");
    let targets = [scene.sandbox.path("restored"), scene.sandbox.path("restored-again")];
    let untouched = |what: &str, targets: &[PathBuf]| {
        for target in targets {
            source.assert_same(&Manifest::of(target), &format!("{} {what}", target.display()));
        }
    };
    // Directories that are nobody's copy: without a mark, with a name like a token, empty.
    for name in ["notes", "0d2e5ac9-4f5a-4f57-a5a7-2f3a1fc1b0e7", "empty"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("notes/mine.txt"), "mine").unwrap();
    fs::write(root.join("0d2e5ac9-4f5a-4f57-a5a7-2f3a1fc1b0e7/mine.txt"), "mine").unwrap();
    let unmarked = |root: &Path| {
        for name in ["notes", "0d2e5ac9-4f5a-4f57-a5a7-2f3a1fc1b0e7"] {
            assert_eq!(fs::read_to_string(root.join(name).join("mine.txt")).unwrap(), "mine");
        }
        assert!(root.join("empty").is_dir());
    };

    let test = scene.server.start_test("myapp");
    let running = |server: &TestServer, id: &str| {
        until("the test to run", || {
            let state = server.test_now(id)["State"].as_str().unwrap().to_owned();
            ["TESTING", "CONTROLLING"].contains(&state.as_str()).then_some(())
        });
    };
    running(&scene.server, &test);
    for target in &targets {
        scene.server.restore(&point, target);
    }
    untouched("while the test runs", &targets);
    // The very place where copies under test are made is nobody's target.
    let refused = scene.server.api().call(
        "PUT",
        "/restore-jobs",
        Some(&json!({
            "RecoveryPointArn": point,
            "Metadata": {
                "file-system-id": text(&scene.server.api().get("/provault/v1/resources/myapp"), "ResourceArn")
                    .rsplit('/').next().unwrap(),
                "targetPath": root.join("restored-by-hand"),
            },
        })),
    );
    assert_eq!(refused.error(), "InvalidParameterValueException", "{refused:?}");
    assert!(refused.text.contains("targetPath"), "{refused:?}");
    assert_verdict(&scene.server.ended_test(&test), "PASSED", "");
    untouched("after the test", &targets);
    unmarked(&root);

    // The same when the server dies under a test, and the next start sweeps and begins it anew.
    let test = scene.server.start_test("myapp");
    running(&scene.server, &test);
    scene.server.kill9();
    scene.server.start_again();
    assert_verdict(&scene.server.ended_test(&test), "PASSED", "");
    untouched("after the sweep", &targets);
    unmarked(&root);
    assert!(scene.server.stop().success());
    scene.server.start_again();
    untouched("after one more start", &targets);
    unmarked(&root);
    let mut left: Vec<_> = scene.leftovers();
    left.sort();
    assert_eq!(left.len(), 3, "ours and nothing else: {left:?}");
    // The copies are resources of their own and can be protected like any other.
    let resources = scene.server.api().get("/provault/v1/resources");
    assert_eq!(resources["Resources"].as_array().unwrap().len(), 3, "{resources:#}");
}

#[test]
fn a_stopped_test_is_inconclusive_and_cleaned_up() {
    let scene = Scene::new();
    scene.protect(|resource| {
        resource["Service"]["Command"] = json!(["/bin/sh", "-c", "exec sleep 100"]);
        resource["Service"]["StartTimeoutSeconds"] = json!(100);
    });
    let id = scene.server.start_test("myapp");
    until("the test to run", || (scene.server.test_now(&id)["State"] == "TESTING").then_some(()));
    // A point under test cannot be deleted.
    let point = provault_tests::encode(&scene.server.points()[0]);
    let path = format!("/backup-vaults/{VAULT}/recovery-points/{point}");
    let refused = scene.server.api().call("DELETE", &path, None);
    assert_eq!(refused.error(), "InvalidRequestException", "{refused:?}");
    assert!(refused.text.contains(&id), "it says what uses it: {refused:?}");
    scene.server.api().post(&format!("/provault/v1/restore-tests/{id}/stop"), &json!({}));
    let test = scene.server.ended_test(&id);
    assert_verdict(&test, "INCONCLUSIVE", "Stopped by");
    assert!(scene.leftovers().is_empty());
    until("the end of every helper", || {
        provault_tests::processes::below(scene.server.pid()).is_empty().then_some(())
    });
    scene.server.api().delete(&path);
    assert!(scene.server.points().is_empty());
}
