//! The listener and its connections.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use provault_app::App;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::handle;
use crate::ready::Readiness;
use crate::refusals::Refusals;
use crate::strangers::{Stranger, Strangers};
use crate::tls::Tls;

/// How often the files of the certificate are looked at. A half-written pair is of no use and is tried
/// again.
const RENEWALS_EVERY: Duration = Duration::from_secs(30);

/// Limits of the listener.
#[derive(Clone)]
pub struct ServerOptions {
    /// Bytes a request's body may have: 1 MiB by default, more than any request of the model needs.
    pub max_body_bytes: usize,
    /// How long a client may take to send the head of a request, and a connection be idle.
    pub header_timeout: Duration,
    /// How long a client may take to send a body.
    pub body_timeout: Duration,
    /// Connections served at a time; further ones wait.
    pub max_connections: usize,
    /// Connections from one address on which nobody has signed a request yet; further ones are closed.
    pub max_strangers: usize,
    /// How long running requests may take to end when the server stops.
    pub shutdown_timeout: Duration,
    /// What HTTPS is spoken with; without it plain HTTP, and only on loopback.
    pub tls: Option<Tls>,
    /// Who bears it may read the metrics; without one nobody may.
    pub metrics_token: Option<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            max_connections: 512,
            max_strangers: 64,
            shutdown_timeout: Duration::from_secs(10),
            tls: None,
            metrics_token: None,
        }
    }
}

/// The server could not listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is not on loopback, and there is no certificate.
    #[error(
        "{0} is not a loopback address, and plain HTTP is spoken on those alone: give a certificate \
         (--tls-certificate and --tls-key, or --tls-generate), or listen on 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {addr}: {source}{}", hint(source))]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there: stop it, or choose another --listen"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need privileges: choose a higher one"
        }
        _ => "",
    }
}

/// A bound listener; it serves once [`Server::serve`] runs.
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    router: Router,
    options: ServerOptions,
}

/// What every request is handled with.
#[derive(Clone)]
pub(crate) struct Shared {
    /// One for each region, the first one's before all others.
    pub(crate) sites: Arc<Vec<App>>,
    pub(crate) options: Arc<ServerOptions>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) readiness: Arc<Readiness>,
}

impl Server {
    /// Binds the listener. Port 0 takes a free one, see [`Server::local_addr`]. Without a certificate
    /// it speaks plain HTTP, and only on loopback.
    pub async fn bind(
        app: App,
        addr: SocketAddr,
        options: ServerOptions,
    ) -> Result<Self, ServeError> {
        Self::bind_sites(app, Vec::new(), addr, options).await
    }

    /// As [`Server::bind`], for several regions: a request goes to the one it was signed for. `others`
    /// were opened with `home` as their first.
    pub async fn bind_sites(
        home: App,
        others: Vec<App>,
        addr: SocketAddr,
        options: ServerOptions,
    ) -> Result<Self, ServeError> {
        if options.tls.is_none() && !addr.ip().is_loopback() {
            return Err(ServeError::NotLoopback(addr));
        }
        let bound = async {
            let listener = TcpListener::bind(addr).await?;
            let addr = listener.local_addr()?;
            Ok((listener, addr))
        };
        let (listener, addr) = bound.await.map_err(|source| ServeError::Bind { addr, source })?;
        let sites = Arc::new([vec![home], others].concat());
        let shared = Shared {
            sites,
            options: Arc::new(options.clone()),
            refusals: Arc::default(),
            readiness: Arc::default(),
        };
        let router = Router::new().fallback(entry).with_state(shared);
        Ok(Self { listener, addr, router, options })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown` is done; then lets running requests end.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { listener, router, options, .. } = self;
        let acceptor = options.tls.as_ref().map(Tls::acceptor);
        let renewals = options.tls.clone().map(|tls| tokio::spawn(take_renewals(tls)));
        let slots = Arc::new(Semaphore::new(options.max_connections));
        let strangers = Arc::new(Strangers::default());
        let (closing, closed) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let stream = tokio::select! {
                () = &mut shutdown => break,
                stream = accept(&listener, &slots, &strangers, options.max_strangers) => stream,
            };
            let (stream, stranger, slot) = stream;
            let (router, closed) = (router.clone(), closed.clone());
            let router = router.layer(axum::Extension(Arc::new(stranger)));
            let (acceptor, limit) = (acceptor.clone(), options.header_timeout);
            connections.spawn(async move {
                match acceptor {
                    None => connection(stream, router, limit, closed).await,
                    Some(acceptor) => encrypted(stream, &acceptor, router, limit, closed).await,
                }
                drop(slot);
            });
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        drop(closing);
        if let Some(renewals) = renewals {
            renewals.abort();
        }
        let ended = tokio::time::timeout(options.shutdown_timeout, async {
            while connections.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "the server stops although some clients are not done"
            );
        }
    }
}

/// Takes a renewed certificate into use, as programs that renew them leave it: new files in the old
/// place.
async fn take_renewals(tls: Tls) {
    loop {
        tokio::time::sleep(RENEWALS_EVERY).await;
        let looking = tls.clone();
        match tokio::task::spawn_blocking(move || looking.reload()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => tracing::info!("a renewed certificate is in use"),
            // `Tls` keeps it for the doctor.
            Ok(Err(error)) => {
                tracing::error!(%error, "the renewed certificate is of no use; the one before stays");
            }
            Err(error) => tracing::error!(%error, "the look for a renewed certificate broke down"),
        }
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    strangers: &Arc<Strangers>,
    most: usize,
) -> (TcpStream, Stranger, Option<tokio::sync::OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(stranger) = strangers.admit(peer.ip(), most) else {
                    tracing::debug!(%peer, "too many connections on which nobody has signed yet");
                    continue;
                };
                // Answers are small and written at once; waiting for more would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                return (stream, stranger, slot);
            }
            Err(error) => {
                // Out of file descriptors, or the client is gone: neither ends the server.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A connection that begins with a handshake, which may take as long as the head of a request.
async fn encrypted(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    router: Router,
    limit: Duration,
    mut closed: watch::Receiver<()>,
) {
    let handshake = tokio::time::timeout(limit, acceptor.accept(stream));
    let stream = tokio::select! {
        stream = handshake => stream,
        // Nothing was asked yet.
        _ = closed.changed() => return,
    };
    match stream {
        Ok(Ok(stream)) => connection(stream, router, limit, closed).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    header_timeout: Duration,
    mut closed: watch::Receiver<()>,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = &mut connection => result,
        // The sender is dropped when the server stops: the request in hand is answered, no more.
        _ = closed.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn entry(State(shared): State<Shared>, request: Request) -> Result<Response, Infallible> {
    Ok(handle::request(shared, request).await)
}
