//! Steps: one transaction for everything that belongs to a change of state.

use provault_catalog::{CatalogError, Change, Delivery, DeliveryState, JobFilter, Page};
use provault_domain::evidence::verify_chain;
use provault_domain::recovery_point::PointVerdict;
use provault_domain::restore_job::{DeletionStatus, ValidationStatus};
use provault_domain::verdict::{Failure, Fault, MutantResult};
use provault_domain::{
    BackupJob, BackupJobEvent, BackupPlan, NotificationEvent, RestoreJob, RestoreJobEvent,
    RestoreTest, RestoreTestEvent, Subscription, Tags, Verdict,
};

use crate::fixture::*;
use crate::nouns::refused;

fn mutant(name: &str) -> MutantResult {
    MutantResult {
        name: name.to_owned(),
        required: true,
        killed: Some(true),
        detail: String::new(),
    }
}

pub async fn a_step_writes_state_log_and_changes(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    c.insert_resource(&resource(1, "r1"), "/srv/r1").await.unwrap();
    c.insert_job(&backup_job(1, 1, at(0))).await.unwrap();
    let claim = c.claim_job::<BackupJob>("w", at(1), at(60)).await.unwrap().unwrap().claim;
    let step = |event, now, changes| {
        let claim = claim.clone();
        async move {
            c.step_job::<BackupJob>(&account(), &uuid(1), Some(&claim), event, now, changes).await
        }
    };
    step(BackupJobEvent::Started, at(1), vec![]).await.unwrap();
    let progressed =
        BackupJobEvent::Progressed { bytes_transferred: 400, bytes_expected: Some(1000) };
    let job = step(progressed, at(2), vec![]).await.unwrap();
    assert_eq!(job.bytes_transferred, 400);
    let stored = c.job::<BackupJob>(&account(), &uuid(1)).await.unwrap();
    assert_eq!(stored.as_ref(), Some(&job));
    // A moment with nanoseconds and a number that decimal fractions cannot hold come back whole.
    let moment = at(3) + jiff::SignedDuration::from_nanos(123_456_789);
    let test = restore_test(50);
    let results = vec![mutant("everything-emptied")];
    let changes = vec![
        Change::InsertRecoveryPoint(Box::new(point(1, 1, at(0))), tags(&[("a", "1")])),
        Change::TestAfterBackup(Box::new(test.clone())),
        Change::InsertRestoreJob(Box::new(restore_job(51, None))),
        Change::InsertResource(Box::new(resource(9, "restored")), "/srv/restored".to_owned()),
        Change::PointRestored(point_arn(1), at(4)),
        Change::AppendEvidence(
            account(),
            serde_json::json!({ "resource_arn": resource_arn(1), "ratio": 0.1 + 0.2, "n": u64::MAX }),
        ),
        Change::PutMutants {
            resource_arn: resource_arn(1),
            probe_version: "p1".to_owned(),
            results: results.clone(),
        },
    ];
    let job = step(completed(1), moment, changes).await.unwrap();
    assert_eq!(job.completed_at, Some(moment));
    assert_eq!(c.job(&account(), &uuid(1)).await.unwrap(), Some(job));
    let restored = c.recovery_point(&account(), &point_arn(1)).await.unwrap().unwrap();
    assert_eq!(restored.last_restore_at, Some(at(4)), "changes are made in their order");
    assert_eq!(c.job::<RestoreTest>(&account(), &uuid(50)).await.unwrap(), Some(test));
    assert!(c.job::<RestoreJob>(&account(), &uuid(51)).await.unwrap().is_some());
    assert!(c.resource_by_name(&account(), "restored").await.unwrap().is_some());
    assert_eq!(c.mutants(&resource_arn(1), "p1").await.unwrap(), Some(results));
    assert_eq!(c.mutants(&resource_arn(1), "p2").await.unwrap(), None);
    let evidence = c.list_evidence(&account()).await.unwrap();
    assert_eq!((evidence.len(), evidence[0].recorded_at), (1, moment));
    verify_chain(&evidence).unwrap();
    assert_eq!(c.evidence_of_resource(&account(), &resource_arn(1)).await.unwrap(), evidence);
    assert_eq!(c.evidence_of_resource(&account(), &resource_arn(2)).await.unwrap(), []);

    let log = c.job_log(&account(), &uuid(1)).await.unwrap();
    let states: Vec<_> = log.iter().map(|line| line.state.as_deref().unwrap_or("")).collect();
    assert_eq!(states, ["RUNNING", "COMPLETED"], "mere progress is not logged");
    // What ended is refused by the state machine, in whatever order it comes.
    refused!(step(BackupJobEvent::Started, at(9), vec![]), CatalogError::Illegal(_));
    refused!(
        c.step_job::<BackupJob>(&account(), &uuid(99), None, completed(1), at(9), vec![]),
        CatalogError::NotFound { .. }
    );
}

