//! What can be known of a directory's leaves (all that is in it but directories) without opening one.
//!
//! Two surveys with one fingerprint saw the same names with the same inodes, sizes, owners, modes and
//! times. A change of content or of extended attributes changes the inode's `ctime`; whether a time is
//! old enough to be believed, whoever remembers the fingerprint decides by [`Leaves::newest`].

use jiff::Timestamp;
use nix::sys::stat::SFlag;
use provault_driver::Leaves;
use sha2::{Digest, Sha256};

use crate::at::Stat;

/// The leaves seen so far. Names must come in one order.
pub(crate) struct Survey {
    hash: Sha256,
    newest: Timestamp,
    others: u64,
    files: Vec<Stat>,
    missed: bool,
}

impl Default for Survey {
    fn default() -> Self {
        let (newest, files) = (Timestamp::MIN, Vec::new());
        Self { hash: Sha256::new(), newest, others: 0, files, missed: false }
    }
}

impl Survey {
    /// A leaf, and the names of its owner and group.
    pub fn add(&mut self, name: &[u8], stat: &Stat, owner: (Option<&str>, Option<&str>)) {
        let numbers = [
            name.len() as u64,
            u64::from(stat.kind.bits()),
            u64::from(stat.mode),
            u64::from(stat.uid),
            u64::from(stat.gid),
            stat.size,
            stat.inode,
            stat.device,
            stat.links,
            stat.rdev,
        ];
        for number in numbers {
            self.hash.update(number.to_le_bytes());
        }
        for time in [stat.mtime, stat.ctime] {
            self.hash.update(time.as_nanosecond().to_le_bytes());
        }
        self.hash.update(name);
        for name in [owner.0, owner.1] {
            let name = name.unwrap_or_default();
            self.hash.update((name.len() as u64).to_le_bytes());
            self.hash.update(name);
        }
        self.newest = self.newest.max(stat.mtime).max(stat.ctime);
        if stat.kind == SFlag::S_IFREG {
            self.files.push(stat.clone());
        } else {
            self.others += 1;
        }
    }

    /// Something could not be looked at: nothing is known of the leaves.
    pub fn miss(&mut self) {
        self.missed = true;
    }

    /// What to tell a sink, if all were seen.
    pub fn leaves(&self) -> Option<Leaves> {
        (!self.missed).then(|| Leaves {
            fingerprint: self.hash.clone().finalize().into(),
            newest: self.newest,
            files: self.files.len() as u64,
            others: self.others,
            bytes: self.files.iter().map(|stat| stat.size).sum(),
        })
    }

    /// The regular files among them.
    pub fn files(&self) -> &[Stat] {
        &self.files
    }
}
