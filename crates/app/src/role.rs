//! Roles: what an `IamRoleArn` names.

use provault_domain::Arn;
use provault_domain::role::{DEFAULT_ROLE, Role};

use crate::{App, AppError, Caller, Result};

/// IAM's rule for role names, each with an optional path: letters, digits and `+=,.@_-`.
fn check_name(name: &str) -> Result<()> {
    let (path, last) = name.rsplit_once('/').unwrap_or(("", name));
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b))
    };
    let good = plain(last) && last.len() <= 64 && name.len() <= 512;
    if good && (path.is_empty() && !name.starts_with('/') || path.split('/').all(plain)) {
        return Ok(());
    }
    Err(AppError::invalid(
        "Name",
        format!(
            "'{name}' is not a role name: use 1 to 64 letters, digits or '+=,.@_-', after a path \
             such as service-role/ if you like."
        ),
    ))
}

/// The ARN that a name or an ARN stands for.
pub(crate) fn name_or_arn(text: &str, arn_of: impl FnOnce(&str) -> Arn) -> Result<Arn> {
    if text.starts_with("arn:") { Ok(text.parse()?) } else { Ok(arn_of(text)) }
}

impl App {
    /// `provault:AddRole`.
    pub async fn add_role(&self, caller: &Caller, name: &str) -> Result<Role> {
        const ACTION: &str = "provault:AddRole";
        let arn = Arn::role(caller.account(), name);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            check_name(name)?;
            if self.catalog().role(&arn).await?.is_some() {
                return Err(AppError::exists(
                    format!("A role '{name}' exists already: {arn}."),
                    Some(arn.clone()),
                ));
            }
            let role = Role {
                arn: arn.clone(),
                account: caller.account().clone(),
                name: name.to_owned(),
                created_at: self.now(),
            };
            self.catalog().insert_role(&role).await?;
            Ok(role)
        })
        .await
    }

    /// `provault:ListRoles`.
    pub async fn list_roles(&self, caller: &Caller) -> Result<Vec<Role>> {
        self.permit(caller, "provault:ListRoles", "*")?;
        Ok(self.catalog().list_roles(caller.account()).await?)
    }

    /// `provault:RemoveRole`, by name or ARN. Refused while a selection or an unfinished job uses
    /// it, and for the default role.
    pub async fn remove_role(&self, caller: &Caller, name: &str) -> Result<()> {
        const ACTION: &str = "provault:RemoveRole";
        self.audited(caller, ACTION, name, async {
            let arn = name_or_arn(name, |name| Arn::role(caller.account(), name))?;
            self.permit(caller, ACTION, &arn)?;
            let role = self.catalog().role(&arn).await?;
            let Some(role) = role.filter(|role| role.account == *caller.account()) else {
                return Err(AppError::not_found(format!(
                    "There is no role '{name}'; see `provault role list` for those there are."
                )));
            };
            if role.name == DEFAULT_ROLE {
                return Err(AppError::refused(
                    "The default role cannot be removed: every account has it.",
                ));
            }
            Ok(self.catalog().delete_role(&role.arn).await?)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_are_iams() {
        for good in ["backup", "service-role/AWSBackupDefaultServiceRole", "a/b/c", "x+=,.@_-"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a//b", "ä", "a b", "a:b", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
