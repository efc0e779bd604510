//! A walker, a restorer and a comparison, as small as they can be, and stock restic.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use provault_repository::{
    BackupOptions, CancelFlag, CheckLevel, CommittedSnapshot, ContentSink, Entry, EntryKind,
    ExtendedAttribute, FileOutcome, FileTime, Metadata, NodeKind, ObjectStorage, Options, Password,
    Repository, Result, RootComponent, SnapshotId, SnapshotWriter, Storage,
};
use tempfile::TempDir;

/// A scratch directory with a source and a repository in it.
pub struct Sandbox {
    pub root: TempDir,
    pub password: Password,
}

/// Small packs, so that small trees fill several; no pause for locks, which few tests are about.
pub fn options() -> Options {
    // Files of tests are younger than any doubt.
    Options {
        lock_settle: Duration::ZERO,
        pack_size: 1 << 20,
        doubt: Duration::ZERO,
        ..Options::default()
    }
}

impl Sandbox {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("source")).unwrap();
        Self { root, password: Password::generate() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn source(&self) -> PathBuf {
        self.path("source")
    }

    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(ObjectStorage::local(&self.path("repo")).unwrap())
    }

    pub fn init(&self) -> Repository {
        Repository::init(self.storage(), &self.password, options()).unwrap()
    }

    pub fn open(&self) -> Repository {
        self.try_open().unwrap()
    }

    pub fn try_open(&self) -> Result<Repository> {
        Repository::open(self.storage(), &self.password, options())
    }

    /// Runs stock restic on the repository; returns whether it succeeded, and what it said.
    pub fn try_restic(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new("restic")
            .args(["--no-cache", "--repo"])
            .arg(self.path("repo"))
            .args(args)
            .env("RESTIC_PASSWORD", self.password.expose())
            .env("TZ", "UTC")
            .current_dir(self.root.path())
            .output()
            .unwrap_or_else(|error| {
                panic!("cannot run restic ({error}): install Debian's package `restic`")
            });
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    pub fn restic(&self, args: &[&str]) -> String {
        let (good, text) = self.try_restic(args);
        assert!(good, "restic {args:?}: {text}");
        text
    }

    /// Both checks, to the last byte.
    pub fn assert_clean(&self) {
        let text = self.restic(&["check", "--read-data"]);
        assert!(text.contains("no errors were found"), "{text}");
        let report = self.open().check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
        assert!(report.is_clean(), "{:?}", report.problems);
    }

    /// Every file of the repository, by its path in it, sorted.
    pub fn repository_files(&self) -> Vec<String> {
        let root = self.path("repo");
        let mut found = Vec::new();
        let mut pending = vec![root.clone()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap();
                    found.push(name.to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    pub fn backup(&self, repository: &Repository) -> CommittedSnapshot {
        self.backup_with(repository, None).unwrap()
    }

    pub fn backup_with(
        &self,
        repository: &Repository,
        parent: Option<SnapshotId>,
    ) -> Result<CommittedSnapshot> {
        let mut writer = repository.backup(backup_options(&self.source(), parent))?;
        walk(&mut writer, &self.source())?;
        writer.finish(Some(b"{\"record\":1}"))
    }

    /// Restores with our reader into a new directory and returns it.
    pub fn restore(&self, repository: &Repository, id: SnapshotId, name: &str) -> PathBuf {
        let target = self.path(name);
        restore(repository, id, b"data", &target).unwrap();
        target
    }

    /// Restores with stock restic and returns where the source went.
    pub fn restic_restore(&self, id: SnapshotId, name: &str) -> PathBuf {
        let target = self.path(name);
        self.restic(&["restore", &id.to_string(), "--target", target.to_str().unwrap()]);
        target
    }
}

/// A backup whose content lies under `/data`.
pub fn backup_options(source: &Path, parent: Option<SnapshotId>) -> BackupOptions {
    BackupOptions {
        parent,
        root_path: vec![RootComponent { name: b"data".to_vec(), metadata: metadata(source) }],
        paths: vec!["/data".to_owned()],
        hostname: "testhost".to_owned(),
        username: "root".to_owned(),
        tags: vec!["job-1".to_owned()],
        time: "2024-05-06T07:08:09.123456789Z".parse().unwrap(),
        program_version: "provault test".to_owned(),
        ..BackupOptions::default()
    }
}

fn file_time(seconds: i64, nanoseconds: i64) -> FileTime {
    FileTime { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap() }
}

pub fn metadata(path: &Path) -> Metadata {
    let meta = fs::symlink_metadata(path).unwrap();
    let extended_attributes = xattr::list(path)
        .unwrap()
        .map(|name| ExtendedAttribute {
            value: xattr::get(path, &name).unwrap().unwrap(),
            name: name.into_vec(),
        })
        .collect();
    Metadata {
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        user: if meta.uid() == 0 { "root".to_owned() } else { String::new() },
        group: if meta.gid() == 0 { "root".to_owned() } else { String::new() },
        mtime: file_time(meta.mtime(), meta.mtime_nsec()),
        atime: file_time(meta.mtime(), meta.mtime_nsec()),
        ctime: file_time(meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
        device_id: meta.dev(),
        size: if meta.is_file() { meta.len() } else { 0 },
        links: meta.nlink(),
        extended_attributes,
        data_extents: None,
    }
}

/// Feeds everything below a directory to the writer, and returns what became of the files.
pub fn walk(writer: &mut SnapshotWriter, directory: &Path) -> Result<Vec<FileOutcome>> {
    let mut outcomes = Vec::new();
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = directory.join(&name);
        let (name, meta) = (name.as_bytes(), metadata(&path));
        let stat = fs::symlink_metadata(&path).unwrap();
        let kind = stat.file_type();
        if kind.is_dir() {
            writer.begin_dir(name, &meta)?;
            outcomes.extend(walk(writer, &path)?);
            writer.end_dir()?;
        } else if kind.is_file() {
            outcomes.push(writer.add_file(name, &meta, &mut || {
                Ok(Box::new(File::open(&path)?) as Box<dyn Read + Send>)
            })?);
        } else {
            let kind = if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap().into_os_string().into_vec();
                NodeKind::Symlink { target }
            } else if kind.is_block_device() {
                NodeKind::BlockDevice { device: stat.rdev() }
            } else if kind.is_char_device() {
                NodeKind::CharDevice { device: stat.rdev() }
            } else if kind.is_fifo() {
                NodeKind::Fifo
            } else {
                NodeKind::Socket
            };
            writer.add_node(name, &meta, &kind)?;
        }
    }
    Ok(outcomes)
}

/// A sink into open files.
pub struct Files(pub Vec<Mutex<File>>);

impl ContentSink for Files {
    fn write(&self, file: usize, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0[file].lock().unwrap().write_all_at(bytes, offset)
    }
}

/// Restores the directory `path` of a snapshot to `target`; any error ends it.
pub fn restore(repository: &Repository, id: SnapshotId, path: &[u8], target: &Path) -> Result<()> {
    let snapshot = repository.snapshot(id)?;
    let reader = repository.reader()?;
    let root = reader.entry(&snapshot, path)?;
    let entries: Vec<Entry> = reader.entries(&snapshot, path)?.collect::<Result<_>>()?;
    fs::create_dir(target).unwrap();
    let place = |entry: &Entry| target.join(OsStr::from_bytes(&entry.path));
    let (mut files, mut handles) = (Vec::new(), Vec::new());
    let mut first_names: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    for entry in &entries {
        let path = place(entry);
        let meta = &entry.metadata;
        if meta.links > 1 && entry.kind != EntryKind::Directory {
            if let Some(first) = first_names.get(&(meta.device_id, meta.inode)) {
                fs::hard_link(first, &path).unwrap();
                continue;
            }
            first_names.insert((meta.device_id, meta.inode), path.clone());
        }
        let node = |kind, device| mknod(&path, kind, Mode::from_bits_truncate(0o600), device);
        match &entry.kind {
            EntryKind::Directory => fs::create_dir(&path).unwrap(),
            EntryKind::File => {
                let file = File::create_new(&path).unwrap();
                handles.push(Mutex::new(file));
                files.push(entry.clone());
            }
            EntryKind::Other(NodeKind::Symlink { target }) => {
                symlink(OsStr::from_bytes(target), &path).unwrap();
            }
            EntryKind::Other(NodeKind::BlockDevice { device }) => {
                node(SFlag::S_IFBLK, *device).unwrap();
            }
            EntryKind::Other(NodeKind::CharDevice { device }) => {
                node(SFlag::S_IFCHR, *device).unwrap();
            }
            EntryKind::Other(NodeKind::Fifo) => node(SFlag::S_IFIFO, 0).unwrap(),
            EntryKind::Other(NodeKind::Socket) => node(SFlag::S_IFSOCK, 0).unwrap(),
        }
    }
    let outcome = reader.copy_contents(&files, &Files(handles), &CancelFlag::new())?;
    if let Some(failed) = outcome.failed.into_iter().next() {
        return Err(failed.error);
    }
    // Children before their directories, whose times they would change.
    for entry in entries.iter().rev() {
        apply(&place(entry), entry);
    }
    apply(target, &root);
    Ok(())
}

fn apply(path: &Path, entry: &Entry) {
    let meta = &entry.metadata;
    std::os::unix::fs::lchown(path, Some(meta.uid), Some(meta.gid)).unwrap();
    let link = matches!(entry.kind, EntryKind::Other(NodeKind::Symlink { .. }));
    if !link {
        fs::set_permissions(path, fs::Permissions::from_mode(meta.mode)).unwrap();
    }
    for attribute in &meta.extended_attributes {
        xattr::set(path, OsStr::from_bytes(&attribute.name), &attribute.value).unwrap();
    }
    let time = |time: FileTime| TimeSpec::new(time.seconds, i64::from(time.nanoseconds));
    let flag = UtimensatFlags::NoFollowSymlink;
    utimensat(nix::fcntl::AT_FDCWD, path, &time(meta.atime), &time(meta.mtime), flag).unwrap();
}

/// What a tree looks like: one line for each path.
pub fn describe(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut lines = BTreeMap::new();
    let mut inodes: BTreeMap<(u64, u64), Vec<Vec<u8>>> = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let relative = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let content = if meta.is_file() {
            let mut bytes = Vec::new();
            File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
            format!("{} bytes {}", bytes.len(), provault_repository::Id::hash(&bytes))
        } else if meta.is_symlink() {
            format!("-> {:?}", fs::read_link(&path).unwrap().as_os_str().as_bytes())
        } else {
            format!("rdev {}", meta.rdev())
        };
        let mut attributes: Vec<_> = xattr::list(&path)
            .unwrap()
            .map(|name| (name.clone(), xattr::get(&path, &name).unwrap()))
            .collect();
        attributes.sort();
        let line = format!(
            "mode {:o} owner {}:{} mtime {}.{:09} {content} {attributes:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
        );
        lines.insert(relative.clone(), line);
        if meta.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if meta.nlink() > 1 {
            inodes.entry((meta.dev(), meta.ino())).or_default().push(relative);
        }
    }
    for mut group in inodes.into_values() {
        group.sort();
        let names =
            format!(" linked {:?}", group.iter().map(|n| OsStr::from_bytes(n)).collect::<Vec<_>>());
        for name in &group {
            lines.get_mut(name).unwrap().push_str(&names);
        }
    }
    lines
}

pub fn assert_same(expected: &BTreeMap<Vec<u8>, String>, actual: &BTreeMap<Vec<u8>, String>) {
    for (path, line) in expected {
        let path_text = String::from_utf8_lossy(path);
        assert_eq!(actual.get(path), Some(line), "at {path_text:?}");
    }
    let more = actual.keys().find(|path| !expected.contains_key(*path));
    assert!(more.is_none(), "unexpected {:?}", more.map(|path| String::from_utf8_lossy(path)));
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A little of everything, in few and small files.
pub fn small_tree(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("a/one"), noise(1, 3000)).unwrap();
    fs::write(root.join("a/b/two"), "compressible ".repeat(500)).unwrap();
    fs::write(root.join("three"), noise(3, 200_000)).unwrap();
    fs::write(root.join("nothing"), "").unwrap();
    symlink("a/one", root.join("link")).unwrap();
}
