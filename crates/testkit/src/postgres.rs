//! A PostgreSQL server that lives as long as a test.

use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, io, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The programs are not installed.
    #[error(
        "PostgreSQL's {program} is neither in PATH nor in /usr/lib/postgresql/*/bin; install it \
         with: apt-get install -y postgresql"
    )]
    Missing {
        /// Which program.
        program: &'static str,
    },
    /// `PostgreSQL` refuses to run as root, and there is no other user to run it as.
    #[error(
        "running as root, and there is neither a user postgres nor nobody to run PostgreSQL as"
    )]
    NoUser,
    /// A program failed.
    #[error("{program} failed: {output}")]
    Failed {
        /// Which program.
        program: &'static str,
        /// What it said.
        output: String,
    },
    /// Files or processes could not be handled.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why not.
        source: io::Error,
    },
}

/// A running server: a fresh cluster in a temporary directory, on a Unix socket in it, without
/// any network address, durable for nobody (`fsync` is off).
#[derive(Debug)]
pub struct PostgresServer {
    child: Child,
    dir: TempDir,
    bin: PathBuf,
    databases: AtomicU32,
}

/// The user the server runs as when we are root.
#[derive(Debug, Clone, Copy)]
struct RunAs {
    uid: u32,
    gid: u32,
}

impl RunAs {
    /// `None` when we are not root and stay who we are.
    fn choose() -> Result<Option<Self>, PostgresError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Some(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
            .ok_or(PostgresError::NoUser)
    }
}

impl PostgresServer {
    /// Makes a cluster and starts a server on it. Returns once it answers.
    pub fn start() -> Result<Self, PostgresError> {
        let bin = find_programs()?;
        let run_as = RunAs::choose()?;
        // Not below TMPDIR: a socket's path may have 107 bytes, and another user must get there.
        let dir = tempfile::Builder::new()
            .prefix("pvpg")
            .tempdir_in("/tmp")
            .map_err(|e| io_error("making a directory in /tmp", e))?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .map_err(|e| io_error("opening the directory", e))?;
        if let Some(user) = run_as {
            chown(dir.path(), Some(user.uid), Some(user.gid))
                .map_err(|e| io_error("giving the directory away", e))?;
        }
        let data = dir.path().join("data");
        let mut initdb = program(&bin, "initdb", dir.path(), run_as);
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust"]);
        initdb.args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C"]);
        run("initdb", &mut initdb)?;

        let log = dir.path().join("log");
        let log_file = fs::File::create(&log).map_err(|e| io_error("making the log file", e))?;
        let mut server = program(&bin, "postgres", dir.path(), run_as);
        server.arg("-D").arg(&data).arg("-k").arg(dir.path());
        for setting in [
            "listen_addresses=",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=32MB",
            "max_connections=300",
            "log_min_messages=warning",
        ] {
            server.arg("-c").arg(setting);
        }
        let child = server
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .spawn()
            .map_err(|e| io_error("starting postgres", e))?;
        let mut started = Self { child, dir, bin, databases: AtomicU32::new(0) };
        started.wait_until_it_answers(&log)?;
        Ok(started)
    }

    fn wait_until_it_answers(&mut self, log: &Path) -> Result<(), PostgresError> {
        // A cold machine under load may need long; what must not happen is waiting for ever.
        for _ in 0..1200 {
            let ended = self.child.try_wait().map_err(|e| io_error("asking for postgres", e))?;
            if ended.is_some() {
                break;
            }
            if self.psql("postgres", "SELECT 1").is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        let mut output = String::new();
        if let Ok(mut file) = fs::File::open(log) {
            // A log that cannot be read leaves the message without it.
            let _ = file.read_to_string(&mut output);
        }
        Err(PostgresError::Failed { program: "postgres", output })
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address of a database of this server, as a URL.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.dir.path().display())
    }

    /// Makes an empty database and answers with its URL.
    pub fn create_database(&self) -> Result<String, PostgresError> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// Runs SQL in a database and answers with what `psql` prints, unadorned.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, PostgresError> {
        let mut psql = program(&self.bin, "psql", self.dir.path(), None);
        psql.arg("-h").arg(self.dir.path()).args(["-U", "postgres", "-d", database]);
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        run("psql", &mut psql)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // An immediate shutdown: the server ends its own children, its files are thrown away.
        let asked = i32::try_from(self.child.id())
            .is_ok_and(|pid| kill(Pid::from_raw(pid), Signal::SIGQUIT).is_ok());
        if !asked {
            // Already gone, or it will be now; there is nobody to tell in a drop.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn io_error(doing: &str, source: io::Error) -> PostgresError {
    PostgresError::Io { doing: doing.to_owned(), source }
}

/// The directory that has `initdb`, `postgres` and `psql`: Debian's newest version first, as its
/// `PATH` may hold wrappers or a part of them only, then every directory of `PATH`.
fn find_programs() -> Result<PathBuf, PostgresError> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = versions.into_iter().map(|(_, bin)| bin).chain(env::split_paths(&path));
    let mut missing = "initdb";
    for directory in directories {
        match ["initdb", "postgres", "psql"].into_iter().find(|p| !directory.join(p).is_file()) {
            None => return Ok(directory),
            Some(program) if program != "initdb" => missing = program,
            Some(_) => {}
        }
    }
    Err(PostgresError::Missing { program: missing })
}

fn program(bin: &Path, name: &str, dir: &Path, run_as: Option<RunAs>) -> Command {
    let mut command = Command::new(bin.join(name));
    // The directory we stand in may be closed to the other user.
    command.current_dir(dir);
    for (variable, _) in env::vars_os() {
        // PGDATA, PGHOST and the like would lead elsewhere.
        if variable.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(variable);
        }
    }
    if let Some(user) = run_as {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn run(name: &'static str, command: &mut Command) -> Result<String, PostgresError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| io_error(&format!("running {name}"), e))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(PostgresError::Failed { program: name, output: said })
}
