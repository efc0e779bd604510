//! A server in this process: directory, lock, catalog, engine, use cases, HTTP.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use provault_app::App;
use provault_catalog::Catalog;
use provault_cli::ServerFile;
use provault_domain::{AccountId, Region};
use provault_engine::{Engine, Running, TestLimits, VaultPlace};
use provault_repository::{StorageOptions, real_directory};
use provault_server::{Server, ServerOptions, Tls, TlsFiles};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::certificate;
use crate::reload::Changeable;
use crate::site::{Site, SiteOptions};

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
    /// Further regions.
    pub sites: Vec<SiteOptions>,
    /// The catalog of the first region, `postgres://…`; nothing for SQLite in the data directory.
    pub catalog: Option<String>,
    /// See `serve --allow-command-subscriptions`.
    pub command_subscriptions: bool,
    /// See `serve --trust-the-clock`.
    pub trust_the_clock: bool,
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
    pub(crate) fn new(doing: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("{doing}: {error}"))
    }
}

/// A running server.
pub struct Instance {
    data_dir: PathBuf,
    endpoint: String,
    app: App,
    /// The first region's before all others.
    sites: Vec<Site>,
    changeable: Changeable,
    running: Vec<Running>,
    stop_http: oneshot::Sender<()>,
    http: JoinHandle<()>,
    /// Renews a certificate that the server made.
    renewals: Option<JoinHandle<()>>,
}

