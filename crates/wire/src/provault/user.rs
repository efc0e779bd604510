//! Users, access keys, the audit trail.

use serde::{Deserialize, Serialize};

use super::EpochSeconds;

message! {
    /// Makes a user.
    AddUserInput {
        /// 1 to 64 letters, digits, `.`, `-` or `_`.
        name: String,
        /// Names of managed policies: `Administrator`, `Operator`, `Auditor`, `RestoreOnly`.
        #[serde(default)]
        managed_policies: Vec<String>,
        /// A policy of its own: a JSON document in IAM's language, as text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy_document: Option<String>,
    }
}

message! {
    /// Changes what a user may do; what is absent stays.
    UpdateUserInput {
        /// The managed policies from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        managed_policies: Option<Vec<String>>,
        /// The policy of its own from now on; an empty text takes it away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy_document: Option<String>,
    }
}

message! {
    /// Somebody who may sign.
    User {
        /// Its ARN.
        arn: String,
        /// Its name; `root` for the account itself.
        name: String,
        /// Names of the managed policies attached to it.
        managed_policies: Vec<String>,
        /// The policy of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy_document: Option<String>,
        /// Its access keys, oldest first.
        access_keys: Vec<AccessKey>,
        /// When it was made.
        creation_date: EpochSeconds,
    }
}

message! {
    /// All users.
    UserList {
        /// The root first, then in the order of creation.
        users: Vec<User>,
    }
}

message! {
    /// An access key, without its secret.
    AccessKey {
        /// `AKIA…`.
        access_key_id: String,
        /// `Active` or `Inactive`.
        status: String,
        /// When it was made.
        creation_date: EpochSeconds,
        /// When a request was signed with it, to the hour; absent when none ever was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_used_date: Option<EpochSeconds>,
    }
}

message! {
    /// A new access key. Its secret is never told again.
    CreatedAccessKey {
        /// `AKIA…`.
        access_key_id: String,
        /// What requests are signed with.
        secret_access_key: String,
        /// Whose it is: an ARN.
        principal_arn: String,
    }
}

message! {
    /// Lets a key be used, or not.
    UpdateAccessKeyInput {
        /// `Active` or `Inactive`.
        status: String,
    }
}

message! {
    /// Something that was changed, or that somebody was not allowed to change.
    AuditRecord {
        /// When.
        time: EpochSeconds,
        /// Who: an ARN, or `provault` for what the server does by itself.
        principal_arn: String,
        /// The access key that signed, if any did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        access_key_id: Option<String>,
        /// What, such as `backup:DeleteRecoveryPoint`.
        action: String,
        /// On what.
        resource: String,
        /// `done`, `exported`, the name of the refusal or failure, or `began` where the server ended before
        /// it knew.
        outcome: String,
        /// How often, when it is a refusal that repeated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
        /// The last time, when it repeated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_time: Option<EpochSeconds>,
    }
}

message! {
    /// The audit trail.
    AuditRecordList {
        /// The newest first.
        audit_records: Vec<AuditRecord>,
    }
}
