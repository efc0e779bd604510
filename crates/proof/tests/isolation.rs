//! What a restored application can and cannot reach.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use provault_domain::verdict::{Fault, IsolationLevel};
use provault_domain::{Probe, ServiceSpec};
use provault_driver::CancelFlag;
use provault_proof::{HelperCommand, IsolationSupport, ProofError, probe_support, run_isolated};
use support::{Copy, bearers, helper, http, run, token, whole};

#[test]
fn isolation_is_supported_here() {
    assert_eq!(probe_support(&helper()), IsolationSupport::Full);
}

#[test]
fn an_application_answers_from_its_copy() {
    let copy = Copy::new();
    let report = copy.run(&["serve", "8080"], whole()).unwrap();
    assert_eq!(report.level, Some(IsolationLevel::Full));
    assert_eq!(report.probes.len(), 1);
    assert!(report.probes[0].passed, "{report:?}");
    assert_eq!(report.probes[0].detail, "HTTP 200, 4 of 4 assertions");
    assert_eq!(report.probes[0].http_status, Some(200));
    assert!(report.started_millis.is_some() && report.exit.is_none());
}

#[test]
fn ports_below_1024_are_free() {
    let copy = Copy::new();
    let probe = Probe::Http { port: 80, path: "/".to_owned(), assertions: vec![] };
    let report = copy.run(&["serve", "80"], vec![probe, Probe::Files]).unwrap();
    assert_eq!(report.probes.len(), 1, "Files is not for this room");
    assert!(report.probes[0].passed, "{report:?}");
}

/// Every way out and every way back that we could think of.
#[test]
#[allow(clippy::too_many_lines, reason = "a list")]
fn nothing_but_the_copy_can_be_reached() {
    let copy = Copy::new();
    let host = tempfile::tempdir().unwrap();
    let secret = host.path().join("secret");
    fs::write(&secret, "the production data").unwrap();
    let outside = copy.dir.path().join("beside-the-copy");
    fs::write(&outside, "untouched").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let loopback = listener.local_addr().unwrap().to_string();
    let socket = host.path().join("socket");
    let _unix = UnixListener::bind(&socket).unwrap();
    let name = token();
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();

    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (secret, socket, outside_path) = (text(&secret), text(&socket), text(&outside));
    let own = std::process::id().to_string();
    let host_process = format!("/proc/{own}/environ");
    let escape = format!("/copy/../{outside_path}");
    let real_root = format!("/proc/1/root{secret}");
    let forbidden = [
        ("read", secret.as_str()),
        ("read", real_root.as_str()),
        ("list", host.path().to_str().unwrap()),
        ("write", outside_path.as_str()),
        ("write", escape.as_str()),
        ("tcp", loopback.as_str()),
        ("tcp", "192.0.2.1:80"),
        ("tcp", "8.8.8.8:53"),
        ("tcp", "[2001:db8::1]:80"),
        ("udp", "8.8.8.8:53"),
        ("resolve", "example.com:80"),
        ("unix", socket.as_str()),
        ("unix", "/run/docker.sock"),
        ("unix", "/run/dbus/system_bus_socket"),
        ("abstract", name.as_str()),
        ("list", "/root"),
        ("list", "/home"),
        ("list", "/srv"),
        ("list", "/sys"),
        ("list", "/host"),
        ("read", "/etc/shadow"),
        ("list", "/etc/ssl/private"),
        ("write", "/usr/provault-was-here"),
        ("write", "/etc/provault-was-here"),
        ("write", "/provault-was-here"),
        ("open-to-write", "/etc/passwd"),
        ("open-to-write", "/proc/sys/kernel/core_pattern"),
        ("open-to-write", "/proc/sys/kernel/hostname"),
        ("chmod", "/dev/null"),
        ("mount-memory", "/tmp"),
        ("mount-device", "/dev/vda"),
        ("unmount", "/usr"),
        ("remount", "/usr"),
        ("open-to-write", "/proc/1/fd/1"),
        ("list", "/proc/1/root"),
        ("read", "/proc/1/environ"),
    ];
    let mut checks: Vec<(&str, &str)> = forbidden.to_vec();
    checks.extend([
        ("list", "/proc"),
        ("list", "/run"),
        ("list", "/dev"),
        ("ids", ""),
        ("environment", ""),
        ("directory", ""),
        ("write", "/copy/data/new"),
        ("write", "/tmp/new"),
        ("write", "/dev/null"),
        ("read", "/etc/passwd"),
        ("read", "/proc/slabinfo"),
        ("read", &host_process),
        ("kill", "1"),
    ]);
    // The server's own data directory lies around the copy.
    let found = copy.inspect(&[host.path(), copy.dir.path()], &checks);
    for (what, argument) in forbidden {
        let answer = found[&format!("{what} {argument}")].as_str().unwrap();
        assert!(answer.starts_with("failed"), "{what} {argument}: {answer}");
    }
    let ok = |check: &str| {
        let answer = found[check].as_str().unwrap();
        answer.strip_prefix("ok").unwrap_or_else(|| panic!("{check}: {answer}")).trim().to_owned()
    };
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
    for path in ["/usr/provault-was-here", "/etc/provault-was-here"] {
        // Nothing is left behind should this ever fail.
        assert!(fs::remove_file(path).is_err(), "{path} was written from inside");
    }
    let processes: Vec<u32> =
        ok("list /proc").split(' ').filter_map(|name| name.parse().ok()).collect();
    assert_eq!(processes.len(), 2, "the first process and the application: {processes:?}");
    assert!(found[&format!("read {host_process}")].as_str().unwrap().starts_with("failed"));
    assert_eq!(ok("list /run"), "");
    for device in ["vda", "sda", "kmsg", "mem", "kvm", "fuse"] {
        assert!(!ok("list /dev").split(' ').any(|name| name == device), "{device}");
    }
    assert!(ok("ids ").contains("NoNewPrivs:\t1"));
    assert_eq!(ok("directory "), "/copy");
    let environment = ok("environment ");
    assert!(environment.contains("PROVAULT_COPY=/copy"));
    assert!(!environment.contains("CARGO"), "the server's environment leaked: {environment}");
    for check in ["write /copy/data/new", "write /tmp/new", "write /dev/null", "read /etc/passwd"] {
        ok(check);
    }
    assert_eq!(ok("read /proc/slabinfo"), "", "masked");
    assert!(copy.root().join("data/new").exists());
}

