//! Vaults in the buckets of an S3-compatible store, driven through the real server.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::Path;
use std::process::Command;

use provault_testkit::S3Server;
use provault_tests::restic::Vault;
use provault_tests::{
    Finished, Manifest, Random, Sandbox, Start, Store, TestServer, VAULT, write_tree,
};
use serde_json::{Value, json};

const ROOT: &str = "s3://bucket/site";

fn location(server: &TestServer, vault: &str) -> String {
    let shown = server.api().get(&format!("/provault/v1/vaults/{vault}/repository"));
    shown["Location"].as_str().unwrap().to_owned()
}

fn clean(run: &Value) {
    assert_eq!(run["State"], "COMPLETED", "{run}");
    assert_eq!(run["Report"]["Clean"], true, "{run}");
}

fn packs(store: &Store, vault: &str) -> u64 {
    let directory = vault.strip_prefix("s3://bucket/").unwrap();
    let packs = store.storage().list(&format!("{directory}/data")).unwrap();
    packs.iter().map(|object| object.size).sum()
}

/// The whole life of a vault, then the loss of the server, which is brought back from the bucket.
#[test]
fn a_vault_in_a_bucket_is_as_good_as_one_in_a_directory() {
    let (store, sandbox) = (Store::start(), Sandbox::new());
    let data_dir = sandbox.path("server");
    let mut server = TestServer::start_with(&data_dir, &store.serve(ROOT));
    let place = location(&server, VAULT);
    assert!(place.starts_with("s3://bucket/site/Default-"), "{place}");
    assert!(!data_dir.join("vaults").exists());

    let source = sandbox.path("source");
    write_tree(&source);
    let resource = server.add_directory("source", &source);
    let noise = source.join("noise");
    fs::write(&noise, Random(7).bytes(3_000_000)).unwrap();
    let with_noise = server.back_up(&resource);
    fs::remove_file(&noise).unwrap();
    fs::write(source.join("small.txt"), "changed").unwrap();
    let point = server.back_up(&resource);
    let manifest = Manifest::of(&source);
    let target = sandbox.path("restored");
    server.restore(&point, &target);
    manifest.assert_same(&Manifest::of(&target), "out of the bucket");
    let verdict = server.test("source");
    assert_eq!(verdict["Verdict"], "PASSED", "{verdict}");

    let program = server.program();
    clean(&program.json(&["vault", "check", VAULT, "--read-data", "--watch"]));
    clean(&program.json(&["vault", "verify", VAULT, "--watch"]));
    let before = packs(&store, &place);
    server.delete_point(&with_noise);
    let run = program.json(&["vault", "backup-catalog", VAULT, "--watch"]);
    assert_eq!(run["State"], "COMPLETED", "{run}");
    let run = program.json(&["vault", "prune", VAULT, "--watch"]);
    assert_eq!(run["State"], "COMPLETED", "{run}");
    let freed = before - packs(&store, &place);
    assert!(freed > 2_500_000, "{freed} of {before} bytes");
    let restic = Vault::of(&server, VAULT).in_store(&store);
    restic.check();
    assert_eq!(restic.snapshots(), 2, "the recovery point and the copy of the catalog");
    let by_restic = sandbox.directory("by-restic");
    restic.restore_latest(&by_restic);

    // What nobody is told: no log, no kit, no argument of a process has the key to the bucket.
    let kit = sandbox.path("kit");
    let kit = kit.to_str().unwrap();
    let code = program.run(0, &["recovery-kit", "export", kit]).stdout;
    fs::write(sandbox.path("code"), code.trim()).unwrap();
    let text = fs::read_to_string(kit).unwrap();
    assert!(text.contains(&place) && text.contains(&store.server().endpoint()), "{text}");
    let line = fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    let line = String::from_utf8_lossy(&line).into_owned();
    for told in [text, line, fs::read_to_string(data_dir.with_extension("log")).unwrap()] {
        assert!(!told.contains(S3Server::SECRET_ACCESS_KEY), "{told}");
    }

    server.kill9();
    drop(server);
    fs::remove_dir_all(&data_dir).unwrap();
    let code = sandbox.path("code");
    let restore = |data_dir: &Path, environment: Vec<(String, String)>, exit: i32| {
        let args = ["recovery-kit", "restore", kit, "--passphrase-file", code.to_str().unwrap()];
        let mut command: Command = provault_tests::Program::of(data_dir).command(&args);
        Finished::of(command.envs(environment), "it was just there").expect(exit)
    };
    // Without a key to the bucket it says what is missing.
    let without = vec![(Store::ENDPOINT.to_owned(), store.server().endpoint())];
    let told = restore(&sandbox.path("keyless"), without, 1);
    assert!(told.stderr.contains("set AWS_ACCESS_KEY_ID"), "{told}");
    let done = restore(&data_dir, store.environment(), 0);
    assert!(done.stdout.contains("The catalog is that of"), "{done}");

    let server = TestServer::start_with(&data_dir, &store.serve(ROOT));
    assert_eq!(location(&server, VAULT), place);
    assert_eq!(server.points(), std::slice::from_ref(&point));
    let again = sandbox.path("again");
    server.restore(&point, &again);
    manifest.assert_same(&Manifest::of(&again), "after the loss of the server");
    server.back_up(&resource);
    Vault::of(&server, VAULT).in_store(&store).check();
}

