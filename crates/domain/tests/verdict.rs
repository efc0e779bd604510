//! Verdicts: what a pass implies, and which trouble outweighs which.

use proptest::prelude::*;
use provault_domain::Verdict;
use provault_domain::verdict::{
    Failure, Fault, Findings, IsolationLevel, MutantResult, ProbeResult, decide, duration,
};

fn probe(passed: bool, http_status: Option<u16>) -> ProbeResult {
    let detail = "seen".to_owned();
    ProbeResult { label: "files".to_owned(), passed, detail, http_status, millis: 1, output: None }
}

fn mutant(name: &str, required: bool, killed: Option<bool>) -> MutantResult {
    MutantResult { name: name.to_owned(), required, killed, detail: "tried".to_owned() }
}

fn failure(fault: Fault) -> Failure {
    Failure { fault, step: "restore".to_owned(), message: "broken".to_owned() }
}

fn whole() -> Findings {
    Findings {
        failures: Vec::new(),
        isolation: Some(IsolationLevel::Full),
        probes: vec![probe(true, Some(200)), probe(true, None)],
        mutants: vec![
            mutant("everything-emptied", true, Some(true)),
            mutant("everything-gone", true, Some(true)),
            mutant("older-state", false, Some(false)),
        ],
        mutants_cached: false,
        incomplete: None,
        point_age_seconds: Some(100),
        rpo_seconds: Some(100),
        recovery_millis: Some(2000),
        rto_seconds: Some(2),
        validation: None,
    }
}

