//! `role` and `key`: what has only a name.

use provault_wire::provault::{AddNameInput, Named, NamedList};
use serde_json::Value;

use super::resource::body;
use super::{Context, gone};
use crate::client::{Answer, segment};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, epoch};

#[derive(Debug, clap::Subcommand)]
pub enum RoleCommand {
    /// Add a role and print its ARN
    Add {
        /// Its name
        name: String,
    },
    /// List all roles
    List,
    /// Remove a role
    Remove {
        /// Name or ARN
        role: String,
    },
}

#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Add a key and print its ARN
    Add {
        /// Its name
        name: String,
    },
    /// List all keys
    List,
    /// Remove a key; refused while a vault is sealed with it
    Remove {
        /// Name or ARN
        key: String,
    },
}

impl RoleCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        match self {
            Self::Add { name } => add(context, "roles", name),
            Self::List => list(context, "roles"),
            Self::Remove { role } => remove(context, "roles", "role", &role),
        }
    }
}

impl KeyCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        match self {
            Self::Add { name } => add(context, "keys", name),
            Self::List => list(context, "keys"),
            Self::Remove { key } => remove(context, "keys", "key", &key),
        }
    }
}

/// Prints the ARN alone, for a script to take.
pub(super) fn add(context: &Context<'_>, noun: &str, name: String) -> Result<Exit, CliError> {
    let body = body(&AddNameInput { name })?;
    let added: Answer<Named> = context.client.own("POST", &format!("/{noun}"), &[], Some(&body))?;
    context.out.show_line(&added.json, &added.typed.arn)?;
    Ok(Exit::Done)
}

pub(super) fn list(context: &Context<'_>, noun: &str) -> Result<Exit, CliError> {
    let list: Answer<NamedList> = context.client.own("GET", &format!("/{noun}"), &[], None)?;
    context.out.show(&list.json, || {
        let row = |n: &Named| vec![n.name.clone(), n.arn.clone(), epoch(n.creation_date)];
        vec![View::table(&["NAME", "ARN", "CREATED"]).rows(list.typed.items.iter().map(row))]
    })?;
    Ok(Exit::Done)
}

pub(super) fn remove(
    context: &Context<'_>,
    noun: &str,
    kind: &str,
    wanted: &str,
) -> Result<Exit, CliError> {
    let path = format!("/{noun}/{}", segment(wanted));
    context.client.own::<Value>("DELETE", &path, &[], None)?;
    gone(context, &format!("removed {kind} {wanted}"))
}
