//! Directory trees: one with everything in it, and a comparison that owes nothing to the program.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::hash::Hasher;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Writes a tree with files of many sizes, modes, times, extended attributes, hard links, symbolic
/// links, a fifo, a sparse file and odd names.
pub fn write_tree(root: &Path) {
    fs::create_dir_all(root).unwrap();
    let write = |name: &str, content: &[u8]| fs::write(root.join(name), content).unwrap();
    write("empty", b"");
    write("small.txt", b"a small file\n");
    write("noise.bin", &noise(3_000_000));
    write("zeros.bin", &vec![0; 700_000]);
    for directory in ["docs/2024/may", "empty-directory", "closed"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for n in 0..40 {
        write(
            &format!("docs/2024/may/report-{n:02}.txt"),
            format!("report {n}\n").repeat(n).as_bytes(),
        );
    }
    write("docs/notes with blanks\tand\nlines", b"odd");
    write("docs/\u{fc}nic\u{f6}de-\u{1f512}", b"unicode");
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"docs/not-utf8-\xff\xfe")), b"bytes").unwrap();
    write("docs/$HOME;`x`'\"*?", b"shell");
    write("program.sh", b"#!/bin/sh\necho hello\n");
    let mode = |name: &str, mode| {
        fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
    };
    mode("program.sh", 0o755);
    mode("small.txt", 0o640);
    fs::hard_link(root.join("small.txt"), root.join("docs/the same.txt")).unwrap();
    symlink("docs/2024", root.join("this-year")).unwrap();
    symlink("nowhere/at/all", root.join("dangling")).unwrap();
    let set = xattr::set(root.join("noise.bin"), "user.provault.note", b"kept \x00 whole");
    set.unwrap_or_else(|e| panic!("TMPDIR must lie on a file system with user xattrs: {e}"));
    xattr::set(root.join("docs"), "user.directory", b"too").unwrap();
    let sparse = File::create(root.join("sparse.img")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"an island", 40 << 20).unwrap();
    let fifo = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&root.join("fifo"), fifo).unwrap();
    mode("closed", 0o500);
    for (name, seconds, nanos) in [
        ("small.txt", 1_000_000_000, 123_456_789),
        ("docs/2024", 1_600_000_000, 5),
        ("empty", 1, 0),
    ] {
        let time = UNIX_EPOCH + Duration::new(seconds, nanos);
        File::open(root.join(name)).unwrap().set_modified(time).unwrap();
    }
}

/// Bytes that neither compress nor repeat, the same every time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// All there is to say of one path. The group of hard links is named by its first path.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    size: u64,
    content: u64,
    link: Option<PathBuf>,
    same_as: Option<PathBuf>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    device: u64,
}

/// Every path of a tree, relative to its root, which is itself the first.
#[derive(Debug, PartialEq, Eq)]
pub struct Manifest {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Manifest {
    /// Reads a tree.
    pub fn of(root: &Path) -> Self {
        let mut manifest = Self { entries: BTreeMap::new() };
        let mut inodes = BTreeMap::new();
        manifest.add(root, Path::new(""), &mut inodes);
        manifest
    }

    fn add(&mut self, root: &Path, path: &Path, inodes: &mut BTreeMap<(u64, u64), PathBuf>) {
        let full = root.join(path);
        // `join("")` would put a slash behind the root, and follow a link.
        let full = if path.as_os_str().is_empty() { root.to_owned() } else { full };
        let meta = fs::symlink_metadata(&full)
            .unwrap_or_else(|error| panic!("{}: {error}", full.display()));
        let kind = meta.file_type();
        let same_as = (!meta.is_dir() && meta.nlink() > 1).then(|| {
            inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| path.to_owned()).clone()
        });
        let entry = Entry {
            kind: match kind {
                _ if kind.is_dir() => "directory",
                _ if kind.is_file() => "file",
                _ if kind.is_symlink() => "symlink",
                _ if kind.is_fifo() => "fifo",
                _ if kind.is_socket() => "socket",
                _ => "device",
            },
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            modified: (meta.mtime(), meta.mtime_nsec()),
            size: if kind.is_dir() { 0 } else { meta.size() },
            content: if kind.is_file() { content(&full) } else { 0 },
            link: kind.is_symlink().then(|| fs::read_link(&full).unwrap()),
            same_as,
            xattrs: xattrs(&full),
            device: meta.rdev(),
        };
        self.entries.insert(path.to_owned(), entry);
        if kind.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            for name in names {
                self.add(root, &path.join(name), inodes);
            }
        }
    }

    /// How many regular files there are.
    pub fn files(&self) -> usize {
        self.entries.values().filter(|entry| entry.kind == "file").count()
    }

    /// Bytes of all regular files, each of several hard links counted once.
    pub fn bytes(&self) -> u64 {
        self.entries
            .iter()
            .filter(|(path, entry)| {
                entry.kind == "file" && entry.same_as.as_ref().is_none_or(|first| first == *path)
            })
            .map(|(_, entry)| entry.size)
            .sum()
    }

    /// Fails with the differences unless `other` is the same tree.
    pub fn assert_same(&self, other: &Self, what: &str) {
        let mut differences = String::new();
        for (path, entry) in &self.entries {
            match other.entries.get(path) {
                None => writeln!(differences, "{} is missing", path.display()).unwrap(),
                Some(found) if found != entry => {
                    writeln!(differences, "{}:\n  {entry:?}\n  {found:?}", path.display()).unwrap();
                }
                Some(_) => {}
            }
        }
        for path in other.entries.keys().filter(|path| !self.entries.contains_key(*path)) {
            writeln!(differences, "{} is too many", path.display()).unwrap();
        }
        assert!(differences.is_empty(), "{what} differs:\n{differences}");
    }
}

fn content(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hasher.finish(),
            n => hasher.write(&buffer[..n]),
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let Ok(names) = xattr::list(path) else { return BTreeMap::new() };
    names
        .filter_map(|name| {
            let value = xattr::get(path, &name).ok()??;
            Some((name.as_bytes().to_vec(), value))
        })
        .collect()
}
