//! What is overdue, unprotected or untested, and from which moment on.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

mod owed;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use provault_domain::protection::{Assessment, Due, Observed, assess, newest_due};
use provault_domain::recovery_point::{PointCondition, PointTrouble, PointVerdict};
use provault_domain::retention::Shrunk;
use provault_domain::selection::Conditions;
use provault_domain::{
    Arn, BackupPlan, BackupRule, BackupSelection, Exemption, Kind, Lifecycle, Payload, Protection,
    RecoveryPoint, RecoveryPointStatus, Resource, ResourceTrouble, RetentionSettings, Tags,
    Verdict,
};

const ACCOUNT: &str = "111122223333";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hours(n: i64) -> SignedDuration {
    SignedDuration::from_hours(n)
}

fn arn(rest: &str) -> Arn {
    format!("arn:aws:backup:us-east-1:{ACCOUNT}:{rest}").parse().unwrap()
}

/// Registered on the first of January.
fn resource() -> Resource {
    let (region, account) = ("us-east-1".parse().unwrap(), ACCOUNT.parse().unwrap());
    Resource {
        arn: Arn::resource_of(Kind::Filesystem, &region, &account, "00000000000000001"),
        account,
        region,
        kind: Kind::Filesystem,
        name: "notes".to_owned(),
        config: serde_json::Value::Null,
        tags: Tags::from([("backup".to_owned(), "daily".to_owned())]),
        service: None,
        probes: Vec::new(),
        rpo_seconds: None,
        rto_seconds: None,
        testing: None,
        retention: RetentionSettings::default(),
        created_at: at("2026-01-01T00:00:00Z"),
        imported: false,
    }
}

fn point(captured: Timestamp) -> RecoveryPoint {
    let resource = resource();
    RecoveryPoint {
        arn: arn("recovery-point:1"),
        account: resource.account,
        region: resource.region,
        vault_name: "main".to_owned(),
        vault_arn: arn("backup-vault:main"),
        resource_arn: resource.arn,
        resource_name: resource.name,
        kind: resource.kind,
        backup_job_id: "job".to_owned(),
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/backup").parse().unwrap(),
        created_by: None,
        encryption_key_arn: format!("arn:aws:kms:us-east-1:{ACCOUNT}:key/1").parse().unwrap(),
        status: RecoveryPointStatus::Completed,
        status_message: None,
        captured_at: captured,
        created_at: captured,
        completed_at: captured,
        backup_size_bytes: 1,
        lifecycle: Lifecycle::default(),
        payload: Payload::Stored {
            snapshot_id: "0".repeat(64),
            tree_path: "/srv".to_owned(),
            bytes_stored: 1,
            files: 1,
        },
        restore_metadata: BTreeMap::new(),
        last_restore_at: None,
        last_verdict: None,
        condition: None,
        shrunk: None,
        hold: None,
    }
}

/// Daily at 05:00 UTC with eight hours to start.
fn daily() -> BackupPlan {
    BackupPlan {
        id: "plan".to_owned(),
        arn: arn("backup-plan:plan"),
        account: ACCOUNT.parse().unwrap(),
        name: "nightly".to_owned(),
        version_id: "v1".to_owned(),
        rules: vec![BackupRule {
            id: "rule".to_owned(),
            name: "daily".to_owned(),
            target_vault: "main".to_owned(),
            schedule: "cron(0 5 ? * * *)".parse().unwrap(),
            timezone: "Etc/UTC".to_owned(),
            start_window_minutes: 480,
            completion_window_minutes: 10_080,
            lifecycle: Lifecycle::default(),
            recovery_point_tags: Tags::new(),
            since: None,
        }],
        creator_request_id: None,
        created_at: at("2026-01-01T00:00:00Z"),
        deleted_at: None,
        last_execution_at: None,
    }
}

fn all_of(plan: &BackupPlan) -> BackupSelection {
    BackupSelection {
        id: "selection".to_owned(),
        account: plan.account.clone(),
        plan_id: plan.id.clone(),
        name: "all".to_owned(),
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/backup").parse().unwrap(),
        resources: vec!["*".to_owned()],
        not_resources: Vec::new(),
        list_of_tags: Vec::new(),
        conditions: Conditions::default(),
        creator_request_id: None,
        created_at: plan.created_at,
    }
}

const NOTHING: Observed<'_> = Observed {
    selected: false,
    due: None,
    newest: None,
    future: None,
    backing_up_since: None,
    tested_since: None,
    testing: false,
    last_test: None,
    untested_since: None,
    test_due: None,
    exemption: None,
};

fn kinds(answer: &Assessment) -> Vec<ResourceTrouble> {
    answer.troubles.iter().map(|(kind, _)| *kind).collect()
}