/// With a namespace of one's own come all rights over it, but none over what is mounted here.
#[test]
fn a_namespace_within_is_no_way_out() {
    let copy = Copy::new();
    let hidden = Path::new("/usr/share");
    assert!(hidden.join("misc").exists() || fs::read_dir(hidden).unwrap().next().is_some());
    let found = copy.inspect(
        &[hidden],
        &[
            ("list", "/usr/share"),
            ("unmount", "/usr/share"),
            ("nest", ""),
            ("unmount", "/usr/share"),
            ("list", "/usr/share"),
            ("remount", "/usr"),
            ("write", "/usr/provault-was-here"),
            ("open-to-write", "/proc/sys/kernel/core_pattern"),
            ("mount-device", "/dev/vda"),
        ],
    );
    assert_eq!(found["list /usr/share"], "ok ", "covered, and stays so");
    for check in [
        "unmount /usr/share",
        "remount /usr",
        "write /usr/provault-was-here",
        "open-to-write /proc/sys/kernel/core_pattern",
        "mount-device /dev/vda",
    ] {
        assert!(found[check].as_str().unwrap().starts_with("failed"), "{check}: {}", found[check]);
    }
    assert!(fs::read_dir(hidden).unwrap().next().is_some(), "the host's own is as it was");
}

#[test]
fn a_hidden_link_is_followed_to_what_it_hides() {
    let copy = Copy::new();
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/usr/share", &link).unwrap();
    let found = copy.inspect(&[&link], &[("list", "/usr/share")]);
    assert_eq!(found["list /usr/share"], "ok ");
}

#[test]
fn what_every_program_needs_cannot_be_hidden() {
    let copy = Copy::new();
    for path in ["/usr", "/", "/lib"] {
        let mut request = copy.request(&["serve", "8080"], whole());
        request.hidden = vec![path.into()];
        let error = run(&request).unwrap_err();
        assert_eq!(error.fault(), Fault::Host);
        assert!(error.to_string().contains("cannot be hidden"), "{error}");
    }
}

#[test]
fn device_files_of_the_copy_are_dead() {
    let copy = Copy::new();
    let status = std::process::Command::new("mknod")
        .args([copy.root().join("null").to_str().unwrap(), "c", "1", "3"])
        .status()
        .unwrap();
    assert!(status.success(), "this test runs as root and needs mknod of coreutils");
    let found = copy.inspect(&[], &[("read", "/copy/null"), ("read", "/dev/null")]);
    assert!(found["read /copy/null"].as_str().unwrap().starts_with("failed"));
    assert_eq!(found["read /dev/null"], "ok ");
}