/// Each change in turn fails after all others were made; nothing of them remains.
pub async fn a_step_that_fails_leaves_nothing(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    let t = topic("alerts");
    c.insert_topic(&t).await.unwrap();
    c.insert_subscription(&subscription(1, &t)).await.unwrap();
    let setting = notifications(&t, &["BACKUP_JOB_COMPLETED"]);
    c.set_vault_notifications(&account(), "main", setting).await.unwrap();
    c.insert_resource(&resource(5, "taken"), "/srv/taken").await.unwrap();
    c.insert_resource(&resource(1, "r1"), "/srv/r1").await.unwrap();
    c.insert_job(&restore_test(60)).await.unwrap();
    c.insert_job(&restore_job(61, None)).await.unwrap();
    c.insert_job(&backup_job(1, 1, at(0))).await.unwrap();
    let started = BackupJobEvent::Started;
    c.step_job::<BackupJob>(&account(), &uuid(1), None, started, at(1), vec![]).await.unwrap();
    let log = c.job_log(&account(), &uuid(1)).await.unwrap();

    let mut nowhere = point(8, 1, at(0));
    nowhere.vault_name = String::from("none");
    let too_many: Tags = (0..51).map(|n| (format!("k{n}"), String::new())).collect();
    let validated =
        RestoreJobEvent::Validated { status: ValidationStatus::Successful, message: String::new() };
    let failing = [
        Change::InsertRecoveryPoint(Box::new(nowhere), Tags::new()),
        Change::InsertRecoveryPoint(Box::new(point(8, 1, at(0))), too_many),
        Change::TestAfterBackup(Box::new(restore_test(60))),
        Change::InsertRestoreJob(Box::new(restore_job(61, None))),
        Change::InsertResource(Box::new(resource(6, "taken")), "/srv/six".to_owned()),
        Change::StepRestoreJob(uuid(61), validated),
        Change::StepRestoreJob(uuid(62), RestoreJobEvent::Started),
    ];
    for bad in failing {
        let changes = vec![
            Change::InsertRecoveryPoint(Box::new(point(1, 1, at(0))), tags(&[("a", "1")])),
            Change::AppendEvidence(account(), serde_json::json!({})),
            Change::TestAfterBackup(Box::new(restore_test(70))),
            bad.clone(),
        ];
        let outcome =
            c.step_job::<BackupJob>(&account(), &uuid(1), None, completed(1), at(2), changes).await;
        assert!(outcome.is_err(), "{bad:?}");
        let job = c.job::<BackupJob>(&account(), &uuid(1)).await.unwrap().unwrap();
        assert_eq!(job.state.as_str(), "RUNNING", "{bad:?}");
        assert_eq!(c.job_log(&account(), &uuid(1)).await.unwrap(), log, "{bad:?}");
        assert_eq!(c.list_deliveries(&account(), None, None).await.unwrap(), [], "{bad:?}");
        assert_eq!(c.recovery_point(&account(), &point_arn(1)).await.unwrap(), None, "{bad:?}");
        assert_eq!(c.tags(&point_arn(1)).await.unwrap(), Tags::new(), "{bad:?}");
        assert_eq!(c.list_evidence(&account()).await.unwrap(), [], "{bad:?}");
        assert_eq!(c.job::<RestoreTest>(&account(), &uuid(70)).await.unwrap(), None, "{bad:?}");
        assert_eq!(c.protected_resource(&account(), &resource_arn(1)).await.unwrap(), None);
    }
    // And the same step goes through without the bad change.
    let point = Change::InsertRecoveryPoint(Box::new(point(1, 1, at(0))), Tags::new());
    c.step_job::<BackupJob>(&account(), &uuid(1), None, completed(1), at(2), vec![point])
        .await
        .unwrap();
    assert_eq!(c.list_deliveries(&account(), None, None).await.unwrap().len(), 1);
}

