//! What a caller asks of a restore.
//!
//! The keys are those that AWS Backup documents for Amazon EFS, and some of our own:
//!
//! | key | here |
//! |---|---|
//! | `file-system-id` | required; `fs-…`, the resource the recovery point was made of |
//! | `newFileSystem` | `true`, the default: to a new directory; `false`: in place, into the source itself or the directory that `targetPath` names |
//! | `targetPath` | ours: where to restore to; by default `SOURCE-restored-` and 8 digits of the job, in place the source; not in the server's own data directory |
//! | `sourcePath` | ours: where the source lay at the capture; the default target is beside it |
//! | `overwrite` | ours, in place only, and required when the target holds anything: `never`, `if-older`, `if-changed` or `always` ([`Overwrite`]) |
//! | `deleteExtra` | ours, in place with `if-changed` or `always` only: `true` deletes what the recovery point does not have; `false` is the default |
//! | `include`, `exclude` | ours: JSON lists of patterns ([`crate::patterns`]); `include` adds to `ItemsToRestore`, `exclude` wins over both |
//! | `verify` | ours: `true`, the default: what was written is read back and compared before it is put in place; or `false` |
//! | `ItemsToRestore` (or `itemsToRestore`, as AWS's example has it) | a JSON list of paths relative to the root; a leading `/` is taken as AWS does |
//! | `CreationToken` | 1 to 64 characters; what it protects from, a second copy, cannot happen to a target that must not exist |
//! | `PerformanceMode` | `generalPurpose`; there is no other |
//! | `Encrypted` | `true` or `false`; a directory is as encrypted as the file system it lies on, and `true` is answered with a note saying so |
//! | `KmsKeyId` | refused: no key can be applied to a directory |
//!
//! Names that are not UTF-8 cannot be written in JSON; the directory that holds them can be asked
//! for.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use provault_domain::Invalid;
use provault_driver::RestoreRequest;

use crate::config::directory;
use crate::patterns::Patterns;
use crate::selection::{Items, Selection};
use provault_driver::reserved::Reserved;

/// The keys of a request, read.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub target: Option<PathBuf>,
    pub source: Option<PathBuf>,
    pub selection: Selection,
    /// Into something that exists, rather than to a new place.
    pub in_place: bool,
    pub overwrite: Option<Overwrite>,
    pub delete_extra: bool,
    pub verify: bool,
    pub notes: Vec<String>,
}

/// What a restore in place may do to what exists and differs. What is not there is always written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrite {
    /// Nothing: what exists stays.
    Never,
    /// Writes over what was changed before what was backed up; what is newer stays.
    IfOlder,
    /// Writes over whatever has another size or another time of change. A file with both the same is
    /// taken for the same.
    IfChanged,
    /// Writes over whatever differs, every file being read to tell; also a directory where a file
    /// belongs, and the reverse.
    Always,
}

impl Overwrite {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "never" => Some(Self::Never),
            "if-older" => Some(Self::IfOlder),
            "if-changed" => Some(Self::IfChanged),
            "always" => Some(Self::Always),
            _ => None,
        }
    }

    /// Whether the target becomes what was backed up, whatever it is now.
    pub fn replaces(self) -> bool {
        matches!(self, Self::IfChanged | Self::Always)
    }
}

/// The modes, for people.
const MODES: &str = "never (what exists stays), if-older (what is newer stays), if-changed (whatever \
                     has another size or time) and always (whatever differs)";

