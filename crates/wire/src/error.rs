//! Errors as the API answers them.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

use crate::Operation;
use crate::generated::errors as modelled;

/// The name and status of a kind of error.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorShape {
    /// The name that clients dispatch on, as in `ResourceNotFoundException`.
    pub name: &'static str,
    /// The HTTP status.
    pub status: u16,
}

/// The caller may not do this. Not in the model, but AWS answers it, also when a vault to be
/// described does not exist, and clients depend on that.
pub static ACCESS_DENIED: ErrorShape = ErrorShape { name: "AccessDeniedException", status: 403 };
/// The operation is known but has no behaviour here.
pub static NOT_IMPLEMENTED: ErrorShape =
    ErrorShape { name: "NotImplementedException", status: 501 };
/// The request cannot be read: malformed JSON, or a value of the wrong type.
pub static SERIALIZATION: ErrorShape = ErrorShape { name: "SerializationException", status: 400 };
/// No operation has this path.
pub static UNKNOWN_OPERATION: ErrorShape =
    ErrorShape { name: "UnknownOperationException", status: 404 };
/// Operations have this path, but with other methods. The same name with another status, as AWS's
/// own server generator answers.
pub static METHOD_NOT_ALLOWED: ErrorShape =
    ErrorShape { name: "UnknownOperationException", status: 405 };
/// The body is longer than the server reads.
pub static REQUEST_TOO_LARGE: ErrorShape =
    ErrorShape { name: "RequestEntityTooLargeException", status: 413 };
/// Too many requests; clients wait and try again.
pub static THROTTLING: ErrorShape = ErrorShape { name: "ThrottlingException", status: 429 };
/// A fault of the server.
pub static INTERNAL_FAILURE: ErrorShape = ErrorShape { name: "InternalFailure", status: 500 };

/// An error as a client sees it.
///
/// The name goes into the header `x-amzn-ErrorType`, which clients believe before the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceError {
    /// The name that clients dispatch on.
    pub name: Cow<'static, str>,
    /// The HTTP status.
    pub status: u16,
    /// What failed and what to do about it.
    pub message: String,
    /// The member `Type`.
    pub type_: Option<Box<str>>,
    /// The member `Context`.
    pub context: Option<Box<str>>,
    /// Members only some errors have: `Arn` and `CreatorRequestId` of `AlreadyExistsException`.
    pub extra: Vec<(Cow<'static, str>, String)>,
}

impl ServiceError {
    /// An error of a known kind.
    pub fn new(shape: &'static ErrorShape, message: impl Into<String>) -> Self {
        Self::named(shape.name, shape.status, message)
    }

    /// An error of any name: the refusals of SigV4 have theirs elsewhere.
    pub fn named(
        name: impl Into<Cow<'static, str>>,
        status: u16,
        message: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            status,
            message: message.into(),
            type_: None,
            context: None,
            extra: Vec::new(),
        }
    }

    /// The answer of an operation without behaviour.
    pub fn not_implemented(operation: Operation) -> Self {
        Self::new(
            &NOT_IMPLEMENTED,
            format!("{operation} is not implemented by this server; nothing was changed"),
        )
    }

    /// The object named exists already; clients that repeat a request look at its ARN.
    pub fn already_exists(
        message: impl Into<String>,
        arn: Option<String>,
        creator_request_id: Option<String>,
    ) -> Self {
        let mut error = Self::new(&modelled::ALREADY_EXISTS, message);
        let members = [("Arn", arn), ("CreatorRequestId", creator_request_id)];
        error.extra = members.into_iter().filter_map(|(k, v)| Some((k.into(), v?))).collect();
        error
    }

    /// Adds the member `Type`.
    #[must_use]
    pub fn with_type(mut self, type_: impl Into<Box<str>>) -> Self {
        self.type_ = Some(type_.into());
        self
    }

    /// Adds the member `Context`.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<Box<str>>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// The JSON body.
    pub fn to_body(&self) -> Vec<u8> {
        let mut body = Map::new();
        let mut put = |key: &str, value: &str| body.insert(key.to_owned(), Value::from(value));
        for (key, value) in &self.extra {
            put(key, value);
        }
        put("Code", &self.name);
        put("Message", &self.message);
        if let Some(type_) = &self.type_ {
            put("Type", type_);
        }
        if let Some(context) = &self.context {
            put("Context", context);
        }
        Value::Object(body).to_string().into_bytes()
    }

    /// Reads an error answer: its status, the header `x-amzn-ErrorType`, and the body, whatever it
    /// holds (a proxy between may have answered).
    pub fn from_response(status: u16, error_type: Option<&str>, body: &[u8]) -> Self {
        let parsed: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str| parsed.get(key).and_then(Value::as_str);
        // AWS may add a namespace before the name and a URI after it.
        let name = error_type
            .or_else(|| text("Code"))
            .or_else(|| text("__type"))
            .and_then(|name| name.split(':').next())
            .and_then(|name| name.rsplit('#').next())
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map_or_else(|| format!("HTTP {status}"), str::to_owned);
        let message = text("Message").or_else(|| text("message")).map_or_else(
            || String::from_utf8_lossy(body).chars().take(512).collect(),
            str::to_owned,
        );
        let mut error = Self::named(name, status, message);
        error.type_ = text("Type").map(Into::into);
        error.context = text("Context").map(Into::into);
        for key in ["Arn", "CreatorRequestId"] {
            error.extra.extend(text(key).map(|value| (Cow::Borrowed(key), value.to_owned())));
        }
        error
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl std::error::Error for ServiceError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_its_answer() {
        let error = ServiceError::already_exists(
            "the vault exists \"already\"",
            Some("arn:aws:backup:us-east-1:123456789012:backup-vault:v".into()),
            None,
        )
        .with_type("Client")
        .with_context("v");
        let body = error.to_body();
        let header = "AlreadyExistsException:http://internal.amazon.com/";
        assert_eq!(ServiceError::from_response(400, Some(header), &body), error);
        assert_eq!(ServiceError::from_response(400, None, &body), error);
        let json: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["Code"], "AlreadyExistsException");
    }

    #[test]
    fn an_answer_that_is_not_ours_is_shown_as_it_came() {
        let error = ServiceError::from_response(502, None, b"<html>bad gateway</html>");
        assert_eq!(error.to_string(), "HTTP 502: <html>bad gateway</html>");
    }

    #[test]
    fn faults_of_the_server_are_500_and_the_rest_of_the_model_is_400() {
        let faults: Vec<&str> =
            modelled::MODELLED.iter().filter(|e| e.status == 500).map(|e| e.name).collect();
        assert_eq!(faults, ["DependencyFailureException", "ServiceUnavailableException"]);
        assert_eq!(modelled::MODELLED.iter().filter(|e| e.status == 400).count(), 8);
    }
}
