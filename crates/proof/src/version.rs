//! What the answers of broken copies depend on, so that they may be kept as long as it stays the
//! same.
//!
//! It must be asked of a copy whose application has not run yet: what an application writes into
//! its copy is not what it was restored with.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use provault_domain::{Probe, ServiceSpec};
use sha2::{Digest, Sha256};

use crate::ProofError;
use crate::isolation::COPY;
use crate::mutant::SUITE;
use crate::tree::directory;

/// Links followed in one word; Linux gives up after as many.
const MOST_LINKS: usize = 40;

/// What a word of a command is, taken for a path as the application sees it.
enum Named {
    /// Nothing is there.
    Absent,
    /// It leads out of the copy, to here; nobody looked there.
    Outside(PathBuf),
    /// A directory, a device or the like.
    Other,
    /// A regular file of the copy, with its place on this host.
    File(PathBuf, Metadata),
}

/// Names what mutants' answers depend on, as SHA-256 in hex: the mutants themselves, the service,
/// the probes, and every regular file of the copy at `copy_root` that a word of the service's
/// command or of a command probe names, by its content and by whether it may be executed. Answers
/// may be kept as long as it stays the same: a new version of the application, or of a script that
/// checks it, may be one that no longer finds them broken.
///
/// A word is taken as the application would take it, relative to the copy or below [`COPY`]; a
/// link is followed as long as it stays in the copy, and one that leads out of it counts by where
/// it leads. A word that names no file counts as just that. What a named file loads in turn is
/// not known here.
///
/// Ask before the application starts. Files are read whole, a piece at a time. Errors: a file
/// that cannot be read, and another file system mounted in the copy on the way to one.
pub fn probe_version(
    service: Option<&ServiceSpec>,
    probes: &[Probe],
    copy_root: &Path,
) -> Result<String, ProofError> {
    // Members in the order they are declared, maps sorted: the same value, the same text.
    let text = serde_json::json!({ "suite": SUITE, "service": service, "probes": probes });
    let mut hash = Sha256::new();
    part(&mut hash, text.to_string().as_bytes());
    for word in service.map_or([].as_slice(), |service| service.command.as_slice()) {
        named(&mut hash, copy_root, word)?;
    }
    for probe in probes {
        let Probe::Command { command, .. } = probe else { continue };
        part(&mut hash, b"command");
        for word in command {
            named(&mut hash, copy_root, word)?;
        }
    }
    Ok(hex::encode(hash.finalize()))
}

/// A word, and what of the copy it names.
fn named(hash: &mut Sha256, copy_root: &Path, word: &str) -> Result<(), ProofError> {
    part(hash, word.as_bytes());
    match find(copy_root, word)? {
        Named::Absent => part(hash, b"absent"),
        Named::Other => part(hash, b"other"),
        Named::Outside(path) => {
            part(hash, b"outside");
            part(hash, path.as_os_str().as_bytes());
        }
        Named::File(path, metadata) => {
            // Mutants tell programs from data by this.
            let is_program = metadata.mode() & 0o111 != 0;
            part(hash, if is_program { b"program" } else { b"file" });
            part(hash, &content(&path)?);
        }
    }
    Ok(())
}

/// With its length, so that no two lists of parts are the same bytes.
fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

/// Finds what `word` is inside, where the copy at `root` is [`COPY`], and looks at nothing else.
fn find(root: &Path, word: &str) -> Result<Named, ProofError> {
    let device = directory(root)?.dev();
    let mut at = PathBuf::from(COPY);
    let mut ahead = Vec::new();
    go(Path::new(word), &mut at, &mut ahead);
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        at.push(name);
        let Some(path) = on_host(root, &at) else { continue };
        let Some(metadata) = lstat(&path)? else { return Ok(Named::Absent) };
        if metadata.dev() != device {
            return Err(ProofError::Mounted { path });
        }
        if metadata.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Ok(Named::Absent);
            }
            let target = fs::read_link(&path).map_err(ProofError::io("reading", &path))?;
            at.pop();
            go(&target, &mut at, &mut ahead);
        } else if !metadata.is_dir() && !ahead.is_empty() {
            return Ok(Named::Absent);
        }
    }
    let Some(path) = on_host(root, &at) else { return Ok(Named::Outside(at)) };
    Ok(match lstat(&path)? {
        None => Named::Absent,
        Some(metadata) if metadata.is_file() => Named::File(path, metadata),
        Some(_) => Named::Other,
    })
}

/// Puts the names of `path` before those still ahead, the next one last.
fn go(path: &Path, at: &mut PathBuf, ahead: &mut Vec<OsString>) {
    if path.is_absolute() {
        at.push("/");
    }
    ahead.extend(path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }));
}

/// Where on this host the place `at` inside is, if it is in the copy.
fn on_host(root: &Path, at: &Path) -> Option<PathBuf> {
    let rest = at.strip_prefix(COPY).ok()?;
    Some(if rest.as_os_str().is_empty() { root.to_owned() } else { root.join(rest) })
}

/// `None` where nothing is, and for what can be no file's name: many a word is none.
fn lstat(path: &Path) -> Result<Option<Metadata>, ProofError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput => Ok(None),
            _ => Err(ProofError::io("reading", path)(error)),
        },
    }
}

fn content(path: &Path) -> Result<[u8; 32], ProofError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
        .map_err(ProofError::io("opening", path))?;
    digest(file).map_err(ProofError::io("reading", path))
}

fn digest(mut file: File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(n) => hash.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
