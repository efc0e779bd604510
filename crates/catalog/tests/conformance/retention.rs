//! Retention: what goes, what stays, what is marked.

use provault_catalog::{Catalog, CatalogError, Expired, Page, PointFilter};
use provault_domain::{
    Arn, Lifecycle, Payload, RecoveryPoint, RecoveryPointStatus, RestoreJob, RestoreJobEvent,
    RetentionSettings, Tags,
};

use crate::fixture::*;
use crate::nouns::refused;
use crate::points::{commit, make};
use crate::time::on_record;

const DAY: i64 = 86_400;

async fn expire(c: &Catalog, now: i64) -> Expired {
    c.expire_points(&account(), &resource_arn(1), at(now)).await.unwrap()
}

fn arns(points: &[RecoveryPoint]) -> Vec<Arn> {
    points.iter().map(|point| point.arn.clone()).collect()
}

async fn now(c: &Catalog, n: u32) -> RecoveryPoint {
    c.recovery_point(&account(), &point_arn(n)).await.unwrap().unwrap()
}

pub async fn the_last_good_point_stays_until_there_is_a_newer_one(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    make(c, 1, 1, at(10)).await;
    make(c, 2, 1, at(20)).await;
    assert_eq!(expire(c, DAY + 9).await, Expired::default(), "nothing is over yet");
    let expired = expire(c, DAY + 30).await;
    assert_eq!(arns(&expired.going), [point_arn(1)]);
    assert_eq!(expired.held.map(|point| point.arn), Some(point_arn(2)));
    let kept = now(c, 2).await;
    assert_eq!(kept.shown_status(), RecoveryPointStatus::Expired);
    assert!(kept.shown_message().unwrap().contains("last good recovery point"));
    assert_eq!(expire(c, DAY + 40).await, Expired::default(), "it is told once");
    assert_eq!(now(c, 2).await, kept);
    let newest = c.newest_recovery_point(&account(), &resource_arn(1), at(DAY + 40)).await.unwrap();
    assert_eq!(newest, Some(kept.clone()), "it can be restored and tested");
    let usable = PointFilter { restorable_only: true, ..PointFilter::default() };
    let listed = c.list_recovery_points(&usable, Page::all()).await.unwrap().items;
    assert_eq!(listed, [kept]);
    assert!(c.protected_resource(&account(), &resource_arn(1)).await.unwrap().is_some());

    assert!(c.deletion_failed(&point_arn(1), "the vault is gone.", at(DAY + 41)).await.unwrap());
    assert!(!c.deletion_failed(&point_arn(1), "it still is.", at(DAY + 42)).await.unwrap());
    assert!(!c.deletion_failed(&point_arn(2), "it is kept.", at(DAY + 42)).await.unwrap());
    let stuck = now(c, 1).await;
    assert_eq!(stuck.status, RecoveryPointStatus::Deleting);
    assert_eq!(stuck.shown_status(), RecoveryPointStatus::Expired);
    let hold = stuck.hold.unwrap();
    assert_eq!(hold.since, at(DAY + 41));
    assert!(hold.message.contains("it still is."), "{}", hold.message);
    c.remove_recovery_point(&point_arn(1)).await.unwrap();

    make(c, 3, 1, at(DAY + 50)).await;
    let expired = expire(c, DAY + 60).await;
    assert_eq!((arns(&expired.going), expired.held), (vec![point_arn(2)], None));
    assert_eq!(now(c, 2).await.shown_status(), RecoveryPointStatus::Deleting);
    // By hand the last one goes as well.
    c.begin_deletion(&account(), &point_arn(3)).await.unwrap();
    c.remove_recovery_point(&point_arn(3)).await.unwrap();
}

pub async fn a_point_that_is_read_is_left_alone(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    make(c, 1, 1, at(10)).await;
    make(c, 2, 1, at(20)).await;
    c.insert_job(&restore_job(50, None)).await.unwrap();
    assert_eq!(expire(c, DAY + 30).await.going, []);
    assert_eq!(now(c, 1).await.status, RecoveryPointStatus::Completed);
    let failed = RestoreJobEvent::Failed { message: "over".to_owned() };
    c.step_job::<RestoreJob>(&account(), &uuid(50), None, failed, at(DAY + 31), vec![])
        .await
        .unwrap();
    assert_eq!(arns(&expire(c, DAY + 32).await.going), [point_arn(1)]);
}

