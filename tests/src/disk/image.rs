//! What is on the disk, and what of it is certain.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use nix::errno::Errno;

use crate::Random;

/// The inode of the root.
pub const ROOT: u64 = 1;

/// A file or a directory.
#[derive(Clone, Debug)]
pub struct Inode {
    pub content: Content,
    pub mode: u32,
    pub owner: (u32, u32),
    pub modified: SystemTime,
}

#[derive(Clone, Debug)]
pub enum Content {
    File {
        bytes: Vec<u8>,
        /// As of the last sync; none if there was none.
        synced: Option<Vec<u8>>,
    },
    Directory(BTreeMap<OsString, u64>),
}

/// A change of names that no sync has made certain: the names with what they stand for since.
#[derive(Clone, Debug)]
struct Change(Vec<(u64, OsString, Option<u64>)>);

/// How the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing is lost: only the process died.
    Nothing,
    /// All that was not synced is lost.
    Everything,
    /// All names are kept, and all content that was not synced is lost.
    Content,
    /// Each thing that was not synced is kept or lost by chance.
    Chance,
}

/// A whole file system. Cloning it is a backup of the disk.
#[derive(Clone, Debug)]
pub struct Image {
    inodes: BTreeMap<u64, Inode>,
    next: u64,
    /// The names in each directory that are certain.
    certain: BTreeMap<u64, BTreeMap<OsString, u64>>,
    changes: Vec<Change>,
}

impl Default for Image {
    fn default() -> Self {
        let root = Inode {
            content: Content::Directory(BTreeMap::new()),
            mode: 0o755,
            owner: (0, 0),
            modified: SystemTime::now(),
        };
        Self {
            inodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            certain: BTreeMap::new(),
            changes: Vec::new(),
        }
    }
}

type Result<T> = std::result::Result<T, Errno>;

impl Image {
    /// A file or directory.
    pub fn inode(&self, ino: u64) -> Result<&Inode> {
        self.inodes.get(&ino).ok_or(Errno::ENOENT)
    }

    /// The same, to be changed. Nothing is lost of what is changed here.
    pub fn inode_mut(&mut self, ino: u64) -> Result<&mut Inode> {
        self.inodes.get_mut(&ino).ok_or(Errno::ENOENT)
    }

    /// The names in a directory.
    pub fn names(&self, directory: u64) -> Result<&BTreeMap<OsString, u64>> {
        match &self.inode(directory)?.content {
            Content::Directory(names) => Ok(names),
            Content::File { .. } => Err(Errno::ENOTDIR),
        }
    }

