//! What `SQLite` does to the disk, and the disk to `SQLite`: a file that cannot grow, and who may
//! read what is written. Limits and umasks belong to a process, so each test runs itself once more
//! in a child.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use provault_catalog::{Catalog, CatalogError, Change, JobFilter, Page};
use provault_domain::evidence::verify_chain;
use provault_domain::{BackupJob, BackupJobEvent};

use crate::fixture::*;

const CHILD: &str = "PROVAULT_TEST_DISK_CHILD";

/// Runs the test of this name in a child, after the shell has run `setup`. The child must say
/// `done`: one that ran nothing would also end well.
fn in_child(test: &str, setup: &str, dir: &Path) {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("{setup} exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}\n{errors}", output.status);
    assert!(said.contains("child done"), "{said}\n{errors}");
}

/// What no file of this process may grow beyond from now on, in bytes.
fn limit_files(limit: &str) {
    let status = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), &format!("--fsize={limit}:")])
        .status()
        .unwrap_or_else(|e| panic!("prlimit: {e}; install util-linux"));
    assert!(status.success(), "prlimit --fsize={limit}: {status}");
}

async fn fail_job(c: &Catalog, n: u32) -> Result<BackupJob, CatalogError> {
    let event = BackupJobEvent::Failed { message: "x".repeat(10_000) };
    let changes = vec![Change::AppendEvidence(account(), serde_json::json!({ "n": n }))];
    c.step_job::<BackupJob>(&account(), &uuid(n), None, event, at(1), changes).await
}

/// The log cannot grow, so that a COMMIT fails while it writes: nothing of that step remains, the
/// server goes on reading, and it writes again, without a restart, once there is room.
#[tokio::test]
async fn a_commit_that_cannot_be_written_costs_only_itself() {
    let Some(dir) = std::env::var_os(CHILD) else {
        let dir = tempfile::tempdir().unwrap();
        // Without a handler a write beyond the limit would end the process.
        let test = "disk::a_commit_that_cannot_be_written_costs_only_itself";
        in_child(test, "trap '' XFSZ;", dir.path());
        return;
    };
    let file = Path::new(&dir).join("catalog.db");
    let c = Catalog::open(&format!("sqlite:{}", file.display())).await.unwrap();
    for n in 0..40 {
        c.insert_job(&backup_job(n, n, at(0))).await.unwrap();
    }
    let mut next = 0;
    for _ in 0..2 {
        let log = std::fs::metadata(file.with_extension("db-wal")).unwrap().len();
        // Some steps still fit; one ends in the middle of its pages.
        limit_files(&(log + 100_001).to_string());
        let error = loop {
            match fail_job(&c, next).await {
                Ok(_) => next += 1,
                Err(error) => break error,
            }
        };
        for error in [error, fail_job(&c, next).await.unwrap_err()] {
            let CatalogError::Database { message, .. } = &error else { panic!("{error:?}") };
            assert!(message.contains("disk"), "{message}");
        }
        assert_consistent(&c, next).await;
        limit_files("unlimited");
        fail_job(&c, next).await.unwrap();
        next += 1;
        assert_consistent(&c, next).await;
    }
    c.close().await;
    // And all of it is on the disk.
    let c = Catalog::open(&format!("sqlite:{}", file.display())).await.unwrap();
    assert_consistent(&c, next).await;
    println!("child done");
}

/// The first `ended` jobs have ended, each with its line in the log and its record; no other has.
async fn assert_consistent(c: &Catalog, ended: u32) {
    let jobs = c.list_jobs::<BackupJob>(&JobFilter::default(), Page::all()).await.unwrap().items;
    assert_eq!(jobs.len(), 40);
    for job in jobs {
        let n = u32::from_str_radix(&job.id[..8], 16).unwrap();
        assert_eq!(job.state.is_final(), n < ended, "job {n} of {ended}");
        let lines = c.job_log(&account(), &job.id).await.unwrap().len();
        assert_eq!(lines, usize::from(n < ended), "log of job {n} of {ended}");
    }
    let chain = c.list_evidence(&account()).await.unwrap();
    verify_chain(&chain).unwrap();
    assert_eq!(chain.len(), ended as usize);
}

/// Secrets are in there: nobody but the owner may read them, whatever the umask allows, and the
/// owner may, whatever it forbids.
#[tokio::test]
async fn the_files_are_the_owners_alone() {
    let Some(dir) = std::env::var_os(CHILD) else {
        for umask in ["000", "022", "077", "777"] {
            let dir = tempfile::tempdir().unwrap();
            let test = "disk::the_files_are_the_owners_alone";
            in_child(test, &format!("umask {umask};"), dir.path());
        }
        return;
    };
    let dir = Path::new(&dir);
    for name in ["catalog.db", "link.db"] {
        if name == "link.db" {
            // A link to where the file is to be must not get around it.
            std::os::unix::fs::symlink(dir.join("there.db"), dir.join(name)).unwrap();
        }
        let c = Catalog::open(&format!("sqlite:{}/{name}", dir.display())).await.unwrap();
        c.put_setting("a", "secret").await.unwrap();
        let mut files = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o600, "{}", path.display());
            files += 1;
        }
        // At least the file, its log and the log's index.
        assert!(files >= 3, "{files} files");
        c.close().await;
    }
    println!("child done");
}

/// An owner who lets a group read the catalog has said so; it stays.
#[tokio::test]
async fn a_file_that_is_there_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.db");
    let url = format!("sqlite:{}", file.display());
    Catalog::open(&url).await.unwrap().close().await;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let c = Catalog::open(&url).await.unwrap();
    c.put_setting("a", "b").await.unwrap();
    for name in ["catalog.db", "catalog.db-wal"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640, "{name}");
    }
}
