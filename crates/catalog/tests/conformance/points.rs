//! Recovery points and the resources they protect.

use jiff::Timestamp;
use provault_catalog::{Catalog, CatalogError, Change, Page, PointFilter};
use provault_domain::backup_job::CreatedBy;
use provault_domain::{
    Arn, BackupJob, BackupJobEvent, Kind, Lifecycle, RecoveryPoint, RecoveryPointStatus, Tags,
};

use crate::fixture::*;
use crate::nouns::refused;

/// Puts a recovery point where only the completion of its backup job can put it.
pub async fn commit(c: &Catalog, job: u32, point: RecoveryPoint, tags: Tags) {
    let (account, id) = (account(), uuid(job));
    if c.job::<BackupJob>(&account, &id).await.unwrap().is_none() {
        c.insert_job(&backup_job(job, 1, at(0))).await.unwrap();
    }
    c.step_job::<BackupJob>(&account, &id, None, BackupJobEvent::Started, at(1), vec![])
        .await
        .unwrap();
    let changes = vec![Change::InsertRecoveryPoint(Box::new(point), tags)];
    c.step_job::<BackupJob>(&account, &id, None, completed(job), at(2), changes).await.unwrap();
}

pub async fn make(c: &Catalog, n: u32, of: u32, created: Timestamp) {
    commit(c, n, point(n, of, created), Tags::new()).await;
}

async fn found(c: &Catalog, filter: PointFilter) -> Vec<Arn> {
    let listed = c.list_recovery_points(&filter, Page::all()).await.unwrap();
    listed.items.into_iter().map(|point| point.arn).collect()
}

pub async fn points_are_found_and_removed(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    make(c, 1, 1, at(10)).await;
    let by = CreatedBy {
        plan_id: uuid(70),
        plan_arn: Arn::backup_plan(&region(), &account(), &uuid(70)),
        plan_name: "daily".to_owned(),
        plan_version: "v1".to_owned(),
        rule_id: uuid(71),
        rule_name: "daily".to_owned(),
        rule_cron: "cron(0 5 ? * * *)".to_owned(),
        rule_timezone: "Etc/UTC".to_owned(),
        selection_id: None,
    };
    let planned = RecoveryPoint { created_by: Some(by), ..point(2, 2, at(20)) };
    commit(c, 2, planned.clone(), tags(&[("a", "1")])).await;
    // Captured last, although its job is the oldest; kept for ever.
    let late = RecoveryPoint {
        captured_at: at(99),
        lifecycle: Lifecycle::default(),
        ..point(3, 1, at(5))
    };
    commit(c, 3, late.clone(), Tags::new()).await;

    let mine = PointFilter { account: Some(account()), ..PointFilter::default() };
    let p = |n| point_arn(n);
    assert_eq!(found(c, mine.clone()).await, [p(3), p(1), p(2)]);
    assert_eq!(found(c, PointFilter::default()).await, [p(3), p(1), p(2)]);
    let with = |f: fn(&mut PointFilter)| {
        let mut filter = mine.clone();
        f(&mut filter);
        filter
    };
    assert_eq!(found(c, with(|f| f.resource_arn = Some(resource_arn(1)))).await, [p(3), p(1)]);
    assert_eq!(found(c, with(|f| f.vault_name = Some("none".to_owned()))).await, []);
    assert_eq!(found(c, with(|f| f.plan_id = Some(uuid(70)))).await, [p(2)]);
    assert_eq!(found(c, with(|f| f.kind = Some(Kind::Filesystem))).await.len(), 3);
    assert_eq!(found(c, with(|f| f.created_after = Some(at(10)))).await, [p(1), p(2)]);
    assert_eq!(found(c, with(|f| f.created_before = Some(at(10)))).await, [p(3), p(1)]);
    assert_eq!(found(c, with(|f| f.account = Some(other_account()))).await, []);

    assert_eq!(c.recovery_point(&account(), &p(2)).await.unwrap(), Some(planned));
    assert_eq!(c.recovery_point(&other_account(), &p(2)).await.unwrap(), None);
    assert_eq!(c.tags(&p(2)).await.unwrap(), tags(&[("a", "1")]));
    let newest = c.newest_recovery_point(&account(), &resource_arn(1), at(100_000)).await.unwrap();
    assert_eq!(newest, Some(late), "newest is the newest data, not the newest job");

    let day = 86_400;
    let due = |n| (account(), resource_arn(n));
    assert!(c.resources_with_due_points(at(day + 9)).await.unwrap().is_empty());
    assert_eq!(c.resources_with_due_points(at(day + 10)).await.unwrap(), [due(1)]);
    assert_eq!(c.resources_with_due_points(at(day + 20)).await.unwrap(), [due(1), due(2)]);

    refused!(c.remove_recovery_point(&p(2)), CatalogError::Conflict { .. });
    let deleting = RecoveryPointStatus::Deleting;
    c.begin_deletion(&account(), &p(2)).await.unwrap();
    assert_eq!(found(c, with(|f| f.restorable_only = true)).await, [p(3), p(1)]);
    assert_eq!(
        c.newest_recovery_point(&account(), &resource_arn(2), at(100_000)).await.unwrap(),
        None
    );
    let doomed = c.points_with_status(deleting).await.unwrap();
    assert_eq!(doomed.len(), 1);
    c.remove_recovery_point(&p(2)).await.unwrap();
    assert_eq!(c.tags(&p(2)).await.unwrap(), Tags::new());
    refused!(c.remove_recovery_point(&p(2)), CatalogError::NotFound { .. });
    refused!(c.begin_deletion(&account(), &p(2)), CatalogError::NotFound { .. });
}

pub async fn protected_resources_follow_their_points(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    assert_eq!(c.protected_resource(&account(), &resource_arn(1)).await.unwrap(), None);
    make(c, 1, 1, at(10)).await;
    make(c, 2, 2, at(20)).await;
    make(c, 3, 1, at(30)).await;
    let listed = c.list_protected_resources(&account(), Page::first(1)).await.unwrap();
    assert_eq!(listed.items[0].resource_arn, resource_arn(1));
    assert_eq!(listed.items[0].last_recovery_point_arn, point_arn(3));
    assert_eq!(listed.items[0].last_backup_at, at(35));
    let page = Page { after: listed.next, limit: 9 };
    let rest = c.list_protected_resources(&account(), page).await.unwrap();
    assert_eq!(rest.items.len(), 1);
    assert_eq!(rest.items[0].resource_arn, resource_arn(2));

    for (n, left) in [(3, Some(point_arn(1))), (1, None)] {
        c.begin_deletion(&account(), &point_arn(n)).await.unwrap();
        c.remove_recovery_point(&point_arn(n)).await.unwrap();
        let now = c.protected_resource(&account(), &resource_arn(1)).await.unwrap();
        assert_eq!(now.map(|p| p.last_recovery_point_arn), left);
    }
}
