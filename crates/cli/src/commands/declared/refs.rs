//! Names of this account for its ARNs, and back.

use std::convert::Infallible;

use provault_wire::provault::{Named, NamedList};
use serde_json::{Map, Value};

use super::thing::{Noun, member};
use crate::client::{Answer, Client};
use crate::error::CliError;

/// The name of the role that every account has, and the word for it.
const DEFAULT_ROLE: &str = "service-role/AWSBackupDefaultServiceRole";
const DEFAULT: &str = "DEFAULT";

/// What an ARN in a document names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Role,
    Key,
    Topic,
    Vault,
    Resource,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Key => "key",
            Self::Topic => "topic",
            Self::Vault => "vault",
            Self::Resource => "resource",
        }
    }

    /// Where a document declares it, if one can.
    pub fn noun(self) -> Option<Noun> {
        match self {
            Self::Topic => Some(Noun::Topic),
            Self::Vault => Some(Noun::Vault),
            Self::Resource => Some(Noun::Resource),
            Self::Role | Self::Key => None,
        }
    }

    /// How to get one that is missing.
    fn remedy(self) -> &'static str {
        match self {
            Self::Role => "make it with `provault role add`, or take one of `provault role list`",
            Self::Key => "make it with `provault key add`, or take one of `provault key list`",
            Self::Topic => "declare it under [[Topics]]",
            Self::Vault => "declare it under [[Vaults]]",
            Self::Resource => "declare it under [[Resources]]",
        }
    }
}

/// Members that hold an ARN, or a list of them, where a document may have names.
fn places(noun: Noun) -> &'static [(&'static str, Kind)] {
    match noun {
        Noun::Vault => &[("EncryptionKeyArn", Kind::Key)],
        Noun::Notifications => &[("SNSTopicArn", Kind::Topic)],
        Noun::Selection => &[
            ("IamRoleArn", Kind::Role),
            ("Resources", Kind::Resource),
            ("NotResources", Kind::Resource),
        ],
        Noun::TestingPlan => &[
            ("RecoveryPointSelection.IncludeVaults", Kind::Vault),
            ("RecoveryPointSelection.ExcludeVaults", Kind::Vault),
        ],
        Noun::TestingSelection => {
            &[("IamRoleArn", Kind::Role), ("ProtectedResourceArns", Kind::Resource)]
        }
        Noun::Topic | Noun::Subscription | Noun::Resource | Noun::Exemption | Noun::Plan => &[],
    }
}

/// Names and ARNs of what the server has.
#[derive(Debug, Clone, Default)]
pub(super) struct Refs(Vec<(Kind, String, String)>);

impl Refs {
    /// Roles, keys and topics.
    pub fn read(client: &Client) -> Result<Self, CliError> {
        let mut refs = Self::default();
        for (kind, noun) in [(Kind::Role, "roles"), (Kind::Key, "keys"), (Kind::Topic, "topics")] {
            let list: Answer<NamedList> = client.own("GET", &format!("/{noun}"), &[], None)?;
            for Named { name, arn, .. } in list.typed.items {
                refs.add(kind, &name, &arn);
            }
        }
        Ok(refs)
    }

    pub fn add(&mut self, kind: Kind, name: &str, arn: &str) {
        self.0.push((kind, name.to_owned(), arn.to_owned()));
    }

    pub fn names(&self, kind: Kind) -> impl Iterator<Item = (&str, &str)> {
        let of_kind = move |(other, _, _): &&(Kind, String, String)| *other == kind;
        self.0.iter().filter(of_kind).map(|(_, name, arn)| (name.as_str(), arn.as_str()))
    }

    /// The name of what a text names; a pattern, or an ARN that is nothing of this server's, as it is.
    fn name(&self, kind: Kind, text: &str) -> String {
        let found = self.names(kind).find(|(_, arn)| *arn == text).map_or(text, |(name, _)| name);
        let default = kind == Kind::Role && found == DEFAULT_ROLE;
        if default { DEFAULT.to_owned() } else { found.to_owned() }
    }

