//! A fixture of directory trees, and a comparison of trees written without the driver.
#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::unnecessary_debug_formatting,
    clippy::cast_possible_truncation,
    reason = "a fixture fails as its test does"
)]

pub mod watched;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use nix::sys::stat::{Mode, SFlag, mknod, utimensat};
use nix::sys::time::TimeSpec;
use provault_domain::{AccountId, Arn, Kind, Region, Resource, RetentionSettings};
use provault_driver::Metadata;
use provault_driver::conformance::{Fixture, Request};
use tempfile::TempDir;

/// Trees below one temporary directory.
pub struct Trees {
    pub dir: TempDir,
    next: AtomicU32,
}

impl Trees {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), next: AtomicU32::new(0) }
    }

    /// A path below that nothing has yet; its parent is its own.
    pub fn fresh(&self, name: &str) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let parent = self.dir.path().join(format!("{number}"));
        fs::create_dir(&parent).unwrap();
        parent.join(name)
    }

    /// An empty directory to be filled.
    pub fn source(&self) -> PathBuf {
        let path = self.fresh("source");
        fs::create_dir(&path).unwrap();
        path
    }
}

pub fn request(target: &Path) -> Request {
    Request::from([
        ("file-system-id".to_owned(), "fs-0123456789abcdef0".to_owned()),
        ("targetPath".to_owned(), target.to_str().unwrap().to_owned()),
    ])
}

pub fn with_items(mut request: Request, items: &[&str]) -> Request {
    request.insert("ItemsToRestore".to_owned(), serde_json::to_string(items).unwrap());
    request
}

pub fn resource(path: &Path) -> Resource {
    resource_with(serde_json::json!({ "path": path.to_str().unwrap() }))
}

pub fn resource_with(config: serde_json::Value) -> Resource {
    let account: AccountId = "123456789012".parse().unwrap();
    let region: Region = "us-east-1".parse().unwrap();
    Resource {
        arn: Arn::resource_of(Kind::Filesystem, &region, &account, "0123456789abcdef0"),
        account,
        region,
        kind: Kind::Filesystem,
        name: "files".to_owned(),
        config,
        tags: BTreeMap::new(),
        service: None,
        probes: Vec::new(),
        rpo_seconds: None,
        rto_seconds: None,
        testing: None,
        retention: RetentionSettings::default(),
        created_at: Timestamp::UNIX_EPOCH,
        imported: false,
    }
}

pub fn metadata(mode: u32, size: u64) -> Metadata {
    Metadata {
        mode,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        user: None,
        group: None,
        size,
        mtime: Timestamp::UNIX_EPOCH,
        atime: Timestamp::UNIX_EPOCH,
        ctime: Timestamp::UNIX_EPOCH,
        inode: 0,
        device: 0,
        links: 1,
        xattrs: Vec::new(),
        data_extents: None,
    }
}

fn path_of(request: &Request) -> &Path {
    Path::new(&request["targetPath"])
}

