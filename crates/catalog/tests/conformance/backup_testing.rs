//! What plans and selections say about tests after backups, and whose turn it is.

use provault_catalog::{CatalogError, Change, JobFilter, Page, TestingSettings};
use provault_domain::evidence::verify_chain;
use provault_domain::{
    BackupJob, BackupJobEvent, BackupTesting, RestoreTest, Tags, TestBudget, TestingScope, Verdict,
};

use crate::fixture::*;
use crate::nouns::refused;

fn quarter() -> BackupTesting {
    BackupTesting { share_percent: 25, ..BackupTesting::plain(true, at(5)) }
}

pub async fn a_setting_belongs_to_the_plan_and_goes_with_it(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    let first = plan(1, "v1");
    c.insert_plan(&first, &Tags::new()).await.unwrap();
    assert_eq!(c.plan_testing(&account(), &first.id).await.unwrap(), None);
    c.set_plan_testing(&account(), &first.id, Some(&quarter())).await.unwrap();
    c.update_plan(&plan(1, "v2")).await.unwrap();
    assert_eq!(c.plan_testing(&account(), &first.id).await.unwrap(), Some(quarter()));

    let chosen = selection(2, &first, "all");
    c.insert_selection(&chosen).await.unwrap();
    let off = BackupTesting::plain(false, at(6));
    let set = |plan: &str, id: &str| {
        let (plan, id, off) = (plan.to_owned(), id.to_owned(), off.clone());
        async move { c.set_selection_testing(&account(), &plan, &id, Some(&off)).await }
    };
    set(&first.id, &chosen.id).await.unwrap();
    assert_eq!(c.selection_testing(&account(), &chosen.id).await.unwrap(), Some(off.clone()));
    refused!(set(&uuid(99), &chosen.id), CatalogError::NotFound { .. });
    refused!(set(&first.id, &uuid(99)), CatalogError::NotFound { .. });
    let all = c.testing_settings(&account()).await.unwrap();
    assert_eq!(all.plans, [(first.id.clone(), quarter())].into());
    assert_eq!(all.selections, [(chosen.id.clone(), off.clone())].into());

    c.set_selection_testing(&account(), &first.id, &chosen.id, None).await.unwrap();
    assert_eq!(c.selection_testing(&account(), &chosen.id).await.unwrap(), None);
    set(&first.id, &chosen.id).await.unwrap();
    c.delete_selection(&account(), &first.id, &chosen.id).await.unwrap();
    assert_eq!(c.selection_testing(&account(), &chosen.id).await.unwrap(), None);
    c.delete_plan(&account(), &first.id, at(9)).await.unwrap();
    assert_eq!(c.testing_settings(&account()).await.unwrap(), TestingSettings::default());
    refused!(
        c.set_plan_testing(&account(), &first.id, Some(&quarter())),
        CatalogError::NotFound { .. }
    );
}

pub async fn of_four_points_one_is_tested_and_the_others_say_so(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    c.insert_resource(&resource(1, "r1"), "/srv/r1").await.unwrap();
    for n in 1..=6 {
        c.insert_job(&backup_job(n, 1, at(i64::from(n)))).await.unwrap();
        let started = BackupJobEvent::Started;
        c.step_job::<BackupJob>(&account(), &uuid(n), None, started, at(1), vec![]).await.unwrap();
        let test = RestoreTest {
            requested_point: Some(point_arn(n)),
            after_backup_job: Some(uuid(n)),
            budget: Some(TestBudget::of(
                &quarter(),
                TestingScope::Plan("p".to_owned()),
                "plan daily".to_owned(),
                at(1),
            )),
            ..restore_test(100 + n)
        };
        let changes = vec![
            Change::InsertRecoveryPoint(Box::new(point(n, 1, at(i64::from(n)))), Tags::new()),
            Change::TestAfterBackup(Box::new(test)),
        ];
        c.step_job::<BackupJob>(&account(), &uuid(n), None, completed(n), at(2), changes)
            .await
            .unwrap();
    }
    let tests = c.list_jobs::<RestoreTest>(&JobFilter::default(), Page::all()).await.unwrap().items;
    let left_out = |test: &RestoreTest| test.verdict == Some(Verdict::NotTested);
    let which: Vec<bool> = tests.iter().map(left_out).collect();
    assert_eq!(which, [false, true, true, true, false, true]);
    for (test, n) in tests.iter().zip(1..) {
        let found = c.recovery_point(&account(), &point_arn(n)).await.unwrap().unwrap();
        assert_eq!(found.is_left_out(), left_out(test), "{n}");
        if left_out(test) {
            let reason = test.reason.as_deref().unwrap();
            assert!(reason.contains("25 %") && reason.contains("plan daily"), "{reason}");
        }
    }
    // Each that was left out is in the evidence, and none of them is waited for.
    let evidence = c.list_evidence(&account()).await.unwrap();
    assert_eq!(evidence.len(), 4);
    verify_chain(&evidence).unwrap();
    assert!(evidence.iter().all(|record| record.body["verdict"] == "NOT_TESTED"));
    let open = JobFilter { unfinished_only: true, ..JobFilter::default() };
    assert_eq!(c.list_jobs::<RestoreTest>(&open, Page::all()).await.unwrap().items.len(), 2);
}
