//! Stock restic, of Debian.

use std::path::{Path, PathBuf};

use super::{file_name, find, version};
use crate::bench::measure::Invocation;
use crate::bench::tool::{Place, Source, Tool, below};
use crate::test::command::Environment;
use crate::test::tools::debian;

/// restic.
pub struct Restic {
    program: PathBuf,
    version: String,
    identity: String,
}

impl Restic {
    /// The restic in the path, installed when there is none.
    pub fn open(environment: &Environment) -> Result<Self, String> {
        if environment.find("restic").is_none() {
            debian::install_packages(environment, &["restic"])?;
        }
        let program = find(environment, "restic")?;
        let text = version(environment, &program, &["version"])?;
        let number = text.split_whitespace().nth(1).unwrap_or("?").to_owned();
        Ok(Self { program, identity: file_name(&format!("restic-{number}")), version: number })
    }

    fn command(&self, place: &Place, args: &[&str]) -> Invocation {
        let mut call = place.invoke(&self.program, ["--repo"]);
        call.args.push(place.repository().into());
        call.args.push("--password-file".into());
        call.args.push(place.password().into());
        call.args.push("--cache-dir".into());
        call.args.push(place.cache().into());
        call.args.extend(args.iter().map(Into::into));
        call
    }
}

/// `restic check --read-data` of a repository in its format.
pub fn oracle(environment: &Environment, place: &Place) -> Result<Invocation, String> {
    let restic = Restic::open(environment)?;
    let mut call = restic.command(place, &["check", "--read-data"]);
    call.args.push("--no-cache".into());
    Ok(call)
}

impl Tool for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn settings(&self) -> &'static str {
        "compression auto (zstd's default), packs of 16 MiB, cache on and warm; files of the \
         repository are synced; cannot restore holes"
    }

    fn init(&self, place: &Place) -> Vec<Invocation> {
        vec![self.command(place, &["init"])]
    }

    fn backup(&self, place: &Place, source: &Source, label: &str) -> Invocation {
        let mut call = self.command(place, &["backup", "--quiet", "--tag", label]);
        call.args.push((&source.path).into());
        call
    }

    fn restore(&self, place: &Place, _: &Source, _: &str, target: &Path) -> Invocation {
        let mut call = self.command(place, &["restore", "latest", "--quiet", "--target"]);
        call.args.push(target.into());
        call
    }

    fn restored(&self, source: &Source, target: &Path) -> PathBuf {
        below(target, &source.path)
    }

    fn check(&self, place: &Place) -> Option<Invocation> {
        Some(self.command(place, &["check", "--quiet", "--read-data"]))
    }

    fn prune(&self, place: &Place) -> Option<(Invocation, Invocation)> {
        // Its backups bear different tags, which would otherwise be groups of their own.
        let forget = ["forget", "--quiet", "--group-by", "", "--keep-last", "1"];
        Some((self.command(place, &forget), self.command(place, &["prune", "--quiet"])))
    }

    fn is_restic_format(&self) -> bool {
        true
    }
}