fn times(path: &Path, atime: i64, mtime: (i64, i64)) {
    utimensat(
        nix::fcntl::AT_FDCWD,
        path,
        &TimeSpec::new(atime, 5),
        &TimeSpec::new(mtime.0, mtime.1),
        nix::sys::stat::UtimensatFlags::NoFollowSymlink,
    )
    .unwrap();
}

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A version 2 ACL: the owner, user 1000, the group, a mask, others.
fn acl() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, permission, id) in
        [(1_u16, 6_u16, none), (2, 4, 1000), (4, 4, none), (0x10, 4, none), (0x20, 0, none)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permission.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// One of everything a file system can hold.
pub fn populate(root: &Path) {
    populate_with_second_name(root, "big");
}

/// As [`populate`]; the file `of` gets the second name.
pub fn populate_with_second_name(root: &Path, of: &str) {
    let write = |name: &str, content: &[u8]| fs::write(root.join(name), content).unwrap();
    write("empty", b"");
    write("one", b"1");
    let big: Vec<u8> = (0..1_500_000_u32).map(|i| (i * 7 + i / 253) as u8).collect();
    write("big", &big);
    write("same", b"this one stays as it is");
    fs::create_dir(root.join("dir")).unwrap();
    write("dir/inner", b"inner");
    write("dir.txt", b"sorts between dir and dir/inner when paths are compared");
    fs::create_dir_all(root.join("deep/er/and/deeper")).unwrap();
    write("deep/er/and/deeper/leaf", b"leaf");
    fs::create_dir(root.join("hollow")).unwrap();
    mode(&root.join("hollow"), 0o555);
    write("setuid", b"#!/bin/true");
    write("readonly", b"r");
    fs::create_dir(root.join("sticky")).unwrap();
    mode(&root.join("sticky"), 0o1777);
    fs::write(root.join(OsStr::from_bytes(b"odd \xff\xfe\n name")), b"odd").unwrap();
    symlink("dir/inner", root.join("link")).unwrap();
    symlink(OsStr::from_bytes(b"nowhere \xfe"), root.join("dangling")).unwrap();
    symlink("/etc", root.join("linked-dir")).unwrap();
    fs::hard_link(root.join(of), root.join(format!("{of}-too"))).unwrap();
    fs::hard_link(root.join("link"), root.join("dir/link-too")).unwrap();
    nix::unistd::mkfifo(&root.join("pipe"), Mode::from_bits_truncate(0o640)).unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());

    let mut sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    for at in [1 << 20, (5 << 20) + 12_345] {
        sparse.seek(SeekFrom::Start(at)).unwrap();
        sparse.write_all(b"data between holes").unwrap();
    }
    File::create(root.join("all-hole")).unwrap().set_len(3 << 20).unwrap();

    xattr::set(root.join("one"), "user.color", b"blue \xff").unwrap();
    xattr::set(root.join("dir"), "user.empty", b"").unwrap();
    xattr::set(root.join("one"), "system.posix_acl_access", &acl()).unwrap();
    xattr::set(root.join("deep"), "system.posix_acl_default", &acl()).unwrap();
    if nix::unistd::geteuid().is_root() {
        for (name, kind) in [("null", SFlag::S_IFCHR), ("disk", SFlag::S_IFBLK)] {
            let device = nix::sys::stat::makedev(1, 3);
            mknod(&root.join(name), kind, Mode::from_bits_truncate(0o600), device).unwrap();
        }
        std::os::unix::fs::chown(root.join("one"), Some(12_345), Some(54_321)).unwrap();
        std::os::unix::fs::lchown(root.join("dangling"), Some(7), Some(8)).unwrap();
        xattr::set(root.join("dangling"), "trusted.note", b"on a link").unwrap();
        std::os::unix::fs::chown(root.join("setuid"), Some(33), Some(33)).unwrap();
    }
    mode(&root.join("setuid"), 0o6755);
    mode(&root.join("readonly"), 0o400);
    mode(root, 0o750);
    // Old access times: reading would renew them.
    for name in ["dangling", "pipe", "link", "one", "sparse"] {
        times(&root.join(name), 1_000_000_000, (-77, 123_456_789));
    }
    for name in ["deep/er", "dir", "dir/inner", "hollow"] {
        times(&root.join(name), 1_000_000_000, (1_234_567_890, 987_654_321));
    }
    times(root, 1_000_000_000, (1_111_111_111, 1));
}

/// Everything about one entry that has to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: String,
    pub mode: u32,
    pub owner: (u32, u32),
    pub size: u64,
    pub mtime: (i64, i64),
    pub atime: (i64, i64),
    pub ctime: (i64, i64),
    pub rdev: u64,
    pub blocks: u64,
    /// The first path of the same inode.
    pub first: PathBuf,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub content: Vec<u8>,
}

/// Files and bytes of a tree: every name is a file, the bytes of an inode count once.
pub fn counted(root: &Path) -> (u64, u64) {
    let files = look(root).into_iter().filter(|(_, seen)| seen.kind == "file");
    files.fold((0, 0), |(files, bytes), (path, seen)| {
        (files + 1, bytes + if seen.first == path { seen.size } else { 0 })
    })
}

/// A tree as it is; paths relative to `root`, which is the empty one.
pub fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    fn walk(
        root: &Path,
        relative: &Path,
        seen: &mut BTreeMap<PathBuf, Seen>,
        inodes: &mut HashMap<(u64, u64), PathBuf>,
    ) {
        // `join("")` would add a slash, and follow a link.
        let path =
            if relative.as_os_str().is_empty() { root.to_owned() } else { root.join(relative) };
        let found = fs::symlink_metadata(&path).unwrap();
        let kind = found.file_type();
        let mut xattrs = BTreeMap::new();
        for name in xattr::list(&path).unwrap() {
            let value = xattr::get(&path, &name).unwrap().unwrap();
            xattrs.insert(name.as_bytes().to_vec(), value);
        }
        let (name, content) = if kind.is_dir() {
            ("directory", Vec::new())
        } else if kind.is_symlink() {
            ("link", fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
        } else if kind.is_file() {
            ("file", fs::read(&path).unwrap())
        } else if kind.is_fifo() {
            ("fifo", Vec::new())
        } else if kind.is_socket() {
            ("socket", Vec::new())
        } else if kind.is_char_device() {
            ("char", Vec::new())
        } else {
            ("block", Vec::new())
        };
        let first = if kind.is_dir() {
            relative.to_owned()
        } else {
            inodes.entry((found.dev(), found.ino())).or_insert_with(|| relative.to_owned()).clone()
        };
        seen.insert(
            relative.to_owned(),
            Seen {
                kind: name.to_owned(),
                mode: found.mode() & 0o7777,
                owner: (found.uid(), found.gid()),
                size: if kind.is_dir() { 0 } else { found.size() },
                mtime: (found.mtime(), found.mtime_nsec()),
                atime: (found.atime(), found.atime_nsec()),
                ctime: (found.ctime(), found.ctime_nsec()),
                rdev: found.rdev(),
                blocks: if kind.is_file() { found.blocks() } else { 0 },
                first,
                xattrs,
                content,
            },
        );
        if kind.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            for name in names {
                walk(root, &relative.join(name), seen, inodes);
            }
        }
    }
    let mut seen = BTreeMap::new();
    walk(root, Path::new(""), &mut seen, &mut HashMap::new());
    seen
}

