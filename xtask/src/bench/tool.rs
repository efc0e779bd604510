//! A backup program under the clock: how its commands look.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::measure::Invocation;

/// The password of all repositories here. They hold public data, and die with the run.
pub const PASSWORD: &str = "correct horse battery staple";

/// A program that backs up, restores and checks.
pub trait Tool {
    /// Its name on the command line and in results.
    fn name(&self) -> &'static str;
    /// Its version, for people.
    fn version(&self) -> &str;
    /// What tells this very program from others of the name; part of a file name.
    fn identity(&self) -> &str;
    /// How it is set up here, for the report: compression, encryption, durability.
    fn settings(&self) -> &'static str;
    /// Makes an empty repository. Not measured.
    fn init(&self, place: &Place) -> Vec<Invocation>;
    /// Backs up the directory `source`.
    fn backup(&self, place: &Place, source: &Source, label: &str) -> Invocation;
    /// Restores the newest backup, made as `label`, into the empty directory `target`.
    fn restore(&self, place: &Place, source: &Source, label: &str, target: &Path) -> Invocation;
    /// Where `source` is after a restore into `target`.
    fn restored(&self, source: &Source, target: &Path) -> PathBuf;
    /// Reads and checks all data; nothing where the program can't.
    fn check(&self, place: &Place) -> Option<Invocation>;
    /// Forgets all but the newest backup, and removes what nothing needs any more. Only the second
    /// part is measured. Nothing where it is not part of the comparison.
    fn prune(&self, place: &Place) -> Option<(Invocation, Invocation)>;
    /// True for repositories that stock restic must find whole.
    fn is_restic_format(&self) -> bool {
        false
    }
}

/// What is backed up.
#[derive(Debug, Clone)]
pub struct Source {
    /// The directory.
    pub path: PathBuf,
    /// It holds the image of a disk, and its restore is to keep the holes where a program has an
    /// option for that.
    pub is_device: bool,
}

/// Everything of one program in one round: repository, cache, home, password.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its directory.
    pub directory: PathBuf,
    /// Where programs are looked for.
    pub path: OsString,
}

impl Place {
    /// An empty place.
    pub fn fresh(directory: PathBuf, path: OsString) -> Result<Self, String> {
        super::corpus::discard(&directory)?;
        let place = Self { directory, path };
        for part in ["cache", "home", "tmp"] {
            let part = place.directory.join(part);
            fs::create_dir_all(&part)
                .map_err(|e| format!("cannot make {}: {e}", part.display()))?;
        }
        let file = place.password();
        fs::write(&file, PASSWORD).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
        Ok(place)
    }

    /// The repository: a path that does not exist before the program makes it.
    pub fn repository(&self) -> PathBuf {
        self.directory.join("repository")
    }

    /// A file with the password.
    pub fn password(&self) -> PathBuf {
        self.directory.join("password")
    }

    /// What the program keeps between runs, as its users have it.
    pub fn cache(&self) -> PathBuf {
        self.directory.join("cache")
    }

    /// A command in this place. Its environment holds nothing of the person who runs the benchmark.
    pub fn invoke<A: Into<OsString>>(
        &self,
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = A>,
    ) -> Invocation {
        let environment = BTreeMap::from([
            ("PATH".to_owned(), self.path.clone()),
            ("HOME".to_owned(), self.directory.join("home").into()),
            ("XDG_CACHE_HOME".to_owned(), self.cache().into()),
            ("TMPDIR".to_owned(), self.directory.join("tmp").into()),
            ("LANG".to_owned(), "C.UTF-8".into()),
        ]);
        Invocation {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            environment,
            directory: self.directory.clone(),
        }
    }
}

/// A path below `target` as programs restore it that keep the whole path.
pub fn below(target: &Path, source: &Path) -> PathBuf {
    target.join(source.strip_prefix("/").unwrap_or(source))
}
