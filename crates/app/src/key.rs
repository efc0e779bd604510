//! Keys: what an `EncryptionKeyArn` names.

use provault_domain::Arn;
use provault_domain::key::{DEFAULT_KEY, Key, KeyWrapper};
use provault_domain::resource::validate_name;

use crate::{App, AppError, Caller, Result, new_id};

impl App {
    /// `provault:AddKey`: a new key file and its ARN.
    pub async fn add_key(&self, caller: &Caller, name: &str) -> Result<Key> {
        const ACTION: &str = "provault:AddKey";
        self.audited(caller, ACTION, name, async {
            self.permit(caller, ACTION, "*")?;
            validate_name("Name", name)?;
            let keys = self.catalog().list_keys(caller.account()).await?;
            if let Some(key) = keys.into_iter().find(|key| key.name == name) {
                return Err(AppError::exists(
                    format!("A key '{name}' exists already: {}.", key.arn),
                    Some(key.arn),
                ));
            }
            let id = new_id();
            let key = Key {
                arn: Arn::key(self.region(), caller.account(), &id),
                account: caller.account().clone(),
                name: name.to_owned(),
                wrapper: KeyWrapper::LocalFile { file: format!("{id}.key") },
                created_at: self.now(),
            };
            self.engine().create_key(key.clone()).await?;
            Ok(key)
        })
        .await
    }

    /// `provault:ListKeys`.
    pub async fn list_keys(&self, caller: &Caller) -> Result<Vec<Key>> {
        self.permit(caller, "provault:ListKeys", "*")?;
        Ok(self.catalog().list_keys(caller.account()).await?)
    }

    /// `provault:RemoveKey`, by name or ARN: the key's file is gone for good. Refused while a vault
    /// uses it, and for the default key.
    pub async fn remove_key(&self, caller: &Caller, name: &str) -> Result<()> {
        const ACTION: &str = "provault:RemoveKey";
        self.audited(caller, ACTION, name, async {
            let keys = self.catalog().list_keys(caller.account()).await?;
            let found = keys.into_iter().find(|key| key.name == name || key.arn.as_str() == name);
            let found = found.ok_or_else(|| {
                AppError::not_found(format!(
                    "There is no key '{name}'; see `provault key list` for those there are."
                ))
            });
            let key =
                self.permit_found(caller, ACTION, name, found, |key| vec![key.arn.to_string()])?;
            if key.name == DEFAULT_KEY {
                return Err(AppError::refused(
                    "The default key cannot be removed: vaults made without a key use it.",
                ));
            }
            Ok(self.engine().delete_key(&key.arn).await?)
        })
        .await
    }
}
