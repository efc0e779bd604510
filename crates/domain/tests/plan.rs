//! What a backup plan is refused for, and its windows.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use jiff::Timestamp;
use proptest::prelude::*;
use provault_domain::cron::CronExpression;
use provault_domain::plan::{
    DEFAULT_COMPLETION_WINDOW_MINUTES, DEFAULT_SCHEDULE, DEFAULT_START_WINDOW_MINUTES,
    DEFAULT_TIMEZONE, add_minutes,
};
use provault_domain::{BackupPlan, BackupRule, Lifecycle, Tags};

fn rule(name: &str) -> BackupRule {
    BackupRule {
        id: "rule".to_owned(),
        name: name.to_owned(),
        target_vault: "Default".to_owned(),
        schedule: CronExpression::parse(DEFAULT_SCHEDULE).unwrap(),
        timezone: DEFAULT_TIMEZONE.to_owned(),
        start_window_minutes: DEFAULT_START_WINDOW_MINUTES,
        completion_window_minutes: DEFAULT_COMPLETION_WINDOW_MINUTES,
        lifecycle: Lifecycle::default(),
        recovery_point_tags: Tags::new(),
        since: None,
    }
}

fn plan(rules: Vec<BackupRule>) -> BackupPlan {
    BackupPlan {
        id: "plan".to_owned(),
        arn: "arn:aws:backup:us-east-1:111122223333:backup-plan:plan".parse().unwrap(),
        account: "111122223333".parse().unwrap(),
        name: "daily".to_owned(),
        version_id: "v1".to_owned(),
        rules,
        creator_request_id: None,
        created_at: Timestamp::UNIX_EPOCH,
        deleted_at: None,
        last_execution_at: None,
    }
}

#[test]
fn aws_defaults_are_valid() {
    plan(vec![rule("daily")]).validate().unwrap();
    // Ten rules are AWS's quota.
    plan((0..10).map(|n| rule(&format!("r{n}"))).collect()).validate().unwrap();
}

#[test]
fn plans_that_are_refused() {
    let refused = |plan: BackupPlan| plan.validate().unwrap_err().member;
    assert_eq!(refused(plan(vec![])), "BackupPlan.Rules");
    let eleven = (0..11).map(|n| rule(&format!("r{n}"))).collect();
    assert_eq!(refused(plan(eleven)), "BackupPlan.Rules");
    let twins = vec![rule("a"), rule("b"), rule("a")];
    assert_eq!(refused(plan(twins)), "BackupPlan.Rules[2].RuleName");
    for name in [String::new(), "x".repeat(51)] {
        let named = BackupPlan { name, ..plan(vec![rule("a")]) };
        assert_eq!(refused(named), "BackupPlan.BackupPlanName");
    }
    let second = BackupRule { start_window_minutes: 59, ..rule("b") };
    let invalid = plan(vec![rule("a"), second]).validate().unwrap_err();
    assert_eq!(invalid.member, "BackupPlan.Rules[1].StartWindowMinutes");
    assert!(invalid.message.starts_with("BackupPlan.Rules[1].StartWindowMinutes"), "{invalid}");
}

