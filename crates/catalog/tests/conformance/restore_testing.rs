//! Restore testing plans, their selections, and what they make.

use provault_catalog::{Catalog, CatalogError, JobFilter, Page};
use provault_domain::restore_testing_plan::{PointAlgorithm, PointSelection, PointType};
use provault_domain::{
    Arn, Kind, PlannedTest, RestoreJob, RestoreTest, RestoreTestingPlan, RestoreTestingSelection,
    Tags,
};

use crate::fixture::*;
use crate::nouns::refused;
use crate::races::servers;

fn testing_plan(n: u32, name: &str) -> RestoreTestingPlan {
    RestoreTestingPlan {
        name: name.to_owned(),
        arn: Arn::restore_testing_plan(&region(), &account(), name, &uuid(n)),
        account: account(),
        region: region(),
        schedule: "cron(0 5 ? * * *)".parse().unwrap(),
        timezone: "Etc/UTC".to_owned(),
        start_window_hours: 24,
        points: PointSelection {
            algorithm: PointAlgorithm::Random,
            include_vaults: vec!["*".to_owned()],
            exclude_vaults: Vec::new(),
            types: vec![PointType::Snapshot],
            window_days: 30,
        },
        creator_request_id: Some(format!("request-{n}")),
        created_at: at(i64::from(n)),
        updated_at: None,
        scheduled_since: None,
        last_execution_at: None,
    }
}

fn testing_selection(n: u32, plan: &RestoreTestingPlan, name: &str) -> RestoreTestingSelection {
    RestoreTestingSelection {
        name: name.to_owned(),
        account: account(),
        plan_arn: plan.arn.clone(),
        plan_name: plan.name.clone(),
        role_arn: role().arn,
        kind: Kind::Filesystem,
        resource_arns: vec!["*".to_owned()],
        conditions: provault_domain::selection::Conditions::default(),
        metadata_overrides: [("Encrypted".to_owned(), "false".to_owned())].into(),
        validation_window_hours: n,
        creator_request_id: Some(format!("request-{n}")),
        created_at: at(i64::from(n)),
        updated_at: None,
    }
}

fn planned(n: u32, plan: &RestoreTestingPlan) -> RestoreTest {
    RestoreTest {
        planned: Some(PlannedTest {
            plan_arn: plan.arn.clone(),
            plan_name: plan.name.clone(),
            selection_name: "all".to_owned(),
            start_by: at(1000),
            role_arn: role().arn,
            metadata_overrides: std::collections::BTreeMap::new(),
            validation_window_hours: n,
            missed: None,
        }),
        ..restore_test(n)
    }
}

async fn mark_of(c: &Catalog, plan: &RestoreTestingPlan) -> Option<jiff::Timestamp> {
    let all = c.all_restore_testing_plans().await.unwrap();
    all.into_iter().find(|(other, _)| other.arn == plan.arn).map(|(_, mark)| mark)
}

