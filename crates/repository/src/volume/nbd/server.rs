//! The server: sockets, connections and their limits.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

use crate::cancel::CancelFlag;

use super::NbdExport;
use super::handshake::shake_hands;
use super::transmission::{Shared, serve};

/// How often the server looks whether it is to end.
const LOOK_UP: u16 = 100;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NbdAddress {
    /// A Unix socket at this path, which must not exist yet. Only its owner may connect.
    Unix(PathBuf),
    /// A port of a loopback address; port 0 takes a free one. Any user of the machine may connect.
    Tcp(SocketAddr),
}

/// What clients may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NbdLimits {
    /// Clients at a time.
    pub connections: usize,
    /// Bytes of one request.
    pub request: u32,
    /// Until a client has to be through with its handshake.
    pub handshake: Duration,
    /// Until a client has to have taken a part of a reply.
    pub reply: Duration,
}

impl Default for NbdLimits {
    fn default() -> Self {
        Self {
            connections: 16,
            request: 32 << 20,
            handshake: Duration::from_secs(30),
            reply: Duration::from_mins(1),
        }
    }
}

/// The exports of a server, by name.
pub(super) struct Exports(Vec<(Vec<u8>, Arc<dyn NbdExport>)>);

impl Exports {
    /// The export of this name; without a name the only one there is.
    pub(super) fn find(&self, name: &[u8]) -> Option<Arc<dyn NbdExport>> {
        let found = self.0.iter().find(|(own, _)| own == name);
        let found =
            found.or_else(|| self.0.first().filter(|_| name.is_empty() && self.0.len() == 1));
        found.map(|(_, export)| Arc::clone(export))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(name, _)| name.as_slice())
    }
}

/// A server that is bound to its address.
pub struct NbdServer {
    listener: Listener,
    exports: Exports,
    limits: NbdLimits,
    shared: Shared,
    connections: Mutex<HashMap<u64, Stream>>,
    next: AtomicU64,
    stopping: AtomicBool,
}

enum Listener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NbdServer {
    /// Listens at an address, on which nothing is answered before [`serve`](Self::serve).
    pub fn bind(
        address: &NbdAddress,
        exports: Vec<(String, Arc<dyn NbdExport>)>,
        limits: NbdLimits,
    ) -> io::Result<Self> {
        let listener = match address {
            NbdAddress::Unix(path) => Listener::Unix(bind_unix(path)?, path.clone()),
            NbdAddress::Tcp(address) if address.ip().is_loopback() => {
                Listener::Tcp(TcpListener::bind(address)?)
            }
            NbdAddress::Tcp(address) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!(
                        "{address} is not a loopback address: NBD has no password, so tunnel it \
                         through SSH instead"
                    ),
                ));
            }
        };
        match &listener {
            Listener::Unix(listener, _) => listener.set_nonblocking(true)?,
            Listener::Tcp(listener) => listener.set_nonblocking(true)?,
        }
        let exports =
            exports.into_iter().map(|(name, export)| (name.into_bytes(), export)).collect();
        Ok(Self {
            listener,
            exports: Exports(exports),
            limits,
            shared: Shared { max_request: limits.request, large: Mutex::new(()) },
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    /// Where it listens, with the port that was taken.
    pub fn local_address(&self) -> io::Result<NbdAddress> {
        Ok(match &self.listener {
            Listener::Unix(_, path) => NbdAddress::Unix(path.clone()),
            Listener::Tcp(listener) => NbdAddress::Tcp(listener.local_addr()?),
        })
    }

    /// Serves until `cancel` is raised; then all connections are closed.
    pub fn serve(&self, cancel: &CancelFlag) -> io::Result<()> {
        let served = std::thread::scope(|scope| {
            let served = self.accept_all(scope, cancel);
            self.stopping.store(true, Ordering::Relaxed);
            for stream in lock(&self.connections).values() {
                stream.shut_down();
            }
            served
        });
        self.stopping.store(false, Ordering::Relaxed);
        served
    }

    fn accept_all<'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        cancel: &CancelFlag,
    ) -> io::Result<()> {
        while !cancel.is_cancelled() {
            let mut ready = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::from(LOOK_UP)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let stream = match self.listener.accept() {
                Ok(stream) => stream,
                Err(error) => {
                    // The client is gone again, or there are no file handles just now.
                    tracing::debug!(%error, "no NBD connection came of it");
                    std::thread::sleep(Duration::from_millis(u64::from(LOOK_UP)));
                    continue;
                }
            };
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let mut connections = lock(&self.connections);
            if connections.len() >= self.limits.connections {
                tracing::warn!("an NBD client was sent away: there are too many");
                continue;
            }
            let Ok(other) = stream.try_clone() else { continue };
            connections.insert(number, other);
            drop(connections);
            let thread = std::thread::Builder::new().name(format!("nbd-{number}"));
            let spawned = thread.spawn_scoped(scope, move || {
                // Removed also if serving panics.
                let _entry = Entry { server: self, number };
                if let Err(error) = self.connection(stream) {
                    tracing::debug!(%error, "an NBD connection ended");
                }
            });
            if let Err(error) = spawned {
                tracing::warn!(%error, "no thread for an NBD client");
                lock(&self.connections).remove(&number);
            }
        }
        Ok(())
    }

    fn connection(&self, stream: Stream) -> io::Result<()> {
        stream.prepare(self.limits.reply)?;
        let mut stream = Patient { stream, until: Some(Instant::now() + self.limits.handshake) };
        let agreed = shake_hands(&mut stream, &self.exports, self.limits.request)?;
        let Some(agreed) = agreed else { return Ok(()) };
        if self.stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
        stream.until = None;
        stream.stream.set_read_timeout(None)?;
        serve(&mut Buffered(BufReader::with_capacity(64 << 10, stream)), &agreed, &self.shared)
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = &self.listener
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(%error, "the socket is gone already");
        }
    }
}

/// A connection's place in the server's list.
struct Entry<'a> {
    server: &'a NbdServer,
    number: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        lock(&self.server.connections).remove(&self.number);
    }
}

/// A socket that nobody but its owner may connect to, from the first moment.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // What the socket itself allows, its file will.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::new(16)?)?;
    Ok(UnixListener::from(socket))
}

impl Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener, _) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Unix(listener, _) => Stream::Unix(listener.accept()?.0),
            Self::Tcp(listener) => Stream::Tcp(listener.accept()?.0),
        })
    }
}

impl Stream {
    fn prepare(&self, reply: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(reply))
            }
            Self::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(reply))
            }
        }
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(timeout),
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
        }
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
        })
    }

    fn shut_down(&self) {
        let done = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
        if let Err(error) = done {
            tracing::debug!(%error, "the NBD client was gone already");
        }
    }
}

/// A stream of which all reads together have to end at a time.
struct Patient {
    stream: Stream,
    until: Option<Instant>,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(until) = self.until {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
        }
        match &mut self.stream {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Patient {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Unix(stream) => stream.write(buffer),
            Stream::Tcp(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Requests come in small pieces, replies go out as they are.
struct Buffered(BufReader<Patient>);

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Buffered {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}