/// Vaults stay where they are when the root changes; a deleted one takes its objects with it, and
/// nothing else.
#[test]
fn new_vaults_go_to_the_new_root_and_a_deleted_one_leaves_nothing() {
    let (store, sandbox) = (Store::start(), Sandbox::new());
    let data_dir = sandbox.path("server");
    let mut server = TestServer::start(&data_dir);
    let here = location(&server, VAULT);
    assert!(Path::new(&here).starts_with(&data_dir), "{here}");
    // What somebody keeps beside the vaults is not ours.
    store.storage().put("site/letter", b"dear".as_slice().into()).unwrap();
    // By the variable this time.
    let mut start = Start { environment: store.environment(), ..Start::default() };
    start.environment.push(("PROVAULT_VAULT_STORAGE".to_owned(), format!("{ROOT}/")));
    server.restart_with(&start);
    assert_eq!(location(&server, VAULT), here);
    for name in ["one", "two"] {
        server.api().put(&format!("/backup-vaults/{name}"), &json!({}));
        let place = location(&server, name);
        assert!(place.starts_with(&format!("{ROOT}/{name}-")), "{place}");
    }
    let source = sandbox.path("source");
    write_tree(&source);
    let resource = server.add_directory("source", &source);
    let program = server.program();
    program.run(0, &["backup", &resource, "--vault", "one", "--watch"]);
    program.run(0, &["vault", "backup-catalog", "one", "--watch"]);
    let refused = program.run(1, &["vault", "delete", "one"]);
    assert!(refused.stderr.contains("1 recovery point in it"), "{refused}");

    let listed = program.json(&["recovery-points", "list", "--vault", "one"]);
    let point = listed["RecoveryPoints"][0]["RecoveryPointArn"].as_str().unwrap().to_owned();
    program.run(0, &["recovery-points", "delete", &point]);
    // Somebody else's backup in it is nobody's to delete.
    let restic = Vault::of(&server, "one").in_store(&store);
    restic.back_up(&source);
    let refused = program.run(1, &["vault", "delete", "one"]);
    assert!(refused.stderr.contains("no recovery point names"), "{refused}");
    assert!(store.objects("site").iter().any(|name| name.starts_with("one-")));

    let there = store.objects("site").len();
    program.run(0, &["vault", "delete", "two"]);
    let left = store.objects("site");
    assert!(left.len() < there && !left.iter().any(|name| name.starts_with("two-")), "{left:?}");
    assert!(left.iter().any(|name| name == "letter"), "{left:?}");
    restic.check();
    // The name is free again, at another place.
    server.api().put("/backup-vaults/two", &json!({}));
}

