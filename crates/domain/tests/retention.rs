//! What may go and what stays, against a slow reference and over whole lives of random events.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use provault_domain::recovery_point::{PointCondition, PointTrouble};
use provault_domain::retention::{
    Due, Hold, Shrunk, Worth, decide, expire, is_news, judge, judge_anew,
};
use provault_domain::{
    Arn, Kind, Lifecycle, Payload, RecoveryPoint, RecoveryPointStatus, RetentionSettings,
};

fn at(hours: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
}

fn arn(n: usize) -> Arn {
    format!("arn:aws:backup:us-east-1:111122223333:recovery-point:{n:04}").parse().unwrap()
}

fn point(n: usize, captured: i64) -> RecoveryPoint {
    RecoveryPoint {
        arn: arn(n),
        account: "111122223333".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        vault_name: "v".to_owned(),
        vault_arn: "arn:aws:backup:us-east-1:111122223333:backup-vault:v".parse().unwrap(),
        resource_arn: "arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-1"
            .parse()
            .unwrap(),
        resource_name: "r".to_owned(),
        kind: Kind::Filesystem,
        backup_job_id: n.to_string(),
        role_arn: "arn:aws:iam::111122223333:role/r".parse().unwrap(),
        created_by: None,
        encryption_key_arn: "arn:aws:kms:us-east-1:111122223333:key/k".parse().unwrap(),
        status: RecoveryPointStatus::Completed,
        status_message: None,
        captured_at: at(captured),
        created_at: at(captured),
        completed_at: at(captured),
        backup_size_bytes: 1000,
        lifecycle: Lifecycle { delete_after_days: Some(1), ..Lifecycle::default() },
        payload: Payload::Stored {
            snapshot_id: "0".repeat(64),
            tree_path: "r".to_owned(),
            bytes_stored: 1,
            files: 100,
        },
        restore_metadata: BTreeMap::new(),
        last_restore_at: None,
        last_verdict: None,
        condition: None,
        shrunk: None,
        hold: None,
    }
}

fn sized(n: usize, captured: i64, bytes: u64, files: u64) -> RecoveryPoint {
    let mut point = RecoveryPoint { backup_size_bytes: bytes, ..point(n, captured) };
    let Payload::Stored { files: held, .. } = &mut point.payload;
    *held = files;
    point
}

#[allow(clippy::unnecessary_wraps)] // A point's member is an Option.
fn hurt(trouble: PointTrouble) -> Option<PointCondition> {
    Some(PointCondition {
        trouble,
        since: at(0),
        message: "HURT".to_owned(),
        restore_test_id: None,
    })
}

#[allow(clippy::unnecessary_wraps)] // A point's member is an Option.
fn mark(accepted: bool) -> Option<Shrunk> {
    Some(Shrunk {
        before: arn(9999),
        bytes_before: 9000,
        files_before: 900,
        percent: 50,
        accepted_at: accepted.then(|| at(0)),
    })
}

/// Those that are to go, by their place, and whether they stay.
fn fates(settings: RetentionSettings, points: &[RecoveryPoint], now: i64) -> Vec<(usize, bool)> {
    let place = |arn: &Arn| points.iter().position(|point| point.arn == *arn).unwrap();
    let mut decided: Vec<_> = decide(points, &settings, at(now))
        .iter()
        .map(|decision| (place(&decision.point.arn), decision.stays))
        .collect();
    decided.sort_unstable();
    decided
}

#[test]
fn the_newest_good_point_stays() {
    let default = RetentionSettings::default();
    let two = [point(1, 0), point(2, 1)];
    assert!(fates(default, &two, 23).is_empty());
    assert_eq!(fates(default, &two, 24), [(0, false)]);
    assert_eq!(fates(default, &two, 25), [(0, false), (1, true)]);
    // What is worth less does not take its place, however new; what is worth nothing just goes.
    for worse in [
        RecoveryPoint { status: RecoveryPointStatus::Partial, ..point(3, 2) },
        RecoveryPoint { condition: hurt(PointTrouble::Damaged), ..point(3, 2) },
        RecoveryPoint { condition: hurt(PointTrouble::Missing), ..point(3, 2) },
        RecoveryPoint { shrunk: mark(false), ..point(3, 2) },
    ] {
        let mut points = two.to_vec();
        points.push(worse);
        assert_eq!(fates(default, &points, 99), [(0, false), (1, true), (2, false)]);
    }
    let accepted = RecoveryPoint { shrunk: mark(true), ..point(3, 2) };
    let points = [point(1, 0), point(2, 1), accepted];
    assert_eq!(fates(default, &points, 99), [(0, false), (1, false), (2, true)]);
    let gone = [RecoveryPoint { condition: hurt(PointTrouble::Missing), ..point(1, 0) }];
    assert_eq!(fates(default, &gone, 99), [(0, false)]);
    let partial = [RecoveryPoint { status: RecoveryPointStatus::Partial, ..point(1, 0) }];
    assert_eq!(fates(default, &partial, 99), [(0, true)], "nothing better is left");
}