fn due_at(now: &str) -> Option<Timestamp> {
    let plan = daily();
    let plans = [(plan.clone(), vec![all_of(&plan)])];
    let (selected, due) = newest_due(&resource(), None, &plans, at(now)).unwrap();
    assert!(selected);
    due.map(|due| due.at)
}

#[test]
fn a_backup_is_owed_when_its_start_window_has_closed() {
    assert_eq!(due_at("2026-01-01T12:59:59Z"), None, "it may still begin");
    assert_eq!(due_at("2026-01-01T13:00:00Z"), Some(at("2026-01-01T05:00:00Z")));
    assert_eq!(due_at("2026-01-02T04:00:00Z"), Some(at("2026-01-01T05:00:00Z")));
    // Also of a schedule that has been quiet for long.
    assert_eq!(due_at("2027-03-04T12:00:00Z"), Some(at("2027-03-03T05:00:00Z")));
    let mut plan = daily();
    plan.rules[0].schedule = "cron(0 5 1 1 ? *)".parse().unwrap();
    let plans = [(plan.clone(), vec![all_of(&plan)])];
    let (_, due) = newest_due(&resource(), None, &plans, at("2029-12-31T00:00:00Z")).unwrap();
    assert_eq!(due.unwrap().at, at("2029-01-01T05:00:00Z"));
    let mut seldom = plan.clone();
    seldom.rules[0].schedule = "cron(0 5 29 2 ? *)".parse().unwrap();
    let plans = [(seldom.clone(), vec![all_of(&seldom)])];
    let (_, due) = newest_due(&resource(), None, &plans, at("2031-12-31T00:00:00Z")).unwrap();
    assert_eq!(due.unwrap().at, at("2028-02-29T05:00:00Z"));
}

#[test]
fn what_was_due_before_anybody_asked_for_it_is_no_debt() {
    let now = at("2026-02-01T20:00:00Z");
    let plan = daily();
    let ask = |plan: &BackupPlan, selection: BackupSelection, resource: &Resource| {
        newest_due(resource, None, &[(plan.clone(), vec![selection])], now).unwrap().1
    };
    let late = at("2026-02-01T06:00:00Z");
    let newer = BackupPlan { created_at: late, ..plan.clone() };
    assert_eq!(ask(&newer, all_of(&plan), &resource()), None);
    let selection = BackupSelection { created_at: late, ..all_of(&plan) };
    assert_eq!(ask(&plan, selection, &resource()), None);
    let registered = Resource { created_at: late, ..resource() };
    assert_eq!(ask(&plan, all_of(&plan), &registered), None);
    assert!(ask(&plan, all_of(&plan), &resource()).is_some());
    // A selection for others is none.
    let others = BackupSelection {
        resources: vec!["arn:aws:elasticfilesystem:us-east-1:1:file-system/fs-x".to_owned()],
        ..all_of(&plan)
    };
    let (selected, due) = newest_due(&resource(), None, &[(plan, vec![others])], now).unwrap();
    assert_eq!((selected, due), (false, None));
}

#[test]
fn the_newest_of_several_plans_counts() {
    let (one, mut other) = (daily(), daily());
    other.name = "hourly".to_owned();
    other.rules[0].schedule = "cron(0 * ? * * *)".parse().unwrap();
    other.rules[0].start_window_minutes = 60;
    let plans = [(one.clone(), vec![all_of(&one)]), (other.clone(), vec![all_of(&other)])];
    let (_, due) = newest_due(&resource(), None, &plans, at("2026-01-05T14:30:00Z")).unwrap();
    let wanted =
        Due { at: at("2026-01-05T13:00:00Z"), plan: "hourly".to_owned(), rule: "daily".to_owned() };
    assert_eq!(due, Some(wanted));
}

#[test]
fn a_backup_that_did_not_come_is_overdue_until_it_comes_or_is_at_work() {
    let due = Due {
        at: at("2026-01-02T05:00:00Z"),
        plan: "nightly".to_owned(),
        rule: "daily".to_owned(),
    };
    let now = at("2026-01-02T13:00:00Z");
    let old = point(at("2026-01-01T05:00:10Z"));
    let ask = |observed: Observed<'_>| {
        assess(&resource(), &Observed { selected: true, due: Some(&due), ..observed }, now)
    };
    let Assessment { protection, troubles, .. } = ask(Observed { newest: Some(&old), ..NOTHING });
    assert_eq!(protection, Protection::Overdue);
    let (kind, why) = &troubles[0];
    assert_eq!(*kind, ResourceTrouble::Overdue);
    assert!(why.contains("nightly") && why.contains("2026-01-02T05"), "{why}");
    assert_eq!(ask(NOTHING).protection, Protection::Overdue, "there is none at all");
    for job in ["2026-01-02T05:00:00Z", "2026-01-02T12:00:00Z"] {
        let observed = Observed { newest: Some(&old), backing_up_since: Some(at(job)), ..NOTHING };
        assert_eq!(ask(observed).protection, Protection::Protected, "{job}");
    }
    let stuck = Observed {
        newest: Some(&old),
        backing_up_since: Some(at("2026-01-01T05:00:00Z")),
        ..NOTHING
    };
    assert_eq!(ask(stuck).protection, Protection::Overdue, "yesterday's job is not today's");
    let new = point(at("2026-01-02T05:00:10Z"));
    assert_eq!(ask(Observed { newest: Some(&new), ..NOTHING }).protection, Protection::Protected);
}

