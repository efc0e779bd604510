//! `provault recovery-kit`: bringing a server back from a kit and the storage of its vaults.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use provault_catalog::Catalog;
use provault_cli::{ExportKitArgs, GlobalOptions};
use provault_driver_filesystem::FilesystemDriver;
use provault_driver_volume::VolumeDriver;
use provault_engine::{Clock as _, Kit, Parts, Restored, TestLimits, VaultPlace};
use provault_proof::HelperCommand;
use provault_repository::{S3Options, StorageOptions};

use crate::clock::SystemClock;
use crate::instance::{hold, hostname};
use crate::secret;
use crate::serve::{fail, start_logging};

/// Subcommands of `recovery-kit`.
#[derive(Debug, clap::Subcommand)]
pub enum RecoveryKitCommand {
    /// Write a kit: the sealed keys, where the vaults are, and what to do
    #[command(after_help = provault_cli::EXIT_CODES_HELP)]
    Export(ExportKitArgs),
    /// Show what is in a kit; needs no server
    Show {
        #[command(flatten)]
        kit: KitArgs,
        /// Show the passwords of the vaults as well, for restic
        #[arg(long)]
        passwords: bool,
    },
    /// Rebuild a server in --data-dir from a kit and the storage of its vaults
    Restore {
        #[command(flatten)]
        kit: KitArgs,
        /// A vault that lies elsewhere now; may be repeated
        #[arg(long = "vault", value_name = "NAME=LOCATION", value_parser = moved)]
        moved: Vec<(String, String)>,
    },
}

/// The kit and how to open it.
#[derive(Debug, clap::Args)]
pub struct KitArgs {
    /// The kit's file
    file: PathBuf,
    /// The file with the recovery code or passphrase, - for standard input [default: asked for on the
    /// terminal, else standard input]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

fn moved(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, location)) if !name.is_empty() => {
            Ok((name.to_owned(), VaultPlace::named(location)?.to_string()))
        }
        _ => Err("write NAME=LOCATION with an absolute path or s3://BUCKET/PREFIX".to_owned()),
    }
}

impl KitArgs {
    fn open(&self) -> Result<Kit, String> {
        let shown = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(&self.file).map_err(|e| shown(&self.file, e))?;
        let what = "passphrase";
        let secret = match &self.passphrase_file {
            Some(file) => secret::read(file, what)?,
            None => match secret::ask("Recovery code or passphrase: ", what)? {
                Some(typed) => typed,
                None => secret::read(Path::new("-"), what)?,
            },
        };
        // Below it, a file may say what it is for.
        let secret = secret.lines().next().unwrap_or_default().trim();
        Kit::open(&text, secret).map_err(|error| error.to_string())
    }
}

/// Runs a subcommand.
pub fn run(command: RecoveryKitCommand, global: &GlobalOptions) -> ExitCode {
    match command {
        RecoveryKitCommand::Export(args) => provault_cli::export_recovery_kit(args, global),
        RecoveryKitCommand::Show { kit, passwords } => match kit.open() {
            Ok(kit) => {
                print!("{}", described(&kit, passwords));
                ExitCode::SUCCESS
            }
            Err(message) => fail(&message),
        },
        RecoveryKitCommand::Restore { kit, moved } => match restore(&kit, moved, global) {
            Ok((restored, data_dir)) => report(&restored, &data_dir),
            Err(message) => fail(&message),
        },
    }
}

fn described(kit: &Kit, passwords: bool) -> String {
    let mut text = format!("Account {}, made {}\n", kit.account, kit.made_at);
    for vault in &kit.vaults {
        let password = if passwords { format!("  {}", vault.password) } else { String::new() };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}  {}{password}", vault.name(), vault.location);
    }
    if let Some(endpoint) = &kit.s3_endpoint {
        let _ = writeln!(text, "Endpoint of s3://: {endpoint}");
    }
    text
}

fn restore(
    kit: &KitArgs,
    moved: Vec<(String, String)>,
    global: &GlobalOptions,
) -> Result<(Restored, PathBuf), String> {
    start_logging("warn");
    let data_dir = global
        .data_dir()
        .ok_or("there is no HOME to keep data below; name a directory with --data-dir.")?;
    let mut kit = kit.open()?;
    let mut places = BTreeMap::new();
    for (name, location) in moved {
        if places.insert(name.clone(), location).is_some() {
            return Err(format!("--vault {name} is given twice."));
        }
    }
    kit.relocate(&places).map_err(|error| error.to_string())?;
    let (data_dir, _lock) = hold(&data_dir).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let clock = Arc::new(SystemClock::new());
    let now = clock.now();
    let storage = StorageOptions { s3: S3Options::from_environment(), ..StorageOptions::default() };
    let files = FilesystemDriver::reserving(vec![data_dir.clone()]);
    let volumes = VolumeDriver::reserving(files.reserved());
    let parts = |catalog: Catalog| Parts {
        catalog,
        data_dir: data_dir.clone(),
        clock,
        drivers: vec![Arc::new(files), Arc::new(volumes)],
        helper: HelperCommand::this_program(["__isolate"]),
        hostname: hostname(),
        storage: storage.clone(),
        vault_storage: None,
        command_subscriptions: false,
        tests: TestLimits::default(),
        at_work: Arc::default(),
    };
    let restored = runtime
        .block_on(kit.restore(&data_dir.join("catalog.db"), &storage, now, parts))
        .map_err(|error| error.to_string())?;
    Ok((restored, data_dir))
}

fn report(restored: &Restored, data_dir: &Path) -> ExitCode {
    match &restored.catalog_copy {
        Some((at, vault)) => println!("The catalog is that of {at}, from vault {vault}."),
        None => println!("No copy of the catalog was found; it was made anew from the vaults."),
    }
    for (vault, found) in &restored.imported {
        println!(
            "Vault {vault}: {} snapshots, {} recovery points entered that the catalog did not know.",
            found.snapshots, found.points
        );
        for problem in &found.problems {
            eprintln!("provault: vault {vault}: {problem}");
        }
    }
    for problem in &restored.problems {
        eprintln!("provault: {problem}");
    }
    println!("Start the server: provault serve --data-dir {}", data_dir.display());
    let whole = restored.problems.is_empty()
        && restored.imported.iter().all(|(_, found)| found.problems.is_empty());
    if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
