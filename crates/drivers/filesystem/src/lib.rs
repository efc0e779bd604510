//! The driver of file systems: a directory tree on a host.
//!
//! **Capture** walks the tree depth first, names sorted by their bytes, and keeps everything:
//! modes with set-user-id and sticky, owners by number and name, nanosecond times, extended
//! attributes and with them ACLs, hard links, link targets as bytes, devices, pipes, sockets, and
//! the holes of sparse files. A tree is no snapshot: what changes while it is read is read again,
//! and what keeps changing is kept as it was read and noted.
//!
//! **Restore** makes a new directory, or puts single items into one, and never writes over
//! anything; or it restores in place, and writes over what the order's mode lets it.
//!
//! Invariants:
//!
//! * The walk never leaves the root: every directory is opened from its parent's descriptor and no
//!   symbolic link is followed, so nobody can swap one in.
//! * A file in the capture has exactly the size that its metadata tells.
//! * What is in [`CaptureReport::skipped`](provault_driver::CaptureReport) is not in the capture
//!   (or, where the reason says so, lacks its extended attributes); what vanished on the way is a
//!   note, because it is no longer part of the source.
//! * Entries of a repository are not trusted: `guard` checks them before anything is made, and
//!   everything is made by descriptors that no link can bend.
//! * What a restore makes bears its job's id until it is complete, and is then renamed in place,
//!   once it was read back. In place, too, nothing changes before all of it is written and compared.
//! * The server's own data directories (see [`FilesystemDriver::reserving`]) never get into a
//!   backup, and nobody may ask for a restore into them; a restore in place around one leaves it be.
//! * A discovery only looks, and at nothing but the directories and mounts of disks: a mount of a server
//!   that is gone cannot hold it up.
//! * Every name of a file counts as a file; its bytes count once, however many names it has. The
//!   report of a capture and the outcome of its restore are equal.
//!
//! The settings of a resource are one JSON object:
//!
//! | key | meaning | default |
//! |---|---|---|
//! | `path` | the directory, absolute, without `..` | required |
//! | `include` | globs of what is backed up; see below | everything |
//! | `exclude` | globs of what is not; wins over `include` | nothing |
//! | `oneFileSystem` | other file systems mounted below stay empty directories, with a note | `true` |
//! | `allowEmpty` | an empty directory may be backed up | `false` |
//! | `requireMount` | refuse to back up unless `path` is a mount point | `false` |
//!
//! Globs are matched against the whole path relative to `path`: `*` stops at `/`, `**` does not.
//! `cache` is an entry of the root, `**/cache` one anywhere; an excluded directory is not entered.

mod apply;
mod at;
mod capture;
mod compare;
mod config;
mod content;
mod discover;
mod estimate;
mod exchange;
mod guard;
mod inodes;
mod merge;
mod mounts;
mod order;
mod outside;
mod owners;
pub mod patterns;
mod plan;
mod progress;
mod reserved;
mod restore;
mod rules;
mod selection;
mod staging;
mod survey;
mod verify;
mod walk;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;

use provault_domain::{Invalid, Kind, Resource};
use provault_driver::{
    CancelFlag, Capture, DiscoverRequest, Discovery, Driver, DriverError, RestoreOutcome,
    RestorePreview, RestoreRequest, Source, WorkContext,
};

use crate::capture::TreeCapture;
use crate::config::Config;
use crate::discover::Host;
use crate::order::Order;
use crate::restore::Run;
use provault_driver::reserved::Reserved;

/// Captures and restores directory trees of the host it runs on.
#[derive(Debug, Clone, Default)]
pub struct FilesystemDriver {
    reserved: Reserved,
    host: Host,
}

impl FilesystemDriver {
    /// A driver that reserves nothing.
    pub fn new() -> Self {
        Self { reserved: Reserved::none(), host: Host::this() }
    }