#[test]
fn an_objective_holds_with_and_without_a_plan() {
    let resource = Resource { rpo_seconds: Some(86_400), ..resource() };
    let taken = at("2026-01-10T00:00:00Z");
    let newest = point(taken);
    for selected in [false, true] {
        let observed = Observed { selected, newest: Some(&newest), ..NOTHING };
        let state = |now| assess(&resource, &observed, now).protection;
        assert_eq!(state(taken + hours(24)), Protection::Protected);
        assert_eq!(state(taken + hours(24) + SignedDuration::from_secs(1)), Protection::Overdue);
        // A clock that was set back makes nothing overdue.
        assert_eq!(state(taken - hours(1)), Protection::Protected);
        let none = Observed { newest: None, ..observed };
        let state = |now| assess(&resource, &none, now).protection;
        assert_eq!(state(resource.created_at + hours(1)), Protection::Waiting);
        assert_eq!(state(resource.created_at + hours(25)), Protection::Overdue);
    }
    // A backup that is at work is not there yet.
    let now = taken + hours(30);
    let observed =
        Observed { newest: Some(&newest), backing_up_since: Some(now - hours(1)), ..NOTHING };
    assert_eq!(assess(&resource, &observed, now).protection, Protection::Overdue);
}

#[test]
fn what_nothing_promises_is_unprotected_even_with_a_recovery_point() {
    let now = at("2026-01-02T00:00:00Z");
    let newest = point(now - hours(1));
    for newest in [None, Some(&newest)] {
        let answer = assess(&resource(), &Observed { newest, ..NOTHING }, now);
        assert_eq!(answer.protection, Protection::Unprotected);
        assert_eq!(kinds(&answer), [ResourceTrouble::Unprotected]);
    }
    let waiting = assess(&resource(), &Observed { selected: true, ..NOTHING }, now);
    assert_eq!(waiting.protection, Protection::Waiting);
    assert!(waiting.troubles.is_empty() && waiting.verdict.is_none());
}

#[test]
fn a_verdict_that_is_bad_or_absent_for_too_long_is_trouble() {
    let taken = at("2026-01-02T05:00:00Z");
    let tested = |verdict| RecoveryPoint {
        last_verdict: Some(PointVerdict::of(verdict, "test", taken + hours(1))),
        ..point(taken)
    };
    let (resource, since) = (resource(), Some(taken));
    let ask = |point: &RecoveryPoint, testing, hours_later| {
        let observed = Observed {
            selected: true,
            newest: Some(point),
            tested_since: since,
            testing,
            ..NOTHING
        };
        assess(&resource, &observed, taken + hours(hours_later))
    };
    let passed = ask(&tested(Verdict::Passed), false, 100);
    assert_eq!(passed.verdict, Some(Verdict::Passed));
    assert!(passed.troubles.is_empty());
    for verdict in [Verdict::Failed, Verdict::Inconclusive] {
        let answer = ask(&tested(verdict), false, 2);
        assert_eq!(answer.verdict, Some(verdict));
        assert_eq!(kinds(&answer), [ResourceTrouble::TestFailed]);
        assert_eq!(answer.protection, Protection::Protected);
    }
    let untested = point(taken);
    assert!(ask(&untested, false, 24).troubles.is_empty());
    assert_eq!(kinds(&ask(&untested, false, 25)), [ResourceTrouble::NotTested]);
    assert!(ask(&untested, true, 25).troubles.is_empty(), "it is being tested");
    assert_eq!(ask(&untested, false, 25).verdict, Some(Verdict::NotTested));
    // Where no test was asked for, none is missed.
    let none = Observed { selected: true, newest: Some(&untested), ..NOTHING };
    assert!(assess(&resource, &none, taken + hours(1000)).troubles.is_empty());
    // Nor is one of what was backed up before somebody asked.
    let later = Observed { tested_since: Some(taken + hours(1)), ..none };
    assert!(assess(&resource, &later, taken + hours(1000)).troubles.is_empty());
}

