//! How an application starts, answers, fails to, and ends.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use provault_domain::verdict::Fault;
use provault_domain::{Assertion, Probe, ServiceSpec};
use provault_driver::CancelFlag;
use provault_proof::{Mutant, ProofError, run_isolated};
use support::{Copy, HELPER, bearers, helper, http, run, wait_until, whole};

fn failed(report: &provault_proof::IsolationReport) -> &str {
    assert!(!report.probes[0].passed, "{report:?}");
    &report.probes[0].detail
}

#[test]
fn wrong_data_fails_with_the_reason() {
    let copy = Copy::new();
    let old = r#"{"rows": 2, "newest": "2026-03-01T11:49:59Z"}"#;
    fs::write(copy.root().join("data/notes.json"), old).unwrap();
    let report = copy.run(&["serve", "8080"], whole()).unwrap();
    let detail = failed(&report);
    assert!(detail.contains("/rows is 2, below 3"), "{detail}");
    assert!(detail.contains("601 s before the capture"), "{detail}");
    assert!(detail.contains("does not contain \"hello\""), "{detail}");
    assert_eq!(report.probes[0].http_status, Some(200));
}

#[test]
fn redirects_are_answers_and_bodies_have_a_limit() {
    let copy = Copy::new();
    let probes = vec![
        http("/moved", vec![Assertion::Status { equals: 302 }]),
        http("/moved", vec![]),
        http("/large", vec![]),
        http("/large", vec![Assertion::BodyContains { text: "y".to_owned() }]),
    ];
    let report = copy.run(&["serve", "8080"], probes).unwrap();
    let passed: Vec<bool> = report.probes.iter().map(|probe| probe.passed).collect();
    assert_eq!(passed, [true, false, true, false]);
    assert!(report.probes[1].detail.contains("HTTP 302"));
    assert!(report.probes[3].detail.contains("only its first MiB"));
}

#[test]
fn not_yet_is_asked_again() {
    let copy = Copy::new();
    let mut request = copy.request(&["warm", "8080", "5"], whole());
    request.settle_millis = 0;
    let report = run(&request).unwrap();
    assert!(report.probes[0].passed, "{report:?}");
}

#[test]
fn every_mutant_is_found_broken() {
    for mutant in Mutant::ALL {
        let copy = Copy::new();
        let change = mutant.apply(&copy.root(), 7).unwrap();
        let mut request = copy.request(&["serve", "8080"], whole());
        request.settle_millis = 50;
        let answers = run(&request);
        let result = mutant.result(change, answers.as_ref().map(|r| r.probes.as_slice()));
        assert_eq!(result.killed, Some(true), "{result:?}");
        let expected = match mutant {
            Mutant::EverythingGone => "did not start: bin/app could not be started",
            Mutant::DataEmptied => "the body is not JSON",
            _ => "",
        };
        assert!(result.detail.contains(expected), "{result:?}");
    }
}

#[test]
fn an_early_end_is_reported_with_the_last_words() {
    let copy = Copy::new();
    for code in [3, 0] {
        let report = copy.run(&["exit", &code.to_string()], whole()).unwrap();
        let detail = failed(&report);
        assert!(detail.contains(&format!("exited with status {code}")), "{detail}");
        assert!(detail.contains("the last words of the application"), "{detail}");
        assert_eq!(report.exit.as_ref().unwrap().code, Some(code));
        assert!(report.log_tail.contains("last words"));
    }
}

#[test]
fn an_application_that_never_listens_runs_into_its_limit() {
    let copy = Copy::new();
    let mut request = copy.request(&["hang"], whole());
    request.service.as_mut().unwrap().start_timeout_seconds = 1;
    let report = run(&request).unwrap();
    assert!(failed(&report).contains("nothing listens on port 8080"), "{report:?}");
    assert!(report.log_tail.contains("hanging"));
    assert!(report.exit.is_none() && report.first_answer_millis.is_none());
    assert_eq!(bearers(&request.token), Vec::<i32>::new());
}

#[test]
fn the_log_keeps_its_end() {
    let copy = Copy::new();
    let report = copy.run(&["chatter", "8080"], whole()).unwrap();
    assert!(report.log_tail.ends_with("line 39999\n"), "the end is there");
    assert!(report.log_tail.len() <= provault_proof::isolation::LOG_TAIL + 4);
}

