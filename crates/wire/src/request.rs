//! Requests: decoding at the server, encoding at the client.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{self, ServiceError};
use crate::generated::operations::Operation;
use crate::operation::{NoOutput, PathSegment};
use crate::percent;
use crate::route::RouteMatch;
use crate::schema::{Location, Shape, Structure};
use crate::timestamp::Timestamp;
use crate::validate::{self, Path, ValidationError};

/// A request that cannot be read. Repeating it unchanged does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body is not JSON.
    #[error("the request body is not JSON: {0}")]
    MalformedJson(String),
    /// The query is not percent-encoded UTF-8.
    #[error("the query part {0:?} is not percent-encoded UTF-8; encode it again")]
    BadQuery(String),
    /// A key that holds one value stands in the query twice.
    #[error("the query holds {0:?} more than once; send it once")]
    RepeatedQuery(&'static str),
    /// A value of the wrong type.
    #[error("{path}: expected {expected}, found {found}")]
    WrongType {
        /// The member, such as `BackupPlan.Rules[0].RuleName`.
        path: String,
        /// The type the model wants.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The route was matched for another operation: a mistake in the server.
    #[error("a request for {found} was decoded as {expected}")]
    WrongOperation {
        /// The operation of the input type.
        expected: Operation,
        /// The operation of the route.
        found: Operation,
    },
}

impl From<DecodeError> for ServiceError {
    fn from(error: DecodeError) -> Self {
        let shape = match error {
            DecodeError::WrongOperation { .. } => &error::INTERNAL_FAILURE,
            _ => &error::SERIALIZATION,
        };
        Self::new(shape, error.to_string())
    }
}

/// An input that no request can be made of.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A member that belongs into the path is absent or empty.
    #[error("{operation} needs {member}: it is part of the path")]
    MissingLabel {
        /// The operation.
        operation: Operation,
        /// The member.
        member: &'static str,
    },
    /// The input has no JSON form.
    #[error("the request has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
}

/// A request, ready to be signed and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRequest {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, percent-encoded once.
    pub path: String,
    /// The query without its question mark, empty where there is none.
    pub query: String,
    /// The JSON body, empty for an operation without body members.
    pub body: Vec<u8>,
}

/// The input of an operation; implemented by the input structure of each.
pub trait OperationInput: Serialize + DeserializeOwned {
    /// The operation.
    const OPERATION: Operation;
    /// What it answers: [`NoOutput`] where the body is empty.
    type Output: Serialize + DeserializeOwned;

    /// Reads a request: path labels, query and body.
    ///
    /// The body may be empty, and is not looked at where the operation has no body members.
    /// Unknown members and query keys are ignored, as AWS does. Nothing is validated yet.
    fn decode(route: &RouteMatch, raw_query: &str, body: &[u8]) -> Result<Self, DecodeError> {
        if route.operation != Self::OPERATION {
            return Err(DecodeError::WrongOperation {
                expected: Self::OPERATION,
                found: route.operation,
            });
        }
        let value = gather(Self::OPERATION.input(), &route.labels, raw_query, body)?;
        // The types were checked along the schema, which knows the path of a mistake.
        serde_json::from_value(value).map_err(|e| DecodeError::MalformedJson(e.to_string()))
    }

    /// Checks every constraint of the model: required members, lengths, ranges, patterns,
    /// enumerations, at every depth.
    fn validate(&self) -> Result<(), ValidationError> {
        // A structure of the model always has a JSON form; were there none, all would be missing.
        let value = serde_json::to_value(self).unwrap_or_default();
        validate::structure(Self::OPERATION.input(), &value)
    }

    /// Makes a request of it, for a client. Validate it before, or let the server.
    fn encode(&self) -> Result<EncodedRequest, EncodeError> {
        encode(Self::OPERATION, serde_json::to_value(self)?)
    }

    /// The body of a successful answer.
    fn encode_output(output: &Self::Output) -> Result<Vec<u8>, serde_json::Error> {
        match Self::OPERATION.output() {
            Some(_) => serde_json::to_vec(output),
            None => Ok(Vec::new()),
        }
    }

