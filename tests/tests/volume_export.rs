//! The volume of a server's recovery point, used before it is restored.
// An unwrap that fails is how a test fails.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use provault_tests::{
    Finished, Program, Sandbox, TestServer, clean_command, not_tested, write_tree,
};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a tool that has to succeed, and gives what it prints.
fn tool(program: &str, args: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let mut command = clean_command(program);
    command.args(args).env("PATH", path);
    let install = "apt-get install qemu-utils libnbd-bin e2fsprogs";
    Finished::of(&mut command, install).expect(0).stdout
}

/// A server with an ext4 image that is backed up.
struct Scene {
    sandbox: Sandbox,
    _server: TestServer,
    cli: Program,
    image: PathBuf,
    point: String,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let server = TestServer::start(&sandbox.path("server"));
        let cli = server.program();
        let tree = sandbox.directory("tree");
        fs::write(tree.join("letter"), "dear reader\n").unwrap();
        let image = sandbox.path("disk.img");
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        tool("mkfs.ext4", &["-q", "-d", text(&tree), text(&image)]);
        cli.run(0, &["resource", "add", "volume", text(&image), "--name", "disk"]);
        let job = cli.json(&["backup", "disk", "--watch"]);
        let point = job["RecoveryPointArn"].as_str().unwrap().to_owned();
        Self { sandbox, _server: server, cli, image, point }
    }
}

/// A command that runs until Ctrl-C, and the first line it printed.
struct Served(Child);

impl Served {
    fn start(mut command: Command) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Self(child), line.trim().to_owned())
    }

    /// Ctrl-C, which has to be a good end.
    fn end(mut self) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGINT).unwrap();
        let ended = self.0.wait().unwrap();
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Where the test has failed before its end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_recovery_point_is_served_over_nbd() {
    let scene = Scene::new();
    let socket = scene.sandbox.path("socket");
    let export = ["volume", "export", &scene.point, "--socket", text(&socket)];
    let (served, uri) = Served::start(scene.cli.command(&export));
    assert!(uri.starts_with("nbd+unix:///") && uri.contains("?socket="), "{uri}");
    let info = tool("nbdinfo", &["--json", &uri]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["exports"][0]["export-size"], 16 << 20, "{info:#}");
    assert_eq!(info["exports"][0]["is_read_only"], true, "{info:#}");
    let info = tool("qemu-img", &["info", "--output=json", "-f", "raw", &uri]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["virtual-size"], 16 << 20, "{info:#}");
    // The one export is found without its name, too.
    let unnamed = format!("nbd+unix:///?socket={}", text(&socket));
    let copy = scene.sandbox.path("copy.img");
    tool("qemu-img", &["convert", "-f", "raw", "-O", "raw", &unnamed, text(&copy)]);
    assert!(fs::read(&copy).unwrap() == fs::read(&scene.image).unwrap(), "other bytes came");
    // Taken: the socket of another is not removed.
    scene.cli.run(2, &export);
    // What writes gets its own layer.
    let layer = scene.sandbox.path("layer.qcow2");
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &uri, text(&layer)]);
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 7 1M 64k", text(&layer)]);
    served.end();
    assert!(!socket.exists());
    let left = fs::read_dir(scene.sandbox.path("server/vaults")).unwrap().map(Result::unwrap);
    let locks = left.map(|vault| vault.path().join("locks")).filter(|locks| locks.exists());
    let locks: usize = locks.map(|locks| fs::read_dir(locks).unwrap().count()).sum();
    assert_eq!(locks, 0, "the lock is given back");
}

#[test]
fn single_files_come_out_of_a_recovery_point() {
    let scene = Scene::new();
    let place = scene.sandbox.directory("mounted");
    let mount = ["volume", "mount", &scene.point, text(&place)];
    let mut command = scene.cli.command(&mount);
    command.stderr(Stdio::piped());
    let (mut served, file) = Served::start(command);
    if file.is_empty() {
        let mut why = String::new();
        std::io::Read::read_to_string(served.0.stderr.as_mut().unwrap(), &mut why).unwrap();
        assert!(why.contains("/dev/fuse"), "{why}");
        not_tested("single_files_come_out_of_a_recovery_point", why.trim());
        return;
    }
    assert!(file.ends_with("disk.raw"), "{file}");
    assert_eq!(tool("debugfs", &["-R", "cat /letter", &file]), "dear reader\n");
    served.end();
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "it is unmounted");
}

#[test]
fn what_is_no_volume_is_refused_before_the_password_is_asked_for() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let cli = server.program();
    let tree = sandbox.path("tree");
    write_tree(&tree);
    cli.run(0, &["resource", "add", "filesystem", text(&tree), "--name", "tree"]);
    let job = cli.json(&["backup", "tree", "--watch"]);
    let point = job["RecoveryPointArn"].as_str().unwrap();
    let socket = sandbox.path("socket");
    let refused = cli.run(2, &["volume", "export", point, "--socket", text(&socket)]);
    assert!(refused.stderr.contains("of type EFS"), "{refused}");
    let audit = cli.run(0, &["audit"]).stdout;
    assert!(!audit.contains("ExportPassword"), "{audit}");
    let gone = point.replace(|c: char| c.is_ascii_digit(), "0");
    cli.run(1, &["volume", "export", &gone, "--socket", text(&socket)]);
    assert!(!socket.exists());
}
