//! `provault serve`: the server in the foreground, until it is told to stop.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use provault_cli::GlobalOptions;
use provault_domain::{AccountId, Region};
use provault_engine::{DiskReserve, TestLimits, VaultPlace};
use provault_repository::{S3Options, StorageOptions};
use provault_server::TlsFiles;

use crate::instance::{Instance, InstanceOptions, TlsOptions};
use crate::storage_limits::StorageLimits;

/// Where the server listens unless it is told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7070";
/// Where new vaults are made, when no option says it.
const VAULT_STORAGE: &str = "PROVAULT_VAULT_STORAGE";
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
    #[command(flatten)]
    limits: StorageLimits,
    /// Let subscriptions run commands on this machine, as the server's user, for whoever has the root
    /// access key
    #[arg(long)]
    allow_command_subscriptions: bool,
    /// Restore tests that run at a time, 1 to 64
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_once)]
    tests_at_once: NonZeroUsize,
    /// What restore tests leave free of the disk of the data directory, which they restore to: 10%, 500MiB,
    /// 20GiB, or a number of bytes [default: 10%, but 1GiB at most and 128MiB at least]
    #[arg(long, value_name = "PERCENT|SIZE")]
    test_disk_reserve: Option<DiskReserve>,
}

fn at_once(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= 64);
    number.ok_or_else(|| format!("'{text}' is not a number from 1 to 64"))
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
        tls,
        command_subscriptions: args.allow_command_subscriptions,
        tests: TestLimits {
            at_once: args.tests_at_once,
            reserve: args.test_disk_reserve.unwrap_or_default(),
        },
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    let code = runtime.block_on(async {
        let instance = match Instance::start(options).await {
            Ok(instance) => instance,
            Err(error) => return fail(&error.to_string()),
        };
        tracing::info!(
            endpoint = instance.endpoint(),
            data_dir = %instance.data_dir().display(),
            "ready"
        );
        instance.until_signal().await;
        instance.stop("The server was stopped").await;
        ExitCode::SUCCESS
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
    let wrong = |why: &dyn std::fmt::Display| format!("{said}: {why}");
    let place = if text.contains(':') {
        VaultPlace::named(&text).map_err(|why| wrong(&why))?
    } else {
        if text.is_empty() {
            return Err(wrong(&"it is empty; name a directory or s3://BUCKET/PREFIX."));
        }
        let path = std::path::absolute(&text).map_err(|error| wrong(&error))?;
        VaultPlace::named(&path.to_string_lossy()).map_err(|why| wrong(&why))?
    };
    if place.directory().is_none() {
        // Tells of missing credentials and a missing file of authorities.
        place.open(storage).map_err(|error| wrong(&error.message))?;
    }
    Ok(Some(place))
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
