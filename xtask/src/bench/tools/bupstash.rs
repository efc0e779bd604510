//! Bupstash 0.12, built by cargo.

use std::path::{Path, PathBuf};

use super::{file_name, version};
use crate::bench::measure::Invocation;
use crate::bench::tool::{Place, Source, Tool};
use crate::test::command::{Environment, run};
use crate::test::tools::debian;

/// The release that is built.
const VERSION: &str = "^0.12";
/// What it is built against.
const PACKAGES: &[&str] = &["build-essential", "libsodium-dev", "pkg-config"];

/// Bupstash.
pub struct Bupstash {
    program: PathBuf,
    version: String,
    identity: String,
}

impl Bupstash {
    /// The bupstash below `directory`, built when there is none (minutes).
    pub fn open(environment: &Environment, directory: &Path) -> Result<Self, String> {
        let root = directory.join("bupstash");
        let program = root.join("bin/bupstash");
        if !program.exists() {
            debian::install_missing(environment, PACKAGES)?;
            let args = ["install", "--locked", "--version", VERSION, "bupstash", "--root"];
            run(environment.cargo(&args).arg(&root))?;
        }
        let text = version(environment, &program, &["--version"])?;
        let number = text.split(['-', ' ']).nth(1).unwrap_or("?").to_owned();
        Ok(Self { program, identity: file_name(&format!("bupstash-{number}")), version: number })
    }

    fn command(&self, place: &Place, args: &[&str]) -> Invocation {
        let mut call = place.invoke(&self.program, args.iter().copied());
        let mut set = |name: &str, value: PathBuf| {
            call.environment.insert(name.to_owned(), value.into());
        };
        set("BUPSTASH_REPOSITORY", place.repository());
        set("BUPSTASH_KEY", place.directory.join("bupstash.key"));
        set("BUPSTASH_SEND_LOG", place.cache().join("send-log"));
        set("BUPSTASH_QUERY_CACHE", place.cache().join("query-cache"));
        call
    }
}

impl Tool for Bupstash {
    fn name(&self) -> &'static str {
        "bupstash"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn settings(&self) -> &'static str {
        "compression zstd:3 (its default), extended attributes on as the others have it, send log and query \
         cache on and warm; files of the repository are synced; has no check of data"
    }

    fn init(&self, place: &Place) -> Vec<Invocation> {
        let mut key = self.command(place, &["new-key", "-o"]);
        key.args.push(place.directory.join("bupstash.key").into());
        vec![key, self.command(place, &["init"])]
    }

    fn backup(&self, place: &Place, source: &Source, label: &str) -> Invocation {
        let label = format!("label={label}");
        let mut call = self.command(place, &["put", "--quiet", "--xattrs", &label]);
        call.args.push((&source.path).into());
        call
    }

    fn restore(&self, place: &Place, _: &Source, label: &str, target: &Path) -> Invocation {
        let mut call =
            self.command(place, &["restore", "--quiet", "--ownership", "--xattrs", "--into"]);
        call.args.push(target.into());
        call.args.push(format!("label={label}").into());
        call
    }

    fn restored(&self, _: &Source, target: &Path) -> PathBuf {
        target.to_owned()
    }

    fn check(&self, _: &Place) -> Option<Invocation> {
        None
    }

    fn prune(&self, _: &Place) -> Option<(Invocation, Invocation)> {
        None
    }
}
