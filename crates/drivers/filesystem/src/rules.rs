//! Which paths of a tree are backed up.
//!
//! A glob is matched against the whole path relative to the resource's root, without a leading
//! `/`: `*` and `?` stop at `/`, `**` does not, `[…]` and `{a,b}` work as in a shell. So `*.tmp`
//! means files in the root and `**/*.tmp` files anywhere. A directory that `exclude` matches is
//! not entered. With an `include` list only what it matches, or what lies in a directory that it
//! matches, is kept, along with the directories above; `exclude` wins over `include`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use provault_domain::Invalid;

/// Compiled `include` and `exclude` lists.
#[derive(Debug)]
pub(crate) struct Rules {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Rules {
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, Invalid> {
        let wanted = compile("include", include)?;
        Ok(Self {
            include: (!include.is_empty()).then_some(wanted),
            exclude: compile("exclude", exclude)?,
        })
    }

    /// Whether anything can be left out at all.
    pub fn are_selective(&self) -> bool {
        self.include.is_some() || !self.exclude.is_empty()
    }

    pub fn excludes(&self, path: &[u8]) -> bool {
        self.exclude.is_match(OsStr::from_bytes(path))
    }

    pub fn includes(&self, path: &[u8]) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(OsStr::from_bytes(path)))
    }

    /// Whether the root, and so every directory, is wanted for itself.
    pub fn include_all(&self) -> bool {
        self.include.is_none()
    }
}

fn compile(member: &str, globs: &[String]) -> Result<GlobSet, Invalid> {
    let mut set = GlobSetBuilder::new();
    for (index, text) in globs.iter().enumerate() {
        let member = format!("{member}[{index}]");
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        if trimmed.is_empty() || trimmed.starts_with('/') || trimmed.contains('\0') {
            return Err(Invalid::new(
                member,
                format!(
                    "'{text}' cannot match: globs are relative to the resource's root and begin without '/'."
                ),
            ));
        }
        let glob = GlobBuilder::new(trimmed)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|e| Invalid::new(member, format!("'{text}' is not a glob: {}.", e.kind())))?;
        set.add(glob);
    }
    set.build().map_err(|e| Invalid::new(member, format!("the globs cannot be used: {e}.")))
}