impl Order {
    /// Reads the keys. An unknown one is refused by its name.
    pub fn parse(metadata: &BTreeMap<String, String>) -> Result<Self, Invalid> {
        let mut order = Order {
            target: None,
            source: None,
            selection: Selection::default(),
            in_place: false,
            overwrite: None,
            delete_extra: false,
            verify: true,
            notes: Vec::new(),
        };
        if !metadata.contains_key("file-system-id") {
            return Err(Invalid::missing("file-system-id"));
        }
        for (key, value) in metadata {
            order.take(key, value)?;
        }
        order.check_in_place()?;
        if order.target.is_none() {
            match &order.source {
                None => return Err(Invalid::missing("targetPath")),
                Some(source) if source.file_name().is_none() && !order.in_place => {
                    return Err(Invalid::new(
                        "targetPath",
                        "the source is '/', which nothing can be put beside; say where to restore to.",
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(order)
    }

    /// What belongs to a restore in place alone is refused in another.
    fn check_in_place(&self) -> Result<(), Invalid> {
        if !self.in_place {
            let alone =
                [("overwrite", self.overwrite.is_some()), ("deleteExtra", self.delete_extra)];
            return match alone.into_iter().find(|(_, given)| *given) {
                Some((key, _)) => Err(Invalid::new(
                    key,
                    "it says what becomes of what exists, and a new directory holds nothing; give newFileSystem=false with it, to restore in place.",
                )),
                None => Ok(()),
            };
        }
        if self.delete_extra && !self.overwrite.is_some_and(Overwrite::replaces) {
            return Err(Invalid::new(
                "deleteExtra",
                "it goes with overwrite=if-changed or overwrite=always only: the other modes promise that what is newer stays.",
            ));
        }
        Ok(())
    }

    /// Refuses a restore in place into a directory that is not empty when it does not say what may be
    /// written over.
    pub fn check_target(&self) -> Result<(), Invalid> {
        if !self.in_place || self.overwrite.is_some() {
            return Ok(());
        }
        let target = self.target("")?;
        // What cannot be looked at is found out by the restore.
        let filled = std::fs::read_dir(&target).is_ok_and(|mut names| names.next().is_some());
        self.mode(&target, !filled).map(drop)
    }

    /// The mode of a restore in place into `target`, which is `empty` or not.
    pub fn mode(&self, target: &Path, empty: bool) -> Result<Overwrite, Invalid> {
        match self.overwrite {
            Some(mode) => Ok(mode),
            None if empty => Ok(Overwrite::Never),
            None => {
                let mut missing = Invalid::new(
                    "overwrite",
                    format!(
                        "{} is not empty; say what may be written over. The modes are {MODES}.",
                        target.display()
                    ),
                );
                missing.absent = true;
                Err(missing)
            }
        }
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), Invalid> {
        let refuse = |why: String| Err(Invalid::new(key, why));
        match key {
            "file-system-id" => {
                let id = value.strip_prefix("fs-").unwrap_or_default();
                if !(8..=40).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return refuse(format!("'{value}' is not the id of a file system, fs- and hexadecimal digits."));
                }
            }
            "newFileSystem" => match value {
                "true" => self.in_place = false,
                "false" => self.in_place = true,
                _ => return refuse(format!("'{value}' is neither true (a new directory) nor false (in place).")),
            },
            "overwrite" => match Overwrite::parse(value) {
                Some(mode) => self.overwrite = Some(mode),
                None => return refuse(format!("'{value}' is no mode; there are {MODES}.")),
            },
            "deleteExtra" => self.delete_extra = switch(key, value)?,
            "verify" => self.verify = switch(key, value)?,
            "include" => self.selection.include = patterns(key, value)?,
            "exclude" => self.selection.exclude = patterns(key, value)?,
            "targetPath" => {
                let target = directory(key, value)?;
                if target.file_name().is_none() {
                    return refuse("'/' exists; choose a directory that does not.".to_owned());
                }
                self.target = Some(target);
            }
            "sourcePath" => self.source = Some(directory(key, value)?),
            "ItemsToRestore" | "itemsToRestore" => {
                if self.selection.items.is_some() {
                    return refuse("it is given twice, in two spellings; use one.".to_owned());
                }
                let Ok(list) = serde_json::from_str::<Vec<String>>(value) else {
                    return refuse("it must be a JSON list of paths, such as [\"docs/report.txt\"].".to_owned());
                };
                if list.is_empty() {
                    return refuse("it names nothing; leave it out to restore everything.".to_owned());
                }
                let mut items = Items::default();
                for item in &list {
                    items.add(item)?;
                }
                self.selection.items = Some(items);
            }
            "CreationToken" => {
                if !(1..=64).contains(&value.chars().count()) {
                    return refuse("it must have 1 to 64 characters.".to_owned());
                }
            }
            "PerformanceMode" => {
                if value != "generalPurpose" {
                    return refuse(format!("'{value}' is not available; a directory has no performance mode but generalPurpose."));
                }
            }
            "Encrypted" => match value {
                "false" => {}
                "true" => self.notes.push(
                    "Encrypted: the restored directory is as encrypted as the file system it lies on; Provault adds nothing to that.".to_owned(),
                ),
                _ => return refuse(format!("'{value}' is neither true nor false.")),
            },
            "KmsKeyId" => {
                return refuse("no key can be applied to a directory; leave it out, and restore onto an encrypted file system.".to_owned());
            }
            _ => {
                return refuse("there is no such key; known are file-system-id, newFileSystem, targetPath, sourcePath, overwrite, deleteExtra, ItemsToRestore, include, exclude, verify, CreationToken, PerformanceMode and Encrypted.".to_owned());
            }
        }
        Ok(())
    }

    /// Where to restore to.
    pub fn target(&self, job_id: &str) -> Result<PathBuf, Invalid> {
        if let Some(target) = &self.target {
            return Ok(target.clone());
        }
        let source = self.source.as_ref().ok_or_else(|| Invalid::missing("targetPath"))?;
        if self.in_place {
            return Ok(source.clone());
        }
        let mut name = source.file_name().map(OsString::from).unwrap_or_default();
        name.push("-restored-");
        name.push(short(job_id));
        Ok(source.with_file_name(name))
    }

    /// Refuses to put anything into a reserved directory. Items are looked at one by one: they may
    /// go into a target that holds a reserved directory.
    pub fn keep_out_of(&self, reserved: &Reserved) -> Result<(), Invalid> {
        if reserved.is_empty() {
            return Ok(());
        }
        // The default target's name depends on the job; where it lies does not.
        let target = self.target("")?;
        reserved.refuse_target("targetPath", &target)?;
        Self::keep_items_out_of(reserved, &target, self.selection.items.as_ref())
    }

    /// The same for items that patterns turned out to mean.
    pub fn keep_items_out_of(
        reserved: &Reserved,
        target: &Path,
        items: Option<&Items>,
    ) -> Result<(), Invalid> {
        for item in items.iter().flat_map(|items| items.asked.keys()) {
            let path = target.join(OsStr::from_bytes(item));
            reserved.refuse_target("ItemsToRestore", &path)?;
        }
        Ok(())
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
            name.push_str("files");
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

fn patterns(key: &str, value: &str) -> Result<Patterns, Invalid> {
    let list = serde_json::from_str::<Vec<String>>(value).ok().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| {
        Invalid::new(key, "it must be a JSON list of patterns, such as [\"*.txt\", \"/etc/**\"].")
    })?;
    Patterns::new(key, &list)
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