pub async fn the_outbox_follows_the_vaults_setting(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    let t = topic("alerts");
    c.insert_topic(&t).await.unwrap();
    let mut next = 0;
    let mut run = async |setting| {
        next += 1;
        c.set_vault_notifications(&account(), "main", setting).await.unwrap();
        c.insert_job(&backup_job(next, next, at(0))).await.unwrap();
        for event in
            [BackupJobEvent::Started, BackupJobEvent::Failed { message: "disk full.".to_owned() }]
        {
            let now = at(i64::from(next));
            c.step_job::<BackupJob>(&account(), &uuid(next), None, event, now, vec![])
                .await
                .unwrap();
        }
        c.list_deliveries(&account(), Some(&uuid(next)), None).await.unwrap()
    };
    assert_eq!(run(None).await, [], "no setting");
    let everything = notifications(&t, &["BACKUP_JOB_STARTED", "BACKUP_JOB_COMPLETED"]);
    assert_eq!(run(everything.clone()).await, [], "no receiver");
    c.insert_subscription(&subscription(11, &t)).await.unwrap();
    c.insert_subscription(&subscription(12, &t)).await.unwrap();
    assert_eq!(run(notifications(&t, &["RESTORE_JOB_COMPLETED"])).await, [], "other events");
    let failed_only = run(notifications(&t, &["BACKUP_JOB_FAILED"])).await;
    assert_eq!(failed_only.len(), 2, "one event, two receivers");
    for row in &failed_only {
        assert!(matches!(row.notification.event, NotificationEvent::BackupJobEnded(_)));
        assert_eq!(row.notification.reason.as_deref(), Some("disk full."));
        assert_eq!((row.state, row.attempts), (DeliveryState::Waiting, 0));
        assert_eq!((row.created_at, row.next_attempt_at), (at(4), at(4)));
        assert_eq!(row.topic_arn, t.arn);
    }
    assert_eq!(
        failed_only[0].target == subscription(11, &t).target,
        failed_only[0].subscription_id == uuid(11)
    );
    assert_eq!(run(everything).await.len(), 4, "two events, two receivers");
    assert_eq!(c.list_deliveries(&account(), None, None).await.unwrap().len(), 6);
    assert_eq!(c.list_deliveries(&other_account(), None, None).await.unwrap(), []);
}

pub async fn deliveries_are_claimed_retried_and_given_up(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    let t = topic("alerts");
    c.insert_topic(&t).await.unwrap();
    for n in 1..=3 {
        c.insert_subscription(&subscription(n, &t)).await.unwrap();
    }
    let setting = notifications(&t, &["BACKUP_JOB_STARTED"]);
    c.set_vault_notifications(&account(), "main", setting).await.unwrap();
    c.insert_job(&backup_job(1, 1, at(0))).await.unwrap();
    let started = BackupJobEvent::Started;
    c.step_job::<BackupJob>(&account(), &uuid(1), None, started, at(10), vec![]).await.unwrap();

    assert_eq!(c.receivers_due(at(9)).await.unwrap(), Vec::<String>::new(), "not due");
    assert_eq!(claim_due(c, "w", at(9), at(20), 9).await, [], "not due");
    let due = c.receivers_due(at(10)).await.unwrap();
    assert_eq!(due, [uuid(1), uuid(2), uuid(3)], "each once");
    assert_eq!(claim_due(c, "w", at(10), at(20), 2).await.len(), 2);
    assert_eq!(claim_due(c, "x", at(10), at(20), 9).await.len(), 1);
    assert_eq!(claim_due(c, "x", at(11), at(20), 9).await, [], "all are leased");
    assert_eq!(c.receivers_due(at(19)).await.unwrap(), Vec::<String>::new(), "all are leased");
    let again = claim_due(c, "y", at(20), at(30), 9).await;
    assert_eq!(again.len(), 3, "leases ran out");

    let by = |n: u32| again.iter().find(|d| d.subscription_id == uuid(n)).unwrap().id.clone();
    c.delivery_succeeded(&by(1), at(21)).await.unwrap();
    c.delivery_failed(&by(2), at(21), Some(at(100)), "connection refused").await.unwrap();
    assert_eq!(claim_due(c, "w", at(99), at(200), 9).await.len(), 1, "by(3) alone");
    assert_eq!(claim_due(c, "w", at(100), at(200), 9).await.len(), 1);
    c.delivery_failed(&by(2), at(101), None, "still refused").await.unwrap();
    c.delete_subscription(&account(), &uuid(3)).await.unwrap();
    c.delivery_failed(&by(1), at(102), Some(at(103)), "late and wrong").await.unwrap();
    assert_eq!(claim_due(c, "w", at(9999), at(99_999), 9).await, []);

    let end = c.list_deliveries(&account(), Some(&uuid(1)), None).await.unwrap();
    let state = |n: u32| end.iter().find(|d| d.subscription_id == uuid(n)).unwrap();
    assert_eq!((state(1).state, state(1).delivered_at), (DeliveryState::Delivered, Some(at(21))));
    assert_eq!((state(2).state, state(2).attempts), (DeliveryState::Dead, 2));
    assert_eq!(state(2).last_error.as_deref(), Some("still refused"));
    assert_eq!(state(3).state, DeliveryState::Dead);
    assert_eq!(state(3).last_error.as_deref(), Some("the subscription was deleted"));
    refused!(c.delivery_succeeded("none", at(1)), CatalogError::NotFound { .. });
}

