//! INI text, read as botocore reads it.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

/// The sections of an INI text. Reads what Python's `RawConfigParser` reads, which is what botocore
/// uses: `=` or `:` between key and value, keys in any case, full-line comments with `#` or `;`
/// (not after a value), indented lines continuing a value, a `DEFAULT` section behind all others.
/// The one liberty: a byte order mark at the start is skipped. `Debug` shows the names of sections
/// and keys, not the values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Ini {
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

/// A line that is not INI. The text names line numbers only: the line may hold a secret.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IniError {
    /// Something stands before the first `[section]`.
    #[error("line {line}: a [section] must come first")]
    NoSection {
        /// Counted from 1.
        line: usize,
    },
    /// Neither a section, nor a comment, nor `key = value`.
    #[error("line {line}: expected [section], key = value, or a comment")]
    NotAPair {
        /// Counted from 1.
        line: usize,
    },
    /// A section or a key of one section stands there twice.
    #[error("line {line}: {what} stands here a second time; remove one of them")]
    Duplicate {
        /// Counted from 1.
        line: usize,
        /// `section [NAME]` or `key NAME`.
        what: String,
    },
}

impl Ini {
    /// Reads a whole text.
    pub fn parse(text: &str) -> Result<Self, IniError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut section: Option<String> = None;
        let mut open: Option<OpenKey> = None;
        for (at, raw) in text.lines().enumerate() {
            let line = at + 1;
            let trimmed = raw.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                // An empty line belongs to a value that goes on after it, a comment does not.
                if let (Some(open), true) = (&mut open, trimmed.is_empty()) {
                    open.lines.push(String::new());
                }
                continue;
            }
            let indent = raw.chars().take_while(|c| c.is_whitespace()).count();
            if let Some(open) = open.as_mut().filter(|open| indent > open.indent) {
                open.lines.push(trimmed.to_owned());
                continue;
            }
            if let (Some(name), Some(done)) = (&section, open.take()) {
                done.close(sections.entry(name.clone()).or_default());
            }
            if let Some(name) = section_name(trimmed) {
                if sections.contains_key(name) && name != "DEFAULT" {
                    return Err(IniError::Duplicate { line, what: format!("section [{name}]") });
                }
                sections.entry(name.to_owned()).or_default();
                section = Some(name.to_owned());
                continue;
            }
            let name = section.as_ref().ok_or(IniError::NoSection { line })?;
            let (key, value) = trimmed.split_once(['=', ':']).ok_or(IniError::NotAPair { line })?;
            let key = key.trim().to_lowercase();
            if key.is_empty() {
                return Err(IniError::NotAPair { line });
            }
            if sections.get(name).is_some_and(|keys| keys.contains_key(&key)) {
                return Err(IniError::Duplicate { line, what: format!("key {key}") });
            }
            open = Some(OpenKey { key, indent, lines: vec![value.trim().to_owned()] });
        }
        if let (Some(name), Some(done)) = (&section, open.take()) {
            done.close(sections.entry(name.clone()).or_default());
        }
        let defaults = sections.remove("DEFAULT").unwrap_or_default();
        for keys in sections.values_mut() {
            for (key, value) in &defaults {
                keys.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        Ok(Self { sections })
    }

    /// The keys (in lower case) and values of one section.
    pub fn section(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.sections.get(name)
    }

    /// The names of all sections, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }
}

impl fmt::Debug for Ini {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.sections.iter().map(|(name, keys)| (name, keys.keys()));
        f.debug_map().entries(names).finish()
    }
}

/// A key whose value may still go on.
struct OpenKey {
    key: String,
    indent: usize,
    lines: Vec<String>,
}

impl OpenKey {
    fn close(mut self, keys: &mut BTreeMap<String, String>) {
        while self.lines.len() > 1 && self.lines.last().is_some_and(String::is_empty) {
            self.lines.pop();
        }
        keys.insert(self.key, self.lines.join("\n"));
    }
}

/// `[NAME]`; what follows the last bracket is ignored, as Python ignores it.
fn section_name(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}
