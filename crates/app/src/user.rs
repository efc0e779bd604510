//! Users, their policies and access keys.

use std::collections::HashMap;
use std::sync::PoisonError;

use jiff::Timestamp;
use provault_domain::user::{MAX_ACCESS_KEYS, ROOT, User};
use provault_iam::{AccessKey, KeyStatus, ManagedPolicy, Policy, Principal, PrincipalKind};

use crate::bootstrap::{BootstrapError, enter_key, write_credentials};
use crate::{App, AppError, Caller, ErrorKind, Result};

/// Who may sign, and what they may do. The root needs no policy.
pub(crate) struct Identities {
    keys: HashMap<String, AccessKey>,
    /// By the principal's ARN.
    policies: HashMap<String, Vec<Policy>>,
}

impl Identities {
    pub(crate) fn new(
        keys: Vec<AccessKey>,
        users: &[User],
    ) -> std::result::Result<Self, BootstrapError> {
        let policies_of = |user: &User| -> std::result::Result<_, BootstrapError> {
            let policies = policies(&user.managed_policies, user.policy_document.as_deref());
            let policies = policies.map_err(|error| BootstrapError::Damaged {
                what: format!("user {}", user.name),
                why: error.message,
            })?;
            // It was attached when more was accepted; to refuse the start would help nobody.
            for error in policies.iter().filter_map(|policy| policy.check().err()) {
                tracing::warn!(user = user.name, %error, "a policy has a statement without effect");
            }
            Ok((user.arn.to_string(), policies))
        };
        Ok(Self {
            keys: keys.into_iter().map(|key| (key.access_key_id.clone(), key)).collect(),
            policies: users.iter().map(policies_of).collect::<std::result::Result<_, _>>()?,
        })
    }

    pub(crate) fn key(&self, access_key_id: &str) -> Option<AccessKey> {
        self.keys.get(access_key_id).cloned()
    }

    pub(crate) fn policies(&self, principal: &Principal) -> Vec<Policy> {
        self.policies.get(principal.arn()).cloned().unwrap_or_default()
    }

    fn keys_of(&self, principal: &str) -> Vec<&AccessKey> {
        let mut keys: Vec<_> =
            self.keys.values().filter(|key| key.principal.arn() == principal).collect();
        keys.sort_by_key(|key| (key.created_at, key.access_key_id.clone()));
        keys
    }
}

/// A user to be made.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// Names of managed policies.
    pub managed_policies: Vec<String>,
    /// A policy of its own, JSON in IAM's language.
    pub policy_document: Option<String>,
}

/// What is to become of a user's policies; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// The managed policies from now on.
    pub managed_policies: Option<Vec<String>>,
    /// The policy of its own from now on; an empty text takes it away.
    pub policy_document: Option<String>,
}

/// An access key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKeyView {
    /// `AKIA…`.
    pub access_key_id: String,
    /// Whether it may be used.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a request was signed with it, to the hour; `None` when none ever was.
    pub last_used_at: Option<Timestamp>,
}

/// Somebody who may sign, and with what.
#[derive(Debug, Clone)]
pub struct UserView {
    /// The user.
    pub user: User,
    /// Its keys, oldest first.
    pub keys: Vec<AccessKeyView>,
}

impl App {
    /// `provault:AddUser`: without an access key yet.
    pub async fn add_user(&self, caller: &Caller, new: NewUser) -> Result<UserView> {
        const ACTION: &str = "provault:AddUser";
        self.audited(caller, ACTION, &new.name, async {
            let arn = format!("arn:aws:iam::{}:user/{}", caller.account(), new.name);
            self.permit(caller, ACTION, &arn)?;
            User::validate_name("Name", &new.name)?;
            let user = User {
                arn: arn.parse()?,
                account: caller.account().clone(),
                name: new.name.clone(),
                managed_policies: canonical(&new.managed_policies)?,
                policy_document: new.policy_document.clone().filter(|text| !text.is_empty()),
                created_at: self.now(),
            };
            let policies = attachable(&user)?;
            let _changing = self.inner.changing_identities.lock().await;
            if let Some(user) = self.catalog().user_by_name(caller.account(), &user.name).await? {
                let message = format!("A user '{}' exists already: {}.", user.name, user.arn);
                return Err(AppError::exists(message, Some(user.arn)));
            }
            self.catalog().insert_user(&user).await?;
            self.change_identities(|known| known.policies.insert(user.arn.to_string(), policies));
            Ok(self.user_view(user))
        })
        .await
    }

    /// `provault:ListUsers`, the root first.
    pub async fn list_users(&self, caller: &Caller) -> Result<Vec<UserView>> {
        self.permit(caller, "provault:ListUsers", "*")?;
        let users = self.catalog().list_users(caller.account()).await?;
        let root = self.root(caller)?;
        Ok(std::iter::once(root).chain(users).map(|user| self.user_view(user)).collect())
    }

