//! Is what came back what was there? Every byte, and the metadata that all tools promise to keep.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How many differences are named; all are counted.
const NAMED: usize = 5;

/// What differs between a source and what was restored from its backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// How many of each kind: `missing`, `extra`, `type`, `size`, `content`, `mode`, `owner`,
    /// `time`, `directory time`, `link`, `hard link`.
    pub counts: BTreeMap<String, u64>,
    /// Some of them, for people.
    pub examples: Vec<String>,
    /// Bytes that the restored files take on disk; more than the source's where holes were filled.
    pub allocated: u64,
}

impl Differences {
    fn add(&mut self, kind: &str, path: &Path) {
        *self.counts.entry(kind.to_owned()).or_default() += 1;
        if self.examples.len() < NAMED {
            self.examples.push(format!("{kind}: {}", path.display()));
        }
    }

    /// True when no name, type or byte differs: the least that a restore must give.
    pub fn data_is_whole(&self) -> bool {
        let data = ["missing", "extra", "type", "size", "content", "link"];
        !self.counts.keys().any(|kind| data.contains(&kind.as_str()))
    }

    /// True when nothing differs at all.
    pub fn none(&self) -> bool {
        self.counts.is_empty()
    }
}

/// Compares all below two directories; the directories themselves may differ in mode and time.
pub fn trees(source: &Path, restored: &Path) -> Result<Differences, String> {
    let mut differences = Differences::default();
    let mut walk = Walk::default();
    walk.directory(source, restored, Path::new(""), &mut differences)?;
    Ok(differences)
}

/// What must be remembered between files.
#[derive(Default)]
struct Walk {
    /// The restored inode of every source inode with several names, and the other way round.
    links: BTreeMap<(u64, u64), (u64, u64)>,
    back: BTreeMap<(u64, u64), (u64, u64)>,
    left: Vec<u8>,
    right: Vec<u8>,
}

