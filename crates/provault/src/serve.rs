//! `provault serve`: the server in the foreground, until it is told to stop.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use provault_cli::GlobalOptions;
use provault_domain::AccountId;
use provault_engine::{DiskReserve, TestLimits};
use tracing_subscriber::EnvFilter;

use crate::instance::{Instance, InstanceOptions};
use crate::reload::Reloader;
use crate::settings::{ServeSettings, Wrong};
use crate::signals::{Signals, Wish};
use crate::storage_limits::StorageLimits;

/// Where the server listens unless it is told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7070";
/// The exit code for a command line that cannot be followed, as clap's.
pub(crate) const USAGE: u8 = 2;
/// What a thread that hangs in a dead mount gets before the process ends without it.
pub const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `serve`. The data directory is the global `--data-dir`; the first start makes it,
/// with the vault `Default`, the default role and key, and a root access key in `DIR/credentials`.
#[derive(Debug, Clone, clap::Args)]
#[allow(
    clippy::doc_markdown,
    reason = "doc comments are help texts here, and backticks would show"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct ServeArgs {
    /// File of settings, provault.toml: options of this command without their dashes, one a line, such as
    /// listen = "127.0.0.1:7070"; the command line wins [default: PROVAULT_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address to listen on; without a certificate only loopback
    #[arg(long, default_value = DEFAULT_LISTEN, value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// PEM file of the server's certificate and those between it and its authority: HTTPS is spoken,
    /// and nothing else. A renewed file is taken into use by itself
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Speak HTTPS with a certificate that the server makes itself; clients elsewhere are given
    /// DIR/tls/authority.pem to believe it
    #[arg(long, conflicts_with = "tls_certificate")]
    pub(crate) tls_generate: bool,
    /// Host name or address by which clients call the server; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Vec<String>,
    /// Account to serve; fixed by the first start [default: 123456789012]
    #[arg(long, value_name = "N")]
    pub(crate) account_id: Option<AccountId>,
    /// Answer `ResourceNotFoundException` instead of AWS's `AccessDeniedException` when a vault that
    /// does not exist is described
    #[arg(long)]
    pub(crate) missing_vault_not_found: bool,
    /// A vault's storage that makes no progress for so long has failed, and so has what it was asked
    /// for, after trying again for twice as long
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) storage_timeout: u64,
    /// Where new vaults are made: a directory or s3://BUCKET/PREFIX, whose key and endpoint are taken
    /// from the AWS_... variables; those that exist stay where they are [default:
    /// PROVAULT_VAULT_STORAGE, else vaults in the data directory]
    #[arg(long, value_name = "PATH|URL")]
    pub(crate) vault_storage: Option<String>,
    /// The catalog of jobs and settings: postgres://USER@HOST/DATABASE. A password belongs into the file of
    /// settings, PROVAULT_CATALOG or PostgreSQL's own password file, not onto the command line [default:
    /// PROVAULT_CATALOG, else an SQLite file in the data directory]
    #[arg(long, value_name = "URL")]
    pub(crate) catalog: Option<String>,
    /// A further region, with vaults, plans and jobs of its own, and where its new vaults are made, as for
    /// --vault-storage [default: in the data directory]; may be repeated
    #[arg(long, value_name = "REGION[=PATH|URL]")]
    pub(crate) site: Vec<String>,
    #[command(flatten)]
    pub(crate) limits: StorageLimits,
    /// Log from this level on: error, warn, info, debug or trace, or several such as
    /// warn,provault_engine=debug; RUST_LOG wins
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub(crate) log_level: String,
    /// Let subscriptions run commands on this machine, as the server's user, for whoever has the root
    /// access key
    #[arg(long)]
    pub(crate) allow_command_subscriptions: bool,
    /// Restore tests that run at a time, 1 to 64
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_once)]
    pub(crate) tests_at_once: NonZeroUsize,
    /// What restore tests leave free of the disk of the data directory, which they restore to: 10%, 500MiB,
    /// 20GiB, or a number of bytes [default: 10%, but 1GiB at most and 128MiB at least]
    #[arg(long, value_name = "PERCENT|SIZE")]
    pub(crate) test_disk_reserve: Option<DiskReserve>,
    /// The time of day is right, though it leapt or the server was off for long: what retention ends may
    /// expire at once instead of after a steady day. For one start; not a setting of the file
    #[arg(long)]
    pub(crate) trust_the_clock: bool,
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
    let settings = match ServeSettings::of(args, global) {
        Ok(settings) => settings,
        Err(Wrong::Else(message)) => return fail(&message),
        Err(Wrong::Usage(message)) => {
            eprintln!("provault: {message}");
            return ExitCode::from(USAGE);
        }
    };
    start_logging(&args.log_level);
    if cfg!(debug_assertions) {
        tracing::warn!(
            "this is a debug build: slow, and able to lose data on purpose for tests. Not for \
             production: build it with --release"
        );
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    let code = runtime.block_on(serve(settings));
    runtime.shutdown_timeout(LAST_PATIENCE);
    code
}