    /// `provault:UpdateUser`.
    pub async fn update_user(
        &self,
        caller: &Caller,
        name: &str,
        change: UserChange,
    ) -> Result<UserView> {
        const ACTION: &str = "provault:UpdateUser";
        self.audited(caller, ACTION, name, async {
            let _changing = self.inner.changing_identities.lock().await;
            let mut user = self.permitted_user(caller, ACTION, name).await?;
            if let Some(names) = &change.managed_policies {
                user.managed_policies = canonical(names)?;
            }
            if let Some(document) = change.policy_document.clone() {
                user.policy_document = Some(document).filter(|text| !text.is_empty());
            }
            let policies = attachable(&user)?;
            self.catalog().set_user_policies(&user).await?;
            self.change_identities(|known| known.policies.insert(user.arn.to_string(), policies));
            Ok(self.user_view(user))
        })
        .await
    }

    /// `provault:RemoveUser`, with its access keys: from this moment on they are refused.
    pub async fn remove_user(&self, caller: &Caller, name: &str) -> Result<()> {
        const ACTION: &str = "provault:RemoveUser";
        self.audited(caller, ACTION, name, async {
            let _changing = self.inner.changing_identities.lock().await;
            let user = self.permitted_user(caller, ACTION, name).await?;
            self.catalog().delete_user(&user.arn).await?;
            self.change_identities(|known| {
                known.keys.retain(|_, key| key.principal.arn() != user.arn.as_str());
                known.policies.remove(user.arn.as_str());
            });
            Ok(())
        })
        .await
    }

    /// `provault:CreateAccessKey`, for a user by name, or for `root`. The secret is told this once.
    pub async fn create_access_key(&self, caller: &Caller, name: &str) -> Result<AccessKey> {
        const ACTION: &str = "provault:CreateAccessKey";
        self.audited(caller, ACTION, name, async {
            let _changing = self.inner.changing_identities.lock().await;
            let found = self.anybody_named(caller, name).await;
            let user =
                self.permit_found(caller, ACTION, name, found, |user| vec![user.arn.to_string()])?;
            if self.identities().keys_of(user.arn.as_str()).len() >= MAX_ACCESS_KEYS {
                return Err(AppError::new(
                    ErrorKind::LimitExceeded,
                    format!(
                        "{name} has {MAX_ACCESS_KEYS} access keys, which is the most; delete the one \
                         that is not in use (`provault user list` tells when each was used last)."
                    ),
                ));
            }
            let principal = Principal::from_arn(user.arn.as_str())
                .map_err(|error| AppError::fault(&error))?;
            let key = AccessKey::generate(principal, self.now())
                .map_err(|error| AppError::fault(&error))?;
            enter_key(self.engine(), caller.account(), &key).await?;
            self.change_identities(|known| {
                known.keys.insert(key.access_key_id.clone(), key.clone())
            });
            Ok(key)
        })
        .await
    }

    /// `provault:UpdateAccessKey`: lets a key be used, or not.
    pub async fn set_access_key_active(
        &self,
        caller: &Caller,
        access_key_id: &str,
        active: bool,
    ) -> Result<AccessKeyView> {
        const ACTION: &str = "provault:UpdateAccessKey";
        self.audited(caller, ACTION, access_key_id, async {
            let _changing = self.inner.changing_identities.lock().await;
            let mut key = self.changeable_key(caller, ACTION, access_key_id)?;
            if !active {
                self.refuse_locking_out(&key)?;
            }
            self.catalog().set_access_key_active(access_key_id, active).await?;
            key.status = if active { KeyStatus::Active } else { KeyStatus::Inactive };
            let view = self.key_view(&key);
            self.change_identities(|known| known.keys.insert(access_key_id.to_owned(), key));
            self.renew_credentials();
            Ok(view)
        })
        .await
    }

    /// `provault:DeleteAccessKey`, for good.
    pub async fn delete_access_key(&self, caller: &Caller, access_key_id: &str) -> Result<()> {
        const ACTION: &str = "provault:DeleteAccessKey";
        self.audited(caller, ACTION, access_key_id, async {
            let _changing = self.inner.changing_identities.lock().await;
            let key = self.changeable_key(caller, ACTION, access_key_id)?;
            self.refuse_locking_out(&key)?;
            self.catalog().delete_access_key(access_key_id).await?;
            self.change_identities(|known| known.keys.remove(access_key_id));
            self.renew_credentials();
            Ok(())
        })
        .await
    }

    /// A key of somebody in the caller's account to whom it may do `action`. The root's are the root's
    /// own business.
    fn changeable_key(
        &self,
        caller: &Caller,
        action: &str,
        access_key_id: &str,
    ) -> Result<AccessKey> {
        let key = self.identities().key(access_key_id);
        let own = |key: &AccessKey| key.account_id() == caller.account().as_str();
        let found = key.filter(own).ok_or_else(|| {
            AppError::not_found(format!(
                "There is no access key '{access_key_id}'; see `provault user list`."
            ))
        });
        let key = self.permit_found(caller, action, access_key_id, found, |key| {
            vec![key.principal.arn().to_owned()]
        })?;
        if key.principal.kind() == PrincipalKind::Root {
            refuse_but_root(caller)?;
        }
        Ok(key)
    }

