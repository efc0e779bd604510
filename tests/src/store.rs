//! An S3-compatible store with a bucket in it.

use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use provault_repository::{S3Options, Storage, StorageOptions, open_storage};
use provault_testkit::S3Server;

use crate::Start;

/// A store of its own, which lives as long as this.
pub struct Store(S3Server);

impl Store {
    /// The variable that says where a store is, and to nobody where a server is.
    pub const ENDPOINT: &str = "AWS_ENDPOINT_URL_S3";

    /// An empty bucket, `s3://bucket`.
    pub fn start() -> Self {
        let server = S3Server::start().unwrap_or_else(|error| panic!("{error}"));
        server.create_bucket("bucket").unwrap();
        Self(server)
    }

    /// The server.
    pub fn server(&self) -> &S3Server {
        &self.0
    }

    /// What a program has to know to reach it.
    pub fn environment(&self) -> Vec<(String, String)> {
        environment(&self.0.endpoint())
    }

    /// A `provault serve` that makes its vaults at `root`, and reaches the store.
    pub fn serve(&self, root: &str) -> Start {
        Start {
            args: vec!["--vault-storage".to_owned(), root.to_owned()],
            environment: self.environment(),
        }
    }

    /// The names of all objects below `s3://bucket/DIRECTORY/`, without this.
    pub fn objects(&self, directory: &str) -> Vec<String> {
        let listed = self.storage().list(directory).unwrap();
        let below = |name: &str| name.strip_prefix(directory).map(|name| name[1..].to_owned());
        listed.into_iter().filter_map(|object| below(&object.name)).collect()
    }

    /// All of the bucket.
    pub fn storage(&self) -> Arc<dyn Storage> {
        let s3 = self
            .environment()
            .iter()
            .fold(S3Options::default(), |s3, (name, value)| s3.with(name, value).unwrap());
        open_storage("s3://bucket", &StorageOptions { s3, ..StorageOptions::default() }).unwrap()
    }

    /// From now on nothing is answered, as when the machine is gone; until this is dropped.
    pub fn hang(&self) -> Silence<'_> {
        self.signal(Signal::SIGSTOP);
        Silence(self)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.pid().cast_signed()), signal).unwrap();
    }
}

/// A store that does not answer.
pub struct Silence<'a>(&'a Store);

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGCONT);
    }
}

/// What a program has to know to reach a store at this endpoint.
fn environment(endpoint: &str) -> Vec<(String, String)> {
    [
        (Store::ENDPOINT, endpoint),
        ("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}
