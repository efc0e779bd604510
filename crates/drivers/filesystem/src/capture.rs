//! A directory tree, read into a sink.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use provault_driver::{CancelFlag, Capture, CaptureReport, DriverError, Sink, WorkContext};

use crate::at::{self, Stat};
use crate::config::Config;
use crate::estimate;
use crate::mounts::{is_mount_point, real_path};
use crate::progress;
use crate::reserved::Fence;
use crate::rules::Rules;
use crate::walk::Walk;
use provault_driver::reserved::Reserved;

/// An opened source, found fit to be backed up.
pub(crate) struct TreeCapture {
    config: Config,
    rules: Rules,
    root: File,
    fence: Fence,
}

impl TreeCapture {
    /// Opens the source. Refuses one that is missing, empty or not mounted, unless that is
    /// allowed: such a source is far more often an accident than a wish. Refuses one in a reserved
    /// directory, which a link may lead to since it was registered.
    pub fn open(config: Config, reserved: &Reserved) -> Result<Self, DriverError> {
        let rules = Rules::new(&config.include, &config.exclude)?;
        let root = open_root(&config.path)?;
        let mut fence = Fence::default();
        if !reserved.is_empty() {
            let real = real_path(&root, &config.path)?;
            reserved.refuse_source(&real)?;
            fence = Fence::of(reserved, &real);
        }
        if config.require_mount && !is_mount_point(&root, &config.path)? {
            return Err(DriverError::SourceEmpty {
                path: config.path,
                reason: "should be a mount point and is not.".to_owned(),
            });
        }
        let names = at::names(&root).map_err(io_error("reading", &config.path))?;
        if names.is_empty() && !config.allow_empty {
            return Err(nothing_in(config.path));
        }
        Ok(Self { config, rules, root, fence })
    }
}

fn nothing_in(path: PathBuf) -> DriverError {
    DriverError::SourceEmpty { path, reason: "holds no entries.".to_owned() }
}

impl TreeCapture {
    /// Bytes that the capture will read, as far as they can be counted. It runs beside the capture: two
    /// descriptors of one opening share their place in the directory, and each would miss what the
    /// other reads, so the root is opened once more.
    fn count(&self, over: &CancelFlag) -> Option<u64> {
        let root = at::open_dir(&self.root, b".").ok()?;
        estimate::size(&root, &self.config, &self.rules, &self.fence, over)
    }
}

impl Capture for TreeCapture {
    fn read_into(
        self: Box<Self>,
        sink: &mut dyn Sink,
        context: &WorkContext<'_>,
    ) -> Result<CaptureReport, DriverError> {
        let done = Arc::new(AtomicU64::new(0));
        let count = |over: &CancelFlag| self.count(over);
        let (report, leaves) = progress::report_while(context.progress, &done, count, || {
            let rules = (&self.rules, &self.fence);
            let walk = Walk::new(&self.config, rules, sink, context.cancel, &done);
            walk.run(&self.root)
        })?;
        if leaves == 0
            && report.skipped.is_empty()
            && self.rules.are_selective()
            && !self.config.allow_empty
        {
            return Err(DriverError::SourceEmpty {
                path: self.config.path,
                reason: "holds nothing that its include and exclude globs let through.".to_owned(),
            });
        }
        Ok(report)
    }
}

/// Opens the root, the only place where a symbolic link is followed: the path is the operator's.
fn open_root(path: &Path) -> Result<File, DriverError> {
    let missing = |reason: &str| DriverError::SourceMissing {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    match open_directory(path) {
        Ok(root) => Ok(root),
        Err(Errno::ENOENT) => Err(missing("It does not exist.")),
        Err(Errno::ENOTDIR) => Err(missing("It is not a directory.")),
        Err(Errno::ELOOP) => Err(missing("It is a symbolic link that leads in circles.")),
        Err(error) => Err(io_error("opening", path)(error)),
    }
}

/// Opens a directory by its path, following links, without changing its access time where that
/// is permitted.
pub(crate) fn open_directory(path: &Path) -> nix::Result<File> {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags | OFlag::O_NOATIME, Mode::empty())
        .or_else(|error| match error {
            Errno::EPERM => open(path, flags, Mode::empty()),
            _ => Err(error),
        })
        .map(File::from)
}

/// Ends the work when the flag is up.
pub(crate) fn check(cancel: &CancelFlag) -> Result<(), DriverError> {
    if cancel.is_raised() { Err(DriverError::Cancelled) } else { Ok(()) }
}

/// Wraps the system's answer; for `map_err`.
pub(crate) fn io_error<E: Into<std::io::Error>>(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> DriverError + use<E> {
    let path = path.to_owned();
    move |source| DriverError::Io { doing, path, source: source.into() }
}

/// Whether an error tells of the machine being short of something rather than of one file:
/// then to go on would list every file there is as unreadable.
pub(crate) fn is_shortage(error: &std::io::Error) -> bool {
    let short = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS];
    error.raw_os_error().is_some_and(|code| short.iter().any(|e| *e as i32 == code))
}

/// The device of the root, for telling other file systems from it.
pub(crate) fn device_of(root: &File, path: &Path) -> Result<u64, DriverError> {
    Ok(Stat::of(root).map_err(io_error("looking up", path))?.device)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of a directory come in pieces. A count that begins between two of them must not
    /// take the second.
    #[test]
    fn a_count_takes_no_names_from_a_listing_that_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..3000 {
            std::fs::write(directory.path().join(format!("{n:0>100}")), "x").unwrap();
        }
        let config = serde_json::json!({ "path": directory.path() });
        let capture =
            TreeCapture::open(Config::parse(&config).unwrap(), &Reserved::none()).unwrap();
        let again = capture.root.try_clone().unwrap();
        let mut listing = nix::dir::Dir::from_fd(again.into()).unwrap();
        let mut names = listing.iter();
        let first = names.next().unwrap().unwrap().file_name().to_bytes().to_vec();
        assert_eq!(capture.count(&CancelFlag::new()), Some(3000));
        let rest = names.map(|name| name.unwrap().file_name().to_bytes().to_vec());
        let all: std::collections::BTreeSet<_> = std::iter::once(first).chain(rest).collect();
        assert_eq!(all.len(), 3002, "with '.' and '..'");
    }
}
