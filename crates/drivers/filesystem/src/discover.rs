//! What stands on this host and could be registered.
//!
//! Two looks: at the places where things that are worth a backup stand by custom (`known`), each
//! measured; then at all the rest, of which only what is large is told. A directory is told once: where
//! most of what is in it lies in one below, that one is.
//!
//! Nothing is looked at through a symbolic link, and no mount but those of disks (`mounts`). What is
//! measured is what a backup with the settings offered would hold, but for holes.

mod known;
mod mounts;
mod names;
mod scan;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use provault_driver::{CancelFlag, Coverage, DiscoverRequest, Discovered, Discovery, DriverError};
use serde_json::json;

use crate::config::Config;
use crate::rules::Rules;
use provault_driver::reserved::Reserved;

use known::Known;
use mounts::Mounts;
use names::Names;
use scan::{Measure, Scan};

/// What is left out of directories of people.
const CACHES: &str = "**/.cache";

/// The host that is looked at: its root, and the list of its mounts. This one, unless it is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host(Option<(PathBuf, PathBuf)>);

impl Host {
    pub const fn this() -> Self {
        Self(None)
    }

    pub const fn at(root: PathBuf, mounts: PathBuf) -> Self {
        Self(Some((root, mounts)))
    }

    fn paths(&self) -> (&Path, &Path) {
        match &self.0 {
            None => (Path::new("/"), Path::new("/proc/self/mountinfo")),
            Some((root, mounts)) => (root, mounts),
        }
    }
}

pub(crate) fn run(
    host: &Host,
    reserved: &Reserved,
    request: &DiscoverRequest<'_>,
    cancel: &CancelFlag,
) -> Result<Discovery, DriverError> {
    let (root, mounts) = host.paths();
    let mut discovery = Discovery::default();
    let mounts = Mounts::read(mounts).unwrap_or_else(|error| {
        // Without the list any directory may be a mount that hangs; the root's own disk is safe.
        discovery.notes.push(format!(
            "the list of mounts cannot be read ({error}): only the disk of {} was looked at.",
            root.display()
        ));
        Mounts::none(root)
    });
    let registered: Vec<Registered<'_>> =
        request.registered.iter().filter_map(Registered::of).collect();
    let mut scan = Scan::new(&mounts, reserved, request, cancel);
    let mut names = Names::beside(request.registered.iter().map(|resource| &resource.name));

    let places = known::places(root, &mounts);
    let mut taken: BTreeSet<PathBuf> = BTreeSet::new();
    for (path, known) in places {
        if scan.is_closed(&path) {
            continue;
        }
        let measure = scan.measure(&path, known.leaves_caches_out())?;
        taken.insert(path.clone());
        // A place that was made with the system and never used is nothing to protect.
        if measure.files == 0 && measure.counted {
            continue;
        }
        offer(&path, Some(known), &measure, &registered, &mut names, &mut discovery);
    }
    for (path, measure) in scan.large(root, &taken)? {
        offer(&path, None, &measure, &registered, &mut names, &mut discovery);
    }
    discovery.cut = scan.cut().map(str::to_owned);
    discovery.found.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(discovery)
}

fn offer(
    path: &Path,
    known: Option<&Known>,
    measure: &Measure,
    registered: &[Registered<'_>],
    names: &mut Names,
    discovery: &mut Discovery,
) {
    let Some(location) = path.to_str().filter(|text| !text.contains(char::is_control)) else {
        discovery
            .notes
            .push(format!("{} cannot be registered: its name is not plain UTF-8.", path.display()));
        return;
    };
    let config = if known.is_some_and(Known::leaves_caches_out) {
        json!({ "path": location, "exclude": [CACHES] })
    } else {
        json!({ "path": location })
    };
    discovery.found.push(Discovered {
        location: location.to_owned(),
        what: known.map_or("large directory", |known| known.what).to_owned(),
        name: names.suggest(location),
        config,
        bytes: measure.bytes,
        files: measure.files,
        counted: measure.counted,
        newest: measure.newest,
        coverage: coverage(path, registered),
        advice: known.and_then(Known::advice).map(str::to_owned),
    });
}

/// A registered directory, as far as it concerns what others hold.
struct Registered<'a> {
    name: &'a str,
    config: Config,
    rules: Rules,
}

impl<'a> Registered<'a> {
    /// Nothing where its settings cannot be read: it holds nothing then.
    fn of(resource: &'a provault_domain::Resource) -> Option<Self> {
        let config = Config::parse(&resource.config).ok()?;
        let rules = Rules::new(&config.include, &config.exclude).ok()?;
        Some(Self { name: &resource.name, config, rules })
    }

    /// Whether a backup of it holds the directory `path` below it.
    fn holds(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.config.path) else { return false };
        let parts: Vec<&Path> = below.ancestors().filter(|part| *part != Path::new("")).collect();
        let bytes = |part: &&Path| part.as_os_str().as_encoded_bytes().to_vec();
        if parts.iter().any(|part| self.rules.excludes(&bytes(part))) {
            return false;
        }
        if !parts.iter().any(|part| self.rules.includes(&bytes(part))) {
            return false;
        }
        !self.config.one_file_system || device(path) == device(&self.config.path)
    }
}

fn device(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|found| found.dev())
}

fn coverage(path: &Path, registered: &[Registered<'_>]) -> Coverage {
    if let Some(same) = registered.iter().find(|one| one.config.path == path) {
        return Coverage::Registered(same.name.to_owned());
    }
    if let Some(around) = registered.iter().find(|one| one.holds(path)) {
        return Coverage::Inside(around.name.to_owned());
    }
    let within = registered.iter().filter(|one| one.config.path.starts_with(path));
    let names: Vec<String> = within.map(|one| one.name.to_owned()).collect();
    if names.is_empty() { Coverage::Nothing } else { Coverage::Parts(names) }
}
