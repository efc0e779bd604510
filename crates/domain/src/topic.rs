//! Topics and subscriptions: where notifications go.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::notification::SUBSCRIPTION_EVENTS;
use crate::{AccountId, Arn, Invalid, NotificationEvent};

/// Characters that a signing secret has at least.
pub const SHORTEST_SIGNING_SECRET: usize = 16;
/// Minutes that a digest may collect at most: a day.
pub const LONGEST_DIGEST_MINUTES: u32 = 24 * 60;
/// Bytes that a secret has at most.
pub const LONGEST_SECRET: usize = 1024;

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
    /// The events it wants of those that come to the topic, by the names that
    /// [`NotificationEvent::wanted_by`] knows; empty: all of them.
    #[serde(default)]
    pub events: Vec<String>,
    /// How many minutes events are collected before they go out as one message; each by itself and
    /// at once when absent.
    #[serde(default)]
    pub digest_minutes: Option<u32>,
    /// What signs a webhook's messages, or the password of a mail server's user; sealed, in
    /// hexadecimal, and never told to anybody.
    #[serde(default)]
    pub sealed_secret: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Subscription {
    /// Whether it wants to hear of this event.
    pub fn wants(&self, event: NotificationEvent) -> bool {
        self.events.is_empty() || event.wanted_by(&self.events)
    }
}

/// Refuses names that no event of this server has: such a subscription would wait for ever.
pub fn validate_events(events: &[String]) -> Result<(), Invalid> {
    match events.iter().find(|event| !SUBSCRIPTION_EVENTS.contains(&event.as_str())) {
        None => Ok(()),
        Some(event) => Err(Invalid::new(
            "Events",
            format!(
                "'{event}' is no event that this server sends; it sends {}.",
                SUBSCRIPTION_EVENTS.join(", ")
            ),
        )),
    }
}

/// Refuses a digest of no time, and one longer than [`LONGEST_DIGEST_MINUTES`].
pub fn validate_digest(minutes: Option<u32>) -> Result<(), Invalid> {
    match minutes {
        Some(minutes) if !(1..=LONGEST_DIGEST_MINUTES).contains(&minutes) => {
            Err(Invalid::new("DigestMinutes", "it must be 1 to 1440."))
        }
        _ => Ok(()),
    }
}

/// How a subscription receives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum SubscriptionTarget {
    /// HTTP POST of an SNS envelope, signed when the subscription has a secret.
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
    /// An e-mail handed to a mail server. The user's password is the subscription's secret.
    Smtp(Box<SmtpTarget>),
    /// A topic of Amazon SNS, or of a service that speaks its protocol. The secret access key is the
    /// subscription's secret.
    Sns(SnsTarget),
    /// A program of the server's machine, with the SNS envelope on its standard input.
    Command {
        /// Absolute path of the program, then its arguments.
        command: Vec<String>,
    },
}

/// A mail server and an e-mail's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmtpTarget {
    /// Host name or address.
    pub server: String,
    /// TCP port; usually 587 for STARTTLS, 465 for implicit TLS, 25 for none.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// Whom to sign in as; nobody when absent.
    pub user: Option<String>,
    /// The `From` address.
    pub from: String,
    /// The `To` address.
    pub to: String,
    /// PEM file of the authorities whose certificates are accepted, an absolute path on the
    /// server; those of the public web when absent.
    pub ca_file: Option<String>,
}

/// A topic of Amazon SNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnsTarget {
    /// `arn:aws:sns:REGION:ACCOUNT:NAME` of the topic there, which is not one of this server.
    pub topic_arn: String,
    /// Whose secret access key signs; it needs `sns:Publish` on the topic and nothing else.
    pub access_key_id: String,
    /// Address in place of Amazon's own for the topic's region; `https://`, or `http://` on this
    /// machine.
    pub endpoint: Option<String>,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SmtpTls {
    /// Begins in clear and goes on in TLS; without TLS nothing is sent.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// In clear; only to this machine.
    None,
}

