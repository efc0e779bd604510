//! `provault repository forget`, `prune`, `copy` and `repair`, and repositories in buckets; beside
//! stock restic on the same repository.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use provault_testkit::S3Server;
use provault_tests::{Finished, LoneRepository, Manifest, Program, Random, clean_command, until};
use serde_json::Value;

/// Files below a directory of the repository, and their sizes.
fn files(repo: &LoneRepository, directory: &str) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut pending = vec![repo.path("repo").join(directory)];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                found.insert(entry.path(), entry.metadata().unwrap().len());
            }
        }
    }
    found
}

/// Everything that lies in the repository, but for locks.
fn contents(repo: &LoneRepository) -> Vec<BTreeMap<PathBuf, u64>> {
    ["data", "index", "snapshots", "keys"].map(|directory| files(repo, directory)).into()
}

fn stored(repo: &LoneRepository) -> u64 {
    files(repo, "data").values().sum()
}

fn write(repo: &LoneRepository, name: &str, seed: u64, length: usize) {
    fs::create_dir_all(repo.path("source")).unwrap();
    fs::write(repo.path("source").join(name), Random(seed).bytes(length)).unwrap();
}

fn back_up(repo: &LoneRepository, options: &[&str]) -> String {
    let source = repo.text("source");
    let summary = repo.json(&[&["backup", &source], options].concat());
    summary["snapshot_id"].as_str().unwrap().to_owned()
}

fn assert_whole(repo: &LoneRepository, target: &str) {
    let checked = repo.restic(&["check", "--read-data"]);
    assert!(checked.stdout.contains("no errors were found"), "{checked}");
    assert!(!checked.stdout.contains("not referenced"), "{checked}");
    repo.restic(&["restore", "latest", "--target", &repo.text(target)]);
    let restored = Manifest::of(&repo.within(target, "source"));
    Manifest::of(&repo.path("source")).assert_same(&restored, target);
}

