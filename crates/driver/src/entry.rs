//! Entries of a tree: what a capture hands over and a restore gets back.

use jiff::Timestamp;

/// Everything about a file but its name and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with set-user-id, set-group-id and sticky (`st_mode & 0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Name of the owner on the host of the capture, if known.
    pub user: Option<String>,
    /// Name of the group on the host of the capture, if known.
    pub group: Option<String>,
    /// Bytes of content; 0 for what has none.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of content or metadata.
    pub ctime: Timestamp,
    /// Inode number; with `device` it tells hard links apart.
    pub inode: u64,
    /// Device the file lies on.
    pub device: u64,
    /// Number of hard links.
    pub links: u64,
    /// Extended attributes, ACLs among them, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For a sparse file: its data as `(offset, length)` in order; everything else is hole.
    /// `None` when the file has no holes.
    pub data_extents: Option<Vec<(u64, u64)>>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link; the target's bytes as they are.
    Symlink {
        /// Need not be UTF-8.
        target: Vec<u8>,
    },
    /// A block device.
    BlockDevice {
        /// `st_rdev`.
        rdev: u64,
    },
    /// A character device.
    CharDevice {
        /// `st_rdev`.
        rdev: u64,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// A piece of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its length in bytes.
    pub length: u64,
}

/// One entry of a stored tree. In order, its chunks are the file's content: they are the manifest
/// that a restored file is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the resource's root, `/` between names, no `/` at either end; empty for the
    /// root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: NodeKind,
    /// All about it.
    pub metadata: Metadata,
    /// Content of a regular file, in order; empty for everything else.
    pub chunks: Vec<Chunk>,
}

/// Bytes of a path for people: UTF-8 as it is, control characters and other bytes as `\xNN`.
pub fn printable(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    escape(&mut text, byte);
                }
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            escape(&mut text, *byte);
        }
    }
    text
}

fn escape(text: &mut String, byte: u8) {
    text.push_str("\\x");
    for digit in [byte >> 4, byte & 15] {
        text.extend(char::from_digit(u32::from(digit), 16));
    }
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn paths_are_shown_without_harm_to_a_terminal() {
        assert_eq!(printable("plain/ü".as_bytes()), "plain/ü");
        assert_eq!(printable(b"a\n\x1b[2J\xfe\x0f"), "a\\x0a\\x1b[2J\\xfe\\x0f");
    }
}
