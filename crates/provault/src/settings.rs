//! The settings of `serve`: what they mean together, and which of them a running server takes over.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use provault_cli::GlobalOptions;
use provault_domain::Region;
use provault_engine::VaultPlace;
use provault_repository::{S3Options, StorageOptions};
use provault_server::TlsFiles;
use tracing_subscriber::EnvFilter;

use crate::instance::TlsOptions;
use crate::serve::ServeArgs;
use crate::site::SiteOptions;

/// Where new vaults are made, when no option says it.
pub(crate) const VAULT_STORAGE: &str = "PROVAULT_VAULT_STORAGE";
/// Where the catalog is, when no option says it.
pub(crate) const CATALOG: &str = "PROVAULT_CATALOG";

/// When a setting that changed in the file comes into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// With a reload; jobs that run go on.
    Reload,
    /// With the next start.
    Restart,
}

/// Every setting, and when a change of it comes into force.
pub(crate) const KEYS: &[(&str, Takes)] = &[
    ("account-id", Takes::Restart),
    ("allow-command-subscriptions", Takes::Reload),
    ("catalog", Takes::Restart),
    ("connections", Takes::Reload),
    ("data-dir", Takes::Restart),
    ("limit-download", Takes::Reload),
    ("limit-upload", Takes::Reload),
    ("listen", Takes::Restart),
    ("log-level", Takes::Reload),
    ("missing-vault-not-found", Takes::Reload),
    ("region", Takes::Restart),
    ("site", Takes::Restart),
    ("storage-timeout", Takes::Restart),
    ("test-disk-reserve", Takes::Restart),
    ("tests-at-once", Takes::Restart),
    ("tls-certificate", Takes::Reload),
    ("tls-generate", Takes::Restart),
    ("tls-key", Takes::Reload),
    ("tls-name", Takes::Reload),
    ("vault-storage", Takes::Reload),
];

/// What the command line, the environment and the file say together, checked as far as that goes
/// without touching anything.
#[derive(Debug, Clone)]
pub(crate) struct ServeSettings {
    pub(crate) args: ServeArgs,
    pub(crate) data_dir: PathBuf,
    pub(crate) region: Option<Region>,
    pub(crate) storage: StorageOptions,
    pub(crate) vault_storage: Option<VaultPlace>,
    pub(crate) sites: Vec<SiteOptions>,
    pub(crate) catalog: Option<String>,
    pub(crate) tls: Option<TlsOptions>,
}

/// Settings that cannot be followed.
pub(crate) enum Wrong {
    /// They contradict themselves or say what nobody understands.
    Usage(String),
    /// Something is missing that is no setting.
    Else(String),
}

impl Wrong {
    pub(crate) fn message(self) -> String {
        match self {
            Self::Usage(message) | Self::Else(message) => message,
        }
    }
}

impl ServeSettings {
    pub(crate) fn of(args: &ServeArgs, global: &GlobalOptions) -> Result<Self, Wrong> {
        let data_dir = global.data_dir().ok_or_else(|| {
            Wrong::Else(
                "there is no HOME to keep data below; name a directory with --data-dir.".to_owned(),
            )
        })?;
        let region = region_of(global).map_err(Wrong::Else)?;
        filter(&args.log_level).map_err(Wrong::Usage)?;
        let storage = StorageOptions {
            s3: S3Options::from_environment(),
            ..StorageOptions::with_timeout(Duration::from_secs(args.storage_timeout))
        };
        let storage = args.limits.applied_to(storage);
        let vault_storage =
            vault_storage(args.vault_storage.as_deref(), &storage).map_err(Wrong::Usage)?;
        let sites = sites(&args.site, &storage).map_err(Wrong::Usage)?;
        let catalog = catalog(args.catalog.as_deref()).map_err(Wrong::Usage)?;
        let files = args.tls_certificate.clone().zip(args.tls_key.clone());
        let files = files.map(|(certificate, key)| TlsFiles { certificate, key });
        let tls = (files.is_some() || args.tls_generate)
            .then(|| TlsOptions { files, names: args.tls_name.clone() });
        if tls.is_none() && !args.tls_name.is_empty() {
            return Err(Wrong::Usage(
                "--tls-name needs --tls-generate, or --tls-certificate with --tls-key.".to_owned(),
            ));
        }
        let args = args.clone();
        Ok(Self { args, data_dir, region, storage, vault_storage, sites, catalog, tls })
    }

