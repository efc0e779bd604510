//! `provault serve`: the server in the foreground, until it is told to stop.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use provault_cli::GlobalOptions;
use provault_domain::{AccountId, Region};
use provault_engine::VaultPlace;
use provault_repository::{S3Options, StorageOptions};
use provault_server::TlsFiles;

use crate::instance::{Instance, InstanceOptions, TlsOptions};
use crate::site::SiteOptions;
use crate::storage_limits::StorageLimits;

/// Where the server listens unless it is told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7070";
/// Where new vaults are made, when no option says it.
const VAULT_STORAGE: &str = "PROVAULT_VAULT_STORAGE";
/// Where the catalog is, when no option says it.
const CATALOG: &str = "PROVAULT_CATALOG";
/// The exit code for a command line that cannot be followed, as clap's.
pub(crate) const USAGE: u8 = 2;
/// What a thread that hangs in a dead mount gets before the process ends without it.
pub const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `serve`. The data directory is the global `--data-dir`; the first start makes it,
/// with the vault `Default`, the default role and key, and a root access key in `DIR/credentials`.
#[derive(Debug, clap::Args)]
#[allow(
    clippy::doc_markdown,
    reason = "doc comments are help texts here, and backticks would show"
)]
pub struct ServeArgs {
    /// File of settings, provault.toml: options of this command without their dashes, one a line, such as
    /// listen = "127.0.0.1:7070"; the command line wins [default: PROVAULT_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on; without a certificate only loopback
    #[arg(long, default_value = DEFAULT_LISTEN, value_name = "ADDR")]
    listen: SocketAddr,
    /// PEM file of the server's certificate and those between it and its authority: HTTPS is spoken,
    /// and nothing else. A renewed file is taken into use by itself
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Speak HTTPS with a certificate that the server makes itself; clients elsewhere are given
    /// DIR/tls/authority.pem to believe it
    #[arg(long, conflicts_with = "tls_certificate")]
    tls_generate: bool,
    /// Host name or address by which clients call the server; may be repeated
    #[arg(long, value_name = "NAME")]
    tls_name: Vec<String>,
    /// Account to serve; fixed by the first start [default: 123456789012]
    #[arg(long, value_name = "N")]
    account_id: Option<AccountId>,
    /// Answer `ResourceNotFoundException` instead of AWS's `AccessDeniedException` when a vault that
    /// does not exist is described
    #[arg(long)]
    missing_vault_not_found: bool,
    /// A vault's storage that makes no progress for so long has failed, and so has what it was asked
    /// for, after trying again for twice as long
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    storage_timeout: u64,
    /// Where new vaults are made: a directory or s3://BUCKET/PREFIX, whose key and endpoint are taken
    /// from the AWS_... variables; those that exist stay where they are [default:
    /// PROVAULT_VAULT_STORAGE, else vaults in the data directory]
    #[arg(long, value_name = "PATH|URL")]
    vault_storage: Option<String>,
    /// The catalog of jobs and settings: postgres://USER@HOST/DATABASE. A password belongs into the file of
    /// settings, PROVAULT_CATALOG or PostgreSQL's own password file, not onto the command line [default:
    /// PROVAULT_CATALOG, else an SQLite file in the data directory]
    #[arg(long, value_name = "URL")]
    catalog: Option<String>,
    /// A further region, with vaults, plans and jobs of its own, and where its new vaults are made, as for
    /// --vault-storage [default: in the data directory]; may be repeated
    #[arg(long, value_name = "REGION[=PATH|URL]")]
    site: Vec<String>,
    #[command(flatten)]
    limits: StorageLimits,
    /// Let subscriptions run commands on this machine, as the server's user, for whoever has the root
    /// access key
    #[arg(long)]
    allow_command_subscriptions: bool,
}

impl ServeArgs {
    /// The file of settings that is asked for.
    pub(crate) fn config(&self) -> Option<PathBuf> {
        let variable = std::env::var_os("PROVAULT_CONFIG").filter(|value| !value.is_empty());
        self.config.clone().or_else(|| variable.map(PathBuf::from))
    }
}

