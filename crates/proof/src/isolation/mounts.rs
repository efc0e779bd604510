//! What the application sees: a file system of its own.
//!
//! | path | what it is |
//! |---|---|
//! | `/copy` | the restored copy, writable, without device files and set-user-id |
//! | `/usr` `/bin` `/sbin` `/lib*` `/nix/store` `/gnu/store` | the host's, read-only: programs and libraries |
//! | `/etc` | only what programs need to start: [`ETC`], read-only; `hosts` and `resolv.conf` are made up |
//! | `/proc` | of the own PID namespace; everything but the processes is read-only or masked |
//! | `/dev` | null, zero, full, random, urandom, tty, shm, own pseudo terminals |
//! | `/tmp` `/run` `/var` `/dev/shm` | empty and in memory, at most 1 GiB each |
//!
//! Nothing else of the host is there: not its `/home`, `/root`, `/srv`, `/opt`, `/var`, `/run`,
//! `/sys`, `/mnt`. What must not be seen and lies below `/usr` is covered.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{chdir, pivot_root};

use super::message::Trouble;
use super::request::IsolationRequest;
use provault_domain::Probe;

use super::{COPY, within};

/// Where programs and libraries lie.
const SYSTEM: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];

/// Without these no program starts, or every program would be of the protected resource.
const NEEDED: &[&str] = &[
    "/usr/lib",
    "/usr/lib64",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/dev/null",
    "/proc/self",
];

/// What programs need of `/etc` to start. No host keys, no shadow passwords, no private TLS keys,
/// no configuration of services: an application brings its own in the copy.
const ETC: &[&str] = &[
    "passwd",
    "group",
    "nsswitch.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld.so.preload",
    "localtime",
    "timezone",
    "locale.conf",
    "locale.alias",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates.conf",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "crypto-policies",
    "mime.types",
    "protocols",
    "services",
    "magic",
    "os-release",
    "debian_version",
    "fonts",
    "terminfo",
    "gai.conf",
    "host.conf",
    "inputrc",
];

/// Further pieces of `/etc` by the beginning of their names: run-time settings of languages.
const ETC_PREFIXES: &[&str] = &["java", "python3", "perl", "dotnet"];

const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Of `/proc`, what tells about the host or acts on it.
const MASKED: &[&str] = &[
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "sched_debug",
    "slabinfo",
    "sysrq-trigger",
    "timer_list",
    "vmallocinfo",
];

/// The old root while the new one is built.
const HOST: &str = "/host";

const NO_PATH: Option<&Path> = None;

/// Whether a path holds what no program can do without, so that it cannot be hidden.
pub(super) fn is_needed(path: &Path) -> bool {
    NEEDED.iter().any(|needed| within(Path::new(needed), path))
}

/// Builds the file system and makes it the root. Gives back notes.
pub(super) fn build(request: &IsolationRequest) -> Result<Vec<String>, Trouble> {
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let refused = Trouble::errno("making the mounts private");
    mount(NO_PATH, "/", NO_PATH, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NO_PATH)
        .map_err(refused)?;
    // The copy's own path serves as the place to begin at: it exists, and once the new root has
    // moved away from it the copy is reachable there again.
    tmpfs(&request.copy_root, "mode=0755,size=16m")?;
    let host = request.copy_root.join(&HOST[1..]);
    make_dir(&host)?;
    pivot_root(&request.copy_root, &host).map_err(Trouble::errno("changing the root"))?;
    chdir("/").map_err(Trouble::errno("entering the new root"))?;

    proc()?;
    for path in SYSTEM {
        system(Path::new(path))?;
    }
    etc(request)?;
    dev()?;
    for (path, options) in [("/tmp", "mode=1777"), ("/run", "mode=0755"), ("/var", "mode=0755")] {
        make_dir(Path::new(path))?;
        tmpfs(Path::new(path), &format!("{options},size=1g"))?;
    }
    for name in ["cache", "lib", "log", "tmp"] {
        make_dir(&Path::new("/var").join(name))?;
    }
    fs::set_permissions("/var/tmp", fs::Permissions::from_mode(0o1777))
        .map_err(Trouble::step("making /var/tmp"))?;
    link("/run", "/var/run")?;

    make_dir(Path::new(COPY))?;
    // Without either it is only tried whether this host isolates at all.
    if request.service.is_some() || request.probes.iter().any(Probe::needs_isolation) {
        copy(&request.copy_root)?;
    }
    let mut notes = Vec::new();
    for path in &request.hidden {
        notes.extend(hide(path)?);
    }
    protect_proc()?;
    umount2(HOST, MntFlags::MNT_DETACH).map_err(Trouble::errno("leaving the old root"))?;
    fs::remove_dir(HOST).map_err(Trouble::step("removing the old root"))?;
    read_only(Path::new("/"), MsFlags::MS_NODEV)?;
    Ok(notes)
}

