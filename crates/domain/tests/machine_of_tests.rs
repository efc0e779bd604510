//! The state machine of restore tests: every pair of state and event, and whole lives of random events.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use provault_domain::backup_testing::Obstacle;
use provault_domain::restore_job::ValidationStatus;
use provault_domain::restore_test;
use provault_domain::verdict::{
    Failure, Fault, Findings, IsolationLevel, MutantResult, ProbeResult, Validation, decide,
};
use provault_domain::{
    Arn, Effect, Kind, NotificationEvent, PlannedTest, RestoreTest, RestoreTestEvent,
    RestoreTestState, StepRecord, Verdict,
};

const POINT: &str = "arn:aws:backup:us-east-1:111122223333:recovery-point:p";
const RESOURCE: &str = "arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-1";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn arn(text: &str) -> Arn {
    text.parse().unwrap()
}

fn notifications(effects: &[Effect]) -> Vec<NotificationEvent> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Notify(n) => n.event,
        })
        .collect()
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() }
}

fn test() -> RestoreTest {
    RestoreTest {
        id: "test".to_owned(),
        account: "111122223333".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        token: "token".to_owned(),
        resource_arn: arn(RESOURCE),
        resource_name: "files".to_owned(),
        kind: Kind::Filesystem,
        requested_point: None,
        after_backup_job: None,
        planned: None,
        budget: None,
        waiting: None,
        created_at: at(0),
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

fn chosen() -> RestoreTestEvent {
    RestoreTestEvent::PointChosen {
        recovery_point_arn: arn(POINT),
        vault_name: "vault".to_owned(),
        restore_job_id: "restore".to_owned(),
        incomplete: None,
        point_age_seconds: Some(100),
        rpo_seconds: Some(50),
        rto_seconds: Some(60),
    }
}

fn restored() -> RestoreTestEvent {
    RestoreTestEvent::Restored { created_resource_arn: arn(RESOURCE) }
}

fn test_event() -> impl Strategy<Value = RestoreTestEvent> {
    use RestoreTestEvent as E;
    let fault = prop_oneof![Just(Fault::Data), Just(Fault::Host)];
    prop_oneof![
        Just(E::Started),
        Just(E::Waits { obstacle: Obstacle::Room, reason: "no room".to_owned() }),
        Just(E::PassedOver { reason: "left out".to_owned() }),
        Just(chosen()),
        Just(restored()),
        Just(E::Tested(Box::default())),
        Just(E::Controlled(Box::default())),
        prop::sample::select(ValidationStatus::ALL)
            .prop_map(|status| E::ValidationReported { status, message: None }),
        Just(E::ValidationClosed),
        any::<bool>().prop_map(|ok| E::StepDone(StepRecord {
            name: "probe".to_owned(),
            started_at: at(1),
            millis: 1,
            ok,
            detail: String::new(),
        })),
        fault.prop_map(|fault| E::Broken(Failure {
            fault,
            step: "restore".to_owned(),
            message: "broken".to_owned(),
        })),
        Just(E::Interrupted { reason: "down".to_owned() }),
        Just(E::Suspended { reason: "stop".to_owned() }),
        any::<bool>().prop_map(|cleaned_up| E::Reaped { cleaned_up }),
    ]
}

fn test_expected(state: RestoreTestState, event: &RestoreTestEvent) -> Option<RestoreTestState> {
    use RestoreTestEvent as E;
    use RestoreTestState as S;
    match (state, event) {
        (S::Pending, E::Started) => Some(S::Choosing),
        (S::Choosing, E::PointChosen { .. }) => Some(S::Restoring),
        (S::Restoring, E::Restored { .. }) => Some(S::Testing),
        (S::Testing, E::Tested(_)) => Some(S::Controlling),
        (S::Pending, E::PassedOver { .. }) | (S::Reaping, E::Reaped { .. }) => Some(S::Finished),
        (_, E::StepDone(_)) if state != S::Finished => Some(state),
        (_, E::Broken(_)) if state != S::Finished => Some(S::Reaping),
        (S::Validating, E::ValidationReported { status: ValidationStatus::Validating, .. }) => {
            Some(S::Validating)
        }
        (S::Controlling, E::Controlled(_))
        | (S::Validating, E::ValidationReported { .. } | E::ValidationClosed) => Some(S::Reaping),
        (S::Pending, E::Waits { .. })
        | (
            S::Choosing | S::Restoring | S::Testing | S::Controlling,
            E::Interrupted { .. } | E::Suspended { .. },
        ) => Some(S::Pending),
        _ => None,
    }
}

fn check_test(test: &RestoreTest) {
    let finished = test.state == RestoreTestState::Finished;
    assert_eq!(test.completed_at.is_some(), finished);
    assert_eq!(test.verdict.is_some(), finished);
    assert_eq!(test.reason.is_some(), finished);
    assert_eq!(test.cleaned_up.is_some(), finished);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn test_pairs(event in test_event()) {
        for &state in RestoreTestState::ALL {
            let finished = (state == RestoreTestState::Finished).then_some(());
            let before = RestoreTest {
                state,
                completed_at: finished.map(|()| at(5)),
                verdict: finished.map(|()| decide(&Findings::default()).0),
                reason: finished.map(|()| "why".to_owned()),
                cleaned_up: finished.map(|()| true),
                vault_name: Some("vault".to_owned()),
                ..test()
            };
            match (test_expected(state, &event), restore_test::step(&before, event.clone(), at(9))) {
                (Some(expected), Ok((after, effects))) => {
                    prop_assert_eq!(after.state, expected);
                    prop_assert_eq!(&after.token, &before.token);
                    check_test(&after);
                    let made = !matches!(event, RestoreTestEvent::PassedOver { .. });
                    let ends = made && expected == RestoreTestState::Finished;
                    prop_assert_eq!(notifications(&effects).len(), usize::from(ends));
                }
                (None, Err(refused)) => prop_assert_eq!(&refused.state, state.as_str()),
                (expected, got) => prop_assert!(false, "{state} {event:?}: {expected:?} {got:?}"),
            }
        }
    }

    /// Every life ends with the verdict that its findings give, and a failure is never lost.
    #[test]
    fn test_lives(events in prop::collection::vec(test_event(), 0..30)) {
        let mut current = test();
        let (mut told, mut broken, mut steps) = (Vec::new(), 0, 0);
        for (event, n) in events.into_iter().zip(1..) {
            if let Ok((next, effects)) = restore_test::step(&current, event.clone(), at(n)) {
                prop_assert!(current.state != RestoreTestState::Finished);
                broken += usize::from(matches!(event, RestoreTestEvent::Broken(_)));
                steps += usize::from(matches!(event, RestoreTestEvent::StepDone(_)));
                if matches!(
                    event,
                    RestoreTestEvent::Interrupted { .. } | RestoreTestEvent::Suspended { .. }
                ) {
                    prop_assert_eq!(broken, 0, "what was found wrong stays found");
                    // The next attempt is told of alone; the last one is broken off.
                    if next.state == RestoreTestState::Pending {
                        steps = 0;
                    } else {
                        broken = 1;
                    }
                }
                told.extend(notifications(&effects));
                current = next;
            }
            check_test(&current);
            prop_assert_eq!(current.findings.failures.len(), broken);
            prop_assert_eq!(current.steps.len(), steps);
        }
        if current.verdict == Some(Verdict::NotTested) {
            // Passed over: nothing was found out, and there is nothing to tell.
            prop_assert!(told.is_empty());
            prop_assert_eq!(current.reason.as_deref(), Some("left out"));
        } else if let Some(verdict) = current.verdict {
            prop_assert_eq!((verdict, current.reason.unwrap()), decide(&current.findings));
            // Without a point there is no vault whose topic could be told.
            let cleaned_up = current.cleaned_up.unwrap();
            let end = NotificationEvent::RestoreTestEnded { verdict, cleaned_up };
            let expected: Vec<_> = current.vault_name.map(|_| end).into_iter().collect();
            prop_assert_eq!(told, expected);
        } else {
            prop_assert!(told.is_empty());
        }
    }
}

/// What a test found wrong is not forgotten by beginning anew.
#[test]
fn a_test_that_found_damage_is_not_begun_anew() {
    use RestoreTestEvent as E;
    let damage = Failure { fault: Fault::Data, step: "probe".into(), message: "bad".into() };
    let found = Findings { failures: vec![damage], ..Findings::default() };
    let mut current = test();
    for event in [E::Started, chosen(), restored(), E::Tested(Box::new(found))] {
        current = restore_test::step(&current, event, at(1)).unwrap().0;
    }
    assert!(!current.is_interruptible());
    let event = E::Interrupted { reason: "down".to_owned() };
    restore_test::step(&current, event, at(2)).unwrap_err();
}

/// A test that takes long outlives any number of planned restarts.
#[test]
fn an_orderly_stop_is_no_attempt_of_a_test() {
    use RestoreTestEvent as E;
    let mut current = test();
    for n in 1..=20 {
        for event in [E::Started, chosen(), E::Suspended { reason: "stop".to_owned() }] {
            current = restore_test::step(&current, event, at(n)).unwrap().0;
        }
        assert_eq!(current.state, RestoreTestState::Pending);
    }
    assert_eq!((current.interruptions, current.started_at), (0, Some(at(1))));
}

/// The runner's findings know nothing of the targets; the test must not forget them.
#[test]
fn the_targets_of_the_choice_stay() {
    use RestoreTestEvent as E;
    let mut current = test();
    let found = || Box::new(Findings { recovery_millis: Some(5), ..Findings::default() });
    for event in [E::Started, chosen(), restored(), E::Tested(found()), E::Controlled(found())] {
        current = restore_test::step(&current, event, at(1)).unwrap().0;
    }
    assert_eq!(current.findings.point_age_seconds, Some(100));
    assert_eq!(current.findings.rpo_seconds, Some(50));
    assert_eq!(current.findings.rto_seconds, Some(60));
    assert_eq!(current.findings.recovery_millis, Some(5));
    assert_eq!(at(0) + SignedDuration::from_secs(1), at(1));
}

/// A test of a plan with a validation window, and findings of its own that are a pass.
fn with_window() -> (RestoreTest, Findings) {
    let planned = PlannedTest {
        plan_arn: arn("arn:aws:backup:us-east-1:111122223333:restore-testing-plan:weekly"),
        plan_name: "weekly".to_owned(),
        selection_name: "all".to_owned(),
        start_by: at(60),
        role_arn: arn("arn:aws:iam::111122223333:role/r"),
        metadata_overrides: std::collections::BTreeMap::new(),
        validation_window_hours: 2,
        missed: None,
    };
    let mutant = |name: &str| MutantResult {
        name: name.to_owned(),
        required: true,
        killed: Some(true),
        detail: "noticed".to_owned(),
    };
    let findings = Findings {
        isolation: Some(IsolationLevel::FilesOnly),
        probes: vec![ProbeResult {
            label: "files".to_owned(),
            passed: true,
            detail: "all of them".to_owned(),
            http_status: None,
            millis: 1,
            output: None,
        }],
        mutants: vec![mutant("everything-emptied"), mutant("everything-gone")],
        recovery_millis: Some(5),
        point_age_seconds: Some(1),
        ..Findings::default()
    };
    let test = RestoreTest {
        planned: Some(planned),
        state: RestoreTestState::Controlling,
        vault_name: Some("vault".to_owned()),
        restore_job_id: Some("restore".to_owned()),
        findings: Findings { point_age_seconds: Some(1), ..Findings::default() },
        ..test()
    };
    (test, findings)
}

/// The test while it waits for somebody outside.
fn validating() -> RestoreTest {
    let (test, mut findings) = with_window();
    findings.validation = test.validation(&findings, "/copy".to_owned(), at(10));
    let event = RestoreTestEvent::Controlled(Box::new(findings));
    let (waits, effects) = restore_test::step(&test, event, at(10)).unwrap();
    assert_eq!(waits.state, RestoreTestState::Validating);
    assert_eq!(notifications(&effects), [NotificationEvent::ValidationAsked]);
    let Effect::Notify(told) = &effects[0];
    assert_eq!(told.job_id, "restore", "what a report is about");
    let reason = told.reason.as_deref().unwrap();
    assert!(reason.contains("/copy") && reason.contains(&at(7210).to_string()), "{reason}");
    waits
}

fn verdict_after(test: &RestoreTest) -> (Verdict, String) {
    assert_eq!(test.state, RestoreTestState::Reaping);
    let gone = RestoreTestEvent::Reaped { cleaned_up: true };
    let ended = restore_test::step(test, gone, at(9000)).unwrap().0;
    (ended.verdict.unwrap(), ended.reason.unwrap())
}

#[test]
fn what_somebody_outside_says_decides_unless_the_test_failed_by_itself() {
    use ValidationStatus as V;
    for (status, verdict) in [
        (V::Successful, Verdict::Passed),
        (V::Failed, Verdict::Failed),
        (V::TimedOut, Verdict::Inconclusive),
    ] {
        let message = Some("12 rows".to_owned());
        let event = RestoreTestEvent::ValidationReported { status, message };
        let after = restore_test::step(&validating(), event.clone(), at(20)).unwrap().0;
        let (got, reason) = verdict_after(&after);
        assert_eq!(got, verdict, "{reason}");
        assert!(reason.contains("12 rows"), "{reason}");
        restore_test::step(&after, event, at(30)).unwrap_err();
    }
}

#[test]
fn silence_is_no_pass_and_the_window_closes_no_earlier() {
    let waits = validating();
    assert!(!waits.is_unheard(at(7209)) && !waits.is_interruptible());
    restore_test::step(&waits, RestoreTestEvent::ValidationClosed, at(7209)).unwrap_err();
    let word = RestoreTestEvent::ValidationReported {
        status: ValidationStatus::Validating,
        message: Some("half way".to_owned()),
    };
    let waits = restore_test::step(&waits, word, at(7209)).unwrap().0;
    assert_eq!(waits.state, RestoreTestState::Validating);
    assert!(waits.is_unheard(at(7210)));
    let over = restore_test::step(&waits, RestoreTestEvent::ValidationClosed, at(7210)).unwrap().0;
    let (verdict, reason) = verdict_after(&over);
    assert_eq!(verdict, Verdict::Inconclusive);
    assert!(reason.contains("half way") && reason.contains("no result"), "{reason}");
}

/// A failure is told at once, and nobody outside can make a pass of a test that cannot tell.
#[test]
fn nobody_is_asked_about_what_failed() {
    let (test, whole) = with_window();
    let asked = |findings: &Findings| test.validation(findings, "/copy".to_owned(), at(10));
    let mut failed = whole.clone();
    failed.probes[0].passed = false;
    assert_eq!(asked(&failed), None);
    failed.validation = asked(&whole);
    let event = RestoreTestEvent::Controlled(Box::new(failed));
    let (after, effects) = restore_test::step(&test, event, at(10)).unwrap();
    assert_eq!((after.state, effects), (RestoreTestState::Reaping, Vec::new()));
    assert_eq!(after.findings.validation, None);
    let without = RestoreTest { planned: None, ..test.clone() };
    assert_eq!(without.validation(&whole, "/copy".to_owned(), at(10)), None);

    let mut blind = whole;
    blind.mutants[0].killed = Some(false);
    let good = Validation {
        status: ValidationStatus::Successful,
        ..test.validation(&blind, "/copy".to_owned(), at(10)).unwrap()
    };
    blind.validation = Some(good);
    assert_eq!(decide(&blind).0, Verdict::Inconclusive);
}
