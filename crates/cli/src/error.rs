//! Why a command failed.

use std::io;

use provault_iam::{CredentialsError, SignError};
use provault_wire::EncodeError;

use crate::exit::Exit;

/// The server's refusal. Repeating the same request helps only where the message says so; 429 and
/// 503 have been repeated already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({name}, HTTP {status}{})", .request_id.as_ref().map(|id| format!(", request {id}")).unwrap_or_default())]
pub struct ApiError {
    /// The name to dispatch on, such as `ResourceNotFoundException`.
    pub name: String,
    /// What failed and what to do about it.
    pub message: String,
    /// The HTTP status.
    pub status: u16,
    /// Finds the request in the server's log.
    pub request_id: Option<String>,
}

/// Why a command, or a call of [`crate::Client`], failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// An option, or a file that an option names, is wrong; nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// A name that is nobody's, or more than one's.
    #[error("{0}")]
    Name(String),
    /// Nothing says where the server is, or with which key to sign. The text lists what was
    /// looked for.
    #[error("{0}")]
    NotFound(String),
    /// The credentials file cannot be used.
    #[error("{0}")]
    Credentials(#[from] CredentialsError),
    /// No connection came about, so nothing was done; repeating is safe.
    #[error("cannot reach {endpoint}: {why}\n{hint}")]
    Unreachable {
        /// The server's address.
        endpoint: String,
        /// What the system said.
        why: String,
        /// Where the address comes from and what to do.
        hint: String,
    },
    /// The connection broke, or the time was over, before the whole answer was there.
    #[error("the connection to {endpoint} broke during {method} {path}: {why}\n{}", after_a_break(.method))]
    Torn {
        /// The server's address.
        endpoint: String,
        /// The HTTP method.
        method: String,
        /// The path asked for.
        path: String,
        /// What the system said.
        why: String,
    },
    /// The server refused.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// The server's answer is not what the API promises: another program answers there, or one of
    /// another version.
    #[error(
        "the answer to {what} cannot be read ({why}); is {endpoint} a Provault server of this version?"
    )]
    Answer {
        /// The method and path.
        what: String,
        /// What is wrong.
        why: String,
        /// The server's address.
        endpoint: String,
    },
    /// The request cannot be signed.
    #[error("{0}")]
    Sign(#[from] SignError),
    /// The request cannot be made.
    #[error("{0}")]
    Encode(#[from] EncodeError),
    /// Ctrl-C while watching. The text says what goes on.
    #[error("{0}")]
    Interrupted(String),
    /// Standard output or error cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

fn after_a_break(method: &str) -> &'static str {
    if method == "GET" {
        "Nothing was changed; try again."
    } else {
        "Whether it was done is unknown: look (list or show) before you repeat it."
    }
}

impl CliError {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Encode(_) => Exit::Usage,
            Self::NotFound(_)
            | Self::Credentials(_)
            | Self::Unreachable { .. }
            | Self::Torn { .. }
            | Self::Sign(_) => Exit::Unreachable,
            Self::Interrupted(_) => Exit::Interrupted,
            // `Output` also when a reader such as `head` has seen enough: how a job ended was not
            // told.
            Self::Name(_) | Self::Api(_) | Self::Answer { .. } | Self::Output(_) => Exit::Failed,
        }
    }

    /// Whether the server refused because something does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(error) if error.name == "ResourceNotFoundException")
    }
}
