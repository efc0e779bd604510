//! What the engine answers when it cannot do what it was asked.

use provault_catalog::CatalogError;
use provault_domain::Invalid;

/// The result of an engine call.
pub type Result<T> = std::result::Result<T, EngineError>;

/// An engine call was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The catalog refused or failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A vault's repository refused or failed.
    #[error("vault {vault}: {source}")]
    Repository {
        /// Name of the vault.
        vault: String,
        /// What the repository said.
        source: Box<provault_repository::Error>,
    },
    /// A value was refused.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A key file is missing, unreadable or not a key.
    #[error("key {key}: {message}")]
    Key {
        /// Name of the key.
        key: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// What was asked for cannot be done in the state things are in.
    #[error("{0}")]
    Refused(String),
    /// The engine itself is at fault.
    #[error("internal: {0}")]
    Internal(String),
}

impl EngineError {
    pub(crate) fn repository(vault: &str) -> impl Fn(provault_repository::Error) -> Self + '_ {
        move |source| Self::Repository { vault: vault.to_owned(), source: Box::new(source) }
    }
}