pub async fn a_dead_delivery_is_sent_again(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    let t = topic("alerts");
    c.insert_topic(&t).await.unwrap();
    for n in 1..=3 {
        c.insert_subscription(&subscription(n, &t)).await.unwrap();
    }
    let setting = notifications(&t, &["BACKUP_JOB_STARTED"]);
    c.set_vault_notifications(&account(), "main", setting).await.unwrap();
    c.insert_job(&backup_job(1, 1, at(0))).await.unwrap();
    let started = BackupJobEvent::Started;
    c.step_job::<BackupJob>(&account(), &uuid(1), None, started, at(10), vec![]).await.unwrap();
    let all = claim_due(c, "w", at(10), at(20), 9).await;
    let by = |n: u32| all.iter().find(|d| d.subscription_id == uuid(n)).unwrap().id.clone();
    for n in 1..=2 {
        c.delivery_failed(&by(n), at(11), None, "refused").await.unwrap();
    }
    c.delete_subscription(&account(), &uuid(2)).await.unwrap();

    let dead = Some(DeliveryState::Dead);
    let ids = |list: Vec<Delivery>| list.into_iter().map(|d| d.id).collect::<Vec<_>>();
    let mut expected = vec![by(1), by(2)];
    expected.sort();
    assert_eq!(ids(c.list_deliveries(&account(), None, dead).await.unwrap()), expected);
    assert_eq!(c.list_deliveries(&other_account(), None, dead).await.unwrap(), []);
    assert_eq!(c.list_deliveries(&account(), Some(&uuid(9)), dead).await.unwrap(), []);

    // Not another's, not one that is on its way, not one whose receiver is gone.
    let (me, other) = (account(), other_account());
    refused!(c.send_delivery_again(&other, &by(1), at(50)), CatalogError::NotFound { .. });
    refused!(c.send_delivery_again(&me, &by(3), at(50)), CatalogError::Conflict { .. });
    refused!(c.send_delivery_again(&me, &by(2), at(50)), CatalogError::NotFound { .. });
    refused!(c.send_delivery_again(&me, "none", at(50)), CatalogError::NotFound { .. });
    assert_eq!(ids(c.list_deliveries(&me, None, dead).await.unwrap()), expected);

    let sent = c.send_delivery_again(&me, &by(1), at(50)).await.unwrap();
    assert_eq!((sent.state, sent.attempts), (DeliveryState::Waiting, 0));
    assert_eq!(sent.last_error.as_deref(), Some("refused"), "why it died is not forgotten");
    assert_eq!(c.delivery(&account(), &by(1)).await.unwrap(), Some(sent));
    assert_eq!(c.delivery(&other_account(), &by(1)).await.unwrap(), None);
    let claimed = claim_due(c, "w", at(49), at(60), 9).await;
    assert_eq!(ids(claimed), [by(3)], "its lease ran out; the other is not due yet");
    let claimed = claim_due(c, "w", at(50), at(60), 9).await;
    assert_eq!(ids(claimed), [by(1)]);
    c.delivery_succeeded(&by(1), at(51)).await.unwrap();
    let arrived = c.delivery(&account(), &by(1)).await.unwrap().unwrap();
    assert_eq!((arrived.state, arrived.attempts), (DeliveryState::Delivered, 1));

    // In numbers; by(2) can never be sent again, so nobody need be warned of it.
    let mut counts = c.count_deliveries(&account()).await.unwrap();
    counts.sort_by_key(|(state, _)| state.as_str());
    let (waiting, delivered) = (DeliveryState::Waiting, DeliveryState::Delivered);
    assert_eq!(counts, [(DeliveryState::Dead, 1), (delivered, 1), (waiting, 1)]);
    assert_eq!(c.count_dead_deliveries(&account()).await.unwrap(), 0);
    // What can be of no use goes with time, what waits does not.
    assert_eq!(c.drop_old_deliveries(at(10), 9).await.unwrap(), 0);
    assert_eq!(c.drop_old_deliveries(at(11), 1).await.unwrap(), 1);
    assert_eq!(c.drop_old_deliveries(at(11), 9).await.unwrap(), 1);
    assert_eq!(ids(c.list_deliveries(&me, None, None).await.unwrap()), [by(3)]);
    // Forgotten is what was given up, and by its own account.
    refused!(c.forget_delivery(&me, &by(3)), CatalogError::NotFound { .. });
    assert_eq!(c.waiting_error(&uuid(3)).await.unwrap(), None);
    c.delivery_failed(&by(3), at(60), Some(at(70)), "refused").await.unwrap();
    assert_eq!(c.waiting_error(&uuid(3)).await.unwrap().as_deref(), Some("refused"));
    c.delivery_failed(&by(3), at(70), None, "refused").await.unwrap();
    assert_eq!(c.waiting_error(&uuid(3)).await.unwrap(), None);
    assert_eq!(c.count_dead_deliveries(&account()).await.unwrap(), 1);
    assert_eq!(c.drop_old_deliveries(at(99), 9).await.unwrap(), 0, "it can be sent again");
    refused!(c.forget_delivery(&other, &by(3)), CatalogError::NotFound { .. });
    c.forget_delivery(&me, &by(3)).await.unwrap();
    refused!(c.forget_delivery(&me, &by(3)), CatalogError::NotFound { .. });
}

