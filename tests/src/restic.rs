//! Stock restic: the oracle for what lies in a vault.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{Finished, Store, TestServer, clean_command, encode};

const INSTALL: &str = "restic is missing; install it: apt-get install restic";

/// A vault opened with its exported password.
pub struct Vault {
    location: String,
    password: String,
    environment: Vec<(String, String)>,
}

impl Vault {
    /// Asks the server where the vault lies and for its password.
    pub fn of(server: &TestServer, name: &str) -> Self {
        let name = encode(name);
        let repository = server.api().get(&format!("/provault/v1/vaults/{name}/repository"));
        assert_eq!(repository["Format"], "restic");
        assert_eq!(repository["Version"], 2);
        let exported = server
            .api()
            .post(&format!("/provault/v1/vaults/{name}/export-password"), &serde_json::json!({}));
        Self {
            location: repository["Location"].as_str().unwrap().to_owned(),
            password: exported["Password"].as_str().unwrap().to_owned(),
            environment: Vec::new(),
        }
    }

    /// With what a user has: a location and a password.
    pub fn at(location: &str, password: &str) -> Self {
        let (location, password) = (location.to_owned(), password.to_owned());
        Self { location, password, environment: Vec::new() }
    }

    /// The same, where the location is `s3://BUCKET/PREFIX` in a store.
    #[must_use]
    pub fn in_store(mut self, store: &Store) -> Self {
        self.environment = store.environment();
        self
    }

    /// A new repository, made by restic.
    pub fn init(location: &str, password: &str) -> Self {
        Self::at(location, password).initialised()
    }

    /// Makes a new repository there.
    #[must_use]
    pub fn initialised(self) -> Self {
        let _ = Finished::of(self.command().arg("init"), INSTALL).expect(0);
        self
    }

    /// Where it lies.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// What opens it.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// `restic forget` of all snapshots but the newest.
    pub fn forget_oldest(&self) {
        let mut command = self.command();
        let _ = Finished::of(command.args(["forget", "--keep-last", "1"]), INSTALL).expect(0);
    }

    fn command(&self) -> Command {
        let mut command = clean_command("restic");
        let endpoint = self.environment.iter().find(|(name, _)| name == Store::ENDPOINT);
        let location = match (endpoint, self.location.strip_prefix("s3://")) {
            (Some((_, endpoint)), Some(path)) => format!("s3:{endpoint}/{path}"),
            _ => self.location.clone(),
        };
        command
            .envs(self.environment.iter().cloned())
            .env("RESTIC_REPOSITORY", location)
            .env("RESTIC_PASSWORD", &self.password)
            .arg("--no-cache");
        command
    }

    /// `restic check --read-data` finds nothing to complain about.
    pub fn check(&self) {
        let checked =
            Finished::of(self.command().args(["check", "--read-data"]), INSTALL).expect(0);
        assert!(checked.stdout.contains("no errors were found"), "{checked}");
        assert!(!checked.stdout.to_lowercase().contains("warning"), "{checked}");
        assert!(!checked.stderr.to_lowercase().contains("error"), "{checked}");
    }

    /// Whether restic opens it as a repository.
    pub fn opens(&self) -> bool {
        Finished::of(self.command().args(["cat", "config"]), INSTALL).code == Some(0)
    }

    /// How many snapshots there are.
    pub fn snapshots(&self) -> usize {
        let listed = Finished::of(self.command().args(["snapshots", "--json"]), INSTALL).expect(0);
        listed.json().as_array().unwrap().len()
    }

    /// `restic backup`: a snapshot that the server does not know.
    pub fn back_up(&self, path: &Path) {
        let _ = Finished::of(self.command().arg("backup").arg(path), INSTALL).expect(0);
    }

    /// `restic backup` of what it is given on its standard input: it works on the vault until that
    /// ends.
    pub fn begin_backup(&self) -> Child {
        let mut command = self.command();
        command.args(["backup", "--stdin"]).stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap_or_else(|error| panic!("{INSTALL} ({error})"))
    }

    /// `restic restore latest`; the source comes to lie at its own path below `target`.
    pub fn restore_latest(&self, target: &Path) {
        let mut command = self.command();
        command.args(["restore", "latest", "--target"]).arg(target);
        let restored = Finished::of(&mut command, INSTALL).expect(0);
        assert!(!restored.stderr.contains("There were"), "{restored}");
    }
}
