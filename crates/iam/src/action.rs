//! Which action is decided on what.
//!
//! A policy that names another resource than the one an action is decided on means nothing, and a Deny
//! that means nothing is worse than none. So there is one table: policies are checked against it when
//! they are attached ([`crate::Policy::check`]), the use cases against it whenever they decide, the
//! documentation by a test.

use self::Scope::{Account, Named, Plan, Point, Resource, Role, TestingPlan, Topic, User, Vault};

/// What an action is decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `*`: the account as a whole.
    Account,
    /// The vault.
    Vault,
    /// The recovery point.
    Point,
    /// The backup plan, also for its selections.
    Plan,
    /// The restore testing plan, also for its selections.
    TestingPlan,
    /// The registered or protected resource.
    Resource,
    /// The role.
    Role,
    /// The user, also for its access keys; the root is `arn:aws:iam::ACCOUNT:root`.
    User,
    /// The encryption key.
    Key,
    /// The topic, also for its subscriptions and what was sent to them.
    Topic,
    /// Whatever the ARN of the request names.
    Named,
}

impl Scope {
    /// What its ARNs look like.
    pub fn pattern(self) -> &'static str {
        match self {
            Self::Account => "*",
            Self::Vault => "arn:aws:backup:REGION:ACCOUNT:backup-vault:NAME",
            Self::Point => "arn:aws:backup:REGION:ACCOUNT:recovery-point:ID",
            Self::Plan => "arn:aws:backup:REGION:ACCOUNT:backup-plan:ID",
            Self::TestingPlan => "arn:aws:backup:REGION:ACCOUNT:restore-testing-plan:NAME-ID",
            Self::Resource => "arn:aws:elasticfilesystem:REGION:ACCOUNT:file-system/fs-ID",
            Self::Role => "arn:aws:iam::ACCOUNT:role/NAME",
            Self::User => "arn:aws:iam::ACCOUNT:user/NAME",
            Self::Key => "arn:aws:kms:REGION:ACCOUNT:key/ID",
            Self::Topic => "arn:aws:sns:REGION:ACCOUNT:NAME",
            Self::Named => "the ARN in the request",
        }
    }

    /// Whether something that is decided on may be of this kind. What requests name need not exist.
    pub fn fits(self, resource: &str) -> bool {
        let mut segments = resource.splitn(6, ':');
        let service = segments.nth(2).unwrap_or_default();
        let name = segments.nth(2).unwrap_or_default();
        match self {
            Self::Account => resource == "*",
            Self::Vault => service == "backup" && name.starts_with("backup-vault:"),
            Self::Point => service == "backup" && name.starts_with("recovery-point:"),
            Self::Plan => service == "backup" && name.starts_with("backup-plan:"),
            Self::TestingPlan => service == "backup" && name.starts_with("restore-testing-plan:"),
            Self::Role => service == "iam" && name.starts_with("role/"),
            Self::User => service == "iam" && (name == "root" || name.starts_with("user/")),
            Self::Key => service == "kms" && name.starts_with("key/"),
            Self::Topic => service == "sns",
            Self::Resource | Self::Named => resource != "*",
        }
    }
}

