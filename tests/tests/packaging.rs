//! What is shipped beside the program: completions, manual pages, the dashboard, the unit.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use provault_tests::{Finished, Program, Sandbox, Start, TestServer};
use serde_json::Value;

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(file)
}

#[test]
fn shells_and_man_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let made = Finished::of(&mut Program::bare(&["completions", shell]), "it was just there");
        let text = made.expect(0).stdout;
        for word in ["restore-test", "recovery-points", "vault-storage"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
    let sandbox = Sandbox::new();
    let pages = sandbox.directory("man");
    let directory = pages.to_str().unwrap();
    let made = Finished::of(&mut Program::bare(&["man", directory]), "it was just there");
    drop(made.expect(0));
    let page = fs::read_to_string(pages.join("provault-serve.1")).unwrap();
    assert!(page.contains("tls"), "{page}");
    assert!(!pages.join("provault-__isolate.1").exists());
    let missing = Finished::of(&mut Program::bare(&["man", "/nowhere"]), "it was just there");
    assert!(missing.expect(1).stderr.contains("/nowhere"));
}

/// Every metric that the dashboard asks for is one that the server gives, and the token is the file's.
/// The metrics that a page has a row for, without `provault_`.
fn names(page: &str) -> impl Iterator<Item = &str> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `provault_"));
    rows.filter_map(|row| Some(row.split_once('`')?.0))
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.directory("source");
    fs::write(source.join("file"), "text").unwrap();
    let program = server.program();
    program.run(0, &["resource", "add", "filesystem", source.to_str().unwrap(), "--name", "notes"]);
    program.run(0, &["backup", "notes", "--vault", "Default", "--watch"]);
    let token = fs::read_to_string(server.data_dir().join("metrics-token")).unwrap();
    let answer = ureq::get(format!("{}/provault/v1/metrics", server.endpoint()))
        .header("authorization", format!("Bearer {token}"))
        .call()
        .unwrap();
    let metrics = answer.into_body().read_to_string().unwrap();
    let dashboard: Value =
        serde_json::from_slice(&fs::read(packaging("grafana/provault.json")).unwrap()).unwrap();
    let documented = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/how-to/monitor.md");
    let documented = fs::read_to_string(documented).unwrap();
    for name in names(&documented) {
        let given = metrics.contains(&format!("# TYPE provault_{name} gauge"));
        // These two have a member only when there is something to tell of.
        let sometimes = name.starts_with("vault_alarm") || name.starts_with("certificate");
        assert!(given || sometimes, "{name} is not in\n{metrics}");
    }
    let panels = dashboard["panels"].as_array().unwrap();
    let shown: String =
        panels.iter().map(|panel| panel["targets"][0]["expr"].as_str().unwrap()).collect();
    for name in names(&documented).filter(|name| *name != "build_info") {
        assert!(shown.contains(&format!("provault_{name}")), "no panel shows {name}");
    }
    for panel in panels {
        let asked = panel["targets"][0]["expr"].as_str().unwrap();
        let start = asked.find("provault_").unwrap();
        let name: String =
            asked[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        // A family without a member is not told of; the page that lists them all has it.
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is not documented");
    }
    assert!(metrics.contains(
        "provault_resource_last_backup_timestamp_seconds{region=\"us-east-1\",resource=\"notes\"}"
    ));
}

/// Options of `serve` as its help has them.
fn options() -> Vec<String> {
    let help =
        Finished::of(&mut Program::bare(&["serve", "--help"]), "it was just there").expect(0);
    let option = |line: &str| {
        let name = line.trim_start().split_once("--")?.1;
        Some(name.split([' ', '=', ',']).next()?.to_owned())
    };
    let lines = help.stdout.lines().filter(|line| line.trim_start().starts_with('-'));
    lines.filter_map(option).collect()
}