pub async fn the_oldest_beyond_a_number_go(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    c.insert_resource(&resource(1, "r1"), "/srv/r1").await.unwrap();
    for n in 1..=4 {
        let kept = RecoveryPoint { lifecycle: Lifecycle::default(), ..point(n, 1, at(n.into())) };
        commit(c, n, kept, Tags::new()).await;
    }
    assert!(c.resources_with_due_points(at(9)).await.unwrap().is_empty());
    let two = RetentionSettings { keep_at_most: Some(2), ..RetentionSettings::default() };
    let changed = c.set_retention(&resource_arn(1), |_| Ok(two)).await.unwrap().unwrap();
    assert_eq!(c.resource(&resource_arn(1)).await.unwrap(), Some(changed));
    let due = c.resources_with_due_points(at(9)).await.unwrap();
    assert_eq!(due, [(account(), resource_arn(1))]);
    let mut going = arns(&expire(c, 9).await.going);
    going.sort();
    assert_eq!(going, [point_arn(1), point_arn(2)]);
    assert!(c.resources_with_due_points(at(9)).await.unwrap().is_empty());
    // What is written by another way keeps the number as well.
    c.update_resource(&resource_arn(1), |r| r.retention.keep_at_most = Some(1)).await.unwrap();
    assert_eq!(arns(&expire(c, 10).await.going), [point_arn(3)]);
}

pub async fn a_shrunk_point_is_marked_told_and_accepted(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    let t = topic("alerts");
    c.insert_topic(&t).await.unwrap();
    c.insert_subscription(&subscription(1, &t)).await.unwrap();
    let setting = notifications(&t, &["RECOVERY_POINT_MODIFIED"]);
    c.set_vault_notifications(&account(), "main", setting).await.unwrap();
    let told = || async { c.list_deliveries(&account(), None, None).await.unwrap().len() };
    let small = |n: u32, files| {
        let mut point = point(n, 1, at(i64::from(n) * 10));
        let Payload::Stored { files: held, .. } = &mut point.payload;
        *held = files;
        point
    };
    commit(c, 1, small(1, 100), Tags::new()).await;
    commit(c, 2, small(2, 50), Tags::new()).await;
    assert_eq!((told().await, now(c, 2).await.shrunk), (0, None), "half of it is enough");
    commit(c, 3, small(3, 24), Tags::new()).await;
    commit(c, 4, small(4, 24), Tags::new()).await;
    assert_eq!(told().await, 1, "the second says nothing that the first did not");
    for n in [3, 4] {
        let marked = now(c, n).await;
        assert!(!marked.is_good(), "{marked:?}");
        assert_eq!(marked.shrunk.as_ref().unwrap().before, point_arn(2));
        assert!(marked.shown_message().unwrap().contains("24 files"));
    }
    let expired = expire(c, 3 * DAY).await;
    let mut going = arns(&expired.going);
    going.sort();
    assert_eq!(going, [point_arn(1), point_arn(3), point_arn(4)]);
    assert_eq!(expired.held.map(|point| point.arn), Some(point_arn(2)), "the last good one");

    for n in 5..=7 {
        let later = RecoveryPoint { created_at: at(3 * DAY), ..small(n, 24) };
        commit(c, n, later, Tags::new()).await;
    }
    assert_eq!(told().await, 3, "of the point that is kept, and of a new row of shrunk ones");
    let accepted = c.accept_point(&account(), &point_arn(6), at(3 * DAY + 1)).await.unwrap();
    assert_eq!(accepted.shrunk.as_ref().unwrap().accepted_at, Some(at(3 * DAY + 1)));
    assert_eq!(c.accept_point(&account(), &point_arn(6), at(9)).await.unwrap(), accepted);
    for (n, good) in [(5, false), (6, true), (7, true)] {
        assert_eq!(now(c, n).await.is_good(), good, "{n}: what came before it is not accepted");
    }
    assert_eq!(arns(&expire(c, 3 * DAY + 2).await.going), [point_arn(2)]);
    // To switch the alarm off accepts nothing that it has marked.
    let before = now(c, 5).await;
    assert!(before.is_shrunk());
    c.insert_resource(&resource(1, "r1"), "/srv/r1").await.unwrap();
    let off = RetentionSettings { shrink_alarm_percent: None, ..RetentionSettings::default() };
    c.set_retention(&resource_arn(1), |_| Ok(off)).await.unwrap().unwrap();
    assert_eq!(now(c, 5).await, before);
    assert_eq!(now(c, 6).await, accepted);
}

