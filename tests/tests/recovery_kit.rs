//! The data directory is gone; a kit and the storage bring the server back.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::Path;

use provault_tests::{
    Finished, Manifest, Program, Sandbox, TestServer, clean_command, executable, vault_files,
    write_tree,
};

fn kit(server: &TestServer, file: &Path) -> String {
    let made = server.program().run(0, &["recovery-kit", "export", file.to_str().unwrap()]);
    made.stdout.trim().to_owned()
}

struct Before {
    sandbox: Sandbox,
    credentials: String,
    points: Vec<String>,
    manifest: Manifest,
}

/// A server with two recovery points, of which a copy of the catalog knows `known`; then only the
/// kit, the code and the vault's storage are left.
fn lost(known: Option<usize>) -> Before {
    let sandbox = Sandbox::new();
    let data_dir = sandbox.path("server");
    let mut server = TestServer::start(&data_dir);
    let source = sandbox.path("source");
    write_tree(&source);
    let resource = server.add_directory("source", &source);
    for n in 0..2 {
        if known == Some(n) {
            let run = server.program().json(&["vault", "backup-catalog", "Default", "--watch"]);
            assert_eq!(run["State"], "COMPLETED", "{run}");
        }
        fs::write(source.join("small.txt"), format!("state {n}")).unwrap();
        server.back_up(&resource);
    }
    let code = kit(&server, &sandbox.path("kit"));
    fs::write(sandbox.path("code"), &code).unwrap();
    let text = fs::read_to_string(sandbox.path("kit")).unwrap();
    assert!(text.contains("restic -r") && text.contains("Default"), "{text}");
    assert!(!text.contains(&code), "the code is not in the kit");
    let credentials = fs::read_to_string(data_dir.join("credentials")).unwrap();
    let points = server.points();
    assert_eq!(points.len(), 2);
    server.kill9();
    drop(server);
    fs::rename(vault_files::directory(&data_dir, "Default"), sandbox.path("storage")).unwrap();
    fs::remove_dir_all(&data_dir).unwrap();
    let manifest = Manifest::of(&source);
    Before { sandbox, credentials, points, manifest }
}

fn recovered(before: &Before, expected: &str) {
    let sandbox = &before.sandbox;
    let data_dir = sandbox.path("server");
    let (file, code) = (sandbox.path("kit"), sandbox.path("code"));
    let (file, code) = (file.to_str().unwrap(), code.to_str().unwrap());
    let program = Program::of(&data_dir);
    let wrong = sandbox.path("wrong");
    fs::write(&wrong, "not the code").unwrap();
    let wrong = wrong.to_str().unwrap();
    let refused = program.run(1, &["recovery-kit", "restore", file, "--passphrase-file", wrong]);
    assert!(refused.stderr.contains("does not open"), "{refused}");
    assert!(!data_dir.join("catalog.db").exists());
    let shown =
        program.run(0, &["recovery-kit", "show", file, "--passphrase-file", code, "--passwords"]);
    let storage = sandbox.path("storage");
    let password = shown.stdout.split_whitespace().last().unwrap().to_owned();
    provault_tests::restic::Vault::at(storage.to_str().unwrap(), &password).check();

    let place = format!("Default={}", storage.display());
    let args = ["recovery-kit", "restore", file, "--passphrase-file", code, "--vault", &place];
    let done = program.run(0, &args);
    assert!(done.stdout.contains(expected), "{done}");
    let again = program.run(1, &args);
    assert!(again.stderr.contains("is there already"), "{again}");

    let server = TestServer::start(&data_dir);
    assert_eq!(fs::read_to_string(data_dir.join("credentials")).unwrap(), before.credentials);
    let mut points = server.points();
    points.sort();
    let mut then = before.points.clone();
    then.sort();
    assert_eq!(points, then, "the same recovery points under the same names");
    let newest = before.points.last().unwrap();
    let target = sandbox.path("restored");
    server.restore(newest, &target);
    before.manifest.assert_same(&Manifest::of(&target), "what came back");
    // Its resource is backed up on.
    let resource = server.program().json(&["resource", "show", "source"]);
    server.back_up(resource["ResourceArn"].as_str().unwrap());
    let test = server.test("source");
    assert_eq!(test["Verdict"], "PASSED", "{test}");
}

#[test]
fn from_a_copy_of_the_catalog_and_what_is_newer_in_the_vault() {
    recovered(&lost(Some(1)), "The catalog is that of");
}

#[test]
fn from_the_records_in_the_vault_alone() {
    recovered(&lost(None), "it was made anew from the vaults");
}

/// What is typed at a terminal does not show, for kits as for repositories.
#[test]
fn a_secret_that_is_typed_does_not_show() {
    let before = lost(None);
    let code = fs::read_to_string(before.sandbox.path("code")).unwrap();
    let kit = before.sandbox.path("kit");
    let kit = kit.to_str().unwrap();
    let shown = typed(&code, &["recovery-kit", "show", kit, "--passwords"]);
    assert!(shown.contains("Recovery code or passphrase:"), "{shown}");
    assert!(shown.contains("Default") && !shown.contains(&code), "{shown}");
    let password = shown.split_whitespace().last().unwrap().to_owned();
    let storage = before.sandbox.path("storage");
    let repo = storage.to_str().unwrap();
    let shown = typed(&password, &["repository", "--no-cache", "--repo", repo, "snapshots"]);
    assert!(shown.contains("password:") && !shown.contains(&password), "{shown}");
    assert!(shown.contains("source"), "{shown}");

    // Without a terminal it is read from standard input, as scripts do it.
    let mut command = Program::bare(&["recovery-kit", "show", kit]);
    command.stdin(fs::File::open(before.sandbox.path("code")).unwrap());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("Default"), "{output:?}");
}

/// Runs the program at a terminal, types a secret where it asks for one, and gives all that the
/// terminal showed. The script fails when the terminal would show what is typed.
fn typed(secret: &str, args: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/terminal.py");
    let mut command = clean_command("python3");
    command.arg(script).arg(secret).arg(executable()).args(args);
    Finished::of(&mut command, "python3 is missing; install it").expect(0).stdout
}
