//! Which recovery point a restore testing plan chooses, against a slow reading of AWS's rules, and
//! what plans and selections may say.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use provault_domain::recovery_point::{Payload, RecoveryPointStatus};
use provault_domain::restore_job::{self, RestoreJobEvent, ValidationStatus};
use provault_domain::restore_testing_plan::{PointAlgorithm, PointSelection, PointType};
use provault_domain::selection::{Conditions, TagCondition};
use provault_domain::{
    Arn, Kind, Lifecycle, RecoveryPoint, RestoreJob, RestoreJobState, RestoreTestingPlan,
    RestoreTestingSelection, Tags,
};

const FILES: &str = "arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-1";
const OTHER: &str = "arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-2";
const VAULTS: [&str; 3] = ["main", "main-2", "spare"];

fn arn(text: &str) -> Arn {
    text.parse().unwrap()
}

fn vault(name: &str) -> Arn {
    Arn::backup_vault(&"us-east-1".parse().unwrap(), &"111122223333".parse().unwrap(), name)
}

fn at(hours: i64) -> Timestamp {
    "2026-06-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
}

fn point(n: u32, vault_name: &str, created: Timestamp) -> RecoveryPoint {
    RecoveryPoint {
        arn: arn(&format!("arn:aws:backup:us-east-1:111122223333:recovery-point:{n:08}")),
        account: "111122223333".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        vault_name: vault_name.to_owned(),
        vault_arn: vault(vault_name),
        resource_arn: arn(FILES),
        resource_name: "files".to_owned(),
        kind: Kind::Filesystem,
        backup_job_id: format!("{n}"),
        role_arn: arn("arn:aws:iam::111122223333:role/r"),
        created_by: None,
        encryption_key_arn: arn("arn:aws:kms:us-east-1:111122223333:key/k"),
        status: RecoveryPointStatus::Completed,
        status_message: None,
        captured_at: created,
        created_at: created,
        completed_at: created,
        backup_size_bytes: 1,
        lifecycle: Lifecycle::default(),
        payload: Payload::Stored {
            snapshot_id: "0".to_owned(),
            tree_path: "srv".to_owned(),
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

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn all(algorithm: PointAlgorithm, window_days: i64) -> PointSelection {
    PointSelection {
        algorithm,
        include_vaults: strings(&["*"]),
        exclude_vaults: Vec::new(),
        types: vec![PointType::Snapshot],
        window_days,
    }
}

fn plan() -> RestoreTestingPlan {
    RestoreTestingPlan {
        name: "weekly_1".to_owned(),
        arn: arn("arn:aws:backup:us-east-1:111122223333:restore-testing-plan:weekly_1-x"),
        account: "111122223333".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        schedule: "cron(0 5 ? * SUN *)".parse().unwrap(),
        timezone: "Etc/UTC".to_owned(),
        start_window_hours: 24,
        points: all(PointAlgorithm::Latest, 30),
        creator_request_id: None,
        created_at: at(0),
        updated_at: None,
        scheduled_since: None,
        last_execution_at: None,
    }
}

fn selection() -> RestoreTestingSelection {
    RestoreTestingSelection {
        name: "files".to_owned(),
        account: "111122223333".parse().unwrap(),
        plan_arn: plan().arn,
        plan_name: "weekly_1".to_owned(),
        role_arn: arn("arn:aws:iam::111122223333:role/r"),
        kind: Kind::Filesystem,
        resource_arns: strings(&["*"]),
        conditions: Conditions::default(),
        metadata_overrides: BTreeMap::new(),
        validation_window_hours: 0,
        creator_request_id: None,
        created_at: at(0),
        updated_at: None,
    }
}

fn point_strategy() -> impl Strategy<Value = RecoveryPoint> {
    (0..VAULTS.len(), -2000_i64..10, -3_i64..3, any::<bool>()).prop_map(
        |(in_vault, created, captured, deleting)| RecoveryPoint {
            captured_at: at(created + captured),
            status: if deleting {
                RecoveryPointStatus::Deleting
            } else {
                RecoveryPointStatus::Completed
            },
            ..point(0, VAULTS[in_vault], at(created))
        },
    )
}

fn selection_of_points() -> impl Strategy<Value = PointSelection> {
    let patterns = || prop::collection::vec(prop::sample::select(vec!["*", "main", "main*"]), 0..3);
    (any::<bool>(), patterns(), patterns(), 1_i64..90).prop_map(
        |(random, include, exclude, window_days)| {
            let arns = |patterns: Vec<&str>| {
                patterns.into_iter().map(|name| vault(name).to_string()).collect()
            };
            PointSelection {
                algorithm: if random { PointAlgorithm::Random } else { PointAlgorithm::Latest },
                include_vaults: arns(include),
                exclude_vaults: arns(exclude),
                types: vec![PointType::Snapshot],
                window_days,
            }
        },
    )
}

/// The same rules, read slowly: one vault name at a time.
fn eligible(rules: &PointSelection, point: &RecoveryPoint, now: Timestamp) -> bool {
    let names = |list: &[String]| {
        list.iter().any(|pattern| {
            let wanted = pattern.rsplit(':').next().unwrap();
            match wanted.strip_suffix('*') {
                Some(start) => point.vault_name.starts_with(start),
                None => point.vault_name == wanted,
            }
        })
    };
    let age = now.duration_since(point.created_at).as_hours();
    point.status != RecoveryPointStatus::Deleting
        && names(&rules.include_vaults)
        && !names(&rules.exclude_vaults)
        && age <= rules.window_days * 24
}

proptest! {
    /// What is chosen is eligible; something is chosen whenever anything is; the latest is the
    /// latest; the order of the points makes no difference.
    #[test]
    fn the_choice_keeps_the_rules(
        mut points in prop::collection::vec(point_strategy(), 0..12),
        rules in selection_of_points(),
        draw in any::<u64>(),
    ) {
        let now = at(0);
        for (point, n) in points.iter_mut().zip(0..) {
            point.arn = self::point(n, "main", now).arn;
        }
        let chosen = rules.choose(&points, now, draw).cloned();
        let mut wanted: Vec<&RecoveryPoint> =
            points.iter().filter(|point| eligible(&rules, point, now)).collect();
        prop_assert_eq!(chosen.is_some(), !wanted.is_empty());
        // One from the future only where there is no other.
        if wanted.iter().any(|point| point.captured_at <= now) {
            wanted.retain(|point| point.captured_at <= now);
        }
        if let Some(chosen) = &chosen {
            prop_assert!(wanted.contains(&chosen));
            if rules.algorithm == PointAlgorithm::Latest {
                wanted.sort_by_key(|point| point.captured_at);
                prop_assert_eq!(chosen.captured_at, wanted[wanted.len() - 1].captured_at);
            }
            prop_assert!(rules.knows(&points));
        }
        points.reverse();
        prop_assert_eq!(rules.choose(&points, now, draw).cloned(), chosen);
    }

    /// Every eligible point comes up, each as often as any other.
    #[test]
    fn chance_is_fair(count in 1_u32..8) {
        let points: Vec<_> =
            (0..count).map(|n| point(n, "main", at(-i64::from(n) - 1))).collect();
        let rules = all(PointAlgorithm::Random, 30);
        let mut seen = BTreeMap::<Arn, u32>::new();
        for draw in 0..u64::from(count) * 3 {
            *seen.entry(rules.choose(&points, at(0), draw).unwrap().arn.clone()).or_default() += 1;
        }
        prop_assert_eq!(seen.len(), points.len());
        prop_assert!(seen.values().all(|times| *times == 3));
    }
}

#[test]
fn the_window_is_counted_back_from_the_execution() {
    let points = [point(1, "main", at(-24 * 30)), point(2, "main", at(-24 * 30 - 1))];
    let rules = all(PointAlgorithm::Latest, 30);
    assert_eq!(rules.choose(&points, at(0), 0), Some(&points[0]), "the window's end is in it");
    assert_eq!(rules.choose(&points, at(1), 0), None);
    assert!(rules.knows(&points), "too old is not the same as never there");
    assert_eq!(all(PointAlgorithm::Latest, 31).choose(&points[1..], at(0), 0), Some(&points[1]));
}

#[test]
fn plans_are_refused_by_the_member_that_is_wrong() {
    plan().validate().unwrap();
    let with = |change: &dyn Fn(&mut RestoreTestingPlan)| {
        let mut plan = plan();
        change(&mut plan);
        plan.validate().unwrap_err().member
    };
    for name in ["", "with-dash", "a b", "ä", &"x".repeat(51)] {
        assert_eq!(with(&|plan| plan.name = name.to_owned()), "RestoreTestingPlanName", "{name}");
    }
    let half_hourly = |plan: &mut RestoreTestingPlan| {
        plan.schedule = "cron(0/30 * ? * * *)".parse().unwrap();
    };
    assert_eq!(with(&half_hourly), "ScheduleExpression");
    assert_eq!(with(&|plan| plan.timezone = "Mars".to_owned()), "ScheduleExpressionTimezone");
    for hours in [0, -1, 169] {
        assert_eq!(with(&|plan| plan.start_window_hours = hours), "StartWindowHours");
    }
    let points = |member| format!("RecoveryPointSelection.{member}");
    for days in [0, -1, 366] {
        assert_eq!(with(&|plan| plan.points.window_days = days), points("SelectionWindowDays"));
    }
    assert_eq!(with(&|plan| plan.points.include_vaults.clear()), points("IncludeVaults"));
    let named = |plan: &mut RestoreTestingPlan| plan.points.include_vaults = strings(&["main"]);
    assert_eq!(with(&named), points("IncludeVaults"));
    let left_out = |plan: &mut RestoreTestingPlan| plan.points.exclude_vaults = strings(&["main"]);
    assert_eq!(with(&left_out), points("ExcludeVaults"));
    for types in [vec![], vec![PointType::Continuous]] {
        let member = with(&|plan| plan.points.types.clone_from(&types));
        assert_eq!(member, points("RecoveryPointTypes"));
    }
    let both = vec![PointType::Continuous, PointType::Snapshot];
    let mut two = plan();
    two.points.types = both;
    two.validate().unwrap();
    assert_eq!(plan().start_by(at(0)), at(24));
}

#[test]
fn selections_name_resources_of_their_kind_or_all_of_them() {
    let tags = |list: &[(&str, &str)]| -> Tags {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let every = selection();
    every.validate().unwrap();
    assert!(every.matches(&arn(FILES), Kind::Filesystem, &Tags::new()));

    let condition =
        TagCondition { key: "aws:ResourceTag/env".to_owned(), value: "prod".to_owned() };
    let tagged = RestoreTestingSelection {
        conditions: Conditions { string_equals: vec![condition.clone()], ..Conditions::default() },
        ..selection()
    };
    tagged.validate().unwrap();
    assert!(tagged.matches(&arn(FILES), Kind::Filesystem, &tags(&[("env", "prod")])));
    assert!(!tagged.matches(&arn(FILES), Kind::Filesystem, &tags(&[("env", "test")])));

    let one = RestoreTestingSelection { resource_arns: strings(&[FILES]), ..selection() };
    one.validate().unwrap();
    assert!(one.matches(&arn(FILES), Kind::Filesystem, &Tags::new()));
    assert!(!one.matches(&arn(OTHER), Kind::Filesystem, &Tags::new()));

    let with = |change: &dyn Fn(&mut RestoreTestingSelection)| {
        let mut selection = selection();
        change(&mut selection);
        selection.validate().unwrap_err().member
    };
    assert_eq!(with(&|s| s.name = "a-b".to_owned()), "RestoreTestingSelectionName");
    for arns in [
        vec![],
        strings(&["*", FILES]),
        strings(&["fs-1"]),
        strings(&["arn:aws:ec2:us-east-1:111122223333:volume/vol-1"]),
        vec![FILES.to_owned(); 31],
    ] {
        assert_eq!(with(&|s| s.resource_arns.clone_from(&arns)), "ProtectedResourceArns");
    }
    for hours in [1, 168] {
        RestoreTestingSelection { validation_window_hours: hours, ..selection() }
            .validate()
            .unwrap();
    }
    assert_eq!(with(&|s| s.validation_window_hours = 169), "ValidationWindowHours");
    let both = |s: &mut RestoreTestingSelection| {
        s.resource_arns = strings(&[FILES]);
        s.conditions.string_equals = vec![condition.clone()];
    };
    assert_eq!(with(&both), "ProtectedResourceConditions");
    let bare = |s: &mut RestoreTestingSelection| {
        s.conditions.string_not_equals =
            vec![TagCondition { key: "env".to_owned(), value: "prod".to_owned() }];
    };
    assert_eq!(with(&bare), "ProtectedResourceConditions.StringNotEquals");
    for key in ["targetPath", "TARGETPATH", "file-system-id", "itemsToRestore"] {
        let fixed = |s: &mut RestoreTestingSelection| {
            s.metadata_overrides.insert(key.to_owned(), "x".to_owned());
        };
        assert_eq!(with(&fixed), format!("RestoreMetadataOverrides.{key}"));
    }
}

fn restore(state: RestoreJobState, token: Option<&str>) -> RestoreJob {
    RestoreJob {
        id: "job".to_owned(),
        account: "111122223333".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        recovery_point_arn: point(1, "main", at(0)).arn,
        vault_name: "main".to_owned(),
        source_resource_arn: arn(FILES),
        kind: Kind::Filesystem,
        role_arn: arn("arn:aws:iam::111122223333:role/r"),
        metadata: BTreeMap::new(),
        idempotency_token: None,
        test_token: token.map(str::to_owned),
        testing_plan_arn: None,
        created_at: at(0),
        started_at: None,
        completed_at: None,
        state,
        status_message: None,
        stop_requested: None,
        attempts: 0,
        backup_size_bytes: 1,
        bytes_restored: 1,
        created_resource_arn: None,
        validation: None,
        validation_message: None,
        deletion: None,
        deletion_message: None,
    }
}

fn report(status: ValidationStatus) -> RestoreJobEvent {
    RestoreJobEvent::ValidationReported { status, message: Some("seen".to_owned()) }
}

#[test]
fn a_result_from_outside_is_taken_of_a_completed_restore_of_an_operator_alone() {
    for &state in RestoreJobState::ALL {
        for token in [None, Some("token")] {
            let job = restore(state, token);
            let taken = restore_job::step(&job, report(ValidationStatus::Failed), at(1));
            let may = state == RestoreJobState::Completed && token.is_none();
            assert_eq!(taken.is_ok(), may, "{state} {token:?}");
        }
    }
}

#[test]
fn a_final_result_from_outside_stays() {
    for &first in ValidationStatus::ALL {
        for &second in ValidationStatus::ALL {
            let job = restore(RestoreJobState::Completed, None);
            let (job, effects) = restore_job::step(&job, report(first), at(1)).unwrap();
            assert!(effects.is_empty());
            assert_eq!((job.validation, job.state), (Some(first), RestoreJobState::Completed));
            let again = restore_job::step(&job, report(second), at(2));
            let open = first == ValidationStatus::Validating;
            assert_eq!(again.is_ok(), open || first == second, "{first} then {second}");
        }
    }
}
