//! Disks that run full: small file systems in memory that only one server sees.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::TestServer;

/// A directory that is a small disk for a server, as long as that runs. Every start of the server
/// finds it empty.
#[derive(Clone, Debug)]
pub struct SmallDisk {
    directory: PathBuf,
    kib: u64,
}

/// Mounts what its arguments say (how many, then a directory and KiB for each), then becomes the
/// program behind them.
const MOUNT: &str = r#"
disks=$1; shift
while [ "$disks" -gt 0 ]; do
    mount -t tmpfs -o "size=$2k,mode=700" provault-test-disk "$1" || exit 97
    shift 2
    disks=$((disks - 1))
done
exec "$@"
"#;

/// Takes up all room.
const FILLER: &str = "takes-up-all-room";

impl SmallDisk {
    /// A disk of so many KiB at a directory that is there.
    pub fn new(directory: &Path, kib: u64) -> Self {
        Self { directory: directory.to_owned(), kib }
    }

    /// An error where the host does not let its users mount anything.
    pub fn is_possible() -> Result<(), String> {
        let mut command = Self::unshare();
        command.args(["mount", "-t", "tmpfs", "none", "/tmp"]).stdin(Stdio::null());
        match command.output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("unshare: {error}; install util-linux")),
        }
    }

    fn unshare() -> Command {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]);
        command
    }

    /// The same command, which sees the disks.
    pub(crate) fn mounted_for(disks: &[Self], command: Command) -> Command {
        if disks.is_empty() {
            return command;
        }
        let mut mounting = Self::unshare();
        mounting.args(["sh", "-c", MOUNT, "sh"]).arg(disks.len().to_string());
        for disk in disks {
            mounting.arg(&disk.directory).arg(disk.kib.to_string());
        }
        mounting.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => mounting.env(name, value),
                None => mounting.env_remove(name),
            };
        }
        mounting
    }

    /// A path on the disk, as this process gets to it while the server runs.
    pub fn path(&self, server: &TestServer, name: &str) -> PathBuf {
        let below = self.directory.strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", server.pid())).join(below).join(name)
    }

    /// Leaves no room on it.
    pub fn fill(&self, server: &TestServer) {
        let mut filler = File::create(self.path(server, FILLER)).unwrap();
        loop {
            match filler.write_all(&[1; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Leaves no room but for so many KiB.
    pub fn leave(&self, server: &TestServer, kib: u64) {
        self.fill(server);
        let filler = File::options().write(true).open(self.path(server, FILLER)).unwrap();
        let taken = filler.metadata().unwrap().len();
        assert!(taken > kib * 1024, "{taken} bytes were free");
        filler.set_len(taken - kib * 1024).unwrap();
    }

    /// Makes the room free again that was taken.
    pub fn free(&self, server: &TestServer) {
        fs::remove_file(self.path(server, FILLER)).unwrap();
    }

    /// The names of what lies on it, but for what takes up the room.
    pub fn names(&self, server: &TestServer) -> Vec<String> {
        let entries = fs::read_dir(self.path(server, "")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != FILLER).collect()
    }
}
