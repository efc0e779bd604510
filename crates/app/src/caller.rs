//! Who asks.

use provault_domain::{AccountId, Arn};
use provault_iam::Principal;

use crate::{App, AppError, Result};

/// Whom a request speaks for. Every look-up happens among the rows of its account.
#[derive(Debug, Clone)]
pub struct Caller {
    principal: Principal,
    account: AccountId,
}

impl Caller {
    /// The caller that a principal is.
    pub fn new(principal: Principal) -> Result<Self> {
        let account = principal.account_id().parse()?;
        Ok(Self { principal, account })
    }

    /// The identity.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The account it belongs to.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Refuses a filter that asks for the rows of another account.
    pub fn check_own_account(&self, member: &str, account: Option<&str>) -> Result<()> {
        match account {
            None | Some("*") => Ok(()),
            Some(account) if account == self.account.as_str() => Ok(()),
            Some(account) => Err(AppError::access_denied(format!(
                "{member}: '{account}' is not the account {} of your access key, and no other \
                 account has shared anything with it; leave {member} out.",
                self.account
            ))),
        }
    }
}

impl App {
    /// Whether `caller` may do `action` to `resource` (an ARN, or `*` for the account as a whole).
    pub(crate) fn permit(
        &self,
        caller: &Caller,
        action: &str,
        resource: impl AsRef<str>,
    ) -> Result<()> {
        let policies = self.identities().policies(&caller.principal);
        provault_iam::authorize_with(&caller.principal, &policies, action, resource.as_ref())
            .map_err(|denied| AppError::access_denied(denied.to_string()))
    }

    /// As [`App::permit`], for text of the caller that should be an ARN. What is none cannot be
    /// decided about; the look-up that follows says so in better words than a denial.
    pub(crate) fn permit_named(&self, caller: &Caller, action: &str, text: &str) -> Result<()> {
        if text.parse::<Arn>().is_ok() { self.permit(caller, action, text) } else { Ok(()) }
    }
}