impl SmtpTls {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Implicit => "implicit",
            Self::None => "none",
        }
    }

    /// The mode with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Starttls, Self::Implicit, Self::None].into_iter().find(|tls| tls.as_str() == name)
    }

    /// The usual port.
    pub fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

impl SubscriptionTarget {
    /// Refuses what could never be delivered to.
    pub fn validate(&self) -> Result<(), Invalid> {
        match self {
            Self::Webhook { url } => {
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
                if host.and_then(address_of).is_some_and(is_link_local) {
                    return Err(Invalid::new(
                        "Target.Url",
                        "it is a link-local address (169.254.0.0/16, fe80::/10), where nothing is sent; \
                         use another one of the receiver.",
                    ));
                }
                Ok(())
            }
            Self::MailFile { directory, to } => {
                if !directory.starts_with('/') {
                    return Err(Invalid::new("Target.Directory", "it must be an absolute path."));
                }
                mail_address("Target.To", to)
            }
            Self::Smtp(smtp) => smtp.validate(),
            Self::Sns(sns) => sns.validate(),
            Self::Command { command } => {
                let absolute = command.first().is_some_and(|program| program.starts_with('/'));
                if !absolute || command.iter().any(|word| word.contains('\0')) {
                    return Err(Invalid::new(
                        "Target.Command",
                        "it must be the absolute path of a program, and its arguments.",
                    ));
                }
                Ok(())
            }
        }
    }

    /// The same without what would let anybody who reads it send there in the server's place: a webhook's
    /// path and query, a command's arguments.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        match self {
            Self::Webhook { url } => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let host = authority.rsplit('@').next().unwrap_or_default();
                Self::Webhook { url: format!("{scheme}://{host}/…") }
            }
            Self::Command { command } => {
                let hidden = (command.len() > 1).then(|| "…".to_owned());
                Self::Command { command: command.iter().take(1).cloned().chain(hidden).collect() }
            }
            other => other.clone(),
        }
    }

    /// Refuses a secret that this target cannot use, one that is too weak, and the want of one
    /// that it needs. The secret stands in no message.
    pub fn validate_secret(&self, secret: Option<&str>) -> Result<(), Invalid> {
        let wrong = |why: &str| Err(Invalid::new("Secret", why));
        match (self, secret) {
            (Self::Webhook { .. }, Some(secret)) => {
                if !(SHORTEST_SIGNING_SECRET..=LONGEST_SECRET).contains(&secret.len())
                    || !secret.bytes().all(|b| b.is_ascii_graphic())
                {
                    return wrong(
                        "a signing secret has 16 to 1024 characters, all of them visible ASCII.",
                    );
                }
                Ok(())
            }
            (Self::Smtp(smtp), Some(secret)) => {
                if smtp.user.is_none() {
                    return wrong("a password needs a user to sign in as; give Smtp.User, too.");
                }
                if secret.is_empty()
                    || secret.len() > LONGEST_SECRET
                    || secret.contains(char::is_control)
                {
                    return wrong("a password has 1 to 1024 bytes and no control characters.");
                }
                Ok(())
            }
            (Self::Sns(_), Some(secret)) => {
                if !(SHORTEST_SIGNING_SECRET..=LONGEST_SECRET).contains(&secret.len())
                    || !secret.bytes().all(|b| b.is_ascii_graphic())
                {
                    return wrong(
                        "a secret access key has 16 to 1024 characters, all of them visible ASCII.",
                    );
                }
                Ok(())
            }
            (Self::Sns(_), None) => wrong("an SNS topic needs the access key's secret."),
            (Self::Smtp(smtp), None) if smtp.user.is_some() => {
                wrong("the user of a mail server needs a password.")
            }
            (Self::MailFile { .. } | Self::Command { .. }, Some(_)) => {
                wrong("only a webhook and SNS sign, and only a mail server asks for a password.")
            }
            (_, None) => Ok(()),
        }
    }
}

