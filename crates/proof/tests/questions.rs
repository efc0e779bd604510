//! TCP and command probes: what passes, what fails and why, and that nothing outlives its limit.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use provault_domain::verdict::{Fault, IsolationLevel, ProbeResult};
use provault_domain::{Assertion, Probe, ServiceSpec};
use provault_driver::CancelFlag;
use provault_proof::probe::{BODY_LIMIT, OUTPUT_LIMIT};
use provault_proof::{IsolationRequest, Mutant, ProofError, run_isolated};
use support::{CAPTURED, Copy, bearers, helper, run, token, wait_until};

fn tcp(send: &str, assertions: Vec<Assertion>) -> Probe {
    let send = send.as_bytes().to_vec();
    Probe::Tcp { port: 8080, send, assertions, timeout_seconds: 5 }
}

fn command(words: &[&str], assertions: Vec<Assertion>) -> Probe {
    limited(60, words, assertions)
}

fn limited(timeout_seconds: u64, words: &[&str], assertions: Vec<Assertion>) -> Probe {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    Probe::Command { command, assertions, timeout_seconds }
}

fn contains(text: &str) -> Assertion {
    Assertion::BodyContains { text: text.to_owned() }
}

fn matches(pattern: &str) -> Assertion {
    Assertion::BodyMatches { pattern: pattern.to_owned() }
}

/// A request of a copy without an application.
fn bare(copy: &Copy, probes: Vec<Probe>) -> IsolationRequest {
    let service = None::<ServiceSpec>;
    IsolationRequest::new(copy.root(), service, probes, CAPTURED.parse().unwrap(), token())
}

/// The answer of a copy without an application to a command.
fn answer(copy: &Copy, probe: Probe) -> ProbeResult {
    let request = bare(copy, vec![probe]);
    let report = run(&request).unwrap();
    assert_eq!(report.level, Some(IsolationLevel::Full));
    assert_eq!(bearers(&request.token), Vec::<i32>::new());
    let [answer] = report.probes.try_into().unwrap();
    answer
}

