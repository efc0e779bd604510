//! An image at one moment, while something writes to it: a copy that shares its blocks.
//!
//! XFS and Btrfs make such a copy (a reflink) in one step, whatever the image's size. File systems that are
//! mounted from the image through a loop device are frozen meanwhile, so that what the copy holds is what
//! an unmount would have left; of a machine that runs on the image it is what a power cut would have.
//!
//! The copy lies beside the image under a name that says whose it is, and loses that name as soon as it is
//! open: a crash leaves nothing but what the next capture removes.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use provault_driver::DriverError;

use crate::capture::io_error;
use crate::freeze::Freeze;
use crate::raw::RawBlocks;
use crate::usage::mounts_of_image;

/// What the names of our copies begin with, behind a dot and the image's name.
const MARK: &str = ".provault-capture-";

fn is_ours(name: &[u8], image: &Path) -> bool {
    let base = image.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let rest = name.strip_prefix(b".").and_then(|rest| rest.strip_prefix(base));
    rest.is_some_and(|rest| rest.starts_with(MARK.as_bytes()))
}

/// Removes copies of captures that died.
fn sweep(image: &Path) -> io::Result<()> {
    let dir = image.parent().unwrap_or(Path::new("/"));
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if is_ours(entry.file_name().as_bytes(), image) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The image as it stands now; what it is worth is said in words.
pub(crate) fn take(image: &Path) -> Result<(RawBlocks, String), DriverError> {
    sweep(image).map_err(io_error("looking beside", image))?;
    let mut name = b".".to_vec();
    name.extend_from_slice(image.file_name().map(OsStrExt::as_bytes).unwrap_or_default());
    name.extend_from_slice(MARK.as_bytes());
    name.extend_from_slice(std::process::id().to_string().as_bytes());
    let copy: PathBuf = image.with_file_name(std::ffi::OsStr::from_bytes(&name));

    let mounts = mounts_of_image(image).map_err(io_error("looking at", image))?;
    let mut frozen = Vec::new();
    for mount in &mounts {
        frozen.push(Freeze::of(mount)?);
    }
    let made = reflink(image, &copy);
    // All of them, whatever was made of it.
    let thawed: Vec<_> = frozen.into_iter().map(Freeze::thaw).collect();
    let opened = made.and_then(|()| {
        let opened = RawBlocks::open(&copy, false).map_err(io_error("opening", &copy));
        fs::remove_file(&copy).map_err(io_error("removing", &copy))?;
        opened
    });
    let blocks = opened?;
    thawed.into_iter().collect::<Result<Vec<_>, _>>()?;
    let note = if mounts.is_empty() {
        "It was captured at one moment while it was in use: as a power cut would have left it."
    } else {
        "It was captured at one moment while its file system, which is mounted, stood still."
    };
    Ok((blocks, note.to_owned()))
}

fn reflink(image: &Path, copy: &Path) -> Result<(), DriverError> {
    let output = Command::new("cp")
        .args(["--reflink=always", "--no-clobber", "--"])
        .arg(image)
        .arg(copy)
        .output()
        .map_err(io_error("copying", image))?;
    if output.status.success() && copy.exists() {
        return Ok(());
    }
    // cp leaves an empty file where the blocks cannot be shared.
    let _ = fs::remove_file(copy);
    let said = String::from_utf8_lossy(&output.stderr);
    let text = format!(
        "no copy that shares its blocks can be made, which XFS and Btrfs can: {}. Stop what writes to it, \
         or let it be read as it is (whileInUse=as-is)",
        said.trim()
    );
    Err(io_error("copying", image)(io::Error::other(text)))
}
