//! Volumes that stand on the host and are no resource.
//!
//! Offered are images where machines keep them, and devices that hold something and are no file system
//! that is mounted: what is mounted is offered as a directory. Nothing of a device is read but its first
//! bytes. A device that something is made of (LVM, RAID) is not offered; what is made of it is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use provault_driver::reserved::Reserved;
use provault_driver::{
    BlockSource, CancelFlag, Coverage, DiscoverRequest, Discovered, Discovery, DriverError,
};

use crate::capture::{check, settings};
use crate::config::Format;
use crate::filesystem::{Found, recognise};
use crate::raw::RawBlocks;
use crate::usage::kernel_users;

/// Where machines keep their images.
const IMAGES: [&str; 4] = [
    "var/lib/libvirt/images",
    "var/lib/vz/images",
    "var/lib/incus/virtual-machines",
    "var/lib/xen/images",
];
/// How deep below that.
const DEPTH: usize = 3;

/// The host, or what a test takes for it.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

impl Host {
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }
}

struct Look<'a> {
    request: &'a DiscoverRequest<'a>,
    reserved: &'a Reserved,
    cancel: &'a CancelFlag,
    seen: u64,
    discovery: Discovery,
}

pub(crate) fn run(
    host: &Host,
    reserved: &Reserved,
    request: &DiscoverRequest<'_>,
    cancel: &CancelFlag,
) -> Result<Discovery, DriverError> {
    let discovery = Discovery::default();
    let mut look = Look { request, reserved, cancel, seen: 0, discovery };
    for place in IMAGES {
        look.images(&host.root.join(place), 0)?;
    }
    look.devices(&host.root.join("sys/class/block"), &host.root.join("dev"))?;
    look.discovery.found.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(look.discovery)
}

impl Look<'_> {
    /// Whether one more may be looked at.
    fn next(&mut self) -> Result<bool, DriverError> {
        check(self.cancel)?;
        self.seen += 1;
        if self.seen > self.request.max_entries {
            self.discovery.cut = Some(format!("{} names were looked at", self.request.max_entries));
        } else if Instant::now() >= self.request.deadline {
            self.discovery.cut = Some("the time was over".to_owned());
        }
        Ok(self.discovery.cut.is_none())
    }

    fn images(&mut self, dir: &Path, depth: usize) -> Result<(), DriverError> {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !self.next()? {
                return Ok(());
            }
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            if kind.is_dir() && depth < DEPTH {
                self.images(&path, depth + 1)?;
            }
            let known = path.extension().and_then(|e| e.to_str());
            if !kind.is_file() || !matches!(known, Some("qcow2" | "img" | "raw")) {
                continue;
            }
            let Ok(found) = entry.metadata() else { continue };
            let newest = Timestamp::new(found.mtime(), 0).ok();
            let format = Format::of_name(&path);
            let what = format!("{} image of a machine", format.as_str());
            self.offer(path, format, what, found.blocks() * 512, newest);
        }
        Ok(())
    }

    fn devices(&mut self, classes: &Path, dev: &Path) -> Result<(), DriverError> {
        for entry in fs::read_dir(classes).into_iter().flatten().flatten() {
            if !self.next()? {
                return Ok(());
            }
            let (name, at) = (entry.file_name(), entry.path());
            let text = name.to_string_lossy().into_owned();
            // Of memory, of images, without a medium.
            if ["loop", "ram", "zram", "sr", "fd", "nbd"].iter().any(|no| text.starts_with(no)) {
                continue;
            }
            let mapped = fs::read_to_string(at.join("dm/name")).ok();
            let path = match &mapped {
                Some(mapped) => dev.join("mapper").join(mapped.trim()),
                None => dev.join(&name),
            };
            let Ok(found) = fs::metadata(&path) else { continue };
            if !kernel_users(found.rdev()).is_empty() {
                continue;
            }
            // One that is held, or without a medium, cannot be opened.
            let Ok(blocks) = RawBlocks::open(&path, true) else { continue };
            let what = match recognise(&blocks) {
                Ok(Some(Found::Ext { .. })) => "ext4 that is not mounted",
                Ok(Some(Found::Xfs)) => "xfs that is not mounted",
                Ok(Some(Found::Btrfs)) => "btrfs that is not mounted",
                Ok(None) if mapped.is_some() && blocks.size() > 0 => "volume of the volume manager",
                // A whole disk of partitions, or one that holds nothing that is known.
                _ => continue,
            };
            self.offer(path, Format::Raw, what.to_owned(), blocks.size(), None);
        }
        Ok(())
    }

    fn offer(
        &mut self,
        path: PathBuf,
        format: Format,
        what: String,
        bytes: u64,
        newest: Option<Timestamp>,
    ) {
        if self.reserved.holding(&path).is_some() {
            return;
        }
        let location = path.to_string_lossy().into_owned();
        let same = |other: &str| {
            other == location
                || fs::canonicalize(other)
                    .ok()
                    .is_some_and(|real| Some(real) == path.canonicalize().ok())
        };
        let registered = self.request.registered.iter();
        let coverage = registered
            .filter(|resource| resource.config["path"].as_str().is_some_and(same))
            .map(|resource| Coverage::Registered(resource.name.clone()))
            .next()
            .unwrap_or(Coverage::Nothing);
        let advice = (format == Format::Qcow2).then(|| {
            "While its machine runs it cannot be backed up; with --changed-blocks bitmap its increments \
             read only what changed."
                .to_owned()
        });
        let name = self.name(&path);
        let config = settings(path, format);
        self.discovery.found.push(Discovered {
            location,
            what,
            name,
            config,
            bytes,
            files: 1,
            counted: true,
            newest,
            coverage,
            advice,
        });
    }

    /// A name that no resource of this kind has, nor anything offered.
    fn name(&self, path: &Path) -> String {
        let base = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut name: String = base
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(50)
            .collect();
        if name.is_empty() {
            name.push_str("volume");
        }
        let taken = |name: &str| {
            self.request.registered.iter().any(|resource| resource.name == name)
                || self.discovery.found.iter().any(|found| found.name == name)
        };
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name));
        free.unwrap_or(name)
    }
}
