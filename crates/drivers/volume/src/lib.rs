//! The driver of volumes: a block device, or a raw or qcow2 image.
//!
//! **Capture** reads every block that is not known to be zeros, at random and by several threads; the vault
//! keeps what it does not have yet. A volume is one moment or nothing: one that something may be
//! writing to is refused (a mount, swap, a machine, any process that has it open for writing), a device is
//! held so that nothing can begin to use it meanwhile, and an image whose times change while it is read
//! fails. With `whileInUse: snapshot` an image is copied at one stroke by its file system, and what is
//! mounted from it stands still meanwhile ([`mod@freeze`]). Only `whileInUse: as-is` lets it be, and the
//! recovery point says so.
//!
//! **Increments** of a qcow2 image can count from a dirty bitmap in it (`bitmap`); all others
//! read everything and store what is new.
//!
//! **Restore** makes a new image, which is complete or absent, or writes over a device that nothing uses
//! and that is large enough, when that is asked for.
//!
//! Invariants:
//!
//! * A capture writes nothing, but for the bitmaps of a resource whose settings say so.
//! * A block that cannot be read ends the capture: a volume without it is none.
//! * The format is what the settings say. It is never guessed from the content, which whoever writes into a
//!   raw volume could make look like anything.
//! * No program outlives this process (`qemu`).
//! * The server's own data directories hold no source and, but for the copies of restore tests, no target.
//!
//! The settings of a resource are one JSON object:
//!
//! | key | meaning | default |
//! |---|---|---|
//! | `path` | the device or image, absolute, without `..` | required |
//! | `format` | `raw` or `qcow2` | `qcow2` when the name ends so, else `raw` |
//! | `changedBlocks` | `hash`, or for qcow2 `bitmap`: keep a dirty bitmap in the image | `hash` |
//! | `hooks` | name of a directory of hooks (`hooks`), programs that run before and after the capture | none |
//! | `hookSeconds`, `heldSeconds` | how long each hook may take, and how long may pass between them | 60, 3600 |
//! | `whileInUse` | what to do while something may be writing to it: `refuse`; for a raw image `snapshot`, copy it at one stroke (`snapshot`); for raw `as-is`, read it all the same | `refuse` |

mod bitmap;
mod capture;
mod config;
mod discover;
mod filesystem;
pub mod freeze;
mod hooks;
mod nbd;
mod order;
mod qemu;
mod raw;
mod restore;
mod snapshot;
mod usage;
mod verify;
mod watchdog;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use provault_domain::verdict::ProbeResult;
use provault_domain::{Invalid, Kind, Resource};
use provault_driver::reserved::Reserved;
use provault_driver::{
    BlockSource, CancelFlag, Capture, Counted, DiscoverRequest, Discovery, Driver, DriverError,
    PreviewCounts, RestoreOutcome, RestorePreview, RestoreRequest, Source, WorkContext,
};

use crate::bitmap::Bitmaps;
use crate::capture::{VolumeCapture, io_error, look};
use crate::config::{Changes, Config, Format};
use crate::discover::Host;
use crate::order::Order;
use crate::qemu::Image;
use crate::raw::RawBlocks;
use crate::restore::{Place, Run, copy_image};

/// The name of the volume in its recovery point.
pub const VOLUME: &[u8] = b"disk";

/// Captures and restores volumes of the host it runs on.
#[derive(Debug, Clone, Default)]
pub struct VolumeDriver {
    reserved: Reserved,
    hooks: Option<PathBuf>,
    host: Host,
}

impl VolumeDriver {
    /// A driver that reserves nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A driver that neither backs up what lies in the server's own data directories nor lets anybody ask
    /// for a restore into them. [`Driver::restore`] does not refuse that: the server itself restores
    /// copies there to test them.
    pub fn reserving(reserved: Reserved) -> Self {
        Self { reserved, ..Self::default() }
    }

    /// The same, but [`Driver::discover`] takes `root` for the root of the host: for tests.
    #[must_use]
    pub fn discovering(self, root: PathBuf) -> Self {
        Self { host: Host::at(root), ..self }
    }

    /// The same, whose resources may have hooks: each names a directory in this one.
    #[must_use]
    pub fn with_hooks(self, hooks: PathBuf) -> Self {
        Self { hooks: Some(hooks), ..self }
    }
}

impl Driver for VolumeDriver {
    fn kind(&self) -> Kind {
        Kind::Volume
    }

    fn check_config(&self, config: &serde_json::Value) -> Result<serde_json::Value, Invalid> {
        let config = Config::parse(config)?;
        let wrong = |error: DriverError| Invalid::new("path", format!("{error}"));
        look(&config.path).map_err(|error| match error {
            DriverError::SourceMissing { path, reason } => {
                Invalid::new("path", format!("{} cannot be used: {reason}", path.display()))
            }
            other => wrong(other),
        })?;
        self.reserved.refuse_source(&config.path)?;
        if let Some(hooks) = &config.hooks {
            hooks.check(self.hooks.as_deref())?;
        }
        if config.format == Format::Qcow2 {
            match Image::new(&config.path).info() {
                // One that a machine runs on is looked at when it is backed up.
                Err(error) if qemu::is_busy(&error) => {}
                looked => drop(looked.map_err(wrong)?),
            }
        }
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
        Ok(Box::new(VolumeCapture::open(config, &self.reserved, self.hooks.clone())?))
    }

