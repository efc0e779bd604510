//! Negative controls: copies broken on purpose.
//!
//! How a copy is broken is chosen without a look at the probes, and the same seed breaks the same
//! copy the same way. Required are everything gone, everything emptied, and the data emptied while
//! the program is whole: whoever passes with one of these would pass with any backup. The last one
//! is what an application that lives in its own copy has to be asked about: with everything gone it
//! does not even start, which says nothing of what its probes look at. The others are a score.
//!
//! The required ones can be applied one after the other to the same copy, in the order of
//! [`Mutant::ALL`].

use std::fs::{self, Metadata, OpenOptions, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use provault_domain::verdict::{MutantResult, ProbeResult};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ProofError;
use crate::tree::{self, Locked, walk};

/// Changes whenever the mutants do, so that answers kept from older ones are not taken for theirs.
pub(crate) const SUITE: u32 = 2;

/// A way to break a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mutant {
    /// Every regular file holds nothing.
    EverythingEmptied,
    /// The directory is empty.
    EverythingGone,
    /// Every regular file that nobody may execute holds nothing: the program is whole, its data
    /// is not.
    DataEmptied,
    /// Half of the regular files, rounded up, are removed.
    HalfTheFilesRemoved,
    /// Every regular file is cut to half its length.
    FilesTruncated,
}

/// What breaking a copy changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutantChange {
    /// Files, or anything else, emptied, cut or removed. A mutant that changed nothing is the
    /// copy itself and says nothing about the probes.
    pub changed: u64,
}

impl Mutant {
    /// All of them, the required ones last, each of those breaking more than the one before.
    pub const ALL: [Self; 5] = [
        Self::HalfTheFilesRemoved,
        Self::FilesTruncated,
        Self::DataEmptied,
        Self::EverythingEmptied,
        Self::EverythingGone,
    ];

    /// Its name in evidence.
    pub fn name(self) -> &'static str {
        match self {
            Self::EverythingEmptied => "everything-emptied",
            Self::EverythingGone => "everything-gone",
            Self::DataEmptied => "data-emptied",
            Self::HalfTheFilesRemoved => "half-the-files-removed",
            Self::FilesTruncated => "files-truncated",
        }
    }

    /// Whether a PASS depends on it. On [`Mutant::DataEmptied`] only where there is data: its
    /// result says so.
    pub fn required(self) -> bool {
        matches!(self, Self::DataEmptied | Self::EverythingEmptied | Self::EverythingGone)
    }

    /// Breaks the copy at `root`. Whatever it holds, nothing outside of it is touched: links are
    /// not followed, and a file system mounted inside is an error.
    pub fn apply(self, root: &Path, seed: u64) -> Result<MutantChange, ProofError> {
        let changed = match self {
            Self::EverythingEmptied => cut(root, |_| Some(0))?,
            Self::EverythingGone => tree::empty(root, None)?,
            Self::DataEmptied => cut(root, |m| (m.mode() & 0o111 == 0).then_some(0))?,
            Self::FilesTruncated => cut(root, |m| Some(m.size() / 2))?,
            Self::HalfTheFilesRemoved => remove_half(root, seed)?,
        };
        Ok(MutantChange { changed })
    }

    /// What became of it: `answers` are the probes' answers on the copy it broke, or why they
    /// could not be had.
    pub fn result(
        self,
        change: MutantChange,
        answers: Result<&[ProbeResult], &ProofError>,
    ) -> MutantResult {
        let (killed, detail) = match answers {
            Err(error) => (None, error.to_string()),
            Ok(_) if change.changed == 0 => {
                (None, "there was nothing in the copy that it could break.".to_owned())
            }
            Ok(answers) => {
                let detail = answers.iter().find(|answer| !answer.passed).map_or_else(
                    || "every probe passed.".to_owned(),
                    |answer| format!("{}: {}", answer.label, answer.detail),
                );
                (judge(answers), detail)
            }
        };
        // A copy of nothing but programs has no data that could be emptied.
        let required = self.required() && (self != Self::DataEmptied || change.changed > 0);
        MutantResult { name: self.name().to_owned(), required, killed, detail }
    }
}

/// Whether the answers of a broken copy found it broken; `None` when nothing was asked. Only a
/// failed answer counts: trouble of the host is an error and never becomes an answer.
pub fn judge(answers: &[ProbeResult]) -> Option<bool> {
    (!answers.is_empty()).then(|| answers.iter().any(|answer| !answer.passed))
}

/// Cuts every regular file to the length `to` says, if it says one and it is shorter.
fn cut(root: &Path, to: impl Fn(&Metadata) -> Option<u64>) -> Result<u64, ProofError> {
    let mut changed = 0;
    walk(root, Locked::Open, &mut |path, metadata| {
        if !metadata.is_file() {
            return Ok(());
        }
        match to(metadata) {
            Some(length) if length < metadata.size() => {
                truncate(path, metadata, length)?;
                changed += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    })?;
    Ok(changed)
}

fn truncate(path: &Path, metadata: &Metadata, length: u64) -> Result<(), ProofError> {
    let mode = metadata.mode() & 0o7777;
    let locked = mode & 0o200 == 0;
    let set_mode = |mode| {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(ProofError::io("making writable", path))
    };
    if locked {
        set_mode(mode | 0o200)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(ProofError::io("opening", path))?;
    file.set_len(length).map_err(ProofError::io("truncating", path))?;
    // Also because a truncation takes set-user-id away.
    set_mode(mode)
}

/// Removes the half of the files whose keyed hashes are smallest: exact, repeatable, and eight
/// bytes of memory a file.
fn remove_half(root: &Path, seed: u64) -> Result<u64, ProofError> {
    let key = |path: &Path| {
        let name = path.strip_prefix(root).unwrap_or(path);
        let mut hash = Sha256::new();
        hash.update(seed.to_be_bytes());
        hash.update(name.as_os_str().as_bytes());
        let bytes: [u8; 32] = hash.finalize().into();
        bytes.iter().take(8).fold(0_u64, |key, byte| (key << 8) | u64::from(*byte))
    };
    let mut keys = Vec::new();
    walk(root, Locked::Open, &mut |path, metadata| {
        if metadata.is_file() {
            keys.push(key(path));
        }
        Ok(())
    })?;
    keys.sort_unstable();
    let Some(last) = keys.len().div_ceil(2).checked_sub(1).map(|index| keys[index]) else {
        return Ok(0);
    };
    let mut removed = 0;
    walk(root, Locked::Open, &mut |path, metadata| {
        if metadata.is_file() && key(path) <= last {
            fs::remove_file(path).map_err(ProofError::io("removing", path))?;
            removed += 1;
        }
        Ok(())
    })?;
    Ok(removed)
}