/// A path of the host while the new root is built.
fn on_host(path: &Path) -> PathBuf {
    Path::new(HOST).join(path.strip_prefix("/").unwrap_or(path))
}

fn make_dir(path: &Path) -> Result<(), Trouble> {
    fs::create_dir_all(path).map_err(Trouble::step(&format!("making {}", path.display())))
}

fn link(target: impl AsRef<Path>, at: impl AsRef<Path>) -> Result<(), Trouble> {
    let step = format!("making {}", at.as_ref().display());
    symlink(target, at).map_err(Trouble::step(&step))
}

fn write(path: &str, content: &str) -> Result<(), Trouble> {
    fs::write(path, content).map_err(Trouble::step(&format!("making {path}")))
}

fn tmpfs(at: &Path, options: &str) -> Result<(), Trouble> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))
        .map_err(Trouble::errno(&format!("mounting memory at {}", at.display())))
}

fn bind(from: &Path, to: &Path, flags: MsFlags) -> Result<(), Trouble> {
    mount(Some(from), to, NO_PATH, MsFlags::MS_BIND | flags, NO_PATH)
        .map_err(Trouble::errno(&format!("mounting {}", to.display())))
}

/// Sets flags of the mount at `path`, keeping those it has: taking one away that the host set is
/// refused in a user namespace.
fn restrict(path: &Path, flags: MsFlags) -> Result<(), Trouble> {
    let refused = Trouble::errno(&format!("restricting {}", path.display()));
    let has = statvfs(path).map_err(&refused)?.flags();
    let mut all = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID;
    for (has_it, flag) in [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        if has.contains(has_it) {
            all |= flag;
        }
    }
    mount(NO_PATH, path, NO_PATH, all, NO_PATH).map_err(refused)
}

fn read_only(path: &Path, flags: MsFlags) -> Result<(), Trouble> {
    restrict(path, flags | MsFlags::MS_RDONLY)
}

/// A directory of programs, with everything mounted below it, read-only.
fn system(path: &Path) -> Result<(), Trouble> {
    let from = on_host(path);
    let Ok(metadata) = fs::symlink_metadata(&from) else { return Ok(()) };
    if metadata.is_symlink() {
        let target = fs::read_link(&from).map_err(Trouble::step("reading a link"))?;
        return link(target, path);
    }
    if !metadata.is_dir() {
        return Ok(());
    }
    make_dir(path)?;
    bind(&from, path, MsFlags::MS_REC)?;
    for point in mount_points()?.iter().filter(|point| within(point, path)) {
        match read_only(point, MsFlags::MS_NODEV) {
            // Covered by another mount: nobody can reach it.
            Err(_) if fs::symlink_metadata(point).is_err() => {}
            other => other?,
        }
    }
    Ok(())
}

/// Where anything is mounted, as this process sees it; see `proc_pid_mountinfo(5)`.
fn mount_points() -> Result<Vec<PathBuf>, Trouble> {
    let table = fs::read("/proc/self/mountinfo").map_err(Trouble::step("reading the mounts"))?;
    Ok(table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .collect())
}

/// Blanks and backslashes stand as `\040` and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    plain
}

fn etc(request: &IsolationRequest) -> Result<(), Trouble> {
    make_dir(Path::new("/etc"))?;
    let mut pieces: Vec<PathBuf> = ETC.iter().map(|piece| Path::new("/etc").join(piece)).collect();
    let listed = fs::read_dir(on_host(Path::new("/etc"))).into_iter().flatten().flatten();
    for name in listed.map(|entry| entry.file_name()) {
        if ETC_PREFIXES.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes())) {
            pieces.push(Path::new("/etc").join(name));
        }
    }
    for piece in pieces {
        if !request.hidden.iter().any(|hidden| within(&piece, hidden)) {
            etc_piece(&piece)?;
        }
    }
    write("/etc/hosts", "127.0.0.1 localhost provault-test\n::1 localhost\n")?;
    write("/etc/hostname", "provault-test\n")?;
    write("/etc/resolv.conf", "# A restored copy resolves nothing.\n")?;
    link("/proc/self/mounts", "/etc/mtab")
}

fn etc_piece(piece: &Path) -> Result<(), Trouble> {
    let from = on_host(piece);
    let Ok(metadata) = fs::symlink_metadata(&from) else { return Ok(()) };
    if let Some(parent) = piece.parent() {
        make_dir(parent)?;
    }
    if metadata.is_symlink() {
        let target = fs::read_link(&from).map_err(Trouble::step("reading a link"))?;
        return link(target, piece);
    }
    if metadata.is_dir() {
        make_dir(piece)?;
    } else {
        fs::write(piece, "").map_err(Trouble::step("making a file in /etc"))?;
    }
    bind(&from, piece, MsFlags::MS_REC)?;
    read_only(piece, MsFlags::MS_NODEV | MsFlags::MS_NOEXEC)
}

