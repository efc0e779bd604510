//! May this principal do that?

use http::StatusCode;
use thiserror::Error;

use crate::{Decision, Policy, Principal, PrincipalKind};

/// The answer no. Its text is worded as AWS words it, and clients search it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "User: {principal} is not authorized to perform: {action} on resource: {resource} because \
     {because}"
)]
pub struct Denied {
    /// The principal's ARN.
    pub principal: String,
    /// What was asked for.
    pub action: String,
    /// On what.
    pub resource: String,
    /// The reason.
    pub because: DeniedBecause,
}

/// Why an action was denied.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DeniedBecause {
    /// Nothing allows it.
    #[error("no identity-based policy allows the action")]
    NothingAllows,
    /// A policy denies it.
    #[error("of an explicit deny in an identity-based policy")]
    ExplicitDeny,
    /// The resource belongs to another account.
    #[error("the resource belongs to another account")]
    OtherAccount,
    /// The resource is not an ARN.
    #[error("the resource is not named by an ARN")]
    NotAnArn,
}

impl Denied {
    /// The AWS error name.
    pub fn code(&self) -> &'static str {
        "AccessDeniedException"
    }

    /// 403, as AWS Backup answers.
    pub fn status(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }
}

/// Decides for a principal to whom identity policies are attached: the root of an account may do
/// everything inside that account, whatever they say, all others what they allow there.
///
/// `resource_arn` may be `*`, for an operation that is about no single resource; it means the
/// principal's own account. An ARN without an account (`arn:aws:s3:::NAME`) is taken to lie there
/// too: whoever looks the resource up does so among the rows of that account only.
pub fn authorize_with(
    principal: &Principal,
    policies: &[Policy],
    action: &str,
    resource_arn: &str,
) -> Result<(), Denied> {
    let because = match resource_account(resource_arn) {
        None => DeniedBecause::NotAnArn,
        Some(account) if !account.is_empty() && account != principal.account_id() => {
            DeniedBecause::OtherAccount
        }
        Some(_) if principal.kind() == PrincipalKind::Root => return Ok(()),
        Some(_) => match Policy::evaluate(policies, action, resource_arn) {
            Decision::Allowed => return Ok(()),
            Decision::ExplicitlyDenied => DeniedBecause::ExplicitDeny,
            Decision::ImplicitlyDenied => DeniedBecause::NothingAllows,
        },
    };
    Err(Denied {
        principal: principal.arn().to_owned(),
        action: action.to_owned(),
        resource: resource_arn.to_owned(),
        because,
    })
}

/// The account segment of an ARN, empty when it names none.
fn resource_account(resource_arn: &str) -> Option<&str> {
    if resource_arn == "*" {
        return Some("");
    }
    let mut segments = resource_arn.splitn(6, ':');
    let (prefix, account) = (segments.next()?, segments.nth(3)?);
    let name = segments.next()?;
    (prefix == "arn" && !name.is_empty()).then_some(account)
}
