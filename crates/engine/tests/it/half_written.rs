//! What the message of a restore says when it breaks off in the middle of a target that it writes over.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use provault_domain::*;
use provault_driver::{BrokenOff, Driver, DriverError};

use crate::interposed::Interposed;
use crate::support::World;

const START: &str = "2026-03-01T12:00:00Z";
const DEVICE: &str = "/dev/vg0/new";
const PARTLY: &str = "The target at /dev/vg0/new is partly written";
const NEXT: &str = "Do not use it; restore onto it again";

/// A restore says that it has begun to write onto a device, and then fails or waits for its end.
fn onto(fails: bool) -> (Arc<dyn Driver>, Receiver<()>) {
    let (writes, seen) = channel();
    let driver = Interposed::default().onto(DEVICE).restoring(move |context| {
        let _ = writes.send(());
        let error = if fails {
            let source = io::Error::other("no answer");
            DriverError::Io { doing: "writing", path: DEVICE.into(), source }
        } else {
            while !context.cancel.is_raised() {
                std::thread::sleep(Duration::from_millis(1));
            }
            DriverError::Cancelled
        };
        Err(DriverError::PartlyWritten {
            target: DEVICE.into(),
            broken_off: BrokenOff::Writing,
            error: Box::new(error),
        })
    });
    (Arc::new(driver), seen)
}

/// A restore that has begun to write, and what has to be kept until its end.
async fn begun(fails: bool) -> (World, RestoreJob, provault_engine::Running, Receiver<()>) {
    let (driver, seen) = onto(fails);
    let world = World::new(START).await.restarted_with(driver).await;
    let running = world.start().await;
    let point = world.point_of(&world.back_up().await).await;
    let restore = world.restore_job(&point, &world.directory.path().join("unused"));
    world.engine.catalog().insert_job(&restore).await.unwrap();
    world.engine.wake();
    let seen = tokio::task::spawn_blocking(move || {
        seen.recv().unwrap();
        seen
    });
    (world, restore, running, seen.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_restore_says_that_its_target_is_partly_written() {
    let (world, restore, running, _seen) = begun(false).await;
    world.engine.stop_restore_job(&world.account, &restore.id, "Stopped by me.").await.unwrap();
    let ended: RestoreJob = world.end_of(&restore.id).await;
    assert_eq!(ended.state, RestoreJobState::Aborted, "{ended:?}");
    let message = ended.status_message.unwrap();
    assert!(message.starts_with("Stopped by me. "), "{message}");
    assert!(message.contains(PARTLY) && message.contains(NEXT), "{message}");
    assert!(!message.contains("removed"), "nothing was staged: {message}");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_restore_says_that_its_target_is_partly_written() {
    let (world, restore, running, _seen) = begun(true).await;
    let ended: RestoreJob = world.end_of(&restore.id).await;
    assert_eq!(ended.state, RestoreJobState::Failed, "{ended:?}");
    let message = ended.status_message.unwrap();
    assert!(message.starts_with("writing /dev/vg0/new: no answer. "), "{message}");
    assert_eq!(message.matches("partly written").count(), 1, "{message}");
    assert!(message.contains(PARTLY) && message.contains(NEXT), "{message}");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_that_is_stopped_says_that_its_target_may_be_partly_written() {
    let (world, restore, running, _seen) = begun(false).await;
    running.stop("The server was stopped").await;
    let catalog = world.engine.catalog();
    let waiting = catalog.job::<RestoreJob>(&world.account, &restore.id).await.unwrap().unwrap();
    assert_eq!(waiting.state, RestoreJobState::Running, "{waiting:?}");
    let message = waiting.status_message.unwrap();
    assert!(message.ends_with("Until it is done, do not use /dev/vg0/new."), "{message}");
    // Stopped before anybody takes it up again: its driver is not asked any more.
    world.engine.stop_restore_job(&world.account, &restore.id, "Not now.").await.unwrap();
    let (driver, seen) = onto(false);
    let world = world.restarted_with(driver).await;
    let running = world.start().await;
    let ended: RestoreJob = world.end_of(&restore.id).await;
    assert!(seen.try_recv().is_err(), "it was begun again");
    running.stop("test over").await;
    assert_eq!(ended.state, RestoreJobState::Aborted, "{ended:?}");
    let message = ended.status_message.unwrap();
    assert!(message.starts_with("Not now. The target at /dev/vg0/new may be partly written"));
    assert!(message.contains(NEXT), "{message}");
}
