//! Directories that are known from the backup before, so that they cost neither reading nor
//! building their trees.
//!
//! For each directory of a backup a local file remembers a fingerprint of its leaves (all that is in
//! it but directories), one of the whole, and its tree. The walker fingerprints what `stat` tells; if
//! the leaves are as remembered they are not opened, and if the directories below are as well, the
//! tree is taken over by its id.
//!
//! What makes this safe:
//! - It holds for one parent snapshot, which still exists, and only while every index file that was
//!   there when it was written still is: so every blob below its trees is in the index.
//! - Leaves that changed shortly before the backup began are not remembered: a second change within
//!   one tick of the file system's clock would not show (see [`DOUBT`]). Nor are leaves that were not
//!   captured as they were announced: the walker says so.
//! - The file is sealed with the repository's key. One that is missing, torn, foreign or forged is
//!   ignored, and costs time only. It is not synced.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::backup::BackupOptions;
use crate::go_json;
use crate::id::{Id, SnapshotId};
use crate::node::{Metadata, Node};
use crate::repository::Inner;

/// Times of files are told in ticks: 2 s on FAT, some milliseconds elsewhere. What changed so
/// shortly before it was read may change again and look the same.
pub(crate) const DOUBT: Duration = Duration::from_secs(2);

/// Begins every such file; the number is that of its form.
const MAGIC: &[u8; 16] = b"provault-dirs-1\n";

/// A SHA-256 that stands for what something looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(pub(crate) [u8; 32]);

impl Fingerprint {
    /// Of the path of the directory `name` in the directory with the path `parent`.
    pub(crate) fn of_path(parent: Option<&Self>, name: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(parent.map_or([0; 32], |parent| parent.0));
        hash.update(name);
        Self(hash.finalize().into())
    }

    /// Of a directory as its parent's tree has it.
    pub(crate) fn of_directory(metadata: &Metadata, tree: &Id) -> Self {
        // A node without a name is always JSON; if it ever were not, the random id matches nothing.
        let json = go_json::to_vec(&Node::directory(b"", metadata, *tree));
        Self(json.map_or_else(|_| Id::random().0, |json| Id::hash(&json).0))
    }

    /// Of a directory with these leaves and directories in it.
    pub(crate) fn of_whole(leaves: &Self, mut directories: Vec<(Vec<u8>, Self)>) -> Self {
        directories.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut hash = Sha256::new();
        hash.update(leaves.0);
        for (name, directory) in &directories {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update(directory.0);
        }
        Self(hash.finalize().into())
    }
}

/// What is remembered of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) leaves: Fingerprint,
    pub(crate) whole: Fingerprint,
    pub(crate) tree: Id,
}

/// The directories of one snapshot, by the fingerprints of their paths.
#[derive(Default)]
pub(crate) struct Familiar(HashMap<Fingerprint, Entry>);

impl Familiar {
    pub(crate) fn get(&self, path: &Fingerprint) -> Option<&Entry> {
        self.0.get(path)
    }

    /// What is remembered of `parent`, or nothing.
    pub(crate) fn load(inner: &Inner, options: &BackupOptions, parent: SnapshotId) -> Self {
        let Some(file) = file(inner, options) else { return Self::default() };
        let Ok(sealed) = fs::read(&file) else { return Self::default() };
        let read = inner.key.open(&sealed).ok();
        let parsed = read.as_deref().and_then(|plain| parse(plain, parent, &inner.index_files()));
        if parsed.is_none() {
            tracing::debug!(file = %file.display(), "what is remembered of directories is of no use");
        }
        parsed.unwrap_or_default()
    }

    /// Remembers the directories of `snapshot`, which is committed. A failure costs time only.
    pub(crate) fn save(
        inner: &Inner,
        options: &BackupOptions,
        snapshot: SnapshotId,
        directories: &[(Fingerprint, Entry)],
    ) {
        let Some(file) = file(inner, options) else { return };
        let index = inner.index_files();
        let mut plain = Vec::with_capacity(64 + 32 * index.len() + 128 * directories.len());
        plain.extend_from_slice(MAGIC);
        plain.extend_from_slice(&snapshot.0);
        plain.extend_from_slice(&(index.len() as u64).to_le_bytes());
        for id in &index {
            plain.extend_from_slice(&id.0);
        }
        for (path, entry) in directories {
            for part in [&path.0, &entry.leaves.0, &entry.whole.0, &entry.tree.0] {
                plain.extend_from_slice(part);
            }
        }
        if let Err(error) = write(&file, &inner.key.seal(&plain)) {
            tracing::warn!(file = %file.display(), %error, "directories are not remembered; the next backup takes longer");
        }
    }
}