impl Instance {
    /// Starts a server. The first start makes the directory and what belongs in it; the next one
    /// finds everything again. A second server on the same directory is refused.
    pub async fn start(options: InstanceOptions) -> Result<Self, StartError> {
        refuse_planted_bug()?;
        let storage = options.storage.clone();
        let (mut sites, files) = Site::open_all(&options).await?;
        let home = sites.remove(0);
        let (data_dir, app) = (home.data_dir.clone(), home.app.clone());
        let certificate = options
            .tls
            .map(|tls| CertificateInUse::of(tls, &data_dir, options.listen.ip()))
            .transpose()
            .map_err(|error| StartError::new("TLS", error))?
            .map(Arc::new);
        let limits = ServerOptions {
            tls: certificate.as_ref().map(|certificate| certificate.tls.clone()),
            metrics_token: Some(metrics_token(&data_dir)?),
            ..ServerOptions::default()
        };
        let others = sites.iter().map(|site| site.app.clone()).collect();
        let server = Server::bind_sites(app.clone(), others, options.listen, limits)
            .await
            .map_err(|error| StartError::new(&options.listen.to_string(), error))?;
        let listen = server.local_addr();
        let endpoint = endpoint(listen, certificate.as_deref());
        sites.insert(0, home);
        let mut running = Vec::new();
        for site in &sites {
            if options.trust_the_clock {
                let trusted = site.app.trust_the_clock().await;
                trusted.map_err(|error| StartError::new("the clock", error))?;
            }
            running.push(site.start().await?);
        }
        let file = ServerFile {
            endpoint: endpoint.clone(),
            region: app.region().to_string(),
            further_regions: sites[1..].iter().map(|site| site.app.region().to_string()).collect(),
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
        let renewals = certificate.clone().map(|certificate| {
            let data_dir = data_dir.clone();
            tokio::spawn(async move { certificate.renewed(data_dir).await })
        });
        let changeable = Changeable {
            data_dir: data_dir.clone(),
            engines: sites.iter().map(|site| site.engine.clone()).collect(),
            files,
            storage,
            certificate,
            server_file: file,
            listen,
        };
        Ok(Self { data_dir, endpoint, app, sites, changeable, running, stop_http, http, renewals })
    }

    /// Where it answers.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where it keeps everything.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The engine of its first region.
    pub fn engine(&self) -> &Engine {
        &self.sites[0].engine
    }

    /// Returns once another server has taken the catalog of its first region.
    pub(crate) fn lost(&mut self) -> impl Future<Output = ()> + use<> {
        self.sites[0].lost()
    }

    /// Its use cases.
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// What of it settings can change while it runs.
    pub(crate) fn changeable(&self) -> Changeable {
        self.changeable.clone()
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

    /// Answers nothing more, has running jobs leave off, and ends.
    pub async fn stop(self, reason: &str) {
        // The server may have ended by itself; then nobody listens for the word.
        let _ = self.stop_http.send(());
        if let Some(renewals) = self.renewals {
            renewals.abort();
        }
        // All at a time: their limits must not add up.
        let mut stops = tokio::task::JoinSet::new();
        for running in self.running {
            let reason = reason.to_owned();
            stops.spawn(async move { running.stop(&reason).await });
        }
        stops.join_all().await;
        if let Err(error) = self.http.await {
            tracing::error!(%error, "the HTTP server broke down");
        }
        for site in &self.sites {
            site.engine.catalog().close().await;
        }
    }
}

/// The certificate in use.
pub(crate) struct CertificateInUse {
    tls: Tls,
    names: Mutex<Vec<String>>,
    /// The authority of a certificate that the server made.
    authority: Option<PathBuf>,
}

impl CertificateInUse {
    fn of(options: TlsOptions, data_dir: &Path, listen: IpAddr) -> Result<Self, String> {
        let (files, names, authority) = if let Some(files) = options.files {
            (files, options.names, None)
        } else {
            let names = own_names(options.names, listen);
            let files = certificate::generated(data_dir, &names, SystemTime::now())?;
            (files, names, Some(certificate::authority(data_dir)))
        };
        let tls = Tls::load(files).map_err(|error| error.to_string())?;
        Ok(Self { tls, names: Mutex::new(names), authority })
    }

    fn names(&self) -> MutexGuard<'_, Vec<String>> {
        // They are replaced as a whole: a panic elsewhere leaves nothing half done.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one from other files, or for other names, into use. Whether the server made it does not change.
    /// An error has changed nothing.
    pub(crate) fn change(
        &self,
        options: TlsOptions,
        data_dir: &Path,
        listen: IpAddr,
    ) -> Result<(), String> {
        // Held to the end: a renewal in between would be for the names before.
        let mut in_use = self.names();
        let (files, names) = if let Some(files) = options.files {
            (files, options.names)
        } else {
            let names = own_names(options.names, listen);
            (certificate::generated(data_dir, &names, SystemTime::now())?, names)
        };
        self.tls.replace(files).map_err(|error| error.to_string())?;
        *in_use = names;
        Ok(())
    }

    /// Renews what the server made before it ends, for as long as the server runs; the listener takes
    /// new files into use by itself.
    async fn renewed(self: Arc<Self>, data_dir: PathBuf) {
        while self.authority.is_some() {
            tokio::time::sleep(RENEWED_EVERY).await;
            let (certificate, data_dir) = (Arc::clone(&self), data_dir.clone());
            let made = tokio::task::spawn_blocking(move || {
                let names = certificate.names();
                certificate::generated(&data_dir, &names, SystemTime::now())
            });
            if let Ok(Err(error)) = made.await {
                tracing::error!(error, "the server's certificate could not be renewed");
            }
        }
    }
}

/// The names of a certificate that the server makes: what its own machine calls it by is always good.
fn own_names(mut names: Vec<String>, listen: IpAddr) -> Vec<String> {
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    names.extend((!listen.is_unspecified()).then(|| listen.to_string()));
    let host = hostname();
    names.extend((!host.is_empty()).then_some(host));
    unique(names)
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
pub(crate) fn endpoint(addr: SocketAddr, certificate: Option<&CertificateInUse>) -> String {
    let Some(certificate) = certificate else { return format!("http://{addr}") };
    let own =
        if addr.ip().is_unspecified() { "localhost".to_owned() } else { addr.ip().to_string() };
    // The operator's certificate is for the names that the operator said.
    let name = match (&certificate.authority, certificate.names().first()) {
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
pub(crate) async fn vault_directories(
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