pub async fn a_subscription_gets_what_it_asked_for(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    let t = topic("alerts");
    c.insert_topic(&t).await.unwrap();
    let wanting = |n: u32, events: &[&str]| Subscription {
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        ..subscription(n, &t)
    };
    c.insert_subscription(&wanting(1, &[])).await.unwrap();
    c.insert_subscription(&wanting(2, &["BACKUP_JOB_FAILED"])).await.unwrap();
    c.insert_subscription(&wanting(3, &["BACKUP_JOB_SUCCESSFUL"])).await.unwrap();
    let setting = notifications(&t, &["BACKUP_JOB_STARTED", "BACKUP_JOB_COMPLETED"]);
    c.set_vault_notifications(&account(), "main", setting).await.unwrap();
    c.insert_job(&backup_job(1, 1, at(0))).await.unwrap();
    let failed = BackupJobEvent::Failed { message: "disk full.".to_owned() };
    for (event, now) in [(BackupJobEvent::Started, at(1)), (failed, at(2))] {
        c.step_job::<BackupJob>(&account(), &uuid(1), None, event, now, vec![]).await.unwrap();
    }
    let all = c.list_deliveries(&account(), None, None).await.unwrap();
    let got = |n: u32| all.iter().filter(|d| d.subscription_id == uuid(n)).count();
    assert_eq!([got(1), got(2), got(3)], [2, 1, 0]);
}

