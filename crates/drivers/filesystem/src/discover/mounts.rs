//! What is mounted where, without a look at it: a mount whose server is gone hangs whoever looks.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// File systems that lie on a disk of this host. All others (of the kernel, in memory, over a network,
/// of containers) hold nothing that stands on this host, or may hang.
const OF_DISKS: &[&str] = &[
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "ntfs", "ntfs3",
    "reiserfs", "vfat", "xfs", "zfs",
];

/// The mounts of this host.
#[derive(Debug)]
pub(super) struct Mounts {
    /// Where something is mounted that is not to be touched.
    hidden: BTreeSet<PathBuf>,
    reach: Reach,
}

/// What else may be looked at.
#[derive(Debug)]
enum Reach {
    Everything,
    /// The device of the root, if even that is known: nothing is known of the mounts.
    Device(Option<u64>),
}

impl Mounts {
    /// From a file as `/proc/self/mountinfo` is.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Self::parse(&fs::read(path)?))
    }

    /// Nothing is known: only the disk that `root` is on is looked at.
    pub fn none(root: &Path) -> Self {
        Self { hidden: BTreeSet::new(), reach: Reach::Device(super::device(root)) }
    }

    fn parse(text: &[u8]) -> Self {
        let mut hidden = BTreeSet::new();
        for line in text.split(|byte| *byte == b'\n') {
            let mut words = line.split(|byte| *byte == b' ');
            let Some(place) = words.nth(4) else { continue };
            // Optional fields in between end with a dash.
            let Some(kind) = words.skip_while(|word| *word != b"-").nth(1) else { continue };
            let place = PathBuf::from(OsString::from_vec(unescaped(place)));
            let known = OF_DISKS.iter().any(|name| name.as_bytes() == kind);
            // What is mounted later at the same place covers what was there.
            if known || place == Path::new("/") {
                hidden.remove(&place);
            } else {
                hidden.insert(place);
            }
        }
        Self { hidden, reach: Reach::Everything }
    }

    /// Whether `path` is the place of a mount that is not to be touched.
    pub fn hides(&self, path: &Path) -> bool {
        self.hidden.contains(path)
    }

    /// Whether a directory may be looked into, by its device.
    pub fn allow(&self, device: u64) -> bool {
        match self.reach {
            Reach::Everything => true,
            Reach::Device(only) => only == Some(device),
        }
    }
}

/// The kernel writes blanks, tabs, newlines and backslashes as `\` and three octal digits.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) =
            (first, tail)
        {
            out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_are_touched() {
        let text = b"22 1 0:20 / / rw - overlay overlay rw\n\
            23 22 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n\
            24 22 8:1 / /data rw shared:1 master:2 - ext4 /dev/sda1 rw\n\
            25 22 0:30 / /mnt/far\\040away rw - nfs4 host:/x rw\n\
            26 22 0:31 / /both rw - tmpfs tmpfs rw\n\
            27 26 8:2 / /both rw - xfs /dev/sdb rw\n\
            28 22 8:3 / /over rw - ext4 /dev/sdc rw\n\
            29 28 0:32 / /over rw - fuse.sshfs host: rw\n\
            nonsense\n";
        let mounts = Mounts::parse(text);
        let hidden: Vec<&str> = mounts.hidden.iter().map(|path| path.to_str().unwrap()).collect();
        // The root is looked at whatever it is: in a container it is an overlay.
        assert_eq!(hidden, ["/mnt/far away", "/over", "/proc"]);
        assert!(mounts.allow(7), "any disk");
    }

    #[test]
    fn nothing_known_is_one_disk() {
        let root = tempfile::tempdir().unwrap();
        let mounts = Mounts::none(root.path());
        let here = super::super::device(root.path()).unwrap();
        assert!(mounts.allow(here) && !mounts.allow(here + 1));
    }
}