#[test]
fn a_helper_that_is_none_is_the_hosts_fault() {
    let copy = Copy::new();
    let request = copy.request(&["serve", "8080"], whole());
    for program in ["/bin/true", "/does/not/exist"] {
        let other = HelperCommand::new(program, ["__isolate"]);
        let error = run_isolated(&other, &request, &CancelFlag::new()).unwrap_err();
        assert_eq!(error.fault(), Fault::Host, "{error}");
        assert!(matches!(probe_support(&other), IsolationSupport::None { .. }));
    }
}

/// A host that forbids namespaces: user namespaces are used up for whoever starts the helper.
#[test]
fn a_host_that_forbids_namespaces_is_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    // A user namespace in which no further one may be made.
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec '{}' run '{}'",
        support::HELPER,
        dir.path().join("request").display()
    );
    let copy = Copy::new();
    let request = copy.request(&["serve", "8080"], whole());
    fs::write(dir.path().join("request"), serde_json::to_vec(&request).unwrap()).unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", &script])
        .output()
        .expect("unshare of util-linux");
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("no outcome: {}", String::from_utf8_lossy(&output.stderr));
    });
    assert_eq!(outcome["fault"], "host", "{outcome}");
    let error = outcome["error"].as_str().unwrap();
    assert!(error.contains("user namespace") && error.contains("sysctl"), "{error}");
    assert_eq!(bearers(&request.token), Vec::<i32>::new());
}

/// All of it without privileges, as user 65534.
#[test]
fn another_user_than_root_is_isolated_as_well() {
    let copy = Copy::new();
    let owner = Some(65534);
    let chown = |path: &Path| std::os::unix::fs::lchown(path, owner, owner).unwrap();
    let mut paths = vec![copy.root()];
    for dir in [copy.root(), copy.root().join("data"), copy.root().join("bin")] {
        paths.extend(fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()));
    }
    let checks = [
        ["ids", ""],
        ["read", "/etc/hosts"],
        ["list", "/root"],
        ["unmount", "/usr/share"],
        ["list", "/usr/share"],
        ["tcp", "8.8.8.8:53"],
        ["write", "/copy/data/new"],
    ];
    fs::write(copy.root().join("checks.json"), serde_json::to_vec(&checks).unwrap()).unwrap();
    paths.push(copy.root().join("checks.json"));
    for path in &paths {
        chown(path);
    }

    let mut request = copy.request(&["inspect", "8080"], whole());
    request.hidden = vec!["/usr/share".into(), "/root".into()];
    let program = copy.dir.path().join("server");
    fs::copy(support::HELPER, &program).unwrap();
    let path = copy.dir.path().join("request");
    fs::write(&path, serde_json::to_vec(&request).unwrap()).unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .arg("run")
        .arg(&path)
        .output()
        .expect("setpriv of util-linux");
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("no outcome: {}", String::from_utf8_lossy(&output.stderr));
    });
    assert_eq!(outcome["report"]["probes"][0]["passed"], true, "{outcome}");
    let text = fs::read(copy.root().join("findings.json")).unwrap();
    let found: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert!(found["ids "].as_str().unwrap().contains("65534"), "its own user: {found}");
    assert_eq!(found["list /usr/share"], "ok ");
    for check in ["list /root", "unmount /usr/share", "tcp 8.8.8.8:53"] {
        assert!(found[check].as_str().unwrap().starts_with("failed"), "{check}: {found}");
    }
    assert_eq!(found["write /copy/data/new"], "ok ");
    let new = fs::metadata(copy.root().join("data/new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&new), 65534);
}

#[test]
fn requests_are_checked_before_anything_is_started() {
    let copy = Copy::new();
    let mut request = copy.request(&["serve", "8080"], vec![http("no-slash", vec![])]);
    assert!(matches!(run(&request), Err(ProofError::Invalid(_))));
    request = copy.request(&["serve", "8080"], whole());
    request.hidden = vec!["relative/path".into()];
    assert!(run(&request).is_err());
    let mut request = copy.request(&["serve", "8080"], whole());
    request.service = Some(ServiceSpec::new(vec![]));
    assert!(run(&request).is_err());
    request.service = None;
    assert!(run(&request).is_err());
    let mut request = copy.request(&["serve", "8080"], whole());
    request.copy_root = "/does/not/exist".into();
    assert_eq!(run(&request).unwrap_err().fault(), Fault::Host);
}
