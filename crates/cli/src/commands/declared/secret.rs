//! What is not written into a document: where it is taken from stands there instead.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::thing::{Noun, Thing};
use crate::error::CliError;
use crate::input_file::first_line;

/// What the server shows of a variable's value to whoever may not see it.
pub(super) const HIDDEN: &str = "(hidden)";
/// What it shows of a webhook's path, or of the arguments of a command.
const CUT: &str = "…";

/// Where a secret is taken from: exactly one of both.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Source {
    /// An environment variable of whoever applies the document.
    from_env: Option<String>,
    /// A file, whose first line is taken.
    from_file: Option<PathBuf>,
}

impl Source {
    /// The source that a value is, if it is one and not a text.
    pub fn of(value: &Value) -> Option<Result<Self, String>> {
        value.is_object().then(|| {
            let source: Self =
                serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
            match (&source.from_env, &source.from_file) {
                (Some(_), None) | (None, Some(_)) => Ok(source),
                _ => Err("exactly one of FromEnv and FromFile is needed".to_owned()),
            }
        })
    }

    /// The secret itself.
    pub fn read(&self) -> Result<String, CliError> {
        match (&self.from_env, &self.from_file) {
            (Some(name), _) => match std::env::var(name) {
                Ok(secret) if !secret.is_empty() => Ok(secret),
                _ => Err(CliError::usage(format!(
                    "the environment variable {name} is not set; a secret is to be in it"
                ))),
            },
            (None, Some(path)) => first_line(path),
            (None, None) => Err(CliError::usage("exactly one of FromEnv and FromFile is needed")),
        }
    }
}

/// A source as it is written into a document, named after what it is for.
pub(super) fn from_env(parts: &[&str]) -> Value {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = parts.join("_").chars().map(plain).collect();
    json!({ "FromEnv": format!("PROVAULT_{name}") })
}

/// The variables of a resource's application.
pub(super) fn environment(resource: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    resource.get_mut("Service")?.get_mut("Environment")?.as_object_mut()
}

/// The member of a thing that has a placeholder in it in place of what the server hides.
pub(super) fn placeholder(thing: &Thing) -> Option<&'static str> {
    let body = &thing.body;
    match thing.noun {
        Noun::Subscription => {
            let url = body.get("Webhook").and_then(Value::as_str);
            let words = body.get("Command").and_then(Value::as_array);
            if url.is_some_and(|url| url.ends_with(&format!("/{CUT}"))) {
                Some("Webhook")
            } else {
                words.is_some_and(|words| words.last() == Some(&json!(CUT))).then_some("Command")
            }
        }
        Noun::Resource => {
            let environment = body.get("Service").and_then(|service| service.get("Environment"));
            let mut values = environment.and_then(Value::as_object)?.values();
            values.any(|value| value == HIDDEN).then_some("Environment")
        }
        _ => None,
    }
}

/// Puts an empty text for every source, so that the rest can be checked.
pub(super) fn blank(resource: &mut Map<String, Value>) -> Result<(), String> {
    for (name, value) in environment(resource).into_iter().flatten() {
        if let Some(source) = Source::of(value) {
            source.map_err(|why| format!("Service.Environment.{name}: {why}"))?;
            *value = json!("");
        }
    }
    Ok(())
}

/// Puts the secret for every source.
pub(super) fn fill(resource: &mut Map<String, Value>) -> Result<(), CliError> {
    for (name, value) in environment(resource).into_iter().flatten() {
        if let Some(source) = Source::of(value) {
            let source = source
                .map_err(|why| CliError::usage(format!("Service.Environment.{name}: {why}")))?;
            *value = source.read()?.into();
        }
    }
    Ok(())
}