fn script(copy: &Copy, text: &str) {
    let path = copy.root().join("check.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_server_that_speaks_first_and_one_that_answers() {
    let copy = Copy::new();
    let probes = vec![
        tcp("", vec![]),
        tcp("", vec![matches("^\\{.*hello"), contains("\"rows\": 3")]),
        tcp("ping\r\n", vec![contains("PING")]),
        tcp("", vec![contains("goodbye")]),
    ];
    let report = copy.run(&["banner", "8080"], probes).unwrap();
    let passed: Vec<bool> = report.probes.iter().map(|probe| probe.passed).collect();
    assert_eq!(passed, [true, true, true, false], "{report:?}");
    assert_eq!(report.probes[1].detail, "connected, 2 of 2 assertions");
    assert!(report.probes[1].output.as_ref().unwrap().contains("hello"));
    let detail = &report.probes[3].detail;
    assert!(detail.contains("what came does not contain \"goodbye\""), "{detail}");
    assert!(report.probes[3].output.as_ref().unwrap().contains("hello"), "what came instead");
    assert!(report.first_answer_millis.is_some());
}

#[test]
fn nobody_who_listens_runs_into_the_start_limit() {
    let copy = Copy::new();
    let mut request = copy.request(&["hang"], vec![tcp("", vec![])]);
    request.service.as_mut().unwrap().start_timeout_seconds = 1;
    let report = run(&request).unwrap();
    let detail = &report.probes[0].detail;
    assert!(
        !report.probes[0].passed && detail.contains("nothing listens on port 8080"),
        "{detail}"
    );
}

/// A probe of each kind is asked of every mutant, and must notice what breaks its data.
#[test]
fn every_mutant_is_found_broken() {
    let least = Assertion::JsonAtLeast { pointer: "/rows".to_owned(), minimum: 3 };
    let kinds = [
        (Some("banner"), tcp("", vec![contains("hello"), matches("\\}\\s*$")])),
        (None, command(&["cat", "data/notes.json"], vec![least])),
        (None, command(&["./check.sh"], vec![])),
    ];
    for (service, probe) in kinds {
        for mutant in Mutant::ALL {
            let copy = Copy::new();
            script(&copy, "grep -q '\"rows\": 3.*}$' data/notes.json");
            let change = mutant.apply(&copy.root(), 7).unwrap();
            let mut request = match service {
                Some(word) => copy.request(&[word, "8080"], vec![probe.clone()]),
                None => bare(&copy, vec![probe.clone()]),
            };
            request.settle_millis = 50;
            let answers = run(&request);
            let result = mutant.result(change, answers.as_ref().map(|r| r.probes.as_slice()));
            // Half of the files is chance: these may be the other half.
            if mutant != Mutant::HalfTheFilesRemoved {
                assert_eq!(result.killed, Some(true), "{probe:?}: {result:?}");
            }
        }
    }
}

#[test]
fn a_command_asks_the_copy_where_there_is_no_application() {
    let copy = Copy::new();
    script(&copy, "cat data/notes.json; echo 'looked at it' >&2");
    let newer = Assertion::JsonNewerThan { pointer: "/newest".to_owned(), max_age_seconds: 600 };
    let least = Assertion::JsonAtLeast { pointer: "/rows".to_owned(), minimum: 3 };
    let passed = answer(&copy, command(&["./check.sh"], vec![least, newer, contains("hello")]));
    assert!(passed.passed, "{passed:?}");
    assert_eq!(passed.detail, "exit code 0, 3 of 3 assertions");
    let output = passed.output.unwrap();
    assert!(output.contains("hello") && output.contains("looked at it"), "{output}");
    // Only what it writes to standard output is looked at.
    script(&copy, "echo 'looked at it' >&2");
    let failed = answer(&copy, command(&["./check.sh"], vec![contains("looked at it")]));
    assert!(!failed.passed && failed.detail.contains("it last wrote: looked at it"), "{failed:?}");
}

#[test]
fn exit_codes_and_signals_are_answers() {
    let copy = Copy::new();
    for (line, assertions, passes, detail) in [
        ("exit 0", vec![], true, "exit code 0"),
        (
            "echo boom >&2; exit 3",
            vec![],
            false,
            "exit code 3: it should be 0; it last wrote: boom",
        ),
        ("exit 3", vec![Assertion::ExitCode { equals: 3 }], true, "exit code 3"),
        ("exit 0", vec![Assertion::ExitCode { equals: 3 }], false, "exit code 0: it should be 3"),
        ("exit 75", vec![], false, "no good answer within"),
        ("kill -SEGV $$", vec![], false, "it was ended by SIGSEGV; it wrote nothing"),
        ("kill -SEGV $$", vec![Assertion::ExitCode { equals: 139 }], false, "SIGSEGV"),
    ] {
        let answer = answer(&copy, command(&["sh", "-c", line], assertions));
        assert_eq!(answer.passed, passes, "{line}: {answer:?}");
        assert!(answer.detail.contains(detail), "{line}: {answer:?}");
    }
}

#[test]
fn a_missing_program_is_the_copys_fault_or_the_hosts() {
    let copy = Copy::new();
    for program in ["bin/missing", "/opt/check", "data/notes.json", "./data"] {
        let answer = answer(&copy, command(&[program], vec![]));
        assert!(!answer.passed && answer.detail.contains("could not be started"), "{answer:?}");
    }
    let missing = command(&["no-such-program-anywhere"], vec![]);
    let error = run(&bare(&copy, vec![missing])).unwrap_err();
    assert_eq!(error.fault(), Fault::Host);
    assert!(error.to_string().contains("starting the command of a probe"), "{error}");
}

/// Killed with all it started, and whatever else it left in its group.
#[test]
fn a_command_that_hangs_is_ended_at_its_limit() {
    let copy = Copy::new();
    let beside = "sleep 1000 & sleep 1000 & echo waiting; wait";
    let probes = vec![
        limited(1, &["sh", "-c", beside], vec![]),
        // Nothing of it is left for the next one to see: of the processes inside there are the
        // first one, the shell and what it runs.
        command(&["sh", "-c", "cat /proc/[0-9]*/comm"], vec![]),
    ];
    let request = bare(&copy, probes);
    let report = run(&request).unwrap();
    let hung = &report.probes[0];
    assert!(!hung.passed, "{hung:?}");
    assert!(hung.detail.contains("not done after 1 s, so it was ended"), "{hung:?}");
    assert!(hung.detail.contains("it last wrote: waiting"), "{hung:?}");
    let seen = report.probes[1].output.as_ref().unwrap();
    assert!(report.probes[1].passed && !seen.contains("sleep"), "{seen}");
    assert_eq!(bearers(&request.token), Vec::<i32>::new());
}

#[test]
fn what_a_command_leaves_behind_ends_with_it_or_with_the_test() {
    let copy = Copy::new();
    for line in ["sleep 1000 & exit 0", "setsid sleep 1000 & sleep 0.2; exit 0"] {
        let request = bare(&copy, vec![command(&["sh", "-c", line], vec![])]);
        let report = run(&request).unwrap();
        assert!(report.probes[0].passed, "{line}: {report:?}");
        assert_eq!(bearers(&request.token), Vec::<i32>::new(), "{line}");
    }
}

#[test]
fn a_raised_flag_ends_a_command_too() {
    let copy = Copy::new();
    let line = "setsid sleep 1000 & exec sleep 1000";
    let request = bare(&copy, vec![limited(3600, &["sh", "-c", line], vec![])]);
    let cancel = CancelFlag::new();
    let (flag, running) = (cancel.clone(), request.clone());
    let thread = std::thread::spawn(move || run_isolated(&helper(), &running, &flag));
    // Stages 1 to 3, and two that sleep.
    wait_until("the command", || bearers(&request.token).len() == 5);
    cancel.raise();
    assert!(matches!(thread.join().unwrap(), Err(ProofError::Cancelled)));
    assert_eq!(bearers(&request.token), Vec::<i32>::new());
}

/// `kill 0` of a shell means its group, and no stage of the helper is in it.
#[test]
fn a_signal_to_the_group_reaches_nobody_else() {
    let copy = Copy::new();
    let killed = answer(&copy, command(&["sh", "-c", "kill -KILL 0"], vec![]));
    assert!(killed.detail.contains("ended by SIGKILL"), "{killed:?}");
    let mut request = copy.request(&[], vec![tcp("", vec![])]);
    request.service =
        Some(ServiceSpec::new(["sh", "-c", "kill -KILL 0"].map(str::to_owned).to_vec()));
    let report = run(&request).unwrap();
    assert!(report.probes[0].detail.contains("the application was ended by SIGKILL"), "{report:?}");
}

#[test]
fn a_flood_of_output_is_cut_and_its_end_kept() {
    let copy = Copy::new();
    let line = "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last";
    let kept = answer(&copy, command(&["sh", "-c", line], vec![contains("first")]));
    assert!(kept.passed, "{kept:?}");
    let output = kept.output.unwrap();
    assert!(output.ends_with("last\n") && output.len() <= OUTPUT_LIMIT + 4, "{}", output.len());
    let cut = answer(&copy, command(&["sh", "-c", line], vec![contains("last")]));
    assert!(!cut.passed && cut.detail.contains("only its first MiB"), "{}", cut.detail);
    assert_eq!(BODY_LIMIT, 1 << 20);
    let binary = answer(&copy, command(&["sh", "-c", "printf '\\377\\000x'"], vec![contains("x")]));
    assert!(binary.passed, "{binary:?}");
}

/// The rights of the application and no others: the list of what it cannot do is its own, and a
/// command is started by the same stage.
#[test]
fn a_command_reaches_nothing_but_the_copy() {
    let copy = Copy::new();
    let outside = copy.dir.path().join("beside-the-copy");
    fs::write(&outside, "untouched").unwrap();
    let checks = [
        ["read", outside.to_str().unwrap()],
        ["write", outside.to_str().unwrap()],
        ["open-to-write", "/etc/passwd"],
        ["write", "/usr/provault-was-here"],
        ["mount-memory", "/tmp"],
        ["unmount", "/usr"],
        ["tcp", "8.8.8.8:53"],
        ["read", "/proc/1/environ"],
        ["list", "/proc/1/root"],
        ["write", "/copy/data/new"],
        ["environment", ""],
        ["directory", ""],
        ["ids", ""],
    ];
    fs::write(copy.root().join("checks.json"), serde_json::to_vec(&checks).unwrap()).unwrap();
    // It serves when it is done, and is ended then.
    let hung = answer(&copy, limited(3, &["bin/app", "inspect", "8081"], vec![]));
    assert!(hung.detail.contains("not done after 3 s"), "{hung:?}");
    let text = fs::read(copy.root().join("findings.json")).unwrap();
    let found: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text).unwrap();
    for [what, argument] in &checks[..9] {
        let got = found[&format!("{what} {argument}")].as_str().unwrap();
        assert!(got.starts_with("failed"), "{what} {argument}: {got}");
    }
    assert_eq!(found["write /copy/data/new"], "ok ");
    assert_eq!(found["directory "], "ok /copy");
    assert!(found["ids "].as_str().unwrap().contains("NoNewPrivs:\t1"));
    let environment = found["environment "].as_str().unwrap();
    assert!(environment.contains("PROVAULT_COPY=/copy") && !environment.contains("CARGO"));
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
}

