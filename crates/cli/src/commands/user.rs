//! `user` and `audit`: who may do what, and who did.

use std::path::PathBuf;

use provault_wire::provault::{
    AddUserInput, AuditRecordList, CreatedAccessKey, UpdateAccessKeyInput, UpdateUserInput, User,
    UserList,
};
use serde_json::Value;

use super::resource::body;
use super::{Context, gone};
use crate::client::{Answer, segment};
use crate::duration::Seconds;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, epoch};

/// What the managed policies are for.
const POLICIES: &str = "\
Managed policies:
  Administrator  everything in the account
  Operator       backs up, restores, tests, looks after vaults; deletes no backup, changes no
                 retention, reads no password, decides over no user, role or key
  Auditor        sees everything but secrets, changes nothing
  RestoreOnly    finds recovery points, restores and tests them, nothing else";

#[derive(Debug, clap::Subcommand)]
pub enum UserCommand {
    /// Add a user; give it an access key with `user create-key`
    #[command(after_help = POLICIES)]
    Add {
        /// Its name
        name: String,
        /// A managed policy; may be repeated
        #[arg(long, value_name = "NAME")]
        policy: Vec<String>,
        /// A policy of its own, a JSON document in IAM's language
        #[arg(long, value_name = "FILE")]
        policy_file: Option<PathBuf>,
    },
    /// List the root and all users with their policies and access keys
    List,
    /// Set what a user may do, in place of what it may now
    #[command(after_help = POLICIES)]
    SetPolicies {
        /// The user
        name: String,
        /// A managed policy; may be repeated; none takes all away
        #[arg(long, value_name = "NAME")]
        policy: Vec<String>,
        /// A policy of its own, a JSON document in IAM's language; without it the user has none
        #[arg(long, value_name = "FILE")]
        policy_file: Option<PathBuf>,
    },
    /// Remove a user; its access keys are refused from now on
    Remove {
        /// The user
        name: String,
    },
    /// Make an access key and print it once, in the form of an AWS credentials file
    CreateKey {
        /// The user, or root
        name: String,
    },
    /// Refuse requests that are signed with a key, until it is enabled again
    DisableKey {
        /// AKIA...
        id: String,
    },
    /// Accept requests that are signed with a key again
    EnableKey {
        /// AKIA...
        id: String,
    },
    /// Delete a key for good
    DeleteKey {
        /// AKIA...
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// Only what happened since so long ago, such as 24h
    #[arg(long, value_name = "TIME")]
    since: Option<Seconds>,
    /// At most so many records, the newest
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

impl UserCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        match self {
            Self::Add { name, policy, policy_file } => {
                let policy_document = policy_file.as_deref().map(read).transpose()?;
                let input = AddUserInput { name, managed_policies: policy, policy_document };
                let added: Answer<User> =
                    client.own("POST", "/users", &[], Some(&body(&input)?))?;
                context.out.show_line(&added.json, &added.typed.arn)?;
            }
            Self::List => {
                let list: Answer<UserList> = client.own("GET", "/users", &[], None)?;
                context.out.show(&list.json, || vec![table(&list.typed.users)])?;
            }
            Self::SetPolicies { name, policy, policy_file } => {
                let document = policy_file.as_deref().map(read).transpose()?;
                let input = UpdateUserInput {
                    managed_policies: Some(policy),
                    policy_document: Some(document.unwrap_or_default()),
                };
                let path = format!("/users/{}", segment(&name));
                let set: Answer<User> = client.own("POST", &path, &[], Some(&body(&input)?))?;
                context.out.show(&set.json, || vec![table(std::slice::from_ref(&set.typed))])?;
            }
            Self::Remove { name } => {
                let path = format!("/users/{}", segment(&name));
                client.own::<Value>("DELETE", &path, &[], None)?;
                return gone(context, &format!("removed user {name} with its access keys"));
            }
            Self::CreateKey { name } => {
                let path = format!("/users/{}/access-keys", segment(&name));
                let made: Answer<CreatedAccessKey> = client.own("POST", &path, &[], None)?;
                let key = &made.typed;
                let text = format!(
                    "[{name}]\naws_access_key_id = {}\naws_secret_access_key = {}",
                    key.access_key_id, key.secret_access_key
                );
                context.out.show_text(&made.json, &text)?;
                context.out.note("The secret is not told again. Keep it in ~/.aws/credentials.")?;
            }
            Self::DisableKey { id } => return set_status(context, &id, "Inactive"),
            Self::EnableKey { id } => return set_status(context, &id, "Active"),
            Self::DeleteKey { id } => {
                let path = format!("/access-keys/{}", segment(&id));
                client.own::<Value>("DELETE", &path, &[], None)?;
                return gone(context, &format!("deleted access key {id}"));
            }
        }
        Ok(Exit::Done)
    }
}

impl AuditArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let limit = self.limit.to_string();
        let since = self.since.map(|Seconds(seconds)| {
            let ago = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            let now = jiff::Timestamp::now();
            now.checked_sub(ago).unwrap_or(jiff::Timestamp::MIN).to_string()
        });
        let mut query = vec![("limit", limit.as_str())];
        query.extend(since.as_deref().map(|since| ("since", since)));
        let list: Answer<AuditRecordList> = context.client.own("GET", "/audit", &query, None)?;
        let rows = list.typed.audit_records.iter().map(|record| {
            vec![
                epoch(record.time),
                record.principal_arn.clone(),
                dash(record.access_key_id.clone()),
                record.action.clone(),
                match record.count {
                    Some(count) => format!("{} ({count} times)", record.outcome),
                    None => record.outcome.clone(),
                },
                record.resource.clone(),
            ]
        });
        let view =
            View::table(&["TIME", "PRINCIPAL", "ACCESS KEY", "ACTION", "OUTCOME", "RESOURCE"])
                .rows(rows);
        context.out.show(&list.json, || vec![view])?;
        Ok(Exit::Done)
    }
}

fn set_status(context: &Context<'_>, id: &str, status: &str) -> Result<Exit, CliError> {
    let input = UpdateAccessKeyInput { status: status.to_owned() };
    let path = format!("/access-keys/{}", segment(id));
    let set: Answer<Value> = context.client.own("POST", &path, &[], Some(&body(&input)?))?;
    context.out.show_line(&set.json, &format!("access key {id} is {status}"))?;
    Ok(Exit::Done)
}

fn read(path: &std::path::Path) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|error| CliError::usage(format!("--policy-file {}: {error}", path.display())))
}

fn table(users: &[User]) -> View {
    let rows = users.iter().map(|user| {
        let mut policies = user.managed_policies.clone();
        policies.extend(user.policy_document.as_ref().map(|_| "(its own)".to_owned()));
        if user.arn.ends_with(":root") {
            policies.push("(everything)".to_owned());
        }
        let keys = user.access_keys.iter().map(|key| {
            let used = key.last_used_date.map_or_else(|| "never".to_owned(), epoch);
            format!("{} {} (used {used})", key.access_key_id, key.status)
        });
        vec![
            user.name.clone(),
            dash(Some(policies.join(" "))),
            dash(Some(keys.collect::<Vec<_>>().join(", "))),
            epoch(user.creation_date),
            user.arn.clone(),
        ]
    });
    View::table(&["NAME", "POLICIES", "ACCESS KEYS", "CREATED", "ARN"]).rows(rows)
}
