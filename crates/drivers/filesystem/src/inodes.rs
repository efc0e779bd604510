//! Counting the content of files that have several names.
//!
//! A recovery point lists every name of a file, and its content is stored and restored once. So
//! names are counted as files, one each, and bytes once for an inode. Captures, their estimates
//! and restores count by this one rule, and so agree about the same tree.

use std::collections::HashSet;

use provault_driver::Metadata;

use crate::at::Stat;

/// What one name of a regular file leads to.
///
/// The size tells contents of one inode apart: a file that grew between the captures of two of
/// its names is restored as two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    device: u64,
    inode: u64,
    size: u64,
    shared: bool,
}

impl From<&Stat> for Content {
    fn from(stat: &Stat) -> Self {
        let Stat { device, inode, size, links, .. } = *stat;
        Self { device, inode, size, shared: links > 1 }
    }
}

impl From<&Metadata> for Content {
    fn from(metadata: &Metadata) -> Self {
        let Metadata { device, inode, size, links, .. } = *metadata;
        Self { device, inode, size, shared: links > 1 }
    }
}

/// The contents counted so far, of those that may come again.
#[derive(Debug, Default)]
pub(crate) struct Inodes(HashSet<Content>);

impl Inodes {
    /// Bytes that `content` would add.
    pub fn bytes(&self, content: Content) -> u64 {
        if self.0.contains(&content) { 0 } else { content.size }
    }

    /// Counts it: the bytes that it adds.
    pub fn add(&mut self, content: Content) -> u64 {
        let bytes = self.bytes(content);
        if content.shared {
            self.0.insert(content);
        }
        bytes
    }
}
