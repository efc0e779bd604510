//! `provault repository`: work without a server, beside stock restic on the same repository.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use provault_tests::{
    Finished, LoneRepository as Repository, Manifest, Program, clean_command, until, write_tree,
};
use serde_json::Value;

const INSTALL: &str = "restic is missing; install it: apt-get install restic";

#[test]
fn what_is_backed_up_comes_back_by_both_programs() {
    let repo = Repository::new();
    let mode = fs::metadata(repo.path("password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let source = repo.path("source");
    write_tree(&source);
    fs::create_dir(repo.path("second")).unwrap();
    fs::write(repo.path("second/left out.tmp"), "x").unwrap();
    fs::write(repo.path("second/kept"), "x").unwrap();
    fs::write(repo.path("one file"), "one").unwrap();
    fs::write(repo.path("not given"), "no").unwrap();
    let manifest = Manifest::of(&source);

    let (all, second, one) = (repo.text("source"), repo.text("second"), repo.text("one file"));
    let backup =
        ["backup", &all, &second, &one, "--exclude", "*.tmp", "--tag", "a,b", "--host", "here"];
    // What changed less than two seconds before a backup is read again by the next.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let first = repo.json(&backup);
    let id = first["snapshot_id"].as_str().unwrap();
    assert_eq!(first["skipped"].as_array().unwrap().len(), 0, "{first}");
    assert!(first["data_added"].as_u64().unwrap() > 3_000_000, "{first}");
    assert_eq!(first["total_files_processed"], manifest.files() + 2, "{first}");
    let checked = repo.restic(&["check", "--read-data"]);
    assert!(checked.stdout.contains("no errors were found"), "{checked}");

    // The same again: nothing is read, and the parent is found by host and paths.
    let again = repo.json(&backup);
    assert_eq!(again["parent"], id, "{again}");
    assert_eq!(again["bytes_read"], 0, "{again}");
    assert_eq!(again["data_blobs"], 0, "{again}");
    let forced = repo.json(&[&backup[..], &["--force"]].concat());
    assert_eq!((&forced["parent"], &forced["data_blobs"]), (&Value::Null, &0.into()), "{forced}");
    assert!(forced["bytes_read"].as_u64().unwrap() > 3_000_000, "{forced}");

    // Both programs list the same.
    let theirs = repo.restic(&["snapshots", "--json"]).json();
    let ours = repo.json(&["snapshots"]);
    for key in ["id", "hostname", "tags", "paths", "tree", "username"] {
        let of = |all: &Value| -> Vec<Value> {
            all.as_array().unwrap().iter().map(|snapshot| snapshot[key].clone()).collect()
        };
        assert_eq!(of(&ours), of(&theirs), "{key}");
    }
    assert_eq!(repo.json(&["snapshots", "--tag", "a"]).as_array().unwrap().len(), 3);
    for none in [["--tag", "c"], ["--host", "x"], ["--path", "/"]] {
        assert_eq!(repo.json(&["snapshots", none[0], none[1]]), serde_json::json!([]), "{none:?}");
    }
    assert_eq!(repo.json(&["snapshots", "--latest", "1"])[0]["id"], forced["snapshot_id"]);

    // Both restore the same, and it is what was there.
    repo.run(0, &["restore", &id[..8], &repo.text("ours")]);
    repo.restic(&["restore", id, "--target", &repo.text("theirs")]);
    manifest.assert_same(&Manifest::of(&repo.within("ours", "source")), "ours");
    let sandbox = |target| Manifest::of(&repo.within(target, ""));
    sandbox("theirs").assert_same(&sandbox("ours"), "the whole snapshot by both programs");
    assert!(!repo.within("ours", "not given").exists());
    assert!(!repo.within("ours", "second/left out.tmp").exists());
    // A directory alone, and a part of it.
    let inner = format!("latest:{all}");
    repo.run(0, &["restore", &inner, &repo.text("inner")]);
    manifest.assert_same(&Manifest::of(&repo.path("inner")), "the directory alone");
    let part = ["restore", &inner, &repo.text("part"), "--include", "/docs/2024", "-i", "empty"];
    let part = repo.json(&part);
    assert_eq!(part["files_restored"], 41, "{part}");
    assert!(repo.path("part/docs/2024/may/report-39.txt").exists());
    assert!(!repo.path("part/noise.bin").exists());
    // By patterns, as restic understands them.
    let restored = |options: &[&str], target: &str| {
        let target = repo.text(target);
        repo.run(0, &[&["restore", &inner, &target], options].concat());
    };
    let has = |name: &str| repo.path(name).exists();
    restored(&["--include", "report-1?.txt", "-e", "report-12*", "-i", "/noise.*"], "some");
    assert!(has("some/docs/2024/may/report-11.txt") && has("some/noise.bin"));
    assert!(!has("some/docs/2024/may/report-12.txt") && !has("some/docs/2024/may/report-1.txt"));
    assert!(!has("some/empty"));
    restored(&["--exclude", "docs/*/may", "--exclude", "/noise.bin"], "without");
    assert!(has("without/docs/2024") && has("without/empty"));
    assert!(!has("without/docs/2024/may") && !has("without/noise.bin"));
    repo.restic(&["restore", id, "--target", &repo.text("restics"), "--include", "report-1?.txt"]);
    let ours = ["restore", id, &repo.text("ours too"), "--include", "report-1?.txt"];
    repo.run(0, &ours);
    let (ours, theirs) =
        (Manifest::of(&repo.path("ours too")), Manifest::of(&repo.path("restics")));
    assert_eq!(ours.files(), theirs.files());

    // One file, and lists.
    let dumped = repo.run(0, &["dump", "latest", &format!("{all}/docs/2024/may/report-12.txt")]);
    assert_eq!(dumped.stdout, "report 12\n".repeat(12));
    repo.run(1, &["dump", "latest", &all]);
    let listed = repo.json(&["ls", "latest"]);
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(|e| e["path"].clone()).collect();
    let theirs = repo.restic(&["ls", "latest", "--json"]).stdout;
    let paths = theirs.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut theirs: Vec<_> = paths.map(|node| node["path"].as_str().unwrap().to_owned()).collect();
    let mut ours: Vec<_> = listed.iter().map(|path| path.as_str().unwrap().to_owned()).collect();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs);
    let below = repo.run(0, &["ls", "-l", &inner, "docs/2024"]).stdout;
    assert_eq!(below.lines().count(), 41, "{below}");
    assert!(below.starts_with("drwx"), "{below}");
    let one_entry = repo.run(0, &["ls", "latest", &one]).stdout;
    assert_eq!(one_entry.trim_end(), one);

    let stats = repo.json(&["stats"]);
    assert_eq!(stats["snapshots_count"], 3, "{stats}");
    assert_eq!(stats["total_file_count"], 3 * (manifest.files() + 2), "{stats}");
    let report = repo.json(&["check", "--read-data"]);
    assert_eq!((&report["num_errors"], &report["snapshots"]), (&0.into(), &3.into()), "{report}");
    assert!(repo.is_unlocked());
}

#[test]
fn a_repository_of_restic_is_read_and_written() {
    let repo = Repository::empty();
    fs::write(repo.path("password"), "  chosen by a person \n").unwrap();
    let source = repo.path("source");
    write_tree(&source);
    // What restic sees has to be older than a tick of the clock to be believed.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    repo.restic(&["init"]);
    repo.restic(&["backup", "--host", "h", &repo.text("source")]);
    let inner = format!("latest:{}", repo.text("source"));
    repo.run(0, &["restore", &inner, &repo.text("out")]);
    Manifest::of(&source).assert_same(&Manifest::of(&repo.path("out")), "restic's snapshot");
    // Its snapshot is our parent, and its chunks are ours.
    let ours = repo.json(&["backup", "--host", "h", &repo.text("source")]);
    assert_eq!(ours["parent"], repo.ids()[0], "{ours}");
    assert_eq!((&ours["bytes_read"], &ours["data_blobs"]), (&0.into(), &0.into()), "{ours}");
    let forced = repo.json(&["backup", "--force", "--host", "h", &repo.text("source")]);
    assert_eq!(forced["data_blobs"], 0, "{forced}");
    repo.restic(&["check", "--read-data"]);
}

#[test]
fn exit_codes_tell_what_to_do() {
    let repo = Repository::new();
    fs::create_dir(repo.path("source")).unwrap();
    fs::write(repo.path("source/file"), vec![7; 100_000]).unwrap();
    let source = repo.text("source");
    repo.run(0, &["backup", &source]);
    let code = |code: i32, part: &str, finished: Finished| {
        let finished = finished.expect(code);
        assert!(finished.stderr.contains(part), "{part}: {finished}");
        assert_eq!(finished.stdout, "", "{finished}");
    };
    let bare = |args: &[&str]| {
        let mut command = Program::bare(&["repository"]);
        Finished::of(command.args(args), "it was just there")
    };
    // No repository, and none is made by looking.
    let (nowhere, password) = (repo.text("nowhere"), repo.text("password"));
    code(10, "init", bare(&["-r", &nowhere, "-p", &password, "check"]));
    assert!(!repo.path("nowhere").exists());
    fs::write(repo.path("wrong"), "wrong").unwrap();
    let (here, wrong) = (repo.text("repo"), repo.text("wrong"));
    code(12, "password", bare(&["-r", &here, "-p", &wrong, "snapshots"]));
    code(2, "--repo", bare(&["snapshots"]));
    code(2, "--password-file", bare(&["-r", &here, "snapshots"]));
    code(2, "no such storage", bare(&["-r", "gopher://x", "-p", &wrong, "snapshots"]));
    let failed = |c: i32, part: &str, args: &[&str]| {
        code(c, part, Finished::of(&mut repo.command(args), "it was just there"));
    };
    failed(1, "exists", &["init"]);
    failed(2, "exists already", &["init", "--generate-password"]);
    failed(1, "nothing was backed up", &["backup", &nowhere]);
    failed(2, "lies in", &["backup", &source, &format!("{source}/file")]);
    failed(2, "itself", &["backup", &here]);
    failed(2, "no pattern", &["backup", &source, "--exclude", "[x"]);
    failed(2, "no snapshot", &["restore", "newest", &nowhere]);
    failed(1, "no snapshot", &["restore", "latest", &nowhere, "--tag", "none"]);
    failed(1, "begins with", &["restore", "0000000000000000", &nowhere]);
    failed(1, "exists already", &["restore", "latest", &source]);
    fs::create_dir(repo.path("empty")).unwrap();
    failed(1, "--allow-empty", &["backup", &repo.text("empty")]);
    // Hostile and mistaken paths change nothing, inside the target and outside.
    for bad in ["../file", "/../file", "a/../../b", ".", "", "/"] {
        failed(2, "--include", &["restore", "latest", &nowhere, "--include", bad]);
    }
    failed(1, "not in the snapshot", &["restore", "latest", &nowhere, "--include", "/etc/x"]);
    failed(1, "matches --include", &["restore", "latest", &nowhere, "--include", "*.none"]);
    failed(2, "--include '[a'", &["restore", "latest", &nowhere, "--include", "[a"]);
    failed(2, "--exclude", &["restore", "latest", &nowhere, "--exclude", "!a"]);
    failed(2, "no path", &["restore", "latest:/../etc", &nowhere]);
    failed(1, "not in the snapshot", &["restore", "latest:/etc", &nowhere]);
    failed(1, "not in the snapshot", &["dump", "latest", "/etc/x"]);
    assert!(!repo.path("nowhere").exists());
    assert_eq!(repo.ids().len(), 1);
    assert!(repo.is_unlocked());
    repo.run(0, &["backup", "--allow-empty", &repo.text("empty")]);
}

#[test]
fn a_backup_that_lacks_paths_is_3() {
    let repo = Repository::new();
    let mut deep = repo.path("source");
    fs::create_dir(&deep).unwrap();
    fs::write(deep.join("file"), "kept").unwrap();
    for _ in 0..520 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
    }
    let mut command = repo.command(&["backup", &repo.text("source"), "--json"]);
    let ended = Finished::of(&mut command, "it was just there").expect(3);
    let summary = ended.json();
    let skipped = summary["skipped"][0]["path"].as_str().unwrap();
    assert!(skipped.starts_with(&repo.text("source")) && skipped.ends_with("/d/d"), "{summary}");
    assert!(ended.stderr.contains("not in the snapshot"), "{ended}");
    repo.run(0, &["restore", "latest", &repo.text("out")]);
    assert!(repo.within("out", "source/file").exists());
    repo.restic(&["check"]);
}

