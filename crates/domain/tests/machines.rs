//! The state machines of backup and restore jobs: every pair of state and event, and whole lives of random events.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use provault_domain::backup_job::{self, BackupResult, CreatedBy, SkippedPath};
use provault_domain::restore_job::{self, DeletionStatus, ValidationStatus};
use provault_domain::{
    Arn, BackupJob, BackupJobEvent, BackupJobState, Effect, Kind, Lifecycle, MOST_ATTEMPTS,
    NotificationEvent, RestoreJob, RestoreJobEvent, RestoreJobState, RestoreTestState, Tags,
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
        interruptions: 0,
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
        Just(E::Interrupted { reason: "down".to_owned() }),
        Just(E::Suspended { reason: "stop".to_owned() }),
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
        Just(E::PutOff { reason: "the disk is away.".to_owned() }),
        (1..u64::MAX).prop_map(|occurrences| E::Missed {
            occurrences,
            first: at(-9),
            last: at(-3)
        }),
    ]
}

#[test]
fn a_job_is_not_started_after_its_start_window() {
    let job = backup();
    let step = |job: &BackupJob, event, second| backup_job::step(job, event, at(second));
    step(&job, BackupJobEvent::Started, 3600).unwrap_err();
    let (started, _) = step(&job, BackupJobEvent::Started, 3599).unwrap();
    assert_eq!(started.state, BackupJobState::Running);
}

#[test]
fn a_job_that_was_put_off_says_why_until_its_window_closes() {
    let put_off = BackupJobEvent::PutOff { reason: "the disk is away.".to_owned() };
    let (job, effects) = backup_job::step(&backup(), put_off, at(5)).unwrap();
    assert_eq!((job.state, effects.len()), (BackupJobState::Created, 0));
    assert_eq!(job.status_message.as_deref(), Some("Not started yet: the disk is away."));
    let (started, _) = backup_job::step(&job, BackupJobEvent::Started, at(9)).unwrap();
    assert_eq!(started.status_message, None, "that is over");
    let (ended, _) = backup_job::step(&job, BackupJobEvent::StartWindowClosed, at(3600)).unwrap();
    let message = ended.status_message.unwrap();
    assert!(message.contains("start window closed") && message.contains("the disk is away."));
}

/// The whole machine, written down a second time, for a job that was not interrupted before.
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
        E::Stopped | E::Failed { .. } | E::Interrupted { .. } | E::Suspended { .. }
            if state == S::Aborting =>
        {
            Some(S::Aborted)
        }
        E::Interrupted { .. } | E::Suspended { .. } if state == S::Running => Some(S::Created),
        E::Completed(result) if working => {
            Some(if result.skipped.is_empty() { S::Completed } else { S::Partial })
        }
        E::Failed { .. } if waiting || working => Some(S::Failed),
        E::PutOff { .. } if state == S::Created => Some(state),
        E::StartWindowClosed if waiting => Some(S::Expired),
        E::Missed { .. } if state == S::Created => Some(S::Expired),
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
        let (mut told, mut started) = (Vec::new(), None);
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
            prop_assert!(job.interruptions <= MOST_ATTEMPTS);
            if let Some(started) = started {
                prop_assert_eq!(job.started_at, Some(started), "it starts once, however often it runs");
                prop_assert!(job.state != BackupJobState::Expired, "what has started is not late");
            }
            started = job.started_at;
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
fn a_backup_is_interrupted_only_so_often() {
    let mut job = backup();
    for attempt in 1..=MOST_ATTEMPTS {
        assert_eq!(job.is_interrupted(), attempt > 1);
        job = backup_job::step(&job, BackupJobEvent::Started, at(i64::from(attempt))).unwrap().0;
        let event = BackupJobEvent::Interrupted { reason: "down.".to_owned() };
        let (next, effects) = backup_job::step(&job, event, at(9)).unwrap();
        assert_eq!((next.interruptions, next.started_at), (attempt, Some(at(1))));
        assert_eq!(effects.is_empty(), attempt < MOST_ATTEMPTS, "told is the end alone");
        job = next;
        if attempt < MOST_ATTEMPTS {
            for late in [
                BackupJobEvent::StartWindowClosed,
                BackupJobEvent::Missed { occurrences: 1, first: at(1), last: at(1) },
            ] {
                backup_job::step(&job, late, at(9)).unwrap_err();
            }
        }
    }
    assert_eq!(job.state, BackupJobState::Failed);
    assert!(job.status_message.unwrap().starts_with("down. That was attempt 5"));
}