#[test]
fn rules_that_are_refused() {
    type Spoil = fn(&mut BackupRule);
    let table: &[(&str, Spoil)] = &[
        ("RuleName", |r| r.name = String::new()),
        ("RuleName", |r| r.name = "a b".to_owned()),
        ("RuleName", |r| r.name = "x".repeat(51)),
        ("TargetBackupVaultName", |r| r.target_vault = "x".to_owned()),
        ("ScheduleExpression", |r| {
            r.schedule = CronExpression::parse("cron(0/30 * ? * * *)").unwrap();
        }),
        // A zone nobody knows would be a rule that never fires.
        ("ScheduleExpressionTimezone", |r| r.timezone = "Europe/Atlantis".to_owned()),
        ("ScheduleExpressionTimezone", |r| r.timezone = String::new()),
        ("StartWindowMinutes", |r| r.start_window_minutes = 59),
        ("StartWindowMinutes", |r| r.start_window_minutes = i64::MIN),
        ("StartWindowMinutes", |r| r.start_window_minutes = 52_560_001),
        ("StartWindowMinutes", |r| r.start_window_minutes = i64::MAX),
        ("CompletionWindowMinutes", |r| r.completion_window_minutes = 480 + 59),
        ("CompletionWindowMinutes", |r| r.completion_window_minutes = 52_560_001),
        ("CompletionWindowMinutes", |r| r.completion_window_minutes = i64::MAX),
        ("Lifecycle.DeleteAfterDays", |r| r.lifecycle.delete_after_days = Some(0)),
        ("Tags", |r| {
            r.recovery_point_tags.insert("aws:reserved".to_owned(), String::new());
        }),
    ];
    for (member, spoil) in table {
        let mut spoiled = rule("daily");
        spoil(&mut spoiled);
        let invalid = spoiled.validate().expect_err(member);
        assert_eq!(invalid.member, *member, "{invalid}");
    }
    for good in [
        BackupRule { name: "A-z_0.9".to_owned(), ..rule("") },
        BackupRule { start_window_minutes: 60, completion_window_minutes: 120, ..rule("a") },
        BackupRule { completion_window_minutes: 52_560_000, ..rule("a") },
        BackupRule { timezone: "Europe/Berlin".to_owned(), ..rule("a") },
        BackupRule { schedule: CronExpression::parse("cron(15 * ? * * *)").unwrap(), ..rule("a") },
    ] {
        good.validate().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// No window panics; a valid rule's start window ends before its completion window.
    #[test]
    fn windows(start in any::<i64>(), complete in any::<i64>(), small in 0..100_000i64) {
        for (start, complete) in [(start, complete), (small, small * 2), (small, complete)] {
            let windows = BackupRule {
                start_window_minutes: start,
                completion_window_minutes: complete,
                ..rule("a")
            };
            let by = windows.start_by(Timestamp::UNIX_EPOCH);
            if windows.validate().is_ok() {
                prop_assert_eq!(by.as_second(), start * 60);
                prop_assert!(complete >= start + 60);
            }
        }
        let from = Timestamp::UNIX_EPOCH;
        prop_assert_eq!(add_minutes(from, start) >= from, start >= 0);
    }
}

/// The first of January of a year, five in the morning.
fn new_year(year: i16) -> Timestamp {
    format!("{year}-01-01T05:00:00Z").parse().unwrap()
}

#[test]
fn a_rule_that_never_comes_again_is_refused() {
    let once = BackupRule {
        schedule: CronExpression::parse("cron(0 5 1 1 ? 2030)").unwrap(),
        ..rule("once")
    };
    let plan = plan(vec![rule("a"), once]);
    plan.check_it_comes(new_year(2029)).unwrap();
    let refused = plan.check_it_comes(new_year(2030)).unwrap_err();
    assert_eq!(refused.member, "BackupPlan.Rules[1].ScheduleExpression");
}

#[test]
fn a_rule_that_keeps_its_schedule_keeps_its_beginning() {
    let first = BackupPlan { created_at: new_year(2026), ..plan(vec![rule("a")]) };
    let next = |rules: Vec<BackupRule>, old: &BackupPlan, year| {
        let mut plan = BackupPlan { rules, created_at: new_year(year), ..first.clone() };
        plan.goes_on_from(old);
        plan
    };
    // The same once more, and another lifecycle: neither is a new promise.
    let mut longer = first.rules.clone();
    longer[0].lifecycle.delete_after_days = Some(99);
    let second = next(longer.clone(), &first, 2027);
    assert_eq!(second.rules[0].since, Some(new_year(2026)));
    let third = next(longer.clone(), &second, 2028);
    assert_eq!(third.rules[0].since, Some(new_year(2026)));
    let mut later = longer;
    later[0].schedule = CronExpression::parse("cron(0 6 ? * * *)").unwrap();
    assert_eq!(next(later, &third, 2029).rules[0].since, None);
}
