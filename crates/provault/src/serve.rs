//! `provault serve`: the server in the foreground, until it is told to stop.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use provault_cli::GlobalOptions;
use provault_domain::{AccountId, Region};
use provault_repository::StorageOptions;

use crate::instance::{Instance, InstanceOptions};

/// Where the server listens unless it is told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7070";
/// What a thread that hangs in a dead mount gets before the process ends without it.
pub const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `serve`. The data directory is the global `--data-dir`; the first start makes it,
/// with the vault `Default`, the default role and key, and a root access key in `DIR/credentials`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on; only loopback, for there is no TLS yet
    #[arg(long, default_value = DEFAULT_LISTEN, value_name = "ADDR")]
    listen: SocketAddr,
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
    let options = InstanceOptions {
        data_dir,
        listen: args.listen,
        account_id: args.account_id.clone(),
        region,
        missing_vault_not_found: args.missing_vault_not_found,
        storage: StorageOptions::with_timeout(Duration::from_secs(args.storage_timeout)),
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