#[test]
fn the_repository_is_left_out_of_its_own_backup() {
    let repo = Repository::new();
    fs::write(repo.path("beside"), "kept").unwrap();
    let whole = repo.root().to_str().unwrap().to_owned();
    let ended = repo.run(0, &["backup", &whole]);
    assert!(ended.stderr.contains("left out"), "{ended}");
    repo.run(0, &["restore", &format!("latest:{whole}"), &repo.text("out")]);
    assert!(repo.path("out/beside").exists());
    assert!(!repo.path("out/repo").exists());
}

/// What looks unchanged is taken over from the parent, but not past patterns that have changed.
#[test]
fn changed_patterns_are_heard() {
    let repo = Repository::new();
    fs::create_dir_all(repo.path("source/deep/er")).unwrap();
    for name in ["kept", "deep/x.tmp", "deep/er/x.tmp", "deep/er/kept"] {
        fs::write(repo.path("source").join(name), name).unwrap();
    }
    let source = repo.text("source");
    let temporary = |exclude: &[&str]| {
        repo.run(0, &[&["backup", &source], exclude].concat());
        let listed = repo.run(0, &["ls", "latest"]).stdout;
        assert_eq!(listed.matches("kept").count(), 2, "{listed}");
        listed.matches(".tmp").count()
    };
    assert_eq!(temporary(&[]), 2);
    assert_eq!(temporary(&["-e", "*.tmp"]), 0);
    assert_eq!(temporary(&["-e", &format!("{source}/deep/*.tmp")]), 1);
    assert_eq!(temporary(&[]), 2);
}

