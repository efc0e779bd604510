//! The settings of a volume resource.

use std::path::{Component, Path, PathBuf};

use provault_domain::Invalid;
use provault_domain::resource::validate_name;
use serde_json::{Value, json};

use crate::hooks::Hooks;

/// How the bytes of a volume lie in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// As they are: a device, or an image of the same length.
    Raw,
    /// QEMU's format.
    Qcow2,
}

impl Format {
    pub fn parse(key: &str, text: &str) -> Result<Self, Invalid> {
        match text {
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            _ => Err(Invalid::new(
                key,
                format!("'{text}' is no format here; there are raw and qcow2."),
            )),
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }

    /// What a name promises. The content is not asked: whoever writes to a raw volume could make it
    /// look like anything.
    pub fn of_name(path: &Path) -> Self {
        if path.extension().is_some_and(|e| e == "qcow2") { Self::Qcow2 } else { Self::Raw }
    }
}

/// How an increment learns what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changes {
    /// Everything but holes is read, and what is known is told by its hash.
    Hash,
    /// A dirty bitmap in the image names it. The only setting by which a capture writes: the bitmap.
    Bitmap,
}

/// What is done with a volume that something may be writing to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InUse {
    /// It is not backed up.
    Refuse,
    /// An image is copied at one stroke, its mounted file systems standing still meanwhile.
    Snapshot,
    /// It is read as it stands, which is no one moment; with a note.
    AsIs,
}

/// Settings as they are kept, every one present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub path: PathBuf,
    pub format: Format,
    pub changes: Changes,
    pub in_use: InUse,
    pub hooks: Option<Hooks>,
}

const KNOWN: [&str; 7] =
    ["path", "format", "changedBlocks", "whileInUse", "hooks", "hookSeconds", "heldSeconds"];

impl Config {
    /// Reads settings; absent ones get their defaults, unknown ones are refused by name. Does not
    /// look at the disk.
    pub fn parse(value: &Value) -> Result<Self, Invalid> {
        let object = value.as_object().ok_or_else(|| {
            Invalid::new(
                "config",
                "it must be a JSON object, such as {\"path\": \"/dev/vg0/data\"}.",
            )
        })?;
        let text = |key: &str| match object.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(Invalid::new(key, "it must be a string.")),
        };
        if let Some(key) = object.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            let why = format!("there is no such setting; known are {}.", KNOWN.join(", "));
            return Err(Invalid::new(key.as_str(), why));
        }
        let path = text("path")?.ok_or_else(|| Invalid::missing("path"))?;
        let path = absolute("path", path)?;
        let format = match text("format")? {
            Some(text) => Format::parse("format", text)?,
            None => Format::of_name(&path),
        };
        let changes = match text("changedBlocks")?.unwrap_or("hash") {
            "hash" => Changes::Hash,
            "bitmap" if format == Format::Qcow2 => Changes::Bitmap,
            "bitmap" => {
                let why = "only a qcow2 image holds bitmaps; leave it at 'hash'.";
                return Err(Invalid::new("changedBlocks", why));
            }
            other => {
                let why = format!("'{other}' is not known; there are hash and bitmap.");
                return Err(Invalid::new("changedBlocks", why));
            }
        };
        let in_use = match text("whileInUse")?.unwrap_or("refuse") {
            "refuse" => InUse::Refuse,
            "as-is" if format == Format::Raw => InUse::AsIs,
            "snapshot" if format == Format::Raw => InUse::Snapshot,
            "as-is" | "snapshot" => {
                let why = "the content of a qcow2 image that is being written cannot be read from \
                           outside; leave it at 'refuse'.";
                return Err(Invalid::new("whileInUse", why));
            }
            other => {
                let why = format!("'{other}' is not known; there are refuse, snapshot and as-is.");
                return Err(Invalid::new("whileInUse", why));
            }
        };
        let seconds = |key: &str, default: u64| match object.get(key).map(Value::as_u64) {
            None => Ok(default),
            Some(Some(seconds @ 1..=86_400)) => Ok(seconds),
            Some(_) => Err(Invalid::new(key, "it must be a number of seconds from 1 to 86400.")),
        };
        let (each, held) = (seconds("hookSeconds", 60)?, seconds("heldSeconds", 3600)?);
        let hooks = match text("hooks")?.unwrap_or_default() {
            "" => None,
            name => {
                validate_name("hooks", name)?;
                Some(Hooks { name: name.to_owned(), each, held })
            }
        };
        if let (None, Some(key)) =
            (&hooks, ["hookSeconds", "heldSeconds"].into_iter().find(|k| object.contains_key(*k)))
        {
            return Err(Invalid::new(key, "it goes with hooks only."));
        }
        Ok(Self { path, format, changes, in_use, hooks })
    }

    /// All settings as JSON.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "path": self.path.to_string_lossy(),
            "format": self.format.as_str(),
            "changedBlocks": match self.changes {
                Changes::Hash => "hash",
                Changes::Bitmap => "bitmap",
            },
            "whileInUse": match self.in_use {
                InUse::Refuse => "refuse",
                InUse::Snapshot => "snapshot",
                InUse::AsIs => "as-is",
            },
        });
        if let Some(Hooks { name, each, held }) = &self.hooks {
            value["hooks"] = name.as_str().into();
            value["hookSeconds"] = (*each).into();
            value["heldSeconds"] = (*held).into();
        }
        value
    }
}

/// An absolute path written in one way only, which names something.
pub(crate) fn absolute(member: &str, text: &str) -> Result<PathBuf, Invalid> {
    let path = Path::new(text);
    let refuse = |why: &str| Err(Invalid::new(member, format!("'{}' {why}", text.escape_debug())));
    if text.contains(char::is_control) {
        return refuse("holds control characters.");
    }
    if !path.is_absolute() {
        return refuse("is not an absolute path.");
    }
    if path.components().any(|c| c == Component::ParentDir) {
        return refuse("holds '..'; write the path without it.");
    }
    let plain: PathBuf = path.components().collect();
    if plain.as_os_str() != path.as_os_str() {
        return refuse(&format!("is written in a roundabout way; write '{}'.", plain.display()));
    }
    if plain.file_name().is_none() {
        return refuse("is a directory; name a block device or an image.");
    }
    Ok(plain)
}
