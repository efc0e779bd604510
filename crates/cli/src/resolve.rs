//! From names to ARNs and ids, by the lists of the API.

use provault_wire::provault::{Named, NamedList, Resource};
use provault_wire::types::{
    BackupPlansListMember, BackupSelectionsListMember, DescribeRecoveryPointInput,
    ListBackupPlansInput, ListBackupSelectionsInput, ListBackupVaultsInput,
    ListRecoveryPointsByResourceInput, RecoveryPointByResource,
};

use crate::client::{Answer, Client, segment};
use crate::error::CliError;

/// The name of the role that every account has, as behind `role/` in its ARN.
const DEFAULT_ROLE: &str = "service-role/AWSBackupDefaultServiceRole";

/// Finds the one `candidate` that `wanted` names.
fn the_one<T>(
    kind: &str,
    wanted: &str,
    candidates: Vec<T>,
    names: impl Fn(&T) -> [Option<&str>; 3],
) -> Result<T, CliError> {
    // ARN and id name one thing by themselves; a name may stand for several.
    let known: Vec<String> =
        candidates.iter().filter_map(|c| names(c)[0].map(str::to_owned)).collect();
    let mut exact = Vec::new();
    let mut by_name = Vec::new();
    for candidate in candidates {
        let [name, id, arn] = names(&candidate);
        if id == Some(wanted) || arn == Some(wanted) {
            exact.push(candidate);
        } else if name == Some(wanted) {
            by_name.push(candidate);
        }
    }
    let mut found = if exact.is_empty() { by_name } else { exact };
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            found.push(last);
            let ids: Vec<&str> = found.iter().filter_map(|c| names(c)[1].or(names(c)[2])).collect();
            Err(CliError::Name(format!(
                "'{wanted}' names {} {kind}s; use the id of one: {}",
                found.len(),
                ids.join(", ")
            )))
        }
        (None, _) => Err(CliError::Name(format!(
            "there is no {kind} '{wanted}'; {}",
            if known.is_empty() {
                "there is none at all".to_owned()
            } else {
                let more = if known.len() > 20 { ", …" } else { "" };
                let shown: Vec<&str> = known.iter().take(20).map(String::as_str).collect();
                format!("there are: {}{more}", shown.join(", "))
            }
        ))),
    }
}

/// A resource by name or ARN.
pub(crate) fn resource(client: &Client, wanted: &str) -> Result<Answer<Resource>, CliError> {
    client.own("GET", &format!("/resources/{}", segment(wanted)), &[], None)
}

/// The ARN of a resource; an ARN is taken as it is, since a resource that was removed still has
/// jobs and recovery points.
pub(crate) fn resource_arn(client: &Client, wanted: &str) -> Result<String, CliError> {
    if wanted.starts_with("arn:") {
        return Ok(wanted.to_owned());
    }
    Ok(resource(client, wanted)?.typed.resource_arn)
}

/// A role, key or topic by name or ARN. `noun` is the path's: `roles`, `keys`, `topics`.
fn named(client: &Client, noun: &str, kind: &str, wanted: &str) -> Result<Named, CliError> {
    let list: Answer<NamedList> = client.own("GET", &format!("/{noun}"), &[], None)?;
    the_one(kind, wanted, list.typed.items, |n| [Some(&n.name), None, Some(&n.arn)])
}

/// The ARN of a role; `DEFAULT` is the one that every account has.
pub(crate) fn role_arn(client: &Client, wanted: &str) -> Result<String, CliError> {
    let wanted = if wanted.eq_ignore_ascii_case("default") { DEFAULT_ROLE } else { wanted };
    named(client, "roles", "role", wanted).map(|role| role.arn)
}

/// The ARN of a key.
pub(crate) fn key_arn(client: &Client, wanted: &str) -> Result<String, CliError> {
    named(client, "keys", "key", wanted).map(|key| key.arn)
}

/// The ARN of a topic.
pub(crate) fn topic_arn(client: &Client, wanted: &str) -> Result<String, CliError> {
    named(client, "topics", "topic", wanted).map(|topic| topic.arn)
}

/// The id of a plan by name, id or ARN. An id that is not listed is taken as it is, since a deleted
/// plan's versions stay readable.
pub(crate) fn plan_id(client: &Client, wanted: &str) -> Result<String, CliError> {
    let list = client.ask_all(&ListBackupPlansInput::default())?.typed.backup_plans_list;
    let names = |plan: &BackupPlansListMember| -> [Option<String>; 3] {
        [plan.backup_plan_name.clone(), plan.backup_plan_id.clone(), plan.backup_plan_arn.clone()]
    };
    let plans: Vec<[Option<String>; 3]> = list.unwrap_or_default().iter().map(names).collect();
    match the_one("plan", wanted, plans, |[name, id, arn]| {
        [name.as_deref(), id.as_deref(), arn.as_deref()]
    }) {
        Ok([_, id, _]) => Ok(id.unwrap_or_default()),
        Err(_) if uuid::Uuid::parse_str(wanted).is_ok() => Ok(wanted.to_owned()),
        Err(error) => Err(error),
    }
}

