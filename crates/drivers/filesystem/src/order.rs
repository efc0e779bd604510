//! What a caller asks of a restore.
//!
//! The keys are those that AWS Backup documents for Amazon EFS, and two of our own:
//!
//! | key | here |
//! |---|---|
//! | `file-system-id` | required; `fs-…`, the resource the recovery point was made of |
//! | `newFileSystem` | `true`, the default; `false` (into the source itself) is refused |
//! | `targetPath` | ours: where to restore to; by default `SOURCE-restored-` and 8 digits of the job; not in the server's own data directory |
//! | `sourcePath` | ours: where the source lay at the capture; the default target is beside it |
//! | `ItemsToRestore` (or `itemsToRestore`, as AWS's example has it) | a JSON list of paths relative to the root; a leading `/` is taken as AWS does |
//! | `CreationToken` | 1 to 64 characters; what it protects from, a second copy, cannot happen to a target that must not exist |
//! | `PerformanceMode` | `generalPurpose`; there is no other |
//! | `Encrypted` | `true` or `false`; a directory is as encrypted as the file system it lies on, and `true` is answered with a note saying so |
//! | `KmsKeyId` | refused: no key can be applied to a directory |
//!
//! Names that are not UTF-8 cannot be written in JSON; the directory that holds them can be asked
//! for.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use provault_domain::Invalid;
use provault_driver::RestoreRequest;

use crate::config::directory;
use crate::reserved::Reserved;

/// The keys of a request, read.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub target: Option<PathBuf>,
    pub source: Option<PathBuf>,
    pub items: Option<Items>,
    pub notes: Vec<String>,
}

/// What part of a tree is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Items {
    /// As they were asked for, by path.
    pub asked: BTreeMap<Vec<u8>, String>,
    above: HashSet<Vec<u8>>,
}

/// How an entry relates to the items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It is one or lies in one.
    Yes,
    /// One lies somewhere below it.
    Above,
    /// Neither.
    No,
}

impl Items {
    fn add(&mut self, asked: &str) -> Result<(), Invalid> {
        let refuse = |why| Invalid::new("ItemsToRestore", format!("'{asked}' {why}"));
        let path = asked.strip_prefix('/').unwrap_or(asked);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Err(refuse("is the whole file system; leave ItemsToRestore out for that."));
        }
        if path.split('/').any(|name| matches!(name, "" | "." | "..")) || path.contains('\0') {
            return Err(refuse("is not a path relative to the root, such as docs/report.txt."));
        }
        for (index, byte) in path.bytes().enumerate() {
            if byte == b'/' {
                self.above.insert(path.as_bytes()[..index].to_vec());
            }
        }
        self.above.insert(Vec::new());
        self.asked.insert(path.as_bytes().to_vec(), asked.to_owned());
        Ok(())
    }

    /// How `path` relates to what is wanted.
    pub fn wants(&self, path: &[u8]) -> Wanted {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        if ends.chain([path.len()]).any(|end| self.asked.contains_key(&path[..end])) {
            Wanted::Yes
        } else if self.above.contains(path) {
            Wanted::Above
        } else {
            Wanted::No
        }
    }
}

impl Order {
    /// Reads the keys. An unknown one is refused by its name.
    pub fn parse(metadata: &BTreeMap<String, String>) -> Result<Self, Invalid> {
        let mut order = Order { target: None, source: None, items: None, notes: Vec::new() };
        if !metadata.contains_key("file-system-id") {
            return Err(Invalid::missing("file-system-id"));
        }
        for (key, value) in metadata {
            order.take(key, value)?;
        }
        if order.target.is_none() {
            match &order.source {
                None => return Err(Invalid::missing("targetPath")),
                Some(source) if source.file_name().is_none() => {
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
                "true" => {}
                "false" => {
                    return refuse("restoring into the source itself is not available; use true, and targetPath for a directory of your choice.".to_owned());
                }
                _ => return refuse(format!("'{value}' is not true.")),
            },
            "targetPath" => {
                let target = directory(key, value)?;
                if target.file_name().is_none() {
                    return refuse("'/' exists; choose a directory that does not.".to_owned());
                }
                self.target = Some(target);
            }
            "sourcePath" => self.source = Some(directory(key, value)?),
            "ItemsToRestore" | "itemsToRestore" => {
                if self.items.is_some() {
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
                self.items = Some(items);
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
                return refuse("there is no such key; known are file-system-id, newFileSystem, targetPath, sourcePath, ItemsToRestore, CreationToken, PerformanceMode and Encrypted.".to_owned());
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
        for item in self.items.iter().flat_map(|items| items.asked.keys()) {
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

/// The job's id becomes part of file names, so it must be fit for that.
pub(crate) fn job_id<'a>(request: &RestoreRequest<'a>) -> Result<&'a str, Invalid> {
    let id = request.job_id;
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if (1..=64).contains(&id.len()) && plain {
        return Ok(id);
    }
    Err(Invalid::new("RestoreJobId", format!("'{}' is not a job's id.", id.escape_debug())))
}
