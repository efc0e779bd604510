//! The environment variables a command looks at, as a value, so that tests need not change the
//! process's own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Environment variables. One that is empty counts as not set, as AWS clients hold it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    pub(crate) fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// The value as text. One that is not Unicode is kept as far as it goes: as an address or a
    /// name it will be refused, with what it was.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.path(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// `$XDG_STATE_HOME/provault` if that is absolute (the XDG specification has a relative one
    /// ignored), else `$HOME/.local/state/provault`.
    pub(crate) fn default_data_dir(&self) -> Option<PathBuf> {
        let state = self.path("XDG_STATE_HOME").filter(|path| path.is_absolute());
        state
            .or_else(|| Some(self.path("HOME")?.join(".local/state")))
            .map(|dir| dir.join("provault"))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}