    /// What a name stands for.
    pub fn find(&self, directory: u64, name: &OsStr) -> Result<u64> {
        self.names(directory)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// How many names stand for the inode.
    pub fn links(&self, ino: u64) -> u32 {
        let directories = self.inodes.values().filter_map(|inode| match &inode.content {
            Content::Directory(names) => Some(names),
            Content::File { .. } => None,
        });
        let count = directories.flat_map(BTreeMap::values).filter(|other| **other == ino).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn change(&mut self, names: Vec<(u64, OsString, Option<u64>)>) -> Result<()> {
        for (directory, name, target) in &names {
            let inode = self.inode_mut(*directory)?;
            inode.modified = SystemTime::now();
            let Content::Directory(entries) = &mut inode.content else {
                return Err(Errno::ENOTDIR);
            };
            match target {
                Some(ino) => drop(entries.insert(name.clone(), *ino)),
                None => drop(entries.remove(name)),
            }
        }
        self.changes.push(Change(names));
        Ok(())
    }

    /// Makes a file or a directory.
    pub fn make(
        &mut self,
        directory: u64,
        name: &OsStr,
        content: Content,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<u64> {
        if self.names(directory)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let ino = self.next;
        self.next += 1;
        let modified = SystemTime::now();
        self.inodes.insert(ino, Inode { content, mode: mode & 0o7777, owner, modified });
        self.change(vec![(directory, name.to_owned(), Some(ino))])?;
        Ok(ino)
    }

    /// Gives a file one more name.
    pub fn link(&mut self, ino: u64, directory: u64, name: &OsStr) -> Result<()> {
        if self.names(directory)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.change(vec![(directory, name.to_owned(), Some(ino))])
    }

    /// Removes a name; of a directory only when it is empty.
    pub fn remove(&mut self, directory: u64, name: &OsStr) -> Result<()> {
        let ino = self.find(directory, name)?;
        if let Content::Directory(names) = &self.inode(ino)?.content
            && !names.is_empty()
        {
            return Err(Errno::ENOTEMPTY);
        }
        self.change(vec![(directory, name.to_owned(), None)])
    }

    /// Renames, over what has the new name unless that is forbidden.
    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), replace: bool) -> Result<()> {
        let ino = self.find(from.0, from.1)?;
        if !replace && self.find(to.0, to.1).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.change(vec![(from.0, from.1.to_owned(), None), (to.0, to.1.to_owned(), Some(ino))])
    }

    /// Writes into a file.
    pub fn write(&mut self, ino: u64, offset: usize, data: &[u8]) -> Result<()> {
        let inode = self.inode_mut(ino)?;
        inode.modified = SystemTime::now();
        let Content::File { bytes, .. } = &mut inode.content else { return Err(Errno::EISDIR) };
        let end = offset + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(data);
        Ok(())
    }

    /// Cuts or extends a file.
    pub fn set_size(&mut self, ino: u64, size: usize) -> Result<()> {
        let inode = self.inode_mut(ino)?;
        inode.modified = SystemTime::now();
        let Content::File { bytes, .. } = &mut inode.content else { return Err(Errno::EISDIR) };
        bytes.resize(size, 0);
        Ok(())
    }

    /// Makes what a file holds, or which names a directory has, certain.
    pub fn sync(&mut self, ino: u64) -> Result<()> {
        let names = match &mut self.inode_mut(ino)?.content {
            Content::File { bytes, synced } => {
                *synced = Some(bytes.clone());
                return Ok(());
            }
            Content::Directory(names) => names.clone(),
        };
        self.certain.insert(ino, names);
        for Change(names) in &mut self.changes {
            names.retain(|(directory, ..)| *directory != ino);
        }
        self.changes.retain(|change| !change.0.is_empty());
        Ok(())
    }

    /// Makes everything certain, as an orderly shutdown does.
    pub fn sync_all(&mut self) {
        for ino in self.inodes.keys().copied().collect::<Vec<_>>() {
            // All of these are there.
            let _ = self.sync(ino);
        }
        self.forget_nameless();
    }

    /// Cuts the power. What is left afterwards is certain.
    pub fn lose(&mut self, loss: Loss, random: &mut Random) {
        if loss != Loss::Nothing {
            let mut names = std::mem::take(&mut self.certain);
            for Change(change) in std::mem::take(&mut self.changes) {
                let kept = match loss {
                    Loss::Everything => false,
                    Loss::Chance => random.below(2) == 0,
                    Loss::Content | Loss::Nothing => true,
                };
                for (directory, name, target) in change.into_iter().filter(|_| kept) {
                    let entries = names.entry(directory).or_default();
                    match target {
                        Some(ino) => drop(entries.insert(name, ino)),
                        None => drop(entries.remove(&name)),
                    }
                }
            }
            for (ino, inode) in &mut self.inodes {
                match &mut inode.content {
                    Content::Directory(entries) => {
                        *entries = names.remove(ino).unwrap_or_default();
                    }
                    Content::File { bytes, synced } => {
                        if synced.as_ref() != Some(bytes) {
                            *bytes = lose_content(bytes, synced.take(), loss, random);
                        }
                    }
                }
            }
        }
        self.sync_all();
    }

    fn forget_nameless(&mut self) {
        let mut reached = vec![ROOT];
        let mut next = 0;
        while let Some(ino) = reached.get(next).copied() {
            next += 1;
            if let Ok(names) = self.names(ino) {
                let below: Vec<_> = names.values().copied().collect();
                reached.extend(
                    below.into_iter().filter(|ino| !reached.contains(ino)).collect::<Vec<_>>(),
                );
            }
        }
        self.inodes.retain(|ino, _| reached.contains(ino));
        self.certain.retain(|ino, _| reached.contains(ino));
    }
}

/// What is left of a file that was written to after its last sync.
fn lose_content(bytes: &[u8], synced: Option<Vec<u8>>, loss: Loss, random: &mut Random) -> Vec<u8> {
    let old = synced.unwrap_or_default();
    if loss != Loss::Chance {
        return old;
    }
    match random.below(4) {
        0 => old,
        1 => bytes.to_vec(),
        2 => bytes[..random.below(bytes.len() + 1)].to_vec(),
        _ => {
            // The length is there, and some blocks are not.
            let mut torn = bytes.to_vec();
            for block in torn.chunks_mut(4096) {
                if random.below(2) == 0 {
                    block.fill(0);
                }
            }
            torn
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(image: &mut Image, name: &str, content: &[u8]) -> u64 {
        let empty = Content::File { bytes: Vec::new(), synced: None };
        let ino = image.make(ROOT, OsStr::new(name), empty, 0o600, (0, 0)).unwrap();
        image.write(ino, 0, content).unwrap();
        ino
    }

    fn content(image: &Image, name: &str) -> Option<Vec<u8>> {
        let ino = image.find(ROOT, OsStr::new(name)).ok()?;
        match &image.inode(ino).unwrap().content {
            Content::File { bytes, .. } => Some(bytes.clone()),
            Content::Directory(_) => None,
        }
    }

    #[test]
    fn only_what_was_synced_is_certain() {
        let mut image = Image::default();
        let both = file(&mut image, "both", b"1");
        image.sync(both).unwrap();
        file(&mut image, "name", b"2");
        image.sync(ROOT).unwrap();
        let data = file(&mut image, "data", b"3");
        image.sync(data).unwrap();
        image.write(both, 1, b"more").unwrap();
        let (image, seed) = (image, &mut Random(1));
        let lose = |loss, seed: &mut Random| {
            let mut image = image.clone();
            image.lose(loss, seed);
            ["both", "name", "data"].map(|name| content(&image, name))
        };
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(lose(Loss::Nothing, seed), [some("1more"), some("2"), some("3")]);
        assert_eq!(lose(Loss::Everything, seed), [some("1"), some(""), None]);
        assert_eq!(lose(Loss::Content, seed), [some("1"), some(""), some("3")]);
        let (mut named, mut whole) = (0, 0);
        for _ in 0..200 {
            let [both, _, data] = lose(Loss::Chance, seed);
            named += usize::from(data.is_some());
            whole += usize::from(both == some("1more"));
            assert!(data.is_none() || data == some("3"));
        }
        assert!((50..150).contains(&named) && (20..120).contains(&whole), "{named} {whole}");
    }

    #[test]
    fn a_rename_happens_or_does_not() {
        let mut image = Image::default();
        let ino = file(&mut image, "new", b"x");
        image.sync(ino).unwrap();
        image.sync(ROOT).unwrap();
        let [from, to] = ["new", "name"].map(OsStr::new);
        image.rename((ROOT, from), (ROOT, to), false).unwrap();
        assert_eq!(image.rename((ROOT, to), (ROOT, to), false), Err(Errno::EEXIST));
        for seed in 0..20 {
            let mut lost = image.clone();
            lost.lose(Loss::Chance, &mut Random(seed));
            let names = lost.names(ROOT).unwrap();
            assert_eq!(names.len(), 1, "{names:?}");
        }
        image.sync(ROOT).unwrap();
        image.remove(ROOT, to).unwrap();
        image.lose(Loss::Everything, &mut Random(0));
        assert!(image.find(ROOT, to).is_ok(), "a removal that was not synced came about");
    }
}
