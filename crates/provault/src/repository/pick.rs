//! Which snapshots are meant.

use provault_repository::{Repository, Snapshot};

use super::failure::Failure;
use super::usage;

/// Filters that several commands share.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Filter {
    /// Only snapshots of this host; may be given several times
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// Only snapshots that hold this path; given several times, all of them
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Vec<String>,
    /// Only snapshots with this tag (a,b: with both); given several times, with any of them
    #[arg(long, value_name = "TAG[,TAG]")]
    pub(crate) tag: Vec<String>,
}

impl Filter {
    pub(crate) fn lets_through(&self, snapshot: &Snapshot) -> bool {
        let host = self.host.is_empty() || self.host.contains(&snapshot.hostname);
        let path = self.path.iter().all(|path| {
            let path = path.trim_end_matches('/');
            snapshot.paths.iter().any(|own| own.trim_end_matches('/') == path)
        });
        let tags = |list: &String| list.split(',').all(|tag| snapshot.has_tag(tag.trim()));
        host && path && (self.tag.is_empty() || self.tag.iter().any(tags))
    }

    fn is_empty(&self) -> bool {
        self.host.is_empty() && self.path.is_empty() && self.tag.is_empty()
    }
}

/// A snapshot, and perhaps a directory in it: `ID`, `latest`, `ID:/srv/app`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    /// Without slashes at its ends; empty for all of the snapshot.
    pub(crate) path: String,
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once(':').unwrap_or((text, ""));
        let hex = name.bytes().all(|b| b.is_ascii_hexdigit()) && name.len() <= 64;
        if name.is_empty() || !(name == "latest" || hex) {
            return Err(format!("'{name}' is no snapshot: an id, the beginning of one, or latest"));
        }
        Ok(Self { name: name.to_ascii_lowercase(), path: plain(path)? })
    }
}

/// A path in a snapshot, without slashes at its ends.
fn plain(path: &str) -> Result<String, String> {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    if names.iter().any(|name| matches!(*name, "." | "..")) {
        return Err(format!("'{path}' is no path in a snapshot: it holds '.' or '..'"));
    }
    Ok(names.join("/"))
}

impl Wanted {
    /// The path, with one below it.
    pub(crate) fn join(&self, below: Option<&str>) -> Result<String, Failure> {
        let below = plain(below.unwrap_or_default()).map_err(usage)?;
        Ok(match (self.path.is_empty(), below.is_empty()) {
            (true, _) => below,
            (_, true) => self.path.clone(),
            _ => format!("{}/{below}", self.path),
        })
    }

    /// The snapshot that is meant: exactly one, or an error.
    pub(crate) fn find(
        &self,
        repository: &Repository,
        filter: &Filter,
        warn: &dyn Fn(&str),
    ) -> Result<Snapshot, Failure> {
        if self.name != "latest" && !filter.is_empty() {
            return Err(usage("--host, --path and --tag choose among snapshots for 'latest' only"));
        }
        if let Ok(id) = self.name.parse() {
            return Ok(repository.snapshot(id)?);
        }
        let all = repository.snapshots()?;
        // A damaged one may be the newest, or the one that is meant.
        for (id, error) in &all.damaged {
            warn(&format!("snapshot {id} cannot be read: {error}"));
        }
        if self.name == "latest" {
            let newest = all.snapshots.into_iter().rev().find(|s| filter.lets_through(s));
            return newest.ok_or_else(|| {
                let which = if filter.is_empty() { "" } else { " like that" };
                Failure::Failed(format!("there is no snapshot{which} in this repository"))
            });
        }
        let mut found =
            all.snapshots.into_iter().filter(|s| s.id.to_string().starts_with(&self.name));
        match (found.next(), found.next()) {
            (Some(snapshot), None) => Ok(snapshot),
            (None, _) => Err(Failure::Failed(format!(
                "no snapshot's id begins with '{}'; 'provault repository snapshots' lists them",
                self.name
            ))),
            (Some(_), Some(_)) => Err(usage(format!(
                "more than one snapshot's id begins with '{}'; give more of it",
                self.name
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_named_by_id_prefix_or_latest() {
        let parse = |text: &str| text.parse::<Wanted>();
        let plain = parse("latest").unwrap();
        assert_eq!((plain.name.as_str(), plain.path.as_str()), ("latest", ""));
        let deep = parse("1F2e:/srv//app/").unwrap();
        assert_eq!((deep.name.as_str(), deep.path.as_str()), ("1f2e", "srv/app"));
        assert_eq!(deep.join(Some("/x/")).unwrap(), "srv/app/x");
        assert_eq!(deep.join(None).unwrap(), "srv/app");
        assert_eq!(plain.join(Some("/x")).unwrap(), "x");
        assert!(plain.join(Some("../x")).is_err());
        for bad in ["", "newest", ":/srv", "12:/srv/../etc", "latest:./x", &"a".repeat(65)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
