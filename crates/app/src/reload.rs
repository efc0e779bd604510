//! Reading the settings again while the server runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use provault_iam::Principal;

use crate::{App, AppError, Caller, ErrorKind, Result};

const ACTION: &str = "provault:ReloadSettings";
/// The setting that lets subscriptions run programs.
const COMMANDS: &str = "allow-command-subscriptions";

/// What came of settings that were read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that changed and hold from now on.
    pub changed: Vec<String>,
    /// Settings that changed and hold after the next start; until then the old ones do.
    pub needs_restart: Vec<String>,
    /// See [`Settings`](crate::Settings); as it is from now on.
    pub missing_vault_is_access_denied: bool,
}

/// Who can read the settings again: whoever read them at the start.
pub trait Reload: Send + Sync {
    /// Reads them and takes into use what can be; an error, in words for people, changed nothing. Blocks.
    fn reload(&self) -> std::result::Result<Reloaded, String>;
}

/// What a reload changes and needs here.
pub(crate) struct Reloading {
    missing_vault_is_access_denied: AtomicBool,
    hook: OnceLock<Arc<dyn Reload>>,
    /// Why the last one failed, until one does not.
    failure: Mutex<Option<String>>,
    /// One at a time.
    one: tokio::sync::Mutex<()>,
}

impl Reloading {
    pub(crate) fn new(missing_vault_is_access_denied: bool) -> Self {
        Self {
            missing_vault_is_access_denied: AtomicBool::new(missing_vault_is_access_denied),
            hook: OnceLock::new(),
            failure: Mutex::default(),
            one: tokio::sync::Mutex::default(),
        }
    }
}

impl App {
    pub(crate) fn missing_vault_is_access_denied(&self) -> bool {
        self.home().inner.reloading.missing_vault_is_access_denied.load(Ordering::Relaxed)
    }

    /// Says who reads the settings again. The first one stays.
    pub fn reload_with(&self, hook: Arc<dyn Reload>) {
        // A second one would be a defect of the start, and nothing is lost by it.
        let _ = self.inner.reloading.hook.set(hook);
    }

    /// Why the settings could not be read the last time they were to be, if so.
    pub fn reload_failure(&self) -> Option<String> {
        self.inner.reloading.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `provault:ReloadSettings`: reads the server's file of settings again. One that is wrong
    /// changes nothing. Recorded in the audit trail, failed ones too.
    pub async fn reload_settings(&self, caller: &Caller) -> Result<Reloaded> {
        if let Err(denied) = self.permit(caller, ACTION, "*") {
            self.record(caller, ACTION, "settings", denied.kind.name()).await?;
            return Err(denied);
        }
        self.reloaded_for(caller).await
    }

    /// The same for whoever may send signals to the server.
    pub async fn reload_on_signal(&self) -> Result<Reloaded> {
        let root =
            Principal::root(self.account().as_str()).map_err(|error| AppError::fault(&error))?;
        self.reloaded_for(&Caller::new(root)?).await
    }

    /// What the audit trail says of a reload: the settings that hold now and did not before, and of the
    /// one that lets programs run which way it went.
    fn what_was_changed(&self, reloaded: Option<&Reloaded>) -> String {
        let changed = reloaded.map(|reloaded| reloaded.changed.as_slice()).unwrap_or_default();
        let named = changed.iter().map(|key| match key.as_str() {
            COMMANDS => format!("{key}={}", self.engine().runs_commands()),
            _ => key.clone(),
        });
        match named.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "settings".to_owned(),
            keys => format!("settings: {keys}"),
        }
    }

    async fn reloaded_for(&self, caller: &Caller) -> Result<Reloaded> {
        let reloading = &self.inner.reloading;
        let Some(hook) = reloading.hook.get().cloned() else {
            return Err(AppError::new(
                ErrorKind::InvalidRequest,
                "this server was started without settings that could be read again.",
            ));
        };
        let _one = reloading.one.lock().await;
        let read = tokio::task::spawn_blocking(move || hook.reload());
        let outcome = read.await.map_err(|error| error.to_string()).and_then(|read| read);
        let (said, word) = match &outcome {
            Ok(reloaded) => {
                let access_denied = reloaded.missing_vault_is_access_denied;
                reloading.missing_vault_is_access_denied.store(access_denied, Ordering::Relaxed);
                (None, "done")
            }
            Err(why) => (Some(why.clone()), "failed"),
        };
        *reloading.failure.lock().unwrap_or_else(PoisonError::into_inner) = said;
        let what = self.what_was_changed(outcome.as_ref().ok());
        if let Err(error) = self.record(caller, ACTION, &what, word).await {
            tracing::error!(%error, "a reload could not be recorded in the audit trail");
        }
        match outcome {
            Ok(reloaded) => {
                tracing::info!(
                    changed = reloaded.changed.join(", "),
                    needs_restart = reloaded.needs_restart.join(", "),
                    "the settings were read again"
                );
                Ok(reloaded)
            }
            Err(why) => {
                tracing::error!(why, "the settings were not read again; those before hold");
                Err(AppError::new(
                    ErrorKind::InvalidRequest,
                    format!("nothing was changed, the settings before hold: {why}"),
                ))
            }
        }
    }
}
