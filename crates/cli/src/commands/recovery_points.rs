//! `recovery-points`: what can be restored.

use provault_wire::provault::PointRetention;
use provault_wire::types::{
    DeleteRecoveryPointInput, DescribeRecoveryPointInput, DescribeRecoveryPointOutput,
    GetRecoveryPointRestoreMetadataInput, ListBackupVaultsInput,
    ListRecoveryPointsByBackupVaultInput, ListRecoveryPointsByBackupVaultOutput,
    ListRecoveryPointsByResourceInput,
};
use serde_json::{Value, json};

use super::plan_rule::kept;
use super::{Context, gone};
use crate::client::{Answer, segment};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, epoch, size, time};
use crate::resolve;

#[derive(Debug, clap::Subcommand)]
pub enum RecoveryPointsCommand {
    /// List recovery points: of all vaults, of one, or of a resource
    List {
        /// Only those of this vault
        #[arg(long, conflicts_with = "resource")]
        vault: Option<String>,
        /// Only those of this resource, by name or ARN
        #[arg(long)]
        resource: Option<String>,
    },
    /// Show a recovery point
    Show(PointArgs),
    /// Say that a recovery point which is marked as shrunk is right so
    ///
    /// It counts as good from then on, and later ones are compared with it.
    Accept {
        /// The recovery point's ARN
        arn: String,
    },
    /// Delete a recovery point; what was stored for it alone stays until the vault is pruned
    Delete(PointArgs),
    /// Show the metadata that a restore of it takes
    Metadata(PointArgs),
}

#[derive(Debug, clap::Args)]
pub struct PointArgs {
    /// The recovery point's ARN
    arn: String,
    /// Its vault [default: looked for in all]
    #[arg(long)]
    vault: Option<String>,
}

const HEADERS: [&str; 7] = ["CREATED", "STATUS", "SIZE", "RESOURCE", "VAULT", "ARN", "MESSAGE"];

impl RecoveryPointsCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        match self {
            Self::List { resource: Some(resource), .. } => by_resource(context, &resource),
            Self::List { vault, resource: None } => by_vault(context, vault),
            Self::Show(point) => {
                let (arn, vault) = point.found(context)?;
                let path = format!("/recovery-points/{}", segment(&arn));
                let retention: Answer<PointRetention> = client.own("GET", &path, &[], None)?;
                let input = DescribeRecoveryPointInput {
                    backup_vault_name: Some(vault),
                    recovery_point_arn: Some(arn),
                    ..DescribeRecoveryPointInput::default()
                };
                let found = client.ask(&input)?;
                let mut json = found.json;
                json["Retention"] = retention.json;
                context.out.show(&json, || {
                    let good = yes_or_no(retention.typed.good);
                    let view = fields(found.typed).field("Good", good);
                    [view].into_iter().chain(shrunk(&retention.typed)).collect()
                })?;
                Ok(Exit::Done)
            }
            Self::Accept { arn } => {
                let path = format!("/recovery-points/{}/accept", segment(&arn));
                let accepted: Answer<PointRetention> = client.own("POST", &path, &[], None)?;
                context.out.show(&accepted.json, || {
                    let point = &accepted.typed;
                    let view = View::fields()
                        .field("ARN", point.recovery_point_arn.clone())
                        .field("Status", point.status.clone())
                        .field("Good", yes_or_no(point.good));
                    [view].into_iter().chain(shrunk(point)).collect()
                })?;
                Ok(Exit::Done)
            }
            Self::Delete(point) => {
                let (arn, vault) = point.found(context)?;
                let line = format!("deleted recovery point {arn} from vault {vault}");
                client.ask(&DeleteRecoveryPointInput {
                    backup_vault_name: Some(vault),
                    recovery_point_arn: Some(arn),
                })?;
                gone(context, &line)
            }
            Self::Metadata(point) => {
                let (arn, vault) = point.found(context)?;
                let input = GetRecoveryPointRestoreMetadataInput {
                    backup_vault_name: Some(vault),
                    recovery_point_arn: Some(arn),
                    ..GetRecoveryPointRestoreMetadataInput::default()
                };
                let found = client.ask(&input)?;
                context.out.show(&found.json, || {
                    let metadata = found.typed.restore_metadata.unwrap_or_default();
                    let rows = metadata.into_iter().map(|(key, value)| vec![key, value]);
                    vec![View::table(&["KEY", "VALUE"]).rows(rows)]
                })?;
                Ok(Exit::Done)
            }
        }
    }
}

