//! `provault upgrade-check`: whether this program can take a data directory over, asked before it does.
//!
//! Needs no server and changes nothing, so that it can be run with the new program beside the old one at
//! work.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use provault_catalog::Inspection;
use provault_cli::{GlobalOptions, Output, View};
use provault_domain::BackupVault;
use provault_engine::offline::vault_format;
use provault_engine::{EngineError, VaultPlace};
use provault_repository::StorageOptions;
use serde::Serialize;

use crate::instance::is_in_use;
use crate::serve::fail;
use crate::settings::ServeSettings;
use crate::site::SITES;

/// What SQLite needs at least beside the copy: its log of the change itself.
const ROOM_TO_WORK: u64 = 16 << 20;
/// The catalog's file in the directory of a region.
const CATALOG: &str = "catalog.db";
/// How long a vault's directory may keep silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tell whether this provault can take the data directory over: migrations, catalog, room, settings, vaults;
/// changes nothing and needs no server
#[derive(Debug, clap::Args)]
#[command(after_help = provault_cli::EXIT_CODES_HELP)]
#[allow(
    clippy::doc_markdown,
    reason = "doc comments are help texts here, and backticks would show"
)]
pub struct UpgradeCheckArgs {
    /// The server's file of settings, to be checked too [default: PROVAULT_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How well one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum State {
    Ok,
    /// Something to know before the upgrade, which is possible.
    Note,
    /// It stands in the way.
    Failed,
}

/// Bytes that the catalogs need together, by disk.
type Owed = BTreeMap<u64, u64>;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Finding {
    check: String,
    state: State,
    /// What was found, and what to do.
    detail: String,
}

impl Finding {
    fn new(check: impl Into<String>, state: State, detail: impl Into<String>) -> Self {
        Self { check: check.into(), state, detail: detail.into() }
    }
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    can_be_upgraded: bool,
    version: &'static str,
    data_dir: PathBuf,
    findings: Vec<Finding>,
}

/// Runs the command.
pub fn run(args: &UpgradeCheckArgs, global: &GlobalOptions) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    let variable = std::env::var_os("PROVAULT_CONFIG").filter(|value| !value.is_empty());
    let config = args.config.clone().or_else(|| variable.map(PathBuf::from));
    let (settings, finding) = settings(config.as_deref(), global);
    // As the server finds it: the command line, the file, the environment.
    let data_dir = match (&global.data_dir, &settings) {
        (None, Some(settings)) => Some(settings.data_dir.clone()),
        _ => global.data_dir(),
    };
    let Some(data_dir) = data_dir else {
        return fail(
            "there is no HOME to look for data below; name the directory with --data-dir.",
        );
    };
    let mut findings = runtime.block_on(looked_over(&data_dir, settings.as_ref()));
    findings.push(finding);
    let can_be_upgraded = findings.iter().all(|finding| finding.state != State::Failed);
    let version = env!("CARGO_PKG_VERSION");
    let report = Report { can_be_upgraded, version, data_dir, findings };
    match show(&report, global) {
        Ok(()) if can_be_upgraded => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(message) => fail(&message),
    }
}

fn show(report: &Report, global: &GlobalOptions) -> Result<(), String> {
    let json = serde_json::to_value(report).map_err(|error| error.to_string())?;
    let word = |state| match state {
        State::Ok => "OK",
        State::Note => "NOTE",
        State::Failed => "FAILED",
    };
    let out = Output::standard(global);
    let shown = out.show(&json, || {
        let rows = report.findings.iter().map(|finding| {
            vec![finding.check.clone(), word(finding.state).to_owned(), finding.detail.clone()]
        });
        vec![View::table(&["CHECK", "STATE", "DETAIL"]).rows(rows)]
    });
    let line = if report.can_be_upgraded {
        format!("provault {} can take over {}.", report.version, report.data_dir.display())
    } else {
        format!("provault {} cannot take over {} yet.", report.version, report.data_dir.display())
    };
    shown.and_then(|()| out.note(&line)).map_err(|error| error.to_string())
}

/// Whether this program understands the file of settings.
fn settings(config: Option<&Path>, global: &GlobalOptions) -> (Option<ServeSettings>, Finding) {
    const CHECK: &str = "settings";
    let mut given: Vec<OsString> = ["provault", "serve"].map(OsString::from).to_vec();
    if let Some(data_dir) = &global.data_dir {
        given.push("--data-dir".into());
        given.push(data_dir.into());
    }
    let Some(path) = config else {
        let detail =
            "no file of settings was named; name it with --config, should the server have one.";
        // The environment alone may say where the catalog is.
        let settings = ServeSettings::read_again(&given, None).ok();
        return (settings, Finding::new(CHECK, State::Note, detail));
    };
    match ServeSettings::read_again(&given, Some(path)) {
        Ok(settings) => {
            let detail = format!("{} is understood", path.display());
            (Some(settings), Finding::new(CHECK, State::Ok, detail))
        }
        Err(error) => {
            let detail = format!("{} Put it right before the upgrade.", error.trim());
            (None, Finding::new(CHECK, State::Failed, detail))
        }
    }
}

