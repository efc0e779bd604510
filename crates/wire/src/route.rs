//! From method, path and query to the operation.

use crate::error::{self, ServiceError};
use crate::generated::operations::Operation;
use crate::operation::PathSegment;
use crate::percent;

/// An operation with the labels of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// The operation.
    pub operation: Operation,
    /// The labels by their names in the path, such as `backupVaultName`, decoded.
    pub labels: Vec<(&'static str, String)>,
}

/// A request that is for no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No operation has this path.
    #[error("no operation has the path {path:?}; check the request's URI")]
    UnknownPath {
        /// The raw path.
        path: String,
    },
    /// Operations have this path, but with other methods.
    #[error("{method} is not allowed on {path:?}; use {}", .allowed.join(" or "))]
    WrongMethod {
        /// The request's method.
        method: String,
        /// The raw path.
        path: String,
        /// The methods that would do, for the header `Allow`.
        allowed: Vec<&'static str>,
    },
    /// A label is not percent-encoded UTF-8.
    #[error("the path segment {segment:?} is not percent-encoded UTF-8; encode it again")]
    BadEncoding {
        /// The raw segment.
        segment: String,
    },
}

impl From<RouteError> for ServiceError {
    fn from(error: RouteError) -> Self {
        let shape = match error {
            RouteError::UnknownPath { .. } => &error::UNKNOWN_OPERATION,
            RouteError::WrongMethod { .. } => &error::METHOD_NOT_ALLOWED,
            RouteError::BadEncoding { .. } => &error::SERIALIZATION,
        };
        Self::new(shape, error.to_string())
    }
}

/// Finds the operation of a request.
///
/// The path is the raw one, still percent-encoded: a label can hold `%2F` and `%3A` (ARNs), which
/// must not be taken for separators. A slash at the end may be there or not, whatever the model
/// writes, since SDKs differ. `raw_query` is empty where there is none.
pub fn match_route(
    method: &str,
    raw_path: &str,
    raw_query: &str,
) -> Result<RouteMatch, RouteError> {
    let unknown = || RouteError::UnknownPath { path: raw_path.chars().take(256).collect() };
    let path = raw_path.strip_prefix('/').ok_or_else(unknown)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<&str> = path.split('/').collect();
    let mut allowed = Vec::new();
    for operation in Operation::ALL {
        if !fits(operation, &segments) {
            continue;
        }
        if operation.method() != method || !has_literal_query(operation, raw_query) {
            allowed.push(operation.method());
            continue;
        }
        return Ok(RouteMatch { operation, labels: labels(operation, &segments)? });
    }
    // A path known only together with a query, asked for without it, is not a matter of the method.
    allowed.retain(|known| *known != method);
    if allowed.is_empty() {
        return Err(unknown());
    }
    allowed.sort_unstable();
    allowed.dedup();
    Err(RouteError::WrongMethod {
        method: method.chars().take(32).collect(),
        path: raw_path.chars().take(256).collect(),
        allowed,
    })
}

fn fits(operation: Operation, segments: &[&str]) -> bool {
    let pattern = operation.path();
    pattern.len() == segments.len()
        && pattern.iter().zip(segments).all(|(wanted, found)| match wanted {
            PathSegment::Literal(text) => text == found,
            PathSegment::Label(_) => !found.is_empty(),
        })
}

fn has_literal_query(operation: Operation, raw_query: &str) -> bool {
    operation.literal_query().is_none_or(|key| {
        raw_query.split('&').any(|pair| pair.split_once('=').map_or(pair, |(name, _)| name) == key)
    })
}

fn labels(
    operation: Operation,
    segments: &[&str],
) -> Result<Vec<(&'static str, String)>, RouteError> {
    let mut labels = Vec::new();
    for (wanted, found) in operation.path().iter().zip(segments) {
        if let PathSegment::Label(name) = wanted {
            let value = percent::decode(found, false).ok_or_else(|| RouteError::BadEncoding {
                segment: found.chars().take(256).collect(),
            })?;
            labels.push((*name, value));
        }
    }
    Ok(labels)
}
