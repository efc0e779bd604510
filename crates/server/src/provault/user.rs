//! Users, access keys, the audit trail.

use jiff::Timestamp;
use provault_app::{AccessKeyView, NewUser, UserChange, UserView};
use provault_wire::provault as wire;

use super::{Answered, Call, invalid};
use crate::answer::Answer;
use crate::convert::epoch;

/// Records of the audit trail in one answer, unless asked otherwise.
const USUAL_RECORDS: u32 = 100;

pub(super) async fn add(call: &Call<'_>) -> Answered {
    let input: wire::AddUserInput = call.input()?;
    let new = NewUser {
        name: input.name,
        managed_policies: input.managed_policies,
        policy_document: input.policy_document,
    };
    Answer::json(&user(Call::done(call.app.add_user(call.caller, new).await)?))
}

pub(super) async fn list(call: &Call<'_>) -> Answered {
    let users = Call::done(call.app.list_users(call.caller).await)?;
    Answer::json(&wire::UserList { users: users.into_iter().map(user).collect() })
}

pub(super) async fn update(call: &Call<'_>, name: &str) -> Answered {
    let input: wire::UpdateUserInput = call.input()?;
    let change = UserChange {
        managed_policies: input.managed_policies,
        policy_document: input.policy_document,
    };
    Answer::json(&user(Call::done(call.app.update_user(call.caller, name, change).await)?))
}

pub(super) async fn remove(call: &Call<'_>, name: &str) -> Answered {
    Call::nothing(call.app.remove_user(call.caller, name).await)
}

pub(super) async fn create_key(call: &Call<'_>, name: &str) -> Answered {
    let key = Call::done(call.app.create_access_key(call.caller, name).await)?;
    Answer::json(&wire::CreatedAccessKey {
        secret_access_key: key.secret.expose_secret().to_owned(),
        principal_arn: key.principal.arn().to_owned(),
        access_key_id: key.access_key_id,
    })
}

pub(super) async fn update_key(call: &Call<'_>, id: &str) -> Answered {
    let input: wire::UpdateAccessKeyInput = call.input()?;
    let active = match input.status.as_str() {
        "Active" => true,
        "Inactive" => false,
        other => {
            return Err(invalid(&format!("Status: '{other}' is neither Active nor Inactive.")));
        }
    };
    let changed = call.app.set_access_key_active(call.caller, id, active).await;
    Answer::json(&access_key(Call::done(changed)?))
}

pub(super) async fn delete_key(call: &Call<'_>, id: &str) -> Answered {
    Call::nothing(call.app.delete_access_key(call.caller, id).await)
}

pub(super) async fn audit(call: &Call<'_>) -> Answered {
    let limit = match call.query.get("limit") {
        None => USUAL_RECORDS,
        Some(text) => text
            .parse()
            .map_err(|_| invalid(&format!("limit: {text:?} is not a number from 1 to 10000.")))?,
    };
    let since = match call.query.get("since") {
        None => None,
        Some(text) => Some(text.parse::<Timestamp>().map_err(|_| {
            invalid(&format!("since: {text:?} is no time; write it like 2026-11-26T22:00:00Z."))
        })?),
    };
    let records = Call::done(call.app.list_audit_records(call.caller, since, limit).await)?;
    let record = |record: provault_app::AuditRecord| wire::AuditRecord {
        time: epoch(record.at),
        principal_arn: record.principal,
        access_key_id: record.access_key_id,
        action: record.action,
        resource: record.resource,
        outcome: record.outcome,
        count: record.last_at.map(|_| record.count),
        last_time: record.last_at.map(epoch),
    };
    let audit_records = records.into_iter().map(record).collect();
    Answer::json(&wire::AuditRecordList { audit_records })
}

fn user(view: UserView) -> wire::User {
    wire::User {
        arn: view.user.arn.to_string(),
        name: view.user.name,
        managed_policies: view.user.managed_policies,
        policy_document: view.user.policy_document,
        access_keys: view.keys.into_iter().map(access_key).collect(),
        creation_date: epoch(view.user.created_at),
    }
}

fn access_key(key: AccessKeyView) -> wire::AccessKey {
    wire::AccessKey {
        access_key_id: key.access_key_id,
        status: if key.active { "Active" } else { "Inactive" }.to_owned(),
        creation_date: epoch(key.created_at),
        last_used_date: key.last_used_at.map(epoch),
    }
}
