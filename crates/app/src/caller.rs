//! Who asks.

use provault_domain::{AccountId, Arn};
use provault_iam::{Denied, Principal, scopes};

use crate::{App, AppError, Result};

/// Whom a request speaks for. Every look-up happens among the rows of its account.
#[derive(Debug, Clone)]
pub struct Caller {
    principal: Principal,
    account: AccountId,
    access_key_id: Option<String>,
}

impl Caller {
    /// The caller that a principal is.
    pub fn new(principal: Principal) -> Result<Self> {
        let account = principal.account_id().parse()?;
        Ok(Self { principal, account, access_key_id: None })
    }

    /// The caller that signed with this key, which the audit trail names.
    #[must_use]
    pub fn with_key(self, access_key_id: String) -> Self {
        Self { access_key_id: Some(access_key_id), ..self }
    }

    /// The access key that signed the request, if one did.
    pub fn access_key_id(&self) -> Option<&str> {
        self.access_key_id.as_deref()
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

fn refusal(denied: &Denied) -> AppError {
    AppError::access_denied(denied.to_string())
}

impl App {
    /// Whether `caller` may do `action` to `resource` (an ARN, or `*` for the account as a whole).
    pub(crate) fn permit(
        &self,
        caller: &Caller,
        action: &str,
        resource: impl AsRef<str>,
    ) -> Result<()> {
        let resource = resource.as_ref();
        // The table is what policies are checked against and what the documentation says.
        debug_assert!(
            scopes(action).is_some_and(|scopes| scopes.iter().any(|scope| scope.fits(resource))),
            "{action} is not decided on {resource}"
        );
        self.decide(caller, action, resource).map_err(|denied| refusal(&denied))
    }

    fn decide(
        &self,
        caller: &Caller,
        action: &str,
        resource: &str,
    ) -> std::result::Result<(), Denied> {
        let policies = self.identities().policies(&caller.principal);
        provault_iam::authorize_with(&caller.principal, &policies, action, resource)
    }

    /// As [`App::permit`], for what is named otherwise than by the ARN that decides: it was looked up,
    /// and the caller must be allowed `action` on each of `arns`. What there is not only those may
    /// learn who may do the action to anything. A denial names what the caller named, and so does not
    /// tell whether it is there.
    pub(crate) fn permit_found<T>(
        &self,
        caller: &Caller,
        action: &str,
        named: &str,
        found: Result<T>,
        arns: impl FnOnce(&T) -> Vec<String>,
    ) -> Result<T> {
        let decided = match &found {
            Ok(found) => arns(found).into_iter().try_for_each(|arn| {
                debug_assert!(
                    scopes(action).is_some_and(|all| all.iter().any(|one| one.fits(&arn))),
                    "{action} is not decided on {arn}"
                );
                self.decide(caller, action, &arn)
            }),
            Err(_) => self.decide(caller, action, "*"),
        };
        decided.map_err(|denied| refusal(&Denied { resource: named.to_owned(), ..denied }))?;
        found
    }

    /// Whether `caller` may do `action` to `resource`: for what is only shown to those who may change it.
    pub(crate) fn may(&self, caller: &Caller, action: &str, resource: &str) -> bool {
        self.decide(caller, action, resource).is_ok()
    }

    /// As [`App::permit`], for text of the caller that should be an ARN. What is none cannot be
    /// decided about; the look-up that follows says so in better words than a denial.
    pub(crate) fn permit_named(&self, caller: &Caller, action: &str, text: &str) -> Result<()> {
        if text.parse::<Arn>().is_ok() { self.permit(caller, action, text) } else { Ok(()) }
    }
}
