//! `vault`: where recovery points are kept.

use provault_wire::provault::{ExportedPassword, Repository};
use provault_wire::types::{
    CreateBackupVaultInput, DeleteBackupVaultInput, DeleteBackupVaultNotificationsInput,
    DescribeBackupVaultInput, DescribeBackupVaultOutput, GetBackupVaultNotificationsInput,
    ListBackupVaultsInput, PutBackupVaultNotificationsInput,
};

use super::{Context, gone, vault_care};
use crate::client::{Answer, segment};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, time};
use crate::resolve;
use crate::words::{Pair, to_map};

#[derive(Debug, clap::Subcommand)]
pub enum VaultCommand {
    /// Create a vault
    Create {
        /// 2 to 50 letters, digits, - and _
        name: String,
        /// The key that seals its password, by name or ARN [default: the account's default key]
        #[arg(long)]
        key: Option<String>,
        /// Tag KEY=VALUE of the vault; may be repeated
        #[arg(long, value_name = "KEY=VALUE")]
        tag: Vec<Pair>,
    },
    /// List all vaults
    List,
    /// Show a vault, and how to open it with other tools
    Show {
        /// The vault's name
        name: String,
    },
    /// Delete a vault; it must hold no recovery point
    Delete {
        /// The vault's name
        name: String,
    },
    /// Print the password that opens the vault's repository with restic, and nothing else
    ///
    /// Whoever has it can read everything in the vault. The server keeps a record of the export.
    ExportPassword {
        /// The vault's name
        name: String,
    },
    /// Which events of the vault go to which topic
    #[command(subcommand)]
    Notifications(NotificationsCommand),
    #[command(flatten)]
    Care(vault_care::VaultCareCommand),
}

#[derive(Debug, clap::Subcommand)]
pub enum NotificationsCommand {
    /// Send events to a topic; replaces what was set before
    Set {
        /// The vault's name
        vault: String,
        /// The topic, by name or ARN
        #[arg(long)]
        topic: String,
        /// Event such as BACKUP_JOB_COMPLETED or RESTORE_JOB_COMPLETED; may be repeated
        #[arg(long = "event", value_name = "EVENT", required = true)]
        events: Vec<String>,
    },
    /// Show what is set
    Show {
        /// The vault's name
        vault: String,
    },
    /// Send nothing any more
    Remove {
        /// The vault's name
        vault: String,
    },
}

impl VaultCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        match self {
            Self::Create { name, key, tag } => {
                let tags = to_map("--tag", &tag)?;
                let input = CreateBackupVaultInput {
                    backup_vault_name: Some(name),
                    encryption_key_arn: key.map(|k| resolve::key_arn(client, &k)).transpose()?,
                    backup_vault_tags: (!tags.is_empty()).then_some(tags),
                    creator_request_id: Some(uuid::Uuid::new_v4().to_string()),
                };
                let made = client.ask(&input)?;
                let arn = made.typed.backup_vault_arn.unwrap_or_default();
                context.out.show_line(&made.json, &arn)?;
                Ok(Exit::Done)
            }
            Self::List => list(context),
            Self::Show { name } => show(context, name),
            Self::Delete { name } => {
                let backup_vault_name = Some(name.clone());
                client.ask(&DeleteBackupVaultInput { backup_vault_name })?;
                gone(context, &format!("deleted vault {name}"))
            }
            Self::ExportPassword { name } => {
                let path = format!("/vaults/{}/export-password", segment(&name));
                let out: Answer<ExportedPassword> = client.own("POST", &path, &[], None)?;
                context.out.show_line(&out.json, &out.typed.password)?;
                Ok(Exit::Done)
            }
            Self::Notifications(command) => command.run(context),
            Self::Care(command) => command.run(context),
        }
    }
}

fn list(context: &Context<'_>) -> Result<Exit, CliError> {
    let list = context.client.ask_all(&ListBackupVaultsInput::default())?;
    context.out.show(&list.json, || {
        let vaults = list.typed.backup_vault_list.unwrap_or_default();
        let rows = vaults.into_iter().map(|v| {
            vec![
                dash(v.backup_vault_name),
                dash(v.number_of_recovery_points.map(|n| n.to_string())),
                dash(v.creation_date.map(time)),
                dash(v.backup_vault_arn),
            ]
        });
        vec![View::table(&["NAME", "RECOVERY POINTS", "CREATED", "ARN"]).rows(rows)]
    })?;
    Ok(Exit::Done)
}

fn show(context: &Context<'_>, name: String) -> Result<Exit, CliError> {
    let path = format!("/vaults/{}/repository", segment(&name));
    let input = DescribeBackupVaultInput {
        backup_vault_name: Some(name),
        ..DescribeBackupVaultInput::default()
    };
    let mut vault = context.client.ask(&input)?;
    let repository: Answer<Repository> = context.client.own("GET", &path, &[], None)?;
    vault.json["repository"] = repository.json;
    let care =
        vault_care::get(context, &vault.typed.backup_vault_name.clone().unwrap_or_default())?;
    vault.json["care"] = care.json;
    context.out.show(&vault.json, || {
        let mut views = vec![fields(vault.typed), opened_by(&repository.typed)];
        views.extend(vault_care::views(&care.typed));
        views
    })?;
    Ok(Exit::Done)
}

fn fields(v: DescribeBackupVaultOutput) -> View {
    View::fields()
        .field("Name", v.backup_vault_name)
        .field("ARN", v.backup_vault_arn)
        .field("Key", v.encryption_key_arn)
        .field("Recovery points", v.number_of_recovery_points.map(|n| n.to_string()))
        .field("State", v.vault_state.map(|s| s.to_string()))
        .field("Locked", v.locked.map(|l| l.to_string()))
        .field("Created", v.creation_date.map(time))
}

fn opened_by(r: &Repository) -> View {
    View::fields()
        .titled("Repository")
        .field("Format", format!("{} version {}", r.format, r.version))
        .field("Location", r.location.clone())
        .field("Id", r.repository_id.clone())
}

impl NotificationsCommand {
    fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        match self {
            Self::Set { vault, topic, events } => {
                let topic = resolve::topic_arn(client, &topic)?;
                let input = PutBackupVaultNotificationsInput {
                    backup_vault_name: Some(vault.clone()),
                    backup_vault_events: Some(
                        events.iter().map(|event| event.as_str().into()).collect(),
                    ),
                    sns_topic_arn: Some(topic.clone()),
                };
                let set = client.ask(&input)?;
                let line = format!("{} of vault {vault} go to {topic}", events.join(", "));
                let json = super::resource::body(&set.typed)?;
                context.out.show_line(&json, &line)?;
            }
            Self::Show { vault } => {
                let input = GetBackupVaultNotificationsInput { backup_vault_name: Some(vault) };
                let found = client.ask(&input)?;
                context.out.show(&found.json, || {
                    let events = found.typed.backup_vault_events.unwrap_or_default();
                    let events: Vec<String> = events.iter().map(ToString::to_string).collect();
                    let view = View::fields()
                        .field("Vault", found.typed.backup_vault_name)
                        .field("Topic", found.typed.sns_topic_arn)
                        .field("Events", events.join(" "));
                    vec![view]
                })?;
            }
            Self::Remove { vault } => {
                let backup_vault_name = Some(vault.clone());
                client.ask(&DeleteBackupVaultNotificationsInput { backup_vault_name })?;
                return gone(context, &format!("vault {vault} sends no notifications any more"));
            }
        }
        Ok(Exit::Done)
    }
}
