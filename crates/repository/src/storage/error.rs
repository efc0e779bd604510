//! Why a storage did not do what it was asked.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// Why a storage operation failed, as far as the repository and its user care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// The object is not there.
    NotFound,
    /// The object is there already, and objects are never overwritten.
    AlreadyExists,
    /// The storage is full, or its quota is used up. Helps: room.
    NoSpace,
    /// The storage refuses us, or is read-only. Helps: other credentials or permissions.
    PermissionDenied,
    /// No answer came within the operation's deadline. It may have been done all the same.
    TimedOut,
    /// The storage is not there, or too busy, for now. Helps: trying again later.
    Unavailable,
    /// The location or an option cannot be used; nothing was tried.
    Invalid,
    /// Anything else, such as a failing disk.
    Other,
}

/// A failed storage operation.
#[derive(Debug, Clone)]
pub struct StorageError {
    /// What was tried, such as `put`.
    pub operation: &'static str,
    /// The object's name below the repository's root.
    pub name: String,
    /// The class of the failure.
    pub kind: StorageErrorKind,
    /// The storage's own words.
    pub message: String,
    /// The operating system's error number, where it gave one.
    pub errno: Option<i32>,
}

impl StorageError {
    /// An error of this kind, told in the storage's words.
    pub fn new(
        operation: &'static str,
        name: &str,
        kind: StorageErrorKind,
        message: impl fmt::Display,
    ) -> Self {
        let message = message.to_string();
        Self { operation, name: name.to_owned(), kind, message, errno: None }
    }

    /// An error of [`StorageErrorKind::Other`].
    pub fn other(operation: &'static str, name: &str, message: impl fmt::Display) -> Self {
        Self::new(operation, name, StorageErrorKind::Other, message)
    }

    /// The operating system's error, in the kind that its number belongs to.
    pub fn io(operation: &'static str, name: &str, error: &io::Error) -> Self {
        let errno = error.raw_os_error();
        let kind = errno.map_or_else(|| kind_of(error.kind()), kind_of_errno);
        Self { errno, ..Self::new(operation, name, kind, error) }
    }

    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == StorageErrorKind::NotFound
    }

    /// Whether there is no room left for it.
    pub fn is_no_space(&self) -> bool {
        self.kind == StorageErrorKind::NoSpace
    }

    /// Whether the same call may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, StorageErrorKind::TimedOut | StorageErrorKind::Unavailable)
    }

    /// Whether the disk cannot read what lies there (EIO), as opposed to a storage out of reach.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.errno == Some(Errno::EIO as i32)
    }

    /// What to do about it, as far as the storage can tell.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match (self.errno.map(Errno::from_raw), self.kind) {
            (Some(Errno::EMFILE | Errno::ENFILE), _) => {
                "too many files are open: raise the limit (ulimit -n, LimitNOFILE= of the service)"
            }
            (Some(Errno::EIO), _) => {
                "the disk or the way to it is failing: see the kernel's log, and run a check \
                 once that is mended"
            }
            (Some(Errno::EDQUOT), _) => "the quota is used up: raise it, or prune",
            (Some(Errno::EROFS), _) => "the file system is mounted read-only",
            (Some(Errno::ESTALE | Errno::ENOTCONN), _) => "mount the file system anew",
            (_, StorageErrorKind::NoSpace) => "the storage is full: make room there, or prune",
            (_, StorageErrorKind::PermissionDenied) => {
                "give this user or these credentials access to the storage"
            }
            (_, StorageErrorKind::TimedOut) => {
                "see that the storage and the way to it are well (its disk, mount or server), then \
                 try again"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.name, self.message)?;
        match self.advice() {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StorageError {}

fn kind_of_errno(number: i32) -> StorageErrorKind {
    match Errno::from_raw(number) {
        Errno::ENOENT | Errno::ENOTDIR => StorageErrorKind::NotFound,
        Errno::EEXIST => StorageErrorKind::AlreadyExists,
        Errno::ENOSPC | Errno::EDQUOT => StorageErrorKind::NoSpace,
        Errno::EACCES | Errno::EPERM | Errno::EROFS => StorageErrorKind::PermissionDenied,
        Errno::ETIMEDOUT => StorageErrorKind::TimedOut,
        // Ours or the machine's files or memory are used up, or a network mount lost its server.
        Errno::EMFILE
        | Errno::ENFILE
        | Errno::ENOMEM
        | Errno::EAGAIN
        | Errno::EBUSY
        | Errno::ENOTCONN
        | Errno::ESTALE
        | Errno::EHOSTDOWN
        | Errno::EHOSTUNREACH
        | Errno::ENETDOWN
        | Errno::ENETUNREACH
        | Errno::ECONNREFUSED
        | Errno::ECONNRESET
        | Errno::ECONNABORTED => StorageErrorKind::Unavailable,
        _ => StorageErrorKind::Other,
    }
}

fn kind_of(kind: io::ErrorKind) -> StorageErrorKind {
    match kind {
        io::ErrorKind::NotFound => StorageErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => StorageErrorKind::AlreadyExists,
        io::ErrorKind::PermissionDenied => StorageErrorKind::PermissionDenied,
        io::ErrorKind::TimedOut => StorageErrorKind::TimedOut,
        _ => StorageErrorKind::Other,
    }
}
