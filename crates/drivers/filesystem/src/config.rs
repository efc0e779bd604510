//! The settings of a file system resource.

use std::path::{Component, Path, PathBuf};

use provault_domain::Invalid;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rules::Rules;

/// Settings as they are kept, every one present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    /// The directory.
    pub path: PathBuf,
    /// Globs; empty means everything.
    pub include: Vec<String>,
    /// Globs; these win.
    pub exclude: Vec<String>,
    /// Whether other file systems mounted below are left out.
    pub one_file_system: bool,
    /// Whether an empty directory may be backed up.
    pub allow_empty: bool,
    /// Whether the directory has to be a mount point.
    pub require_mount: bool,
}

impl Config {
    /// Reads settings; absent ones get their defaults, unknown ones are refused by name. Does not
    /// look at the disk.
    pub fn parse(value: &Value) -> Result<Self, Invalid> {
        let Some(object) = value.as_object() else {
            return Err(Invalid::new(
                "config",
                "it must be a JSON object, such as {\"path\": \"/srv/data\"}.",
            ));
        };
        let mut config = Config {
            path: PathBuf::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            one_file_system: true,
            allow_empty: false,
            require_mount: false,
        };
        for (key, value) in object {
            match key.as_str() {
                "path" => config.path = directory("path", text(key, value)?)?,
                "include" => config.include = texts(key, value)?,
                "exclude" => config.exclude = texts(key, value)?,
                "oneFileSystem" => config.one_file_system = switch(key, value)?,
                "allowEmpty" => config.allow_empty = switch(key, value)?,
                "requireMount" => config.require_mount = switch(key, value)?,
                _ => {
                    return Err(Invalid::new(
                        key.as_str(),
                        "there is no such setting; known are path, include, exclude, oneFileSystem, allowEmpty and requireMount.",
                    ));
                }
            }
        }
        if config.path.as_os_str().is_empty() {
            return Err(Invalid::missing("path"));
        }
        Rules::new(&config.include, &config.exclude)?;
        Ok(config)
    }

    /// As [`Config::parse`], for a directory that must exist now.
    pub fn parse_for_registration(value: &Value) -> Result<Self, Invalid> {
        let config = Self::parse(value)?;
        let shown = config.path.display();
        match std::fs::metadata(&config.path) {
            Ok(found) if found.is_dir() => Ok(config),
            Ok(_) => Err(Invalid::new("path", format!("{shown} is not a directory."))),
            Err(error) => Err(Invalid::new("path", format!("{shown} cannot be used: {error}."))),
        }
    }

    /// All settings as JSON.
    pub fn to_value(&self) -> Value {
        serde_json::json!({
            "path": self.path.to_string_lossy(),
            "include": self.include,
            "exclude": self.exclude,
            "oneFileSystem": self.one_file_system,
            "allowEmpty": self.allow_empty,
            "requireMount": self.require_mount,
        })
    }
}

/// An absolute path written in one way only: no `.`, no `..`, no doubled or trailing `/`, no
/// control characters.
pub(crate) fn directory(member: &str, text: &str) -> Result<PathBuf, Invalid> {
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
    Ok(plain)
}

fn text<'a>(key: &str, value: &'a Value) -> Result<&'a str, Invalid> {
    value.as_str().ok_or_else(|| Invalid::new(key, "it must be a string."))
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>, Invalid> {
    let list = value.as_array().ok_or_else(|| Invalid::new(key, "it must be a list of globs."))?;
    list.iter().map(|item| text(key, item).map(str::to_owned)).collect()
}

fn switch(key: &str, value: &Value) -> Result<bool, Invalid> {
    value.as_bool().ok_or_else(|| Invalid::new(key, "it must be true or false."))
}
