//! A repository in a local directory, written so that a power cut at any point does no harm.
//!
//! An object is written under a name that is never listed, synced, given its name by a rename that
//! cannot overwrite, and the directory is synced: only then does `put` return. A directory that is
//! made on the way is synced into its parent before anything in it counts. Deleting is durable
//! too, because an index file that comes back after a power cut would list packs that are gone.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::sys::statfs::statfs;

use crate::planted::{Bug, is_planted};

use super::deadline::gets_on;
use super::rename::{is_unsupported, rename_new};
use super::walk::{freshen, new_name, reap, walk};
use super::{Storage, StorageError, StorageErrorKind, StoredObject, check_name};

/// So much is read at a time; whoever waits for more hears of each.
const STEP: usize = 1 << 20;
/// More is not read at once, in bytes: packs end at 4 GiB, and nothing else is as large.
const LARGEST: u64 = 8 << 30;
/// What the directories and files of a repository allow: their owner everything, others nothing.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The numbers of file systems whose answers come from a server (linux/magic.h and their sources).
const REMOTE: &[i64] = &[
    0x6969,      // NFS
    0xFF53_4D42, // CIFS
    0xFE53_4D42, // SMB 2 and 3
    0x6573_5546, // FUSE
    0x0102_1997, // 9P
    0x00C3_6400, // Ceph
    0x5346_414F, // AFS
    0x6B41_4653, // kAFS
    0x0BD0_0BD0, // Lustre
    0x0116_1970, // GFS2
    0x7461_636F, // OCFS2
];

/// Storage in a local directory, or on a file system that is mounted like one.
#[derive(Debug)]
pub struct LocalStorage {
    root: PathBuf,
    /// Directories below the root (itself is "") that are known to be there and durable.
    directories: Mutex<HashSet<String>>,
    /// Whether `config` was seen here: from then on, a root without it is not our repository.
    has_config: AtomicBool,
    sync: bool,
    /// Whether the file system is a remote one, if that is not to be asked.
    remote: Option<bool>,
}

impl LocalStorage {
    /// A local directory. Nothing is made yet: the first [`put`](Storage::put) makes the directory
    /// (mode 0700) if it is missing.
    pub fn local(root: &Path) -> Result<Self, StorageError> {
        // A later change of the working directory must not move the repository.
        let root = std::path::absolute(root)
            .map_err(|error| StorageError::io("open", &root.to_string_lossy(), &error))?;
        if root.metadata().is_ok_and(|meta| !meta.is_dir()) {
            let name = root.to_string_lossy();
            return Err(StorageError::other("open", &name, "it is not a directory"));
        }
        Ok(Self {
            root,
            directories: Mutex::default(),
            has_config: false.into(),
            sync: !is_planted(Bug::NoSync),
            remote: None,
        })
    }

    /// The same without any sync: what a power cut leaves of it is left to chance. Only for tests
    /// that show that they would notice.
    #[doc(hidden)]
    #[must_use]
    pub fn without_sync(mut self) -> Self {
        self.sync = false;
        self
    }

    /// Whether the directory lies on a file system whose answers come from a server, a network's or
    /// a FUSE program's, and may never come.
    pub fn is_remote(&self) -> bool {
        if let Some(remote) = self.remote {
            return remote;
        }
        self.root
            .ancestors()
            .find_map(|path| statfs(path).ok())
            .is_some_and(|found| REMOTE.contains(&(found.filesystem_type().0 & 0xFFFF_FFFF)))
    }

    fn path(&self, operation: &'static str, name: &str) -> Result<PathBuf, StorageError> {
        check_name(operation, name)?;
        Ok(self.root.join(name))
    }

