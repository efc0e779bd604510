//! What the server's log tells of jobs.

use std::fs::File;
use std::sync::Arc;

use jiff::SignedDuration;
use provault_domain::*;

use crate::simulation;
use crate::support::World;

#[tokio::test]
async fn a_missed_backup_is_told_although_no_worker_ever_had_it() {
    let world = World::with("2026-03-01T04:30:00Z", |resource| {
        resource.tags = [("hourly".into(), "yes".into())].into();
    })
    .await;
    simulation::plan(&world, "hourly", "cron(0 * ? * * *)", 1).await;
    // Off from half past four to half past seven; the window of an hour is open for the last one only.
    world.clock.advance(SignedDuration::from_hours(3));
    let path = world.directory.path().join("log");
    let log = Arc::new(File::create(&path).unwrap());
    let logging = tracing_subscriber::fmt().json().with_writer(log).finish();
    let logging = tracing::subscriber::set_default(logging);
    world.engine.look_at_the_time().await.unwrap();
    drop(logging);

    let jobs = world.jobs::<BackupJob>().await;
    let missed: Vec<_> = jobs.iter().filter(|job| job.state == BackupJobState::Expired).collect();
    assert_eq!((jobs.len(), missed.len()), (3, 2), "{jobs:?}");
    let log = std::fs::read_to_string(&path).unwrap();
    let of =
        |job: &BackupJob| log.lines().filter(|line| line.contains(&job.id)).collect::<Vec<_>>();
    for job in &jobs {
        let told = of(job);
        assert_eq!(told.len(), usize::from(job.state == BackupJobState::Expired), "{log}");
        assert!(told.iter().all(|line| line.contains("WARN") && line.contains("EXPIRED")), "{log}");
    }
}