pub async fn a_restore_test_carries_its_restore_job_along(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    crate::points::make(c, 1, 1, at(0)).await;
    c.insert_job(&restore_test(10)).await.unwrap();
    let test = c.claim_job::<RestoreTest>("w", at(20), at(60)).await.unwrap().unwrap();
    let step = |event, changes| {
        let claim = test.claim.clone();
        async move {
            let id = uuid(10);
            c.step_job::<RestoreTest>(&account(), &id, Some(&claim), event, at(21), changes)
                .await
                .unwrap()
        }
    };
    step(RestoreTestEvent::Started, vec![]).await;
    let chosen = RestoreTestEvent::PointChosen {
        recovery_point_arn: point_arn(1),
        vault_name: "main".to_owned(),
        restore_job_id: uuid(11),
        incomplete: None,
        point_age_seconds: Some(20),
        rpo_seconds: None,
        rto_seconds: None,
    };
    let restore = restore_job(11, Some(&test.job.token));
    step(chosen, vec![Change::InsertRestoreJob(Box::new(restore))]).await;
    let in_vault = JobFilter { vault_name: Some("main".to_owned()), ..JobFilter::default() };
    let tests = c.list_jobs::<RestoreTest>(&in_vault, Page::all()).await.unwrap();
    assert_eq!(tests.items.len(), 1, "a step keeps the columns true");
    refused!(c.delete_vault(&account(), "main"), CatalogError::NotEmpty { .. });

    let broken =
        Failure { fault: Fault::Host, step: "restore".to_owned(), message: "no room".to_owned() };
    let failed = RestoreJobEvent::Failed { message: "no room".to_owned() };
    step(RestoreTestEvent::Broken(broken), vec![Change::StepRestoreJob(uuid(11), failed)]).await;
    let gone = RestoreJobEvent::Deletion { status: DeletionStatus::Successful, message: None };
    let verdict = PointVerdict::of(Verdict::Inconclusive, &uuid(10), at(21));
    let ended = step(
        RestoreTestEvent::Reaped { cleaned_up: true },
        vec![
            Change::StepRestoreJob(uuid(11), gone),
            Change::PointVerdict(point_arn(1), verdict.clone()),
            Change::PointVerdict(point_arn(99), verdict.clone()),
        ],
    )
    .await;
    assert_eq!(ended.verdict, Some(Verdict::Inconclusive));
    let restore = c.job::<RestoreJob>(&account(), &uuid(11)).await.unwrap().unwrap();
    assert_eq!(restore.state.as_str(), "FAILED");
    assert_eq!(restore.deletion, Some(DeletionStatus::Successful));
    assert_eq!(c.job_log(&account(), &uuid(11)).await.unwrap().len(), 2, "it has its own log");
    let point = c.recovery_point(&account(), &point_arn(1)).await.unwrap().unwrap();
    assert_eq!(point.last_verdict, Some(verdict));
}

pub async fn a_schedule_advances_once(w: &World) {
    let c = &w.catalog;
    let p = plan(1, "v1");
    let rule = p.rules[0].id.clone();
    let job = |n| (backup_job(n, n, at(0)), None);
    let start = Some(at(1));
    refused!(c.advance_schedule(&p, &rule, None, at(10), &[]), CatalogError::NotFound { .. });
    c.insert_plan(&p, &Tags::new()).await.unwrap();
    assert_eq!(c.schedule_mark(&p.id, &rule).await.unwrap(), start, "it begins with the plan");
    assert!(!c.advance_schedule(&p, &rule, None, at(10), &[job(1)]).await.unwrap());
    assert!(!c.advance_schedule(&p, &rule, Some(at(5)), at(10), &[job(1)]).await.unwrap());
    assert!(c.advance_schedule(&p, &rule, start, at(10), &[]).await.unwrap());
    let last = c.plan(&account(), &p.id, None).await.unwrap().unwrap().last_execution_at;
    assert_eq!(last, None, "nothing was executed");
    assert!(!c.advance_schedule(&p, &rule, start, at(20), &[job(1)]).await.unwrap());
    let missed = BackupJobEvent::Missed { occurrences: 7, first: at(2), last: at(9) };
    let both = [job(1), (backup_job(2, 2, at(0)), Some(missed))];
    assert!(c.advance_schedule(&p, &rule, Some(at(10)), at(20), &both).await.unwrap());
    assert!(!c.advance_schedule(&p, &rule, Some(at(10)), at(20), &[job(3)]).await.unwrap());
    let over = c.job::<BackupJob>(&account(), &uuid(2)).await.unwrap().unwrap();
    assert_eq!((over.state.as_str(), over.completed_at), ("EXPIRED", Some(at(20))));
    assert!(over.status_message.unwrap().starts_with("7 scheduled backups"));
    assert_eq!(c.job_log(&account(), &uuid(2)).await.unwrap().len(), 1);
    assert_eq!(c.schedule_mark(&p.id, &rule).await.unwrap(), Some(at(20)));
    let last = c.plan(&account(), &p.id, Some("v1")).await.unwrap().unwrap().last_execution_at;
    assert_eq!(last, Some(at(20)));
    // A job that cannot be inserted takes the mark and the other jobs back with it.
    let clash = [job(3), job(1)];
    refused!(
        c.advance_schedule(&p, &rule, Some(at(20)), at(30), &clash),
        CatalogError::AlreadyExists { .. }
    );
    assert_eq!(c.schedule_mark(&p.id, &rule).await.unwrap(), Some(at(20)));
    let jobs = c.list_jobs::<BackupJob>(&JobFilter::default(), Page::all()).await.unwrap();
    assert_eq!(jobs.items.len(), 2);
    // A new version begins with itself, and the old one is carried out no more.
    let new = BackupPlan { version_id: "v2".to_owned(), created_at: at(22), ..p.clone() };
    c.update_plan(&new).await.unwrap();
    assert_eq!(c.schedule_mark(&p.id, &rule).await.unwrap(), Some(at(22)));
    assert!(!c.advance_schedule(&p, &rule, Some(at(22)), at(30), &[job(3)]).await.unwrap());
    // Unless it has been carried out further than that.
    assert!(c.advance_schedule(&new, &rule, Some(at(22)), at(24), &[]).await.unwrap());
    let newer = BackupPlan { version_id: "v3".to_owned(), created_at: at(23), ..p.clone() };
    c.update_plan(&newer).await.unwrap();
    assert_eq!(c.schedule_mark(&p.id, &rule).await.unwrap(), Some(at(24)));
    c.delete_plan(&account(), &p.id, at(25)).await.unwrap();
    assert!(!c.advance_schedule(&newer, &rule, Some(at(24)), at(30), &[job(3)]).await.unwrap());
    assert!(!c.advance_schedule(&newer, &rule, None, at(30), &[job(3)]).await.unwrap());
}

