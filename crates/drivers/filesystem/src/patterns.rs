//! Patterns of paths, with restic's meaning, as the globs of the file system driver.
//!
//! A pattern with a leading `/` is the whole path; any other matches at any depth. `*` and `?` stop
//! at `/`, `**` does not, `[…]` is a choice of characters. What matches is meant with all that is
//! below it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use globset::{GlobBuilder, GlobSet};
use provault_domain::Invalid;

/// Some patterns of one option, for paths relative to the root of what they are about.
#[derive(Debug, Clone)]
pub struct Patterns(GlobSet);

impl Default for Patterns {
    /// None, which match nothing.
    fn default() -> Self {
        Self(GlobSet::empty())
    }
}

impl Patterns {
    /// Refuses what cannot be a pattern; `member` is what it was given as.
    pub fn new(member: &str, patterns: &[String]) -> Result<Self, Invalid> {
        let unusable = |error: globset::Error| Invalid::new(member, error);
        let mut globs = GlobSet::builder();
        for pattern in patterns {
            for glob in below(member, pattern, "/")? {
                let glob = GlobBuilder::new(&glob).literal_separator(true).build();
                globs.add(glob.map_err(unusable)?);
            }
        }
        Ok(Self(globs.build().map_err(unusable)?))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them matches this path; what lies in it is another question.
    pub fn is_match(&self, path: &[u8]) -> bool {
        self.0.is_match(OsStr::from_bytes(path))
    }

    /// Whether one of them matches this path or a directory that it lies in.
    pub fn covers(&self, path: &[u8]) -> bool {
        upwards(path).any(|path| self.is_match(path))
    }
}

/// The path and the directories that it lies in, the root not among them.
pub fn upwards(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| {
        path.iter().rposition(|byte| *byte == b'/').map(|end| &path[..end])
    })
}

/// Whether a text is meant as a pattern: it holds one of a pattern's characters.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The globs, relative to the directory `root` (absolute, without a trailing slash), that mean what
/// `pattern` means below it. Refuses what cannot be a pattern; `member` is what it was given as.
pub fn below(member: &str, pattern: &str, root: &str) -> Result<Vec<String>, Invalid> {
    let refused = |why: &str| Err(Invalid::new(member, format!("'{pattern}' {why}.")));
    let trimmed = pattern.trim_end_matches('/');
    if trimmed.is_empty() {
        return refused("means everything");
    }
    if trimmed.starts_with('!') {
        return refused("begins with '!', and patterns cannot take something back");
    }
    if trimmed.split('/').any(|name| matches!(name, "." | "..")) {
        return refused("holds '.' or '..' and would never match");
    }
    if let Err(error) = GlobBuilder::new(trimmed).literal_separator(true).build() {
        return refused(&format!("is no pattern: {}", error.kind()));
    }
    let Some(absolute) = trimmed.strip_prefix('/') else {
        return Ok(vec![format!("**/{trimmed}")]);
    };
    let names: Vec<&str> = absolute.split('/').collect();
    let above: Vec<&str> = root.split('/').filter(|name| !name.is_empty()).collect();
    let mut found = Vec::new();
    rest_below(&names, &above, &mut found);
    found.sort();
    found.dedup();
    Ok(found)
}

/// What is left of a pattern after the names of the root, for each way in which they match.
fn rest_below(pattern: &[&str], above: &[&str], found: &mut Vec<String>) {
    let Some((first, rest)) = pattern.split_first() else { return };
    let Some((name, below)) = above.split_first() else {
        found.push(pattern.join("/"));
        return;
    };
    if *first == "**" {
        // It takes this name, or it takes no more.
        rest_below(pattern, below, found);
        rest_below(rest, above, found);
        return;
    }
    let matches = GlobBuilder::new(first)
        .literal_separator(true)
        .build()
        .is_ok_and(|glob| glob.compile_matcher().is_match(name));
    if matches {
        rest_below(rest, below, found);
    }
}

/// A glob that matches exactly this path.
pub fn literal(path: &str) -> String {
    let mut glob = String::with_capacity(path.len());
    for c in path.chars() {
        if "*?[]{}\\!,".contains(c) {
            glob.push('\\');
        }
        glob.push(c);
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_globs_relative_to_the_root() {
        let globs = |pattern: &str, root: &str| below("exclude", pattern, root).unwrap();
        assert_eq!(globs("*.tmp", "/srv/app"), ["**/*.tmp"]);
        assert_eq!(globs("cache/", "/srv/app"), ["**/cache"]);
        assert_eq!(globs("a/b", "/srv/app"), ["**/a/b"]);
        assert_eq!(globs("/srv/app/cache", "/srv/app"), ["cache"]);
        assert_eq!(globs("/srv/*/cache/**/x", "/srv/app"), ["cache/**/x"]);
        assert_eq!(globs("/srv/**/cache", "/srv/app"), ["**/cache"]);
        assert_eq!(globs("/**/app/x", "/srv/app"), ["**/app/x", "x"]);
        assert_eq!(globs("/etc/x", "/srv/app"), [""; 0]);
        assert_eq!(globs("/etc/x", "/"), ["etc/x"]);
        for bad in ["", "/", "!x", "../x", "a/./b", "[a"] {
            assert!(below("exclude", bad, "/srv").is_err(), "{bad}");
        }
    }

    #[test]
    fn what_lies_in_a_match_is_covered() {
        let patterns = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            Patterns::new("include", &texts)
        };
        let some = patterns(&["*.tmp", "/srv/*/cache"]).unwrap();
        for (path, matches, covered) in [
            ("a.tmp", true, true),
            ("a/b.tmp", true, true),
            ("a/b.tmp/c", false, true),
            ("srv/app/cache", true, true),
            ("srv/app/cache/x/y", false, true),
            ("srv/app/other/cache", false, false),
            ("x/srv/app/cache", false, false),
            ("srv", false, false),
        ] {
            let found = (some.is_match(path.as_bytes()), some.covers(path.as_bytes()));
            assert_eq!(found, (matches, covered), "{path}");
        }
        assert!(!patterns(&[]).unwrap().covers(b"a"));
        let refused = patterns(&["[a"]).unwrap_err().to_string();
        assert!(refused.contains("include: '[a' is no pattern"), "{refused}");
        assert_eq!(upwards(b"a/b/c").collect::<Vec<_>>(), [&b"a/b/c"[..], b"a/b", b"a"]);
    }

    #[test]
    fn a_literal_matches_itself_alone() {
        for name in ["plain", "a*b", "q?[x]{y,z}\\!", "sp ace"] {
            let glob = GlobBuilder::new(&literal(name))
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .unwrap()
                .compile_matcher();
            assert!(glob.is_match(name), "{name}");
            assert!(!glob.is_match(format!("{name}x")) && !glob.is_match("aXb"), "{name}");
        }
    }
}