/// The ARN of a vault by its name; an ARN, with wildcards or not, and `*` are taken as they are.
pub(crate) fn vault_pattern(client: &Client, wanted: &str) -> Result<String, CliError> {
    if wanted == "*" || wanted.starts_with("arn:") {
        return Ok(wanted.to_owned());
    }
    let list = client.ask_all(&ListBackupVaultsInput::default())?.typed.backup_vault_list;
    let vaults: Vec<[Option<String>; 2]> = list
        .unwrap_or_default()
        .into_iter()
        .map(|vault| [vault.backup_vault_name, vault.backup_vault_arn])
        .collect();
    let [_, arn] =
        the_one("vault", wanted, vaults, |[name, arn]| [name.as_deref(), None, arn.as_deref()])?;
    Ok(arn.unwrap_or_default())
}

/// A selection of a plan by name or id.
pub(crate) fn selection_id(
    client: &Client,
    plan_id: &str,
    wanted: &str,
) -> Result<String, CliError> {
    let input = ListBackupSelectionsInput {
        backup_plan_id: Some(plan_id.to_owned()),
        ..ListBackupSelectionsInput::default()
    };
    let list = client.ask_all(&input)?.typed.backup_selections_list.unwrap_or_default();
    let names = |s: &BackupSelectionsListMember| [s.selection_name.clone(), s.selection_id.clone()];
    let all: Vec<[Option<String>; 2]> = list.iter().map(names).collect();
    let [_, id] =
        the_one("selection", wanted, all, |[name, id]| [name.as_deref(), id.as_deref(), None])?;
    Ok(id.unwrap_or_default())
}

/// The vault of a recovery point: an ARN of a recovery point does not name it.
pub(crate) fn vault_of_point(
    client: &Client,
    arn: &str,
    vault: Option<&str>,
) -> Result<String, CliError> {
    if let Some(vault) = vault {
        return Ok(vault.to_owned());
    }
    let vaults = client.ask_all(&ListBackupVaultsInput::default())?.typed;
    let vaults: Vec<String> = vaults
        .backup_vault_list
        .unwrap_or_default()
        .into_iter()
        .filter_map(|vault| vault.backup_vault_name)
        .collect();
    for name in &vaults {
        let input = DescribeRecoveryPointInput {
            backup_vault_name: Some(name.clone()),
            recovery_point_arn: Some(arn.to_owned()),
            ..DescribeRecoveryPointInput::default()
        };
        match client.ask(&input) {
            Ok(_) => return Ok(name.clone()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Err(CliError::Name(format!(
        "no vault holds the recovery point '{arn}' (looked in {}); `provault recovery-points list` \
         shows which there are",
        if vaults.is_empty() { "no vault: there is none".to_owned() } else { vaults.join(", ") }
    )))
}

/// The newest recovery point of a resource that can be restored.
pub(crate) fn newest_point(
    client: &Client,
    resource: &str,
) -> Result<RecoveryPointByResource, CliError> {
    let input = ListRecoveryPointsByResourceInput {
        resource_arn: Some(resource_arn(client, resource)?),
        ..ListRecoveryPointsByResourceInput::default()
    };
    let points = client.ask_all(&input)?.typed.recovery_points.unwrap_or_default();
    let restorable = |point: &RecoveryPointByResource| {
        let status = point.status.as_ref().map_or("", |status| status.as_str());
        ["COMPLETED", "AVAILABLE", "PARTIAL"].contains(&status)
    };
    points.into_iter().filter(restorable).max_by_key(|point| point.creation_date).ok_or_else(|| {
        CliError::Name(format!(
            "'{resource}' has no recovery point that can be restored; `provault backup {resource}` \
             makes one"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(wanted: &str) -> Result<&'static str, String> {
        let all = vec![("a", "1"), ("b", "2"), ("b", "3"), ("3", "4")];
        the_one("plan", wanted, all, |(name, id)| [Some(name), Some(id), None])
            .map(|(_, id)| id)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_name_stands_for_one_thing() {
        assert_eq!(find("a"), Ok("1"));
        assert_eq!(find("2"), Ok("2"));
        // An id goes before another thing's name.
        assert_eq!(find("3"), Ok("3"));
        assert_eq!(find("b").unwrap_err(), "'b' names 2 plans; use the id of one: 2, 3");
        assert_eq!(find("c").unwrap_err(), "there is no plan 'c'; there are: a, b, b, 3");
    }
}