/// Findings that pass often enough to be worth looking at.
fn findings() -> impl Strategy<Value = Findings> {
    let mostly = || prop::bool::weighted(0.9);
    let fault = prop_oneof![Just(Fault::Data), Just(Fault::Host)].prop_map(failure);
    let killed = prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)];
    let name = prop::sample::select(vec!["everything-emptied", "everything-gone", "other"]);
    let isolation = prop_oneof![
        1 => Just(None),
        5 => Just(Some(IsolationLevel::Full)),
        3 => Just(Some(IsolationLevel::FilesOnly)),
    ];
    let seconds = || prop::option::weighted(0.8, 0..5u64);
    (
        prop_oneof![5 => Just(Vec::new()), 1 => prop::collection::vec(fault, 1..3)],
        isolation,
        prop::collection::vec((mostly(), prop::option::of(Just(200))), 0..4),
        prop::collection::vec((name, mostly(), killed), 0..5),
        (seconds(), seconds(), prop::option::weighted(0.8, 0..5000u64), seconds()),
        any::<bool>(),
    )
        .prop_map(|(failures, isolation, probes, mutants, (age, rpo, millis, rto), cached)| {
            Findings {
                failures,
                isolation,
                probes: probes.into_iter().map(|(p, s)| probe(p, s)).collect(),
                mutants: mutants.into_iter().map(|(n, r, k)| mutant(n, r, k)).collect(),
                mutants_cached: cached,
                incomplete: None,
                point_age_seconds: age,
                rpo_seconds: rpo,
                recovery_millis: millis,
                rto_seconds: rto,
                validation: None,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_verdict_implies(f in findings()) {
        let (verdict, reason) = decide(&f);
        prop_assert!(!reason.is_empty());
        let has = |fault| f.failures.iter().any(|x| x.fault == fault);
        let stale = f.rpo_seconds.zip(f.point_age_seconds).is_some_and(|(rpo, age)| age > rpo);
        let slow = f.rto_seconds.zip(f.recovery_millis).is_some_and(|(rto, ms)| ms > rto * 1000);
        let failed_probe = f.probes.iter().any(|p| !p.passed);
        let required: Vec<_> = f.mutants.iter().filter(|m| m.required).collect();
        match verdict {
            Verdict::Passed => {
                prop_assert!(f.failures.is_empty());
                prop_assert!(f.isolation.is_some());
                prop_assert!(!f.probes.is_empty() && !failed_probe);
                prop_assert!(required.iter().all(|m| m.killed == Some(true)));
                let mut names: Vec<_> = required.iter().map(|m| &m.name).collect();
                names.sort();
                names.dedup();
                prop_assert!(names.len() >= 2);
                prop_assert!(f.rpo_seconds.is_none_or(|rpo| f.point_age_seconds.is_some_and(|a| a <= rpo)));
                let in_time = |rto| f.recovery_millis.is_some_and(|ms| ms <= rto * 1000);
                prop_assert!(f.rto_seconds.is_none_or(in_time));
                let http = f.probes.iter().any(|p| p.http_status == Some(200));
                prop_assert_eq!(reason.starts_with("HTTP 200 returned by the application"), http);
            }
            Verdict::Failed => {
                let asked = f.isolation.is_some() && !f.probes.is_empty();
                prop_assert!(
                    has(Fault::Data) || (!has(Fault::Host) && asked && (failed_probe || stale || slow))
                );
            }
            Verdict::Inconclusive => prop_assert!(!has(Fault::Data)),
            other => prop_assert!(false, "a finished test is never {other}"),
        }
        if has(Fault::Data) {
            prop_assert_eq!(verdict, Verdict::Failed);
        } else if has(Fault::Host) {
            prop_assert_eq!(verdict, Verdict::Inconclusive);
        }
    }

    /// Making findings worse never makes the verdict a pass.
    #[test]
    fn one_fault_spoils_a_pass(mut f in findings(), which in 0..7u8) {
        match which {
            0 => f.failures.push(failure(Fault::Host)),
            1 => f.probes.push(probe(false, None)),
            2 => f.isolation = None,
            3 => f.mutants.push(mutant("more", true, Some(false))),
            4 => f.mutants.push(mutant("more", true, None)),
            5 => f.incomplete = Some("1 path".to_owned()),
            _ => f.probes.clear(),
        }
        prop_assert_ne!(decide(&f).0, Verdict::Passed);
    }
}

#[test]
fn a_whole_test_passes_at_its_limits() {
    let (verdict, reason) = decide(&whole());
    assert_eq!(verdict, Verdict::Passed);
    assert_eq!(
        reason,
        "HTTP 200 returned by the application; recovered after 2.000 s, 2 probes passed and \
         noticed 2 of 3 broken copies."
    );
    let files = Findings {
        isolation: Some(IsolationLevel::FilesOnly),
        probes: vec![probe(true, None)],
        recovery_millis: Some(1),
        ..whole()
    };
    let (verdict, reason) = decide(&files);
    assert_eq!(verdict, Verdict::Passed);
    assert!(!reason.contains("HTTP") && !reason.contains("answer"), "{reason}");
}

#[test]
fn a_pass_says_what_answered() {
    let named = |label: &str| ProbeResult { label: label.to_owned(), ..probe(true, None) };
    for (labels, begin) in [
        (["files", "tcp:25"].as_slice(), "TCP answered by the application; recovered"),
        (&["files", "command:./check.sh"], "1 command satisfied with the copy; recovered"),
        (
            &["files", "tcp:25", "command:a", "command:b"],
            "TCP answered by the application, 2 commands satisfied with the copy; recovered",
        ),
    ] {
        let probes = labels.iter().map(|label| named(label)).collect();
        let (verdict, reason) = decide(&Findings { probes, ..whole() });
        assert_eq!(verdict, Verdict::Passed);
        assert!(reason.starts_with(begin), "{reason}");
    }
}

/// Each line spoils one thing of a whole test.
#[test]
fn each_thing_alone() {
    type Spoil = fn(&mut Findings);
    let table: &[(&str, Verdict, &str, Spoil)] = &[
        ("stale", Verdict::Failed, "recovery point objective", |f| f.point_age_seconds = Some(101)),
        ("slow", Verdict::Failed, "recovery time objective", |f| f.recovery_millis = Some(2001)),
        ("huge", Verdict::Passed, "", |f| f.rto_seconds = Some(u64::MAX)),
        ("probe", Verdict::Failed, "probe files: seen", |f| f.probes[0].passed = false),
        ("data", Verdict::Failed, "restore: broken", |f| f.failures.push(failure(Fault::Data))),
        ("host", Verdict::Inconclusive, "restore: broken", |f| {
            f.failures.push(failure(Fault::Host));
        }),
        ("host, then data", Verdict::Failed, "restore: broken", |f| {
            f.failures = vec![failure(Fault::Host), failure(Fault::Data)];
        }),
        ("no probe", Verdict::Inconclusive, "nothing was asked", |f| f.probes.clear()),
        ("not isolated", Verdict::Inconclusive, "isolated", |f| f.isolation = None),
        ("unknown age", Verdict::Inconclusive, "age is not known", |f| f.point_age_seconds = None),
        ("not timed", Verdict::Inconclusive, "not timed", |f| f.recovery_millis = None),
        ("no targets", Verdict::Passed, "recovered,", |f| {
            *f = Findings {
                rpo_seconds: None,
                rto_seconds: None,
                point_age_seconds: None,
                recovery_millis: None,
                ..whole()
            };
        }),
        ("survivor", Verdict::Inconclusive, "cannot tell broken from whole", |f| {
            f.mutants[0].killed = Some(false);
        }),
        ("untried", Verdict::Inconclusive, "was not done: tried", |f| f.mutants[1].killed = None),
        ("one control", Verdict::Inconclusive, "1 of 2", |f| f.mutants[1].required = false),
        ("one control twice", Verdict::Inconclusive, "1 of 2", |f| {
            f.mutants[1] = f.mutants[0].clone();
        }),
        ("no control", Verdict::Inconclusive, "0 of 2", |f| f.mutants.clear()),
        ("optional survivor", Verdict::Passed, "", |f| f.mutants[2].killed = None),
        // A stale point with a survivor: what is known to be wrong is said.
        ("stale and survivor", Verdict::Failed, "objective", |f| {
            f.point_age_seconds = Some(101);
            f.mutants[0].killed = Some(false);
        }),
    ];
    for (name, expected, text, spoil) in table {
        let mut findings = whole();
        spoil(&mut findings);
        let (verdict, reason) = decide(&findings);
        assert_eq!(verdict, *expected, "{name}: {reason}");
        assert!(reason.contains(text), "{name}: {reason}");
    }
}

#[test]
fn durations_for_people() {
    for (seconds, text) in [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 d"),
    ] {
        assert_eq!(duration(seconds), text);
    }
}