/// A clock that was ahead for an hour, and an hour of backups under it.
#[test]
fn a_point_from_the_future_takes_no_place_and_is_taken_none() {
    let year = 365 * 24;
    let one = RetentionSettings { keep_at_most: Some(1), ..RetentionSettings::default() };
    for settings in [RetentionSettings::default(), one] {
        let points = [point(1, 0), point(2, 1), point(3, year)];
        assert_eq!(fates(settings, &points, 99), [(0, false), (1, true)]);
        // The other way round: the clock is behind now, and the good points bear the right time.
        let points = [point(1, year), point(2, year + 1)];
        assert!(fates(settings, &points, 99).is_empty());
    }
    // When its time has come it is judged like any other.
    let points = [point(2, 1), point(3, year)];
    assert_eq!(fates(one, &points, year), [(0, false)]);
}

#[test]
fn bad_points_neither_push_good_ones_out_nor_grow_without_end() {
    let two = RetentionSettings { keep_at_most: Some(2), ..RetentionSettings::default() };
    let mut points: Vec<_> = (0..8_usize).map(|n| point(n, i64::try_from(n).unwrap())).collect();
    for point in &mut points {
        point.lifecycle = Lifecycle::default();
    }
    for bad in &mut points[3..7] {
        bad.shrunk = mark(false);
    }
    // Good are 0, 1, 2 and 7, shrunk 3 to 6.
    let gone: Vec<_> = fates(two, &points, 9);
    assert_eq!(gone, [(0, false), (1, false), (3, false), (4, false)]);
    points[7].shrunk = mark(false);
    let decisions = decide(&points, &two, at(9));
    assert!(decisions.iter().all(|decision| decision.due == Due::Count(2)));
    assert_eq!(fates(two, &points, 9), [(0, false), (3, false), (4, false), (5, false)]);
}

#[test]
fn what_is_shown() {
    let kept = RecoveryPoint { hold: Some(hold(99)), ..point(1, 0) };
    assert_eq!(kept.shown_status(), RecoveryPointStatus::Expired);
    assert!(kept.is_restorable() && kept.is_good());
    let hurt = RecoveryPoint { condition: hurt(PointTrouble::Damaged), ..kept.clone() };
    assert_eq!(hurt.shown_status(), RecoveryPointStatus::Partial);
    assert_eq!(hurt.shown_message().unwrap(), "HURT why");
    let deleting = |since: Option<i64>| RecoveryPoint {
        status: RecoveryPointStatus::Deleting,
        hold: since.map(hold),
        ..point(1, 0)
    };
    assert_eq!(deleting(None).shown_status(), RecoveryPointStatus::Deleting);
    assert_eq!(deleting(Some(24)).shown_status(), RecoveryPointStatus::Expired);
    // By hand, before its time.
    assert_eq!(deleting(Some(23)).shown_status(), RecoveryPointStatus::Deleting);
}

fn hold(since: i64) -> Hold {
    Hold { since: at(since), message: "why".to_owned() }
}