impl PointArgs {
    /// ARN and vault.
    fn found(self, context: &Context<'_>) -> Result<(String, String), CliError> {
        let vault = resolve::vault_of_point(context.client, &self.arn, self.vault.as_deref())?;
        Ok((self.arn, vault))
    }
}

fn by_resource(context: &Context<'_>, resource: &str) -> Result<Exit, CliError> {
    let input = ListRecoveryPointsByResourceInput {
        resource_arn: Some(resolve::resource_arn(context.client, resource)?),
        ..ListRecoveryPointsByResourceInput::default()
    };
    let list = context.client.ask_all(&input)?;
    context.out.show(&list.json, || {
        let points = list.typed.recovery_points.unwrap_or_default();
        let rows = points.into_iter().map(|p| {
            vec![
                dash(p.creation_date.map(time)),
                dash(p.status.map(|s| s.to_string())),
                dash(p.backup_size_bytes.map(size)),
                p.resource_name.unwrap_or_else(|| resource.to_owned()),
                dash(p.backup_vault_name),
                dash(p.recovery_point_arn),
                dash(p.status_message),
            ]
        });
        vec![View::table(&HEADERS).rows(rows)]
    })?;
    Ok(Exit::Done)
}

fn by_vault(context: &Context<'_>, vault: Option<String>) -> Result<Exit, CliError> {
    let client = context.client;
    let vaults = match vault {
        Some(vault) => vec![vault],
        None => client
            .ask_all(&ListBackupVaultsInput::default())?
            .typed
            .backup_vault_list
            .unwrap_or_default()
            .into_iter()
            .filter_map(|vault| vault.backup_vault_name)
            .collect(),
    };
    let mut all: Vec<Value> = Vec::new();
    let mut view = View::table(&HEADERS);
    for vault in vaults {
        let input = ListRecoveryPointsByBackupVaultInput {
            backup_vault_name: Some(vault),
            ..ListRecoveryPointsByBackupVaultInput::default()
        };
        let list: Answer<ListRecoveryPointsByBackupVaultOutput> = client.ask_all(&input)?;
        all.extend(list.json["RecoveryPoints"].as_array().into_iter().flatten().cloned());
        for p in list.typed.recovery_points.unwrap_or_default() {
            view.row([
                dash(p.creation_date.map(time)),
                dash(p.status.map(|s| s.to_string())),
                dash(p.backup_size_in_bytes.map(size)),
                dash(p.resource_name.or(p.resource_arn)),
                dash(p.backup_vault_name),
                dash(p.recovery_point_arn),
                dash(p.status_message),
            ]);
        }
    }
    context.out.show(&json!({ "RecoveryPoints": all }), || vec![view])?;
    Ok(Exit::Done)
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// What a shrunk point holds, beside what the one before it held.
fn shrunk(point: &PointRetention) -> Option<View> {
    let shrunk = point.shrunk.as_ref()?;
    let accepted = shrunk.acceptance_date.map(|at| format!("accepted {}", epoch(at)));
    let mut view = View::table(&["SHRUNK", "FILES", "BYTES", "ARN"]);
    view.row([
        accepted.unwrap_or_else(|| format!("below {} %", shrunk.percent)),
        shrunk.files.to_string(),
        shrunk.bytes.to_string(),
        point.recovery_point_arn.clone(),
    ]);
    view.row([
        "before".to_owned(),
        shrunk.files_before.to_string(),
        shrunk.bytes_before.to_string(),
        shrunk.before_recovery_point_arn.clone(),
    ]);
    Some(view)
}

fn fields(p: DescribeRecoveryPointOutput) -> View {
    let delete_at = p.calculated_lifecycle.as_ref().and_then(|c| c.delete_at);
    View::fields()
        .field("ARN", p.recovery_point_arn)
        .field("Vault", p.backup_vault_name)
        .field("Resource", p.resource_name)
        .field("Resource ARN", p.resource_arn)
        .field("Resource type", p.resource_type)
        .field("Status", p.status.map(|s| s.to_string()))
        .field("Message", p.status_message)
        .field("Size", p.backup_size_in_bytes.map(size))
        .field("Created", p.creation_date.map(time))
        .field("Completed", p.completion_date.map(time))
        .field("Kept", kept(p.lifecycle.as_ref()))
        .field("Deleted at", delete_at.map(time))
        .field("Last restored", p.last_restore_time.map(time))
        .field("Role", p.iam_role_arn)
        .field("Key", p.encryption_key_arn)
}
