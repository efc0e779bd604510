//! E-mails by SMTP, in TLS unless the mail server is on this machine.

use std::time::Duration;

use lettre::Message as Mail;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use provault_domain::{SmtpTarget, SmtpTls};
use tokio::io::AsyncReadExt as _;

use crate::quote::quote;
use crate::{DeliveryContext, DeliveryError, Message, Receipt, mail};

/// Bytes of a file of authorities; the bundle of a whole system has a quarter of that.
const LONGEST_CA_FILE: u64 = 1024 * 1024;
/// How long a server that has the mail may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

pub(crate) fn deliver(
    target: &SmtpTarget,
    password: Option<&str>,
    message: &Message,
    context: &DeliveryContext,
) -> Result<Receipt, DeliveryError> {
    let mail = mail::compose(&target.from, &target.to, message, context)?;
    let name = format!("{}:{}", target.server, target.port);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            DeliveryError::later(format!("the e-mail to {name} cannot be sent: {error}."))
        })?;
    let session = Session { target, password, name: &name, patience: context.time_limit };
    let result = runtime.block_on(session.run(&mail));
    // A name lookup that hangs does so on a thread of the runtime; it is not waited for.
    runtime.shutdown_background();
    result
}

/// One mail for one server.
struct Session<'a> {
    target: &'a SmtpTarget,
    password: Option<&'a str>,
    /// `HOST:PORT`, for people.
    name: &'a str,
    patience: Duration,
}

impl Session<'_> {
    async fn run(&self, mail: &Mail) -> Result<Receipt, DeliveryError> {
        match tokio::time::timeout(self.patience, self.send(mail)).await {
            Ok(Ok((answer, mut connection))) => {
                // It has the mail; how it parts from us changes nothing.
                let _ = tokio::time::timeout(GOODBYE, connection.quit()).await;
                let line = answer.first_line().unwrap_or_default();
                let said = quote(line.as_bytes());
                Ok(Receipt { detail: format!("{} from {}{said}", answer.code(), self.name) })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(DeliveryError::later(format!(
                "{} was not done within {} ms; it may have the mail all the same. The delivery is \
                 tried again under the same Message-ID.",
                self.name,
                self.patience.as_millis()
            ))),
        }
    }

    async fn send(&self, mail: &Mail) -> Result<(Response, AsyncSmtpConnection), DeliveryError> {
        let hello = hello();
        let tls = match self.target.tls {
            SmtpTls::None => None,
            SmtpTls::Starttls | SmtpTls::Implicit => Some(self.tls().await?),
        };
        let (at_once, later) = match self.target.tls {
            SmtpTls::Starttls => (None, tls),
            SmtpTls::Implicit | SmtpTls::None => (tls, None),
        };
        let address = (self.target.server.as_str(), self.target.port);
        // A host may have several addresses, of which the first leads nowhere.
        let patience = Some(self.patience / 3);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, patience, &hello, at_once, None)
                .await
                .map_err(|error| self.failed(&error))?;
        if let Some(tls) = later {
            if !connection.can_starttls() {
                return Err(DeliveryError::later(format!(
                    "{} does not offer STARTTLS, so nothing was sent. Let it offer it, or subscribe \
                     with implicit TLS; the delivery is tried again.",
                    self.name
                )));
            }
            connection.starttls(tls, &hello).await.map_err(|error| self.failed(&error))?;
        }
        if let (Some(user), Some(password)) = (&self.target.user, self.password) {
            let credentials = Credentials::new(user.clone(), password.to_owned());
            let signed_in = connection.auth(DEFAULT_MECHANISMS, &credentials).await;
            signed_in.map_err(|error| self.not_signed_in(&error))?;
        }
        let answer = connection
            .send(mail.envelope(), &mail.formatted())
            .await
            .map_err(|error| self.failed(&error))?;
        Ok((answer, connection))
    }

    /// Whose certificates are accepted, and for which name.
    async fn tls(&self) -> Result<TlsParameters, DeliveryError> {
        let wrong = |why: &dyn std::fmt::Display| {
            DeliveryError::later(format!(
                "TLS with {} cannot begin: {why}. The delivery is tried again.",
                self.name
            ))
        };
        let mut builder = TlsParameters::builder(self.target.server.clone());
        if let Some(file) = &self.target.ca_file {
            let about = |why: &dyn std::fmt::Display| wrong(&format!("{file}: {why}"));
            let pem = read(file).await.map_err(|error| about(&error))?;
            let authorities = Certificate::from_pem(&pem).map_err(|error| about(&error))?;
            // No certificate at all is no error above.
            if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
                return Err(about(&"it holds no PEM certificate"));
            }
            builder =
                builder.certificate_store(CertificateStore::None).add_root_certificate(authorities);
        }
        builder.build().map_err(|error| wrong(&error))
    }

    /// What the server or the way to it did. 5xx is final; all else may be mended by others.
    fn failed(&self, error: &Error) -> DeliveryError {
        let name = self.name;
        let said = quote(error.to_string().as_bytes());
        if error.is_permanent() {
            return DeliveryError::never(format!(
                "{name} refuses the mail for good{said}: check the subscription's addresses."
            ));
        }
        if error.is_transient() {
            return DeliveryError::later(format!(
                "{name} does not take the mail now{said}. The delivery is tried again."
            ));
        }
        DeliveryError::later(format!(
            "the mail cannot be handed to {name}{said}. The delivery is tried again."
        ))
    }

    /// The same for signing in. What the server says then may hold what it was told, so only its
    /// code is repeated.
    fn not_signed_in(&self, error: &Error) -> DeliveryError {
        let (name, user) = (self.name, self.target.user.as_deref().unwrap_or_default());
        match error.status() {
            Some(code) if error.is_permanent() => DeliveryError::never(format!(
                "{name} does not let user '{user}' in ({code}): subscribe again with the right \
                 user and password."
            )),
            Some(code) => DeliveryError::later(format!(
                "{name} does not let user '{user}' in now ({code}). The delivery is tried again."
            )),
            None if error.is_client() => DeliveryError::later(format!(
                "{name} offers neither PLAIN nor LOGIN to sign in with. The delivery is tried again."
            )),
            None => DeliveryError::later(format!(
                "the connection to {name} broke while user '{user}' signed in. The delivery is \
                 tried again."
            )),
        }
    }
}

async fn read(file: &str) -> std::io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    tokio::fs::File::open(file).await?.take(LONGEST_CA_FILE).read_to_end(&mut pem).await?;
    Ok(pem)
}

/// The name this machine greets with; its address where the name cannot stand in a greeting.
fn hello() -> ClientId {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    match name.filter(|name| !name.is_empty() && name.chars().all(plain)) {
        Some(name) => ClientId::Domain(name),
        None => ClientId::default(),
    }
}