pub async fn restore_testing_plans_are_named_once(w: &World) {
    let c = &w.catalog;
    let none = Tags::new();
    let first = testing_plan(1, "weekly");
    c.insert_restore_testing_plan(&first, &tags(&[("a", "1")])).await.unwrap();
    assert_eq!(c.tags(&first.arn).await.unwrap(), tags(&[("a", "1")]));
    refused!(
        c.insert_restore_testing_plan(&testing_plan(2, "weekly"), &none),
        CatalogError::AlreadyExists { .. }
    );
    let same_request = RestoreTestingPlan {
        creator_request_id: first.creator_request_id.clone(),
        ..testing_plan(3, "daily")
    };
    refused!(
        c.insert_restore_testing_plan(&same_request, &none),
        CatalogError::AlreadyExists { .. }
    );
    let second = testing_plan(4, "daily");
    c.insert_restore_testing_plan(&second, &none).await.unwrap();

    assert_eq!(c.restore_testing_plan(&account(), "weekly").await.unwrap(), Some(first.clone()));
    assert_eq!(c.restore_testing_plan(&other_account(), "weekly").await.unwrap(), None);
    let by_arn = c.restore_testing_plan_by_arn(&account(), &second.arn).await.unwrap();
    assert_eq!(by_arn, Some(second.clone()));
    let by_request = c.restore_testing_plan_by_request_id(&account(), "request-1").await.unwrap();
    assert_eq!(by_request, Some(first.clone()));
    let page = c.list_restore_testing_plans(&account(), Page::first(1)).await.unwrap();
    assert_eq!(page.items, std::slice::from_ref(&first));
    let rest = Page { after: page.next, limit: 9 };
    let rest = c.list_restore_testing_plans(&account(), rest).await.unwrap();
    assert_eq!((rest.items, rest.next), (vec![second.clone()], None));

    // A new window moves nothing; a new schedule counts from the change.
    let wider = RestoreTestingPlan { start_window_hours: 48, ..first.clone() };
    c.update_restore_testing_plan(&first, &wider, at(50)).await.unwrap();
    assert_eq!(mark_of(c, &first).await, Some(at(1)));
    refused!(c.update_restore_testing_plan(&first, &wider, at(50)), CatalogError::Conflict { .. });
    let hourly = RestoreTestingPlan {
        schedule: "cron(0 * ? * * *)".parse().unwrap(),
        updated_at: Some(at(60)),
        ..wider.clone()
    };
    c.update_restore_testing_plan(&wider, &hourly, at(60)).await.unwrap();
    assert_eq!(mark_of(c, &first).await, Some(at(60)));
    assert_eq!(c.restore_testing_plan(&account(), "weekly").await.unwrap(), Some(hourly));

    c.delete_restore_testing_plan(&account(), "weekly").await.unwrap();
    refused!(c.delete_restore_testing_plan(&account(), "weekly"), CatalogError::NotFound { .. });
    assert_eq!(c.tags(&first.arn).await.unwrap(), none, "its tags go with it");
    c.insert_restore_testing_plan(&testing_plan(5, "weekly"), &none).await.unwrap();
}

pub async fn restore_testing_selections_belong_to_a_plan(w: &World) {
    let c = &w.catalog;
    c.insert_role(&role()).await.unwrap();
    let plan = testing_plan(1, "weekly");
    let first = testing_selection(2, &plan, "all");
    refused!(c.insert_restore_testing_selection(&first), CatalogError::NotFound { .. });
    c.insert_restore_testing_plan(&plan, &Tags::new()).await.unwrap();
    c.insert_restore_testing_selection(&first).await.unwrap();
    refused!(
        c.insert_restore_testing_selection(&testing_selection(3, &plan, "all")),
        CatalogError::AlreadyExists { .. }
    );
    refused!(
        c.insert_restore_testing_selection(&testing_selection(2, &plan, "other")),
        CatalogError::AlreadyExists { .. }
    );
    let second = testing_selection(4, &plan, "other");
    c.insert_restore_testing_selection(&second).await.unwrap();
    let found = c.restore_testing_selection(&plan.arn, "all").await.unwrap();
    assert_eq!(found, Some(first.clone()));
    let found = c.restore_testing_selection_by_request_id(&plan.arn, "request-4").await.unwrap();
    assert_eq!(found, Some(second.clone()));
    let listed = c.list_restore_testing_selections(&plan.arn, Page::first(1)).await.unwrap();
    assert_eq!(listed.items, std::slice::from_ref(&first));
    assert!(listed.next.is_some());

    let changed = RestoreTestingSelection {
        resource_arns: vec![resource_arn(1).to_string()],
        ..first.clone()
    };
    c.update_restore_testing_selection(&first, &changed).await.unwrap();
    refused!(c.update_restore_testing_selection(&first, &changed), CatalogError::Conflict { .. });
    let found = c.restore_testing_selection(&plan.arn, "all").await.unwrap();
    assert_eq!(found, Some(changed));

    refused!(c.delete_restore_testing_plan(&account(), "weekly"), CatalogError::NotEmpty { .. });
    refused!(c.delete_role(&role().arn), CatalogError::NotEmpty { .. });
    for name in ["all", "other"] {
        c.delete_restore_testing_selection(&plan.arn, name).await.unwrap();
    }
    refused!(c.delete_restore_testing_selection(&plan.arn, "all"), CatalogError::NotFound { .. });
    // A test of the plan that has not ended holds the role as well.
    c.insert_job(&planned(7, &plan)).await.unwrap();
    refused!(c.delete_role(&role().arn), CatalogError::NotEmpty { .. });
    c.delete_restore_testing_plan(&account(), "weekly").await.unwrap();
}

