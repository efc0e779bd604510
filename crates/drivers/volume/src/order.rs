//! What a caller asks of a restore.
//!
//! The keys are those that AWS Backup documents for Amazon EBS, and some of our own:
//!
//! | key | here |
//! |---|---|
//! | `volumeId` | required; `vol-…`, the resource the recovery point was made of |
//! | `targetPath` | ours: a new image, or a block device with `overwriteDevice`; by default `SOURCE-restored-` and 8 digits of the job beside an image. Not in the server's own data directory |
//! | `sourcePath` | ours: where the source lay at the capture |
//! | `format` | ours: `raw` or `qcow2`, of the new image; by default what the name of the target says |
//! | `layout` | ours: `file`, the default; or `directory`: `targetPath` is a new directory, which holds `volume.raw` or `volume.qcow2` |
//! | `overwriteDevice` | ours: `true` writes over the block device at `targetPath`, which nothing may use and which must be large enough; `false` is the default |
//! | `verify` | ours: `true`, the default: what was written is read back and compared before it is put in place; or `false` |
//! | `volumeSize` | GiB of the new image, at least those of the volume; what is behind it is zeros |
//! | `CreationToken` | 1 to 64 characters; what it protects from, a second copy, cannot happen to a target that must not exist |
//! | `availabilityZone` | answered with a note: the volume is restored on the server's host |
//! | `encrypted` | `true` or `false`; an image is as encrypted as what it lies on, and `true` is answered with a note |
//! | `kmsKeyId`, `volumeType`, `iops`, `throughput` | refused: an image has none |

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use provault_domain::Invalid;
use provault_driver::RestoreRequest;

use crate::config::{Format, absolute};

/// The keys of a request, read.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    target: Option<PathBuf>,
    source: Option<PathBuf>,
    format: Option<Format>,
    pub in_directory: bool,
    pub overwrite_device: bool,
    pub verify: bool,
    /// Bytes of the new image, at least.
    pub size: u64,
    pub notes: Vec<String>,
}

impl Order {
    /// Reads the keys. An unknown one is refused by its name.
    pub fn parse(metadata: &BTreeMap<String, String>) -> Result<Self, Invalid> {
        let mut order = Order {
            target: None,
            source: None,
            format: None,
            in_directory: false,
            overwrite_device: false,
            verify: true,
            size: 0,
            notes: Vec::new(),
        };
        if !metadata.contains_key("volumeId") {
            return Err(Invalid::missing("volumeId"));
        }
        for (key, value) in metadata {
            order.take(key, value)?;
        }
        order.check_whole()?;
        Ok(order)
    }

