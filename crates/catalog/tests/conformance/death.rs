//! Death at a commit: the hook by which the end-to-end tests kill a server at each of its
//! transactions. The process that dies is a child that runs the test once more.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use provault_catalog::Catalog;

use crate::fixture::*;

const CHILD: &str = "PROVAULT_TEST_DEATH_CHILD";

/// What the child writes, one commit each; between two it only looks.
const WRITTEN: [&str; 4] = ["one", "two", "three", "four"];

async fn open(dir: &Path) -> Catalog {
    Catalog::open(&format!("sqlite:{}", dir.join("catalog.db").display())).await.unwrap()
}

fn child(dir: &Path, at: &str, since: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["death::a_process_dies_before_or_after_the_commit_that_is_named", "--exact"])
        .env(CHILD, dir)
        .env("PROVAULT_KILL_AT_COMMIT", at)
        .env("PROVAULT_KILL_SINCE", dir.join(since))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap()
}

#[tokio::test]
async fn a_process_dies_before_or_after_the_commit_that_is_named() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let c = open(Path::new(&dir)).await;
        for key in WRITTEN {
            // A transaction that changes nothing does not count.
            c.release_leases_of_others("nobody").await.unwrap();
            c.put_setting(key, "written").await.unwrap();
            assert_eq!(c.setting(key).await.unwrap().as_deref(), Some("written"));
            if key == "one" {
                std::fs::write(Path::new(&dir).join("since"), "").unwrap();
            }
        }
        return;
    }
    // The first one is made before the file is there, and does not count.
    for (at, since, dies, kept) in [
        ("before:1", "since", true, 1),
        ("after:1", "since", true, 2),
        ("before:3", "since", true, 3),
        ("after:3", "since", true, 4),
        ("after:4", "since", false, 4),
        ("after:1", "never", false, 4),
        ("nonsense", "since", false, 4),
    ] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).await.close().await;
        let status = child(dir.path(), at, since);
        let ended = if dies { status.signal() == Some(9) } else { status.success() };
        assert!(ended, "{at}: {status}");
        let c = open(dir.path()).await;
        for (n, key) in WRITTEN.into_iter().enumerate() {
            let there = c.setting(key).await.unwrap().is_some();
            assert_eq!(there, n < kept, "{at} since {since}: {key}");
        }
        // The catalog works on.
        c.insert_role(&role()).await.unwrap();
        c.close().await;
    }
}
