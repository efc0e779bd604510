//! What only `SQLite` has: a file, and a process that may die while it writes.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use provault_catalog::{Catalog, CatalogError, Change, JobFilter, Page};
use provault_domain::evidence::verify_chain;
use provault_domain::{BackupJob, BackupJobEvent};

use crate::fixture::*;

const CHILD: &str = "PROVAULT_TEST_CRASH_CATALOG";

/// A process writes and says what was committed until it is killed in the middle of it. Whatever
/// it said is there afterwards, whole; and what it did not come to say is there whole or not at
/// all.
#[tokio::test]
async fn a_killed_writer_loses_nothing_it_committed() {
    if let Ok(url) = std::env::var(CHILD) {
        write_for_ever(&url).await;
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("catalog.db").display());
    let mut committed = 0;
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["sqlite::a_killed_writer_loses_nothing_it_committed", "--exact", "--nocapture"])
            .env(CHILD, &url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = 0;
        for line in lines {
            // The test harness talks on the same line.
            let line = line.unwrap();
            let Some((_, number)) = line.split_once("committed ") else { continue };
            committed = number.parse::<u32>().unwrap();
            said += 1;
            if said == 15 {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(said, 15, "the writer ended by itself");

        let c = Catalog::open(&url).await.unwrap();
        let jobs =
            c.list_jobs::<BackupJob>(&JobFilter::default(), Page::all()).await.unwrap().items;
        let ended: Vec<_> = jobs.iter().filter(|job| job.state.is_final()).collect();
        assert!(ended.len() >= committed as usize, "{} < {committed}", ended.len());
        let chain = c.list_evidence(&account()).await.unwrap();
        verify_chain(&chain).unwrap();
        assert_eq!(chain.len(), ended.len(), "state and evidence are one transaction");
        for job in jobs {
            let lines = c.job_log(&account(), &job.id).await.unwrap().len();
            assert_eq!(lines, usize::from(job.state.is_final()), "so is the log");
        }
        // Dropped without a close, as a crash of this process would.
    }
}

async fn write_for_ever(url: &str) {
    let c = Catalog::open(url).await.unwrap();
    let have = c.list_jobs::<BackupJob>(&JobFilter::default(), Page::all()).await.unwrap();
    let mut n = u32::try_from(have.items.len()).unwrap();
    let mut ended = have.items.iter().filter(|job| job.state.is_final()).count();
    loop {
        n += 1;
        c.insert_job(&backup_job(n, n, at(0))).await.unwrap();
        let event = BackupJobEvent::Failed { message: "test".to_owned() };
        let changes = vec![Change::AppendEvidence(account(), serde_json::json!({ "n": n }))];
        c.step_job::<BackupJob>(&account(), &uuid(n), None, event, at(1), changes).await.unwrap();
        ended += 1;
        println!("committed {ended}");
    }
}

#[tokio::test]
async fn a_catalog_outlives_its_handles() {
    let dir = tempfile::tempdir().unwrap();
    // A path with everything that means something in a URL.
    let odd = dir.path().join("a b?c=d#e%20f&ü");
    std::fs::create_dir(&odd).unwrap();
    let url = format!("sqlite:{}", odd.join("catalog.db").display());
    let c = Catalog::open(&url).await.unwrap();
    c.put_setting("key", "kept").await.unwrap();
    drop(c);
    let c = Catalog::open(&url).await.unwrap();
    assert_eq!(c.setting("key").await.unwrap().as_deref(), Some("kept"));
    c.close().await;
    assert!(odd.join("catalog.db").is_file());
    let closed = c.setting("key").await;
    assert!(matches!(closed, Err(CatalogError::Database { .. })), "{closed:?}");
}

#[tokio::test]
async fn the_file_is_set_up_to_survive_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.db");
    let url = format!("sqlite:{}", file.display());
    let c = Catalog::open(&url).await.unwrap();
    c.put_setting("a", "b").await.unwrap();
    assert!(dir.path().join("catalog.db-wal").exists(), "no write-ahead log");
}

#[tokio::test]
async fn a_catalog_from_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("catalog.db").display());
    Catalog::open(&url).await.unwrap().close().await;
    let pool = sqlx::AnyPool::connect(&url).await.unwrap();
    sqlx::raw_sql("INSERT INTO schema_versions (version) VALUES (999)")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let error = Catalog::open(&url).await.unwrap_err();
    assert!(matches!(error, CatalogError::Newer { found: 999, .. }), "{error}");
    assert!(error.to_string().contains("999"));
}