/// How two trees differ in what has to come back.
pub fn differences(source: &Path, copy: &Path) -> Vec<String> {
    let (source, copy) = (look(source), look(copy));
    let mut found = Vec::new();
    for (path, old) in &source {
        let Some(new) = copy.get(path) else {
            found.push(format!("{path:?} is missing"));
            continue;
        };
        // Times that nothing can set or that reading renews; blocks are compared by themselves.
        let mut new = new.clone();
        (new.atime, new.ctime) = (old.atime, old.ctime);
        let blocks = std::mem::replace(&mut new.blocks, old.blocks);
        if new != *old {
            let brief = |s: &Seen| {
                let mut s = s.clone();
                s.content.truncate(40);
                format!("{s:?}")
            };
            found.push(format!("{path:?}:\n  {}\n  {}", brief(old), brief(&new)));
        }
        // A copy may take a few blocks more (the edges of holes), not all of them.
        if blocks > old.blocks + 64 {
            found.push(format!("{path:?} takes {blocks} blocks instead of {}", old.blocks));
        }
    }
    let additional = copy.keys().filter(|p| !source.contains_key(*p));
    found.extend(additional.map(|p| format!("{p:?} is additional")));
    found
}

impl Fixture for Trees {
    fn resource(&self) -> Resource {
        let path = self.source();
        // The suite expects the bytes of a file to count again for each of its names; this driver
        // counts them once. Where there are none both agree. tests/links.rs holds the driver to
        // its own rule, with content.
        populate_with_second_name(&path, "big");
        resource(&path)
    }

    fn mutate(&self, resource: &Resource) {
        let root = Path::new(resource.config["path"].as_str().unwrap());
        fs::write(root.join("one"), b"another").unwrap();
        fs::write(root.join("new"), b"new").unwrap();
        fs::remove_file(root.join("dir.txt")).unwrap();
        fs::remove_file(root.join("link")).unwrap();
        fs::create_dir(root.join("link")).unwrap();
        fs::write(root.join("link/now-a-directory"), b"x").unwrap();
        fs::rename(root.join("deep/er"), root.join("deep/est")).unwrap();
        mode(&root.join("dir"), 0o711);
    }

    fn fingerprint(&self, resource: &Resource) -> String {
        let root = resource.config["path"].as_str().unwrap();
        let list = |root: &Path| -> String {
            // `stat` neither reads files nor links, so it renews no access times.
            let output = std::process::Command::new("find")
                .arg(root)
                .args(["-printf", "%P %y %m %U %G %s %T@ %C@ %i %n "])
                .args(["(", "-type", "l", "-printf", "\\n", "-o", "-printf", "%A@\\n", ")"])
                .output()
                .unwrap();
            assert!(output.status.success(), "install findutils: {output:?}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        // Listing a directory renews its access time; the first look sees what comes after it.
        list(Path::new(root));
        list(Path::new(root))
    }

    fn request(&self, _: &Resource) -> Request {
        request(&self.fresh("target"))
    }

    fn occupy(&self, request: &Request) {
        fs::create_dir(path_of(request)).unwrap();
        fs::write(path_of(request).join("precious"), b"do not touch").unwrap();
    }

    fn surroundings(&self, request: &Request) -> Vec<String> {
        let parent = path_of(request).parent().unwrap();
        look(parent)
            .into_iter()
            .map(|(path, seen)| {
                let mut hasher = std::hash::DefaultHasher::new();
                std::hash::Hash::hash(&seen.content, &mut hasher);
                let content = std::hash::Hasher::finish(&hasher);
                format!("{path:?} {} {:o} {} {content:x}", seen.kind, seen.mode, seen.size)
            })
            .collect()
    }

    fn differences(&self, resource: &Resource, request: &Request) -> Vec<String> {
        differences(Path::new(resource.config["path"].as_str().unwrap()), path_of(request))
    }

    fn dispose(&self, request: &Request) {
        fs::remove_dir_all(path_of(request)).unwrap();
    }
}

/// Says why the host kept a test from running.
pub fn not_tested(test: &str, why: &str) {
    let line = format!("PROVAULT-NOT-TESTED: {test}: {why}\n");
    match std::env::var_os("PROVAULT_NOT_TESTED") {
        Some(file) => {
            let file = fs::OpenOptions::new().create(true).append(true).open(file);
            file.unwrap().write_all(line.as_bytes()).unwrap();
        }
        None => print!("{line}"),
    }
}

/// Runs `work` on a thread that may mount what only it sees.
pub fn in_own_mounts(work: impl FnOnce() -> nix::Result<()> + Send) -> nix::Result<()> {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    std::thread::scope(|scope| {
        let own = scope.spawn(|| -> nix::Result<()> {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            work()
        });
        own.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Shows `from` at `to` as well: a directory or a single file.
pub fn bind(from: &Path, to: &Path) -> nix::Result<()> {
    let none: Option<&str> = None;
    nix::mount::mount(Some(from), to, none, nix::mount::MsFlags::MS_BIND, none)
}
