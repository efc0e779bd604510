//! What is owed, told and put off as time passes.

use jiff::SignedDuration;
use provault_catalog::{Catalog, Claimed, OnRecord};
use provault_domain::restore_test::interrupted;
use provault_domain::{
    BackupJob, BackupJobEvent, ResourceTrouble, RestoreTest, RestoreTestEvent, RestoreTestState,
    Verdict,
};

use crate::fixture::*;
use crate::points::make;

async fn claim(c: &Catalog, now: i64) -> Option<Claimed<BackupJob>> {
    c.claim_job("w", at(now), at(now + 60)).await.unwrap()
}

pub async fn a_job_that_is_put_off_waits_and_frees_its_resource(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    c.insert_job(&backup_job(1, 1, at(0))).await.unwrap();
    c.insert_job(&backup_job(2, 1, at(1))).await.unwrap();
    let claimed = claim(c, 10).await.unwrap();
    assert_eq!(claimed.job.id, uuid(1));
    assert!(claim(c, 10).await.is_none(), "one at a time");
    let event = || BackupJobEvent::PutOff { reason: "the disk is away.".to_owned() };
    let account = account();
    let put = c.put_off::<BackupJob>(&account, &claimed.claim, event(), at(10), at(100));
    assert!(put.await.unwrap().status_message.unwrap().contains("the disk is away"));
    let again = c.put_off::<BackupJob>(&account, &claimed.claim, event(), at(11), at(100));
    again.await.unwrap_err();
    assert_eq!(claim(c, 50).await.unwrap().job.id, uuid(2), "the other need not wait for it");
    // No reconciler takes it for one whose worker is gone.
    assert!(c.abandoned_jobs::<BackupJob>(at(99)).await.unwrap().is_empty());
    c.release_leases_of_others("w").await.unwrap();
    let stop = BackupJobEvent::StopRequested { reason: "over".to_owned() };
    c.step_job::<BackupJob>(&account, &uuid(2), None, stop, at(60), vec![]).await.unwrap();
    assert!(claim(c, 99).await.is_none());
    let again = claim(c, 100).await.unwrap();
    assert_eq!(again.job.id, uuid(1));
    // Whoever has to end it need not wait for it; but it is taken from nobody.
    c.put_off::<BackupJob>(&account, &again.claim, event(), at(101), at(900)).await.unwrap();
    assert!(claim(c, 102).await.is_none());
    c.call_back(&uuid(1)).await.unwrap();
    assert_eq!(claim(c, 103).await.unwrap().job.id, uuid(1));
    c.call_back(&uuid(1)).await.unwrap();
    assert!(claim(c, 104).await.is_none());
}

pub async fn an_alarm_that_nobody_heard_is_told_when_somebody_is_there(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    let resource = resource(1, "r1");
    c.insert_resource(&resource, "/srv/r1").await.unwrap();
    let troubles = [(ResourceTrouble::Overdue, "it is late.".to_owned())];
    let look = |now| {
        let (resource, troubles) = (&resource, &troubles);
        async move {
            let vaults = ["main".to_owned()];
            c.set_resource_alarms(resource, troubles, &vaults, at(now)).await.unwrap()
        }
    };
    let told = || async { c.list_deliveries(&account(), None, None).await.unwrap().len() };
    assert_eq!(look(1).await, [ResourceTrouble::Overdue]);
    assert_eq!(look(2).await, [], "it stands already");
    let t = topic("alerts");
    c.insert_topic(&t).await.unwrap();
    c.set_vault_notifications(&account(), "main", notifications(&t, &["BACKUP_JOB_FAILED"]))
        .await
        .unwrap();
    assert_eq!((look(3).await, told().await), (vec![], 0), "the topic has no receiver");
    c.insert_subscription(&subscription(1, &t)).await.unwrap();
    assert_eq!((look(4).await, told().await), (vec![ResourceTrouble::Overdue], 1));
    assert_eq!((look(5).await, told().await), (vec![], 1), "once");
}

/// What is on record about the first resource.
pub async fn on_record(c: &Catalog, now: i64) -> OnRecord {
    let two = [resource_arn(2), resource_arn(1)];
    let mut records = c.on_record(&account(), &two, at(now)).await.unwrap();
    let record = records.remove(&resource_arn(1)).unwrap().unwrap();
    assert!(records.is_empty(), "of a resource that is not there");
    record
}

pub async fn verdicts_and_backups_are_found_by_their_end(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    c.insert_resource(&resource(1, "r1"), "/srv/r1").await.unwrap();
    let verdict = |now| async move {
        let found = on_record(c, now).await.last_test;
        found.map(|found| (found.restore_test_id, found.verdict))
    };
    assert_eq!(verdict(99).await, None);
    for (n, end) in [(60, 500), (61, 400)] {
        c.insert_job(&restore_test(n)).await.unwrap();
        // It ended before it had chosen a point.
        let broken = RestoreTestEvent::Broken(interrupted(RestoreTestState::Pending, "stopped."));
        for event in [broken, RestoreTestEvent::Reaped { cleaned_up: true }] {
            c.step_job::<RestoreTest>(&account(), &uuid(n), None, event, at(end), vec![])
                .await
                .unwrap();
        }
    }
    assert_eq!(verdict(500).await, Some((uuid(60), Verdict::Inconclusive)), "by its end");
    assert_eq!(verdict(410).await, Some((uuid(61), Verdict::Inconclusive)), "not from the future");
    assert_eq!(verdict(10).await, None);
    let first = |after: Option<i64>| async move {
        c.first_backup(&account(), &resource_arn(1), after.map(at)).await.unwrap()
    };
    assert_eq!(first(None).await, None);
    make(c, 1, 1, at(10)).await;
    // Jobs of the fixture end at its second second.
    assert_eq!(first(None).await, Some(at(2)));
    assert_eq!((first(Some(1)).await, first(Some(2)).await), (Some(at(2)), None));
    // It stays when its point goes.
    c.begin_deletion(&account(), &point_arn(1)).await.unwrap();
    c.remove_recovery_point(&point_arn(1)).await.unwrap();
    assert_eq!(first(None).await, Some(at(2)));
}

pub async fn a_delivery_is_not_held_by_a_clock_that_was_ahead(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    c.insert_resource(&resource(1, "r1"), "/srv/r1").await.unwrap();
    let t = topic("alerts");
    c.insert_topic(&t).await.unwrap();
    c.insert_subscription(&subscription(1, &t)).await.unwrap();
    c.set_vault_notifications(&account(), "main", notifications(&t, &["BACKUP_JOB_FAILED"]))
        .await
        .unwrap();
    let year = SignedDuration::from_hours(365 * 24);
    let (resource, vaults) = (resource(1, "r1"), ["main".to_owned()]);
    let troubles = [(ResourceTrouble::Overdue, "it is late.".to_owned())];
    c.set_resource_alarms(&resource, &troubles, &vaults, at(0) + year).await.unwrap();
    let claim = |now| async move {
        c.claim_deliveries(&uuid(1), "w", now, now + SignedDuration::from_secs(60), 9)
            .await
            .unwrap()
            .len()
    };
    assert_eq!(claim(at(0) + year).await, 1);
    assert_eq!(claim(at(0) + year).await, 0, "it is being tried");
    assert_eq!(claim(at(0)).await, 1, "and was not, now that the clock is right");
    assert_eq!(claim(at(0)).await, 0);
}
