//! A source that hangs keeps neither its job nor the place of other backups.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};

use jiff::SignedDuration;
use provault_domain::*;
use provault_driver::{
    CancelFlag, Capture, CaptureReport, Driver, DriverError, RestoreOutcome, RestoreRequest, Sink,
    Source, WorkContext,
};
use provault_driver_filesystem::FilesystemDriver;
use provault_engine::Level;

use crate::support::World;

const START: &str = "2026-03-01T12:00:00Z";

/// Reads files like the driver for them, but the first read hangs at its end, whatever it is asked, until the
/// mount answers again. Then all was read, and it says so.
#[derive(Clone)]
struct Hanging {
    below: Arc<FilesystemDriver>,
    reads: Arc<AtomicU32>,
    answers: Arc<(Mutex<bool>, Condvar)>,
    hangs: Sender<()>,
}

struct HangingCapture {
    below: Box<dyn Capture>,
    driver: Hanging,
}

fn hanging() -> (Hanging, Receiver<()>) {
    let (hangs, seen) = channel();
    let below = Arc::new(FilesystemDriver::new());
    (Hanging { below, reads: Arc::default(), answers: Arc::default(), hangs }, seen)
}

impl Hanging {
    fn answer(&self) {
        *self.answers.0.lock().unwrap() = true;
        self.answers.1.notify_all();
    }
}

impl Capture for HangingCapture {
    fn read_into(
        self: Box<Self>,
        sink: &mut dyn Sink,
        context: &WorkContext<'_>,
    ) -> Result<CaptureReport, DriverError> {
        let Self { below, driver } = *self;
        let report = below.read_into(sink, context)?;
        if driver.reads.fetch_add(1, Ordering::SeqCst) == 0 {
            driver.hangs.send(()).unwrap();
            let answers = driver.answers.0.lock().unwrap();
            drop(driver.answers.1.wait_while(answers, |answers| !*answers).unwrap());
        }
        Ok(report)
    }
}

impl Driver for Hanging {
    fn kind(&self) -> Kind {
        self.below.kind()
    }
    fn check_config(&self, config: &serde_json::Value) -> Result<serde_json::Value, Invalid> {
        self.below.check_config(config)
    }
    fn identity(&self, config: &serde_json::Value) -> String {
        self.below.identity(config)
    }
    fn capture(
        &self,
        resource: &Resource,
        cancel: &CancelFlag,
    ) -> Result<Box<dyn Capture>, DriverError> {
        let below = self.below.capture(resource, cancel)?;
        Ok(Box::new(HangingCapture { below, driver: self.clone() }))
    }
    fn restore_metadata(&self, resource: &Resource) -> BTreeMap<String, String> {
        self.below.restore_metadata(resource)
    }
    fn check_restore(&self, metadata: &BTreeMap<String, String>) -> Result<(), Invalid> {
        self.below.check_restore(metadata)
    }
    fn writes_over(&self, metadata: &BTreeMap<String, String>) -> Result<Option<String>, Invalid> {
        self.below.writes_over(metadata)
    }
    fn restore(
        &self,
        request: &RestoreRequest<'_>,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<RestoreOutcome, DriverError> {
        self.below.restore(request, source, context)
    }
    fn discard_partial(&self, request: &RestoreRequest<'_>) -> Result<(), DriverError> {
        self.below.discard_partial(request)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_hangs_is_gone_without_and_makes_nothing_later() {
    let (driver, seen) = hanging();
    let world = World::new(START).await.restarted_with(Arc::new(driver.clone())).await;
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
    assert_eq!(driver.reads.load(Ordering::SeqCst), 1);
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
    driver.answer();
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