    /// Without a key of the root nobody could give anybody one.
    fn refuse_locking_out(&self, key: &AccessKey) -> Result<()> {
        let in_use = |other: &&AccessKey| {
            other.status == KeyStatus::Active && other.access_key_id != key.access_key_id
        };
        let others = self.identities().keys_of(key.principal.arn()).into_iter().any(|k| in_use(&k));
        if key.principal.kind() != PrincipalKind::Root || others {
            return Ok(());
        }
        Err(AppError::refused(
            "It is the last access key of the root that may be used; make another one first \
             (`provault user create-key root`).",
        ))
    }

    /// The file beside the catalog always names a key of the root that may be used.
    fn renew_credentials(&self) {
        let keys: Vec<AccessKey> = self.identities().keys.values().cloned().collect();
        if let Err(error) = write_credentials(self.credentials_path(), &keys) {
            tracing::error!(%error, "the credentials file could not be written; the next start does it");
        }
    }

    fn change_identities<T>(&self, change: impl FnOnce(&mut Identities) -> T) {
        let known = self.inner.identities.write();
        change(&mut known.unwrap_or_else(PoisonError::into_inner));
    }

    async fn user_named(&self, caller: &Caller, name: &str) -> Result<User> {
        self.catalog().user_by_name(caller.account(), name).await?.ok_or_else(|| {
            AppError::not_found(format!(
                "There is no user '{name}'; see `provault user list` for those there are."
            ))
        })
    }

    /// A user to whom the caller may do `action`.
    async fn permitted_user(&self, caller: &Caller, action: &str, name: &str) -> Result<User> {
        let found = self.user_named(caller, name).await;
        self.permit_found(caller, action, name, found, |user| vec![user.arn.to_string()])
    }

    /// A user, or the root, whose keys only the root may touch.
    async fn anybody_named(&self, caller: &Caller, name: &str) -> Result<User> {
        if name != ROOT {
            return self.user_named(caller, name).await;
        }
        refuse_but_root(caller)?;
        self.root(caller)
    }

    /// The root as if it were a user.
    fn root(&self, caller: &Caller) -> Result<User> {
        let made = |key: &&AccessKey| key.created_at;
        let arn = format!("arn:aws:iam::{}:root", caller.account());
        let first = self.identities().keys_of(&arn).iter().map(made).min();
        Ok(User {
            arn: arn.parse()?,
            account: caller.account().clone(),
            name: ROOT.to_owned(),
            managed_policies: Vec::new(),
            policy_document: None,
            created_at: first.unwrap_or_else(|| self.now()),
        })
    }

    fn key_view(&self, key: &AccessKey) -> AccessKeyView {
        AccessKeyView {
            access_key_id: key.access_key_id.clone(),
            active: key.status == KeyStatus::Active,
            created_at: key.created_at,
            last_used_at: self.inner.uses.last(&key.access_key_id),
        }
    }

    fn user_view(&self, user: User) -> UserView {
        let view = |key: &AccessKey| self.key_view(key);
        let keys = self.identities().keys_of(user.arn.as_str()).into_iter().map(view).collect();
        UserView { user, keys }
    }
}

fn refuse_but_root(caller: &Caller) -> Result<()> {
    if caller.principal().kind() == PrincipalKind::Root {
        return Ok(());
    }
    Err(AppError::access_denied(
        "Only the root of the account may make, disable and delete access keys of the root.",
    ))
}

/// The names as they are written, each once.
fn canonical(names: &[String]) -> Result<Vec<String>> {
    let mut known: Vec<String> = Vec::new();
    for name in names {
        let policy = ManagedPolicy::named(name).ok_or_else(|| {
            let all: Vec<&str> = ManagedPolicy::ALL.iter().map(|policy| policy.name()).collect();
            AppError::invalid(
                "ManagedPolicies",
                format!("'{name}' is none; use some of {}.", all.join(", ")),
            )
        })?;
        if !known.iter().any(|known| known == policy.name()) {
            known.push(policy.name().to_owned());
        }
    }
    Ok(known)
}

/// Everything that is to be attached to a user, understood, and none of it without a meaning.
fn attachable(user: &User) -> Result<Vec<Policy>> {
    let policies = policies(&user.managed_policies, user.policy_document.as_deref())?;
    for policy in &policies {
        policy.check().map_err(|error| AppError::invalid("PolicyDocument", format!("{error}.")))?;
    }
    Ok(policies)
}

/// Everything that is attached to a user, understood.
fn policies(managed: &[String], document: Option<&str>) -> Result<Vec<Policy>> {
    let unknown = |name: &String| {
        AppError::invalid("ManagedPolicies", format!("'{name}' is no managed policy."))
    };
    let mut all = managed
        .iter()
        .map(|name| {
            ManagedPolicy::named(name).map(ManagedPolicy::policy).ok_or_else(|| unknown(name))
        })
        .collect::<Result<Vec<_>>>()?;
    if let Some(document) = document {
        let own = Policy::parse(document)
            .map_err(|error| AppError::invalid("PolicyDocument", format!("{error}.")))?;
        all.push(own);
    }
    Ok(all)
}