    /// Reads the body of a successful answer, for a client.
    fn decode_output(body: &[u8]) -> Result<Self::Output, serde_json::Error> {
        match Self::OPERATION.output() {
            Some(_) if !body.is_empty() => serde_json::from_slice(body),
            _ => serde_json::from_slice(b"{}"),
        }
    }
}

macro_rules! implement {
    ($($operation:ident: $input:ident => $output:ident;)*) => {
        $(
            impl OperationInput for $input {
                const OPERATION: Operation = Operation::$operation;
                type Output = $output;
            }
        )*
    };
}

mod inputs {
    // One name for every structure: the list is generated.
    #[allow(clippy::wildcard_imports)]
    use crate::types::*;

    use super::{NoOutput, Operation, OperationInput};

    crate::for_each_operation!(implement);
}

/// The input as one JSON object under the members' own names.
fn gather(
    input: &'static Structure,
    labels: &[(&'static str, String)],
    raw_query: &str,
    body: &[u8],
) -> Result<Value, DecodeError> {
    let mut members = body_members(input, body)?;
    let mut query = Vec::new();
    for pair in raw_query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = percent::decode(key, true).zip(percent::decode(value, true));
        query.push(decoded.ok_or_else(|| DecodeError::BadQuery(pair.chars().take(256).collect()))?);
    }
    for member in input.members {
        let text = match member.location {
            Location::Body => continue,
            Location::Uri(label) => {
                labels.iter().find(|(name, _)| *name == label).map(|(_, value)| value)
            }
            Location::Query(key) => {
                let mut values = query.iter().filter(|(name, _)| name == key);
                let value = values.next();
                if values.next().is_some() {
                    return Err(DecodeError::RepeatedQuery(key));
                }
                value.map(|(_, value)| value)
            }
        };
        if let Some(text) = text {
            members.insert(member.name.to_owned(), from_text(member.shape, member.name, text)?);
        }
    }
    Ok(Value::Object(members))
}

/// The members of the body with their types checked; others are dropped.
fn body_members(input: &'static Structure, body: &[u8]) -> Result<Map<String, Value>, DecodeError> {
    let is_body =
        |name: &str| input.members.iter().any(|m| m.name == name && m.location == Location::Body);
    if body.is_empty() || !input.members.iter().any(|m| m.location == Location::Body) {
        return Ok(Map::new());
    }
    let mut value: Value =
        serde_json::from_slice(body).map_err(|e| DecodeError::MalformedJson(e.to_string()))?;
    let Some(members) = value.as_object_mut() else {
        return Err(wrong_type(&Path::new(), "an object", found(&value)));
    };
    let mut members = std::mem::take(members);
    members.retain(|name, _| is_body(name));
    value = Value::Object(members);
    check_structure(input, &value, &mut Path::new())?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Ok(Map::new()),
    }
}

fn check_structure(
    structure: &Structure,
    value: &Value,
    path: &mut Path,
) -> Result<(), DecodeError> {
    let Some(members) = value.as_object() else {
        return Err(wrong_type(path, "an object", found(value)));
    };
    for member in structure.members {
        match members.get(member.name) {
            // An explicit null is an absent member.
            None | Some(Value::Null) => {}
            Some(value) => path.member(member.name, |path| check(member.shape, value, path))?,
        }
    }
    Ok(())
}