impl SnsTarget {
    /// Region and name of the topic; nothing when its ARN is not one.
    pub fn region_and_name(&self) -> Option<(&str, &str)> {
        let parts: Vec<&str> = self.topic_arn.split(':').collect();
        let [arn, partition, "sns", region, account, name] = parts[..] else { return None };
        let word = |text: &str, also: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
        };
        let good = arn == "arn"
            && word(partition, "-")
            && word(region, "-")
            && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && word(name, "-_.")
            && name.len() <= 256;
        good.then_some((region, name))
    }

    fn validate(&self) -> Result<(), Invalid> {
        if self.region_and_name().is_none() {
            let shown = self.topic_arn.escape_debug();
            return Err(Invalid::new(
                "Sns.TopicArn",
                format!("'{shown}' is not arn:aws:sns:REGION:ACCOUNT:NAME."),
            ));
        }
        let id = &self.access_key_id;
        if !(16..=128).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Invalid::new(
                "Sns.AccessKeyId",
                "an access key id has 16 to 128 letters and digits.",
            ));
        }
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let wrong = |why: &str| Err(Invalid::new("Sns.Endpoint", why));
        let (host, tls) =
            match (endpoint.strip_prefix("https://"), endpoint.strip_prefix("http://")) {
                (Some(host), _) => (host, true),
                (None, Some(host)) => (host, false),
                (None, None) => return wrong("it must be https://HOST[:PORT]."),
            };
        let host = host.strip_suffix('/').unwrap_or(host);
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/?#@".contains(c)) {
            return wrong("it must be https://HOST[:PORT], without a path and without a user.");
        }
        // An IPv6 address stands in brackets, and a port after a colon behind them.
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.split(':').next().unwrap_or(host),
        };
        if !tls && !is_this_machine(name) {
            return wrong("http:// is only for this machine (localhost, 127.0.0.1, [::1]).");
        }
        Ok(())
    }
}

/// Whether a host is named as this machine.
fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl SmtpTarget {
    fn validate(&self) -> Result<(), Invalid> {
        let bad_host = |c: char| c.is_whitespace() || c.is_control() || "/@[]".contains(c);
        if self.server.is_empty() || self.server.contains(bad_host) {
            return Err(Invalid::new(
                "Smtp.Server",
                format!("'{}' is no host name and no address.", self.server.escape_debug()),
            ));
        }
        if self.port == 0 {
            return Err(Invalid::new("Smtp.Port", "it must be 1 to 65535."));
        }
        if self.tls == SmtpTls::None && !self.is_loopback() {
            return Err(Invalid::new(
                "Smtp.Tls",
                "'none' is only for a mail server on this machine (localhost, 127.0.0.1, ::1): \
                 elsewhere anybody on the way could read the mail; use 'starttls' or 'implicit'.",
            ));
        }
        let bad_user = |user: &String| user.is_empty() || user.contains(char::is_control);
        if self.user.as_ref().is_some_and(bad_user) {
            return Err(Invalid::new("Smtp.User", "it is empty or has control characters."));
        }
        if self.ca_file.as_ref().is_some_and(|file| !file.starts_with('/')) {
            return Err(Invalid::new("Smtp.CaFile", "it must be an absolute path."));
        }
        if self.ca_file.is_some() && self.tls == SmtpTls::None {
            return Err(Invalid::new("Smtp.CaFile", "without TLS there is no certificate."));
        }
        mail_address("Smtp.From", &self.from)?;
        mail_address("Smtp.To", &self.to)
    }

    /// Whether the server is named as one of this machine.
    pub fn is_loopback(&self) -> bool {
        is_this_machine(&self.server)
    }
}

/// The address in the authority that `rest` of a URL begins with, when it is one and no name.
fn address_of(rest: &str) -> Option<IpAddr> {
    let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    match authority.strip_prefix('[') {
        Some(inside) => inside.split(['%', ']']).next()?.parse().ok(),
        None => authority.split(':').next()?.parse().ok(),
    }
}

/// Whether an address is good on one link alone: nothing of this server's may be sent there.
pub fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn mail_address(member: &str, address: &str) -> Result<(), Invalid> {
    let good = address.split_once('@').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
    if !good || address.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let shown = address.escape_debug();
        return Err(Invalid::new(member, format!("'{shown}' is not an e-mail address.")));
    }
    Ok(())
}