pub async fn a_digest_collects_what_is_due_together(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    let t = topic("alerts");
    c.insert_topic(&t).await.unwrap();
    let digest = Subscription { digest_minutes: Some(10), ..subscription(1, &t) };
    c.insert_subscription(&digest).await.unwrap();
    c.insert_subscription(&subscription(2, &t)).await.unwrap();
    let setting = notifications(&t, &["BACKUP_JOB_STARTED"]);
    c.set_vault_notifications(&account(), "main", setting).await.unwrap();
    let happens = async |n: u32, now| {
        c.insert_job(&backup_job(n, n, now)).await.unwrap();
        let started = BackupJobEvent::Started;
        c.step_job::<BackupJob>(&account(), &uuid(n), None, started, now, vec![]).await.unwrap();
    };
    // Seconds; ten minutes are 600.
    for (n, now) in [(1, at(0)), (2, at(300)), (3, at(599)), (4, at(601))] {
        happens(n, now).await;
    }
    let mut due = Vec::new();
    for delivery in c.list_deliveries(&account(), None, None).await.unwrap() {
        if delivery.subscription_id == uuid(1) {
            due.push(delivery.next_attempt_at);
        } else {
            assert_eq!(delivery.next_attempt_at, delivery.created_at, "no digest, no wait");
        }
    }
    due.sort();
    assert_eq!(due, [at(600), at(600), at(600), at(1201)]);
    let nobody = c.claim_deliveries("none", "w", at(700), at(800), 9).await.unwrap();
    assert_eq!(nobody, []);
    let one = uuid(1);
    let claimed = c.claim_deliveries(&one, "w", at(700), at(800), 2).await.unwrap();
    assert_eq!(claimed.len(), 2, "as many as asked for");
    let rest = c.claim_deliveries(&one, "w", at(700), at(800), 9).await.unwrap();
    assert_eq!(rest.len(), 1, "what is not claimed and not too early");
    let ids: Vec<String> = claimed.into_iter().chain(rest).map(|d| d.id).collect();
    c.deliveries_succeeded(&ids, at(701)).await.unwrap();
    let delivered = Some(DeliveryState::Delivered);
    assert_eq!(c.list_deliveries(&account(), None, delivered).await.unwrap().len(), 3);
    let with_unknown = [c.list_deliveries(&account(), None, None).await.unwrap().pop().unwrap().id]
        .into_iter()
        .chain(["none".to_owned()])
        .collect::<Vec<_>>();
    refused!(c.deliveries_succeeded(&with_unknown, at(702)), CatalogError::NotFound { .. });
    let now = c.list_deliveries(&account(), None, delivered).await.unwrap().len();
    assert_eq!(now, 3, "together or not at all");
}