#[test]
fn a_missing_program_is_the_copys_fault_or_the_hosts() {
    let copy = Copy::new();
    let with = |command: &[&str]| {
        let mut request = copy.request(&[], whole());
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        request.service = Some(ServiceSpec::new(command));
        run(&request)
    };
    for program in ["bin/missing", "/opt/app/bin/app", "data/notes.json", "./data"] {
        let report = with(&[program]).unwrap();
        assert!(failed(&report).contains("did not start"), "{report:?}");
        assert!(report.started_millis.is_none());
    }
    // Not of the copy: the host lacks it.
    assert_eq!(with(&["no-such-program-anywhere"]).unwrap_err().fault(), Fault::Host);
    // A script whose interpreter is not here.
    let script = copy.root().join("script");
    fs::write(&script, "#!/opt/no/interpreter\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(failed(&with(&["./script"]).unwrap()).contains("interpreter"));
    // The host's shell is there.
    let report = with(&["sh", "-c", "exec bin/app serve 8080"]).unwrap();
    assert!(report.probes[0].passed, "{report:?}");
}

#[test]
fn an_application_in_the_background_answers_and_ends_with_the_test() {
    let copy = Copy::new();
    for word in ["daemon", "brood"] {
        let request = copy.request(&[word, "8080"], whole());
        let report = run(&request).unwrap();
        assert!(report.probes[0].passed, "{word}: {report:?}");
        assert_eq!(bearers(&request.token), Vec::<i32>::new(), "{word}");
    }
}

#[test]
fn a_raised_flag_ends_everything() {
    let copy = Copy::new();
    let request = copy.request(&["brood", "8081"], whole());
    let cancel = CancelFlag::new();
    let (flag, running) = (cancel.clone(), request.clone());
    let thread = std::thread::spawn(move || run_isolated(&helper(), &running, &flag));
    // Stages 1 to 3, the server, and two children.
    wait_until("the brood", || bearers(&request.token).len() == 6);
    cancel.raise();
    let error = thread.join().unwrap().unwrap_err();
    assert!(matches!(error, ProofError::Cancelled) && error.is_cancelled());
    assert_eq!(bearers(&request.token), Vec::<i32>::new());
}

/// Whichever process dies by SIGKILL, the caller or a stage of the helper, nothing is left.
#[test]
fn a_kill_anywhere_ends_everything() {
    let copy = Copy::new();
    for victim in ["caller", "outer", "enter", "inside"] {
        let request = copy.request(&["brood", "8081"], whole());
        let path = copy.dir.path().join("request");
        fs::write(&path, serde_json::to_vec(&request).unwrap()).unwrap();
        let caller =
            Command::new(HELPER).arg("run").arg(&path).stdout(Stdio::piped()).spawn().unwrap();
        wait_until("the brood", || bearers(&request.token).len() == 6);
        let child_of = |parent: u32| -> u32 {
            let list =
                fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
            list.trim().parse().unwrap()
        };
        let outer = child_of(caller.id());
        let enter = child_of(outer);
        let pid = match victim {
            "caller" => caller.id(),
            "outer" => outer,
            "enter" => enter,
            _ => child_of(enter),
        };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        wait_until(&format!("the end after {victim}"), || bearers(&request.token).is_empty());
        let output = caller.wait_with_output().unwrap();
        if victim != "caller" {
            let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(outcome["fault"], "host", "{victim}: {outcome}");
        }
    }
}

#[test]
fn two_tests_side_by_side_do_not_meet() {
    let copies = [Copy::new(), Copy::new()];
    let notes = r#"{"rows": 9, "newest": "2026-03-01T12:00:00Z", "text": "hello other"}"#;
    fs::write(copies[1].root().join("data/notes.json"), notes).unwrap();
    std::thread::scope(|scope| {
        for (copy, rows) in copies.iter().zip([3, 9]) {
            scope.spawn(move || {
                let mut probes = whole();
                if let Probe::Http { assertions, .. } = &mut probes[0] {
                    let text = format!("\"rows\": {rows}");
                    assertions.push(Assertion::BodyContains { text });
                }
                let report = copy.run(&["serve", "8080"], probes).unwrap();
                assert!(report.probes[0].passed, "{report:?}");
            });
        }
    });
}
