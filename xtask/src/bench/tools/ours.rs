//! Provault's own command: `provault repository`, which works without a server.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::version;
use crate::bench::corpus::VOLUME;
use crate::bench::measure::Invocation;
use crate::bench::tool::{Place, Source, Tool, below};
use crate::test::command::Environment;

/// The executable under test.
pub struct Ours {
    program: PathBuf,
    version: String,
    identity: String,
    /// It has `forget` and `prune`.
    prunes: bool,
    /// It has `backup-volume` and `restore-volume`.
    volumes: bool,
}

impl Ours {
    /// An executable; the commit of the work tree is noted beside what it says of itself.
    pub fn open(environment: &Environment, program: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(program)
            .map_err(|e| format!("cannot read {}: {e}", program.display()))?;
        // The bytes of the program and not its commit: documentation may change between rounds.
        let hash = Sha256::digest(&bytes)
            .iter()
            .take(6)
            .fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
        let text = version(environment, program, &["--version"])?;
        let number = text.split_whitespace().last().unwrap_or("?").to_owned();
        let commit = environment
            .output("git", &["describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"])
            .unwrap_or_else(|| "unknown".to_owned());
        // Older commits are measured too, to see what a change has brought.
        let knows =
            |command| environment.output(program, &["repository", command, "--help"]).is_some();
        Ok(Self {
            prunes: knows("forget") && knows("prune"),
            volumes: knows("backup-volume") && knows("restore-volume"),
            program: program.to_owned(),
            version: format!("{number} ({commit})"),
            identity: format!("provault-{hash:012x}"),
        })
    }

    fn command(&self, place: &Place, args: &[&str]) -> Invocation {
        let mut call = place.invoke(&self.program, ["repository", "--repo"]);
        call.args.push(place.repository().into());
        call.args.push("--password-file".into());
        call.args.push(place.password().into());
        call.args.push("--quiet".into());
        call.args.extend(args.iter().map(Into::into));
        call
    }
}

impl Tool for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn settings(&self) -> &'static str {
        "compression zstd 3, directory cache on and warm; files and directories of the repository \
         are synced; the image of a disk with backup-volume and restore-volume, by hashing (which keep \
         its bytes and holes, but not the mode and times of the image file)"
    }

    fn init(&self, place: &Place) -> Vec<Invocation> {
        vec![self.command(place, &["init"])]
    }

    fn backup(&self, place: &Place, source: &Source, label: &str) -> Invocation {
        let volume = self.volumes && source.is_device;
        let command = if volume { "backup-volume" } else { "backup" };
        let options = [command, "--compression-level", "3", "--tag", label];
        let mut call = self.command(place, &options);
        let path = if volume { source.path.join(VOLUME) } else { source.path.clone() };
        call.args.push(path.into());
        call
    }

    fn restore(&self, place: &Place, source: &Source, _: &str, target: &Path) -> Invocation {
        if self.volumes && source.is_device {
            let mut call = self.command(place, &["restore-volume", "latest"]);
            call.args.push(target.join(VOLUME).into());
            return call;
        }
        let mut call = self.command(place, &["restore", "latest"]);
        call.args.push(target.into());
        call
    }

    fn restored(&self, source: &Source, target: &Path) -> PathBuf {
        if self.volumes && source.is_device {
            return target.to_owned();
        }
        below(target, &source.path)
    }

    fn check(&self, place: &Place) -> Option<Invocation> {
        Some(self.command(place, &["check", "--read-data"]))
    }

    fn prune(&self, place: &Place) -> Option<(Invocation, Invocation)> {
        if !self.prunes {
            return None;
        }
        let forget = self.command(place, &["forget", "--group-by", "", "--keep-last", "1"]);
        Some((forget, self.command(place, &["prune"])))
    }

    fn is_restic_format(&self) -> bool {
        true
    }
}
