//! A server in this process: directory, lock, catalog, engine, use cases, HTTP.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use provault_app::{App, Settings, Setup};
use provault_catalog::Catalog;
use provault_cli::ServerFile;
use provault_domain::{AccountId, Region};
use provault_driver_filesystem::FilesystemDriver;
use provault_engine::{Engine, Parts, Running, TestLimits, VaultPlace};
use provault_proof::HelperCommand;
use provault_repository::{StorageOptions, real_directory};
use provault_server::{Server, ServerOptions, Tls, TlsFiles};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::certificate;
use crate::clock::SystemClock;

/// How often the age of a certificate that the server made is looked at.
const RENEWED_EVERY: Duration = Duration::from_hours(24);

/// How a server is to be started.
pub struct InstanceOptions {
    /// Everything it keeps lies below.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// `None`: as before, or the default at the first start.
    pub account_id: Option<AccountId>,
    /// `None`: as before, or the default at the first start.
    pub region: Option<Region>,
    /// See `serve --missing-vault-not-found`.
    pub missing_vault_not_found: bool,
    /// How patiently the storage of vaults is asked, and who we are in a store of buckets.
    pub storage: StorageOptions,
    /// Where new vaults are made; nothing for `vaults` below the data directory.
    pub vault_storage: Option<VaultPlace>,
    /// See `serve --allow-command-subscriptions`.
    pub command_subscriptions: bool,
    /// What restore tests may take of the server.
    pub tests: TestLimits,
    /// What HTTPS is spoken with; without it plain HTTP.
    pub tls: Option<TlsOptions>,
}

/// The certificate of a server.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// The operator's; nothing for one that the server makes.
    pub files: Option<TlsFiles>,
    /// Host names and addresses by which the server is called.
    pub names: Vec<String>,
}

/// A server that could not be started, in words for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

impl StartError {
    fn new(doing: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("{doing}: {error}"))
    }
}

/// A running server.
pub struct Instance {
    data_dir: PathBuf,
    endpoint: String,
    engine: Engine,
    running: Running,
    stop_http: oneshot::Sender<()>,
    http: JoinHandle<()>,
    /// Renews a certificate that the server made.
    renewals: Option<JoinHandle<()>>,
    /// Held as long as the server runs; the system releases it when the process dies.
    _lock: Flock<File>,
}

impl Instance {
    /// Starts a server. The first start makes the directory and what belongs in it; the next one
    /// finds everything again. A second server on the same directory is refused.
    pub async fn start(options: InstanceOptions) -> Result<Self, StartError> {
        refuse_planted_bug()?;
        let (data_dir, lock) = hold(&options.data_dir)?;
        let url = format!("sqlite:{}", data_dir.join("catalog.db").display());
        let catalog =
            Catalog::open(&url).await.map_err(|error| StartError::new("the catalog", error))?;
        let others = vault_directories(&catalog, options.vault_storage.as_ref(), &options.storage)
            .await
            .map_err(|error| StartError::new("the catalog", error))?;
        let files = FilesystemDriver::reserving(vec![data_dir.clone()]).and_by_name(others);
        let engine = Engine::new(Parts {
            catalog,
            data_dir: data_dir.clone(),
            clock: Arc::new(SystemClock::new()),
            drivers: vec![Arc::new(files)],
            helper: HelperCommand::this_program(["__isolate"]),
            hostname: hostname(),
            storage: options.storage,
            vault_storage: options.vault_storage,
            command_subscriptions: options.command_subscriptions,
            tests: options.tests,
        })
        .map_err(|error| StartError::new("the engine", error))?;
        let app = App::open(Setup {
            engine: engine.clone(),
            data_dir: data_dir.clone(),
            account: options.account_id,
            region: options.region,
            settings: Settings {
                missing_vault_is_access_denied: !options.missing_vault_not_found,
                ..Settings::default()
            },
        })
        .await
        .map_err(|error| StartError::new("the first records", error))?;
        let certificate = options
            .tls
            .map(|tls| Certificate::of(tls, &data_dir, options.listen.ip()))
            .transpose()
            .map_err(|error| StartError::new("TLS", error))?;
        let limits = ServerOptions {
            tls: certificate.as_ref().map(|certificate| certificate.tls.clone()),
            metrics_token: Some(metrics_token(&data_dir)?),
            ..ServerOptions::default()
        };
        let server = Server::bind(app.clone(), options.listen, limits)
            .await
            .map_err(|error| StartError::new(&options.listen.to_string(), error))?;
        let endpoint = endpoint(server.local_addr(), certificate.as_ref());
        let running =
            engine.start(true).await.map_err(|error| StartError::new("the engine", error))?;
        let file = ServerFile {
            endpoint: endpoint.clone(),
            region: app.region().to_string(),
            account_id: app.account().to_string(),
            ca_file: certificate.as_ref().and_then(|c| c.authority.clone()),
        };
        file.store(&data_dir).map_err(|error| {
            StartError::new(&ServerFile::path(&data_dir).display().to_string(), error)
        })?;
        let (stop_http, stopped) = oneshot::channel();
        let http = tokio::spawn(async move {
            let shutdown = async {
                // A dropped sender stops the server just as a sent word does.
                let _ = stopped.await;
            };
            server.serve(shutdown).await;
        });
        let renewals =
            certificate.map(|certificate| tokio::spawn(certificate.renewed(data_dir.clone())));
        Ok(Self { data_dir, endpoint, engine, running, stop_http, http, renewals, _lock: lock })
    }