    /// The same command line with what the file says now.
    pub(crate) fn read_again(given: &[OsString], path: Option<&Path>) -> Result<Self, String> {
        let args = match path {
            Some(path) => crate::with_file(given, path)?,
            None => <crate::Args as clap::Parser>::try_parse_from(given)
                .map_err(|error| error.to_string())?,
        };
        let crate::Command::Serve(serve) = &args.command else {
            return Err("this is no command line of 'provault serve'.".to_owned());
        };
        Self::of(serve, &args.global).map_err(Wrong::message)
    }

    /// What each of [`KEYS`] says; the same text for the same meaning.
    fn values(&self) -> Vec<(&'static str, String)> {
        let args = &self.args;
        let path = |path: &Option<PathBuf>| format!("{path:?}");
        let mut values = vec![
            ("account-id", format!("{:?}", args.account_id)),
            ("allow-command-subscriptions", args.allow_command_subscriptions.to_string()),
            // It may hold a password, which is no text to keep.
            (
                "catalog",
                provault_repository::Id::hash(format!("{:?}", self.catalog).as_bytes()).to_string(),
            ),
            ("data-dir", format!("{:?}", std::path::absolute(&self.data_dir).ok())),
            ("listen", args.listen.to_string()),
            ("log-level", args.log_level.clone()),
            ("missing-vault-not-found", args.missing_vault_not_found.to_string()),
            ("region", format!("{:?}", self.region)),
            ("site", format!("{:?}", self.sites)),
            ("storage-timeout", args.storage_timeout.to_string()),
            ("test-disk-reserve", format!("{:?}", args.test_disk_reserve)),
            ("tests-at-once", args.tests_at_once.to_string()),
            ("tls-certificate", path(&args.tls_certificate)),
            ("tls-generate", args.tls_generate.to_string()),
            ("tls-key", path(&args.tls_key)),
            ("tls-name", format!("{:?}", args.tls_name)),
            (
                "vault-storage",
                self.vault_storage.as_ref().map(ToString::to_string).unwrap_or_default(),
            ),
        ];
        values.extend(args.limits.given().map(|(key, value)| (key, value.unwrap_or_default())));
        values
    }

    /// Becomes what is in force after a reload: what needs a restart stays as it was at the start.
    pub(crate) fn take_over(&mut self, new: Self) {
        let same_tls = self.tls_kind() == new.tls_kind();
        let old = self.args.clone();
        self.args = ServeArgs {
            listen: old.listen,
            account_id: old.account_id,
            storage_timeout: old.storage_timeout,
            site: old.site,
            catalog: old.catalog,
            tests_at_once: old.tests_at_once,
            test_disk_reserve: old.test_disk_reserve,
            tls_generate: old.tls_generate,
            ..new.args
        };
        self.vault_storage = new.vault_storage;
        if same_tls {
            self.tls = new.tls;
        } else {
            self.args.tls_certificate = old.tls_certificate;
            self.args.tls_key = old.tls_key;
            self.args.tls_name = old.tls_name;
        }
    }

    /// Whether TLS is spoken, and whether with a certificate of the operator's.
    fn tls_kind(&self) -> Option<bool> {
        self.tls.as_ref().map(|tls| tls.files.is_some())
    }

    /// The settings that differ, sorted into those that a running server takes over and those that
    /// need a restart. Whether and in which way TLS is spoken is decided by the start.
    pub(crate) fn changed(&self, new: &Self) -> (Vec<String>, Vec<String>) {
        let other_tls = self.tls_kind() != new.tls_kind();
        let mut changed: Vec<_> = (self.values().into_iter().zip(new.values()))
            .filter(|((_, old), (_, new))| old != new)
            .map(|((key, _), _)| key)
            .collect();
        changed.sort_unstable();
        let at_once = |key: &&str| {
            let takes = KEYS.iter().find(|(name, _)| name == key).map(|(_, takes)| *takes);
            takes == Some(Takes::Reload) && !(other_tls && key.starts_with("tls-"))
        };
        let (now, later): (Vec<&str>, Vec<&str>) = changed.into_iter().partition(at_once);
        let owned = |keys: Vec<&str>| keys.into_iter().map(str::to_owned).collect();
        (owned(now), owned(later))
    }
}