/// Looks at the server's own region and at all further ones: the start takes over each of them.
async fn looked_over(data_dir: &Path, settings: Option<&ServeSettings>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut owed = Owed::new();
    let file = data_dir.join(CATALOG);
    if settings.is_some_and(|settings| settings.catalog.is_some()) {
        findings.push(in_use(data_dir));
        let detail = "it is in PostgreSQL and was not looked at, nor were its vaults; the first start makes \
                      no copy of it: run pg_dump before";
        findings.push(Finding::new("catalog", State::Note, detail));
    } else if file.is_file() {
        findings.push(in_use(data_dir));
        findings.extend(catalog(&file, data_dir, &mut owed).await);
    } else {
        let detail = format!(
            "there is no catalog in {}: no server ever ran there. Is it the right --data-dir?",
            data_dir.display()
        );
        return vec![Finding::new("catalog", State::Failed, detail)];
    }
    for (region, directory) in further_regions(data_dir, settings) {
        let file = directory.join(CATALOG);
        let found = if file.is_file() {
            catalog(&file, &directory, &mut owed).await
        } else {
            let detail = "there is none yet; the first start makes it";
            vec![Finding::new("catalog", State::Note, detail)]
        };
        let of_region =
            |found: Finding| Finding { check: format!("{region}: {}", found.check), ..found };
        findings.extend(found.into_iter().map(of_region));
    }
    findings
}

