//! Restores in place by the command line: modes, patterns, previews, a stop of the server, a crash.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::{Path, PathBuf};

use provault_tests::{Manifest, Program, Sandbox, Start, TestServer, until, write_tree};

struct Scene {
    server: TestServer,
    cli: Program,
    source: PathBuf,
    manifest: Manifest,
    sandbox: Sandbox,
}

impl Scene {
    /// A directory with one recovery point of it, in which somebody has been at work since.
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let server = TestServer::start(&sandbox.path("server"));
        let source = sandbox.path("source");
        write_tree(&source);
        let manifest = Manifest::of(&source);
        let resource = server.add_directory("source", &source);
        server.back_up(&resource);
        fs::remove_file(source.join("noise.bin")).unwrap();
        fs::write(source.join("small.txt"), "work of today\n").unwrap();
        fs::write(source.join("added.txt"), "work of today\n").unwrap();
        Self { cli: server.program(), server, source, manifest, sandbox }
    }

    fn restore<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&["restore", "--resource", "source", "--in-place"][..], more].concat()
    }

    fn small(&self) -> String {
        fs::read_to_string(self.source.join("small.txt")).unwrap()
    }

    fn nothing_is_left(place: &Path) {
        for entry in fs::read_dir(place).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains(".provault-"), "{name} was left");
        }
    }
}

#[test]
fn a_newer_file_stays_until_it_is_said_that_it_need_not() {
    let scene = Scene::new();
    // Without a mode the error names them all, and nothing happens.
    let refused = scene.cli.run(1, &Scene::restore(&["--watch"]));
    for mode in ["never", "if-older", "if-changed", "always"] {
        assert!(refused.stderr.contains(mode), "{refused}");
    }
    scene.cli.run(2, &["restore", "--resource", "source", "--overwrite", "always"]);
    scene.cli.run(2, &Scene::restore(&["--delete-extra"]));
    scene.cli.run(2, &Scene::restore(&["--overwrite", "sometimes"]));
    scene.cli.run(1, &Scene::restore(&["--overwrite", "never", "--delete-extra"]));

    let shown = scene.cli.json(&Scene::restore(&["--overwrite", "if-older", "--dry-run"]));
    assert_eq!(shown["InPlace"], true, "{shown:#}");
    assert_eq!(shown["Created"]["Entries"], 1, "{shown:#}");
    // It has two names.
    assert_eq!(shown["KeptNewer"]["Entries"], 2, "{shown:#}");
    let changes = shown["Changes"].as_array().unwrap();
    let newer = changes.iter().find(|change| change["Path"] == "small.txt").unwrap();
    assert_eq!(newer["Action"], "KEEP_NEWER", "{newer:#}");
    assert_eq!(newer["Newer"], true, "{newer:#}");
    let table = scene.cli.run(0, &Scene::restore(&["--overwrite", "if-older", "--dry-run"])).stdout;
    assert!(table.contains("KEEP_NEWER") && table.contains("small.txt"), "{table}");
    assert!(!scene.source.join("noise.bin").exists(), "the preview wrote");
    assert_eq!(scene.server.api().get("/restore-jobs/")["RestoreJobs"], serde_json::json!([]));

    let done = scene.cli.json(&Scene::restore(&["--overwrite", "if-older", "--watch"]));
    assert_eq!(done["Status"], "COMPLETED", "{done:#}");
    assert!(done["CreatedResourceArn"].is_null(), "{done:#}");
    let message = done["StatusMessage"].as_str().unwrap();
    assert!(message.contains("newer") && message.contains("Verified: "), "{message}");
    assert_eq!(scene.small(), "work of today\n");
    assert!(scene.source.join("noise.bin").exists());

    let exact = ["--overwrite", "always", "--delete-extra", "--watch"];
    let done = scene.cli.json(&Scene::restore(&exact));
    assert!(done["StatusMessage"].as_str().unwrap().contains("1 deleted"), "{done:#}");
    scene.manifest.assert_same(&Manifest::of(&scene.source), "the source");
    Scene::nothing_is_left(&scene.source);
    // No resource was made, and all is as well as before.
    let list = scene.cli.json(&["resource", "list"]);
    assert_eq!(list["Resources"].as_array().unwrap().len(), 1, "{list:#}");
}

#[test]
fn patterns_and_another_directory() {
    let scene = Scene::new();
    let other = scene.sandbox.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("mine"), "mine").unwrap();
    let to = other.to_str().unwrap();
    let asked = ["--to", to, "--overwrite", "never", "--include", "*.txt", "--exclude", "/docs"];
    let more = ["--no-verify", "--watch"];
    let done = scene.cli.json(&Scene::restore(&[&asked[..], &more[..]].concat()));
    assert_eq!(done["Status"], "COMPLETED", "{done:#}");
    assert!(!done["StatusMessage"].as_str().unwrap().contains("Verified"), "{done:#}");
    assert!(other.join("small.txt").exists() && other.join("mine").exists());
    assert!(!other.join("noise.bin").exists() && !other.join("docs").exists());
    let nothing = ["--to", to, "--overwrite", "never", "--include", "*.nosuch", "--dry-run"];
    let refused = scene.cli.run(1, &Scene::restore(&nothing));
    assert!(refused.stderr.contains("matches"), "{refused}");
}

#[test]
fn a_restored_copy_leaves_the_status_as_it_is() {
    let scene = Scene::new();
    let copy = scene.sandbox.path("copy");
    scene
        .cli
        .run(0, &["restore", "--resource", "source", "--to", copy.to_str().unwrap(), "--watch"]);
    let status = scene.server.api().get("/provault/v1/status");
    let resources = status["Resources"].as_array().unwrap();
    let copy = resources.iter().find(|r| r["Name"] != "source").unwrap();
    assert_eq!(copy["Protection"], "EXEMPT", "{status:#}");
    let reason = copy["Exemption"]["Reason"].as_str().unwrap();
    assert!(reason.starts_with("restored from arn:"), "{reason}");
}

/// The server dies or stops in a restore in place, and the next start goes on with it.
#[test]
fn a_restore_in_place_survives_the_end_of_its_server() {
    for place in ["restore:started", "restore:written"] {
        let mut scene = Scene::new();
        let arrived = scene.sandbox.path("arrived");
        scene.server.restart_with(&Start::paused_at(place, &arrived));
        scene.cli = scene.server.program();
        let asked = ["--overwrite", "always", "--delete-extra"];
        let started = scene.cli.run(0, &Scene::restore(&asked)).stdout;
        let id = started.trim();
        until("the pause", || arrived.exists().then_some(()));
        scene.server.kill9();
        scene.server.start_again();
        let job = scene.server.ended_restore(id);
        assert_eq!(job["Status"], "COMPLETED", "{place}: {job:#}");
        scene.manifest.assert_same(&Manifest::of(&scene.source), "the source");
        Scene::nothing_is_left(&scene.source);
    }
}
