//! Who uses a device or an image.
//!
//! Three who could be writing to it: the kernel (a mount, swap, a loop device, another device upon
//! it), a process that has it open for writing, and nobody. The kernel's uses are told by the
//! system itself when a device is opened for oneself alone; what is found out here is for the message,
//! and for image files, which cannot be opened so.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

/// What is known of the users of `path`, for people; nothing where there are none. `readers` too
/// counts processes that only read.
pub(crate) fn users(path: &Path, readers: bool) -> std::io::Result<Option<String>> {
    let found = fs::metadata(path)?;
    let mut users = Vec::new();
    if found.file_type().is_block_device() {
        users.extend(kernel_users(found.rdev()));
    }
    users.extend(loops(path, &found));
    users.extend(processes(&found, readers));
    Ok((!users.is_empty()).then(|| users.join(", ")))
}

/// Mounts and swap of a device and of its partitions, and devices that are made of it.
pub(crate) fn kernel_users(device: u64) -> Vec<String> {
    let mut numbers = vec![format!("{}:{}", major(device), minor(device))];
    let here = format!("/sys/dev/block/{}", numbers[0]);
    for entry in fs::read_dir(&here).into_iter().flatten().flatten() {
        // Partitions are directories with a number of their own.
        if entry.path().join("partition").exists()
            && let Ok(number) = fs::read_to_string(entry.path().join("dev"))
        {
            numbers.push(number.trim().to_owned());
        }
    }
    let mut users = Vec::new();
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if let (Some(number), Some(place)) = (fields.get(2), fields.get(4))
            && numbers.iter().any(|known| known == number)
        {
            users.push(format!("it is mounted at {place}"));
        }
    }
    for line in fs::read_to_string("/proc/swaps").unwrap_or_default().lines().skip(1) {
        let name = line.split_whitespace().next().unwrap_or_default();
        if fs::metadata(name)
            .is_ok_and(|swap| swap.file_type().is_block_device() && swap.rdev() == device)
        {
            users.push("it is swap space".to_owned());
        }
    }
    for number in &numbers {
        let holders = fs::read_dir(format!("/sys/dev/block/{number}/holders"));
        for holder in holders.into_iter().flatten().flatten() {
            users.push(format!("{} is made of it", holder.file_name().to_string_lossy()));
        }
    }
    users
}

/// Loop devices over an image.
fn loops(path: &Path, found: &fs::Metadata) -> Vec<String> {
    let name = |name: String| format!("it is the image of {name}");
    loops_over(path, found).into_iter().map(name).collect()
}

/// Their names.
fn loops_over(path: &Path, found: &fs::Metadata) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let Ok(backing) = fs::read_to_string(entry.path().join("loop/backing_file")) else {
            continue;
        };
        let backing = Path::new(backing.trim_end_matches('\n'));
        let same = backing == path
            || fs::metadata(backing)
                .is_ok_and(|other| (other.dev(), other.ino()) == (found.dev(), found.ino()));
        if same {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names
}

/// Where file systems in an image are mounted, each once.
pub(crate) fn mounts_of_image(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let found = fs::metadata(path)?;
    let mut mounts = Vec::new();
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    for name in loops_over(path, &found) {
        let block = Path::new("/sys/block").join(name);
        let mut devices = vec![block.join("dev")];
        for entry in fs::read_dir(&block)?.flatten() {
            if entry.path().join("partition").exists() {
                devices.push(entry.path().join("dev"));
            }
        }
        for device in devices {
            let number = fs::read_to_string(device)?;
            let place = table.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                (fields.get(2) == Some(&number.trim())).then(|| fields.get(4).copied()).flatten()
            });
            mounts.extend(place.map(unescaped));
        }
    }
    Ok(mounts)
}

/// A path as the table of mounts writes it: some characters are `\` and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let code = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let (b'\\', Some(code)) = (first, code) {
            bytes.push(code);
            rest = &behind[3..];
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Processes that have it open; those whose files may not be looked at are not known.
fn processes(found: &fs::Metadata, readers: bool) -> Vec<String> {
    let mut users = Vec::new();
    let own = std::process::id().to_string();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = process.file_name().to_string_lossy().into_owned();
        if id == own || !id.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let files = fs::read_dir(process.path().join("fd"));
        let holds = files.into_iter().flatten().flatten().any(|file| {
            let same = fs::metadata(file.path()).is_ok_and(|open| {
                (open.dev(), open.ino()) == (found.dev(), found.ino())
                    || (found.file_type().is_block_device()
                        && open.file_type().is_block_device()
                        && open.rdev() == found.rdev())
            });
            same && (readers || writes(&process.path().join("fdinfo").join(file.file_name())))
        });
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            users.push(format!("{} (process {id}) has it open", name.trim()));
        }
    }
    users
}

/// Whether a descriptor is open for writing; one that cannot be looked at counts as such.
fn writes(info: &Path) -> bool {
    let Ok(text) = fs::read_to_string(info) else { return info.parent().is_some_and(Path::exists) };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    // The two lowest bits: read, write, both.
    flags.is_none_or(|flags| flags & 3 != 0)
}
