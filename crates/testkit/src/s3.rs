//! An S3-compatible server that lives as long as a test: moto, from `PyPI`.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, thread};

/// A cold machine under load may need long; what must not happen is waiting for ever.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The program is not installed.
    #[error(
        "moto_server is neither in PATH nor in .tools/venv/bin; `cargo xtask test` installs it, \
         and so does: python3 -m venv .tools/venv && .tools/venv/bin/pip install 'moto[s3,server]'"
    )]
    Missing,
    /// It did not come up, or refused to make a bucket.
    #[error("moto_server: {0}")]
    Failed(String),
    /// Files, sockets or processes could not be handled.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A running server on a free port of loopback. It keeps objects in memory, and believes every
/// key and every signature.
#[derive(Debug)]
pub struct S3Server {
    child: Child,
    address: String,
}

impl S3Server {
    /// An access key that the server believes, as any other.
    pub const ACCESS_KEY_ID: &str = "AKIAPROVAULTTEST0000";
    /// Its secret.
    pub const SECRET_ACCESS_KEY: &str = "not-a-secret";

    /// Starts a server. Returns once it listens.
    pub fn start() -> Result<Self, S3Error> {
        let mut child = Command::new(find_program()?)
            .args(["-H", "127.0.0.1", "-p", "0"])
            // Python would keep the line with the port to itself until there are more.
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| S3Error::Io { doing: "starting moto_server", source })?;
        let stderr = child.stderr.take();
        let mut server = Self { child, address: String::new() };
        let (sender, lines) = mpsc::channel();
        // Also reads on, so that the server never waits for its log to be read.
        thread::spawn(move || {
            for line in stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
                let Ok(line) = line else { return };
                let _ = sender.send(line);
            }
        });
        let mut said = String::new();
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            if let Some((_, address)) = line.split_once("Running on http://") {
                address.trim().clone_into(&mut server.address);
                return Ok(server);
            }
            said.push_str(&line);
            said.push('\n');
        }
        Err(S3Error::Failed(format!("it does not say where it listens: {said}")))
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes an empty bucket.
    pub fn create_bucket(&self, name: &str) -> Result<(), S3Error> {
        self.ask(&format!("PUT /{name}"), "")
    }

    /// Whether any key is good from now on, or none, as when it was revoked.
    pub fn believe(&self, any: bool) -> Result<(), S3Error> {
        self.ask("POST /moto-api/reset-auth", if any { "inf" } else { "0" })
    }

    fn ask(&self, line: &str, body: &str) -> Result<(), S3Error> {
        let answer = self
            .request(line, body)
            .map_err(|source| S3Error::Io { doing: "asking moto_server", source })?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(S3Error::Failed(answer)) }
    }

    fn request(&self, line: &str, body: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let host = &self.address;
        write!(
            stream,
            "{line} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // It keeps nothing, and there is nobody to tell in a drop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In `PATH`, or where the test set-up puts it.
fn find_program() -> Result<PathBuf, S3Error> {
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/venv/bin");
    env::split_paths(&path)
        .chain([tools])
        .map(|directory| directory.join("moto_server"))
        .find(|program| program.is_file())
        .ok_or(S3Error::Missing)
}