/// Runs the server until SIGINT or SIGTERM.
pub fn run(args: &ServeArgs, global: &GlobalOptions) -> ExitCode {
    start_logging("info");
    if cfg!(debug_assertions) {
        tracing::warn!(
            "this is a debug build: slow, and able to lose data on purpose for tests. Not for \
             production: build it with --release"
        );
    }
    let Some(data_dir) = global.data_dir() else {
        return fail("there is no HOME to keep data below; name a directory with --data-dir.");
    };
    let region = match region_of(global) {
        Ok(region) => region,
        Err(message) => return fail(&message),
    };
    let storage = StorageOptions {
        s3: S3Options::from_environment(),
        ..StorageOptions::with_timeout(Duration::from_secs(args.storage_timeout))
    };
    let storage = args.limits.applied_to(storage);
    let vault_storage = match vault_storage(args.vault_storage.as_deref(), &storage) {
        Ok(place) => place,
        Err(message) => {
            eprintln!("provault: {message}");
            return ExitCode::from(USAGE);
        }
    };
    let catalog = match catalog(args.catalog.as_deref()) {
        Ok(catalog) => catalog,
        Err(message) => {
            eprintln!("provault: {message}");
            return ExitCode::from(USAGE);
        }
    };
    let sites = match sites(&args.site, &storage) {
        Ok(sites) => sites,
        Err(message) => {
            eprintln!("provault: {message}");
            return ExitCode::from(USAGE);
        }
    };
    let files = args.tls_certificate.clone().zip(args.tls_key.clone());
    let files = files.map(|(certificate, key)| TlsFiles { certificate, key });
    let tls = (files.is_some() || args.tls_generate)
        .then(|| TlsOptions { files, names: args.tls_name.clone() });
    if tls.is_none() && !args.tls_name.is_empty() {
        eprintln!(
            "provault: --tls-name needs --tls-generate, or --tls-certificate with --tls-key."
        );
        return ExitCode::from(USAGE);
    }
    let options = InstanceOptions {
        data_dir,
        listen: args.listen,
        account_id: args.account_id.clone(),
        region,
        missing_vault_not_found: args.missing_vault_not_found,
        storage,
        vault_storage,
        sites,
        catalog,
        tls,
        command_subscriptions: args.allow_command_subscriptions,
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    let code = runtime.block_on(async {
        let mut instance = match Instance::start(options).await {
            Ok(instance) => instance,
            Err(error) => return fail(&error.to_string()),
        };
        tracing::info!(
            endpoint = instance.endpoint(),
            data_dir = %instance.data_dir().display(),
            "ready"
        );
        let told = instance.until_told_to_stop().await;
        instance.stop("The server was stopped").await;
        match told {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        }
    });
    runtime.shutdown_timeout(LAST_PATIENCE);
    code
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
        return Err("the catalog must be postgres://USER@HOST/DATABASE; leave it out for an SQLite file in the \
             data directory."
            .to_owned());
    }
    // Everybody on this machine sees the arguments of a process.
    let is_shown = std::env::args().any(|argument| argument.contains(&url));
    let login = url.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
    let has_password =
        login.is_some_and(|(login, _)| login.contains(':')) || url.contains("password=");
    if is_shown && has_password {
        return Err(format!(
            "the catalog's password stands on the command line, where everybody on this machine can read \
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

/// The region asked for with `--region`, if any.
pub(crate) fn region_of(global: &GlobalOptions) -> Result<Option<Region>, String> {
    global.region.as_deref().map(|r| r.parse().map_err(|e| format!("--region: {e}"))).transpose()
}

/// Structured logs on standard error: JSON when it is not a terminal. `RUST_LOG` overrides the
/// level.
pub fn start_logging(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process keeps the first one's logging.
    let _ = if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().try_init()
    };
}

pub(crate) fn fail(message: &str) -> ExitCode {
    eprintln!("provault: {message}");
    ExitCode::FAILURE
}