#[test]
fn a_repository_of_restic_in_a_bucket_becomes_a_vault_and_stays() {
    let (store, sandbox) = (Store::start(), Sandbox::new());
    let source = sandbox.path("source");
    write_tree(&source);
    let password = sandbox.path("password");
    fs::write(&password, "of somebody else\n").unwrap();
    let theirs = "s3://bucket/theirs/repository";
    let restic = Vault::at(theirs, "of somebody else").in_store(&store).initialised();
    restic.back_up(&source);
    let before = store.objects("theirs").len();

    // Vaults of this server are in its data directory; the key to the store it has all the same.
    let start = Start { environment: store.environment(), ..Start::default() };
    let server = TestServer::start_with(&sandbox.path("server"), &start);
    let program = server.program();
    let import = |name: &str, at: &str, exit: i32| {
        let password = password.to_str().unwrap();
        let args = ["vault", "import", name, "--location", at, "--password-file", password];
        program.run(exit, &[&args[..], &["--watch"]].concat())
    };
    let told = import("old", "s3://bucket/theirs", 1);
    assert!(told.stderr.contains("there is no repository at s3://bucket/theirs"), "{told}");
    for bad in ["s3://key:hidden@bucket/theirs", "gs://bucket/theirs", "s3://bucket//theirs"] {
        let told = import("old", bad, 1);
        assert!(told.stderr.contains("Location") && !told.stderr.contains("hidden"), "{told}");
    }
    assert!(!program.run(0, &["vault", "list"]).stdout.contains("old"));
    import("old", &format!("{theirs}/"), 0);
    let told = import("other", theirs, 1);
    assert!(told.stderr.contains("is the vault old already"), "{told}");

    let listed = program.json(&["recovery-points", "list", "--vault", "old"]);
    let points = listed["RecoveryPoints"].as_array().unwrap();
    assert_eq!(points.len(), 1, "{listed}");
    let point = points[0]["RecoveryPointArn"].as_str().unwrap();
    let target = sandbox.path("restored");
    program.run(0, &["restore", point, "--to", target.to_str().unwrap(), "--watch"]);
    Manifest::of(&source).assert_same(&Manifest::of(&target), "what restic stored");
    assert_eq!(restic.snapshots(), 1);

    // The vault goes, the repository stays.
    program.run(0, &["recovery-points", "delete", point]);
    program.run(0, &["vault", "delete", "old"]);
    assert_eq!(restic.snapshots(), 0, "deleting the point is what removed the snapshot");
    assert_eq!(store.objects("theirs").len(), before - 1);
    restic.check();
}

fn failed(job: &Value, words: &[&str]) {
    assert!(job["State"] == "FAILED" || job["Status"] == "FAILED", "{job}");
    let message = job["StatusMessage"].as_str().unwrap_or_default();
    assert!(words.iter().any(|word| message.contains(word)), "{message}");
    assert!(!message.contains(S3Server::SECRET_ACCESS_KEY), "{message}");
}

/// Keys that were revoked, a store that keeps silent, one that is not there: what needs it fails
/// and says why, the server starts, other vaults go on, and all is well when the store is.
#[test]
fn a_store_in_trouble_fails_its_own_vaults_alone() {
    let (store, sandbox) = (Store::start(), Sandbox::new());
    let source = sandbox.path("source");
    write_tree(&source);
    let mut server = TestServer::start_with(&sandbox.path("server"), &store.serve(ROOT));
    let resource = server.add_directory("source", &source);
    let point = server.back_up(&resource);
    // Another vault, in a directory from now on.
    let elsewhere = sandbox.path("elsewhere");
    let impatient = |environment: Vec<(String, String)>| Start {
        args: ["--storage-timeout=1", "--vault-storage", elsewhere.to_str().unwrap()]
            .map(str::to_owned)
            .to_vec(),
        environment,
    };
    server.restart_with(&impatient(store.environment()));
    server.api().put("/backup-vaults/local", &json!({}));
    assert!(location(&server, "local").starts_with(elsewhere.to_str().unwrap()));
    let small = sandbox.directory("small");
    fs::write(small.join("file"), "small").unwrap();
    let other = server.add_directory("other", &small);
    let local = |server: &TestServer| {
        server.program().run(0, &["backup", &other, "--vault", "local", "--watch"]);
    };
    let trouble = |server: &TestServer, target: &str, words: &[&str]| {
        let backup = server.start_backup(&resource);
        let check = server.start_care(&json!({ "Operation": "CHECK" }));
        let restore = server.start_restore(&point, &sandbox.path(target));
        failed(&server.ended_backup(&backup), words);
        failed(&server.ended_care(&check), words);
        failed(&server.ended_restore(&restore), words);
        assert!(!sandbox.path(target).exists(), "whole or absent");
        local(server);
    };

    store.server().believe(false).unwrap();
    trouble(&server, "revoked", &["give this user or these credentials access"]);
    // At the start as well, when nothing is open yet.
    server.restart_with(&impatient(store.environment()));
    trouble(&server, "revoked-at-start", &["give this user or these credentials access"]);
    let mut in_bucket = store.serve(ROOT);
    in_bucket.args.push("--storage-timeout=1".to_owned());
    server.restart_with(&in_bucket);
    let refused = server.api().call("PUT", "/backup-vaults/new", Some(&json!({})));
    assert_eq!(refused.error(), "DependencyFailureException", "{refused:?}");
    assert!(refused.text.contains("credentials access"), "{refused:?}");
    store.server().believe(true).unwrap();
    server.api().put("/backup-vaults/new", &json!({}));

    let silence = store.hang();
    server.restart_with(&impatient(store.environment()));
    trouble(&server, "silent", &["see that the storage and the way to it are well"]);
    drop(silence);

    let mut nowhere = store.environment();
    nowhere[0].1 = "http://127.0.0.1:1".to_owned();
    server.restart_with(&impatient(nowhere));
    trouble(&server, "nowhere", &["refused", "onnect"]);

    server.restart_with(&impatient(store.environment()));
    server.back_up(&resource);
    let target = sandbox.path("restored");
    server.restore(&point, &target);
    Manifest::of(&source).assert_same(&Manifest::of(&target), "after the trouble");
    Vault::of(&server, VAULT).in_store(&store).check();
}

