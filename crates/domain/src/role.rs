//! Roles: what an `IamRoleArn` names.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AccountId, Arn};

/// Name, with its path, of the role that exists in every account.
pub const DEFAULT_ROLE: &str = "service-role/AWSBackupDefaultServiceRole";

/// Under which identity drivers work for a job. Today every role works with the rights of the
/// server's own process; the drivers that reach other systems add credentials of theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// `arn:aws:iam::ACCOUNT:role/NAME`.
    pub arn: Arn,
    /// Tenant.
    pub account: AccountId,
    /// Name with its path, as behind `role/` in the ARN.
    pub name: String,
    /// When it was added.
    pub created_at: Timestamp,
}
