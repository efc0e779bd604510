//! Topics and subscriptions: where notifications go.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AccountId, Arn, Invalid};

/// A named place that vaults send their events to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// `arn:aws:sns:REGION:ACCOUNT:NAME`.
    pub arn: Arn,
    /// Tenant.
    pub account: AccountId,
    /// 1 to 64 letters, digits, `-`, `_` or `.`, unique in the account.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One receiver of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// UUID.
    pub id: String,
    /// Tenant.
    pub account: AccountId,
    /// The topic it listens to.
    pub topic_arn: Arn,
    /// How and where it receives.
    pub target: SubscriptionTarget,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How a subscription receives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum SubscriptionTarget {
    /// HTTP POST of an SNS envelope.
    Webhook {
        /// `http://` or `https://`.
        url: String,
    },
    /// An e-mail written as an `.eml` file into a directory on the server.
    MailFile {
        /// Absolute path; made when it does not exist.
        directory: String,
        /// The `To` address.
        to: String,
    },
}

impl SubscriptionTarget {
    /// Refuses what could never be delivered to.
    pub fn validate(&self) -> Result<(), Invalid> {
        match self {
            SubscriptionTarget::Webhook { url } => {
                let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
                if host.is_none_or(|h| h.is_empty() || h.starts_with('/'))
                    || url.contains(char::is_whitespace)
                {
                    return Err(Invalid::new(
                        "Target.Url",
                        format!(
                            "'{url}' is not a webhook address; use http://HOST/PATH or https://HOST/PATH."
                        ),
                    ));
                }
            }
            SubscriptionTarget::MailFile { directory, to } => {
                if !directory.starts_with('/') {
                    return Err(Invalid::new("Target.Directory", "it must be an absolute path."));
                }
                let good = to.split_once('@').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
                if !good || to.contains(char::is_whitespace) {
                    return Err(Invalid::new(
                        "Target.To",
                        format!("'{to}' is not an e-mail address."),
                    ));
                }
            }
        }
        Ok(())
    }
}
