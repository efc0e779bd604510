//! Volumes on the command line: without a server, from an image back to an image.
// An unwrap that fails is how a test fails.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use provault_tests::{Finished, Program, clean_command};

fn command(root: &Path, args: &[&str]) -> Command {
    let mut command = Program::bare(&["repository"]);
    command.arg("--repo").arg(root.join("repo")).arg("--password-file").arg(root.join("password"));
    command.args(args).current_dir(root);
    command
}

fn run(root: &Path, args: &[&str]) -> Finished {
    Finished::of(&mut command(root, args), "build provault first")
}

fn same(root: &Path, one: &str, other: &str) -> bool {
    fs::read(root.join(one)).unwrap() == fs::read(root.join(other)).unwrap()
}

#[test]
fn a_volume_goes_in_and_comes_out() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    fs::write(root.join("password"), "volumes\n").unwrap();
    let image = File::create(root.join("disk.img")).unwrap();
    image.set_len(70 << 20).unwrap();
    image.write_all_at(&vec![7; 300_000], 5_000_000).unwrap();
    image.write_all_at(b"the end", (70 << 20) - 7).unwrap();
    let _ = run(root, &["init"]).expect(0);

    let first = run(root, &["--json", "backup-volume", "disk.img"]).expect(0);
    let summary: serde_json::Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(summary["total_bytes_processed"], 70 << 20);
    assert!(summary["bytes_read"].as_u64().unwrap() < 2 << 20, "holes were read: {summary}");
    image.write_all_at(b"changed", 5_000_000).unwrap();
    let second = run(root, &["--json", "backup-volume", "disk.img"]).expect(0);
    let summary: serde_json::Value = serde_json::from_str(&second.stdout).unwrap();
    assert_eq!(summary["blocks_new"], 1, "{summary}");

    let _ = run(root, &["restore-volume", "latest", "new.img"]).expect(0);
    assert!(same(root, "disk.img", "new.img"));
    // Nothing that exists is replaced unasked, and what is too small never.
    fs::write(root.join("old.img"), vec![9; 71 << 20]).unwrap();
    let refused = run(root, &["restore-volume", "latest", "old.img"]).expect(2);
    assert!(refused.stderr.contains("--overwrite"), "{refused}");
    assert!(fs::read(root.join("old.img")).unwrap().iter().all(|byte| *byte == 9));
    fs::write(root.join("small.img"), [9; 1000]).unwrap();
    let _ = run(root, &["restore-volume", "--overwrite", "latest", "small.img"]).expect(2);
    assert_eq!(fs::read(root.join("small.img")).unwrap(), [9; 1000]);
    let _ = run(root, &["restore-volume", "--overwrite", "latest", "old.img"]).expect(0);
    File::options().write(true).open(root.join("old.img")).unwrap().set_len(70 << 20).unwrap();
    assert!(same(root, "disk.img", "old.img"));
    let missing = run(root, &["restore-volume", "latest:/no/such", "x.img"]).expect(1);
    assert!(missing.stderr.contains("there is no volume no/such"), "{missing}");
    assert!(!root.join("x.img").exists());

    // Over NBD, until Ctrl-C.
    let mut server = command(root, &["nbd", "latest", "--socket", "socket"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut uri = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut uri).unwrap();
    let mut copy = clean_command("nbdcopy");
    copy.args([uri.trim(), "copy.img"]).current_dir(root);
    let copied = Finished::of(&mut copy, "apt-get install libnbd-bin");
    kill(Pid::from_raw(i32::try_from(server.id()).unwrap()), Signal::SIGINT).unwrap();
    let ended = server.wait().unwrap();
    let _ = copied.expect(0);
    assert!(same(root, "disk.img", "copy.img"));
    assert!(ended.success() && !root.join("socket").exists(), "{ended}");
    assert_eq!(fs::read_dir(root.join("repo/locks")).unwrap().count(), 0);

    // A mount of what is no directory, or not empty, is refused before anything is asked of FUSE.
    let full = run(root, &["mount", "latest", "repo"]).expect(2);
    assert!(full.stderr.contains("not an empty directory"), "{full}");
    let _ = run(root, &["mount", "latest", "nowhere"]).expect(1);
}
