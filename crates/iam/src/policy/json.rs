//! From JSON to a policy, strictly.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Patterns, Policy, Statement};

/// Why a policy document is refused. Nothing of it takes effect then.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// Not JSON at all.
    #[error("the policy is not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Correct IAM, but not evaluated here yet.
    #[error(
        "{place}: {what} is not supported yet, and the policy is refused so that it cannot mean \
         something else than it says; remove it"
    )]
    Unsupported {
        /// Where, such as `Statement[0].Condition`.
        place: String,
        /// What it is.
        what: &'static str,
    },
    /// Not IAM's policy language.
    #[error("{place}: {problem}")]
    Malformed {
        /// Where, such as `Statement[0].Effect`.
        place: String,
        /// What is wrong and what is expected.
        problem: &'static str,
    },
    /// A resource that the action is never decided on.
    #[error(
        "{place}: {action} is decided on the account as a whole, so that a statement which names \
         resources never speaks about it; write \"*\" as its Resource, or leave the action out"
    )]
    NeverDecided {
        /// Where, such as `Statement[0]`.
        place: String,
        /// The action as it stands there.
        action: String,
    },
    /// An action of ours that there is not.
    #[error("{place}: no action of Provault is named {action}; docs/how-to/users.md lists them")]
    NoSuchAction {
        /// Where, such as `Statement[0]`.
        place: String,
        /// The action as it stands there.
        action: String,
    },
}

fn malformed(place: impl Into<String>, problem: &'static str) -> PolicyError {
    PolicyError::Malformed { place: place.into(), problem }
}

impl Policy {
    /// Reads a policy document.
    pub fn parse(json: &str) -> Result<Self, PolicyError> {
        serde_json::from_str::<UniqueMembers>(json)?;
        let document: Value = serde_json::from_str(json)?;
        let Value::Object(document) = document else {
            return Err(malformed("policy", "expected a JSON object"));
        };
        for (name, value) in &document {
            match (name.as_str(), value) {
                ("Version", Value::String(version))
                    if version == "2012-10-17" || version == "2008-10-17" => {}
                ("Version", _) => {
                    return Err(malformed("Version", "expected \"2012-10-17\" or \"2008-10-17\""));
                }
                ("Id", Value::String(_)) | ("Statement", _) => {}
                _ => {
                    return Err(malformed(name, "expected only Version, Id (text) and Statement"));
                }
            }
        }
        let statements = match document.get("Statement") {
            Some(Value::Array(list)) if !list.is_empty() => list.as_slice(),
            Some(one @ Value::Object(_)) => std::slice::from_ref(one),
            _ => {
                return Err(malformed(
                    "Statement",
                    "expected a statement, or a list of at least one",
                ));
            }
        };
        let mut sids = HashSet::new();
        let mut parsed = Vec::with_capacity(statements.len());
        for (at, value) in statements.iter().enumerate() {
            let place = format!("Statement[{at}]");
            let Value::Object(members) = value else {
                return Err(malformed(place, "expected a JSON object"));
            };
            parsed.push(statement(members, &place)?);
            if let Some(Value::String(sid)) = members.get("Sid")
                && !sid.is_empty()
                && !sids.insert(sid.as_str())
            {
                return Err(malformed(format!("{place}.Sid"), "expected a Sid used only once"));
            }
        }
        Ok(Self { statements: parsed })
    }
}

fn statement(members: &Map<String, Value>, place: &str) -> Result<Statement, PolicyError> {
    for (name, value) in members {
        let here = format!("{place}.{name}");
        match (name.as_str(), value) {
            ("Condition", _) => {
                return Err(PolicyError::Unsupported { place: here, what: "a condition" });
            }
            ("Principal" | "NotPrincipal", _) => {
                return Err(malformed(
                    here,
                    "an identity policy names no principal: it applies to the identity it is \
                     attached to",
                ));
            }
            ("Sid", Value::String(_))
            | ("Effect" | "Action" | "NotAction" | "Resource" | "NotResource", _) => {}
            _ => {
                return Err(malformed(
                    here,
                    "expected only Sid (text), Effect, Action or NotAction, Resource or NotResource",
                ));
            }
        }
    }
    let allow = match members.get("Effect").and_then(Value::as_str) {
        Some("Allow") => true,
        Some("Deny") => false,
        _ => return Err(malformed(format!("{place}.Effect"), "expected \"Allow\" or \"Deny\"")),
    };
    Ok(Statement {
        allow,
        actions: patterns(members, place, "Action", "NotAction", is_action)?,
        resources: patterns(members, place, "Resource", "NotResource", is_resource)?,
    })
}

fn patterns(
    members: &Map<String, Value>,
    place: &str,
    plain: &str,
    not: &str,
    valid: fn(&str) -> Option<&'static str>,
) -> Result<Patterns, PolicyError> {
    let (name, negated, value) = match (members.get(plain), members.get(not)) {
        (Some(value), None) => (plain, false, value),
        (None, Some(value)) => (not, true, value),
        _ => {
            return Err(malformed(
                format!("{place}.{plain}"),
                "expected exactly one of this and its Not form",
            ));
        }
    };
    let here = format!("{place}.{name}");
    let values = match value {
        Value::Array(list) if !list.is_empty() => list.as_slice(),
        one @ Value::String(_) => std::slice::from_ref(one),
        _ => return Err(malformed(here, "expected text, or a list of at least one text")),
    };
    let mut patterns = Vec::with_capacity(values.len());
    for value in values {
        let Value::String(text) = value else {
            return Err(malformed(here, "expected every entry of the list to be text"));
        };
        if text.contains("${") {
            return Err(PolicyError::Unsupported {
                place: here, what: "a policy variable (${…})"
            });
        }
        if let Some(problem) = valid(text) {
            return Err(malformed(here, problem));
        }
        patterns.push(text.clone());
    }
    Ok(Patterns { negated, patterns })
}

fn is_action(text: &str) -> Option<&'static str> {
    let fine = text == "*"
        || text.split_once(':').is_some_and(|(service, action)| {
            let word = |c: char| c.is_ascii_alphanumeric() || "-_*?".contains(c);
            !service.is_empty()
                && service.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !action.is_empty()
                && action.chars().all(word)
        });
    (!fine).then_some("expected \"*\" or SERVICE:ACTION, such as backup:Describe*")
}

fn is_resource(text: &str) -> Option<&'static str> {
    let fine = text == "*" || (text.starts_with("arn:") && text.split(':').count() >= 6)
        // IAM accepts a final wildcard in place of the segments after it.
        || (text.starts_with("arn:") && text.ends_with('*'));
    (!fine).then_some("expected \"*\" or an ARN, such as arn:aws:backup:*:123456789012:*")
}

/// JSON in which no object names a member twice. A [`Value`] would keep the last one and forget
/// what the others said.
struct UniqueMembers;

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for UniqueMembers {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<Self>()?;
            if let Some(name) = seen.replace(name) {
                return Err(A::Error::custom(format_args!("the member {name:?} stands twice")));
            }
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}
