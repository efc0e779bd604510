//! Wrong clocks, plans that are replaced, and tests that are owed.

use provault_domain::backup_job::CreatedBy;
use provault_domain::protection::{DueTest, newest_due_test};
use provault_domain::restore_testing_plan::{PointAlgorithm, PointSelection, PointType};
use provault_domain::{RestoreTestingPlan, RestoreTestingSelection};

use super::*;

#[test]
fn a_point_from_the_future_silences_nothing() {
    let resource = Resource { rpo_seconds: Some(86_400), ..resource() };
    let now = at("2026-03-01T00:00:00Z");
    let (real, ahead) = (point(now - hours(30)), point(now + hours(9000)));
    let observed = Observed { newest: Some(&real), future: Some(&ahead), ..NOTHING };
    let answer = assess(&resource, &observed, now);
    assert_eq!(answer.protection, Protection::Overdue);
    assert_eq!(kinds(&answer), [ResourceTrouble::Overdue, ResourceTrouble::ClockWrong]);
    assert!(answer.troubles[1].1.contains(ahead.arn.as_str()), "{:?}", answer.troubles);
    let ahead = Resource { created_at: now + hours(9000), ..resource };
    let answer = assess(&ahead, &Observed { selected: true, ..NOTHING }, now);
    assert_eq!(kinds(&answer), [ResourceTrouble::ClockWrong]);
    // Some seconds are an adjusted clock.
    assert!(!point(now + SignedDuration::from_secs(60)).is_from_the_future(now));
    assert!(point(now + SignedDuration::from_secs(61)).is_from_the_future(now));
}

#[test]
fn what_was_made_in_the_future_owes_what_is_due_all_the_same() {
    let now = at("2026-02-01T20:00:00Z");
    let ahead = at("2027-02-01T00:00:00Z");
    let today = Some(at("2026-02-01T05:00:00Z"));
    let ask = |plan: BackupPlan, selection: BackupSelection, resource: Resource| {
        let due = newest_due(&resource, None, &[(plan, vec![selection])], now).unwrap().1;
        due.map(|due| due.at)
    };
    let plan = daily();
    let selection = all_of(&plan);
    let newer = BackupPlan { created_at: ahead, ..plan.clone() };
    assert_eq!(ask(newer, selection.clone(), resource()), today);
    let chosen = BackupSelection { created_at: ahead, ..selection.clone() };
    assert_eq!(ask(plan.clone(), chosen, resource()), today);
    let registered = Resource { created_at: ahead, ..resource() };
    assert_eq!(ask(plan.clone(), selection.clone(), registered), today);
    // Of a schedule that comes once in four years, too.
    let mut seldom = BackupPlan { created_at: ahead, ..plan };
    seldom.rules[0].schedule = "cron(0 5 29 2 ? *)".parse().unwrap();
    let (selection, resource) = (
        BackupSelection { created_at: ahead, ..selection },
        Resource { created_at: ahead, ..resource() },
    );
    assert_eq!(ask(seldom, selection, resource), Some(at("2024-02-29T05:00:00Z")));
}

#[test]
fn a_plan_or_selection_that_is_replaced_wipes_no_debt() {
    let (made, now) = (at("2026-02-01T06:00:00Z"), at("2026-02-01T20:00:00Z"));
    let today = at("2026-02-01T05:00:00Z");
    let old = daily();
    let mut plan = BackupPlan { created_at: made, version_id: "v2".to_owned(), ..daily() };
    plan.goes_on_from(&old);
    let due = |newest: Option<&RecoveryPoint>, selection: &BackupSelection| {
        let plans = [(plan.clone(), vec![selection.clone()])];
        newest_due(&resource(), newest, &plans, now).unwrap().1.map(|due| due.at)
    };
    assert_eq!(due(None, &all_of(&old)), Some(today), "an identical version");
    let selection = BackupSelection { created_at: made, ..all_of(&plan) };
    assert_eq!(due(None, &selection), None, "it was not selected before");
    let by = CreatedBy {
        plan_id: plan.id.clone(),
        plan_arn: plan.arn.clone(),
        plan_name: plan.name.clone(),
        plan_version: "v1".to_owned(),
        rule_id: "rule".to_owned(),
        rule_name: "daily".to_owned(),
        rule_cron: String::new(),
        rule_timezone: String::new(),
        selection_id: None,
    };
    let mut before = point(at("2026-01-20T05:00:10Z"));
    assert_eq!(due(Some(&before), &selection), None, "by somebody else");
    before.created_by = Some(by);
    assert_eq!(due(Some(&before), &selection), Some(today), "it was");
}