#[test]
fn a_point_is_compared_with_the_newest_that_is_not_marked() {
    let half = Some(50);
    let before = [sized(1, 0, 1000, 100), sized(2, 1, 800, 80)];
    for (bytes, files, marked) in [
        (400, 40, false),
        (399, 40, true),
        (400, 39, true),
        (0, 0, true),
        (u64::MAX, u64::MAX, false),
    ] {
        let new = sized(3, 2, bytes, files);
        let found = judge(&before, &new, half);
        assert_eq!(found.is_some(), marked, "{bytes} {files}");
        assert_eq!(judge(&before, &new, None), None, "the alarm is off");
        if let Some(shrunk) = found {
            assert_eq!(
                (shrunk.before, shrunk.bytes_before, shrunk.files_before),
                (arn(2), 800, 80)
            );
        }
    }
    assert_eq!(judge(&[], &sized(1, 0, 0, 0), half), None, "the first is compared with nothing");
    // What was damaged since held what it held; a marked one never was the measure.
    let damaged = RecoveryPoint { condition: hurt(PointTrouble::Damaged), ..before[1].clone() };
    assert!(judge(&[damaged], &sized(3, 2, 10, 1), half).is_some());
    let mut marked = sized(3, 2, 10, 1);
    marked.shrunk = judge(&before, &marked, half);
    assert!(is_news(&before, &marked));
    let mut again = sized(4, 3, 10, 1);
    // Those before it were deleted by hand: the mark still says what they held.
    again.shrunk = judge(std::slice::from_ref(&marked), &again, half);
    assert_eq!(again.shrunk.as_ref().unwrap().bytes_before, 800);
    assert!(!is_news(&[before[1].clone(), marked.clone()], &again), "the same once more");
    let mut less = sized(5, 4, 4, 1);
    less.shrunk = judge(&[before[1].clone(), marked.clone()], &less, half);
    assert!(is_news(&[before[1].clone(), marked], &less), "it shrank again");
}

#[test]
fn an_accepted_point_is_the_measure_of_those_after_it() {
    let mut points: Vec<_> = [1000, 100, 100, 30, 100]
        .into_iter()
        .enumerate()
        .map(|(n, bytes)| sized(n, i64::try_from(n).unwrap(), bytes, 10))
        .collect();
    assert!(judge_anew(&mut points, Some(50), false).is_empty(), "no mark, none is made");
    assert_eq!(judge_anew(&mut points, Some(50), true), [1, 2, 3, 4]);
    points[2].shrunk.as_mut().unwrap().accepted_at = Some(at(9));
    assert_eq!(judge_anew(&mut points, Some(50), false), [3, 4]);
    let good: Vec<bool> = points.iter().map(RecoveryPoint::is_good).collect();
    assert_eq!(good, [true, false, true, false, true]);
    assert_eq!(points[3].shrunk.as_ref().unwrap().before, points[2].arn);
    let marked = points.clone();
    assert!(judge_anew(&mut points, None, false).is_empty(), "no share accepts nothing");
    assert_eq!(points, marked);
    assert!(points[2].shrunk.is_some(), "what was accepted stays on record");
}

#[test]
fn settings_that_are_none_are_refused() {
    let refused = |shrink_alarm_percent, keep_at_most| {
        RetentionSettings { shrink_alarm_percent, keep_at_most }.validate().map_err(|e| e.member)
    };
    assert_eq!(refused(Some(100), Some(1)), Ok(()));
    assert_eq!(refused(None, None), Ok(()));
    assert_eq!(refused(Some(0), None), Err("ShrinkAlarmPercent".to_owned()));
    assert_eq!(refused(Some(101), None), Err("ShrinkAlarmPercent".to_owned()));
    assert_eq!(refused(None, Some(0)), Err("KeepAtMost".to_owned()));
    // Rows from before there were such settings.
    assert_eq!(
        serde_json::from_str::<RetentionSettings>("{}").unwrap(),
        RetentionSettings { shrink_alarm_percent: Some(50), keep_at_most: None }
    );
}

fn any_point(n: usize) -> impl Strategy<Value = RecoveryPoint> {
    let status = prop_oneof![
        4 => Just(RecoveryPointStatus::Completed),
        1 => Just(RecoveryPointStatus::Partial),
        1 => Just(RecoveryPointStatus::Deleting),
    ];
    let condition = prop_oneof![
        6 => Just(None),
        1 => Just(hurt(PointTrouble::Damaged)),
        1 => Just(hurt(PointTrouble::Missing)),
    ];
    let shrunk = prop_oneof![4 => Just(None), 1 => Just(mark(false)), 1 => Just(mark(true))];
    let kept = prop_oneof![Just(Some(1)), Just(Some(2)), Just(None)];
    (0..60_i64, status, condition, shrunk, kept).prop_map(
        move |(captured, status, condition, shrunk, delete_after_days)| RecoveryPoint {
            status,
            condition,
            shrunk,
            lifecycle: Lifecycle { delete_after_days, ..Lifecycle::default() },
            ..point(n, captured)
        },
    )
}

