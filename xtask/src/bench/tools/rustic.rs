//! `rustic_core`, through a small program of ours: the library is what could have been used instead
//! of our own implementation of the format.

use std::fs;
use std::path::{Path, PathBuf};

use super::{file_name, version};
use crate::bench::measure::Invocation;
use crate::bench::tool::{Place, Source, Tool, below};
use crate::test::command::{Environment, run};

/// The program and its manifest; they are no part of this workspace, whose lock file they would
/// double.
const MAIN: &str = include_str!("rustic/main.rs.in");
const MANIFEST: &str = include_str!("rustic/Cargo.toml.in");

/// The program over `rustic_core`.
pub struct Rustic {
    program: PathBuf,
    version: String,
    identity: String,
}

impl Rustic {
    /// The program below `directory`, built when it is not there or was built from another source (minutes).
    pub fn open(environment: &Environment, directory: &Path) -> Result<Self, String> {
        let root = directory.join("rustic");
        let program = root.join("target/release/rustic-peer");
        let failed = |e| format!("cannot write {}: {e}", root.display());
        let same = |name: &str, text: &str| {
            fs::read_to_string(root.join(name)).is_ok_and(|found| found == text)
        };
        if !program.exists() || !same("src/main.rs", MAIN) || !same("Cargo.toml", MANIFEST) {
            fs::create_dir_all(root.join("src")).map_err(failed)?;
            fs::write(root.join("Cargo.toml"), MANIFEST).map_err(failed)?;
            fs::write(root.join("src/main.rs"), MAIN).map_err(failed)?;
            let mut build = environment.cargo(&["build", "--release", "--manifest-path"]);
            build.arg(root.join("Cargo.toml")).arg("--target-dir").arg(root.join("target"));
            run(&mut build)
                .map_err(|e| format!("the program over rustic_core cannot be built: {e}"))?;
        }
        let text = version(environment, &program, &["--version"])?;
        Ok(Self { program, identity: file_name(&format!("rustic-core-{text}")), version: text })
    }

    fn command(&self, place: &Place, args: &[&str]) -> Invocation {
        let paths = [place.repository(), place.cache(), place.password()];
        let mut call = place.invoke(&self.program, paths);
        call.args.extend(args.iter().map(Into::into));
        call
    }
}

impl Tool for Rustic {
    fn name(&self) -> &'static str {
        "rustic"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn settings(&self) -> &'static str {
        "the library's defaults, cache on and warm"
    }

    fn init(&self, place: &Place) -> Vec<Invocation> {
        vec![self.command(place, &["init"])]
    }

    fn backup(&self, place: &Place, source: &Source, _: &str) -> Invocation {
        let mut call = self.command(place, &["backup"]);
        call.args.push((&source.path).into());
        call
    }

    fn restore(&self, place: &Place, _: &Source, _: &str, target: &Path) -> Invocation {
        let mut call = self.command(place, &["restore"]);
        call.args.push(target.into());
        call
    }

    fn restored(&self, source: &Source, target: &Path) -> PathBuf {
        below(target, &source.path)
    }

    fn check(&self, place: &Place) -> Option<Invocation> {
        Some(self.command(place, &["check"]))
    }

    fn prune(&self, _: &Place) -> Option<(Invocation, Invocation)> {
        None
    }

    fn is_restic_format(&self) -> bool {
        true
    }
}