/// The further regions that the settings name, and without settings those that are there; with where
/// each lies.
fn further_regions(data_dir: &Path, settings: Option<&ServeSettings>) -> BTreeMap<String, PathBuf> {
    let below = data_dir.join(SITES);
    let told = settings.iter().flat_map(|settings| &settings.sites);
    let mut names: BTreeSet<String> = told.map(|site| site.region.to_string()).collect();
    for entry in std::fs::read_dir(&below).into_iter().flatten().flatten() {
        if entry.path().join(CATALOG).is_file() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.into_iter().map(|name| (name.clone(), below.join(name))).collect()
}

fn in_use(data_dir: &Path) -> Finding {
    const CHECK: &str = "server";
    match is_in_use(data_dir) {
        Ok(true) => Finding::new(
            CHECK,
            State::Note,
            "a server runs on it: stop it before the new one is started",
        ),
        Ok(false) => Finding::new(CHECK, State::Ok, "none runs on it"),
        Err(error) => Finding::new(CHECK, State::Failed, error.to_string()),
    }
}

/// Looks at one catalog and the vaults in it.
async fn catalog(file: &Path, data_dir: &Path, owed: &mut Owed) -> Vec<Finding> {
    let found = match Inspection::of(file).await {
        Ok(found) => found,
        Err(error) => {
            let detail = format!("{} cannot be read: {error}", file.display());
            return vec![Finding::new("catalog", State::Failed, detail)];
        }
    };
    let mut findings = vec![integrity(&found), schema(&found), room(&found, data_dir, owed)];
    if found.damage.is_empty() && found.version <= found.known {
        findings.push(jobs(&found));
        findings.extend(found.vaults.iter().map(|vault| format_of(vault, &found, data_dir)));
    }
    findings
}

fn integrity(found: &Inspection) -> Finding {
    match found.damage.as_slice() {
        [] => Finding::new("catalog", State::Ok, format!("intact, {}", size(found.bytes))),
        [first, ..] => Finding::new(
            "catalog",
            State::Failed,
            format!(
                "it is damaged ({first}). Do not upgrade it: bring the newest whole copy back, see \
                 'provault recovery-kit' and the copies in the vaults."
            ),
        ),
    }
}

fn schema(found: &Inspection) -> Finding {
    const CHECK: &str = "schema";
    let by = found.program.as_ref().map_or_else(String::new, |by| format!(", by provault {by}"));
    let pending = found.pending();
    if found.version > found.known {
        return Finding::new(
            CHECK,
            State::Failed,
            format!(
                "the catalog has version {}{by}; this provault knows up to {}. Use that one or a newer.",
                found.version, found.known
            ),
        );
    }
    if found.damage.is_empty() && found.version == 0 {
        return Finding::new(CHECK, State::Note, "the catalog is empty; it is begun anew");
    }
    if pending.is_empty() {
        return Finding::new(
            CHECK,
            State::Ok,
            format!("version {}{by}: nothing to do", found.version),
        );
    }
    Finding::new(
        CHECK,
        State::Ok,
        format!(
            "version {}{by}; the first start makes versions {} to {}, and before that the copy \
             catalog-before-{:04}.db",
            found.version,
            pending.start(),
            pending.end(),
            pending.start()
        ),
    )
}

fn size(bytes: u64) -> String {
    provault_cli::size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// The copy, and as much again for the change itself; beside what the catalogs before need on the same
/// disk.
fn room(found: &Inspection, data_dir: &Path, owed: &mut Owed) -> Finding {
    const CHECK: &str = "room";
    let needed = if found.pending().is_empty() { 0 } else { 2 * found.bytes } + ROOM_TO_WORK;
    // Where the disk cannot be told nothing can be asked of it either, which is found below.
    let disk = std::fs::metadata(data_dir).map_or(0, |found| found.dev());
    let needed = {
        let all = owed.entry(disk).or_default();
        *all += needed;
        *all
    };
    let free = provault_proof::free_bytes(data_dir);
    match free {
        Ok(free) if free < needed => Finding::new(
            CHECK,
            State::Failed,
            format!("{} free, and {} needed. Make room there.", size(free), size(needed)),
        ),
        Ok(free) => {
            Finding::new(CHECK, State::Ok, format!("{} free, {} needed", size(free), size(needed)))
        }
        Err(error) => Finding::new(CHECK, State::Failed, error.to_string()),
    }
}

fn jobs(found: &Inspection) -> Finding {
    const CHECK: &str = "jobs";
    if found.unfinished.is_empty() {
        return Finding::new(CHECK, State::Ok, "none waits or runs");
    }
    let each = found.unfinished.iter().map(|(kind, state, number)| {
        format!("{number} {} {state}", kind.to_lowercase().replace('_', " "))
    });
    let detail = format!(
        "{}. A stop has those that run leave off; they go on with the next start",
        each.collect::<Vec<_>>().join(", ")
    );
    Finding::new(CHECK, State::Note, detail)
}

/// Whether the vault opens with this program. One in a bucket is not asked: its key is in the server's
/// environment and not in this one's.
fn format_of(vault: &BackupVault, found: &Inspection, data_dir: &Path) -> Finding {
    let check = format!("vault {}", vault.name);
    if matches!(VaultPlace::named(&vault.location), Ok(VaultPlace::Bucket(_))) {
        return Finding::new(check, State::Note, format!("{} was not looked at", vault.location));
    }
    let Some(key) = found.keys.iter().find(|key| key.arn == vault.encryption_key_arn) else {
        return Finding::new(check, State::Note, "its key is not registered; nobody can open it");
    };
    let storage =
        StorageOptions { retry_for: Duration::ZERO, ..StorageOptions::with_timeout(PATIENCE) };
    match vault_format(data_dir, vault, key, &storage) {
        Ok(version) => Finding::new(check, State::Ok, format!("format {version}, readable")),
        // It may be on a disk that is not there now, which has nothing to do with the upgrade; and a
        // format that this program cannot read stands in the way.
        Err(error) if is_unknown_format(&error) => {
            Finding::new(check, State::Failed, error.to_string())
        }
        Err(error) => Finding::new(check, State::Note, error.to_string()),
    }
}

fn is_unknown_format(error: &EngineError) -> bool {
    matches!(error, EngineError::Repository { source, .. }
        if matches!(**source, provault_repository::Error::UnsupportedVersion(_)))
}

#[cfg(test)]
mod tests {
    use provault_catalog::Catalog;

    use super::*;

    fn states(findings: &[Finding]) -> Vec<(&str, State)> {
        findings.iter().map(|finding| (finding.check.as_str(), finding.state)).collect()
    }

    #[tokio::test]
    async fn a_directory_is_looked_over_without_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let none = looked_over(dir.path(), None).await;
        assert_eq!(states(&none), [("catalog", State::Failed)]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let file = dir.path().join("catalog.db");
        Catalog::open(&format!("sqlite:{}", file.display())).await.unwrap().close().await;
        let before = std::fs::read(&file).unwrap();
        let well = looked_over(dir.path(), None).await;
        assert!(well.iter().all(|finding| finding.state == State::Ok), "{well:?}");
        assert_eq!(std::fs::read(&file).unwrap(), before);
        std::fs::write(&file, vec![0x55; before.len()]).unwrap();
        let hurt = looked_over(dir.path(), None).await;
        assert!(hurt.iter().any(|f| f.check == "catalog" && f.state == State::Failed), "{hurt:?}");
    }

    #[test]
    fn versions_decide() {
        let found = |version| Inspection {
            version,
            known: 9,
            program: Some("9.9.9".to_owned()),
            bytes: 1 << 20,
            damage: Vec::new(),
            unfinished: vec![("RESTORE_TEST".to_owned(), "PENDING".to_owned(), 2)],
            vaults: Vec::new(),
            keys: Vec::new(),
            copies: Vec::new(),
        };
        assert_eq!(schema(&found(9)).state, State::Ok);
        let older = schema(&found(7));
        assert_eq!(older.state, State::Ok);
        assert!(older.detail.contains("versions 8 to 9"), "{}", older.detail);
        assert!(older.detail.contains("catalog-before-0008.db"), "{}", older.detail);
        let newer = schema(&found(10));
        assert_eq!(newer.state, State::Failed);
        assert!(newer.detail.contains("9.9.9"), "{}", newer.detail);
        let waiting = jobs(&found(9));
        assert_eq!(waiting.state, State::Note);
        assert!(waiting.detail.starts_with("2 restore test PENDING"), "{}", waiting.detail);
    }

    #[test]
    fn settings_that_this_program_does_not_know_stand_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provault.toml");
        let global = GlobalOptions {
            json: false,
            data_dir: Some(dir.path().to_owned()),
            endpoint: None,
            profile: None,
            ca_bundle: None,
            region: None,
        };
        std::fs::write(&path, "listen = \"127.0.0.1:1\"\n").unwrap();
        assert_eq!(settings(Some(&path), &global).1.state, State::Ok);
        std::fs::write(&path, "listen = \"127.0.0.1:1\"\nlisten-to-me = true\n").unwrap();
        let finding = settings(Some(&path), &global).1;
        assert_eq!(finding.state, State::Failed);
        assert!(finding.detail.contains("listen-to-me"), "{}", finding.detail);
        assert_eq!(settings(None, &global).1.state, State::Note);
    }

    async fn make_catalog(directory: &Path) {
        std::fs::create_dir_all(directory).unwrap();
        let url = format!("sqlite:{}", directory.join(CATALOG).display());
        Catalog::open(&url).await.unwrap().close().await;
    }

    fn state_of(findings: &[Finding], check: &str) -> State {
        let found = findings.iter().find(|finding| finding.check == check);
        found.unwrap_or_else(|| panic!("no {check}: {findings:#?}")).state
    }

    fn served_with(data_dir: &Path, options: &[&str]) -> ServeSettings {
        let line = ["provault", "serve", "--data-dir", data_dir.to_str().unwrap()];
        let line: Vec<_> = line.iter().chain(options).map(OsString::from).collect();
        ServeSettings::read_again(&line, None).unwrap()
    }

    /// The start opens the catalogs of all regions, so each is looked at.
    #[tokio::test]
    async fn every_region_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path();
        make_catalog(home).await;
        let further = home.join(SITES).join("eu-west-1");
        make_catalog(&further).await;
        let settings = served_with(home, &["--site", "eu-west-1", "--site", "eu-north-1"]);
        let findings = looked_over(home, Some(&settings)).await;
        assert_eq!(state_of(&findings, "catalog"), State::Ok);
        assert_eq!(state_of(&findings, "eu-west-1: catalog"), State::Ok);
        assert_eq!(state_of(&findings, "eu-west-1: schema"), State::Ok);
        assert_eq!(state_of(&findings, "eu-north-1: catalog"), State::Note, "it is new");

        std::fs::write(further.join(CATALOG), "no database").unwrap();
        for settings in [Some(&settings), None] {
            let findings = looked_over(home, settings).await;
            assert_eq!(state_of(&findings, "catalog"), State::Ok);
            assert_eq!(state_of(&findings, "eu-west-1: catalog"), State::Failed);
        }
    }

    /// It has no file here, and nobody copies it.
    #[tokio::test]
    async fn a_catalog_in_postgresql_is_a_note() {
        let directory = tempfile::tempdir().unwrap();
        let settings = served_with(directory.path(), &["--catalog", "postgres://me@db/provault"]);
        let findings = looked_over(directory.path(), Some(&settings)).await;
        assert_eq!(state_of(&findings, "catalog"), State::Note);
        assert!(findings.iter().any(|finding| finding.detail.contains("pg_dump")), "{findings:#?}");
        assert!(findings.iter().all(|finding| finding.state != State::Failed), "{findings:#?}");
    }
}