/// A command that runs beside the application has its variables, and may wait for it with 75.
#[test]
fn a_command_beside_an_application_may_wait_for_it() {
    let copy = Copy::new();
    let mut request = copy.request(
        &[],
        vec![
            command(
                &["sh", "-c", "test -e /tmp/ready || exit 75; echo \"$GREETING\""],
                vec![matches("^hello there\n$")],
            ),
            command(&["sh", "-c", "test -e /copy/data/notes.json"], vec![]),
        ],
    );
    let service = ["sh", "-c", "sleep 2; touch /tmp/ready; exec sleep 1000"].map(str::to_owned);
    let mut service = ServiceSpec::new(service.to_vec());
    service.environment.insert("GREETING".to_owned(), "hello there".to_owned());
    request.service = Some(service);
    request.settle_millis = 0;
    let report = run(&request).unwrap();
    assert!(report.probes.iter().all(|probe| probe.passed), "{report:?}");
    assert!(report.exit.is_none(), "{report:?}");
}

#[test]
fn an_application_that_ended_is_not_asked_by_a_command_either() {
    let copy = Copy::new();
    let probes = vec![command(&["sleep", "1"], vec![]), command(&["true"], vec![])];
    let report = copy.run(&["exit", "3"], probes).unwrap();
    // The first one may have been started before the end; the second one was not.
    assert!(report.probes[1].detail.contains("exited with status 3"), "{report:?}");
    assert_eq!(report.exit.unwrap().code, Some(3));
}

#[test]
fn what_needs_an_application_is_refused_without_one() {
    let copy = Copy::new();
    for probes in [vec![tcp("", vec![])], vec![Probe::Files], vec![]] {
        assert!(matches!(run(&bare(&copy, probes)), Err(ProofError::Invalid(_))));
    }
    let wrong = command(&["true"], vec![matches("(")]);
    assert!(matches!(run(&bare(&copy, vec![wrong])), Err(ProofError::Invalid(_))));
}
