//! What opens the vault of a recovery point without the server.

use provault_wire::provault::{ExportedPassword, Repository};
use provault_wire::types::DescribeRecoveryPointInput;

use super::Context;
use crate::client::{Answer, segment};
use crate::error::CliError;
use crate::resolve;

/// The ARN's part before the id of the backup job that made the point.
const BEFORE_ID: &str = ":recovery-point:";

/// Where a recovery point is stored, and what opens that. Has no `Debug`: the password is in it.
pub struct VaultAccess {
    /// Name of the vault.
    pub vault: String,
    /// The repository: a path on the server's machine, or `s3://BUCKET/PREFIX`.
    pub location: String,
    /// Opens the repository.
    pub password: String,
    /// UUID of the job that made the recovery point; its snapshot bears it.
    pub backup_job_id: String,
}

/// Asks the server for access to the vault of a recovery point, which has to be of this AWS resource type.
/// Without `vault` it is looked for in all. The server keeps a record of the password's export.
pub(crate) fn ask(
    context: &Context<'_>,
    arn: &str,
    vault: Option<&str>,
    resource_type: &str,
) -> Result<VaultAccess, CliError> {
    let client = context.client;
    let vault = resolve::vault_of_point(client, arn, vault)?;
    let input = DescribeRecoveryPointInput {
        backup_vault_name: Some(vault.clone()),
        recovery_point_arn: Some(arn.to_owned()),
        ..DescribeRecoveryPointInput::default()
    };
    let point = client.ask(&input)?.typed;
    let found = point.resource_type.unwrap_or_default();
    if found != resource_type {
        return Err(CliError::usage(format!(
            "the recovery point is of type {found}, and only one of type {resource_type} will do"
        )));
    }
    let backup_job_id = arn.split_once(BEFORE_ID).map(|(_, id)| id.to_owned());
    let backup_job_id = backup_job_id
        .ok_or_else(|| CliError::usage(format!("'{arn}' is no ARN of a recovery point")))?;
    let path = format!("/vaults/{}", segment(&vault));
    let repository: Answer<Repository> =
        client.own("GET", &format!("{path}/repository"), &[], None)?;
    let exported: Answer<ExportedPassword> =
        client.own("POST", &format!("{path}/export-password"), &[], None)?;
    Ok(VaultAccess {
        vault,
        location: repository.typed.location,
        password: exported.typed.password,
        backup_job_id,
    })
}
