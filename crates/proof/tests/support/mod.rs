//! What the tests of isolation share.
#![allow(dead_code, reason = "not every test uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use provault_domain::{Assertion, Probe, ServiceSpec};
use provault_driver::CancelFlag;
use provault_proof::{HelperCommand, IsolationReport, IsolationRequest, ProofError, run_isolated};
use tempfile::TempDir;

pub const HELPER: &str = env!("CARGO_BIN_EXE_provault-proof-helper");
pub const CAPTURED: &str = "2026-03-01T12:00:00Z";

pub fn helper() -> HelperCommand {
    HelperCommand::new(HELPER, ["__isolate"])
}

/// A restored copy: the application and its data.
pub struct Copy {
    pub dir: TempDir,
}

impl Copy {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(dir.path().join("copy/bin")).unwrap();
        fs::create_dir_all(dir.path().join("copy/data")).unwrap();
        fs::copy(HELPER, dir.path().join("copy/bin/app")).unwrap();
        let notes = r#"{"rows": 3, "newest": "2026-03-01T11:50:00Z", "text": "hello"}"#;
        fs::write(dir.path().join("copy/data/notes.json"), notes).unwrap();
        Self { dir }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("copy")
    }

    pub fn request(&self, args: &[&str], probes: Vec<Probe>) -> IsolationRequest {
        let command = std::iter::once("bin/app").chain(args.iter().copied());
        let service = ServiceSpec::new(command.map(str::to_owned).collect());
        let captured = CAPTURED.parse().unwrap();
        IsolationRequest::new(self.root(), service, probes, captured, token())
    }

    pub fn run(&self, args: &[&str], probes: Vec<Probe>) -> Result<IsolationReport, ProofError> {
        run(&self.request(args, probes))
    }

    /// Has the application try `checks` inside and gives back what came of each.
    pub fn inspect(
        &self,
        hidden: &[&Path],
        checks: &[(&str, &str)],
    ) -> serde_json::Map<String, serde_json::Value> {
        let list: Vec<[&str; 2]> = checks.iter().map(|(what, arg)| [*what, *arg]).collect();
        fs::write(self.root().join("checks.json"), serde_json::to_vec(&list).unwrap()).unwrap();
        let mut request = self.request(&["inspect", "8080"], vec![http("/", vec![])]);
        request.hidden = hidden.iter().map(|path| path.to_path_buf()).collect();
        let report = run(&request).unwrap();
        assert!(report.probes[0].passed, "{report:?}");
        let text = fs::read(self.root().join("findings.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

pub fn run(request: &IsolationRequest) -> Result<IsolationReport, ProofError> {
    run_isolated(&helper(), request, &CancelFlag::new())
}

pub fn http(path: &str, assertions: Vec<Assertion>) -> Probe {
    Probe::Http { port: 8080, path: path.to_owned(), assertions }
}

/// The whole question to the sample application.
pub fn whole() -> Vec<Probe> {
    vec![http(
        "/",
        vec![
            Assertion::Status { equals: 200 },
            Assertion::BodyContains { text: "hello".to_owned() },
            Assertion::JsonAtLeast { pointer: "/rows".to_owned(), minimum: 3 },
            Assertion::JsonNewerThan { pointer: "/newest".to_owned(), max_age_seconds: 600 },
        ],
    )]
}

/// A token no other test has.
pub fn token() -> String {
    let dir = TempDir::new().unwrap();
    let name = dir.path().file_name().unwrap().to_string_lossy().replace('.', "");
    format!("test-{}-{name}", std::process::id())
}

/// Processes of the host that carry the token.
pub fn bearers(token: &str) -> Vec<i32> {
    let mark = format!("PROVAULT_RESTORE_TEST={token}");
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            pids.push(pid);
        }
    }
    pids
}

/// Waits until something holds; generous, because only a hang is a failure.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within 60 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether this process is root; if so, runs the same test again as user 65534 and wants it to
/// pass.
pub fn again_as_nobody(test: &str) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", test])
        .current_dir(dir.path())
        .output()
        .expect("setpriv of util-linux");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("1 passed"), "as user 65534: {printed}");
}
