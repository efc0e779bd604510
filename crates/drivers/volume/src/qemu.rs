//! qcow2 images, through QEMU's own tools.
//!
//! `qemu-img` and `qemu-nbd` are the reference of the format: backing files, compression, snapshots and
//! bitmaps are read as a machine would read them. They take QEMU's locks on the image, so that one which
//! a machine runs on is refused, and a machine cannot start on one that is being read.
//!
//! Both run under `setpriv --pdeathsig`, and `qemu-nbd` ends with its last connection besides: neither
//! outlives this process, however that ends.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use provault_driver::{BlockExtent, BlockRange, BlockSource, DriverError};
use tempfile::TempDir;

use crate::capture::io_error;
use crate::nbd::{Connection, Context};

/// How long `qemu-nbd` may take until it listens, and to end.
const START: Duration = Duration::from_secs(30);
/// How long an image that another has open is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Connections over which an image is read.
const CONNECTIONS: usize = 4;

/// An image at a path.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    path: PathBuf,
}

/// A bitmap in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bitmap {
    pub name: String,
    /// Written down as a whole when the image was closed last. One that is not may lack changes.
    pub consistent: bool,
    /// Counts changes now.
    pub enabled: bool,
}

/// What an image says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    pub bitmaps: Vec<Bitmap>,
    /// Another file that holds a part of its content.
    pub relies_on: Option<String>,
}

/// A program that ends with this process.
fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).stdin(Stdio::null());
    // What is looked for in its messages is looked for in English.
    command.env("LC_ALL", "C");
    command
}