fn ids(snapshots: &Value) -> Vec<&str> {
    let list = snapshots.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut ids: Vec<&str> =
        list.iter().map(|one| one["id"].as_str().or(one.as_str()).unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn forget_says_what_it_would_do_and_does_what_restic_would() {
    let repo = LoneRepository::new();
    write(&repo, "file", 1, 20_000);
    for options in [["--host", "one"], ["--host", "two"], ["--tag", "a,b"], ["--tag", "a"]] {
        back_up(&repo, &options);
    }
    let last = back_up(&repo, &["--tag", "c"]);
    let all = repo.ids();
    let before = contents(&repo);

    // What is unclear, or would leave nothing, is refused.
    let refused = |code: i32, part: &str, args: &[&str]| {
        let ended = repo.run(code, &[&["forget"], args].concat());
        assert!(ended.stderr.contains(part), "{part}: {ended}");
        assert_eq!(ended.stdout, "", "{ended}");
    };
    refused(2, "--keep", &[]);
    refused(2, "--keep", &["--prune"]);
    refused(2, "--keep", &["--keep-last", "0", "--tag", "a"]);
    refused(2, "not both", &[&all[0], "--keep-last", "1"]);
    refused(2, "for a policy only", &[&all[0], "--host", "one"]);
    refused(2, "by their ids", &["latest"]);
    refused(1, "begins with", &[&all[0], "0000000000000000"]);
    refused(2, "no snapshot at all", &["--keep-tag", "mistyped"]);
    refused(2, "--prune", &["--keep-last", "1", "--max-unused", "1%"]);
    refused(2, "host, paths or tags", &["--keep-last", "1", "--group-by", "user"]);
    refused(2, "period", &["--keep-within", "14"]);

    // It and restic mean the same.
    for policy in [
        vec!["--keep-last", "1"],
        vec!["--keep-daily", "1", "--group-by", ""],
        vec!["--keep-last", "1", "--group-by", "tags"],
        vec!["--keep-tag", "a,b", "--keep-last", "1", "--group-by", "paths"],
        vec!["--keep-within", "1h"],
        vec!["--keep-last", "1", "--tag", "a", "--group-by", ""],
        vec!["--keep-last", "1", "--host", "one"],
        vec!["--keep-last", "1", "--path", &repo.text("source"), "--group-by", ""],
    ] {
        let dry = [&["forget", "--dry-run"], policy.as_slice()].concat();
        let ours = repo.json(&dry);
        let theirs = repo.restic(&[&dry[..], &["--json"]].concat()).json();
        let removed: Vec<&Value> = theirs.as_array().unwrap().iter().collect();
        let mut theirs: Vec<&str> =
            removed.iter().flat_map(|group| ids(&group["remove"])).collect();
        theirs.sort_unstable();
        assert_eq!(ids(&ours["forgotten"]), theirs, "{policy:?}");
        assert_eq!(ours["groups"].as_array().unwrap().len(), removed.len(), "{policy:?}");
        assert_eq!(ours["dry_run"], true);
    }
    let shown = repo.run(0, &["forget", "-n", "--keep-last", "1", "--group-by", ""]).stdout;
    assert!(shown.contains("last snapshot") && shown.contains("would forget 4"), "{shown}");
    assert!(shown.contains(&last[..8]), "{shown}");
    assert_eq!(contents(&repo), before);

    // By the beginning of an id; then by a policy, and the space with it.
    let one = repo.json(&["forget", &all[1][..12]]);
    assert_eq!(ids(&one["forgotten"]), [all[1].as_str()], "{one}");
    assert_eq!(one["prune"], Value::Null, "{one}");
    assert_eq!(repo.ids().len(), 4);

    // What a prune after it would free is told before, and becomes true.
    let before = contents(&repo);
    let policy = ["forget", "--group-by", "", "--keep-last", "1", "--prune"];
    let dry = repo.json(&[&policy[..], &["--dry-run"]].concat());
    assert_eq!(dry["prune"]["dry_run"], true, "{dry}");
    assert_eq!(contents(&repo), before);
    let shown = repo.run(0, &[&policy[..], &["--dry-run"]].concat()).stdout;
    assert!(shown.contains("would forget 3") && shown.contains("would free"), "{shown}");
    let now = repo.json(&["prune", "--dry-run"]);
    assert_eq!(now["plan"]["snapshots"], 4, "{now}");
    assert_eq!(dry["prune"]["plan"]["snapshots"], 1, "{dry}");

    let rest = repo.json(&policy);
    assert_eq!(rest["prune"]["plan"], dry["prune"]["plan"], "{rest}");
    assert_eq!(rest["forgotten"].as_array().unwrap().len(), 3, "{rest}");
    assert_eq!(rest["prune"]["dry_run"], false, "{rest}");
    assert_eq!(repo.ids(), [last]);
    assert!(repo.is_unlocked());
    assert_whole(&repo, "out");
}

#[test]
fn prune_frees_what_it_said_and_nothing_else() {
    let repo = LoneRepository::new();
    write(&repo, "stays", 1, 500_000);
    write(&repo, "goes", 2, 3_000_000);
    back_up(&repo, &[]);
    write(&repo, "goes", 3, 700_000);
    back_up(&repo, &[]);
    let policy = ["forget", "--group-by", "", "--keep-last", "1"];
    let after_forgetting = repo.json(&[&policy[..], &["--dry-run", "--prune"]].concat());
    repo.run(0, &policy);

    let (before, size) = (contents(&repo), stored(&repo));
    let dry = repo.json(&["prune", "--dry-run"]);
    assert_eq!(dry["plan"], after_forgetting["prune"]["plan"], "{dry}");
    assert_eq!(dry["dry_run"], true);
    let frees = dry["plan"]["frees_bytes"].as_u64().unwrap();
    assert!((2_500_000..4_000_000).contains(&frees), "{dry}");
    let shown = repo.run(0, &["prune", "--dry-run"]);
    assert!(shown.stdout.contains("would free"), "{shown}");
    for bad in [["--max-unused", "many"], ["--max-unused", "-1%"], ["--max-repack-size", "1X"]] {
        repo.run(2, &["prune", bad[0], bad[1]]);
    }
    assert_eq!(contents(&repo), before);

    // The pack of the first backup holds something needed, and may not be copied, or needs not.
    for limit in [["--max-repack-size", "0"], ["--max-unused", "unlimited"]] {
        let dry = repo.json(&["prune", "--dry-run", limit[0], limit[1]]);
        assert_eq!(dry["plan"]["repack_packs"], 0, "{dry}");
    }

    // While restic is at work nothing is taken away.
    let mut command = clean_command("restic");
    command.arg("--no-cache").args(["backup", "--stdin", "--quiet"]);
    command.env("RESTIC_REPOSITORY", repo.path("repo"));
    command.env("RESTIC_PASSWORD_FILE", repo.path("password"));
    let mut restic = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    until("the lock of restic", || {
        assert_eq!(restic.try_wait().unwrap(), None, "restic ended too early");
        (!repo.is_unlocked()).then_some(())
    });
    let packs = files(&repo, "data");
    let postponed = repo.json_with(11, &["prune"]);
    assert_eq!(postponed["postponed_for"].as_array().unwrap().len(), 1, "{postponed}");
    assert_eq!(postponed["deleted_packs"], 0, "{postponed}");
    let now = files(&repo, "data");
    assert!(packs.keys().all(|pack| now.contains_key(pack)));
    restic.kill().unwrap();
    restic.wait().unwrap();
    repo.run(0, &["unlock"]);

    let done = repo.json(&["prune", "--max-unused", "0"]);
    assert!(done["deleted_packs"].as_u64().unwrap() > 0, "{done}");
    assert!(stored(&repo) + 2_500_000 < size, "{done}");
    assert_whole(&repo, "out");
    let nothing = repo.json(&["prune", "--max-unused", "0"]);
    assert_eq!((&nothing["deleted_packs"], &nothing["repacked_packs"]), (&0.into(), &0.into()));
    assert!(repo.is_unlocked());
}

#[test]
fn copies_are_whole_and_short_the_second_time() {
    let (here, there) = (LoneRepository::new(), LoneRepository::new());
    write(&there, "file", 1, 400_000);
    let first = back_up(&there, &["--tag", "a"]);
    write(&there, "more", 2, 400_000);
    let second = back_up(&there, &[]);
    let (from, password) = (there.text("repo"), there.text("password"));
    let copy = |more: &[&str]| -> Vec<String> {
        let args = ["copy", "--from-repo", &from, "--from-password-file", &password];
        args.iter().chain(more).map(|&arg| arg.to_owned()).collect()
    };
    let run = |code: i32, args: Vec<String>| {
        here.json_with(code, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };

    here.run(2, &["copy"]);
    here.run(2, &["copy", "--from-repo", &from]);
    let itself = ["copy", "--from-repo", &here.text("repo"), "--from-password-file", &password];
    assert!(here.run(2, &itself).stderr.contains("same repository"));
    let wrong = ["copy", "--from-repo", &from, "--from-password-file", &here.text("password")];
    here.run(12, &wrong);
    assert_eq!(here.ids(), [""; 0]);

    let one = run(0, copy(&[&first[..10]]));
    assert_eq!(one["copied"][0]["source"], first, "{one}");
    let tagged = run(0, copy(&["--tag", "a"]));
    assert_eq!(tagged["present"][0]["source"], first, "{tagged}");
    let all = run(0, copy(&[]));
    assert_eq!(all["copied"].as_array().unwrap().len(), 1, "{all}");
    assert_eq!(all["copied"][0]["source"], second, "{all}");
    let again = run(0, copy(&[]));
    assert_eq!((&again["copied"], &again["blobs_copied"]), (&Value::Array(vec![]), &0.into()));
    assert_eq!(here.ids().len(), 2);

    let checked = here.restic(&["check", "--read-data"]);
    assert!(checked.stdout.contains("no errors were found"), "{checked}");
    let source = Manifest::of(&there.path("source"));
    let inner = format!("latest:{}", there.text("source"));
    here.run(0, &["restore", &inner, &here.text("out")]);
    source.assert_same(&Manifest::of(&here.path("out")), "the copy");
    assert!(here.is_unlocked() && there.is_unlocked());
}

#[test]
fn a_repair_mends_what_can_be_had() {
    let (repo, copy) = (LoneRepository::new(), LoneRepository::new());
    write(&repo, "file", 1, 600_000);
    back_up(&repo, &[]);
    let (from, password) = (repo.text("repo"), repo.text("password"));
    copy.run(0, &["copy", "--from-repo", &from, "--from-password-file", &password]);

    // Without an index nothing is found; it is made anew from the packs.
    for index in files(&repo, "index").keys() {
        fs::remove_file(index).unwrap();
    }
    repo.run(1, &["check"]);
    let packs = files(&repo, "data");
    let mended = repo.json(&["repair"]);
    assert_eq!(mended["listed_packs"], packs.len(), "{mended}");
    assert_eq!(mended["check"]["num_errors"], 0, "{mended}");
    assert_whole(&repo, "again");

    // A lost pack: told, not pruned over, and taken from the copy.
    let largest = packs.iter().max_by_key(|(_, size)| **size).unwrap().0;
    fs::remove_file(largest).unwrap();
    let before = contents(&repo);
    let dry = repo.json_with(1, &["repair", "--dry-run"]);
    assert_eq!(contents(&repo), before);
    let lost = repo.json_with(1, &["repair"]);
    assert_eq!((&dry["dry_run"], &lost["dry_run"]), (&true.into(), &false.into()));
    assert_eq!(dry["lost_blobs"], lost["lost_blobs"], "{dry}");
    assert!(!lost["lost_blobs"].as_array().unwrap().is_empty(), "{lost}");
    let hurt = lost["check"]["hurt"][0]["path"].as_str().unwrap();
    assert_eq!(hurt, format!("{}/file", repo.text("source")));
    let refused = repo.run(1, &["prune"]);
    assert!(refused.stderr.contains("nothing was deleted"), "{refused}");
    repo.run(2, &["repair", "--from-repo", &copy.text("repo")]);
    let (from, password) = (copy.text("repo"), copy.text("password"));
    let args = ["repair", "--from-repo", &from, "--from-password-file", &password];
    let dry = repo.run(0, &[&args[..], &["--dry-run"]].concat());
    assert!(dry.stdout.contains("would be") && dry.stdout.contains("0 lost"), "{dry}");
    let mended = repo.json(&args);
    assert_eq!(mended["lost_blobs"], Value::Array(vec![]), "{mended}");
    assert!(mended["fetched_blobs"].as_u64().unwrap() > 0, "{mended}");
    repo.run(0, &["prune"]);
    assert_whole(&repo, "mended");
    assert!(repo.is_unlocked() && copy.is_unlocked());
}

/// A repository whose snapshots are all gone is more often one whose disk is not all there.
#[test]
fn a_repository_without_snapshots_is_pruned_only_when_that_is_meant() {
    let repo = LoneRepository::new();
    write(&repo, "file", 1, 50_000);
    let only = back_up(&repo, &[]);
    repo.run(0, &["forget", &only]);
    let before = contents(&repo);
    for args in [&["prune"][..], &["prune", "--dry-run"]] {
        let refused = repo.run(1, args);
        assert!(refused.stderr.contains("--allow-empty"), "{refused}");
    }
    assert_eq!(contents(&repo), before);
    repo.json(&["prune", "--allow-empty", "--dry-run"]);
    assert_eq!(contents(&repo), before);
    repo.run(0, &["prune", "--allow-empty"]);
    assert!(files(&repo, "data").is_empty());
    // Who forgets the last one in the same breath has said it.
    let only = back_up(&repo, &[]);
    repo.run(0, &["forget", &only, "--prune"]);
    assert!(files(&repo, "data").is_empty());
}

/// Seven parts are all of it, and what is damaged is found in the one that it lies in.
#[test]
fn a_part_of_the_data_is_checked() {
    let repo = LoneRepository::new();
    for number in 0..8 {
        write(&repo, &format!("file{number}"), number + 1, 300_000);
        back_up(&repo, &[]);
    }
    let packs = files(&repo, "data");
    let whole = repo.json(&["check", "--read-data"]);
    assert_eq!((&whole["packs_read"], &whole["packs"]), (&packs.len().into(), &packs.len().into()));
    let parts = |code_of: &dyn Fn(u64) -> i32| -> u64 {
        let read = (1..=7).map(|number| {
            let part = format!("{number}/7");
            let args = ["check", "--read-data-subset", &part];
            let report = repo.json_with(code_of(number), &args);
            assert_eq!(report["pack_bytes"], whole["bytes_read"], "{report}");
            report["packs_read"].as_u64().unwrap()
        });
        read.sum()
    };
    assert_eq!(parts(&|_| 0), packs.len() as u64);
    let tenth = repo.json(&["check", "--read-data-subset", "10%"]);
    let (read, all) =
        (tenth["bytes_read"].as_u64().unwrap(), tenth["pack_bytes"].as_u64().unwrap());
    assert!(read * 10 >= all && read < all, "{tenth}");
    let shown = repo.run(0, &["check", "--read-data-subset", "1B"]).stdout;
    assert!(shown.contains("1 packs read"), "{shown}");

    let damaged = packs.iter().max_by_key(|(_, size)| **size).unwrap().0;
    let mut bytes = fs::read(damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(damaged).unwrap();
    fs::write(damaged, bytes).unwrap();
    let name = damaged.file_name().unwrap().to_str().unwrap();
    let lies_in = u64::from(u8::from_str_radix(&name[..2], 16).unwrap()) % 7 + 1;
    parts(&|number| i32::from(number == lies_in));

    for bad in [
        &["--read-data-subset", "0/7"][..],
        &["--read-data-subset", "101%"],
        &["--read-data-subset", "0"],
        &["--read-data", "--read-data-subset", "1/7"],
    ] {
        repo.run(2, &[&["check"], bad].concat());
    }
}

/// A repository cannot tell that a snapshot was removed; who knows its id can ask.
#[test]
fn a_removed_snapshot_is_missed() {
    let repo = LoneRepository::new();
    write(&repo, "file", 1, 20_000);
    let (first, second) = (back_up(&repo, &[]), back_up(&repo, &[]));
    let list = repo.text("list");
    fs::write(&list, format!("# all of them\n{first}\n\n {second} # the last\n")).unwrap();
    let expecting = ["check", "--expect-file", &list];
    repo.run(0, &expecting);
    repo.run(0, &["forget", &first]);
    repo.run(0, &["check"]);
    let report = repo.json_with(1, &expecting);
    assert_eq!(report["problems"][0]["object"], format!("snapshots/{first}"), "{report}");
    assert_eq!(report["hurt"][0]["snapshot"], first, "{report}");
    repo.json_with(1, &["check", "--expect", &second, "--expect", &first]);
    repo.run(0, &["check", "--expect", &second]);

    repo.run(2, &["check", "--expect", &second[..8]]);
    repo.run(1, &["check", "--expect-file", &repo.text("nowhere")]);
    for bad in ["", "# nothing\n", "latest\n"] {
        fs::write(&list, bad).unwrap();
        assert!(repo.run(2, &expecting).stderr.contains(&list), "{bad}");
    }
}

#[test]
fn a_bucket_is_as_good_as_a_directory() {
    let server = S3Server::start().unwrap();
    server.create_bucket("bucket").unwrap();
    let local = LoneRepository::new();
    write(&local, "file", 1, 300_000);
    back_up(&local, &[]);
    let command = |args: &[&str]| -> Command {
        let mut command = Program::bare(&["repository", "--no-cache", "--repo"]);
        command.args(["s3://bucket/one/vault", "--password-file", &local.text("password")]);
        command.args(args);
        command.env("AWS_ENDPOINT_URL", server.endpoint());
        command.env("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID);
        command.env("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY);
        command
    };
    let run = |code: i32, args: &[&str]| {
        Finished::of(&mut command(args), "it was just there").expect(code)
    };
    assert!(run(10, &["snapshots"]).stderr.contains("init"));
    run(0, &["init"]);
    let source = local.text("source");
    run(0, &["backup", &source]);
    let from = format!("file://{}", local.text("repo"));
    let password = local.text("password");
    run(0, &["copy", "--from-repo", &from, "--from-password-file", &password]);
    run(0, &["forget", "--keep-last", "1", "--group-by", "", "--prune"]);
    run(0, &["check", "--read-data"]);
    let inner = format!("latest:{source}");
    run(0, &["restore", &inner, &local.text("out")]);
    let out = Manifest::of(&local.path("out"));
    Manifest::of(&local.path("source")).assert_same(&out, "from the bucket");
    // restic reads it too.
    let mut restic = clean_command("restic");
    restic.args(["--no-cache", "-r"]).arg(format!("s3:{}/bucket/one/vault", server.endpoint()));
    restic.arg("-p").arg(local.path("password")).args(["check", "--read-data"]);
    restic.env("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID);
    restic.env("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY);
    let checked = Finished::of(&mut restic, "restic is missing").expect(0);
    assert!(checked.stdout.contains("no errors were found"), "{checked}");
    // Secrets do not belong into the URL, and are not told.
    let mut bad = Program::bare(&["repository", "-r", "s3://key:hidden@bucket/x", "snapshots"]);
    let bad = Finished::of(&mut bad, "it was just there").expect(2);
    assert!(!bad.stderr.contains("hidden"), "{bad}");
}