/// Every action of this server and what it is decided on; on each of several.
pub const ACTIONS: &[(&str, &[Scope])] = &[
    ("backup:CreateBackupPlan", &[Plan]),
    ("backup:CreateBackupSelection", &[Plan]),
    ("backup:CreateBackupVault", &[Vault]),
    ("backup:CreateRestoreTestingPlan", &[TestingPlan]),
    ("backup:CreateRestoreTestingSelection", &[TestingPlan]),
    ("backup:DeleteBackupPlan", &[Plan]),
    ("backup:DeleteBackupSelection", &[Plan]),
    ("backup:DeleteBackupVault", &[Vault]),
    ("backup:DeleteBackupVaultNotifications", &[Vault]),
    ("backup:DeleteRecoveryPoint", &[Vault, Point]),
    ("backup:DeleteRestoreTestingPlan", &[TestingPlan]),
    ("backup:DeleteRestoreTestingSelection", &[TestingPlan]),
    ("backup:DescribeBackupJob", &[Account]),
    ("backup:DescribeBackupVault", &[Vault]),
    ("backup:DescribeProtectedResource", &[Resource]),
    ("backup:DescribeRecoveryPoint", &[Vault, Point]),
    ("backup:DescribeRestoreJob", &[Account]),
    ("backup:GetBackupPlan", &[Plan]),
    ("backup:GetBackupSelection", &[Plan]),
    ("backup:GetBackupVaultNotifications", &[Vault]),
    ("backup:GetRecoveryPointRestoreMetadata", &[Vault, Point]),
    ("backup:GetRestoreTestingInferredMetadata", &[Vault, Point]),
    ("backup:GetRestoreTestingPlan", &[TestingPlan]),
    ("backup:GetRestoreTestingSelection", &[TestingPlan]),
    ("backup:ListBackupJobs", &[Account]),
    ("backup:ListBackupPlanVersions", &[Plan]),
    ("backup:ListBackupPlans", &[Account]),
    ("backup:ListBackupSelections", &[Plan]),
    ("backup:ListBackupVaults", &[Account]),
    ("backup:ListProtectedResources", &[Account]),
    ("backup:ListRecoveryPointsByBackupVault", &[Vault]),
    ("backup:ListRecoveryPointsByResource", &[Resource]),
    ("backup:ListRestoreJobs", &[Account]),
    ("backup:ListRestoreJobsByProtectedResource", &[Resource]),
    ("backup:ListRestoreTestingPlans", &[Account]),
    ("backup:ListRestoreTestingSelections", &[TestingPlan]),
    ("backup:ListTags", &[Named]),
    ("backup:PutBackupVaultNotifications", &[Vault]),
    ("backup:PutRestoreValidationResult", &[Account]),
    ("backup:StartBackupJob", &[Vault, Resource]),
    ("backup:StartRestoreJob", &[Vault, Point]),
    ("backup:StopBackupJob", &[Account]),
    ("backup:TagResource", &[Named]),
    ("backup:UntagResource", &[Named]),
    ("backup:UpdateBackupPlan", &[Plan]),
    ("backup:UpdateRestoreTestingPlan", &[TestingPlan]),
    ("backup:UpdateRestoreTestingSelection", &[TestingPlan]),
    ("provault:AcceptRecoveryPoint", &[Vault, Point]),
    ("provault:AddKey", &[Account]),
    ("provault:AddResource", &[Account]),
    ("provault:AddRole", &[Role]),
    ("provault:AddTopic", &[Topic]),
    ("provault:AddUser", &[User]),
    ("provault:CreateAccessKey", &[User]),
    ("provault:DeleteAccessKey", &[User]),
    ("provault:DeletePlanTesting", &[Plan]),
    ("provault:DeleteResourceTesting", &[Resource]),
    ("provault:DeleteSelectionTesting", &[Plan]),
    ("provault:DescribeCareRun", &[Vault]),
    ("provault:DescribeDelivery", &[Topic]),
    ("provault:DescribeHealth", &[Account]),
    ("provault:DescribePlanTesting", &[Plan]),
    ("provault:DescribeRecoveryPoint", &[Vault, Point]),
    ("provault:DescribeRepository", &[Vault]),
    ("provault:DescribeResource", &[Resource]),
    ("provault:DescribeResourceTesting", &[Resource]),
    ("provault:DescribeRestoreTest", &[Resource]),
    ("provault:DescribeSelectionTesting", &[Plan]),
    ("provault:DescribeServer", &[Account]),
    ("provault:DescribeStatus", &[Account]),
    ("provault:DescribeVaultCare", &[Vault]),
    ("provault:DiscoverResources", &[Account]),
    ("provault:EndExemption", &[Resource]),
    ("provault:ExemptResource", &[Resource]),
    ("provault:ExportPassword", &[Vault]),
    ("provault:ExportRecoveryKit", &[Account]),
    ("provault:ForgetDelivery", &[Topic]),
    ("provault:GetJobLog", &[Account]),
    ("provault:ImportVault", &[Vault]),
    ("provault:ListAuditRecords", &[Account]),
    ("provault:ListCareRuns", &[Account]),
    ("provault:ListDeliveries", &[Account]),
    ("provault:ListEvidence", &[Account]),
    ("provault:ListKeys", &[Account]),
    ("provault:ListResources", &[Account]),
    ("provault:ListRestoreTests", &[Account]),
    ("provault:ListRoles", &[Account]),
    ("provault:ListSubscriptions", &[Topic]),
    ("provault:ListTopics", &[Account]),
    ("provault:ListUsers", &[Account]),
    ("provault:PreviewRestore", &[Vault, Point]),
    ("provault:PutPlanTesting", &[Plan]),
    ("provault:PutResourceTesting", &[Resource]),
    ("provault:PutSelectionTesting", &[Plan]),
    ("provault:ReloadSettings", &[Account]),
    ("provault:RemoveKey", &[Scope::Key]),
    ("provault:RemoveResource", &[Resource]),
    ("provault:RemoveRole", &[Role]),
    ("provault:RemoveTopic", &[Topic]),
    ("provault:RemoveUser", &[User]),
    ("provault:RestoreInPlace", &[Resource]),
    ("provault:RestoreInPlaceElsewhere", &[Account]),
    ("provault:SendDeliveryAgain", &[Topic]),
    ("provault:StartCareRun", &[Vault]),
    ("provault:StartRestoreTest", &[Resource]),
    ("provault:StopCareRun", &[Vault]),
    ("provault:StopRestoreJob", &[Account]),
    ("provault:StopRestoreTest", &[Resource]),
    ("provault:Subscribe", &[Topic]),
    ("provault:TagResource", &[Resource]),
    ("provault:TestSubscription", &[Topic]),
    ("provault:Unsubscribe", &[Topic]),
    ("provault:UpdateAccessKey", &[User]),
    ("provault:UpdateResource", &[Resource]),
    ("provault:UpdateRetention", &[Resource]),
    ("provault:UpdateUser", &[User]),
    ("provault:UpdateVaultCare", &[Vault]),
];

/// What an action of this server is decided on.
pub fn scopes(action: &str) -> Option<&'static [Scope]> {
    ACTIONS.iter().find(|(name, _)| *name == action).map(|(_, scopes)| *scopes)
}
