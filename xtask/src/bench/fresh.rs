//! A new file system for every restore. A directory of a file system that many restores of 84,000 files have
//! aged makes the same command take four times as long as on the first day, nearly all of it in the kernel;
//! which of the programs that hits is chance.
//!
//! It is an ext4 image in a sparse file, mounted through a loop device: that needs root and a kernel that lets it.
//! Elsewhere restores go into a plain directory, and the line that names the machine says so.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::corpus;
use crate::test::command::Environment;

/// More than any corpus needs, with an inode for every 8 KiB. What is not written takes no room.
const BYTES: u64 = 16 << 30;

/// A place that one restore goes to.
pub struct Fresh<'a> {
    environment: &'a Environment,
    /// Where it all lies.
    directory: PathBuf,
    /// Where the file system is mounted, as long as it is.
    mounted: Option<PathBuf>,
}

/// True where a file system can be made and mounted. It is tried in a small one.
pub fn possible(environment: &Environment, work: &Path) -> bool {
    let probe = work.join(format!("mount-probe-{}", std::process::id()));
    let able = Fresh::mount(environment, &probe, 16 << 20).is_ok();
    able && !probe.exists()
}

impl<'a> Fresh<'a> {
    /// A plain directory.
    pub fn plain(environment: &'a Environment, directory: &Path) -> Result<Self, String> {
        corpus::discard(directory)?;
        fs::create_dir_all(directory.join("target"))
            .map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
        Ok(Self { environment, directory: directory.to_owned(), mounted: None })
    }

    /// A file system of its own. Its tables are not written in the background while it is used.
    pub fn file_system(environment: &'a Environment, directory: &Path) -> Result<Self, String> {
        Self::mount(environment, directory, BYTES)
    }

    /// The empty directory to restore into.
    pub fn target(&self) -> PathBuf {
        self.mounted.as_deref().unwrap_or(&self.directory).join("target")
    }

    fn mount(environment: &'a Environment, directory: &Path, bytes: u64) -> Result<Self, String> {
        corpus::discard(directory)?;
        let (image, root) = (directory.join("image"), directory.join("root"));
        fs::create_dir_all(&root).map_err(|e| format!("cannot make {}: {e}", root.display()))?;
        let mut made = Self { environment, directory: directory.to_owned(), mounted: None };
        File::create(&image)
            .and_then(|file| file.set_len(bytes))
            .map_err(|e| format!("cannot make {}: {e}", image.display()))?;
        let (from, to) = (image.to_string_lossy(), root.to_string_lossy());
        made.call("mkfs.ext4", &["-q", "-F", "-i", "8192", "-E", "lazy_itable_init=1", &from])?;
        made.call("mount", &["-o", "loop,noinit_itable", &from, &to])?;
        let target = root.join("target");
        made.mounted = Some(root);
        // The root has a `lost+found`, which no corpus has.
        fs::create_dir(&target).map_err(|e| format!("cannot make {}: {e}", target.display()))?;
        Ok(made)
    }

    fn call(&self, program: &str, args: &[&str]) -> Result<(), String> {
        match self.environment.output(program, args) {
            Some(_) => Ok(()),
            None => Err(format!("`{program} {}` failed", args.join(" "))),
        }
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if let Some(root) = &self.mounted
            && let Err(failure) = self.call("umount", &[&root.to_string_lossy()])
        {
            // What is mounted must not be removed through its mount.
            eprintln!("{failure}");
            return;
        }
        if let Err(failure) = corpus::discard(&self.directory) {
            eprintln!("{failure}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::smoke::scratch;

    #[test]
    fn every_place_begins_empty_and_leaves_nothing() {
        type Make = fn(&'static Environment, &Path) -> Result<Fresh<'static>, String>;
        let work = scratch("fresh");
        let environment = Environment::new(crate::root()).unwrap();
        let directory = work.join("restored");
        let mut kinds: Vec<Make> = vec![Fresh::plain];
        let environment: &'static Environment = Box::leak(Box::new(environment));
        if possible(environment, &work) {
            kinds.push(Fresh::file_system);
        } else {
            println!("not tested: a file system for a restore (it cannot be mounted here)");
        }
        for make in kinds {
            for _ in 0..2 {
                let fresh = make(environment, &directory).unwrap();
                assert_eq!(fs::read_dir(fresh.target()).unwrap().count(), 0);
                fs::write(fresh.target().join("file"), "restored").unwrap();
                drop(fresh);
                assert!(!directory.exists());
            }
        }
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
        fs::remove_dir_all(&work).unwrap();
    }
}