    /// The ARN of what a name names; nothing where the server has none of that name.
    fn arn(&self, kind: Kind, name: &str) -> Option<String> {
        if name == "*" || name.starts_with("arn:") {
            return Some(name.to_owned());
        }
        let name = if kind == Kind::Role && name == DEFAULT { DEFAULT_ROLE } else { name };
        self.names(kind).find(|(known, _)| *known == name).map(|(_, arn)| arn.to_owned())
    }

    /// Writes names for ARNs.
    pub fn to_names(&self, noun: Noun, body: &mut Map<String, Value>) {
        for (path, kind) in places(noun) {
            let Ok(()) = each(member(body, path), |text| {
                *text = self.name(*kind, text);
                Ok::<_, Infallible>(())
            });
        }
    }

    /// Writes ARNs for names, for the server.
    pub fn to_arns(&self, noun: Noun, body: &mut Map<String, Value>) -> Result<(), CliError> {
        for (path, kind) in places(noun) {
            each(member(body, path), |text| {
                let unknown = || CliError::Name(format!("{path}: {}", missing(*kind, text)));
                *text = self.arn(*kind, text).ok_or_else(unknown)?;
                Ok::<_, CliError>(())
            })?;
        }
        Ok(())
    }

    /// Names in a document of what will not be there, each in a sentence; `there` says so of a name and
    /// whether the server has it.
    pub fn unknown(
        &self,
        noun: Noun,
        body: &Map<String, Value>,
        there: &dyn Fn(Kind, &str, bool) -> Result<(), String>,
    ) -> Vec<String> {
        let mut body = body.clone();
        let mut unknown = Vec::new();
        for (path, kind) in places(noun) {
            let Ok(()) = each(member(&mut body, path), |text| {
                if let Err(why) = there(*kind, text, self.arn(*kind, text).is_some()) {
                    unknown.push(format!("{path}: {why}"));
                }
                Ok::<_, Infallible>(())
            });
        }
        unknown
    }
}

pub(super) fn missing(kind: Kind, name: &str) -> String {
    format!("there is no {} '{name}'; {}", kind.word(), kind.remedy())
}

/// Why a name will be nobody's any more.
pub(super) fn leaving(kind: Kind, name: &str) -> String {
    format!(
        "the {} '{name}' is not declared and so would be removed by this very apply; {}, or apply \
         without --prune",
        kind.word(),
        kind.remedy()
    )
}

/// Every text that is `value`, or is in it.
#[allow(clippy::needless_pass_by_value, reason = "a reference to one place, used up")]
fn each<E>(
    value: Option<&mut Value>,
    mut change: impl FnMut(&mut String) -> Result<(), E>,
) -> Result<(), E> {
    match value {
        Some(Value::String(text)) => change(text),
        Some(Value::Array(items)) => items.iter_mut().try_for_each(|item| match item {
            Value::String(text) => change(text),
            _ => Ok(()),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_arns_are_two_ways_of_writing() {
        let mut refs = Refs::default();
        refs.add(Kind::Role, DEFAULT_ROLE, "arn:role");
        refs.add(Kind::Resource, "docs", "arn:docs");
        let with_arns = json!({ "IamRoleArn": "arn:role", "Resources": ["arn:docs", "arn:x:*", "*"],
            "SelectionName": "docs" });
        let mut body = with_arns.as_object().unwrap().clone();
        refs.to_names(Noun::Selection, &mut body);
        let with_names = json!({ "IamRoleArn": "DEFAULT", "Resources": ["docs", "arn:x:*", "*"],
            "SelectionName": "docs" });
        assert_eq!(Value::Object(body.clone()), with_names);
        refs.to_arns(Noun::Selection, &mut body).unwrap();
        assert_eq!(Value::Object(body), with_arns);
    }

    #[test]
    fn a_name_that_nobody_has_is_told() {
        let body = json!({ "IamRoleArn": "ops", "Resources": ["docs"] });
        let body = body.as_object().unwrap();
        let refs = Refs::default();
        let unknown = refs.unknown(Noun::Selection, body, &|kind, name, stands| {
            if stands || name == "docs" { Ok(()) } else { Err(missing(kind, name)) }
        });
        assert_eq!(unknown.len(), 1);
        assert!(
            unknown[0].contains("no role 'ops'") && unknown[0].contains("role add"),
            "{unknown:?}"
        );
        assert!(refs.to_arns(Noun::Selection, &mut body.clone()).is_err());
    }
}