    fn restore_metadata(&self, resource: &Resource) -> BTreeMap<String, String> {
        let text = |key: &str| resource.config[key].as_str().unwrap_or_default();
        let id = resource.arn.resource().strip_prefix("volume/").unwrap_or_default();
        let mut metadata: BTreeMap<String, String> =
            [("volumeId", id), ("encrypted", "false"), ("sourcePath", text("path"))]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
        // No image can be put beside a device.
        if Path::new(text("path")).starts_with("/dev") {
            let name = Path::new(text("path")).file_name().unwrap_or_default().to_string_lossy();
            let target = format!("/var/tmp/{name}-restored.img");
            metadata.insert("targetPath".to_owned(), target);
        }
        metadata
    }

    fn check_restore(&self, metadata: &BTreeMap<String, String>) -> Result<(), Invalid> {
        let order = Order::parse(metadata)?;
        self.reserved.refuse_target("targetPath", &order.target("")?)
    }

    fn writes_over(&self, metadata: &BTreeMap<String, String>) -> Result<Option<String>, Invalid> {
        let order = Order::parse(metadata)?;
        if !order.overwrite_device {
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
        Run::new(request, source, context)?.run()
    }

    fn resume(
        &self,
        request: &RestoreRequest<'_>,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<RestoreOutcome, DriverError> {
        Run::new(request, source, context)?.resume()
    }

    fn preview(
        &self,
        request: &RestoreRequest<'_>,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<RestorePreview, DriverError> {
        let run = Run::new(request, source, context)?;
        let (place, size) = run.prepare()?;
        let (mut counts, in_place) = (PreviewCounts::default(), run.order.overwrite_device);
        let one = Counted { entries: 1, bytes: size };
        if in_place {
            counts.overwritten = one;
        } else {
            counts.created = one;
        }
        Ok(RestorePreview {
            target: place.target.display().to_string(),
            in_place,
            counts,
            ..RestorePreview::default()
        })
    }

    fn leave_unverified(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.insert("verify".to_owned(), "false".to_owned());
    }

    fn discard_partial(&self, request: &RestoreRequest<'_>) -> Result<(), DriverError> {
        let order = Order::parse(request.metadata)?;
        let job = order::job_id(request)?;
        // A device has nothing beside it.
        if order.overwrite_device {
            return Ok(());
        }
        Place::of(&order, job)?.discard()
    }

    fn writes_in_place(&self, metadata: &BTreeMap<String, String>) -> Option<PathBuf> {
        let order = Order::parse(metadata).ok()?;
        if order.overwrite_device { order.target("").ok() } else { None }
    }

    fn direct_to_copy(&self, metadata: &mut BTreeMap<String, String>, copy: &Path) {
        let mine = [
            ("targetPath", &*copy.to_string_lossy()),
            ("layout", "directory"),
            ("format", Format::Raw.as_str()),
        ];
        metadata.extend(mine.map(|(key, value)| (key.to_owned(), value.to_owned())));
        // Never a device, whatever was asked; and the size of the source.
        metadata.remove("overwriteDevice");
        metadata.remove("volumeSize");
        self.leave_unverified(metadata);
    }

    fn check_copy(
        &self,
        copy: &Path,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<Option<ProbeResult>, DriverError> {
        let stored = source.volume(VOLUME)?;
        let image = copy_image(copy);
        let answer = |passed, detail| {
            Ok(Some(ProbeResult {
                label: "blocks".to_owned(),
                passed,
                detail,
                http_status: None,
                millis: 0,
                output: None,
            }))
        };
        // What was restored lies in the copy itself, and is no link to anything else.
        if !std::fs::symlink_metadata(&image).is_ok_and(|found| found.is_file()) {
            return answer(false, "the restored image is gone".to_owned());
        }
        let blocks = RawBlocks::open(&image, false).map_err(io_error("opening", &image))?;
        let wrong = |error: std::io::Error| io_error("reading", &image)(error);
        let size = stored.size();
        if let Some(found) = verify::compare(&blocks, stored.as_ref(), size, context.cancel, wrong)?
        {
            return answer(false, format!("the restored image {}", found.what));
        }
        let compared = format!("{} bytes are as captured", blocks.size());
        let checked = filesystem::check(&image, &blocks, context.cancel)?;
        answer(checked.sound, format!("{compared}; {}", checked.what))
    }

    fn keeps_bases(&self, resource: &Resource) -> bool {
        Config::parse(&resource.config).is_ok_and(|config| config.changes == Changes::Bitmap)
    }

    fn give_back(&self, resource: &Resource, kept: &[String]) -> Result<(), DriverError> {
        let config = Config::parse(&resource.config)?;
        if config.changes != Changes::Bitmap {
            return Ok(());
        }
        Bitmaps::of(&Image::new(&config.path))?.give_back(kept)
    }

    fn discover(
        &self,
        request: &DiscoverRequest<'_>,
        cancel: &CancelFlag,
    ) -> Result<Discovery, DriverError> {
        discover::run(&self.host, &self.reserved, request, cancel)
    }
}