async fn serve(settings: ServeSettings) -> ExitCode {
    // Before anything runs that a signal could end.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signals cannot be heard: {error}")),
    };
    let args = &settings.args;
    let options = InstanceOptions {
        data_dir: settings.data_dir.clone(),
        listen: args.listen,
        account_id: args.account_id.clone(),
        region: settings.region.clone(),
        missing_vault_not_found: args.missing_vault_not_found,
        storage: settings.storage.clone(),
        vault_storage: settings.vault_storage.clone(),
        sites: settings.sites.clone(),
        catalog: settings.catalog.clone(),
        tls: settings.tls.clone(),
        command_subscriptions: args.allow_command_subscriptions,
        trust_the_clock: args.trust_the_clock,
        tests: TestLimits {
            at_once: args.tests_at_once,
            reserve: args.test_disk_reserve.unwrap_or_default(),
        },
    };
    let mut instance = match Instance::start(options).await {
        Ok(instance) => instance,
        Err(error) => return fail(&error.to_string()),
    };
    let given = std::env::args_os().collect();
    instance.app().reload_with(Arc::new(Reloader::new(given, settings, instance.changeable())));
    tracing::info!(
        endpoint = instance.endpoint(),
        data_dir = %instance.data_dir().display(),
        "ready"
    );
    let lost = instance.lost();
    let mut lost = std::pin::pin!(lost);
    let mut outcome = ExitCode::SUCCESS;
    loop {
        let wish = tokio::select! {
            wish = signals.next() => wish,
            () = &mut lost => {
                outcome = fail("another server has taken the catalog, so this one ends; see to it that \
                                only one is started.");
                Wish::Stop
            }
        };
        if wish == Wish::Stop {
            break;
        }
        // What came of it stands in the log, the audit trail and the metrics.
        let _ = instance.app().reload_on_signal().await;
    }
    tracing::info!("stopping: running jobs leave off and go on with the next start");
    let second = tokio::spawn(signals.end_at_once());
    instance.stop("The server was stopped").await;
    second.abort();
    outcome
}

/// Puts another filter in the place of the one in force.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Structured logs on standard error: JSON when it is not a terminal. `RUST_LOG` overrides the
/// level.
pub fn start_logging(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process keeps the first one's logging.
    let set: SetFilter = if std::io::stderr().is_terminal() {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        if builder.try_init().is_err() {
            return;
        }
        Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
    } else {
        let builder = builder.json().with_filter_reloading();
        let handle = builder.reload_handle();
        if builder.try_init().is_err() {
            return;
        }
        Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
    };
    let _ = SET_FILTER.set(set);
}

/// Logs from another level on; `false` where `RUST_LOG` has the last word.
pub(crate) fn set_log_level(level: &str) -> bool {
    let Ok(filter) = crate::settings::filter(level) else { return false };
    if EnvFilter::try_from_default_env().is_ok() {
        return false;
    }
    SET_FILTER.get().is_some_and(|set| set(filter).is_ok())
}

pub(crate) fn fail(message: &str) -> ExitCode {
    eprintln!("provault: {message}");
    ExitCode::FAILURE
}