/// A filter of log lines, such as `info` or `warn,provault_engine=debug`.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // A word alone would pass for the name of a part of the program.
    let is_level = |part: &str| part.contains('=') || LEVELS.contains(&part);
    let known = level.split(',').map(str::trim).all(is_level);
    EnvFilter::try_new(level).ok().filter(|_| known).ok_or_else(|| {
        format!(
            "--log-level: '{level}' is none; use error, warn, info, debug or trace, or several such as \
             warn,provault_engine=debug."
        )
    })
}

/// The region asked for with `--region`, if any.
pub(crate) fn region_of(global: &GlobalOptions) -> Result<Option<Region>, String> {
    global.region.as_deref().map(|r| r.parse().map_err(|e| format!("--region: {e}"))).transpose()
}

/// Where new vaults are to be made, from `--vault-storage` or the environment. Asks nothing of the
/// storage: a server starts beside one that is down.
fn vault_storage(
    option: Option<&str>,
    storage: &StorageOptions,
) -> Result<Option<VaultPlace>, String> {
    // Not by clap, which would repeat what was given, and in a URL that is wrong it may be a secret.
    let variable = || std::env::var(VAULT_STORAGE).ok().filter(|value| !value.is_empty());
    let (said, text) = match (option, variable()) {
        (Some(text), _) => ("--vault-storage", text.to_owned()),
        (None, Some(text)) => (VAULT_STORAGE, text),
        (None, None) => return Ok(None),
    };
    place(said, &text, storage).map(Some)
}

/// The catalog, from `--catalog` or the environment. The messages do not repeat it: it may hold a password.
fn catalog(option: Option<&str>) -> Result<Option<String>, String> {
    let variable = || std::env::var(CATALOG).ok().filter(|value| !value.is_empty());
    let Some(url) = option.map(str::to_owned).or_else(variable) else { return Ok(None) };
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("--catalog: it must be postgres://USER@HOST/DATABASE; leave it out for an SQLite file in \
             the data directory."
            .to_owned());
    }
    // Everybody on this machine sees the arguments of a process.
    let is_shown = std::env::args().any(|argument| argument.contains(&url));
    let login = url.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
    let has_password =
        login.is_some_and(|(login, _)| login.contains(':')) || url.contains("password=");
    if is_shown && has_password {
        return Err(format!(
            "--catalog: a password stands on the command line, where everybody on this machine can read \
             it; put the URL into {CATALOG} or the file of settings."
        ));
    }
    Ok(Some(url))
}

/// The further regions.
fn sites(given: &[String], storage: &StorageOptions) -> Result<Vec<SiteOptions>, String> {
    let mut sites: Vec<SiteOptions> = Vec::new();
    for text in given {
        let (region, text) = match text.split_once('=') {
            Some((region, text)) => (region, Some(text)),
            None => (text.as_str(), None),
        };
        let region: Region = region.parse().map_err(|why| format!("--site: {why}"))?;
        if sites.iter().any(|site| site.region == region) {
            return Err(format!("--site: {region} is given twice; a region is one site."));
        }
        let vault_storage = text.map(|text| place("--site", text, storage)).transpose()?;
        sites.push(SiteOptions { region, vault_storage });
    }
    Ok(sites)
}

