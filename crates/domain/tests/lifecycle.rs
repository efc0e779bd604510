//! Retention: limits and arithmetic.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use provault_domain::Lifecycle;

fn lifecycle(delete: Option<i64>, cold: Option<i64>) -> Lifecycle {
    Lifecycle {
        delete_after_days: delete,
        move_to_cold_storage_after_days: cold,
        opt_in_to_archive: None,
    }
}

#[test]
fn limits() {
    for (delete, cold, wrong) in [
        (None, None, None),
        (Some(-1), Some(-1), None),
        (Some(1), None, None),
        (Some(36_500), None, None),
        (Some(36_501), None, Some("DeleteAfterDays")),
        (Some(0), None, Some("DeleteAfterDays")),
        (Some(-2), None, Some("DeleteAfterDays")),
        (Some(i64::MAX), None, Some("DeleteAfterDays")),
        (Some(i64::MIN), None, Some("DeleteAfterDays")),
        (None, Some(0), Some("MoveToColdStorageAfterDays")),
        (None, Some(36_501), Some("MoveToColdStorageAfterDays")),
        (None, Some(i64::MAX), Some("MoveToColdStorageAfterDays")),
        (Some(120), Some(30), None),
        (Some(119), Some(30), Some("DeleteAfterDays")),
        (Some(30), Some(30), Some("DeleteAfterDays")),
        // Kept for ever: there is no end that could come too soon.
        (Some(-1), Some(30), None),
        (None, Some(36_500), None),
        (Some(30), Some(-1), None),
    ] {
        let result = lifecycle(delete, cold).validate();
        match (wrong, result) {
            (None, Ok(())) => {}
            (Some(member), Err(invalid)) => {
                assert_eq!(invalid.member, format!("Lifecycle.{member}"), "{delete:?} {cold:?}");
            }
            (wrong, result) => panic!("{delete:?} {cold:?}: expected {wrong:?}, got {result:?}"),
        }
    }
}

#[test]
fn a_day_is_24_hours_even_when_clocks_change() {
    // Daylight saving begins in Europe on 2026-03-29.
    let created: Timestamp = "2026-03-28T23:30:00Z".parse().unwrap();
    let kept = lifecycle(Some(91), Some(1));
    assert_eq!(kept.cold_at(created).unwrap().to_string(), "2026-03-29T23:30:00Z");
    assert_eq!(kept.delete_at(created).unwrap().to_string(), "2026-06-27T23:30:00Z");
    // Leap day.
    let created: Timestamp = "2028-02-28T00:00:00Z".parse().unwrap();
    let day = lifecycle(Some(1), None);
    assert_eq!(day.delete_at(created).unwrap().to_string(), "2028-02-29T00:00:00Z");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// No value, valid or not, makes the arithmetic panic or a point expire early.
    #[test]
    fn arithmetic(
        delete in prop_oneof![any::<i64>(), -2..40_000i64],
        cold in prop_oneof![any::<i64>(), -2..40_000i64],
        created in prop_oneof![Just(Timestamp::MAX), Just(Timestamp::MIN), Just(Timestamp::UNIX_EPOCH)],
    ) {
        let kept = lifecycle(Some(delete), Some(cold));
        let day = SignedDuration::from_hours(24);
        for (days, at) in [(delete, kept.delete_at(created)), (cold, kept.cold_at(created))] {
            match at {
                Some(at) => {
                    prop_assert!(days > 0);
                    prop_assert_eq!(at.duration_since(created), day * i32::try_from(days).unwrap());
                }
                None => prop_assert!(days <= 0 || days > 3_000_000 || created == Timestamp::MAX),
            }
        }
        if kept.validate().is_ok() && let (Some(c), Some(d)) = (kept.cold_days(), kept.delete_days()) {
            prop_assert!(d - c >= 90);
        }
    }
}