    /// A driver that keeps out of the server's own data directories, which need not exist yet:
    ///
    /// * [`Driver::check_config`] and [`Driver::capture`] refuse a `path` that is one or lies in
    ///   one;
    /// * in a capture of a tree that contains one, it is an empty directory, with a note;
    /// * [`Driver::check_restore`] refuses a target, also the default one and that of every item,
    ///   that is one or lies in one. [`Driver::restore`] does not: the server itself restores
    ///   copies there to test them.
    ///
    /// They are told by device and inode as well as by name. A bind mount of a part of one, made
    /// elsewhere, is not recognised.
    pub fn reserving(directories: Vec<PathBuf>) -> Self {
        Self { reserved: Reserved::new(directories), host: Host::this() }
    }

    /// The same for directories on other disks, which are told by their names alone and never looked
    /// at, as the mount of one may hang. The names are absolute and without links.
    #[must_use]
    pub fn and_by_name(self, directories: Vec<PathBuf>) -> Self {
        self.reserve_by_name(directories);
        self
    }

    /// What it keeps out of, for the drivers of other kinds.
    pub fn reserved(&self) -> Reserved {
        self.reserved.clone()
    }

    /// The same for a driver at work, and all its clones: it holds for what begins from now on.
    pub fn reserve_by_name(&self, directories: Vec<PathBuf>) {
        self.reserved.by_name(directories);
    }

    /// The same, but [`Driver::discover`] takes `root` for the root of the host, and `mounts` for the
    /// list of its mounts, as in `/proc/self/mountinfo`: for tests.
    #[must_use]
    pub fn discovering(mut self, root: PathBuf, mounts: PathBuf) -> Self {
        self.host = Host::at(root, mounts);
        self
    }
}

impl Driver for FilesystemDriver {
    fn kind(&self) -> Kind {
        Kind::Filesystem
    }

    fn check_config(&self, config: &serde_json::Value) -> Result<serde_json::Value, Invalid> {
        let config = Config::parse_for_registration(config)?;
        self.reserved.refuse_source(&config.path)?;
        Ok(config.to_value())
    }

    fn identity(&self, config: &serde_json::Value) -> String {
        config["path"].as_str().unwrap_or_default().to_owned()
    }

    fn capture(
        &self,
        resource: &Resource,
        cancel: &CancelFlag,
    ) -> Result<Box<dyn Capture>, DriverError> {
        capture::check(cancel)?;
        let config = Config::parse(&resource.config)?;
        Ok(Box::new(TreeCapture::open(config, &self.reserved)?))
    }

    fn restore_metadata(&self, resource: &Resource) -> BTreeMap<String, String> {
        let id = resource.arn.resource().strip_prefix("file-system/").unwrap_or_default();
        [
            ("file-system-id", id),
            ("newFileSystem", "true"),
            ("sourcePath", resource.config["path"].as_str().unwrap_or_default()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    fn check_restore(&self, metadata: &BTreeMap<String, String>) -> Result<(), Invalid> {
        let order = Order::parse(metadata)?;
        order.keep_out_of(&self.reserved)?;
        order.check_target()
    }

    fn writes_over(&self, metadata: &BTreeMap<String, String>) -> Result<Option<String>, Invalid> {
        let order = Order::parse(metadata)?;
        if !order.in_place {
            return Ok(None);
        }
        Ok(Some(order.target("")?.to_string_lossy().into_owned()))
    }

    fn restore(
        &self,
        request: &RestoreRequest<'_>,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<RestoreOutcome, DriverError> {
        restore::run(request, source, context, &self.reserved, Run::First)
    }

    fn resume(
        &self,
        request: &RestoreRequest<'_>,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<RestoreOutcome, DriverError> {
        restore::run(request, source, context, &self.reserved, Run::Again)
    }

    fn preview(
        &self,
        request: &RestoreRequest<'_>,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<RestorePreview, DriverError> {
        restore::preview(request, source, context, &self.reserved)
    }

    fn leave_unverified(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.insert("verify".to_owned(), "false".to_owned());
    }

    fn discard_partial(&self, request: &RestoreRequest<'_>) -> Result<(), DriverError> {
        let order = Order::parse(request.metadata)?;
        let job = order::job_id(request)?;
        staging::discard(&order.target(job)?, job)
    }

    fn discover(
        &self,
        request: &DiscoverRequest<'_>,
        cancel: &CancelFlag,
    ) -> Result<Discovery, DriverError> {
        discover::run(&self.host, &self.reserved, request, cancel)
    }
}
