//! The receiver of a subscription, as options of `topic subscribe`.

use std::path::PathBuf;
use std::str::FromStr;

use provault_wire::provault::{MailFile, Smtp, Sns, SubscribeInput};

use super::{absolute, random_digits};
use crate::error::CliError;
use crate::input_file::first_line;
use crate::words::CommandLine;

// Who receives, exactly one of them. No doc comment: it would become the help of the command.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Kind {
    /// Address, http:// or https://, that gets every notification by POST, in an SNS envelope
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// The same, with the address in the first line of this file, - for standard input: where its path
    /// is a secret, which whoever can list the processes of this machine would see
    #[arg(long, value_name = "FILE")]
    webhook_file: Option<PathBuf>,
    /// Mail server that gets every notification as an e-mail
    #[arg(long, value_name = "HOST[:PORT]", requires = "mail_from", requires = "mail_to")]
    smtp: Option<MailServer>,
    /// Directory of the server into which every notification is written as an e-mail
    #[arg(long, value_name = "DIR", requires = "mail_to")]
    mail_dir: Option<PathBuf>,
    /// Topic of Amazon SNS that gets every notification
    #[arg(long, value_name = "ARN", requires = "sns_access_key", requires = "secret_file")]
    sns: Option<String>,
    /// Program of the server's machine, with its arguments, that gets every notification on its
    /// standard input, in an SNS envelope. Split into words as a shell does, but no shell runs. The
    /// server must have been started with --allow-command-subscriptions
    #[arg(long, value_name = "COMMAND")]
    command: Option<CommandLine>,
}

// How and where a subscription receives, and which events. Options say what they conflict with, and not
// what they require: clap passes over a requirement that conflicts with what is given, and one of the
// receivers is always given.
#[derive(Debug, clap::Args)]
pub struct ReceiverArgs {
    #[command(flatten)]
    kind: Kind,
    /// Sign what the webhook gets with the secret in the first line of this file, - for standard
    /// input; with --sns, the file whose first line is the secret access key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["smtp", "mail_dir", "command", "new_secret"])]
    secret_file: Option<PathBuf>,
    /// Sign what the webhook gets with a new secret, which is printed once, after the id
    #[arg(long, conflicts_with_all = ["smtp", "mail_dir", "sns", "command"])]
    new_secret: bool,
    /// Id of the access key that may publish to the SNS topic
    #[arg(long, value_name = "ID", conflicts_with_all = ["webhook", "webhook_file", "smtp", "mail_dir", "command"])]
    sns_access_key: Option<String>,
    /// Address in place of Amazon's own, such as that of another service that speaks SNS
    #[arg(long, value_name = "URL", conflicts_with_all = ["webhook", "webhook_file", "smtp", "mail_dir", "command"])]
    sns_endpoint: Option<String>,
    /// The e-mail's receiver
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["webhook", "webhook_file", "sns", "command"])]
    mail_to: Option<String>,
    /// The e-mail's sender
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["webhook", "webhook_file", "mail_dir", "sns", "command"])]
    mail_from: Option<String>,
    /// How the connection to the mail server is protected; none is only for one on the server's own
    /// machine [default: starttls]
    #[arg(long, value_name = "MODE", conflicts_with_all = ["webhook", "webhook_file", "mail_dir", "sns", "command"],
          value_parser = ["starttls", "implicit", "none"])]
    smtp_tls: Option<String>,
    /// User of the mail server
    #[arg(long, value_name = "NAME", requires = "password_file",
          conflicts_with_all = ["webhook", "webhook_file", "mail_dir", "sns", "command"])]
    smtp_user: Option<String>,
    /// File whose first line is the user's password, - for standard input
    #[arg(long, value_name = "FILE", requires = "smtp_user")]
    password_file: Option<PathBuf>,
    /// PEM file, on the server's machine, with the authorities that may vouch for the mail server
    /// [default: those of the public web]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["webhook", "webhook_file", "mail_dir", "sns", "command"])]
    ca_file: Option<PathBuf>,
    /// Only this event, such as BACKUP_JOB_FAILED or RESTORE_TEST_NOT_PASSED; may be repeated
    /// [default: all that come to the topic]
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<String>,
    /// Collect events for so many minutes, 1 to 1440, and send them as one message
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=1440))]
    digest: Option<u32>,
}

impl ReceiverArgs {
    /// Whether a secret is to be made, and shown.
    pub(super) fn has_new_secret(&self) -> bool {
        self.new_secret
    }

    /// What to ask of the server; files are read and a new secret is made.
    pub(super) fn input(self) -> Result<SubscribeInput, CliError> {
        let webhook = match self.kind.webhook_file {
            Some(file) => Some(first_line(&file)?),
            None => self.kind.webhook,
        };
        let secret = match self.secret_file.or(self.password_file) {
            Some(file) => Some(first_line(&file)?),
            None => self.new_secret.then(random_digits),
        };
        let ca_file = self.ca_file.map(|file| absolute(&file)).transpose()?;
        // The command line demands both where they are needed.
        let (to, from) = (self.mail_to.unwrap_or_default(), self.mail_from.unwrap_or_default());
        let (mail_file, smtp) = match (self.kind.mail_dir, self.kind.smtp) {
            (Some(directory), _) => (Some(MailFile { directory: absolute(&directory)?, to }), None),
            (None, Some(MailServer { host, port })) => {
                let (tls, user) = (self.smtp_tls, self.smtp_user);
                (None, Some(Smtp { server: host, port, tls, user, from, to, ca_file }))
            }
            (None, None) => (None, None),
        };
        let (id, endpoint) = (self.sns_access_key.unwrap_or_default(), self.sns_endpoint);
        let sns = |topic_arn| Sns { topic_arn, access_key_id: id, endpoint };
        Ok(SubscribeInput {
            webhook,
            mail_file,
            smtp,
            sns: self.kind.sns.map(sns),
            command: self.kind.command.map(|command| command.0),
            events: self.events,
            digest_minutes: self.digest,
            secret,
        })
    }
}

/// `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MailServer {
    host: String,
    port: Option<u16>,
}

impl FromStr for MailServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or(rest))),
            // More than one colon: an IPv6 address without a port.
            None => match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            },
        };
        let port = port.map(str::parse).transpose().map_err(|_| wrong(text))?;
        if host.is_empty() {
            return Err(wrong(text));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

fn wrong(text: &str) -> String {
    format!("'{text}' is no mail server; write HOST or HOST:PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_server_is_a_host_and_maybe_a_port() {
        for (text, host, port) in [
            ("mail.example.org", "mail.example.org", None),
            ("mail.example.org:2525", "mail.example.org", Some(2525)),
            ("127.0.0.1:25", "127.0.0.1", Some(25)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("[::1]:25", "::1", Some(25)),
        ] {
            let server: MailServer = text.parse().unwrap();
            assert_eq!((server.host.as_str(), server.port), (host, port), "{text}");
        }
        for text in ["", ":25", "host:", "host:smtp", "host:70000", "[::1]25x", "[]:25"] {
            assert!(text.parse::<MailServer>().is_err(), "{text}");
        }
    }
}