    /// Puts an error of the system into ours. Where something is missing, looks whether the whole
    /// repository is: an empty mount point must not be taken for lost data, nor be written to.
    fn failed(&self, operation: &'static str, name: &str, error: &io::Error) -> StorageError {
        let failed = StorageError::io(operation, name, error);
        if failed.is_not_found() && self.has_config.load(Ordering::Relaxed) && name != "config" {
            match self.root.join("config").metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let message = format!(
                        "the repository's `config` was in {} and is gone; is its disk mounted?",
                        self.root.display()
                    );
                    let kind = StorageErrorKind::Unavailable;
                    return StorageError::new(operation, name, kind, message);
                }
                _ => {}
            }
        }
        failed
    }

    fn saw(&self, name: &str) {
        if name == "config" {
            self.has_config.store(true, Ordering::Relaxed);
        }
    }

    /// Opens a regular file; anything else is no object. Never waits for the writer of a pipe.
    fn open(&self, operation: &'static str, name: &str) -> Result<(File, u64), StorageError> {
        let path = self.path(operation, name)?;
        let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
        let file = opened.map_err(|error| self.failed(operation, name, &error))?;
        let meta = file.metadata().map_err(|error| self.failed(operation, name, &error))?;
        if !meta.is_file() {
            return Err(StorageError::other(operation, name, "it is not a regular file"));
        }
        self.saw(name);
        Ok((file, meta.len()))
    }

    fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        let (file, size) = self.open("get", name)?;
        let length = size.saturating_sub(offset).min(length);
        // A file of any size may lie there, by damage or by malice.
        let too_large = || {
            let message = format!("{length} bytes at once are more than this machine has room for");
            StorageError::other("get", name, message)
        };
        let length = Some(length).filter(|length| *length <= LARGEST);
        let length = length.and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or_else(too_large)?;
        let mut content = Vec::new();
        content.try_reserve_exact(length).map_err(|_| too_large())?;
        read_at(&file, &mut content, offset, length)
            .map_err(|error| StorageError::io("get", name, &error))?;
        Ok(Bytes::from(content))
    }

    /// Makes the directory of an object, durably, if that has not been seen to yet.
    fn make_directory(&self, directory: &str) -> io::Result<()> {
        let mut known = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_below(&mut known, directory)
    }

    fn make_below(&self, known: &mut HashSet<String>, directory: &str) -> io::Result<()> {
        if known.contains(directory) {
            return Ok(());
        }
        if directory.is_empty() {
            self.make_root(&self.root)?;
            known.insert(String::new());
            return Ok(());
        }
        let (parent, last) = directory.rsplit_once('/').unwrap_or(("", directory));
        self.make_below(known, parent)?;
        let parent_path = self.root.join(parent);
        make(&parent_path.join(last))?;
        let mut made = vec![directory.to_owned()];
        // Packs are spread over 256 directories: all at once is one sync instead of 256.
        if last.len() == 2 && last.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            for sibling in (0..=u8::MAX).map(|number| format!("{number:02x}")) {
                // What cannot be made now is made, or fails, when it is needed.
                if sibling != last && make(&parent_path.join(&sibling)).is_ok() {
                    made.push(format!("{parent}/{sibling}"));
                }
            }
        }
        // Also when all were there: whoever made them may not have come to syncing them.
        self.sync_directory(&parent_path)?;
        known.extend(made);
        Ok(())
    }

    /// Makes the root with all that is missing above it.
    fn make_root(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_root(parent)?;
            make(path)?;
            self.sync_directory(parent)?;
        }
        Ok(())
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        if self.sync { file.sync_all() } else { Ok(()) }
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        if !self.sync {
            return Ok(());
        }
        let synced = File::open(path)?.sync_all();
        #[cfg(test)]
        tests::SYNCED.with_borrow_mut(|all| all.push(path.to_owned()));
        match synced {
            // Some network file systems have no such thing; what they acknowledge is stored.
            Err(error) if is_unsupported(&error) => Ok(()),
            other => other,
        }
    }

    /// The same, for a directory that may be gone, with all that was in it.
    fn sync_if_there(&self, path: &Path) -> io::Result<()> {
        match self.sync_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn remove(&self, name: &str, path: &Path) -> Result<(), StorageError> {
        std::fs::remove_file(path).map_err(|error| self.failed("delete", name, &error))
    }

    /// Writes the content, durably, under a name of its own.
    fn write_new(&self, directory: &Path, content: &[u8]) -> io::Result<NewFile> {
        let path = directory.join(new_name());
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        let new = NewFile(path);
        file.write_all(content)?;
        self.sync_file(&file)?;
        Ok(new)
    }

    fn put_at(&self, directory: &str, path: &Path, content: &[u8]) -> io::Result<()> {
        self.make_directory(directory)?;
        let parent = self.root.join(directory);
        let new = match self.write_new(&parent, content) {
            // Somebody removed the directory since we saw it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.directories.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.make_directory(directory)?;
                self.write_new(&parent, content)?
            }
            other => other?,
        };
        match rename_new(new.path(), path) {
            // Who finds it will rely on it, and whoever made it may not have synced it yet.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.sync_file(&File::open(path)?)?;
                self.sync_directory(&parent)?;
                return Err(error);
            }
            other => other?,
        }
        drop(new);
        self.sync_directory(&parent)
    }

    /// Whether a write would make a new root where our repository was.
    fn check_root(&self, name: &str) -> Result<(), StorageError> {
        let missing = io::Error::from_raw_os_error(Errno::ENOENT as i32);
        match self.failed("put", name, &missing) {
            error if error.is_not_found() => Ok(()),
            error => Err(error),
        }
    }
}

