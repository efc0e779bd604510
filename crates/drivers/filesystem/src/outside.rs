//! Which links lead out of what is restored.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::guard::split;

/// Whether a symbolic link at `path` below `target`, which is absolute, points to something that is not below
/// it. Only the words are looked at: other links on the way are not followed, nor is the disk asked.
pub(crate) fn leads_outside(target: &Path, path: &[u8], link: &[u8]) -> bool {
    let (parent, _) = split(path);
    // An absolute link replaces what it is joined to.
    let to = target.join(OsStr::from_bytes(parent)).join(OsStr::from_bytes(link));
    let mut names: Vec<OsString> = Vec::new();
    for part in to.components() {
        match part {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::ParentDir => drop(names.pop()),
            _ => {}
        }
    }
    let root = target.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut names = names.iter();
    root.into_iter().any(|name| names.next().is_none_or(|found| found != name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_outside_or_not() {
        for (path, link, outside) in [
            ("a", "b", false),
            ("a", ".", false),
            ("a", "no/such/../thing", false),
            ("a", "..", true),
            ("d/a", "../b", false),
            ("d/a", "../../b", true),
            ("d/a", "../../app/b", false),
            ("d/a", "../../app-2/b", true),
            ("a", "/etc/passwd", true),
            ("a", "/srv/app", false),
            ("a", "/srv/app/b", false),
            ("a", "/srv/application", true),
            ("a", "/srv/app/../b", true),
            ("a", "/../../srv/app/b", false),
        ] {
            let found = leads_outside(Path::new("/srv/app"), path.as_bytes(), link.as_bytes());
            assert_eq!(found, outside, "{path} -> {link}");
        }
    }
}
