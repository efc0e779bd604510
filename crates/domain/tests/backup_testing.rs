//! Restore tests that follow backups: budgets, windows, turns.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use jiff::Timestamp;
use provault_domain::backup_testing::{
    BackupTesting, Obstacle, TestBudget, TestingScope, take_turn,
};
use provault_domain::verdict::Findings;
use provault_domain::{
    DailyWindow, Kind, PlannedTest, Resource, RestoreTest, RestoreTestEvent, RestoreTestState,
    restore_test,
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn window(from: &str, to: &str, zone: &str) -> DailyWindow {
    DailyWindow::parse(from, to, zone).unwrap()
}

/// The window at or after a moment, both as text.
fn next(window: &DailyWindow, moment: &str) -> (String, String) {
    let (opens, closes) = window.at_or_after(at(moment)).unwrap();
    (opens.to_string(), closes.to_string())
}

fn pair(opens: &str, closes: &str) -> (String, String) {
    (opens.to_owned(), closes.to_owned())
}

#[test]
fn a_window_is_open_from_its_first_moment_to_before_its_last() {
    let night = window("01:00", "05:00", "Etc/UTC");
    let today = pair("2026-03-01T01:00:00Z", "2026-03-01T05:00:00Z");
    for moment in ["2026-03-01T00:59:59Z", "2026-03-01T01:00:00Z", "2026-03-01T04:59:59.9Z"] {
        assert_eq!(next(&night, moment), today, "{moment}");
    }
    let tomorrow = pair("2026-03-02T01:00:00Z", "2026-03-02T05:00:00Z");
    assert_eq!(next(&night, "2026-03-01T05:00:00Z"), tomorrow);
    assert_eq!(night.to_string(), "01:00-05:00 Etc/UTC");
}

#[test]
fn a_window_may_go_over_midnight() {
    let night = window("22:30", "04:00", "America/New_York");
    let open = pair("2026-01-11T03:30:00Z", "2026-01-11T09:00:00Z");
    assert_eq!(next(&night, "2026-01-11T03:30:00Z"), open);
    assert_eq!(next(&night, "2026-01-11T08:59:59Z"), open, "it began on the day before");
    let later = pair("2026-01-12T03:30:00Z", "2026-01-12T09:00:00Z");
    assert_eq!(next(&night, "2026-01-11T09:00:00Z"), later);
}

#[test]
fn windows_follow_the_clocks_of_their_zone() {
    let zone = "Europe/Berlin";
    let night = window("01:00", "05:00", zone);
    // Clocks go forward on 2026-03-29: three hours of it are left.
    let short = pair("2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z");
    assert_eq!(next(&night, "2026-03-28T12:00:00Z"), short);
    // Clocks go back on 2026-10-25: it has five.
    let long = pair("2026-10-24T23:00:00Z", "2026-10-25T04:00:00Z");
    assert_eq!(next(&night, "2026-10-24T12:00:00Z"), long);
    // 02:15 does not exist on 2026-03-29, 03:15 does: the window has no length and does not open.
    let gap = window("02:15", "03:15", zone);
    let next_day = pair("2026-03-30T00:15:00Z", "2026-03-30T01:15:00Z");
    assert_eq!(next(&gap, "2026-03-28T12:00:00Z"), next_day);
    // Of 02:30, which comes twice on 2026-10-25, the first counts.
    let twice = window("02:30", "03:30", zone);
    let both = pair("2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z");
    assert_eq!(next(&twice, "2026-10-24T12:00:00Z"), both);
}

#[test]
fn a_test_has_two_windows_to_begin_in() {
    let night = window("01:00", "05:00", "Etc/UTC");
    let second = |moment| night.second_close(at(moment)).unwrap().to_string();
    assert_eq!(second("2026-03-01T12:00:00Z"), "2026-03-03T05:00:00Z");
    // What is left of a window that is open counts as one.
    assert_eq!(second("2026-03-01T04:59:00Z"), "2026-03-02T05:00:00Z");
    let testing = BackupTesting { window: Some(night), ..plain() };
    let budget = |moment| {
        TestBudget::of(
            &testing,
            TestingScope::Plan("p".to_owned()),
            "plan p".to_owned(),
            at(moment),
        )
    };
    let noon = budget("2026-03-01T12:00:00Z");
    assert_eq!(noon.start_by, Some(at("2026-03-03T05:00:00Z")));
    assert_eq!(noon.opens_at(at("2026-03-01T12:00:00Z")), Some(at("2026-03-02T01:00:00Z")));
    assert_eq!(noon.opens_at(at("2026-03-02T01:00:00Z")), None);
    assert_eq!(noon.opens_at(at("2026-03-02T05:00:00Z")), Some(at("2026-03-03T01:00:00Z")));
}

#[test]
fn a_window_that_cannot_be_meant_is_refused_by_the_name_of_its_member() {
    for (from, to, zone, member) in [
        ("1:00", "05:00", "Etc/UTC", "From"),
        ("24:00", "05:00", "Etc/UTC", "From"),
        ("01:00", "05:60", "Etc/UTC", "To"),
        ("01:00", "ab:cd", "Etc/UTC", "To"),
        ("01:00", "ä5:0", "Etc/UTC", "To"),
        ("01:00", "01:00", "Etc/UTC", "To"),
        ("01:00", "05:00", "Europe/Atlantis", "Timezone"),
        ("01:00", "05:00", "localtime", "Timezone"),
    ] {
        let refused = DailyWindow::parse(from, to, zone).unwrap_err();
        assert_eq!(refused.member, member, "{from} {to} {zone}");
    }
}

fn plain() -> BackupTesting {
    BackupTesting::plain(true, at("2026-01-01T00:00:00Z"))
}

#[test]
fn budgets_that_cannot_be_kept_are_refused() {
    plain().validate().unwrap();
    BackupTesting { enabled: false, ..plain() }.validate().unwrap();
    let night = window("01:00", "05:00", "Etc/UTC");
    for (testing, member) in [
        (BackupTesting { share_percent: 0, ..plain() }, "SharePercent"),
        (BackupTesting { share_percent: 101, ..plain() }, "SharePercent"),
        (BackupTesting { at_once: Some(0), ..plain() }, "TestsAtOnce"),
        (BackupTesting { at_once: Some(65), ..plain() }, "TestsAtOnce"),
        (BackupTesting { enabled: false, share_percent: 25, ..plain() }, "SharePercent"),
        (BackupTesting { enabled: false, window: Some(night), ..plain() }, "Window"),
        (BackupTesting { enabled: false, at_once: Some(1), ..plain() }, "TestsAtOnce"),
    ] {
        assert_eq!(testing.validate().unwrap_err().member, member, "{testing:?}");
    }
}

#[test]
fn the_share_is_kept_and_no_point_waits_long_for_a_tested_one() {
    for share in 1..=100_u32 {
        let (mut credit, mut tested, mut since) = (None, 0, 0);
        for turn in 0..1000_u32 {
            let (test, next) = take_turn(credit, share);
            assert!(turn > 0 || test, "the first is tested");
            credit = Some(next);
            since = if test { 0 } else { since + 1 };
            tested += u32::from(test);
            assert!(since < 100_u32.div_ceil(share), "{share} %: {since} in a row");
        }
        assert_eq!(tested, (1000 * share).div_ceil(100), "{share} %");
    }
    let every_fourth: Vec<bool> = (0..8)
        .scan(None, |credit, _| {
            let (test, next) = take_turn(*credit, 25);
            *credit = Some(next);
            Some(test)
        })
        .collect();
    assert_eq!(every_fourth, [true, false, false, false, true, false, false, false]);
    // Whatever was remembered under another share, or by a defect, is of use.
    assert!(take_turn(Some(u32::MAX), 1).0);
    assert_eq!(take_turn(Some(99), 100), (true, 99));
}

#[test]
fn what_a_resource_said_before_it_could_say_more_still_holds() {
    let body = |said: &str| {
        let text = format!(
            r#"{{"arn":"arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-1",
            "account":"111122223333","region":"us-east-1","kind":"filesystem","name":"notes",
            "config":null,"tags":{{}},"service":null,"probes":[],"rpo_seconds":null,
            "rto_seconds":null,{said}"created_at":"2026-01-01T00:00:00Z"}}"#
        );
        serde_json::from_str::<Resource>(&text).unwrap()
    };
    assert_eq!(body("").testing, None);
    assert_eq!(body(r#""test_after_backup":false,"#).testing, None, "it never was a no");
    let on = body(r#""test_after_backup":true,"#);
    assert!(on.testing.as_ref().unwrap().enabled);
    for testing in [
        None,
        on.testing.clone(),
        Some(BackupTesting { enabled: false, ..plain() }),
        Some(BackupTesting {
            share_percent: 25,
            window: Some(window("22:00", "04:30", "Europe/Berlin")),
            at_once: Some(2),
            ..plain()
        }),
    ] {
        let resource = Resource { testing, ..on.clone() };
        let text = serde_json::to_string(&resource).unwrap();
        assert_eq!(serde_json::from_str::<Resource>(&text).unwrap(), resource);
    }
}

fn second(n: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + n).unwrap()
}

/// A test that waits for its turn.
fn test() -> RestoreTest {
    let arn = "arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-1";
    RestoreTest {
        id: "test".to_owned(),
        account: "111122223333".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        token: "token".to_owned(),
        resource_arn: arn.parse().unwrap(),
        resource_name: "files".to_owned(),
        kind: Kind::Filesystem,
        requested_point: None,
        after_backup_job: None,
        planned: None,
        budget: None,
        waiting: None,
        created_at: second(0),
        started_at: None,
        interruptions: 0,
        completed_at: None,
        state: RestoreTestState::Pending,
        recovery_point_arn: None,
        vault_name: None,
        restore_job_id: None,
        created_resource_arn: None,
        findings: Findings::default(),
        steps: Vec::new(),
        verdict: None,
        reason: None,
        cleaned_up: None,
    }
}

/// A test that follows a backup does not wait for ever, and says what it waited for.
#[test]
fn a_test_that_cannot_begin_is_given_up() {
    use RestoreTestEvent as E;
    let budget = |start_by: Option<i64>| TestBudget {
        scope: TestingScope::Plan("p".to_owned()),
        said_by: "plan nightly".to_owned(),
        share_percent: 100,
        window: None,
        at_once: None,
        start_by: start_by.map(second),
    };
    let waits = |obstacle, reason: &str| E::Waits { obstacle, reason: reason.to_owned() };
    let day = 24 * 3600;
    let fresh = RestoreTest { budget: Some(budget(None)), ..test() };
    assert_eq!(fresh.given_up(second(1000 * day)), None, "its turn comes some day");
    let full =
        restore_test::step(&fresh, waits(Obstacle::Room, "No room."), second(100)).unwrap().0;
    assert_eq!(full.given_up(second(100 + day - 1)), None);
    assert!(full.given_up(second(100 + day)).unwrap().contains("No room."));
    let still =
        restore_test::step(&full, waits(Obstacle::Room, "None yet."), second(200)).unwrap().0;
    assert_eq!(still.waiting.as_ref().unwrap().since, second(100), "it is the same wait");
    let other = restore_test::step(&still, waits(Obstacle::Turn, "Later."), second(300)).unwrap().0;
    assert_eq!(other.given_up(second(1000 * day)), None, "there was room in between");
    let begun = restore_test::step(&full, E::Started, second(400)).unwrap().0;
    assert!(begun.waiting.is_none() && begun.given_up(second(1000 * day)).is_none());
    let windows = RestoreTest { budget: Some(budget(Some(500))), ..test() };
    assert_eq!(windows.given_up(second(499)), None);
    assert!(windows.given_up(second(500)).unwrap().contains("plan nightly"));
    assert_eq!(test().given_up(second(1000 * day)), None, "one by hand waits for nothing of this");
}

/// One that an interruption broke off has begun before, and is not to wait for ever all the same; nor does it
/// lose whom it tells.
#[test]
fn an_interrupted_test_that_cannot_begin_anew_is_given_up() {
    use RestoreTestEvent as E;
    let day = 24 * 3600;
    let window = DailyWindow::parse("01:00", "05:00", "Etc/UTC").unwrap();
    let testing = BackupTesting { window: Some(window), ..plain() };
    let scope = TestingScope::Plan("p".to_owned());
    let budget = TestBudget::of(&testing, scope, "plan nightly".to_owned(), second(0));
    let first = budget.start_by.unwrap();
    let point = "arn:aws:backup:us-east-1:111122223333:recovery-point:p".parse().unwrap();
    let asked = RestoreTest {
        budget: Some(budget),
        requested_point: Some(point),
        vault_name: Some("lab".to_owned()),
        ..test()
    };
    let happen = |mut test: RestoreTest, events: Vec<E>, at| {
        for event in events {
            test = restore_test::step(&test, event, at).unwrap().0;
        }
        test
    };
    let down = || E::Interrupted { reason: "down.".to_owned() };
    let broken = happen(asked, vec![E::Started, down()], first);
    assert_eq!(broken.vault_name.as_deref(), Some("lab"), "who is told of it");
    assert_eq!(broken.given_up(first), None, "it has two windows again");
    let second_time = broken.budget.as_ref().unwrap().start_by.unwrap();
    assert!(second_time > first);
    assert!(broken.given_up(second_time).unwrap().contains("begin anew"));

    let room = || E::Waits { obstacle: Obstacle::Room, reason: "No room.".to_owned() };
    let planned = RestoreTest {
        planned: Some(PlannedTest {
            plan_arn: "arn:aws:backup:us-east-1:111122223333:restore-testing-plan:p"
                .parse()
                .unwrap(),
            plan_name: "p".to_owned(),
            selection_name: "s".to_owned(),
            start_by: second(60),
            role_arn: "arn:aws:iam::111122223333:role/r".parse().unwrap(),
            metadata_overrides: std::collections::BTreeMap::new(),
            missed: None,
            validation_window_hours: 0,
        }),
        ..test()
    };
    assert_eq!(planned.given_up(second(1000 * day)), None, "its start window closes on it");
    let broken = happen(planned, vec![room(), E::Started, down(), room()], second(30));
    assert!(!broken.is_late(second(90)), "it had started in its start window");
    assert_eq!(broken.given_up(second(29 + day)), None);
    assert!(broken.given_up(second(30 + day)).unwrap().contains("No room."));
}