/// A backup that takes days outlives any number of planned restarts.
#[test]
fn an_orderly_stop_is_no_attempt_of_a_backup() {
    let mut job = backup();
    for n in 1..=i64::from(2 * MOST_ATTEMPTS) {
        job = backup_job::step(&job, BackupJobEvent::Started, at(n)).unwrap().0;
        let event = BackupJobEvent::Suspended { reason: "stopped.".to_owned() };
        job = backup_job::step(&job, event, at(n)).unwrap().0;
        assert!(job.is_interrupted(), "{job:?}");
    }
    assert_eq!((job.interruptions, job.started_at), (0, Some(at(1))));
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
        stop_requested: None,
        attempts: 0,
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
        Just(E::Resumed),
        Just(E::Suspended { reason: "the server stops".to_owned() }),
        Just(E::PutOff { reason: "away".to_owned() }),
        Just(E::StopRequested { reason: "asked".to_owned() }),
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
        Just(E::ValidationAsked { message: "look".to_owned() }),
    ]
}

fn restore_expected(job: &RestoreJob, event: &RestoreJobEvent) -> Option<RestoreJobState> {
    use RestoreJobEvent as E;
    use RestoreJobState as S;
    let live = !job.state.is_final();
    match event {
        E::Started if job.state == S::Pending => Some(S::Running),
        E::Progressed { .. }
        | E::Resumed
        | E::Suspended { .. }
        | E::PutOff { .. }
        | E::StopRequested { .. }
            if job.state == S::Running =>
        {
            Some(S::Running)
        }
        E::Completed { .. } if job.state == S::Running => Some(S::Completed),
        E::Failed { .. } if live => Some(S::Failed),
        E::StopRequested { .. } if job.state == S::Pending => Some(S::Aborted),
        E::Aborted { .. } if live => Some(S::Aborted),
        E::Validated { .. } | E::ValidationAsked { .. } | E::Deletion { .. }
            if job.test_token.is_some() =>
        {
            Some(job.state)
        }
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

    /// What somebody stopped is not gone on with, whatever becomes of its server.
    #[test]
    fn a_restore_that_is_to_stop_is_never_begun_again(
        events in prop::collection::vec(restore_event(), 0..12),
    ) {
        let mut job = restore_in(RestoreJobState::Running, None);
        let stop = RestoreJobEvent::StopRequested { reason: "asked".to_owned() };
        job = restore_job::step(&job, stop, at(2)).unwrap().0;
        for (event, n) in events.into_iter().zip(3..) {
            let begins = matches!(event, RestoreJobEvent::Started | RestoreJobEvent::Resumed);
            if let Ok((next, _)) = restore_job::step(&job, event, at(n)) {
                prop_assert!(!begins);
                job = next;
            }
            prop_assert_eq!(job.stop_requested.as_deref(), Some("asked"));
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

/// Servers that die wear a restore out, servers that are stopped do not.
#[test]
fn a_restore_is_worn_out_by_deaths_alone() {
    use RestoreJobEvent as E;
    let mut job = restore(None);
    let mut happens = |event: E| {
        job = restore_job::step(&job, event, at(3)).unwrap().0;
        job.clone()
    };
    assert!(!happens(E::Started).is_worn_out());
    for _ in 0..20 {
        let told = happens(E::Suspended { reason: "The server stops.".to_owned() });
        assert_eq!(told.status_message.as_deref(), Some("The server stops."));
        let job = happens(E::Resumed);
        assert_eq!((job.attempts, job.status_message), (1, None));
    }
    for _ in 2..restore_job::MAX_RESTORE_ATTEMPTS {
        assert!(!happens(E::Resumed).is_worn_out());
    }
    assert!(happens(E::Resumed).is_worn_out());
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
