//! The three state machines: every pair of state and event, and whole lives of random events.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use provault_domain::backup_job::{self, BackupResult, CreatedBy, SkippedPath};
use provault_domain::backup_testing::Obstacle;
use provault_domain::restore_job::{self, DeletionStatus, ValidationStatus};
use provault_domain::restore_test;
use provault_domain::verdict::{Failure, Fault, Findings, decide};
use provault_domain::{
    Arn, BackupJob, BackupJobEvent, BackupJobState, Effect, Kind, Lifecycle, NotificationEvent,
    RestoreJob, RestoreJobEvent, RestoreJobState, RestoreTest, RestoreTestEvent, RestoreTestState,
    StepRecord, Tags, TestBudget, TestingScope, Verdict,
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

// ---- backup jobs ----

fn backup() -> BackupJob {
    BackupJob {
        id: "job".to_owned(),
        account: "111122223333".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        vault_name: "vault".to_owned(),
        vault_arn: arn("arn:aws:backup:us-east-1:111122223333:backup-vault:vault"),
        resource_arn: arn(RESOURCE),
        resource_name: "files".to_owned(),
        kind: Kind::Filesystem,
        role_arn: arn("arn:aws:iam::111122223333:role/r"),
        lifecycle: Lifecycle::default(),
        recovery_point_tags: Tags::new(),
        created_by: None,
        idempotency_token: None,
        created_at: at(0),
        start_by: at(3600),
        completion_window_minutes: 60,
        started_at: None,
        completed_at: None,
        state: BackupJobState::Created,
        status_message: None,
        bytes_transferred: 0,
        bytes_expected: None,
        backup_size_bytes: None,
        bytes_stored: None,
        recovery_point_arn: None,
        skipped: Vec::new(),
    }
}

/// A job as it would be found in `state`.
fn backup_in(state: BackupJobState) -> BackupJob {
    use BackupJobState as S;
    let made = matches!(state, S::Completed | S::Partial);
    BackupJob {
        state,
        started_at: (!matches!(state, S::Created | S::Pending | S::Expired)).then(|| at(1)),
        completed_at: state.is_final().then(|| at(2)),
        status_message: matches!(state, S::Aborting | S::Aborted | S::Failed | S::Expired)
            .then(|| "why".to_owned()),
        recovery_point_arn: made.then(|| arn(POINT)),
        ..backup()
    }
}

fn backup_event() -> impl Strategy<Value = BackupJobEvent> {
    use BackupJobEvent as E;
    let skipped = prop::collection::vec(
        Just(SkippedPath { path: "a/b".to_owned(), reason: "denied".to_owned() }),
        0..3,
    );
    let message = prop::option::of(Just("remark".to_owned()));
    prop_oneof![
        Just(E::Started),
        (any::<u64>(), any::<Option<u64>>()).prop_map(|(bytes_transferred, bytes_expected)| {
            E::Progressed { bytes_transferred, bytes_expected }
        }),
        Just(E::StopRequested { reason: "asked".to_owned() }),
        Just(E::Stopped),
        (skipped, message, any::<(u64, u64, u64)>()).prop_map(|(skipped, message, n)| {
            E::Completed(Box::new(BackupResult {
                recovery_point_arn: arn(POINT),
                backup_size_bytes: n.0,
                bytes_transferred: n.1,
                bytes_stored: n.2,
                skipped,
                message,
            }))
        }),
        Just(E::Failed { message: "broken".to_owned() }),
        Just(E::StartWindowClosed),
        (1..u64::MAX).prop_map(|occurrences| E::Missed {
            occurrences,
            first: at(-9),
            last: at(-3)
        }),
    ]
}

/// The whole machine, written down a second time.
fn backup_expected(state: BackupJobState, event: &BackupJobEvent) -> Option<BackupJobState> {
    use BackupJobEvent as E;
    use BackupJobState as S;
    let waiting = matches!(state, S::Created | S::Pending);
    let working = matches!(state, S::Running | S::Aborting);
    match event {
        E::Started if waiting => Some(S::Running),
        E::Progressed { .. } if working => Some(state),
        E::StopRequested { .. } if working => Some(S::Aborting),
        E::StopRequested { .. } if waiting => Some(S::Aborted),
        E::Stopped | E::Failed { .. } if state == S::Aborting => Some(S::Aborted),
        E::Completed(result) if working => {
            Some(if result.skipped.is_empty() { S::Completed } else { S::Partial })
        }
        E::Failed { .. } if waiting || working => Some(S::Failed),
        E::StartWindowClosed | E::Missed { .. } if state == S::Created => Some(S::Expired),
        _ => None,
    }
}

/// What must hold of a job whatever happened to it.
fn check_backup(job: &BackupJob) {
    use BackupJobState as S;
    assert_eq!(job.completed_at.is_some(), job.state.is_final(), "{job:?}");
    let made = matches!(job.state, S::Completed | S::Partial);
    assert_eq!(job.recovery_point_arn.is_some(), made, "{job:?}");
    assert_eq!(job.state == S::Partial, !job.skipped.is_empty(), "{job:?}");
    if job.state.is_final() && job.state != S::Completed {
        assert!(job.status_message.as_ref().is_some_and(|m| !m.is_empty()), "{job:?}");
    }
    assert!((0.0..=100.0).contains(&job.percent_done()));
    assert!((job.percent_done() < 100.0) != made, "100 % exactly when the point is there");
}

/// What no event may touch.
fn backup_identity(job: &BackupJob) -> BackupJob {
    BackupJob {
        id: job.id.clone(),
        vault_name: job.vault_name.clone(),
        resource_arn: job.resource_arn.clone(),
        lifecycle: job.lifecycle,
        created_at: job.created_at,
        start_by: job.start_by,
        ..backup()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn backup_pairs(event in backup_event()) {
        for &state in BackupJobState::ALL {
            let job = backup_in(state);
            let before = job.clone();
            let result = backup_job::step(&job, event.clone(), at(9));
            prop_assert_eq!(&job, &before);
            match (backup_expected(state, &event), result) {
                (Some(expected), Ok((after, effects))) => {
                    prop_assert!(!state.is_final());
                    prop_assert_eq!(after.state, expected);
                    prop_assert_eq!(backup_identity(&after), backup_identity(&job));
                    check_backup(&after);
                    let told = notifications(&effects);
                    if event == BackupJobEvent::Started {
                        prop_assert_eq!(told, [NotificationEvent::BackupJobStarted]);
                    } else if expected.is_final() {
                        prop_assert_eq!(told, [NotificationEvent::BackupJobEnded(expected)]);
                    } else {
                        prop_assert!(told.is_empty());
                    }
                }
                (None, Err(refused)) => {
                    prop_assert_eq!(&refused.state, state.as_str());
                    prop_assert!(refused.to_string().contains("backup job job"));
                }
                (expected, got) => prop_assert!(false, "{state} {event:?}: {expected:?} {got:?}"),
            }
        }
    }

    #[test]
    fn backup_lives(events in prop::collection::vec(backup_event(), 0..12)) {
        let mut job = backup();
        let mut told = Vec::new();
        for (event, n) in events.into_iter().zip(1..) {
            if let Ok((next, effects)) = backup_job::step(&job, event, at(n)) {
                prop_assert!(!job.state.is_final());
                for Effect::Notify(n) in &effects {
                    prop_assert_eq!(&n.recovery_point_arn, &next.recovery_point_arn);
                    prop_assert_eq!(&n.reason, &next.status_message);
                    prop_assert_eq!(&n.job_id, &next.id);
                }
                told.extend(notifications(&effects));
                job = next;
            }
            check_backup(&job);
        }
        let mut expected = Vec::new();
        if job.started_at.is_some() {
            expected.push(NotificationEvent::BackupJobStarted);
        }
        if job.state.is_final() {
            expected.push(NotificationEvent::BackupJobEnded(job.state));
        }
        prop_assert_eq!(told, expected);
    }
}

#[test]
fn completion_windows() {
    let on_demand = BackupJob { started_at: Some(at(600)), ..backup() };
    assert_eq!(on_demand.complete_by(), at(3600), "on demand: from its creation");
    let by = CreatedBy {
        plan_id: String::new(),
        plan_arn: arn("arn:aws:backup:us-east-1:111122223333:backup-plan:p"),
        plan_name: String::new(),
        plan_version: String::new(),
        rule_id: String::new(),
        rule_name: String::new(),
        rule_cron: String::new(),
        rule_timezone: String::new(),
        selection_id: None,
    };
    let planned = BackupJob { created_by: Some(by), ..on_demand };
    assert_eq!(planned.complete_by(), at(4200), "under a plan: from its start");
    let endless = BackupJob { completion_window_minutes: i64::MAX, ..planned };
    assert_eq!(endless.complete_by(), Timestamp::MAX);
}

// ---- restore jobs ----

fn restore(test_token: Option<&str>) -> RestoreJob {
    RestoreJob {
        id: "job".to_owned(),
        account: "111122223333".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        recovery_point_arn: arn(POINT),
        vault_name: "vault".to_owned(),
        source_resource_arn: arn(RESOURCE),
        kind: Kind::Filesystem,
        role_arn: arn("arn:aws:iam::111122223333:role/r"),
        metadata: BTreeMap::new(),
        idempotency_token: None,
        test_token: test_token.map(str::to_owned),
        testing_plan_arn: None,
        created_at: at(0),
        started_at: None,
        completed_at: None,
        state: RestoreJobState::Pending,
        status_message: None,
        backup_size_bytes: 1000,
        bytes_restored: 0,
        created_resource_arn: None,
        validation: None,
        validation_message: None,
        deletion: None,
        deletion_message: None,
    }
}

fn restore_in(state: RestoreJobState, token: Option<&str>) -> RestoreJob {
    RestoreJob {
        state,
        started_at: (state != RestoreJobState::Pending).then(|| at(1)),
        completed_at: state.is_final().then(|| at(2)),
        ..restore(token)
    }
}

fn restore_event() -> impl Strategy<Value = RestoreJobEvent> {
    use RestoreJobEvent as E;
    prop_oneof![
        Just(E::Started),
        any::<u64>().prop_map(|bytes_restored| E::Progressed { bytes_restored }),
        (any::<bool>(), any::<u64>()).prop_map(|(created, bytes_restored)| E::Completed {
            created_resource_arn: created.then(|| arn(RESOURCE)),
            bytes_restored,
            message: None,
        }),
        Just(E::Failed { message: "broken".to_owned() }),
        Just(E::Aborted { message: "asked".to_owned() }),
        prop::sample::select(ValidationStatus::ALL)
            .prop_map(|status| E::Validated { status, message: "v".to_owned() }),
        prop::sample::select(DeletionStatus::ALL)
            .prop_map(|status| E::Deletion { status, message: None }),
    ]
}

fn restore_expected(job: &RestoreJob, event: &RestoreJobEvent) -> Option<RestoreJobState> {
    use RestoreJobEvent as E;
    use RestoreJobState as S;
    let live = !job.state.is_final();
    match event {
        E::Started if job.state == S::Pending => Some(S::Running),
        E::Progressed { .. } if job.state == S::Running => Some(S::Running),
        E::Completed { .. } if job.state == S::Running => Some(S::Completed),
        E::Failed { .. } if live => Some(S::Failed),
        E::Aborted { .. } if live => Some(S::Aborted),
        E::Validated { .. } | E::Deletion { .. } if job.test_token.is_some() => Some(job.state),
        _ => None,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn restore_pairs(event in restore_event(), token in prop::option::of(Just("token"))) {
        for &state in RestoreJobState::ALL {
            let job = restore_in(state, token);
            let result = restore_job::step(&job, event.clone(), at(9));
            match (restore_expected(&job, &event), result) {
                (Some(expected), Ok((after, effects))) => {
                    prop_assert_eq!(after.state, expected);
                    prop_assert_eq!(after.completed_at.is_some(), expected.is_final());
                    let told = notifications(&effects);
                    if event == RestoreJobEvent::Started {
                        prop_assert_eq!(told, [NotificationEvent::RestoreJobStarted]);
                    } else if expected.is_final() && !state.is_final() {
                        prop_assert_eq!(told, [NotificationEvent::RestoreJobEnded(expected)]);
                    } else {
                        prop_assert!(told.is_empty());
                    }
                    if state.is_final() {
                        // Validation and deletion touch nothing but their own members.
                        let undone = RestoreJob {
                            validation: None, validation_message: None,
                            deletion: None, deletion_message: None,
                            ..after
                        };
                        prop_assert_eq!(undone, job);
                    }
                }
                (None, Err(refused)) => prop_assert_eq!(&refused.state, state.as_str()),
                (expected, got) => prop_assert!(false, "{state} {event:?}: {expected:?} {got:?}"),
            }
        }
    }

    /// Whatever happens, an operator's restore never gets a validation or a deletion.
    #[test]
    fn operators_restores_are_never_reaped(
        events in prop::collection::vec(restore_event(), 0..12),
    ) {
        let mut job = restore(None);
        let mut told = Vec::new();
        for (event, n) in events.into_iter().zip(1..) {
            if let Ok((next, effects)) = restore_job::step(&job, event, at(n)) {
                told.extend(notifications(&effects));
                job = next;
            }
            prop_assert_eq!(job.validation, None);
            prop_assert_eq!(job.deletion, None);
            prop_assert_eq!(job.completed_at.is_some(), job.state.is_final());
            prop_assert!((0.0..=100.0).contains(&job.percent_done()));
        }
        let started = job.started_at.map(|_| NotificationEvent::RestoreJobStarted);
        let ended = job.state.is_final().then_some(NotificationEvent::RestoreJobEnded(job.state));
        prop_assert_eq!(told, started.into_iter().chain(ended).collect::<Vec<_>>());
    }
}

// ---- restore tests ----

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
        any::<bool>().prop_map(|cleaned_up| E::Reaped { cleaned_up }),
    ]
}

fn test_expected(state: RestoreTestState, event: &RestoreTestEvent) -> Option<RestoreTestState> {
    use RestoreTestEvent as E;
    use RestoreTestState as S;
    match (state, event) {
        (S::Pending, E::Started) => Some(S::Choosing),
        (S::Pending, E::Waits { .. }) => Some(S::Pending),
        (S::Pending, E::PassedOver { .. }) => Some(S::Finished),
        (S::Choosing, E::PointChosen { .. }) => Some(S::Restoring),
        (S::Restoring, E::Restored { .. }) => Some(S::Testing),
        (S::Testing, E::Tested(_)) => Some(S::Controlling),
        (S::Reaping, E::Reaped { .. }) => Some(S::Finished),
        (_, E::StepDone(_)) if state != S::Finished => Some(state),
        (_, E::Broken(_)) if state != S::Finished => Some(S::Reaping),
        (S::Controlling, E::Controlled(_)) => Some(S::Reaping),
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
        start_by: start_by.map(at),
    };
    let waits = |obstacle, reason: &str| E::Waits { obstacle, reason: reason.to_owned() };
    let day = 24 * 3600;
    let fresh = RestoreTest { budget: Some(budget(None)), ..test() };
    assert_eq!(fresh.given_up(at(1000 * day)), None, "its turn comes some day");
    let full = restore_test::step(&fresh, waits(Obstacle::Room, "No room."), at(100)).unwrap().0;
    assert_eq!(full.given_up(at(100 + day - 1)), None);
    assert!(full.given_up(at(100 + day)).unwrap().contains("No room."));
    let still = restore_test::step(&full, waits(Obstacle::Room, "None yet."), at(200)).unwrap().0;
    assert_eq!(still.waiting.as_ref().unwrap().since, at(100), "it is the same wait");
    let other = restore_test::step(&still, waits(Obstacle::Turn, "Later."), at(300)).unwrap().0;
    assert_eq!(other.given_up(at(1000 * day)), None, "there was room in between");
    let begun = restore_test::step(&full, E::Started, at(400)).unwrap().0;
    assert!(begun.waiting.is_none() && begun.given_up(at(1000 * day)).is_none());
    let windows = RestoreTest { budget: Some(budget(Some(500))), ..test() };
    assert_eq!(windows.given_up(at(499)), None);
    assert!(windows.given_up(at(500)).unwrap().contains("plan nightly"));
    assert_eq!(test().given_up(at(1000 * day)), None, "one by hand waits for nothing of this");
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

#[test]
fn names_of_states_come_back() {
    for state in BackupJobState::ALL {
        assert_eq!(state.as_str().parse::<BackupJobState>().unwrap(), *state);
    }
    for state in RestoreTestState::ALL {
        assert_eq!(state.as_str().parse::<RestoreTestState>().unwrap(), *state);
    }
    assert!("completed".parse::<BackupJobState>().is_err());
}