fn failed(path: &Path, program: &str, text: &str) -> DriverError {
    let text = text.trim();
    if text.contains("Failed to get") && text.contains("lock") {
        let text =
            "it is in use: a machine, or another program of QEMU's, has it open; stop that first";
        return io_error("opening", path)(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    let source = if text.contains("No space left on device") {
        io::Error::from(io::ErrorKind::StorageFull)
    } else {
        io::Error::other(format!("{program}: {text}"))
    };
    io_error("opening", path)(source)
}

fn missing(path: &Path, program: &str, error: io::Error) -> DriverError {
    let source = if error.kind() == io::ErrorKind::NotFound {
        io::Error::other(format!(
            "{program} cannot be started: install setpriv (util-linux) and QEMU's tools (qemu-utils)"
        ))
    } else {
        error
    };
    io_error("opening", path)(source)
}

/// Whether it is only that another has it open.
pub(crate) fn is_busy(error: &DriverError) -> bool {
    matches!(error, DriverError::Io { source, .. } if source.kind() == io::ErrorKind::ResourceBusy)
}

/// Tries again for a while what is refused because another has the image open: that may be another job
/// of this server, for a moment.
fn patiently<T>(attempt: impl Fn() -> Result<T, DriverError>) -> Result<T, DriverError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && Instant::now() < until => {
                sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

impl Image {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn img(&self, args: &[&str], behind_path: &[&str]) -> Result<Vec<u8>, DriverError> {
        patiently(|| self.img_once(args, behind_path))
    }

    fn img_once(&self, args: &[&str], behind_path: &[&str]) -> Result<Vec<u8>, DriverError> {
        let output = command("qemu-img")
            .args(args)
            .arg(&self.path)
            .args(behind_path)
            .output()
            .map_err(|error| missing(&self.path, "qemu-img", error))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(127) {
            let error = io::Error::from(io::ErrorKind::NotFound);
            return Err(missing(&self.path, "qemu-img", error));
        }
        Err(failed(&self.path, "qemu-img", &text))
    }

    /// Makes a new image. A file that exists is written over: the path has to be one's own.
    pub fn create(&self, size: u64) -> Result<(), DriverError> {
        self.img(&["create", "-q", "-f", "qcow2"], &[&size.to_string()]).map(drop)
    }

    pub fn info(&self) -> Result<Info, DriverError> {
        let json = self.img(&["info", "--output=json", "-f", "qcow2"], &[])?;
        let odd = || failed(&self.path, "qemu-img", "its description cannot be understood");
        let info: serde_json::Value = serde_json::from_slice(&json).map_err(|_| odd())?;
        let data = &info["format-specific"]["data"];
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let bitmaps = data["bitmaps"].as_array().into_iter().flatten().filter_map(|bitmap| {
            let flags: Vec<&str> =
                bitmap["flags"].as_array()?.iter().filter_map(serde_json::Value::as_str).collect();
            Some(Bitmap {
                name: text(&bitmap["name"])?,
                consistent: !flags.contains(&"in-use"),
                enabled: flags.contains(&"auto"),
            })
        });
        Ok(Info {
            bitmaps: bitmaps.collect(),
            relies_on: text(&info["backing-filename"]).or_else(|| text(&data["data-file"])),
        })
    }

    pub fn add_bitmap(&self, name: &str) -> Result<(), DriverError> {
        self.img(&["bitmap", "-f", "qcow2", "--add"], &[name]).map(drop)
    }

    pub fn remove_bitmap(&self, name: &str) -> Result<(), DriverError> {
        self.img(&["bitmap", "-f", "qcow2", "--remove"], &[name]).map(drop)
    }

    /// Opens it for reading; with `bitmap`, [`Served::changes`] can be asked.
    pub fn serve(&self, bitmap: Option<&str>) -> Result<Served, DriverError> {
        patiently(|| Served::start(&self.path, bitmap, false))
    }

    /// Opens it for reading and writing.
    pub fn serve_writable(&self) -> Result<Served, DriverError> {
        Served::start(&self.path, None, true)
    }
}

/// An image that `qemu-nbd` has open.
#[derive(Debug)]
pub(crate) struct Served {
    path: PathBuf,
    child: Child,
    connections: Vec<Mutex<Connection>>,
    next: AtomicUsize,
    size: u64,
    /// Holds the socket and what the server says.
    dir: TempDir,
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    // A reply that was left half read shows as nonsense in the next.
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Served {
    fn start(path: &Path, bitmap: Option<&str>, writable: bool) -> Result<Self, DriverError> {
        let wrong = io_error("opening", path);
        let prepared = (|| -> io::Result<(TempDir, File)> {
            let dir = tempfile::Builder::new().prefix("provault-nbd-").tempdir()?;
            let said = File::create(dir.path().join("said"))?;
            Ok((dir, said))
        })();
        let (dir, said) = prepared.map_err(wrong)?;
        let socket = dir.path().join("socket");
        // One is enough for writing: a flush then speaks for all that was written.
        let count = if writable { 1 } else { CONNECTIONS };
        let mut server = command("qemu-nbd");
        server.args(["-f", "qcow2", "-e", &count.to_string(), "-k"]).arg(&socket);
        if let Some(bitmap) = bitmap {
            server.args(["-B", bitmap]);
        }
        if !writable {
            server.arg("-r");
        }
        server.arg(path).stdout(Stdio::null()).stderr(said);
        let child = server.spawn().map_err(|error| missing(path, "qemu-nbd", error))?;
        let mut started = Self {
            path: path.to_owned(),
            child,
            connections: Vec::new(),
            next: AtomicUsize::new(0),
            size: 0,
            dir,
        };
        for _ in 0..count {
            let connection = started.connect(&socket, bitmap, writable)?;
            started.size = connection.size;
            started.connections.push(Mutex::new(connection));
        }
        Ok(started)
    }

    /// Waits until the server listens, or has ended.
    fn connect(
        &mut self,
        socket: &Path,
        bitmap: Option<&str>,
        writable: bool,
    ) -> Result<Connection, DriverError> {
        let until = Instant::now() + START;
        loop {
            match Connection::open(socket, bitmap, writable) {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    let ended = self.child.try_wait().map_err(io_error("opening", &self.path))?;
                    if let Some(status) = ended {
                        return Err(self.complaint(status));
                    }
                    let early = matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    );
                    if !early || Instant::now() > until {
                        return Err(io_error("opening", &self.path)(error));
                    }
                }
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn complaint(&self, status: ExitStatus) -> DriverError {
        let mut text = String::new();
        if let Ok(said) = File::open(self.dir.path().join("said")) {
            // What cannot be read is not told.
            let _ = said.take(4096).read_to_string(&mut text);
        }
        if text.trim().is_empty() {
            text = status.to_string();
        }
        failed(&self.path, "qemu-nbd", &text)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.connections.len();
        for at in 0..count {
            match self.connections[(first + at) % count].try_lock() {
                Ok(connection) => return connection,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        lock(&self.connections[first % count])
    }

    /// All ranges that may have changed since the bitmap was made: those that it names, and all that
    /// reads as zeros without being stored. An image that was made smaller and larger again has lost
    /// what was there, and its bitmap does not say so. To look at zeros costs no reading.
    pub fn changes(&self) -> io::Result<Vec<BlockRange>> {
        let all = BlockRange { offset: 0, length: self.size };
        let dirty = self.connection().status(Context::Bitmap, all)?;
        let holes = self.connection().status(Context::Allocation, all)?;
        let dirty = dirty.into_iter().filter(|s| s.flags & 1 != 0);
        let holes = holes.into_iter().filter(|s| s.flags & 2 != 0);
        Ok(dirty.chain(holes).map(|s| s.range).collect())
    }

    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.connection().write_at(offset, bytes)
    }

    /// Makes durable what was written, and waits until the image is closed.
    pub fn finish(mut self) -> Result<(), DriverError> {
        let path = self.path.clone();
        self.connection().flush().map_err(io_error("writing", &path))?;
        for connection in std::mem::take(&mut self.connections) {
            connection.into_inner().unwrap_or_else(PoisonError::into_inner).close();
        }
        let until = Instant::now() + START;
        loop {
            match self.child.try_wait().map_err(io_error("closing", &path))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.complaint(status)),
                None if Instant::now() > until => {
                    let late = io::Error::from(io::ErrorKind::TimedOut);
                    return Err(io_error("closing", &path)(late));
                }
                None => sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already; it is reaped in any case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl BlockSource for Served {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.connection().read_at(offset, buffer)
    }

    fn extents(&self, range: BlockRange) -> io::Result<Vec<BlockExtent>> {
        let found = self.connection().status(Context::Allocation, range)?;
        let extents =
            found.into_iter().map(|s| BlockExtent { range: s.range, zero: s.flags & 2 != 0 });
        Ok(extents.collect())
    }
}