/// Ctrl-C in the midst of a backup: no snapshot, no lock, and the next one is as ever.
#[test]
fn ctrl_c_leaves_nothing_half_done() {
    let repo = Repository::new();
    fs::create_dir(repo.path("source")).unwrap();
    // Quick to make, slow to read.
    let large = fs::File::create(repo.path("source/large")).unwrap();
    large.set_len(1 << 40).unwrap();
    fs::write(repo.path("source/noise"), vec![9; 3_000_000]).unwrap();
    let mut child = repo
        .command(&["backup", &repo.text("source")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the lock of the backup", || (!repo.is_unlocked()).then_some(()));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(repo.is_unlocked());
    assert_eq!(repo.ids(), [""; 0]);
    large.set_len(5).unwrap();
    repo.run(0, &["backup", &repo.text("source")]);
    repo.restic(&["check", "--read-data"]);
}

/// At 1 KiB/s four megabytes take more than an hour; without a limit they are there at once.
#[test]
fn a_limit_holds_up_what_is_written() {
    let (limited, free) = (Repository::new(), Repository::new());
    let mut noise = Vec::new();
    fs::File::open("/dev/urandom").unwrap().take(4 << 20).read_to_end(&mut noise).unwrap();
    for repo in [&limited, &free] {
        fs::create_dir(repo.path("source")).unwrap();
        fs::write(repo.path("source/noise"), &noise).unwrap();
    }
    let mut child = limited
        .command(&["backup", "--limit-upload", "1", &limited.text("source")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the lock of the backup", || (!limited.is_unlocked()).then_some(()));
    free.run(0, &["backup", "--connections", "1", &free.text("source")]);
    free.run(0, &["check", "--read-data", "--limit-download", "1000000"]);
    assert_eq!(child.try_wait().unwrap(), None, "it was not held up");
    assert!(limited.ids().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    for wrong in [["--limit-upload", "0"], ["--connections", "none"]] {
        limited.run(2, &["backup", wrong[0], wrong[1], &limited.text("source")]);
    }
}

/// restic's check excludes everybody while it runs; when it has died its lock is in nobody's way.
#[test]
fn a_locked_repository_is_11() {
    let repo = Repository::new();
    fs::create_dir(repo.path("source")).unwrap();
    write_tree(&repo.path("source"));
    repo.run(0, &["backup", &repo.text("source")]);
    let mut command = clean_command("restic");
    command.args(["--no-cache", "--limit-download", "1", "check", "--read-data"]);
    command.env("RESTIC_REPOSITORY", repo.path("repo"));
    command.env("RESTIC_PASSWORD_FILE", repo.path("password"));
    let mut restic = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect(INSTALL);
    until("the lock of restic", || {
        assert_eq!(restic.try_wait().unwrap(), None, "restic ended too early");
        (!repo.is_unlocked()).then_some(())
    });
    kill(Pid::from_raw(restic.id().cast_signed()), Signal::SIGSTOP).unwrap();
    let locked = repo.run(11, &["backup", &repo.text("source")]);
    assert!(locked.stderr.contains("locked") && locked.stderr.contains("unlock"), "{locked}");
    let kept = repo.json(&["unlock"]);
    assert_eq!(kept["left"].as_array().unwrap().len(), 1, "{kept}");
    restic.kill().unwrap();
    restic.wait().unwrap();
    let removed = repo.json(&["unlock"]);
    assert_eq!(removed["removed"].as_array().unwrap().len(), 1, "{removed}");
    repo.run(0, &["backup", &repo.text("source")]);
}

/// From a damaged repository comes nothing, or, when that is asked for, all that is whole.
#[test]
fn damage_is_told_and_the_rest_restored() {
    let repo = Repository::new();
    let source = repo.path("source");
    write_tree(&source);
    repo.run(0, &["backup", &repo.text("source")]);
    let largest = packs(&repo.path("repo/data")).into_iter().max().unwrap().1;
    let mut bytes = fs::read(&largest).unwrap();
    // The pack of data is mostly noise.bin.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&largest, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&largest, bytes).unwrap();

    let mut command = repo.command(&["check", "--read-data", "--json"]);
    let report = Finished::of(&mut command, "it was just there").expect(1).json();
    assert_eq!(report["hurt_total"], 1, "{report}");
    assert!(report["hurt"][0]["path"].as_str().unwrap().ends_with("source/noise.bin"), "{report}");
    let inner = format!("latest:{}", repo.text("source"));
    let strict = repo.run(1, &["restore", &inner, &repo.text("strict")]);
    assert!(strict.stderr.contains("--skip-damaged"), "{strict}");
    assert!(!repo.path("strict").exists());
    let rest = repo.run(1, &["restore", &inner, &repo.text("rest"), "--skip-damaged"]);
    assert!(rest.stderr.contains("not restored: noise.bin"), "{rest}");
    assert!(!repo.path("rest/noise.bin").exists());
    let modified = fs::metadata(&source).unwrap().modified().unwrap();
    fs::remove_file(source.join("noise.bin")).unwrap();
    fs::File::open(&source).unwrap().set_modified(modified).unwrap();
    Manifest::of(&source).assert_same(&Manifest::of(&repo.path("rest")), "what is whole");
    // What is not asked for is not in the way.
    let part = ["restore", &inner, &repo.text("part"), "--include", "docs", "--skip-damaged"];
    repo.run(0, &part);
}

fn packs(data: &Path) -> Vec<(u64, PathBuf)> {
    let directories = fs::read_dir(data).unwrap();
    let files = directories.flat_map(|directory| fs::read_dir(directory.unwrap().path()).unwrap());
    files.map(|file| file.unwrap()).map(|f| (f.metadata().unwrap().len(), f.path())).collect()
}

#[test]
fn passwords_come_from_files_and_are_changed() {
    let repo = Repository::empty();
    fs::write(repo.path("password"), "first\n").unwrap();
    repo.run(0, &["init"]);
    // A password that somebody chose is made hard to guess at.
    let key = fs::read_dir(repo.path("repo/keys")).unwrap().next().unwrap().unwrap().path();
    let key: Value = serde_json::from_slice(&fs::read(key).unwrap()).unwrap();
    assert!(key["N"].as_u64().unwrap() >= 32_768, "{key}");
    // From standard input, and from the environment, ours before restic's.
    let mut command = Program::bare(&["repository", "-p", "-", "snapshots"]);
    command.env("PROVAULT_REPOSITORY", repo.path("repo")).env("RESTIC_REPOSITORY", "/nowhere");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"first").unwrap();
    assert!(child.wait().unwrap().success());
    let mut command = Program::bare(&["repository", "snapshots"]);
    command.env("RESTIC_REPOSITORY", repo.path("repo")).env("RESTIC_PASSWORD", "first");
    let _ = Finished::of(&mut command, "it was just there").expect(0);

    let second = repo.text("second");
    repo.run(0, &["key", "add", "--new-password-file", &second, "--generate-password"]);
    let keys = repo.json(&["key", "list"]);
    let keys = keys.as_array().unwrap();
    assert_eq!(keys.len(), 2);
    let own = keys.iter().find(|key| key["current"] == true).unwrap()["id"].as_str().unwrap();
    let refused = repo.run(1, &["key", "remove", own]);
    assert!(refused.stderr.contains("another password"), "{refused}");
    fs::write(repo.path("third"), "third").unwrap();
    repo.run(0, &["key", "passwd", "--new-password-file", &repo.text("third")]);
    repo.run(12, &["snapshots"]);
    fs::copy(repo.path("third"), repo.path("password")).unwrap();
    assert_eq!(repo.json(&["key", "list"]).as_array().unwrap().len(), 2);
    repo.restic(&["key", "list"]);
    fs::copy(repo.path("second"), repo.path("password")).unwrap();
    repo.run(0, &["snapshots"]);
}
