//! Refusals, under the names that AWS clients act upon.

use std::fmt;

use provault_catalog::CatalogError;
use provault_domain::{Arn, Invalid};
use provault_engine::EngineError;

/// The result of a use case.
pub type Result<T> = std::result::Result<T, AppError>;

/// What kind of refusal it is; named and numbered as in the model of AWS Backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A parameter has a value that cannot be accepted.
    InvalidParameterValue,
    /// A required parameter is absent.
    MissingParameterValue,
    /// What was named does not exist.
    ResourceNotFound,
    /// What was to be made exists.
    AlreadyExists,
    /// The request cannot be carried out in the state things are in.
    InvalidRequest,
    /// A quota would be exceeded.
    LimitExceeded,
    /// Something this server depends on failed.
    DependencyFailure,
    /// The server cannot do it now; clients try again.
    ServiceUnavailable,
    /// The request contradicts another one.
    Conflict,
    /// The caller may not do this.
    AccessDenied,
}

impl ErrorKind {
    /// The name, as in `ResourceNotFoundException`.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidParameterValue => "InvalidParameterValueException",
            Self::MissingParameterValue => "MissingParameterValueException",
            Self::ResourceNotFound => "ResourceNotFoundException",
            Self::AlreadyExists => "AlreadyExistsException",
            Self::InvalidRequest => "InvalidRequestException",
            Self::LimitExceeded => "LimitExceededException",
            Self::DependencyFailure => "DependencyFailureException",
            Self::ServiceUnavailable => "ServiceUnavailableException",
            Self::Conflict => "ConflictException",
            Self::AccessDenied => "AccessDeniedException",
        }
    }

    /// The HTTP status, as in the model: 500 for faults of the server, 403 for a denial, else 400.
    pub fn status(self) -> u16 {
        match self {
            Self::DependencyFailure | Self::ServiceUnavailable => 500,
            Self::AccessDenied => 403,
            _ => 400,
        }
    }
}

/// A refusal: what is wrong and what to do next. Nothing was changed, except where a
/// [`ErrorKind::ServiceUnavailable`] came while something was being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppError {
    /// Its kind.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
    /// The member that is wrong, where it is one.
    pub member: Option<Box<str>>,
    /// ARN of what exists already.
    pub arn: Option<Box<Arn>>,
    /// The request id what exists was made with.
    pub creator_request_id: Option<Box<str>>,
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

impl std::error::Error for AppError {}

impl AppError {
    /// A refusal of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), member: None, arn: None, creator_request_id: None }
    }

    /// `member` has a value that cannot be accepted.
    pub fn invalid(member: impl Into<String>, why: impl fmt::Display) -> Self {
        Invalid::new(member, why).into()
    }

    /// `member` is a setting of AWS Backup that this server cannot honour yet; it is refused
    /// rather than forgotten.
    pub fn not_supported(member: impl Into<String>) -> Self {
        Self::invalid(
            member,
            "is not supported by this server yet, and nothing was changed; leave it out.",
        )
    }

    /// What was named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ResourceNotFound, message)
    }

    /// It cannot be done in the state things are in.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    /// The caller may not do this.
    pub fn access_denied(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::AccessDenied, message)
    }

    /// A token was used with other parameters before.
    pub(crate) fn token_reused(token: &str, what: &str, id: &str) -> Self {
        Self::new(
            ErrorKind::Conflict,
            format!(
                "IdempotencyToken '{token}' was used for {what} {id} with other parameters; repeat \
                 that request unchanged, or use a new token for a new one."
            ),
        )
    }

    /// It exists already.
    pub(crate) fn exists(message: impl Into<String>, arn: Option<Arn>) -> Self {
        let mut error = Self::new(ErrorKind::AlreadyExists, message);
        error.arn = arn.map(Box::new);
        error
    }

    #[must_use]
    pub(crate) fn made_by(mut self, request_id: Option<&str>) -> Self {
        self.creator_request_id = request_id.map(Into::into);
        self
    }

    /// A fault of the server: logged in full, told in short.
    pub(crate) fn fault(what: &dyn fmt::Display) -> Self {
        tracing::error!(error = %what, "a request failed by a fault of the server");
        Self::new(
            ErrorKind::ServiceUnavailable,
            format!("the server could not do it: {what}. Try again; if it persists see its log."),
        )
    }
}

impl From<Invalid> for AppError {
    fn from(invalid: Invalid) -> Self {
        let kind = if invalid.absent {
            ErrorKind::MissingParameterValue
        } else {
            ErrorKind::InvalidParameterValue
        };
        let mut error = Self::new(kind, invalid.message);
        error.member = Some(invalid.member.into());
        error
    }
}

impl From<CatalogError> for AppError {
    fn from(error: CatalogError) -> Self {
        let kind = match &error {
            CatalogError::NotFound { .. } => ErrorKind::ResourceNotFound,
            CatalogError::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            CatalogError::NotEmpty { .. } | CatalogError::Illegal(_) => ErrorKind::InvalidRequest,
            CatalogError::TooMany { .. } => ErrorKind::LimitExceeded,
            CatalogError::Conflict { .. } => ErrorKind::Conflict,
            _ => return Self::fault(&error),
        };
        let mut message = error.to_string();
        if !message.ends_with('.') {
            message.push('.');
        }
        Self::new(kind, message)
    }
}

impl From<EngineError> for AppError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Catalog(error) => error.into(),
            EngineError::Invalid(invalid) => invalid.into(),
            EngineError::Refused(message) => Self::refused(message),
            EngineError::Repository { .. } | EngineError::Key { .. } => {
                tracing::error!(%error, "a vault or key could not be used");
                Self::new(ErrorKind::DependencyFailure, error.to_string())
            }
            EngineError::Internal(_) => Self::fault(&error),
        }
    }
}