#[test]
fn a_plan_that_never_comes_again_protects_nothing() {
    let mut plan = daily();
    plan.rules[0].schedule = "cron(0 5 1 1 ? 2026)".parse().unwrap();
    let plans = [(plan.clone(), vec![all_of(&plan)])];
    let ask = |now: &str| newest_due(&resource(), None, &plans, at(now)).unwrap();
    assert!(ask("2026-01-01T04:00:00Z").0);
    let (selected, due) = ask("2026-01-01T20:00:00Z");
    assert!(!selected);
    assert!(due.is_some(), "what it owes it owes");
}

fn told(verdict: Verdict, when: Timestamp) -> PointVerdict {
    PointVerdict::of(verdict, "test", when)
}

#[test]
fn a_test_that_failed_stays_trouble_until_one_passes() {
    let taken = at("2026-01-02T05:00:00Z");
    let newer = point(taken + hours(24));
    let ask = |last: PointVerdict| {
        let observed =
            Observed { selected: true, newest: Some(&newer), last_test: Some(&last), ..NOTHING };
        kinds(&assess(&resource(), &observed, taken + hours(25)))
    };
    assert_eq!(ask(told(Verdict::Failed, taken)), [ResourceTrouble::TestFailed]);
    // Also one that ended before it had chosen a point.
    assert_eq!(ask(told(Verdict::Inconclusive, taken)), [ResourceTrouble::TestFailed]);
    assert_eq!(ask(told(Verdict::Passed, taken)), []);
}

#[test]
fn daily_backups_without_a_test_are_trouble_although_the_newest_is_young() {
    let (resource, tested_since) = (resource(), Some(at("2026-01-01T00:00:00Z")));
    let now = at("2026-01-10T06:00:00Z");
    let newest = point(now - hours(1));
    let last = told(Verdict::Passed, now - hours(49));
    let ask = |untested_since, testing| {
        let observed = Observed {
            selected: true,
            newest: Some(&newest),
            last_test: Some(&last),
            tested_since,
            untested_since: Some(untested_since),
            testing,
            ..NOTHING
        };
        kinds(&assess(&resource, &observed, now))
    };
    assert_eq!(ask(now - hours(24), false), []);
    assert_eq!(ask(now - hours(25), false), [ResourceTrouble::NotTested]);
    assert_eq!(ask(now - hours(25), true), [], "one is at work");
}

fn weekly_tests() -> (RestoreTestingPlan, Vec<RestoreTestingSelection>) {
    let (account, created_at) = (ACCOUNT.parse().unwrap(), at("2026-01-01T00:00:00Z"));
    let plan = RestoreTestingPlan {
        name: "weekly".to_owned(),
        arn: arn("restore-testing-plan:weekly"),
        account,
        region: "us-east-1".parse().unwrap(),
        // Every Monday; the fifth of January is one.
        schedule: "cron(0 5 ? * MON *)".parse().unwrap(),
        timezone: "Etc/UTC".to_owned(),
        start_window_hours: 24,
        points: PointSelection {
            algorithm: PointAlgorithm::Latest,
            include_vaults: vec!["*".to_owned()],
            exclude_vaults: Vec::new(),
            types: vec![PointType::Snapshot],
            window_days: 30,
        },
        creator_request_id: None,
        created_at,
        updated_at: None,
        scheduled_since: None,
        last_execution_at: None,
    };
    let selection = RestoreTestingSelection {
        name: "all".to_owned(),
        account: plan.account.clone(),
        plan_arn: plan.arn.clone(),
        plan_name: plan.name.clone(),
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/backup").parse().unwrap(),
        kind: Kind::Filesystem,
        resource_arns: vec!["*".to_owned()],
        conditions: Conditions::default(),
        metadata_overrides: BTreeMap::new(),
        validation_window_hours: 0,
        creator_request_id: None,
        created_at,
        updated_at: None,
    };
    (plan, vec![selection])
}