/// A place for vaults that an option or a variable names.
fn place(said: &str, text: &str, storage: &StorageOptions) -> Result<VaultPlace, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{said}: {why}");
    let place = if text.contains(':') {
        VaultPlace::named(text).map_err(|why| wrong(&why))?
    } else {
        if text.is_empty() {
            return Err(wrong(&"it is empty; name a directory or s3://BUCKET/PREFIX."));
        }
        let path = std::path::absolute(text).map_err(|error| wrong(&error))?;
        VaultPlace::named(&path.to_string_lossy()).map_err(|why| wrong(&why))?
    };
    if place.directory().is_none() {
        // Tells of missing credentials and a missing file of authorities.
        place.open(storage).map_err(|error| wrong(&error.message))?;
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;

    /// The documentation that every setting is in.
    const TABLE: &str = include_str!("../../../docs/how-to/configuration.md");
    /// The example that packages install.
    const EXAMPLE: &str = include_str!("../../../packaging/etc/provault.toml");

    fn settings(options: &[&str]) -> Result<ServeSettings, String> {
        let line = ["provault", "serve", "--data-dir", "/nowhere"].iter().chain(options);
        ServeSettings::read_again(&line.map(OsString::from).collect::<Vec<_>>(), None)
    }

    /// Every option of `serve` that the file may hold, as clap knows them.
    fn options() -> BTreeSet<String> {
        let mut command = crate::Args::command();
        command.build();
        let serve = command.find_subcommand("serve").unwrap();
        let all = serve.get_arguments().filter(|arg| !arg.is_hide_set());
        let names = all.filter_map(|arg| arg.get_long()).map(str::to_owned);
        names.filter(|name| !crate::config_file::FOREIGN.contains(&name.as_str())).collect()
    }

    #[test]
    fn every_option_is_a_key_and_the_other_way_round() {
        let keys: BTreeSet<String> = KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
        assert_eq!(keys, options());
        let valued: BTreeSet<String> =
            settings(&[]).unwrap().values().into_iter().map(|(key, _)| key.to_owned()).collect();
        assert_eq!(valued, keys, "a change of each is noticed");
    }

    #[test]
    fn the_documentation_and_the_example_have_every_setting() {
        for (key, takes) in KEYS {
            let row = TABLE.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
            let row =
                row.unwrap_or_else(|| panic!("{key} is not in the table of configuration.md"));
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [_, meaning, unit, default, reload] = cells.as_slice() else {
                panic!("{key}: five cells a row: {row}");
            };
            assert!([meaning, unit, default].iter().all(|cell| !cell.is_empty()), "{row}");
            let word = if *takes == Takes::Reload { "yes" } else { "restart" };
            assert_eq!(*reload, word, "{key}: whether a reload applies it");
            let given = |line: &str| {
                line.trim_start_matches("# ").split('=').next().is_some_and(|k| k.trim() == *key)
            };
            assert!(EXAMPLE.lines().any(given), "{key} is not in packaging/etc/provault.toml");
        }
        let is_setting =
            |line: &&str| line.starts_with("| `") && line.trim_matches('|').split('|').count() == 5;
        let rows = TABLE.lines().filter(is_setting).count();
        assert_eq!(rows, KEYS.len(), "a row of what is no setting");
    }

    #[test]
    fn what_changes_is_sorted_by_when_it_holds() {
        let old = settings(&["--tls-generate"]).unwrap();
        let new = settings(&[
            "--tls-generate",
            "--tls-name=backup.example.org",
            "--limit-upload=100",
            "--log-level=debug",
            "--listen=127.0.0.1:1",
            "--storage-timeout=5",
        ])
        .unwrap();
        let (now, later) = old.changed(&new);
        assert_eq!(now, ["limit-upload", "log-level", "tls-name"]);
        assert_eq!(later, ["listen", "storage-timeout"]);
        let mut after = old.clone();
        after.take_over(new.clone());
        let (now, later) = after.changed(&new);
        assert!(now.is_empty(), "what is in force is no change any more: {now:?}");
        assert_eq!(later, ["listen", "storage-timeout"], "what is not is told again");
        let (now, later) = old.changed(&old.clone());
        assert!(now.is_empty() && later.is_empty());
        // Another way to speak, or not to speak, TLS is no change of a certificate.
        let (now, later) = old.changed(&settings(&[]).unwrap());
        assert_eq!((now.len(), later), (0, vec!["tls-generate".to_owned()]));
        let files = ["--tls-certificate=/a", "--tls-key=/b"];
        let (now, later) = settings(&[]).unwrap().changed(&settings(&files).unwrap());
        assert_eq!((now.len(), later.len()), (0, 2));
        let others = ["--tls-certificate=/c", "--tls-key=/b"];
        let (now, _) = settings(&files).unwrap().changed(&settings(&others).unwrap());
        assert_eq!(now, ["tls-certificate"]);
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for (options, word) in [
            (&["--log-level=loud"][..], "--log-level"),
            (&["--log-level=info,provault=loud"], "--log-level"),
            (&["--tls-name=a"], "--tls-name"),
            (&["--vault-storage="], "--vault-storage"),
            (&["--region=EU"], "--region"),
            (&["--listen=nowhere"], "--listen"),
            (&["--unknown"], "--unknown"),
        ] {
            let error = settings(options).unwrap_err();
            assert!(error.contains(word), "{options:?}: {error}");
        }
    }
}
