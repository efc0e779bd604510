//! The policies that are there from the start.

use crate::Policy;

/// A policy that is part of the program. What each allows stands in its [`ManagedPolicy::document`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagedPolicy {
    /// Everything in the account.
    Administrator,
    /// Runs the backups: plans, selections, jobs, restores, tests, care. Deletes no backup and
    /// changes no retention, reads no password, and decides over no user, role or key.
    Operator,
    /// Sees everything but secrets, and changes nothing.
    Auditor,
    /// Finds recovery points, restores and tests them, and nothing else.
    RestoreOnly,
}

impl ManagedPolicy {
    /// Every one.
    pub const ALL: [Self; 4] =
        [Self::Administrator, Self::Operator, Self::Auditor, Self::RestoreOnly];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Administrator => "Administrator",
            Self::Operator => "Operator",
            Self::Auditor => "Auditor",
            Self::RestoreOnly => "RestoreOnly",
        }
    }

    /// The policy of this name, however it is capitalised.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name().eq_ignore_ascii_case(name))
    }

    /// What it allows, in IAM's language. An action that a later version adds is denied to all but the
    /// administrator until a document names it.
    pub fn document(self) -> &'static str {
        match self {
            Self::Administrator => {
                r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#
            }
            Self::Operator => OPERATOR,
            Self::Auditor => AUDITOR,
            Self::RestoreOnly => RESTORE_ONLY,
        }
    }

    /// The document, parsed.
    pub fn policy(self) -> Policy {
        // The documents are constants, and a test parses each of them.
        #[allow(clippy::expect_used, reason = "constants that a test parses")]
        Policy::parse(self.document()).expect("a managed policy is a policy")
    }
}

/// Reading is `Describe…`, `List…` and `Get…`, of AWS's operations and ours. What reveals a secret is
/// called `Export…` and changes something, `Start…` and the like.
const AUDITOR: &str = r#"{"Statement":{"Effect":"Allow","Resource":"*","Action":[
    "backup:Describe*","backup:List*","backup:Get*",
    "provault:Describe*","provault:List*","provault:Get*"
]}}"#;

/// Not `UpdateRetention`: to keep one recovery point at most deletes all others. Not
/// `AcceptRecoveryPoint`: a shrunk point that counts as good lets the one before it expire. Not
/// `RestoreInPlaceElsewhere`: it overwrites and deletes wherever the server's user may.
const OPERATOR: &str = r#"{"Statement":{"Effect":"Allow","Resource":"*","Action":[
    "backup:Describe*","backup:List*","backup:Get*",
    "backup:StartBackupJob","backup:StopBackupJob","backup:StartRestoreJob",
    "backup:CreateBackupVault","backup:CreateBackupPlan","backup:UpdateBackupPlan",
    "backup:CreateBackupSelection","backup:DeleteBackupSelection","backup:DeleteBackupPlan",
    "backup:PutBackupVaultNotifications","backup:DeleteBackupVaultNotifications",
    "backup:CreateRestoreTestingPlan","backup:UpdateRestoreTestingPlan",
    "backup:DeleteRestoreTestingPlan","backup:CreateRestoreTestingSelection",
    "backup:UpdateRestoreTestingSelection","backup:DeleteRestoreTestingSelection",
    "backup:PutRestoreValidationResult",
    "backup:TagResource","backup:UntagResource",
    "provault:Describe*","provault:List*","provault:Get*",
    "provault:DiscoverResources","provault:AddResource","provault:UpdateResource",
    "provault:TagResource","provault:RemoveResource",
    "provault:ExemptResource","provault:EndExemption",
    "provault:PutResourceTesting","provault:DeleteResourceTesting",
    "provault:PutPlanTesting","provault:DeletePlanTesting",
    "provault:PutSelectionTesting","provault:DeleteSelectionTesting",
    "provault:AddTopic","provault:RemoveTopic","provault:Subscribe","provault:Unsubscribe",
    "provault:TestSubscription","provault:SendDeliveryAgain",
    "provault:StartRestoreTest","provault:StopRestoreTest","provault:StopRestoreJob",
    "provault:PreviewRestore","provault:RestoreInPlace",
    "provault:StartCareRun","provault:StopCareRun","provault:UpdateVaultCare"
]}}"#;

