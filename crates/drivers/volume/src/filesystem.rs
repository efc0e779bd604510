//! The file system in a volume, checked by its own tools without writing a byte.
//!
//! That every block is as it was captured says that the copy is whole, not that it was ever any good: a
//! volume that was captured while its file system was damaged restores to a damaged one. So the copy of a
//! restore test is looked at by `e2fsck -n`, `xfs_repair -n` or `btrfs check --readonly`.
//!
//! A journal that was not written back is no damage. ext4's is replayed in a private copy, which is then
//! checked; xfs's needs a mount, so that the check of such a volume says nothing and is not believed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use provault_driver::{BlockSource, CancelFlag, DriverError};

use crate::capture::io_error;
use crate::raw::RawBlocks;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Whether nothing speaks against the file system.
    pub sound: bool,
    /// For people.
    pub what: String,
}

/// A file system that is recognised at the beginning of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// ext2, ext3 or ext4, and whether its journal has to be replayed.
    Ext {
        dirty: bool,
    },
    Xfs,
    Btrfs,
}

/// Recognises a file system by its superblock.
pub(crate) fn recognise(blocks: &dyn BlockSource) -> io::Result<Option<Found>> {
    let mut head = [0_u8; 0x464];
    let mut tree = [0_u8; 8];
    if blocks.size() < 128 << 10 {
        return Ok(None);
    }
    blocks.read_at(0, &mut head)?;
    blocks.read_at(0x1_0040, &mut tree)?;
    if tree == *b"_BHRfS_M" {
        return Ok(Some(Found::Btrfs));
    }
    if head[..4] == *b"XFSB" {
        return Ok(Some(Found::Xfs));
    }
    // The superblock lies 1024 bytes from the start; its magic number, and of the features that only
    // count when they are known the one that tells of a journal to be replayed.
    if head[0x438..0x43a] == [0x53, 0xef] {
        let dirty = head[0x460] & 4 != 0;
        return Ok(Some(Found::Ext { dirty }));
    }
    Ok(None)
}

/// Checks the file system in `image`, which is `blocks`, if there is one that is known.
pub(crate) fn check(
    image: &Path,
    blocks: &RawBlocks,
    cancel: &CancelFlag,
) -> Result<Checked, DriverError> {
    let found = recognise(blocks).map_err(io_error("reading", image))?;
    match found {
        None => Ok(Checked {
            sound: true,
            what: "no file system is recognised at its beginning, so none was checked".to_owned(),
        }),
        Some(Found::Ext { dirty: false }) => ext(image, cancel, "ext4"),
        Some(Found::Ext { dirty: true }) => replayed(image, cancel),
        Some(Found::Xfs) => {
            let (code, text) = run("xfs_repair", &["-n"], image, "xfsprogs", cancel)?;
            if text.contains("changes in a log") {
                return Ok(Checked {
                    sound: true,
                    what: "its xfs has a log that only a mount can replay, so it was not checked"
                        .to_owned(),
                });
            }
            Ok(verdict("xfs", "xfs_repair -n", code == 0, &text))
        }
        Some(Found::Btrfs) => {
            let (code, text) =
                run("btrfs", &["check", "--readonly"], image, "btrfs-progs", cancel)?;
            Ok(verdict("btrfs", "btrfs check --readonly", code == 0, &text))
        }
    }
}

fn ext(image: &Path, cancel: &CancelFlag, name: &str) -> Result<Checked, DriverError> {
    let (code, text) = run("e2fsck", &["-f", "-n"], image, "e2fsprogs", cancel)?;
    Ok(verdict(name, "e2fsck -n", code == 0, &text))
}

/// Replays the journal in a copy, and checks that.
fn replayed(image: &Path, cancel: &CancelFlag) -> Result<Checked, DriverError> {
    let dir = image.parent().unwrap_or(Path::new("/"));
    let scratch = tempfile::Builder::new().prefix(".check-").tempdir_in(dir);
    let scratch = scratch.map_err(io_error("making a copy beside", image))?;
    let copy: PathBuf = scratch.path().join("replayed");
    let program = "cp";
    let args = ["--sparse=always", "--reflink=auto", "--"];
    let mut cp = Command::new(program);
    cp.args(args).arg(image).arg(&copy);
    let (code, text) = finish(cp, program, image, "coreutils", cancel)?;
    if code != 0 {
        return Err(io_error("copying", image)(io::Error::other(text)));
    }
    let args = ["-E", "journal_only", "-y"];
    let (code, text) = run("e2fsck", &args, &copy, "e2fsprogs", cancel)?;
    // 1: something was corrected, which is what was asked for.
    if code > 1 {
        return Ok(verdict("ext4", "the replay of its journal", false, &text));
    }
    let checked = ext(&copy, cancel, "ext4, its journal replayed")?;
    Ok(checked)
}

fn verdict(name: &str, check: &str, sound: bool, text: &str) -> Checked {
    if sound {
        return Checked { sound, what: format!("{check} finds its file system ({name}) in order") };
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(4)..].join(" / ");
    Checked { sound, what: format!("{check} finds its file system ({name}) damaged: {tail}") }
}

fn run(
    program: &str,
    args: &[&str],
    image: &Path,
    package: &str,
    cancel: &CancelFlag,
) -> Result<(i32, String), DriverError> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).args(args).arg(image);
    // Their place in a Debian system is not in everybody's path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C");
    finish(command, program, image, package, cancel)
}

/// Ends the program when this ends early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; it is reaped in any case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a program; returns its exit code and what it said, from the end.
fn finish(
    mut command: Command,
    program: &str,
    image: &Path,
    package: &str,
    cancel: &CancelFlag,
) -> Result<(i32, String), DriverError> {
    let wrong = |error: io::Error| io_error("checking", image)(error);
    let missing = || {
        wrong(io::Error::other(format!(
            "{program} cannot be started: install {package}, or nobody can tell whether the file system \
             in the volume is in order"
        )))
    };
    let said = tempfile::NamedTempFile::new().map_err(wrong)?;
    let out = said.reopen().map_err(wrong)?;
    // One description: they do not write over each other.
    let err = out.try_clone().map_err(wrong)?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let mut child = match command.spawn() {
        Ok(child) => Running(child),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(wrong(error)),
    };
    let status = loop {
        if cancel.is_raised() {
            return Err(DriverError::Cancelled);
        }
        match child.0.try_wait().map_err(wrong)? {
            Some(status) => break status,
            None => sleep(Duration::from_millis(10)),
        }
    };
    let mut text = Vec::new();
    File::open(said.path())
        .and_then(|file| file.take(1 << 20).read_to_end(&mut text))
        .map_err(wrong)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    match status.code() {
        // setpriv's answer when there is no such program.
        Some(127) => Err(missing()),
        Some(code) => Ok((code, text)),
        None => Err(wrong(io::Error::other(format!("{program} ended with {status}")))),
    }
}
