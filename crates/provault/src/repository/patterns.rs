//! Exclude patterns, with restic's meaning, as the globs of the file system driver.
//!
//! A pattern with a leading `/` is the whole path; any other matches at any depth. `*` and `?` stop
//! at `/`, `**` does not, `[…]` is a choice of characters. What matches is left out with all that is
//! below it.

use globset::GlobBuilder;

use super::failure::Failure;
use super::usage;

/// The globs, relative to the directory `root` (absolute, without a trailing slash), that leave out
/// what `pattern` means below it. Refuses what cannot be a pattern.
pub(crate) fn below(pattern: &str, root: &str) -> Result<Vec<String>, Failure> {
    let trimmed = pattern.trim_end_matches('/');
    if trimmed.is_empty() {
        return Err(usage(format!("--exclude '{pattern}' would leave out everything")));
    }
    if trimmed.starts_with('!') {
        return Err(usage(format!(
            "--exclude '{pattern}': patterns that take something back in ('!') are not available"
        )));
    }
    if trimmed.split('/').any(|name| matches!(name, "." | "..")) {
        return Err(usage(format!(
            "--exclude '{pattern}' holds '.' or '..' and would never match"
        )));
    }
    GlobBuilder::new(trimmed)
        .literal_separator(true)
        .build()
        .map_err(|error| usage(format!("--exclude '{pattern}' is no pattern: {}", error.kind())))?;
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
pub(crate) fn literal(path: &str) -> String {
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
        let globs = |pattern: &str, root: &str| below(pattern, root).unwrap();
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
            assert!(matches!(below(bad, "/srv"), Err(Failure::Usage(_))), "{bad}");
        }
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