#[test]
fn the_unit_and_the_settings_name_options_that_exist() {
    let options = options();
    assert!(options.iter().any(|option| option == "vault-storage"), "{options:?}");
    let unit = fs::read_to_string(packaging("systemd/provault.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let mut words = start.split(' ');
    assert!(words.next().unwrap().ends_with("/provault"));
    assert_eq!(words.next(), Some("serve"));
    for option in words.filter_map(|word| word.strip_prefix("--")) {
        assert!(options.iter().any(|known| known == option), "{option}");
    }
    // The file of settings has every option that a file may have, and no other.
    let settings = fs::read_to_string(packaging("etc/provault.toml")).unwrap();
    let key = |line: &str| {
        let (key, _) = line.trim_start_matches("# ").split_once(" = ")?;
        Some(key.to_owned())
    };
    let keys: Vec<String> = settings.lines().filter_map(key).collect();
    // What is said once is no setting.
    let no_settings = [
        "config",
        "help",
        "version",
        "json",
        "profile",
        "endpoint",
        "ca-bundle",
        "trust-the-clock",
    ];
    for option in options.iter().filter(|option| !no_settings.contains(&option.as_str())) {
        assert!(keys.contains(option), "{option} is not in the file");
    }
    for key in &keys {
        assert!(options.contains(key), "{key} is no option");
    }
}

#[test]
fn settings_come_from_a_file_and_the_command_line_wins() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("provault.toml");
    let settings = |text: &str| fs::write(&file, text).unwrap();
    let given = Start {
        args: vec!["--config".to_owned(), file.to_str().unwrap().to_owned()],
        environment: Vec::new(),
    };
    settings("region = \"eu-file-1\"\nlisten = \"127.0.0.1:1\"\nstorage-timeout = 30\n");
    // The test's own --listen wins: port 1 could not be had, or would not be this.
    let server = TestServer::start_with(&sandbox.path("server"), &given);
    let known: Value =
        serde_json::from_str(&fs::read_to_string(server.data_dir().join("server.json")).unwrap())
            .unwrap();
    assert_eq!(known["Region"], "eu-file-1");
    assert!(!server.endpoint().ends_with(":1"), "{}", server.endpoint());
    for (text, words) in [
        ("listn = \"127.0.0.1:0\"", ["listn", "listen"]),
        ("storage-timeout = 0", ["storage-timeout", "provault.toml"]),
        ("storage-timeout = \"long\"", ["storage-timeout", "provault.toml"]),
        ("tls-key = \"/x\"", ["tls-certificate", "provault.toml"]),
        ("json = true", ["json", "no setting"]),
        ("listen = ", ["provault.toml", "line 1"]),
    ] {
        settings(text);
        let mut command = TestServer::command(&sandbox.path("other"));
        let refused =
            Finished::of(command.arg("--config").arg(&file), "it was just there").expect(2);
        for word in words {
            assert!(refused.stderr.contains(word), "{text}: {word}: {refused}");
        }
        assert!(!sandbox.path("other").exists(), "nothing was made");
    }
    let mut missing = TestServer::command(&sandbox.path("other"));
    let missing = Finished::of(missing.args(["--config", "/nowhere.toml"]), "it was just there");
    assert!(missing.expect(2).stderr.contains("/nowhere.toml"));
}

/// Settings of systemd that take away what isolation, backup or restore need. A unit that has one looks
/// safer, and every restore test is INCONCLUSIVE, or files are missing from backups.
const BREAKING: [(&str, &str); 29] = [
    ("ProtectHostname", "sethostname is refused, which isolation needs"),
    ("RestrictNamespaces", "unshare is refused, which isolation needs"),
    ("ProtectKernelLogs", "/proc/kmsg is covered, so that no copy gets a /proc"),
    ("ProtectKernelTunables", "/proc/sys is covered, so that no copy gets a /proc"),
    ("ProtectControlGroups", "/sys/fs/cgroup is covered for what is tested"),
    ("ProtectProc", "/proc hides the helper's processes"),
    ("ProcSubset", "/proc is not whole, so that no copy gets one"),
    ("ProtectClock", "it implies DeviceAllow"),
    ("DeviceAllow", "mknod is refused, so that device nodes are not restored"),
    ("DevicePolicy", "mknod is refused, so that device nodes are not restored"),
    ("PrivateDevices", "mknod is refused, and /dev is not the host's"),
    ("PrivateUsers", "chown to other users is refused"),
    ("DynamicUser", "chown to other users is refused"),
    ("RestrictSUIDSGID", "files with set-user-id bits are not restored"),
    ("PrivateNetwork", "the server has to be reached"),
    ("PrivateTmp", "/tmp is not the host's"),
    ("PrivateMounts", "file systems mounted later are not seen"),
    ("MountFlags", "file systems mounted later are not seen"),
    ("ProtectSystem", "restores into /usr and /etc fail"),
    ("ProtectHome", "home directories are missing from backups"),
    ("ProtectKernelModules", "/usr/lib/modules is missing from backups"),
    ("ReadOnlyPaths", "restores fail there"),
    ("InaccessiblePaths", "backups miss what is there"),
    ("TemporaryFileSystem", "backups miss what is there"),
    ("ReadWritePaths", "mounts of its own"),
    ("RootDirectory", "the host's files are not seen"),
    ("MemoryDenyWriteExecute", "the applications under test inherit it"),
    ("SystemCallFilter", "the applications under test inherit it"),
    ("NoExecPaths", "the applications under test inherit it"),
];

#[test]
fn the_unit_takes_nothing_away_that_is_needed() {
    let unit = fs::read_to_string(packaging("systemd/provault.service")).unwrap();
    let set: Vec<&str> = unit
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('=').map(|(key, _)| key.trim()))
        .collect();
    assert!(set.contains(&"ExecStart") && set.contains(&"NoNewPrivileges"), "{set:?}");
    for (key, why) in BREAKING {
        assert!(!set.contains(&key), "{key}: {why}");
    }
    let kept = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    for needed in ["CHOWN", "DAC_OVERRIDE", "FOWNER", "MKNOD", "SETUID", "SETGID", "SYS_ADMIN"] {
        assert!(kept.split(' ').any(|one| one == format!("CAP_{needed}")), "CAP_{needed}");
    }
}

/// systemd's own reading of the unit: no key that it does not know, nothing that it cannot parse.
#[test]
fn systemd_understands_all_of_the_unit() {
    let sandbox = Sandbox::new();
    let unit = fs::read_to_string(packaging("systemd/provault.service")).unwrap();
    // Its program and its manual page are not installed here.
    let unit = unit.replace("ExecStart=/usr/local/bin/provault", "ExecStart=/bin/true");
    let verify = |text: &str| {
        let file = sandbox.path("provault.service");
        fs::write(&file, text).unwrap();
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no"]).arg(&file);
        let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
        // Of what else is installed it may say what it likes.
        let ours = said.lines().filter(|line| line.contains("provault.service"));
        ours.map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(verify(&unit), "");
    for (mistake, noticed) in
        [("NoNewPrivilege=yes", "Unknown key"), ("UMask=one", "Failed to parse")]
    {
        let said = verify(&unit.replace("[Service]", &format!("[Service]\n{mistake}")));
        assert!(said.contains(noticed), "{mistake}: {said}");
    }
}