/// Nothing that stops: jobs do not know who began them, and it would be other people's. Nothing that
/// writes over what is there.
const RESTORE_ONLY: &str = r#"{"Statement":{"Effect":"Allow","Resource":"*","Action":[
    "backup:ListBackupVaults","backup:DescribeBackupVault",
    "backup:ListRecoveryPointsByBackupVault","backup:ListRecoveryPointsByResource",
    "backup:DescribeRecoveryPoint","backup:GetRecoveryPointRestoreMetadata",
    "backup:ListProtectedResources","backup:DescribeProtectedResource",
    "backup:StartRestoreJob","backup:DescribeRestoreJob","backup:ListRestoreJobs",
    "provault:ListResources","provault:DescribeResource","provault:ListRoles",
    "provault:PreviewRestore",
    "provault:GetJobLog","provault:StartRestoreTest","provault:ListRestoreTests",
    "provault:DescribeRestoreTest","provault:ListEvidence"
]}}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decision;

    fn allows(policy: ManagedPolicy, action: &str) -> bool {
        Policy::evaluate([&policy.policy()], action, "*") == Decision::Allowed
    }

    #[test]
    fn every_document_is_a_policy_and_every_name_finds_it() {
        for policy in ManagedPolicy::ALL {
            let _ = policy.policy();
            assert_eq!(ManagedPolicy::named(policy.name()), Some(policy));
            assert_eq!(ManagedPolicy::named(&policy.name().to_lowercase()), Some(policy));
        }
        assert_eq!(ManagedPolicy::named("Everybody"), None);
    }

    #[test]
    fn each_may_do_its_work_and_no_more() {
        use ManagedPolicy::{Administrator, Auditor, Operator, RestoreOnly};
        for (action, who) in [
            ("backup:ListBackupVaults", vec![Administrator, Operator, Auditor, RestoreOnly]),
            ("backup:ListBackupJobs", vec![Administrator, Operator, Auditor]),
            ("provault:ListAuditRecords", vec![Administrator, Operator, Auditor]),
            ("provault:ListEvidence", vec![Administrator, Operator, Auditor, RestoreOnly]),
            ("backup:StartBackupJob", vec![Administrator, Operator]),
            ("backup:StartRestoreJob", vec![Administrator, Operator, RestoreOnly]),
            ("provault:StartRestoreTest", vec![Administrator, Operator, RestoreOnly]),
            ("provault:RestoreInPlace", vec![Administrator, Operator]),
            ("provault:RestoreInPlaceElsewhere", vec![Administrator]),
            ("provault:StopRestoreTest", vec![Administrator, Operator]),
            ("provault:StopRestoreJob", vec![Administrator, Operator]),
            ("backup:StopBackupJob", vec![Administrator, Operator]),
            ("provault:PutPlanTesting", vec![Administrator, Operator]),
            ("provault:DescribePlanTesting", vec![Administrator, Operator, Auditor]),
            ("backup:DeleteRecoveryPoint", vec![Administrator]),
            ("backup:UpdateRecoveryPointLifecycle", vec![Administrator]),
            ("provault:UpdateResource", vec![Administrator, Operator]),
            ("provault:UpdateRetention", vec![Administrator]),
            ("provault:AcceptRecoveryPoint", vec![Administrator]),
            ("backup:DeleteBackupVault", vec![Administrator]),
            ("provault:ExportPassword", vec![Administrator]),
            ("provault:ExportRecoveryKit", vec![Administrator]),
            ("provault:ImportVault", vec![Administrator]),
            ("provault:AddUser", vec![Administrator]),
            ("provault:CreateAccessKey", vec![Administrator]),
            ("provault:RemoveKey", vec![Administrator]),
            ("provault:AddRole", vec![Administrator]),
        ] {
            for policy in ManagedPolicy::ALL {
                assert_eq!(allows(policy, action), who.contains(&policy), "{policy:?} {action}");
            }
        }
    }
}