impl Storage for LocalStorage {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        self.read(name, 0, u64::MAX)
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        self.read(name, offset, length)
    }

    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        let path = self.path("put", name)?;
        self.check_root(name)?;
        let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
        self.put_at(directory, &path, &content)
            .map_err(|error| StorageError::io("put", name, &error))?;
        self.saw(name);
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError> {
        let path = self.path("list", prefix)?;
        // Who is at work, what they wrote and what they took away is decided upon by these. Packs lie
        // in 256 directories, and what their listing lacks or has too much is asked for by name.
        if prefix != "data" && !prefix.starts_with("data/") && self.is_remote() {
            freshen(&path);
        }
        let mut found = Vec::new();
        match walk(&path, prefix, &mut HashSet::new(), &mut found) {
            Ok(()) => Ok(found),
            Err(error) => match self.failed("list", prefix, &error) {
                error if error.is_not_found() => Ok(found),
                error => Err(error),
            },
        }
    }

    fn size(&self, name: &str) -> Result<u64, StorageError> {
        let path = self.path("size", name)?;
        let meta = path.metadata().map_err(|error| self.failed("size", name, &error))?;
        if !meta.is_file() {
            return Err(StorageError::other("size", name, "it is not a regular file"));
        }
        self.saw(name);
        Ok(meta.len())
    }

    fn delete(&self, name: &str) -> Result<(), StorageError> {
        let path = self.path("delete", name)?;
        let removed = self.remove(name, &path);
        if removed.as_ref().is_err_and(|error| !error.is_not_found()) {
            return removed;
        }
        // Also when nothing is there: whoever removed it may not have come to syncing that, and the
        // caller goes on as if it were gone for good.
        self.sync_if_there(path.parent().unwrap_or(&self.root))
            .map_err(|error| StorageError::io("delete", name, &error))?;
        removed
    }

    fn delete_many(&self, names: &[String]) -> Result<(), StorageError> {
        let mut changed = HashSet::new();
        let deleted = names.iter().try_for_each(|name| {
            gets_on();
            let path = self.path("delete", name)?;
            match self.remove(name, &path) {
                Err(error) if !error.is_not_found() => Err(error),
                _ => {
                    changed.extend(path.parent().map(Path::to_owned));
                    Ok(())
                }
            }
        });
        for directory in changed {
            gets_on();
            self.sync_if_there(&directory).map_err(|error| {
                StorageError::io("delete in", &directory.to_string_lossy(), &error)
            })?;
        }
        deleted
    }

    fn reap_leftovers(&self, min_age: Duration) -> Result<u64, StorageError> {
        let mut reaped = 0;
        let before = SystemTime::now().checked_sub(min_age).unwrap_or(SystemTime::UNIX_EPOCH);
        match reap(&self.root, 0, before, &mut reaped) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let root = self.root.to_string_lossy();
                Err(StorageError::io("reap leftovers below", &root, &error))
            }
            _ => Ok(reaped),
        }
    }
}

/// A file under a passing name, removed unless it was renamed.
struct NewFile(PathBuf);