/// A root that cannot be one is told at the start, which changes nothing.
#[test]
fn a_wrong_root_is_an_error_of_usage() {
    let (store, sandbox) = (Store::start(), Sandbox::new());
    let data_dir = sandbox.path("server");
    let refused = |root: &str, environment: Vec<(String, String)>, by_variable: bool| {
        let mut command = TestServer::command(&data_dir);
        command.envs(environment);
        if by_variable {
            command.env("PROVAULT_VAULT_STORAGE", root);
        } else {
            command.args(["--vault-storage", root]);
        }
        let refused = Finished::of(&mut command, "it was just there").expect(2);
        assert!(!data_dir.exists(), "{root}: a refusal changes nothing");
        assert!(!refused.stderr.contains("hidden"), "{refused}");
        refused.stderr
    };
    for root in [
        "s3://",
        "s3:bucket",
        "s3://b/x",
        "s3://bucket//x",
        "gs://bucket/x",
        "s3://key:hidden@bucket",
    ] {
        let told = refused(root, store.environment(), false);
        assert!(told.contains("--vault-storage: "), "{told}");
        let told = refused(root, store.environment(), true);
        assert!(told.contains("PROVAULT_VAULT_STORAGE: "), "{told}");
    }
    // Without a key nothing in a bucket can be made.
    let keyless = vec![(Store::ENDPOINT.to_owned(), store.server().endpoint())];
    assert!(refused(ROOT, keyless, false).contains("set AWS_ACCESS_KEY_ID"));
    // A store that refuses at the very first start: no server without its vault, and no vault later
    // than that.
    store.server().believe(false).unwrap();
    let mut command = TestServer::command(&data_dir);
    command.envs(store.environment()).args(["--vault-storage", ROOT]);
    let told = Finished::of(&mut command, "it was just there").expect(1);
    assert!(told.stderr.contains("credentials access"), "{told}");
    store.server().believe(true).unwrap();
    let server = TestServer::start_with(&data_dir, &store.serve(ROOT));
    assert!(location(&server, VAULT).starts_with(ROOT));
}

/// A root that is a directory outside of the data directory is kept as that one is.
#[test]
fn a_directory_as_the_root_is_nobodys_resource() {
    let (store, sandbox) = (Store::start(), Sandbox::new());
    let around = sandbox.directory("around");
    fs::write(around.join("mine"), "mine").unwrap();
    let root = around.join("vaults");
    let server =
        TestServer::start_with(&sandbox.path("server"), &store.serve(root.to_str().unwrap()));
    let place = location(&server, VAULT);
    assert!(place.starts_with(root.to_str().unwrap()));
    let body = json!({ "Kind": "filesystem", "Name": "vaults", "Config": { "path": root } });
    let refused = server.api().call("POST", "/provault/v1/resources", Some(&body));
    assert_eq!(refused.error(), "InvalidParameterValueException", "{refused:?}");
    let resource = server.add_directory("around", &around);
    let point = server.back_up(&resource);
    let target = sandbox.path("restored");
    server.restore(&point, &target);
    assert_eq!(fs::read_to_string(target.join("mine")).unwrap(), "mine");
    assert_eq!(fs::read_dir(target.join("vaults")).unwrap().count(), 0);
    // Also when new vaults are made elsewhere.
    let mut server = server;
    server.restart_with(&store.serve(ROOT));
    let body = json!({ "Kind": "filesystem", "Name": "vault", "Config": { "path": place } });
    let refused = server.api().call("POST", "/provault/v1/resources", Some(&body));
    assert_eq!(refused.error(), "InvalidParameterValueException", "{refused:?}");
}
