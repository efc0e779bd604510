//! The ownership mark of a restore test.
//!
//! Everything a test creates on disk lies in `ROOT/TOKEN/`, and the first thing in that directory
//! is the mark: a file that names the token. What bears no mark, or another's, is never touched,
//! so no clean-up can ever reach an operator's own restore. A crash between making the directory
//! and marking it leaves an empty directory, which stays: it is not marked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use crate::{ProofError, tree};

/// Name of the mark.
pub const MARKER: &str = ".provault-restore-test";

/// A mark is a line; anything longer is something else.
const LONGEST: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct Mark {
    token: String,
}

/// The directory of one restore test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestArea {
    path: PathBuf,
    token: String,
}

/// A test's directory could not be made, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ReapError {
    /// Not 1 to 64 letters, digits and hyphens.
    #[error("'{0}' is not a test run token; nothing was touched.")]
    BadToken(String),
    /// A directory of that name is there already.
    #[error("{} exists already; nothing was touched.", .0.display())]
    Exists(PathBuf),
    /// It is there, but it does not bear the token's mark.
    #[error(
        "{} does not bear the mark of its restore test and was not touched ({why}). \
         Look at it and remove it by hand.", path.display()
    )]
    NotMarked {
        /// Which directory.
        path: PathBuf,
        /// What was found instead of the mark.
        why: String,
    },
    /// Something in it cannot be removed. The mark stays, so a later sweep tries again.
    #[error(
        "a restore test's copy could not be removed: {0}. Make it removable (chattr -i, umount); the next sweep tries again."
    )]
    Stuck(#[source] ProofError),
    /// The system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReapError {
    let path = path.to_owned();
    move |source| ReapError::Io { doing, path, source }
}

fn area_path(root: &Path, token: &str) -> Result<PathBuf, ReapError> {
    let plain = token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if (1..=64).contains(&token.len()) && plain {
        Ok(root.join(token))
    } else {
        Err(ReapError::BadToken(token.to_owned()))
    }
}

fn sync(directory: &Path) -> Result<(), ReapError> {
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("syncing", directory))
}

impl TestArea {
    /// Makes the directory of a test, for its owner only, and marks it before anything else. The
    /// mark is on disk when this returns.
    pub fn create(root: &Path, token: &str) -> Result<Self, ReapError> {
        let path = area_path(root, token)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(failed("making", root))?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ReapError::Exists(path));
            }
            other => other.map_err(failed("making", &path))?,
        }
        let marker = path.join(MARKER);
        let mark = serde_json::to_vec(&Mark { token: token.to_owned() })
            .map_err(|error| failed("marking", &marker)(error.into()))?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&marker)
            .and_then(|mut file| {
                file.write_all(&mark)?;
                file.sync_all()
            })
            .map_err(failed("marking", &marker))?;
        sync(&path)?;
        sync(root)?;
        Ok(Self { path, token: token.to_owned() })
    }

    /// The area of a test that was begun earlier; it must bear the mark.
    pub fn open(root: &Path, token: &str) -> Result<Self, ReapError> {
        let path = area_path(root, token)?;
        check_mark(&path, token)?;
        Ok(Self { path, token: token.to_owned() })
    }

    /// Whose it is.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The marked directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the copy of the test with `token` is to be restored, whether its area exists yet or
    /// not.
    pub fn copy_path(root: &Path, token: &str) -> PathBuf {
        root.join(token).join("copy")
    }

    /// Where the copy is to be restored. It is not made here: a restore wants a target that does
    /// not exist.
    pub fn copy_dir(&self) -> PathBuf {
        self.path.join("copy")
    }

    /// Where the copy for a mutant is to be restored; not made here.
    pub fn mutant_dir(&self, mutant: crate::Mutant) -> PathBuf {
        self.path.join(format!("mutant-{}", mutant.name()))
    }

    /// Removes one of the directories above and everything in it; one that is not there is gone
    /// already.
    pub fn discard(&self, directory: &Path) -> Result<(), ReapError> {
        check_mark(&self.path, &self.token)?;
        if directory.parent() != Some(self.path.as_path()) {
            let why = "it is not one of this test's copies".to_owned();
            return Err(ReapError::NotMarked { path: directory.to_owned(), why });
        }
        match fs::symlink_metadata(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("reading", directory)(error)),
            Ok(metadata) if metadata.is_dir() => {
                tree::empty(directory, None).map_err(ReapError::Stuck)?;
                fs::remove_dir(directory).map_err(failed("removing", directory))
            }
            Ok(_) => fs::remove_file(directory).map_err(failed("removing", directory)),
        }
    }
}

/// Checks that `path` is a directory that bears the token's own mark.
fn check_mark(path: &Path, token: &str) -> Result<(), ReapError> {
    let not_marked =
        |why: &str| ReapError::NotMarked { path: path.to_owned(), why: why.to_owned() };
    let metadata = fs::symlink_metadata(path).map_err(failed("opening", path))?;
    if !metadata.is_dir() {
        return Err(not_marked("it is not a directory"));
    }
    let marker = path.join(MARKER);
    // Looked at before it is opened: opening a pipe or a device in its place could do harm.
    match fs::symlink_metadata(&marker) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(not_marked("there is no mark"));
        }
        Err(error) => return Err(failed("reading", &marker)(error)),
        Ok(metadata) if !metadata.is_file() => {
            return Err(not_marked("the mark is not a regular file"));
        }
        Ok(_) => {}
    }
    let mut text = Vec::new();
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(&marker)
        .and_then(|file| file.take(LONGEST).read_to_end(&mut text))
        .map_err(failed("reading", &marker))?;
    match serde_json::from_slice::<Mark>(&text) {
        Ok(mark) if mark.token == token => Ok(()),
        Ok(_) => Err(not_marked("the mark names another test")),
        Err(_) => Err(not_marked("the mark cannot be read")),
    }
}

/// Deletes a test's directory and everything in it, provided it bears that very token's mark. One
/// that is not there is gone already. The mark goes last, so that what a crash leaves can still
/// be found.
pub fn reap(root: &Path, token: &str) -> Result<(), ReapError> {
    let path = area_path(root, token)?;
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("reading", &path)(error)),
        Ok(_) => check_mark(&path, token)?,
    }
    let marker = path.join(MARKER);
    tree::empty(&path, Some(&marker)).map_err(ReapError::Stuck)?;
    fs::remove_file(&marker).map_err(failed("removing", &marker))?;
    fs::remove_dir(&path).map_err(failed("removing", &path))
}

/// Tokens of the directories below `root` that bear their own mark, sorted. Everything else there
/// is passed over. A root that does not exist holds none.
pub fn leftovers(root: &Path) -> Result<Vec<String>, ReapError> {
    let list = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("listing", root))?,
    };
    let mut tokens = Vec::new();
    for entry in list {
        let name = entry.map_err(failed("listing", root))?.file_name();
        if let Some(token) = name.to_str()
            && let Ok(path) = area_path(root, token)
            && check_mark(&path, token).is_ok()
        {
            tokens.push(token.to_owned());
        }
    }
    tokens.sort();
    Ok(tokens)
}
