//! Care runs: what may happen when, and what is due.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use jiff::{SignedDuration, Timestamp};
use provault_domain::care::*;
use provault_domain::{BackupVault, Effect, MOST_ATTEMPTS, NotificationEvent};

fn at(days: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * days)
}

fn run(state: CareState) -> CareRun {
    let account = "111122223333".parse().unwrap();
    let region = "us-east-1".parse().unwrap();
    let arn = provault_domain::Arn::backup_vault(&region, &account, "v");
    let vault = BackupVault {
        name: "v".to_owned(),
        encryption_key_arn: arn.clone(),
        arn,
        account,
        region,
        creator_request_id: None,
        created_at: at(0),
        location: "vaults/v".to_owned(),
        sealed_password: String::new(),
        notifications: None,
        care: CareSettings::default(),
        imported: false,
    };
    let (operation, trigger) = (CareOperation::Check, CareTrigger::Operator);
    let run = CareRun::new("id".into(), &vault, operation, CareOptions::default(), trigger, at(0));
    CareRun { state, ..run }
}

/// Every pair of state and event: the state that follows, or a refusal that changes nothing.
#[test]
fn every_event_in_every_state() {
    use CareState as S;
    type Follows = fn(S) -> Option<S>;
    let report = |clean| Box::new(CareReport { clean, ..CareReport::default() });
    let message = || "why".to_owned();
    let events: [(CareEvent, Follows); 8] = [
        (CareEvent::Started, |s| (s == S::Pending).then_some(S::Running)),
        (CareEvent::Progressed { done: 1, total: None }, |s| (s == S::Running).then_some(s)),
        (CareEvent::StopRequested { reason: message() }, |s| match s {
            S::Pending => Some(S::Aborted),
            S::Running => Some(S::Running),
            _ => None,
        }),
        (CareEvent::Completed(report(true)), |s| (s == S::Running).then_some(S::Completed)),
        (CareEvent::Failed { message: message() }, |s| (!s.is_final()).then_some(S::Failed)),
        (CareEvent::Stopped { message: message() }, |s| (!s.is_final()).then_some(S::Aborted)),
        (CareEvent::Interrupted { reason: message() }, |s| (s == S::Running).then_some(S::Pending)),
        (CareEvent::Suspended { reason: message() }, |s| (s == S::Running).then_some(S::Pending)),
    ];
    for state in S::ALL {
        for (event, expected) in &events {
            let stepped = step(&run(*state), event.clone(), at(1));
            let next = stepped.as_ref().ok().map(|(run, _)| run.state);
            assert_eq!(next, expected(*state), "{state} {event:?}");
            if let Ok((run, effects)) = stepped {
                assert_eq!(run.completed_at.is_some(), run.state.is_final(), "{state} {event:?}");
                let told = !effects.is_empty();
                assert_eq!(told, run.state == S::Failed, "{state} {event:?}");
            }
        }
    }
    let (run, effects) =
        step(&run(S::Running), CareEvent::Completed(report(false)), at(1)).unwrap();
    assert_eq!(run.state, S::Completed);
    let Effect::Notify(told) = &effects[0];
    // Nothing but missing snapshots among what is wrong: there is no damage to speak of.
    assert_eq!(told.event, NotificationEvent::VaultAlarm(VaultAlarm::PointsMissing));
}

#[test]
fn a_run_is_interrupted_only_so_often_and_not_when_it_was_to_stop() {
    let interrupted = || CareEvent::Interrupted { reason: "down".to_owned() };
    let mut current = run(CareState::Pending);
    for attempt in 1..=MOST_ATTEMPTS {
        current = step(&current, CareEvent::Started, at(i64::from(attempt))).unwrap().0;
        assert_eq!(current.started_at, Some(at(1)), "when it first began");
        let (next, effects) = step(&current, interrupted(), at(9)).unwrap();
        assert_eq!(next.interruptions, attempt);
        assert_eq!(effects.is_empty(), attempt < MOST_ATTEMPTS, "told is the end alone");
        current = next;
    }
    assert_eq!(current.state, CareState::Failed);
    assert!(current.status_message.unwrap().starts_with("down That was attempt 5"));

    let asked = CareEvent::StopRequested { reason: "enough".to_owned() };
    let stopping = step(&run(CareState::Running), asked, at(1)).unwrap().0;
    let ended = step(&stopping, interrupted(), at(2)).unwrap().0;
    assert_eq!((ended.state, ended.interruptions), (CareState::Aborted, 0));
    assert_eq!(ended.status_message.as_deref(), Some("enough"));
    let stop = CareEvent::Suspended { reason: "stop".to_owned() };
    let ended = step(&stopping, stop, at(2)).unwrap().0;
    assert_eq!((ended.state, ended.interruptions), (CareState::Aborted, 0));
}

#[test]
fn an_orderly_stop_is_no_attempt_of_a_run() {
    let mut current = run(CareState::Pending);
    for n in 1..=i64::from(2 * MOST_ATTEMPTS) {
        current = step(&current, CareEvent::Started, at(n)).unwrap().0;
        let stop = CareEvent::Suspended { reason: "stop".to_owned() };
        current = step(&current, stop, at(n)).unwrap().0;
        assert_eq!((current.state, current.interruptions), (CareState::Pending, 0));
    }
}

#[test]
fn a_setting_that_the_operation_does_not_have_is_refused_by_name() {
    let all =
        CareOptions { read_data: true, dry_run: true, from_vault: Some("w".to_owned()), own: true };
    for operation in CareOperation::ALL {
        assert!(CareOptions::default().validate(*operation).is_ok());
        assert!(all.validate(*operation).is_err(), "{operation}");
    }
    let thorough = CareOptions { read_data: true, ..CareOptions::default() };
    assert!(thorough.validate(CareOperation::Check).is_ok());
    assert!(thorough.validate(CareOperation::Repair).is_ok());
    let dry = CareOptions { dry_run: true, ..CareOptions::default() };
    assert!(dry.validate(CareOperation::Prune).is_ok());
    assert_eq!(dry.validate(CareOperation::Repair).unwrap_err().member, "DryRun");
    assert_eq!(thorough.validate(CareOperation::Prune).unwrap_err().member, "ReadData");
}

#[test]
fn what_is_due_follows_the_last_time_and_no_clock_that_was_ahead() {
    let care = CareSettings::default();
    let due = |last, now| due_at(&care, CareOperation::Check, last, at(0), now).unwrap();
    assert_eq!(due(None, at(1)), at(7));
    assert_eq!(due(Some(at(5)), at(6)), at(12));
    assert_eq!(due(Some(at(500)), at(6)), at(7), "a mark in the future does not count");
    assert_eq!(due_at(&care, CareOperation::Verify, None, at(0), at(1)), None);
    assert_eq!(due_at(&care, CareOperation::Prune, None, at(0), at(1)), Some(at(7)));
    let off = CareSettings { check_every_days: None, ..care };
    assert_eq!(due_at(&off, CareOperation::Check, None, at(0), at(100)), None);
}