/// Checks the JSON types; constraints are for validation.
fn check(shape: &Shape, value: &Value, path: &mut Path) -> Result<(), DecodeError> {
    let (fits, expected) = match shape {
        Shape::String { .. } | Shape::Enum(_) => (value.is_string(), "a string"),
        Shape::Boolean => (value.is_boolean(), "a boolean"),
        Shape::Integer(_) => (
            value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            "an integer of 32 bits",
        ),
        Shape::Long(_) => (value.as_i64().is_some(), "an integer of 64 bits"),
        Shape::Timestamp => (
            value.as_f64().is_some_and(|seconds| Timestamp::from_epoch_seconds(seconds).is_some()),
            "a time as a number of seconds since 1970",
        ),
        Shape::List { member, .. } => match value.as_array() {
            None => (false, "a list"),
            Some(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    path.index(index, |path| check(member, element, path))?;
                }
                return Ok(());
            }
        },
        Shape::Map { value: inner, .. } => match value.as_object() {
            None => (false, "a map"),
            Some(entries) => {
                for (key, entry) in entries {
                    path.key(key, |path| check(inner, entry, path))?;
                }
                return Ok(());
            }
        },
        Shape::Structure(structure) => return check_structure(structure, value, path),
    };
    if fits { Ok(()) } else { Err(wrong_type(path, expected, found(value))) }
}

/// The JSON value of a text from the path or the query.
fn from_text(shape: &Shape, name: &str, text: &str) -> Result<Value, DecodeError> {
    let (value, expected) = match shape {
        Shape::Integer(_) => (text.parse::<i32>().ok().map(Value::from), "an integer of 32 bits"),
        Shape::Long(_) => (text.parse::<i64>().ok().map(Value::from), "an integer of 64 bits"),
        Shape::Boolean => (text.parse::<bool>().ok().map(Value::from), "true or false"),
        Shape::Timestamp => (
            Timestamp::parse_iso8601(text).ok().and_then(|time| serde_json::to_value(time).ok()),
            "a time like 2024-05-31T13:00:00Z",
        ),
        // No list, map or structure travels in a path or query of this API: the generated schema
        // is tested for that.
        _ => (Some(Value::from(text)), "a string"),
    };
    value.ok_or_else(|| DecodeError::WrongType {
        path: name.to_owned(),
        expected: expected.to_owned(),
        found: format!("{:?}", text.chars().take(64).collect::<String>()),
    })
}

fn wrong_type(path: &Path, expected: &str, found: &str) -> DecodeError {
    DecodeError::WrongType {
        path: if path.as_str().is_empty() { "the request body" } else { path.as_str() }.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}

/// What stands there, without repeating it: it may be sensitive.
fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction or an exponent",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn encode(operation: Operation, value: Value) -> Result<EncodedRequest, EncodeError> {
    let mut members = match value {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    let mut labels = Vec::new();
    let mut query: Vec<String> = operation.literal_query().into_iter().map(str::to_owned).collect();
    let mut has_body = false;
    for member in operation.input().members {
        match member.location {
            Location::Body => has_body = true,
            Location::Uri(label) => {
                let text = members.remove(member.name).map(|value| to_text(member.shape, &value));
                match text.filter(|text| !text.is_empty()) {
                    Some(text) => labels.push((label, percent::encode(&text))),
                    None => {
                        return Err(EncodeError::MissingLabel { operation, member: member.name });
                    }
                }
            }
            Location::Query(key) => {
                if let Some(value) = members.remove(member.name) {
                    query.push(format!(
                        "{}={}",
                        percent::encode(key),
                        percent::encode(&to_text(member.shape, &value))
                    ));
                }
            }
        }
    }
    let mut path = String::new();
    for segment in operation.path() {
        path.push('/');
        path.push_str(match segment {
            PathSegment::Literal(text) => text,
            PathSegment::Label(wanted) => {
                labels.iter().find(|(name, _)| name == wanted).map_or("", |(_, text)| text)
            }
        });
    }
    let body = if has_body { serde_json::to_vec(&Value::Object(members))? } else { Vec::new() };
    Ok(EncodedRequest { method: operation.method(), path, query: query.join("&"), body })
}

fn to_text(shape: &Shape, value: &Value) -> String {
    match (shape, value) {
        (Shape::Timestamp, value) => value
            .as_f64()
            .and_then(Timestamp::from_epoch_seconds)
            .map(|time| time.to_string())
            .unwrap_or_default(),
        (_, Value::String(text)) => text.clone(),
        (_, other) => other.to_string(),
    }
}