    fn check_whole(&self) -> Result<(), Invalid> {
        if self.overwrite_device {
            if self.target.is_none() {
                return Err(Invalid::missing("targetPath"));
            }
            let alone = [
                ("format", self.format == Some(Format::Qcow2)),
                ("layout", self.in_directory),
                ("volumeSize", self.size > 0),
            ];
            return match alone.into_iter().find(|(_, given)| *given) {
                Some((key, _)) => Err(Invalid::new(
                    key,
                    "it belongs to a new image, and overwriteDevice writes over a device; leave one of the two out.",
                )),
                None => Ok(()),
            };
        }
        match (&self.target, &self.source) {
            (None, None) => Err(Invalid::missing("targetPath")),
            (None, Some(source)) if source.starts_with("/dev") => Err(Invalid::new(
                "targetPath",
                "the source is a device, which no image can be put beside; say where to restore to.",
            )),
            _ => Ok(()),
        }
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), Invalid> {
        let refuse = |why: String| Err(Invalid::new(key, why));
        match key {
            "volumeId" => {
                let id = value.strip_prefix("vol-").unwrap_or_default();
                if !(8..=40).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return refuse(format!("'{value}' is not the id of a volume, vol- and hexadecimal digits."));
                }
            }
            "targetPath" => self.target = Some(absolute(key, value)?),
            "sourcePath" => self.source = Some(absolute(key, value)?),
            "format" => self.format = Some(Format::parse(key, value)?),
            "layout" => match value {
                "file" => self.in_directory = false,
                "directory" => self.in_directory = true,
                _ => return refuse(format!("'{value}' is no layout; there are file and directory.")),
            },
            "overwriteDevice" => self.overwrite_device = switch(key, value)?,
            "verify" => self.verify = switch(key, value)?,
            "volumeSize" => match value.parse::<u64>() {
                Ok(size @ 1..=65536) => self.size = size << 30,
                _ => return refuse(format!("'{value}' is not a number of GiB from 1 to 65536.")),
            },
            "CreationToken" => {
                if !(1..=64).contains(&value.chars().count()) {
                    return refuse("it must have 1 to 64 characters.".to_owned());
                }
            }
            "availabilityZone" => self.notes.push(
                "availabilityZone: the volume is restored on the server's host, whatever zone is named.".to_owned(),
            ),
            "encrypted" => {
                if switch(key, value)? {
                    self.notes.push("encrypted: the restored volume is as encrypted as what it lies on; Provault adds nothing to that.".to_owned());
                }
            }
            "kmsKeyId" => {
                return refuse("no key can be applied to an image; leave it out, and restore onto encrypted storage.".to_owned());
            }
            "volumeType" | "iops" | "throughput" => {
                return refuse("an image or device is as fast as what it lies on; leave it out.".to_owned());
            }
            _ => {
                return refuse("there is no such key; known are volumeId, targetPath, sourcePath, format, layout, overwriteDevice, verify, volumeSize, CreationToken, availabilityZone and encrypted.".to_owned());
            }
        }
        Ok(())
    }

    /// Where to restore to. Without a job's id the name is not the final one, but in the same place.
    pub fn target(&self, job_id: &str) -> Result<PathBuf, Invalid> {
        if let Some(target) = &self.target {
            return Ok(target.clone());
        }
        let source = self.source.as_ref().ok_or_else(|| Invalid::missing("targetPath"))?;
        let mut name = source.file_stem().map(OsString::from).unwrap_or_default();
        name.push("-restored-");
        name.push(short(job_id));
        if let Some(extension) = source.extension() {
            name.push(".");
            name.push(extension);
        }
        Ok(source.with_file_name(name))
    }

    /// The format of the new image.
    pub fn format(&self) -> Format {
        let of_name = || match &self.target {
            Some(target) => Format::of_name(target),
            None => self.source.as_deref().map_or(Format::Raw, Format::of_name),
        };
        // Nothing but itself names the image in a directory.
        self.format.unwrap_or_else(|| if self.in_directory { Format::Raw } else { of_name() })
    }

    /// A name for the restored resource, as `validate_name` of the domain wants it.
    pub fn resource_name(&self, job_id: &str) -> String {
        let base = self.source.as_ref().or(self.target.as_ref()).and_then(|p| p.file_name());
        let base = base.map(|b| b.to_string_lossy().into_owned()).unwrap_or_default();
        let mut name: String = base
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(46)
            .collect();
        if name.is_empty() {
            name.push_str("volume");
        }
        format!("{name}-restored-{}", short(job_id))
    }
}

fn short(job_id: &str) -> &str {
    job_id.get(..8).unwrap_or(job_id)
}

fn switch(key: &str, value: &str) -> Result<bool, Invalid> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Invalid::new(key, format!("'{value}' is neither true nor false."))),
    }
}

/// The job's id becomes part of file names, so it must be fit for that.
pub(crate) fn job_id<'a>(request: &RestoreRequest<'a>) -> Result<&'a str, Invalid> {
    let id = request.job_id;
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if (1..=64).contains(&id.len()) && plain {
        return Ok(id);
    }
    Err(Invalid::new("RestoreJobId", format!("'{}' is not a job's id.", id.escape_debug())))
}
