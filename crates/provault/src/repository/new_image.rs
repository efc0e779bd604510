//! A new image, which gets its name when it is complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use provault_repository::RawTarget;
use uuid::Uuid;

/// An image that is written under a name beside its own. Dropped before it is complete, it is removed.
pub(super) struct NewImage {
    target: RawTarget,
    beside: PathBuf,
    path: PathBuf,
}

impl NewImage {
    /// Makes an image of `size` bytes, all of it a hole. Where `path` exists it is refused.
    pub(super) fn create(path: &Path, size: u64) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) => return Err(Errno::EEXIST.into()),
            Err(error) => return Err(error),
        }
        let name = path.file_name().ok_or(Errno::EISDIR)?.as_bytes();
        let tail = format!(".provault-{}", Uuid::new_v4().simple());
        // No name is longer than 255 bytes.
        let mut beside = b".".to_vec();
        beside.extend_from_slice(&name[..name.len().min(254 - tail.len())]);
        beside.extend_from_slice(tail.as_bytes());
        let beside = path.with_file_name(OsString::from_vec(beside));
        let target = RawTarget::create(&beside, size)?;
        Ok(Self { target, beside, path: path.to_owned() })
    }

    /// Where its bytes go.
    pub(super) fn target(&self) -> &RawTarget {
        &self.target
    }

    /// Gives it its name. What has come to have it meanwhile stays, and is the error.
    pub(super) fn put_in_place(self) -> io::Result<()> {
        renameat2(AT_FDCWD, &self.beside, AT_FDCWD, &self.path, RenameFlags::RENAME_NOREPLACE)?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for NewImage {
    fn drop(&mut self) {
        // In place, it is not there any more.
        if let Err(error) = fs::remove_file(&self.beside)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.beside.display(), %error, "an unfinished image is left");
        }
    }
}

#[cfg(test)]
mod tests {
    use provault_repository::VolumeTarget;

    use super::*;

    fn names(dir: &Path) -> Vec<OsString> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn it_has_its_name_only_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n".repeat(255));
        let image = NewImage::create(&path, 10).unwrap();
        image.target().write_at(3, b"abc").unwrap();
        assert!(!path.exists() && names(dir.path()).len() == 1);
        drop(image);
        assert_eq!(names(dir.path()), Vec::<OsString>::new());

        let image = NewImage::create(&path, 10).unwrap();
        image.target().write_at(3, b"abc").unwrap();
        image.put_in_place().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"\0\0\0abc\0\0\0\0");
        assert_eq!(names(dir.path()).len(), 1);
        let exists = NewImage::create(&path, 10).map(drop).unwrap_err();
        assert_eq!(exists.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn what_has_taken_the_name_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        let image = NewImage::create(&path, 10).unwrap();
        fs::write(&path, "somebody's").unwrap();
        let taken = image.put_in_place().unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"somebody's");
        assert_eq!(names(dir.path()), ["disk.img"]);
    }
}