fn dev() -> Result<(), Trouble> {
    make_dir(Path::new("/dev"))?;
    tmpfs_with_devices()?;
    for name in DEVICES {
        let at = Path::new("/dev").join(name);
        fs::write(&at, "").map_err(Trouble::step("making a device"))?;
        bind(&on_host(&at), &at, MsFlags::empty())?;
        // Read-only: one can write to the device all the same, but not change its mode, which
        // would be the host's.
        read_only(&at, MsFlags::MS_NOEXEC)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        link(target, Path::new("/dev").join(name))?;
    }
    make_dir(Path::new("/dev/shm"))?;
    tmpfs(Path::new("/dev/shm"), "mode=1777,size=1g")?;
    make_dir(Path::new("/dev/pts"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = "newinstance,ptmxmode=0666,mode=620";
    mount(Some("devpts"), "/dev/pts", Some("devpts"), flags, Some(options))
        .map_err(Trouble::errno("mounting /dev/pts"))?;
    read_only(Path::new("/dev"), MsFlags::MS_NOEXEC)
}

fn tmpfs_with_devices() -> Result<(), Trouble> {
    mount(Some("tmpfs"), "/dev", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=0755,size=1m"))
        .map_err(Trouble::errno("mounting memory at /dev"))
}

fn proc() -> Result<(), Trouble> {
    make_dir(Path::new("/proc"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NO_PATH)
        .map_err(Trouble::errno("mounting /proc"))?;
    // The application has no rights over the network namespace; without this it could not
    // listen on port 80 although nobody else is there.
    match fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Trouble::step("allowing low ports")(error))
        }
        _ => Ok(()),
    }
}

/// Everything in `/proc` that is not a process: settings and switches of the whole host, which
/// root inside could write to because root inside is the host's root to plain permission checks.
fn protect_proc() -> Result<(), Trouble> {
    let list = fs::read_dir("/proc").map_err(Trouble::step("listing /proc"))?;
    for entry in list.flatten() {
        let name = entry.file_name();
        let is_process = name.as_bytes().iter().all(u8::is_ascii_digit);
        let Ok(kind) = entry.file_type() else { continue };
        if is_process || kind.is_symlink() {
            continue;
        }
        let path = entry.path();
        if kind.is_file() && MASKED.iter().any(|masked| name == *masked) {
            bind(Path::new("/dev/null"), &path, MsFlags::empty())?;
        } else {
            bind(&path, &path, MsFlags::empty())?;
        }
        read_only(&path, MsFlags::empty())?;
    }
    Ok(())
}

fn copy(copy_root: &Path) -> Result<(), Trouble> {
    // Not recursive: what somebody mounted inside the copy is not of the copy.
    bind(&on_host(copy_root), Path::new(COPY), MsFlags::empty())?;
    restrict(Path::new(COPY), MsFlags::MS_NODEV)
}

/// Makes sure that nothing of `path` is to be seen: covers it where it is.
fn hide(path: &Path) -> Result<Option<String>, Trouble> {
    // Made real by the caller; a literal path with links in it resolves inside or not at all.
    let Ok(host) = fs::metadata(on_host(path)) else { return Ok(None) };
    let same = || -> Result<Option<fs::Metadata>, Trouble> {
        match fs::metadata(path) {
            Ok(inside) if (inside.dev(), inside.ino()) == (host.dev(), host.ino()) => {
                Ok(Some(inside))
            }
            Ok(_) => Ok(None),
            Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                Errno::ENOENT | Errno::ENOTDIR => Ok(None),
                _ => Err(Trouble::step("looking for a hidden path")(error)),
            },
        }
    };
    let Some(inside) = same()? else { return Ok(None) };
    if inside.is_dir() {
        tmpfs(path, "mode=0555,size=4k")?;
        read_only(path, MsFlags::MS_NODEV)?;
    } else {
        bind(Path::new("/dev/null"), path, MsFlags::empty())?;
    }
    if same()?.is_some() {
        return Err(Trouble::CannotHide { path: path.display().to_string() });
    }
    Ok(Some(format!("{} was covered inside.", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(br"/a\040b\134c\011"), b"/a b\\c\t");
        assert_eq!(unescape(br"/a\04"), br"/a\04");
    }

    #[test]
    fn what_programs_need_cannot_be_hidden() {
        for path in ["/", "/usr", "/usr/lib", "/lib", "/dev"] {
            assert!(is_needed(Path::new(path)), "{path}");
        }
        for path in ["/usr/share", "/usr/local", "/srv/app", "/etc", "/usr/lib/app"] {
            assert!(!is_needed(Path::new(path)), "{path}");
        }
    }
}
