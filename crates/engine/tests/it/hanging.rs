//! A source that hangs keeps neither its job nor the place of other backups.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};

use jiff::SignedDuration;
use provault_domain::*;
use provault_driver::Driver;
use provault_engine::Level;

use crate::interposed::Interposed;
use crate::support::World;

const START: &str = "2026-03-01T12:00:00Z";

/// A mount that hangs once, and how often it was read.
#[derive(Clone, Default)]
struct Mount {
    reads: Arc<AtomicU32>,
    answers: Arc<(Mutex<bool>, Condvar)>,
}

impl Mount {
    fn answer(&self) {
        *self.answers.0.lock().unwrap() = true;
        self.answers.1.notify_all();
    }

    /// The first read hangs at its end, whatever it is asked, until the mount answers again; it says that it
    /// hangs. Then all was read.
    fn driver(&self) -> (Arc<dyn Driver>, Receiver<()>) {
        let (hangs, seen) = channel();
        let mount = self.clone();
        let driver = Interposed::default().after_read(move |_| {
            if mount.reads.fetch_add(1, Ordering::SeqCst) == 0 {
                hangs.send(()).unwrap();
                let answers = mount.answers.0.lock().unwrap();
                drop(mount.answers.1.wait_while(answers, |answers| !*answers).unwrap());
            }
            Ok(())
        });
        (Arc::new(driver), seen)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_hangs_is_gone_without_and_makes_nothing_later() {
    let mount = Mount::default();
    let (driver, seen) = mount.driver();
    let world = World::new(START).await.restarted_with(driver).await;
    let running = world.start().await;
    let asked = world.backup_job();
    world.engine.catalog().insert_job(&asked).await.unwrap();
    world.engine.wake();
    tokio::task::spawn_blocking(move || seen.recv().unwrap()).await.unwrap();
    world.engine.stop_backup_job(&world.account, &asked.id, "not now").await.unwrap();
    assert_eq!(world.engine.hung_reads(), []);
    // It has eight minutes, from when it was looked at first; that moment is not seen from here.
    let ended = loop {
        let jobs = world.jobs::<BackupJob>().await;
        let job = jobs.into_iter().find(|job| job.id == asked.id).unwrap();
        if job.state.is_final() {
            break job;
        }
        world.clock.advance(SignedDuration::from_mins(4));
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    };
    assert_eq!(ended.state, BackupJobState::Aborted, "{ended:?}");
    let message = ended.status_message.unwrap();
    assert!(message.starts_with("not now") && message.contains("still hangs"), "{message}");

    let hung = world.engine.hung_reads();
    assert_eq!(hung.len(), 1);
    assert_eq!((&hung[0].job_id, &hung[0].resource_arn), (&asked.id, &world.resource.arn));
    let told = |findings: Vec<provault_engine::Finding>| {
        findings.into_iter().find(|finding| finding.check == "source source")
    };
    let finding = told(world.engine.doctor(&world.account).await.unwrap()).unwrap();
    assert_eq!(finding.level, Level::Failed);
    assert!(finding.detail.contains(&asked.id), "{finding:?}");

    // No other thread is sent there: on demand it is refused, under a plan it is tried again.
    let refused = world.back_up().await;
    assert_eq!(refused.state, BackupJobState::Failed, "{refused:?}");
    assert!(refused.status_message.unwrap().contains(&asked.id));
    assert_eq!(mount.reads.load(Ordering::SeqCst), 1);
    let planned = BackupJob {
        created_by: Some(backup_job::CreatedBy {
            plan_id: "p".into(),
            plan_arn: Arn::backup_plan(&world.region, &world.account, "p"),
            plan_name: "p".into(),
            plan_version: "v".into(),
            rule_id: "r".into(),
            rule_name: "r".into(),
            rule_cron: String::new(),
            rule_timezone: String::new(),
            selection_id: None,
        }),
        ..world.backup_job()
    };
    world.engine.catalog().insert_job(&planned).await.unwrap();
    world.engine.wake();
    let waits = loop {
        let jobs = world.jobs::<BackupJob>().await;
        let job = jobs.into_iter().find(|job| job.id == planned.id).unwrap();
        if job.status_message.is_some() {
            break job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(waits.state, BackupJobState::Created, "{waits:?}");
    assert!(waits.status_message.unwrap().contains("hangs"));

    // The mount answers: all was read, and nothing comes of it any more.
    mount.answer();
    while !world.engine.hung_reads().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(told(world.engine.doctor(&world.account).await.unwrap()), None);
    let snapshots = world.repository().join("snapshots");
    // Its directory comes with the first.
    let written = std::fs::read_dir(&snapshots).map_or(0, Iterator::count);
    assert_eq!(written, 0, "a snapshot was written after all");
    world.clock.advance(SignedDuration::from_mins(20));
    world.engine.wake();
    let done: BackupJob = world.end_of(&planned.id).await;
    assert_eq!(done.state, BackupJobState::Completed, "{done:?}");
    let all = provault_catalog::PointFilter::default();
    let points = world.engine.catalog().list_recovery_points(&all, provault_catalog::Page::all());
    assert_eq!(points.await.unwrap().items.len(), 1);
    running.stop("test over").await;
}
