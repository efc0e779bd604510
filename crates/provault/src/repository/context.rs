//! What a command works with: the options, the output, the opened repository.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use provault_cli::Output;
use provault_driver::CancelFlag;
use provault_repository::{Options, Password, Repository, Storage};

use super::failure::Failure;
use super::location::Location;
use super::{RepositoryOptions, password, usage};

/// How commands call themselves in snapshots.
pub(crate) const PROGRAM: &str = concat!("provault ", env!("CARGO_PKG_VERSION"));

/// The options of one run, and where its results go.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a RepositoryOptions,
    pub(crate) out: &'a Output,
}

impl<'a> Context<'a> {
    pub(crate) fn new(options: &'a RepositoryOptions, out: &'a Output) -> Self {
        Self { options, out }
    }

    /// Where the repository is.
    pub(crate) fn location(&self) -> Result<Location, Failure> {
        Location::of(self.options.repo.as_deref())
    }

    /// The storage of a repository that is there.
    pub(crate) fn storage(&self) -> Result<Arc<dyn Storage>, Failure> {
        self.location()?.existing(self.options.limits)
    }

    /// Opens the repository.
    pub(crate) fn open(&self) -> Result<Repository, Failure> {
        self.open_as(Options::default())
    }

    /// Opens the repository with a password that is at hand.
    pub(crate) fn open_with(&self, password: &Password) -> Result<Repository, Failure> {
        Ok(Repository::open(self.storage()?, password, Options::default())?)
    }

    /// Opens the repository to work in a certain way.
    pub(crate) fn open_as(&self, options: Options) -> Result<Repository, Failure> {
        let storage = self.storage()?;
        let password = password::find(self.options.password_file.as_deref())?;
        let options = Options { cache_dir: self.cache_dir(), ..options };
        Ok(Repository::open(storage, &password, options)?)
    }

    /// Opens another repository than that of `--repo`, to read from it.
    pub(crate) fn open_other(
        &self,
        repo: &str,
        password_file: &Path,
    ) -> Result<Repository, Failure> {
        let location = Location::parse(repo)?;
        if location.is_same(&self.location()?) {
            return Err(usage("--from-repo and --repo are the same repository"));
        }
        self.one_from_stdin(password_file)?;
        let password = password::read(password_file)?;
        Ok(Repository::open(
            location.existing(self.options.limits)?,
            &password,
            Options::default(),
        )?)
    }

    /// Refuses a file that is standard input when the password comes from there.
    pub(crate) fn one_from_stdin(&self, file: &Path) -> Result<(), Failure> {
        let is_stdin = |file: &Path| file == Path::new("-");
        if is_stdin(file) && self.options.password_file.as_deref().is_some_and(is_stdin) {
            return Err(usage("only one file can be standard input, and the password is"));
        }
        Ok(())
    }

    /// Where this machine remembers what is only there to save time.
    fn cache_dir(&self) -> Option<PathBuf> {
        if self.options.no_cache {
            return None;
        }
        let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let given = self.options.cache_dir.clone();
        given
            .or_else(|| of("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("provault")))
            .or_else(|| of("HOME").map(|home| PathBuf::from(home).join(".cache/provault")))
    }

    /// A line for people, unless they want quiet.
    pub(crate) fn note(&self, text: &str) {
        if !self.options.quiet {
            // A note that cannot be written is not worth failing for.
            let _ = self.out.note(&provault_cli::clean(text));
        }
    }

    /// A line that has to be seen, quiet or not.
    pub(crate) fn warn(&self, text: &str) {
        let _ = self.out.note(&provault_cli::clean(text));
    }
}

/// The repository's flag over the same boolean.
pub(crate) fn repository_flag(cancel: &CancelFlag) -> provault_repository::CancelFlag {
    provault_repository::CancelFlag::from_shared(cancel.as_shared())
}