#[test]
fn a_point_that_is_left_out_of_the_tests_hides_no_bad_verdict() {
    let taken = at("2026-01-02T05:00:00Z");
    let newest = RecoveryPoint {
        last_verdict: Some(PointVerdict::of(Verdict::NotTested, "test", taken)),
        ..point(taken)
    };
    assert!(newest.is_left_out());
    let ask = |last: Option<Verdict>, untested_since| {
        let last = last.map(|verdict| PointVerdict::of(verdict, "older", taken - hours(23)));
        let observed = Observed {
            selected: true,
            newest: Some(&newest),
            tested_since: Some(taken - hours(500)),
            last_test: last.as_ref(),
            untested_since,
            ..NOTHING
        };
        assess(&resource(), &observed, taken + hours(30))
    };
    let fine = ask(Some(Verdict::Passed), None);
    assert!(fine.troubles.is_empty(), "{fine:?}");
    assert_eq!(fine.verdict, Some(Verdict::NotTested), "and nobody says that it was tested");
    assert_eq!(kinds(&ask(Some(Verdict::Failed), None)), [ResourceTrouble::TestFailed]);
    let never = ask(None, Some(taken - hours(24)));
    assert_eq!(kinds(&never), [ResourceTrouble::NotTested]);
    assert!(ask(None, None).troubles.is_empty());
}

#[test]
fn a_newest_point_that_is_damaged_is_trouble() {
    let now = at("2026-01-02T00:00:00Z");
    let condition = PointCondition {
        trouble: PointTrouble::Missing,
        since: now,
        message: "its snapshot is gone.".to_owned(),
        restore_test_id: None,
    };
    let newest = RecoveryPoint { condition: Some(condition), ..point(now - hours(1)) };
    let observed = Observed { selected: true, newest: Some(&newest), ..NOTHING };
    let answer = assess(&resource(), &observed, now);
    assert_eq!(answer.protection, Protection::Protected);
    let why = "its newest recovery point is MISSING: its snapshot is gone.";
    assert_eq!(answer.troubles, [(ResourceTrouble::Damaged, why.to_owned())]);
}

fn exemption(until: Timestamp) -> Exemption {
    let resource = resource();
    Exemption {
        resource_arn: resource.arn,
        account: resource.account,
        reason: "made again from its sources".to_owned(),
        owner: "ann".to_owned(),
        until,
        created_at: resource.created_at,
    }
}

#[test]
fn an_exemption_holds_until_its_end() {
    let until = at("2026-03-01T00:00:00Z");
    let exempt = exemption(until);
    let observed = Observed { exemption: Some(&exempt), ..NOTHING };
    let just_before = until - SignedDuration::from_secs(1);
    let answer = assess(&resource(), &observed, just_before);
    assert_eq!(answer.protection, Protection::Exempt);
    assert!(answer.troubles.is_empty());
    assert_eq!(assess(&resource(), &observed, until).protection, Protection::Unprotected);
}

#[test]
fn an_exemption_has_a_reason_an_owner_and_an_end() {
    let good = exemption(at("2026-03-01T00:00:00Z"));
    good.validate().unwrap();
    let refused = |exemption: Exemption| exemption.validate().unwrap_err().member;
    assert_eq!(refused(Exemption { reason: " ".to_owned(), ..good.clone() }), "Reason");
    assert_eq!(refused(Exemption { owner: String::new(), ..good.clone() }), "Owner");
    assert_eq!(refused(Exemption { until: good.created_at, ..good.clone() }), "EndDate");
    assert_eq!(refused(Exemption { until: at("2027-03-01T00:00:00Z"), ..good }), "EndDate");
}

#[test]
fn a_newest_point_that_is_not_to_be_relied_on_is_trouble() {
    let now = at("2026-01-02T00:00:00Z");
    let taken = point(now - hours(1));
    let partial = RecoveryPoint {
        status: RecoveryPointStatus::Partial,
        status_message: Some("2 paths could not be read.".to_owned()),
        ..taken.clone()
    };
    let mark = |accepted_at| Shrunk {
        before: taken.arn.clone(),
        bytes_before: 100,
        files_before: 10,
        percent: 50,
        accepted_at,
    };
    let shrunk = RecoveryPoint { shrunk: Some(mark(None)), ..taken.clone() };
    for (newest, words) in [(partial, "PARTIAL: 2 paths"), (shrunk, "COMPLETED: SHRUNK")] {
        let observed = Observed { selected: true, newest: Some(&newest), ..NOTHING };
        let answer = assess(&resource(), &observed, now);
        assert_eq!(kinds(&answer), [ResourceTrouble::NotGood]);
        assert!(answer.troubles[0].1.contains(words), "{:?}", answer.troubles);
    }
    let accepted = RecoveryPoint { shrunk: Some(mark(Some(now))), ..taken.clone() };
    let observed = Observed { selected: true, newest: Some(&accepted), ..NOTHING };
    assert!(assess(&resource(), &observed, now).troubles.is_empty());
}