    /// Where it answers.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where it keeps everything.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Waits for SIGINT or SIGTERM.
    pub async fn until_signal(&self) {
        use tokio::signal::unix::{SignalKind, signal};
        let terminated = async {
            match signal(SignalKind::terminate()) {
                Ok(mut stream) => drop(stream.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminated => {}
        }
    }

    /// Answers nothing more, asks running jobs to stop, and ends.
    pub async fn stop(self, reason: &str) {
        // The server may have ended by itself; then nobody listens for the word.
        let _ = self.stop_http.send(());
        if let Some(renewals) = self.renewals {
            renewals.abort();
        }
        self.running.stop(reason).await;
        if let Err(error) = self.http.await {
            tracing::error!(%error, "the HTTP server broke down");
        }
        self.engine.catalog().close().await;
    }
}

/// The certificate in use.
struct Certificate {
    tls: Tls,
    names: Vec<String>,
    /// The authority of a certificate that the server made.
    authority: Option<PathBuf>,
}

impl Certificate {
    fn of(options: TlsOptions, data_dir: &Path, listen: IpAddr) -> Result<Self, String> {
        let mut names = options.names;
        let (files, authority) = if let Some(files) = options.files {
            (files, None)
        } else {
            // What the server's own machine calls it by is always good.
            names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
            names.extend((!listen.is_unspecified()).then(|| listen.to_string()));
            let host = hostname();
            names.extend((!host.is_empty()).then_some(host));
            names = unique(names);
            let files = certificate::generated(data_dir, &names, SystemTime::now())?;
            (files, Some(certificate::authority(data_dir)))
        };
        let tls = Tls::load(files).map_err(|error| error.to_string())?;
        Ok(Self { tls, names, authority })
    }

    /// Renews what the server made before it ends, for as long as the server runs; the listener takes
    /// new files into use by itself.
    async fn renewed(self, data_dir: PathBuf) {
        while self.authority.is_some() {
            tokio::time::sleep(RENEWED_EVERY).await;
            let (names, data_dir) = (self.names.clone(), data_dir.clone());
            let made = tokio::task::spawn_blocking(move || {
                certificate::generated(&data_dir, &names, SystemTime::now())
            });
            if let Ok(Err(error)) = made.await {
                tracing::error!(error, "the server's certificate could not be renewed");
            }
        }
    }
}

/// The token that collectors of metrics bear, made by the first start: `DIR/metrics-token`.
fn metrics_token(data_dir: &Path) -> Result<String, StartError> {
    let path = data_dir.join("metrics-token");
    let failed = |error: std::io::Error| StartError::new(&path.display().to_string(), error);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // Two of 122 random bits each.
    let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let new = data_dir.join(".metrics-token.new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&new).and_then(|mut file| {
        std::io::Write::write_all(&mut file, token.as_bytes())?;
        std::fs::rename(&new, &path)
    });
    written.map_err(failed)?;
    Ok(token)
}

fn unique(names: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

/// What clients on this machine call the server by.
fn endpoint(addr: SocketAddr, certificate: Option<&Certificate>) -> String {
    let Some(certificate) = certificate else { return format!("http://{addr}") };
    let own =
        if addr.ip().is_unspecified() { "localhost".to_owned() } else { addr.ip().to_string() };
    // The operator's certificate is for the names that the operator said.
    let name = match (&certificate.authority, certificate.names.first()) {
        (None, Some(name)) => name.clone(),
        _ => own,
    };
    let name = if name.contains(':') { format!("[{name}]") } else { name };
    format!("https://{name}:{}", addr.port())
}

/// A bug that is planted for tests must never come near anybody's backups. Tests of the server that
/// want one say so with a variable that nobody else sets.
#[cfg(debug_assertions)]
fn refuse_planted_bug() -> Result<(), StartError> {
    use provault_repository::planted;
    const INSIST: &str = "PROVAULT_TEST_SERVES_PLANTED_BUG";
    match planted::wanted() {
        Some(bug) if std::env::var_os(INSIST).is_none() => Err(StartError(format!(
            "{}={bug} is set, which makes this debug build lose data on purpose. Unset it; only \
             tests of Provault itself set it, together with {INSIST}.",
            planted::VARIABLE
        ))),
        _ => Ok(()),
    }
}

/// There are no planted bugs in this build.
#[cfg(not(debug_assertions))]
#[allow(clippy::unnecessary_wraps, reason = "the other builds have something to refuse")]
const fn refuse_planted_bug() -> Result<(), StartError> {
    Ok(())
}

/// The directories outside of the data directory in which this server keeps vaults. Links on the way
/// to one are followed, as long as its file system answers.
async fn vault_directories(
    catalog: &Catalog,
    root: Option<&VaultPlace>,
    storage: &StorageOptions,
) -> Result<Vec<PathBuf>, provault_catalog::CatalogError> {
    let vaults = catalog.all_vaults().await?;
    // What was imported is somebody's, and may lie in a directory that is backed up.
    let made = vaults.iter().filter(|vault| !vault.imported);
    let places = made.filter_map(|vault| VaultPlace::named(&vault.location).ok());
    let written = places.chain(root.cloned()).filter_map(|p| p.directory().map(Path::to_owned));
    // All at a time: mounts that do not answer must not add up.
    let mut looks = tokio::task::JoinSet::new();
    let mut directories = BTreeSet::new();
    for path in written {
        let (asked, storage) = (path.clone(), storage.clone());
        looks.spawn_blocking(move || real_directory(&asked, &storage));
        directories.insert(path);
    }
    directories.extend(looks.join_all().await.into_iter().filter_map(Result::ok));
    Ok(directories.into_iter().collect())
}

/// Makes a data directory if it is missing, and locks it for this process.
pub fn hold(path: &Path) -> Result<(PathBuf, Flock<File>), StartError> {
    make_directory(path)?;
    let data_dir =
        path.canonicalize().map_err(|error| StartError::new(&path.display().to_string(), error))?;
    let lock = lock(&data_dir)?;
    Ok((data_dir, lock))
}

/// The name of this machine.
pub fn hostname() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn make_directory(path: &Path) -> Result<(), StartError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| StartError::new(&path.display().to_string(), error))
}

fn lock(data_dir: &Path) -> Result<Flock<File>, StartError> {
    let path = data_dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| StartError::new(&path.display().to_string(), error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        StartError(if errno == nix::errno::Errno::EWOULDBLOCK {
            format!(
                "another server runs on {}; stop it first, or choose another --data-dir.",
                data_dir.display()
            )
        } else {
            format!("{}: {errno}", path.display())
        })
    })
}

/// Whether a server runs on the directory.
pub fn is_in_use(data_dir: &Path) -> Result<bool, StartError> {
    if !data_dir.join("lock").exists() {
        return Ok(false);
    }
    match lock(data_dir) {
        Ok(_) => Ok(false),
        Err(StartError(message)) if message.starts_with("another server") => Ok(true),
        Err(error) => Err(error),
    }
}