fn any_points() -> impl Strategy<Value = Vec<RecoveryPoint>> {
    (0..9_usize).prop_flat_map(|count| (0..count).map(any_point).collect::<Vec<_>>())
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Nothing goes before its time; all that is due goes but one; that one is the newest of those
    /// worth most; and the same is decided whatever the order.
    #[test]
    fn decisions(
        points in any_points(),
        limit in prop::option::of(1..4_u32),
        now in 0..200_i64,
    ) {
        let settings = RetentionSettings { keep_at_most: limit, ..RetentionSettings::default() };
        let decisions = decide(&points, &settings, at(now));
        let judged = |p: &RecoveryPoint| p.is_restorable() && !p.is_from_the_future(at(now));
        let there: Vec<_> = points.iter().filter(|p| judged(p)).collect();
        let key = |p: &RecoveryPoint| (p.worth(), p.captured_at, p.arn.clone());
        let best = there.iter().map(|p| key(p)).max().filter(|best| best.0 > Worth::Nothing);
        for point in &points {
            let decision = decisions.iter().find(|decision| decision.point.arn == point.arn);
            let ended = point.lifecycle.delete_at(point.created_at).is_some_and(|end| end <= at(now));
            let sound = |p: &RecoveryPoint| p.worth() >= Worth::Partial;
            let is_kept = |other: &RecoveryPoint| {
                decisions.iter().find(|d| d.point.arn == other.arn).is_none_or(|d| d.stays)
            };
            let newer = there.iter().filter(|other| {
                sound(other) == sound(point)
                    && is_kept(other)
                    && (other.captured_at, &other.arn) > (point.captured_at, &point.arn)
            });
            let over = limit.is_some_and(|limit| newer.count() >= usize::try_from(limit).unwrap());
            let due = judged(point) && (ended || over);
            prop_assert_eq!(decision.is_some(), due);
            if let Some(decision) = decision {
                prop_assert_eq!(decision.stays, best.as_ref() == Some(&key(point)));
                prop_assert_eq!(decision.hold(at(now)).is_some(), decision.stays);
            }
        }
        let mut backwards = points.clone();
        backwards.reverse();
        let stays = |points: &[RecoveryPoint]| {
            let decisions = decide(points, &settings, at(now));
            decisions.iter().find(|decision| decision.stays).map(|d| d.point.arn.clone())
        };
        prop_assert_eq!(stays(&points), stays(&backwards));
    }

    /// Whatever happens to the points of a resource, and however often expiry looks: it never takes
    /// the last good one, nor the last that can be restored at all.
    #[test]
    fn lives(
        points in any_points(),
        events in prop::collection::vec((0..5_u8, 0..12_usize, 1..30_i64), 1..40),
        limit in prop::option::of(1..4_u32),
    ) {
        let settings = RetentionSettings { keep_at_most: limit, ..RetentionSettings::default() };
        let mut points = points;
        let mut now = 60;
        for (what, which, hours) in events {
            now += hours;
            let count = points.len();
            if what == 0 {
                points.push(point(100 + count, now));
            } else if let Some(point) = points.get_mut(which % count.max(1)) {
                match what {
                    1 => point.condition = hurt(PointTrouble::Missing),
                    2 => point.status = RecoveryPointStatus::Deleting,
                    3 => point.shrunk = mark(which.is_multiple_of(2)),
                    _ => {}
                }
            }
            let before = points.clone();
            for changed in expire(&before, &settings, at(now)) {
                let place = points.iter().position(|p| p.arn == changed.arn).unwrap();
                points[place] = changed;
            }
            let kept: [fn(&RecoveryPoint) -> bool; 2] =
                [RecoveryPoint::is_good, |point| point.worth() > Worth::Nothing];
            for good in kept {
                let (had, has) = (before.iter().any(good), points.iter().any(good));
                prop_assert_eq!(had, has, "at {}: {:?}", now, before);
            }
            prop_assert_eq!(expire(&points, &settings, at(now)), vec![], "once is enough");
            let held = points.iter().filter(|p| p.is_restorable() && p.hold.is_some());
            prop_assert!(held.count() <= 1);
        }
    }
}