impl NewFile {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Makes a directory; one that is there is no error.
fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Reads until there is so much or the file ends, however little comes at a time.
fn read_at(
    file: &impl FileExt,
    content: &mut Vec<u8>,
    offset: u64,
    length: usize,
) -> io::Result<()> {
    let mut filled = 0;
    while filled < length {
        // Only what is about to be read takes memory.
        content.resize(length.min(filled + STEP), 0);
        gets_on();
        match file.read_at(&mut content[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(filled);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::super::deadline::{Patience, Pool};
    use super::*;

    thread_local! {
        /// The directories that this thread has synced.
        pub(super) static SYNCED: RefCell<Vec<PathBuf>> = RefCell::default();
    }

    /// Gives a few bytes at a time, and is interrupted now and then.
    struct Stuttering(Vec<u8>, Cell<usize>);

    impl FileExt for Stuttering {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let call = self.1.replace(self.1.get() + 1);
            if call.is_multiple_of(3) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let rest = &self.0[usize::try_from(offset).unwrap().min(self.0.len())..];
            let read = rest.len().min(buffer.len()).min(call % 7 + 1);
            buffer[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        }
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            unreachable!()
        }
    }

    #[test]
    fn short_and_interrupted_reads_are_read_on() {
        let content: Vec<u8> = (0..=255).collect();
        let file = Stuttering(content.clone(), Cell::new(0));
        for (offset, length, expected) in
            [(0, 256, &content[..]), (10, 20, &content[10..30]), (250, 100, &content[250..])]
        {
            let mut read = Vec::new();
            read_at(&file, &mut read, offset, length).unwrap();
            assert_eq!(read, expected);
        }
    }

    /// The first try may have come no further than to the removal, and its caller be told nothing.
    #[test]
    fn what_is_gone_already_is_gone_for_good() {
        let root = tempfile::tempdir().unwrap();
        let storage = LocalStorage::local(root.path()).unwrap();
        let names = ["index/a".to_owned(), "data/ab/b".to_owned()];
        for name in &names {
            storage.put(name, Bytes::from_static(b"x")).unwrap();
            std::fs::remove_file(root.path().join(name)).unwrap();
        }
        let synced = |directory: &str| {
            SYNCED.take().iter().filter(|path| **path == root.path().join(directory)).count()
        };
        SYNCED.take();
        assert!(storage.delete(&names[0]).unwrap_err().is_not_found());
        assert_eq!(synced("index"), 1);
        storage.delete_many(&names).unwrap();
        let all = SYNCED.take();
        assert_eq!(all.len(), 2, "{all:?}");
        // With its directory, it is nowhere.
        assert!(storage.delete("keys/c").unwrap_err().is_not_found());
        storage.delete_many(&["keys/c".to_owned()]).unwrap();
        assert!(SYNCED.take().is_empty());
    }

    /// A write hangs until nobody waits for it, then the disk comes back.
    #[test]
    fn what_was_given_up_does_not_appear_later() {
        let root = tempfile::tempdir().unwrap();
        let storage = Arc::new(LocalStorage::local(root.path()).unwrap());
        let (release, released) = channel::<()>();
        let (tell, told) = channel();
        let writer = Arc::clone(&storage);
        let hang = move || {
            released.recv().unwrap();
            let done = writer.put("index/late", Bytes::from_static(b"x"));
            tell.send(done.clone()).unwrap();
            done
        };
        let pool = Arc::<Pool>::default();
        let patience = Patience::whole(Duration::from_millis(1));
        let error = pool.run(patience, "put", "index/late", hang).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::TimedOut);
        release.send(()).unwrap();
        assert_eq!(told.recv().unwrap().unwrap_err().kind, StorageErrorKind::TimedOut);
        assert!(storage.list("index").unwrap().is_empty());
        let left: Vec<_> = root.path().join("index").read_dir().unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        // Nor does it keep others from writing it.
        storage.put("index/late", Bytes::from_static(b"x")).unwrap();
    }

    /// What tells is the directory's time, as it tells the client of a network file system.
    #[test]
    fn listings_of_a_remote_file_system_are_made_fresh() {
        let root = tempfile::tempdir().unwrap();
        for remote in [false, true] {
            let remote = Some(remote);
            let storage = LocalStorage { remote, ..LocalStorage::local(root.path()).unwrap() };
            for name in ["locks/a", "index/b", "snapshots/c", "provault/prune/d", "data/ee/e"] {
                let directory = name.rsplit_once('/').unwrap().0;
                let path = root.path().join(directory);
                if !path.exists() {
                    storage.put(name, Bytes::from_static(b"x")).unwrap();
                }
                File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
                assert_eq!(storage.list(directory).unwrap().len(), 1);
                let touched = path.metadata().unwrap().mtime() > 0;
                assert_eq!(touched, remote == Some(true) && directory != "data/ee", "{name}");
                assert_eq!(path.read_dir().unwrap().count(), 1, "nothing is left in it");
            }
            // Nothing is made where nothing was.
            assert!(storage.list("keys").unwrap().is_empty());
            assert!(!root.path().join("keys").exists());
        }
    }
}