/// Where the directories of such a backup are remembered.
fn file(inner: &Inner, options: &BackupOptions) -> Option<PathBuf> {
    let cache = inner.options.cache_dir.as_ref()?;
    let mut hash = Sha256::new();
    for text in options.paths.iter().chain([&options.hostname]) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let name = Id(hash.finalize().into());
    Some(cache.join(inner.config.id.to_string()).join(format!("directories-{}", name.short())))
}

fn parse(plain: &[u8], parent: SnapshotId, index: &[Id]) -> Option<Familiar> {
    let rest = plain.strip_prefix(MAGIC)?;
    let (snapshot, rest) = rest.split_first_chunk::<32>()?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    let (known, rest) = rest.split_at_checked(count.checked_mul(32)?)?;
    if Id(*snapshot) != parent || rest.len() % 128 != 0 {
        return None;
    }
    let known = known.as_chunks::<32>().0;
    if !known.iter().all(|id| index.binary_search(&Id(*id)).is_ok()) {
        return None;
    }
    let entries = rest.as_chunks::<128>().0.iter().filter_map(|entry| {
        let [path, leaves, whole, tree] = entry.as_chunks::<32>().0 else { return None };
        let (leaves, whole) = (Fingerprint(*leaves), Fingerprint(*whole));
        Some((Fingerprint(*path), Entry { leaves, whole, tree: Id(*tree) }))
    });
    Some(Familiar(entries.collect()))
}

/// Whole or not at all, as far as a running system goes.
fn write(file: &std::path::Path, content: &[u8]) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let staged = file.with_extension(Id::random().short());
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&staged)
        .and_then(|mut staged| staged.write_all(content))
        .and_then(|()| fs::rename(&staged, file));
    if written.is_err() {
        let _ = fs::remove_file(&staged);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_parent_and_an_index_that_has_only_grown_will_do() {
        let (parent, other) = (Id::hash(b"parent"), Id::hash(b"other"));
        let mut index = vec![Id::hash(b"1"), Id::hash(b"2")];
        index.sort();
        let mut plain = MAGIC.to_vec();
        plain.extend_from_slice(&parent.0);
        plain.extend_from_slice(&1u64.to_le_bytes());
        plain.extend_from_slice(&index[0].0);
        plain.extend_from_slice(&[7; 128]);
        let familiar = parse(&plain, parent, &index).unwrap();
        let entry =
            Entry { leaves: Fingerprint([7; 32]), whole: Fingerprint([7; 32]), tree: Id([7; 32]) };
        assert_eq!(familiar.get(&Fingerprint([7; 32])), Some(&entry));
        assert!(parse(&plain, other, &index).is_none());
        assert!(parse(&plain, parent, &index[1..]).is_none());
        for length in 0..plain.len() {
            assert!(parse(&plain[..length], parent, &index).is_none_or(|all| all.0.is_empty()));
        }
        plain[16 + 32] = 255;
        assert!(parse(&plain, parent, &index).is_none());
    }

    #[test]
    fn a_whole_is_its_leaves_and_its_directories_by_name() {
        let print = |byte| Fingerprint([byte; 32]);
        let named = |name: &[u8], byte| (name.to_vec(), print(byte));
        let whole = Fingerprint::of_whole(&print(1), vec![named(b"a", 2), named(b"b", 3)]);
        assert_eq!(whole, Fingerprint::of_whole(&print(1), vec![named(b"b", 3), named(b"a", 2)]));
        for other in [
            Fingerprint::of_whole(&print(9), vec![named(b"a", 2), named(b"b", 3)]),
            Fingerprint::of_whole(&print(1), vec![named(b"a", 2)]),
            Fingerprint::of_whole(&print(1), vec![named(b"a", 3), named(b"b", 2)]),
            Fingerprint::of_whole(&print(1), vec![named(b"a", 2), named(b"c", 3)]),
        ] {
            assert_ne!(whole, other);
        }
        let metadata = Metadata::default();
        let moved = Metadata { mode: 0o700, ..metadata.clone() };
        let tree = Id::hash(b"tree");
        assert_ne!(
            Fingerprint::of_directory(&metadata, &tree),
            Fingerprint::of_directory(&moved, &tree)
        );
    }
}
