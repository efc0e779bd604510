//! What an answer must hold, at its edges.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use provault_domain::Assertion;
use provault_proof::probe::{Answer, Status, assess};

fn holds(body: &str, assertion: Assertion) -> Result<String, String> {
    let answer = Answer { status: Status::Http(200), body: body.as_bytes().to_vec(), cut: false };
    assess(&answer, &[assertion], "2026-03-01T12:00:00Z".parse::<jiff::Timestamp>().unwrap())
}

fn at_least(pointer: &str, minimum: i64) -> Assertion {
    Assertion::JsonAtLeast { pointer: pointer.to_owned(), minimum }
}

fn newer(max_age_seconds: u64) -> Assertion {
    Assertion::JsonNewerThan { pointer: "/t".to_owned(), max_age_seconds }
}

#[test]
fn numbers_are_compared_exactly() {
    assert!(holds(r#"{"n": 9007199254740993}"#, at_least("/n", 9_007_199_254_740_993)).is_ok());
    assert!(holds(r#"{"n": 9007199254740992}"#, at_least("/n", 9_007_199_254_740_993)).is_err());
    assert!(holds(r#"{"n": 18446744073709551615}"#, at_least("/n", i64::MAX)).is_ok());
    assert!(holds(r#"{"n": 2.5}"#, at_least("/n", 2)).is_ok());
    assert!(holds(r#"{"n": 2.5}"#, at_least("/n", 3)).is_err());
    assert!(holds(r#"{"n": -4}"#, at_least("/n", -4)).is_ok());
    for wrong in [r#"{"n": "7"}"#, r#"{"n": null}"#, r#"{"n": [7]}"#, "{}", "7x", ""] {
        assert!(holds(wrong, at_least("/n", 1)).is_err(), "{wrong}");
    }
}

#[test]
fn pointers_are_those_of_rfc_6901() {
    let body = r#"{"a/b": [1, {"m~n": 5}], "": 6}"#;
    assert!(holds(body, at_least("/a~1b/1/m~0n", 5)).is_ok());
    assert!(holds(body, at_least("/", 6)).is_ok());
    assert!(holds("8", at_least("", 8)).is_ok());
    assert!(holds(body, at_least("/a/b", 0)).is_err());
}

#[test]
fn freshness_is_measured_back_from_the_capture() {
    assert!(holds(r#"{"t": "2026-03-01T11:59:00Z"}"#, newer(60)).is_ok());
    assert!(holds(r#"{"t": "2026-03-01T11:58:59.9Z"}"#, newer(60)).is_err());
    assert!(holds(r#"{"t": "2026-03-01T13:59:30+02:00"}"#, newer(60)).is_ok());
    assert!(holds(r#"{"t": "2020-01-01T00:00:00Z"}"#, newer(u64::MAX)).is_ok());
    for wrong in [r#"{"t": "yesterday"}"#, r#"{"t": 1772366400}"#, r#"{"t": "2026-03-01"}"#] {
        assert!(holds(wrong, newer(u64::MAX)).is_err(), "{wrong}");
    }
}

#[test]
fn a_copy_holds_nothing_newer_than_its_capture() {
    // Within what clocks may differ.
    for time in ["2026-03-01T12:00:00Z", "2026-03-01T12:05:00Z", "2026-03-01T11:05:00-01:00"] {
        assert!(holds(&format!(r#"{{"t": "{time}"}}"#), newer(60)).is_ok(), "{time}");
    }
    // What an application answers that shows the present time instead of its data's.
    for time in ["2026-03-01T12:05:00.001Z", "2026-03-02T12:00:00Z", "9999-12-30T22:00:00Z"] {
        for age in [0, 60, u64::MAX] {
            let reason = holds(&format!(r#"{{"t": "{time}"}}"#), newer(age)).unwrap_err();
            assert!(reason.contains("s after the capture"), "{reason}");
        }
    }
    let reason = holds(r#"{"t": "2026-03-02T12:00:00Z"}"#, newer(60)).unwrap_err();
    let wanted = "/t is 2026-03-02T12:00:00Z, 86400 s after the capture";
    assert!(reason.contains(wanted), "{reason}");
}

#[test]
fn the_status_is_200_unless_another_is_named() {
    let captured = "2026-03-01T12:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let answer =
        |status| Answer { status: Status::Http(status), body: b"text".to_vec(), cut: false };
    assert!(assess(&answer(200), &[], captured).is_ok());
    assert!(assess(&answer(204), &[], captured).is_err());
    let contains = Assertion::BodyContains { text: "text".to_owned() };
    assert!(assess(&answer(500), std::slice::from_ref(&contains), captured).is_err());
    let both = [contains, Assertion::Status { equals: 500 }];
    assert_eq!(assess(&answer(500), &both, captured).unwrap(), "HTTP 500, 2 of 2 assertions");
    let missing = Assertion::BodyContains { text: "longer than the body is".to_owned() };
    assert!(assess(&answer(200), &[missing], captured).is_err());
}

#[test]
fn what_was_written_while_a_long_capture_read_is_its_data() {
    let captured = provault_proof::probe::CaptureSpan {
        from: "2026-03-01T12:00:00Z".parse().unwrap(),
        until: "2026-03-01T13:00:00Z".parse().unwrap(),
    };
    let at = |time: &str| {
        let answer = Answer {
            status: Status::Http(200),
            body: serde_json::json!({ "t": time }).to_string().into_bytes(),
            cut: false,
        };
        let fresh = Assertion::JsonNewerThan { pointer: "/t".into(), max_age_seconds: 60 };
        assess(&answer, &[fresh], captured).is_ok()
    };
    assert!(at("2026-03-01T11:59:00Z"));
    assert!(!at("2026-03-01T11:58:59Z"), "age counts from the beginning");
    assert!(at("2026-03-01T13:05:00Z"));
    assert!(!at("2026-03-01T13:05:01Z"), "the future counts from the end");
}

fn came(status: Status, body: &str, assertions: &[Assertion]) -> Result<String, String> {
    let answer = Answer { status, body: body.as_bytes().to_vec(), cut: false };
    assess(&answer, assertions, "2026-03-01T12:00:00Z".parse::<jiff::Timestamp>().unwrap())
}

#[test]
fn a_status_that_nobody_asked_about_has_to_be_the_good_one() {
    assert!(came(Status::Http(200), "", &[]).is_ok());
    assert!(came(Status::Http(204), "", &[]).is_err());
    assert!(came(Status::Exit(0), "", &[]).is_ok());
    assert_eq!(came(Status::Exit(1), "", &[]), Err("exit code 1: it should be 0".to_owned()));
    let one = [Assertion::ExitCode { equals: 1 }];
    assert!(came(Status::Exit(1), "", &one).is_ok() && came(Status::Exit(0), "", &one).is_err());
    assert!(came(Status::Exit(256), "", &[Assertion::ExitCode { equals: 0 }]).is_err());
    assert_eq!(came(Status::Tcp, "", &[]), Ok("connected, 0 of 0 assertions".to_owned()));
    // An assertion that is about something else is never met by accident.
    assert!(came(Status::Exit(0), "", &[Assertion::Status { equals: 0 }]).is_err());
    assert!(came(Status::Http(200), "", &[Assertion::ExitCode { equals: 200 }]).is_err());
}

#[test]
fn a_pattern_is_looked_for_in_the_bytes_of_the_body() {
    let pattern = |pattern: &str| [Assertion::BodyMatches { pattern: pattern.to_owned() }];
    assert!(came(Status::Tcp, "220 mail ESMTP\r\n", &pattern("^220 .*ESMTP")).is_ok());
    let error = came(Status::Tcp, "554 no", &pattern("^220")).unwrap_err();
    assert_eq!(error, "connected: what came does not match '^220'");
    let error = came(Status::Exit(0), "7 rows", &pattern("^[1-9][0-9]+ rows")).unwrap_err();
    assert_eq!(error, "exit code 0: the output does not match '^[1-9][0-9]+ rows'");
}