pub async fn restore_testing_advances_once(w: &World) {
    let c = &w.catalog;
    let plan = testing_plan(1, "weekly");
    let advance = |from, to, tests: Vec<RestoreTest>| {
        let arn = plan.arn.clone();
        async move { c.advance_restore_testing(&arn, from, to, &tests).await }
    };
    assert!(!advance(at(1), at(10), vec![]).await.unwrap(), "there is no such plan");
    c.insert_restore_testing_plan(&plan, &Tags::new()).await.unwrap();
    assert!(!advance(at(5), at(10), vec![planned(1, &plan)]).await.unwrap());
    assert!(advance(at(1), at(10), vec![]).await.unwrap());
    let last = || async {
        c.restore_testing_plan(&account(), "weekly").await.unwrap().unwrap().last_execution_at
    };
    assert_eq!(last().await, None, "nothing was executed");
    let both = vec![planned(1, &plan), planned(2, &plan)];
    assert!(advance(at(10), at(20), both).await.unwrap());
    assert!(!advance(at(10), at(20), vec![planned(3, &plan)]).await.unwrap());
    assert_eq!(mark_of(c, &plan).await, Some(at(20)));
    assert_eq!(last().await, Some(at(20)));
    // A test that cannot be inserted takes the mark and the other tests back with it.
    refused!(
        advance(at(20), at(30), vec![planned(3, &plan), planned(1, &plan)]),
        CatalogError::AlreadyExists { .. }
    );
    assert_eq!(mark_of(c, &plan).await, Some(at(20)));
    c.insert_job(&restore_test(9)).await.unwrap();
    let filter = JobFilter {
        account: Some(account()),
        testing_plan_arn: Some(plan.arn.clone()),
        ..JobFilter::default()
    };
    let made = c.list_jobs::<RestoreTest>(&filter, Page::all()).await.unwrap();
    assert_eq!(made.items, [planned(1, &plan), planned(2, &plan)]);
    let restore =
        RestoreJob { testing_plan_arn: Some(plan.arn.clone()), ..restore_job(10, Some("token-1")) };
    c.insert_job(&restore).await.unwrap();
    c.insert_job(&restore_job(11, None)).await.unwrap();
    let restores = c.list_jobs::<RestoreJob>(&filter, Page::all()).await.unwrap();
    assert_eq!(restores.items, [restore]);
}

pub async fn restore_testing_advances_once_among_servers(w: &World) {
    let plan = testing_plan(1, "weekly");
    w.catalog.insert_restore_testing_plan(&plan, &Tags::new()).await.unwrap();
    let won = servers(w, 8, |server, c| {
        let plan = plan.clone();
        async move {
            let tests = [planned(100 + server, &plan)];
            let moved = c.advance_restore_testing(&plan.arn, at(1), at(2), &tests).await;
            u32::from(moved.unwrap())
        }
    })
    .await;
    assert_eq!(won.into_iter().sum::<u32>(), 1);
    let all = JobFilter::default();
    let made = w.catalog.list_jobs::<RestoreTest>(&all, Page::all()).await.unwrap();
    assert_eq!(made.items.len(), 1);
}
