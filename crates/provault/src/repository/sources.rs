//! What a backup reads: the given paths, arranged as the walks that read them.
//!
//! The file system driver captures directories. A file that is given is captured as its directory
//! with an include list of that one name, and what else is given below that directory joins it.

use std::path::{Component, Path, PathBuf};

use super::failure::Failure;
use super::{patterns, usage};

/// One walk: a directory, whole or in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Absolute, written in one way only.
    pub(crate) directory: String,
    /// Paths relative to it; empty for all of it.
    pub(crate) only: Vec<String>,
}

/// The paths as the snapshot shows them, and the walks that read them, both sorted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sources {
    pub(crate) paths: Vec<String>,
    pub(crate) walks: Vec<Walk>,
}

impl Sources {
    /// Looks at each path: it must be there, and none may lie in another.
    pub(crate) fn of(given: &[PathBuf]) -> Result<Self, Failure> {
        let mut found = Vec::new();
        for path in given {
            let text = plain(path)?;
            let is_dir = match std::fs::metadata(&text) {
                Ok(there) => there.is_dir(),
                // A link that leads nowhere is a file like any other link.
                Err(_) if std::fs::symlink_metadata(&text).is_ok() => false,
                Err(error) => {
                    return Err(Failure::Failed(format!(
                        "cannot back up {text}: {error}; nothing was backed up"
                    )));
                }
            };
            found.push((text, is_dir));
        }
        Self::arrange(found)
    }

    fn arrange(mut given: Vec<(String, bool)>) -> Result<Self, Failure> {
        given.sort_by(|a, b| names(&a.0).cmp(names(&b.0)));
        given.dedup();
        for pair in given.windows(2) {
            if is_below(&pair[1].0, &pair[0].0) {
                return Err(usage(format!(
                    "{} lies in {}, which is backed up with all it holds; leave it out",
                    pair[1].0, pair[0].0
                )));
            }
        }
        let paths: Vec<String> = given.iter().map(|(path, _)| path.clone()).collect();
        // The directories that are read only in part, the outermost of each line.
        let mut partial: Vec<String> = given
            .iter()
            .filter(|(_, is_dir)| !is_dir)
            .map(|(path, _)| parent(path).to_owned())
            .collect();
        partial.sort_by(|a, b| names(a).cmp(names(b)));
        partial.dedup_by(|inner, outer| inner == outer || is_below(inner, outer));
        let mut walks: Vec<Walk> =
            partial.into_iter().map(|directory| Walk { directory, only: Vec::new() }).collect();
        for (path, _) in given {
            match walks.iter_mut().find(|walk| is_below(&path, &walk.directory)) {
                Some(walk) => {
                    let start = walk.directory.trim_end_matches('/').len() + 1;
                    walk.only.push(path[start..].to_owned());
                }
                None => walks.push(Walk { directory: path, only: Vec::new() }),
            }
        }
        walks.sort_by(|a, b| names(&a.directory).cmp(names(&b.directory)));
        Ok(Self { paths, walks })
    }
}

impl Walk {
    /// The settings of the file system driver for this walk: with restic's patterns, and a glob of
    /// our own that leaves out the repository.
    pub(crate) fn config(
        &self,
        exclude: &[String],
        own: Option<String>,
        one_file_system: bool,
        allow_empty: bool,
    ) -> Result<serde_json::Value, Failure> {
        let mut globs: Vec<String> = own.into_iter().collect();
        for pattern in exclude {
            globs.extend(patterns::below("--exclude", pattern, &self.directory)?);
        }
        let include: Vec<String> = self.only.iter().map(|path| patterns::literal(path)).collect();
        Ok(serde_json::json!({
            "path": self.directory,
            "include": include,
            "exclude": globs,
            "oneFileSystem": one_file_system,
            "allowEmpty": allow_empty,
            "requireMount": false,
        }))
    }
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// Whether `path` lies below `directory`, and is not it.
fn is_below(path: &str, directory: &str) -> bool {
    let rest = path.strip_prefix(directory.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

/// An absolute path without `.`, `..` and doubled slashes. `..` is taken away by name, as a shell
/// does, not by where links lead.
fn plain(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let absolute = std::path::absolute(path)
        .map_err(|error| usage(format!("'{shown}' is no usable path: {error}")))?;
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    match plain.into_os_string().into_string() {
        Ok(text) if !text.contains(char::is_control) => Ok(text),
        _ => Err(usage(format!(
            "'{}' cannot be given by name (it is not UTF-8, or holds control characters); back up \
             the directory above it",
            shown.to_string().escape_debug()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(given: &[(&str, bool)]) -> Result<Sources, Failure> {
        Sources::arrange(given.iter().map(|(path, dir)| ((*path).to_owned(), *dir)).collect())
    }

    fn walk(directory: &str, only: &[&str]) -> Walk {
        Walk {
            directory: directory.to_owned(),
            only: only.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn files_join_what_is_given_beside_them() {
        let sources = arranged(&[("/srv/b", true), ("/etc/hosts", false), ("/srv/a", true)]);
        let sources = sources.unwrap();
        assert_eq!(sources.paths, ["/etc/hosts", "/srv/a", "/srv/b"]);
        assert_eq!(
            sources.walks,
            [walk("/etc", &["hosts"]), walk("/srv/a", &[]), walk("/srv/b", &[])]
        );
        let sources =
            arranged(&[("/srv/a/deep", true), ("/srv/x", false), ("/srv/a/f", false)]).unwrap();
        assert_eq!(sources.walks, [walk("/srv", &["a/deep", "a/f", "x"])]);
        let sources = arranged(&[("/file", false), ("/srv", true)]).unwrap();
        assert_eq!(sources.walks, [walk("/", &["file", "srv"])]);
    }

    #[test]
    fn what_lies_in_another_path_is_refused() {
        for given in [
            [("/srv", true), ("/srv/app", true)],
            [("/srv/app/x", false), ("/srv", true)],
            [("/", true), ("/srv", true)],
        ] {
            assert!(matches!(arranged(&given), Err(Failure::Usage(_))), "{given:?}");
        }
        assert!(arranged(&[("/srv", true), ("/srv-old", true), ("/srv", true)]).is_ok());
        assert!(arranged(&[("/srv", true), ("/srv-old", true), ("/srv/x", true)]).is_err());
    }

    #[test]
    fn paths_are_made_plain() {
        assert_eq!(plain(Path::new("/srv//app/../x/./")).unwrap(), "/srv/x");
        assert_eq!(plain(Path::new("/")).unwrap(), "/");
        assert!(plain(Path::new("/a\nb")).is_err());
    }
}
