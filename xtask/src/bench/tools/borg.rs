//! Borg 1.4, from Python's package index, built in a virtual environment of its own.

use std::path::{Path, PathBuf};

use super::{file_name, version};
use crate::bench::measure::Invocation;
use crate::bench::tool::{PASSWORD, Place, Source, Tool, below};
use crate::test::command::{Environment, run};
use crate::test::tools::debian;

/// What pip is asked for.
const REQUIREMENT: &str = "borgbackup>=1.4,<1.5";
/// What its C parts are built against.
const PACKAGES: &[&str] = &[
    "build-essential",
    "libacl1-dev",
    "liblz4-dev",
    "libssl-dev",
    "libxxhash-dev",
    "libzstd-dev",
    "pkg-config",
    "python3-dev",
    "python3-venv",
];

/// Borg.
pub struct Borg {
    program: PathBuf,
    version: String,
    identity: String,
}

impl Borg {
    /// The Borg below `directory`, installed when there is none.
    pub fn open(environment: &Environment, directory: &Path) -> Result<Self, String> {
        let venv = directory.join("borg");
        let program = venv.join("bin/borg");
        if !program.exists() {
            debian::install_missing(environment, PACKAGES)?;
            run(environment.command("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
            let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            run(environment.command(venv.join("bin/python")).args(options).arg(REQUIREMENT))?;
        }
        let text = version(environment, &program, &["--version"])?;
        let number = text.split_whitespace().nth(1).unwrap_or("?").to_owned();
        Ok(Self { program, identity: file_name(&format!("borg-{number}")), version: number })
    }

    fn command(&self, place: &Place, args: &[&str]) -> Invocation {
        let mut call = place.invoke(&self.program, args.iter().copied());
        call.environment.insert("BORG_PASSPHRASE".to_owned(), PASSWORD.into());
        call.environment.insert("BORG_BASE_DIR".to_owned(), place.directory.join("home").into());
        call.environment.insert("BORG_CACHE_DIR".to_owned(), place.cache().into());
        call
    }

    fn archive(place: &Place, label: &str) -> std::ffi::OsString {
        let mut archive = place.repository().into_os_string();
        archive.push(format!("::{label}"));
        archive
    }
}

impl Tool for Borg {
    fn name(&self) -> &'static str {
        "borg"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn settings(&self) -> &'static str {
        "encryption repokey (AES-CTR, HMAC-SHA256), compression zstd,3, cache on and warm; segments \
         are synced; the image of a disk in fixed blocks of 4 MiB with --sparse, as its manual advises"
    }

    fn init(&self, place: &Place) -> Vec<Invocation> {
        let mut call = self.command(place, &["init", "--encryption", "repokey"]);
        call.args.push(place.repository().into());
        vec![call]
    }

    fn backup(&self, place: &Place, source: &Source, label: &str) -> Invocation {
        let mut call = self.command(place, &["create", "--compression", "zstd,3"]);
        if source.is_device {
            let options = ["--chunker-params", "fixed,4194304", "--sparse"];
            call.args.extend(options.map(Into::into));
        }
        call.args.push(Self::archive(place, label));
        call.args.push((&source.path).into());
        call
    }

    fn restore(&self, place: &Place, source: &Source, label: &str, target: &Path) -> Invocation {
        let mut call = self.command(place, &["extract"]);
        if source.is_device {
            call.args.push("--sparse".into());
        }
        call.args.push(Self::archive(place, label));
        target.clone_into(&mut call.directory);
        call
    }

    fn restored(&self, source: &Source, target: &Path) -> PathBuf {
        below(target, &source.path)
    }

    fn check(&self, place: &Place) -> Option<Invocation> {
        let mut call = self.command(place, &["check", "--verify-data"]);
        call.args.push(place.repository().into());
        Some(call)
    }

    fn prune(&self, _: &Place) -> Option<(Invocation, Invocation)> {
        None
    }
}
