//! What part of a tree is wanted.

use std::collections::{BTreeMap, HashSet};

use provault_domain::Invalid;
use provault_driver::entry::printable;
use provault_driver::{DriverError, Source, WorkContext};

use crate::capture::check;
use crate::guard::Guard;
use crate::patterns::{Patterns, upwards};

/// More paths than this may not be named by patterns: each of them is kept in memory.
const MOST_MATCHES: usize = 1_000_000;

/// Items and patterns as they were asked for; everything when there are none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    pub items: Option<Items>,
    /// Whatever matches is an item too.
    pub include: Patterns,
    /// Wins over the items.
    pub exclude: Patterns,
}

impl Selection {
    /// Whether anything can be left out.
    pub fn is_partial(&self) -> bool {
        self.items.is_some() || !self.include.is_empty() || !self.exclude.is_empty()
    }

    /// Turns the patterns of `include` into items, by asking the source for what there is.
    pub fn resolved(
        mut self,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<Self, DriverError> {
        if self.include.is_empty() {
            return Ok(self);
        }
        let include = std::mem::take(&mut self.include);
        let mut items = self.items.take().unwrap_or_default();
        let mut guard = Guard::default();
        let mut found = 0_usize;
        for entry in source.entries()? {
            check(context.cancel)?;
            let entry = entry?;
            guard.check(&entry)?;
            let path = entry.path;
            let topmost = || !upwards(&path).skip(1).any(|above| include.is_match(above));
            let wanted = !path.is_empty() && include.is_match(&path) && topmost();
            if wanted && !self.exclude.covers(&path) {
                items.insert(&path, printable(&path));
                found += 1;
                if found > MOST_MATCHES {
                    return Err(Invalid::new(
                        "include",
                        format!(
                            "more than {MOST_MATCHES} paths match; restore the directory that holds them, with exclude for what is not wanted."
                        ),
                    )
                    .into());
                }
            }
        }
        guard.finish()?;
        if items.asked.is_empty() {
            return Err(Invalid::new(
                "include",
                "nothing in the recovery point matches; nothing was restored.",
            )
            .into());
        }
        self.items = Some(items);
        Ok(self)
    }

    /// How `path` relates to what is wanted; the patterns of `include` must be resolved.
    pub fn wants(&self, path: &[u8]) -> Wanted {
        if !self.exclude.is_empty() && !path.is_empty() && self.exclude.covers(path) {
            return Wanted::No;
        }
        self.items.as_ref().map_or(Wanted::Yes, |items| items.wants(path))
    }
}

/// Paths that are wanted, each with all that is below it.
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

impl Wanted {
    /// What two selections say together.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Above,
        }
    }
}

impl Items {
    /// Adds a path as a caller writes it.
    pub fn add(&mut self, asked: &str) -> Result<(), Invalid> {
        let refuse = |why| Invalid::new("ItemsToRestore", format!("'{asked}' {why}"));
        let path = asked.strip_prefix('/').unwrap_or(asked);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Err(refuse("is the whole file system; leave ItemsToRestore out for that."));
        }
        if path.split('/').any(|name| matches!(name, "" | "." | "..")) || path.contains('\0') {
            return Err(refuse("is not a path relative to the root, such as docs/report.txt."));
        }
        self.insert(path.as_bytes(), asked.to_owned());
        Ok(())
    }

    /// Adds a path; `asked` is what it was asked for as.
    pub fn insert(&mut self, path: &[u8], asked: String) {
        self.above.extend(upwards(path).skip(1).map(<[u8]>::to_vec));
        self.above.insert(Vec::new());
        self.asked.insert(path.to_vec(), asked);
    }

    /// How `path` relates to what is wanted.
    pub fn wants(&self, path: &[u8]) -> Wanted {
        if upwards(path).any(|path| self.asked.contains_key(path)) {
            Wanted::Yes
        } else if self.above.contains(path) {
            Wanted::Above
        } else {
            Wanted::No
        }
    }
}