#[test]
fn a_restore_testing_plan_owes_its_tests() {
    let newest = point(at("2026-01-13T05:00:00Z"));
    let ask = |first: Option<&str>, now: &str, change: fn(&mut RestoreTestingPlan)| {
        let mut plans = [weekly_tests()];
        change(&mut plans[0].0);
        let first = first.map(at);
        let due = newest_due_test(&resource(), Some(&newest), first, &plans, at(now)).unwrap();
        due.map(|due| due.at)
    };
    let (first, monday) = (Some("2026-01-02T05:00:00Z"), at("2026-01-05T05:00:00Z"));
    // The start window and a day for the test itself.
    assert_eq!(ask(first, "2026-01-07T04:59:59Z", |_| {}), None);
    assert_eq!(ask(first, "2026-01-07T05:00:00Z", |_| {}), Some(monday));
    assert_eq!(ask(first, "2026-01-14T06:00:00Z", |_| {}), Some(at("2026-01-12T05:00:00Z")));
    let later = Some("2026-01-05T06:00:00Z");
    assert_eq!(ask(later, "2026-01-07T06:00:00Z", |_| {}), None, "there was nothing to test");
    assert_eq!(ask(None, "2026-01-07T06:00:00Z", |_| {}), None);
    let elsewhere =
        |plan: &mut RestoreTestingPlan| plan.points.exclude_vaults = vec!["*".to_owned()];
    assert_eq!(ask(first, "2026-01-07T06:00:00Z", elsewhere), None);
    let rescheduled =
        |plan: &mut RestoreTestingPlan| plan.scheduled_since = Some(at("2026-01-06T00:00:00Z"));
    assert_eq!(ask(first, "2026-01-07T06:00:00Z", rescheduled), None);

    let due = DueTest { at: monday, plan: "weekly".to_owned() };
    let judged = |last: Option<&PointVerdict>, testing| {
        let observed = Observed {
            selected: true,
            newest: Some(&newest),
            test_due: Some(&due),
            last_test: last,
            testing,
            ..NOTHING
        };
        kinds(&assess(&resource(), &observed, at("2026-01-13T06:00:00Z")))
    };
    assert_eq!(judged(None, false), [ResourceTrouble::NotTested]);
    assert_eq!(judged(None, true), []);
    let before = told(Verdict::Passed, monday - hours(1));
    assert_eq!(judged(Some(&before), false), [ResourceTrouble::NotTested]);
    assert_eq!(judged(Some(&told(Verdict::Passed, monday + hours(1))), false), []);
}

#[test]
fn an_exemption_hides_what_is_absent_and_not_what_is_wrong() {
    let now = at("2026-02-01T00:00:00Z");
    let exempt = exemption(now + hours(24));
    let resource = Resource { rpo_seconds: Some(60), ..resource() };
    let condition = PointCondition {
        trouble: PointTrouble::Damaged,
        since: now,
        message: "it is hurt.".to_owned(),
        restore_test_id: None,
    };
    let hurt = RecoveryPoint { condition: Some(condition), ..point(now - hours(100)) };
    let failed = told(Verdict::Failed, now - hours(99));
    let observed = Observed {
        newest: Some(&hurt),
        last_test: Some(&failed),
        tested_since: Some(at("2026-01-01T00:00:00Z")),
        untested_since: Some(now - hours(98)),
        exemption: Some(&exempt),
        ..NOTHING
    };
    let answer = assess(&resource, &observed, now);
    assert_eq!(answer.protection, Protection::Exempt);
    assert_eq!(kinds(&answer), [ResourceTrouble::Damaged, ResourceTrouble::TestFailed]);
    let without = assess(&resource, &Observed { exemption: None, ..observed }, now);
    assert_eq!(without.troubles.len(), 4);
}