impl Walk {
    fn directory(
        &mut self,
        source: &Path,
        restored: &Path,
        below: &Path,
        differences: &mut Differences,
    ) -> Result<(), String> {
        let (here, there) = (source.join(below), restored.join(below));
        let (left, right) = (names(&here)?, names(&there)?);
        for name in right.difference(&left) {
            differences.add("extra", &below.join(name));
        }
        let mut directories = Vec::new();
        for name in &left {
            let path = below.join(name);
            if !right.contains(name) {
                differences.add("missing", &path);
                continue;
            }
            let (a, b) = (source.join(&path), restored.join(&path));
            let (was, is) = (metadata(&a)?, metadata(&b)?);
            differences.allocated += if is.is_file() { is.blocks() * 512 } else { 0 };
            if was.file_type() != is.file_type() {
                differences.add("type", &path);
                continue;
            }
            self.entry((&a, &was), (&b, &is), &path, differences)?;
            if was.is_dir() {
                directories.push(path);
            }
        }
        for path in directories {
            self.directory(source, restored, &path, differences)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        (a, was): (&Path, &Metadata),
        (b, is): (&Path, &Metadata),
        path: &Path,
        differences: &mut Differences,
    ) -> Result<(), String> {
        if (was.uid(), was.gid()) != (is.uid(), is.gid()) {
            differences.add("owner", path);
        }
        if was.is_symlink() {
            if link(a)? != link(b)? {
                differences.add("link", path);
            }
            return Ok(());
        }
        if was.mode() != is.mode() {
            differences.add("mode", path);
        }
        if (was.mtime(), was.mtime_nsec()) != (is.mtime(), is.mtime_nsec()) {
            differences.add(if was.is_dir() { "directory time" } else { "time" }, path);
        }
        if !was.is_file() {
            return Ok(());
        }
        if was.nlink() > 1 || is.nlink() > 1 {
            let (one, other) = ((was.dev(), was.ino()), (is.dev(), is.ino()));
            let forth = *self.links.entry(one).or_insert(other);
            let back = *self.back.entry(other).or_insert(one);
            if forth != other || back != one {
                differences.add("hard link", path);
            }
        }
        if was.len() != is.len() {
            differences.add("size", path);
        } else if !self.same(a, b)? {
            differences.add("content", path);
        }
        Ok(())
    }

    fn same(&mut self, a: &Path, b: &Path) -> Result<bool, String> {
        let open = |path: &Path| {
            File::open(path).map_err(|e| format!("cannot open {}: {e}", path.display()))
        };
        let (mut one, mut other) = (open(a)?, open(b)?);
        self.left.resize(1 << 20, 0);
        self.right.resize(1 << 20, 0);
        loop {
            let read = fill(&mut one, &mut self.left)
                .map_err(|e| format!("cannot read {}: {e}", a.display()))?;
            let also = fill(&mut other, &mut self.right)
                .map_err(|e| format!("cannot read {}: {e}", b.display()))?;
            if self.left[..read] != self.right[..also] {
                return Ok(false);
            }
            if read < self.left.len() {
                return Ok(true);
            }
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn names(directory: &Path) -> Result<BTreeSet<OsString>, String> {
    let failed = |e| format!("cannot read {}: {e}", directory.display());
    fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| Ok(entry.map_err(failed)?.file_name()))
        .collect()
}

fn metadata(path: &Path) -> Result<Metadata, String> {
    fs::symlink_metadata(path).map_err(|e| format!("cannot look at {}: {e}", path.display()))
}

fn link(path: &Path) -> Result<PathBuf, String> {
    fs::read_link(path).map_err(|e| format!("cannot read the link {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn sample(root: &Path) {
        fs::create_dir_all(root.join("d")).unwrap();
        for name in ["a", "b", "d/c"] {
            fs::write(root.join(name), name).unwrap();
            let file = File::options().write(true).open(root.join(name)).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
        fs::hard_link(root.join("a"), root.join("h")).unwrap();
        symlink("a", root.join("s")).unwrap();
        let directory = File::open(root.join("d")).unwrap();
        directory.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }

    /// Every kind of difference is planted once and must be told by its name.
    #[test]
    fn every_difference_is_found() {
        let directory = super::super::smoke::scratch("compare");
        let (one, other) = (directory.join("one"), directory.join("other"));
        sample(&one);
        sample(&other);
        assert!(trees(&one, &other).unwrap().none());
        let plant = |kind: &str, data: bool, break_it: &dyn Fn(&Path)| {
            fs::remove_dir_all(&other).unwrap();
            sample(&other);
            break_it(&other);
            let found = trees(&one, &other).unwrap();
            assert!(found.counts.contains_key(kind), "{kind}: {found:?}");
            assert_eq!(found.data_is_whole(), !data, "{kind}: {found:?}");
        };
        plant("missing", true, &|root| fs::remove_file(root.join("d/c")).unwrap());
        plant("extra", true, &|root| fs::write(root.join("x"), "").unwrap());
        plant("type", true, &|root| {
            fs::remove_file(root.join("b")).unwrap();
            fs::create_dir(root.join("b")).unwrap();
        });
        plant("content", true, &|root| fs::write(root.join("b"), "B").unwrap());
        plant("size", true, &|root| fs::write(root.join("b"), "bb").unwrap());
        plant("time", false, &|root| fs::write(root.join("b"), "b").unwrap());
        plant("mode", false, &|root| {
            fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o600)).unwrap();
        });
        plant("directory time", false, &|root| {
            File::open(root.join("d")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        });
        plant("link", true, &|root| {
            fs::remove_file(root.join("s")).unwrap();
            symlink("b", root.join("s")).unwrap();
        });
        plant("hard link", false, &|root| {
            fs::remove_file(root.join("h")).unwrap();
            fs::write(root.join("h"), "a").unwrap();
        });
        fs::remove_dir_all(&directory).unwrap();
    }
}