pub async fn a_point_from_the_future_is_not_the_newest(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    c.insert_resource(&resource(1, "r1"), "/srv/r1").await.unwrap();
    make(c, 1, 1, at(10)).await;
    make(c, 2, 1, at(1000)).await;
    let newest = |now| async move {
        let newest = c.newest_recovery_point(&account(), &resource_arn(1), at(now)).await.unwrap();
        newest.map(|point| point.arn)
    };
    let future = |now| async move {
        let record = on_record(c, now).await;
        // None that is yet to come takes the place of the newest.
        let present = record.newest.map(|point| point.arn);
        assert!(present.is_none() || present == newest(now).await);
        record.future.map(|point| point.arn)
    };
    assert_eq!((newest(20).await, future(20).await), (Some(point_arn(1)), Some(point_arn(2))));
    assert_eq!((newest(940).await, future(940).await), (Some(point_arn(2)), None), "a minute off");
    assert_eq!(newest(-99).await, Some(point_arn(2)), "there is no other");
    // It takes nobody's place, and nobody its.
    make(c, 3, 1, at(DAY * 400)).await;
    let expired = expire(c, DAY + 1001).await;
    assert_eq!(arns(&expired.going), [point_arn(1)]);
    assert_eq!(expired.held.map(|point| point.arn), Some(point_arn(2)));
}

pub async fn settings_that_are_changed_at_once_are_both_kept(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    c.insert_resource(&resource(1, "r1"), "/srv/r1").await.unwrap();
    for _ in 0..8 {
        let keep = |settings| Ok(RetentionSettings { keep_at_most: Some(7), ..settings });
        let alarm = |settings| Ok(RetentionSettings { shrink_alarm_percent: Some(9), ..settings });
        let (arn, default) = (resource_arn(1), RetentionSettings::default());
        c.set_retention(&arn, |_| Ok(default)).await.unwrap().unwrap();
        let (one, two) = tokio::join!(c.set_retention(&arn, keep), c.set_retention(&arn, alarm));
        one.unwrap().unwrap();
        two.unwrap().unwrap();
        let now = c.resource(&arn).await.unwrap().unwrap().retention;
        let both = RetentionSettings { keep_at_most: Some(7), shrink_alarm_percent: Some(9) };
        assert_eq!(now, both);
    }
    let refused = |_| Err(provault_domain::Invalid::new("KeepAtMost", "no."));
    c.set_retention(&resource_arn(1), refused).await.unwrap().unwrap_err();
}

pub async fn a_point_is_read_or_deleted(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    make(c, 1, 1, at(10)).await;
    c.insert_job(&restore_job(50, None)).await.unwrap();
    refused!(c.begin_deletion(&account(), &point_arn(1)), CatalogError::NotEmpty { .. });
    assert_eq!(now(c, 1).await.status, RecoveryPointStatus::Completed);
    let failed = RestoreJobEvent::Failed { message: "over".to_owned() };
    c.step_job::<RestoreJob>(&account(), &uuid(50), None, failed, at(20), vec![]).await.unwrap();
    c.begin_deletion(&account(), &point_arn(1)).await.unwrap();
    refused!(c.insert_job(&restore_job(51, None)), CatalogError::Conflict { .. });
    refused!(c.begin_deletion(&account(), &point_arn(9)), CatalogError::NotFound { .. });
}
