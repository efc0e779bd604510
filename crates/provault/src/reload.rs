//! Reading the settings again: everything is read and checked first, then what a running server can take
//! over comes into force, in steps of which only the first can fail.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use provault_app::{Reload, Reloaded};
use provault_cli::ServerFile;
use provault_driver_filesystem::FilesystemDriver;
use provault_engine::Engine;
use provault_repository::{StorageOptions, real_directory};

use crate::instance::{CertificateInUse, endpoint};
use crate::serve::set_log_level;
use crate::settings::ServeSettings;

/// The parts of a running server that settings change.
#[derive(Clone)]
pub(crate) struct Changeable {
    pub(crate) data_dir: PathBuf,
    /// Those of all regions; the first one's makes vaults where the settings say.
    pub(crate) engines: Vec<Engine>,
    pub(crate) files: FilesystemDriver,
    pub(crate) storage: StorageOptions,
    pub(crate) certificate: Option<Arc<CertificateInUse>>,
    /// What clients on this machine are told.
    pub(crate) server_file: ServerFile,
    pub(crate) listen: std::net::SocketAddr,
}

/// Reads the settings of a server again.
pub(crate) struct Reloader {
    /// The command line, which wins over the file.
    given: Vec<OsString>,
    config: Option<PathBuf>,
    parts: Changeable,
    /// Of what needs a restart as it was at the start, of the rest as it is now.
    in_force: Mutex<ServeSettings>,
}

impl Reloader {
    pub(crate) fn new(given: Vec<OsString>, settings: ServeSettings, parts: Changeable) -> Self {
        // What the process was started in, should it ever change that.
        let config = settings.args.config().map(|path| std::path::absolute(&path).unwrap_or(path));
        Self { given, config, parts, in_force: Mutex::new(settings) }
    }

    /// Takes a certificate for other names, or from other files, into use.
    fn change_certificate(&self, new: &ServeSettings) -> Result<(), String> {
        let (Some(certificate), Some(options)) = (&self.parts.certificate, &new.tls) else {
            return Ok(());
        };
        certificate.change(options.clone(), &self.parts.data_dir, self.parts.listen.ip())?;
        let endpoint = endpoint(self.parts.listen, Some(certificate));
        let file = ServerFile { endpoint, ..self.parts.server_file.clone() };
        if let Err(error) = file.store(&self.parts.data_dir) {
            // The certificate is in use; only clients on this machine call it by its old name.
            let path = ServerFile::path(&self.parts.data_dir);
            tracing::error!(path = %path.display(), %error, "the server's address could not be noted");
        }
        Ok(())
    }

    /// Keeps the place of new vaults out of backups, by its name and where that really is.
    fn reserve(&self, directory: &Path) {
        let mut names = vec![directory.to_owned()];
        names.extend(real_directory(directory, &self.parts.storage).ok());
        self.parts.files.reserve_by_name(names);
    }
}

impl Reload for Reloader {
    fn reload(&self) -> Result<Reloaded, String> {
        let new = ServeSettings::read_again(&self.given, self.config.as_deref())?;
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut changed, mut needs_restart) = in_force.changed(&new);
        // What can fail comes first, so that a failure has changed nothing.
        if changed.iter().any(|key| key.starts_with("tls-")) {
            self.change_certificate(&new)?;
        }
        let has = |changed: &[String], key: &str| changed.iter().any(|name| name == key);
        if has(&changed, "log-level") && !set_log_level(&new.args.log_level) {
            changed.retain(|name| name != "log-level");
            needs_restart.push("log-level (without RUST_LOG, which wins)".to_owned());
        }
        self.parts.storage.bounds.set(new.args.limits.bounds());
        for engine in &self.parts.engines {
            engine.let_commands_run(new.args.allow_command_subscriptions);
        }
        if has(&changed, "vault-storage") {
            if let Some(directory) = new.vault_storage.as_ref().and_then(|place| place.directory())
            {
                self.reserve(directory);
            }
            if let Some(home) = self.parts.engines.first() {
                home.make_vaults_in(new.vault_storage.clone());
            }
        }
        let reloaded = Reloaded {
            changed,
            needs_restart,
            missing_vault_is_access_denied: !new.args.missing_vault_not_found,
        };
        in_force.take_over(new);
        Ok(reloaded)
    }
}