#[tokio::test]
async fn addresses_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let here = format!("sqlite:{}", dir.path().display());
    for url in ["", "catalog.db", "mysql://localhost/x", "sqlite:", "sqlite::memory:", &here] {
        let error = Catalog::open(url).await.unwrap_err();
        assert!(matches!(error, CatalogError::Address { .. }), "{url}: {error}");
    }
    let missing = format!("sqlite:{}/none/catalog.db", dir.path().display());
    let error = Catalog::open(&missing).await.unwrap_err();
    assert!(error.to_string().contains("none/catalog.db"), "{error}");
    let secret = Catalog::open("postgres://me:hunter2@127.0.0.1:1/x").await.unwrap_err();
    assert!(!secret.to_string().contains("hunter2"), "{secret}");
    assert!(matches!(secret, CatalogError::Database { retryable: true, .. }), "{secret:?}");
}

/// What looks after all jobs as time passes does not stop for one whose row is broken.
#[tokio::test]
async fn a_job_that_cannot_be_read_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("catalog.db").display());
    let c = Catalog::open(&url).await.unwrap();
    for n in 1..=3 {
        c.insert_job(&backup_job(n, n, at(0))).await.unwrap();
        let claimed = c.claim_job_by_id::<BackupJob>(&uuid(n), "dead", at(1), at(2)).await.unwrap();
        let (claim, event) = (claimed.unwrap().claim, BackupJobEvent::Started);
        c.step_job::<BackupJob>(&account(), &uuid(n), Some(&claim), event, at(1), vec![])
            .await
            .unwrap();
    }
    let pool = sqlx::AnyPool::connect(&url).await.unwrap();
    let broken = sqlx::query("UPDATE jobs SET body = '{}' WHERE id = $1").bind(uuid(1));
    assert_eq!(broken.execute(&pool).await.unwrap().rows_affected(), 1);
    pool.close().await;
    let filter = JobFilter { unfinished_only: true, ..JobFilter::default() };
    assert!(c.list_jobs::<BackupJob>(&filter, Page::all()).await.is_err());
    let ids = |jobs: Vec<BackupJob>| jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    let others = [uuid(2), uuid(3)];
    assert_eq!(ids(c.readable_jobs(&filter).await.unwrap()), others);
    assert_eq!(ids(c.abandoned_jobs(at(3)).await.unwrap()), others);
}

/// Of the jobs that wait too: the oldest one's row is broken, and the next is worked on.
#[tokio::test]
async fn a_waiting_job_that_cannot_be_read_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("catalog.db").display());
    let c = Catalog::open(&url).await.unwrap();
    // The first two of one moment: the id decides.
    for (n, created) in [(1, 0), (2, 0), (3, 5)] {
        c.insert_job(&backup_job(n, n, at(created))).await.unwrap();
    }
    assert_eq!(c.unreadable_jobs(&account()).await.unwrap(), []);
    let pool = sqlx::AnyPool::connect(&url).await.unwrap();
    for n in 1..=2 {
        let broken = sqlx::query("UPDATE jobs SET body = '{}' WHERE id = $1").bind(uuid(n));
        assert_eq!(broken.execute(&pool).await.unwrap().rows_affected(), 1);
    }
    pool.close().await;
    let claim = || c.claim_job::<BackupJob>("w", at(10), at(20));
    assert_eq!(claim().await.unwrap().map(|claimed| claimed.job.id), Some(uuid(3)));
    assert_eq!(claim().await.unwrap(), None);
    let found = c.unreadable_jobs(&account()).await.unwrap();
    let told: Vec<_> = found.iter().map(|job| (job.what, &job.id, job.state.as_str())).collect();
    let (first, second) = (uuid(1), uuid(2));
    assert_eq!(told, [("backup job", &first, "CREATED"), ("backup job", &second, "CREATED")]);
    assert!(found.iter().all(|job| job.message.contains("damaged")), "{found:?}");
    // Nobody has taken them: a program that can read them finds them waiting.
    assert!(c.claim_job_by_id::<BackupJob>(&uuid(1), "w", at(11), at(20)).await.is_err());
}
