//! Mail servers that take the mail, refuse it, hang, and are not who they should be.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use provault_domain::{SmtpTarget, SmtpTls, SubscriptionTarget};
use provault_notify::{
    DEFAULT_TIME_LIMIT, DeliveryContext, DeliveryError, Message, Receipt, deliver,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const PASSWORD: &str = "s3cret-pass";
/// What `AUTH PLAIN` says for user `me` and the password.
const SIGNED_IN: &str = "AG1lAHMzY3JldC1wYXNz";

/// A certificate that signed itself, and its file.
struct Identity {
    config: Arc<ServerConfig>,
    file: PathBuf,
}

impl Identity {
    fn of(name: &str, directory: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self { config: Arc::new(config), file }
    }

    fn tls(&self, stream: TcpStream) -> Box<dyn Wire> {
        let connection = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        Box::new(StreamOwned::new(connection, stream))
    }

    #[allow(clippy::unnecessary_wraps)] // As the setting is.
    fn ca_file(&self) -> Option<String> {
        Some(self.file.to_str().unwrap().to_owned())
    }
}

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// How a server behaves.
struct Behaviour {
    /// TLS from the first byte.
    implicit: bool,
    /// Offers STARTTLS.
    starttls: bool,
    /// Answers to these words instead of `250 ok`.
    answers: &'static [(&'static str, &'static str)],
    /// Says nothing any more when it hears this word; an empty one is the greeting.
    silent_at: Option<&'static str>,
}

const PLAIN: Behaviour =
    Behaviour { implicit: false, starttls: false, answers: &[], silent_at: None };
const STARTTLS: Behaviour = Behaviour { starttls: true, ..PLAIN };

/// What a server saw of its one client.
#[derive(Debug, Default)]
struct Session {
    /// What was said in clear.
    clear: Vec<String>,
    /// What was said in TLS.
    secret: Vec<String>,
    /// The mail.
    mail: String,
}

/// A server for one client.
fn server(behaviour: Behaviour, identity: Option<Identity>) -> (u16, JoinHandle<Session>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let handle = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut session = Session::default();
        // Ends with an error where the client parts in the middle.
        let _ = talk(&stream, &behaviour, identity.as_ref(), &mut session);
        session
    });
    (port, handle)
}

fn talk(
    stream: &TcpStream,
    behaviour: &Behaviour,
    identity: Option<&Identity>,
    session: &mut Session,
) -> std::io::Result<()> {
    let in_tls = |stream: TcpStream| BufReader::new(identity.unwrap().tls(stream));
    let mut encrypted = behaviour.implicit;
    let mut wire = if encrypted {
        in_tls(stream.try_clone()?)
    } else {
        let clear: Box<dyn Wire> = Box::new(stream.try_clone()?);
        BufReader::new(clear)
    };
    let mut heard = String::new();
    loop {
        let word = heard.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        if behaviour.silent_at == Some(word.as_str()) {
            // Until the client lets go.
            return wire.read_to_string(&mut heard).map(drop);
        }
        let scripted = behaviour.answers.iter().find(|(at, _)| *at == word).map(|(_, said)| *said);
        let answer = match word.as_str() {
            "" => "220 test ready",
            "EHLO" if behaviour.starttls && !encrypted => "250-test\r\n250 STARTTLS",
            "EHLO" => "250-test\r\n250 AUTH PLAIN LOGIN",
            "STARTTLS" => "220 go on",
            "AUTH" if heard == format!("AUTH PLAIN {SIGNED_IN}") => "235 welcome",
            "AUTH" => "535 who are you",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        write!(wire.get_mut(), "{}\r\n", scripted.unwrap_or(answer))?;
        wire.get_mut().flush()?;
        match word.as_str() {
            "QUIT" => return Ok(()),
            "STARTTLS" if scripted.is_none() => {
                wire = in_tls(stream.try_clone()?);
                encrypted = true;
            }
            "DATA" if scripted.is_none() => {
                let mut line = String::new();
                while wire.read_line(&mut line)? > 0 && line != ".\r\n" {
                    session.mail += &line;
                    line.clear();
                }
                let end = behaviour.answers.iter().find(|(at, _)| *at == ".");
                write!(wire.get_mut(), "{}\r\n", end.map_or("250 queued as 17", |(_, said)| said))?;
                wire.get_mut().flush()?;
            }
            _ => {}
        }
        heard.clear();
        if wire.read_line(&mut heard)? == 0 {
            return Ok(());
        }
        heard.truncate(heard.trim_end().len());
        let said = if encrypted { &mut session.secret } else { &mut session.clear };
        said.push(heard.clone());
    }
}

fn target(port: u16, tls: SmtpTls) -> SmtpTarget {
    SmtpTarget {
        server: "127.0.0.1".to_owned(),
        port,
        tls,
        user: None,
        from: "provault@example.org".to_owned(),
        to: "ops@example.org".to_owned(),
        ca_file: None,
    }
}

fn context() -> DeliveryContext {
    DeliveryContext {
        delivery_id: "delivery-1".to_owned(),
        topic_arn: "arn:aws:sns:us-east-1:111122223333:alerts".parse().unwrap(),
        at: "2026-08-02T18:46:02.788Z".parse().unwrap(),
        now: "2026-08-02T19:00:00Z".parse().unwrap(),
        subscription_id: "sub-1".to_owned(),
        account: "111122223333".parse().unwrap(),
        time_limit: DEFAULT_TIME_LIMIT,
    }
}

/// For servers that never answer: short, so that the test is; its length decides nothing.
fn hurried() -> DeliveryContext {
    DeliveryContext { time_limit: Duration::from_millis(500), ..context() }
}

fn message() -> Message {
    Message {
        subject: "Notification from AWS Backup".to_owned(),
        text: "An AWS Backup job failed.\n.\nReason: no space.".to_owned(),
        attributes: [].into(),
    }
}

fn send(target: SmtpTarget, context: &DeliveryContext) -> Result<Receipt, DeliveryError> {
    let password = target.user.is_some().then_some(PASSWORD);
    let sent = deliver(&SubscriptionTarget::Smtp(Box::new(target)), password, &message(), context);
    if let Err(error) = &sent {
        assert!(!error.message.contains(PASSWORD), "{error}");
        assert!(!error.message.contains(SIGNED_IN), "{error}");
    }
    sent
}

#[allow(clippy::unnecessary_wraps)] // As the setting is.
fn user() -> Option<String> {
    Some("me".to_owned())
}

#[test]
fn a_mail_goes_over_starttls_with_a_password() {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::of("127.0.0.1", directory.path());
    let ca_file = identity.ca_file();
    let (port, server) = server(STARTTLS, Some(identity));
    let target = SmtpTarget { user: user(), ca_file, ..target(port, SmtpTls::Starttls) };
    let receipt = send(target, &context()).unwrap();
    assert!(receipt.detail.starts_with("250 from 127.0.0.1:"), "{}", receipt.detail);
    assert!(receipt.detail.contains("queued as 17"), "{}", receipt.detail);
    let session = server.join().unwrap();
    assert_eq!(session.clear.len(), 2, "{session:?}");
    assert!(session.clear[0].starts_with("EHLO "), "{session:?}");
    assert_eq!(session.clear[1], "STARTTLS", "nothing more in clear");
    let said: Vec<&str> = session.secret.iter().skip(1).map(String::as_str).collect();
    let signed_in = format!("AUTH PLAIN {SIGNED_IN}");
    assert_eq!(
        said,
        [
            signed_in.as_str(),
            "MAIL FROM:<provault@example.org>",
            "RCPT TO:<ops@example.org>",
            "DATA",
            "QUIT"
        ]
    );
    for line in [
        "From: provault@example.org\r\n",
        "To: ops@example.org\r\n",
        "Subject: Notification from AWS Backup\r\n",
        "Date: Sun, 02 Aug 2026 18:46:02 +0000\r\n",
        "Message-ID: <delivery-1@provault.localhost>\r\n",
        "X-Provault-Account: 111122223333\r\n",
        // A line that is a full stop would end the mail.
        "\r\n\r\nAn AWS Backup job failed.\r\n..\r\nReason: no space.\r\n",
    ] {
        assert!(session.mail.contains(line), "{line:?} is not in {}", session.mail);
    }
}

#[test]
fn a_mail_goes_over_implicit_tls_and_in_clear_to_this_machine() {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::of("127.0.0.1", directory.path());
    let ca_file = identity.ca_file();
    let (port, tls) = server(Behaviour { implicit: true, ..PLAIN }, Some(identity));
    send(SmtpTarget { ca_file, ..target(port, SmtpTls::Implicit) }, &context()).unwrap();
    let session = tls.join().unwrap();
    assert!(session.clear.is_empty() && session.mail.contains("no space"), "{session:?}");

    let (port, clear) = server(PLAIN, None);
    send(target(port, SmtpTls::None), &context()).unwrap();
    let session = clear.join().unwrap();
    assert!(session.secret.is_empty() && session.mail.contains("no space"), "{session:?}");
}

#[test]
fn without_starttls_nothing_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::of("127.0.0.1", directory.path());
    let (port, server) = server(PLAIN, None);
    let target =
        SmtpTarget { user: user(), ca_file: identity.ca_file(), ..target(port, SmtpTls::Starttls) };
    let error = send(target, &context()).unwrap_err();
    assert!(error.retryable && error.message.contains("does not offer STARTTLS"), "{error}");
    let session = server.join().unwrap();
    assert_eq!(session.clear.len(), 1, "only the greeting: {session:?}");
}

#[test]
fn a_certificate_of_somebody_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let trusted = Identity::of("127.0.0.1", directory.path()).ca_file();
    let other_name = Identity::of("mail.example.org", directory.path());
    let other_file = other_name.ca_file();
    std::fs::create_dir(directory.path().join("other")).unwrap();
    let cases = [
        // Another authority, no authority of ours at all, and another host's name.
        (Identity::of("127.0.0.1", &directory.path().join("other")), trusted),
        (Identity::of("127.0.0.1", &directory.path().join("other")), None),
        (other_name, other_file),
    ];
    for (identity, ca_file) in cases {
        for tls in [SmtpTls::Starttls, SmtpTls::Implicit] {
            let implicit = tls == SmtpTls::Implicit;
            let copy = Identity { config: Arc::clone(&identity.config), file: PathBuf::new() };
            let (port, server) =
                server(Behaviour { implicit, starttls: !implicit, ..PLAIN }, Some(copy));
            let target = SmtpTarget { user: user(), ca_file: ca_file.clone(), ..target(port, tls) };
            let error = send(target, &context()).unwrap_err();
            assert!(error.retryable && error.message.contains("certificate"), "{error}");
            let session = server.join().unwrap();
            assert!(session.secret.is_empty() && session.mail.is_empty(), "{session:?}");
        }
    }
}

#[test]
fn a_file_of_authorities_that_is_none_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    for (file, why) in
        [(directory.path().join("none.pem"), "No such file"), (empty, "holds no PEM certificate")]
    {
        let file = file.to_str().unwrap().to_owned();
        // Nobody listens there, and nobody needs to.
        let target = SmtpTarget { ca_file: Some(file.clone()), ..target(1, SmtpTls::Implicit) };
        let error = send(target, &context()).unwrap_err();
        assert!(error.message.contains(&file) && error.message.contains(why), "{error}");
    }
}

#[test]
fn a_refusal_is_final_with_5xx_and_not_with_4xx() {
    type Case = (&'static [(&'static str, &'static str)], bool, &'static str);
    const CASES: [Case; 7] = [
        (&[("MAIL", "550 5.7.1 not from you")], false, "not from you"),
        (&[("RCPT", "550 5.1.1 nobody of that name")], false, "nobody of that name"),
        (&[("RCPT", "450 4.2.1 come back later")], true, "come back later"),
        (&[("DATA", "554 no")], false, "554"),
        (&[(".", "552 5.3.4 too big")], false, "too big"),
        (&[(".", "451 4.3.0 disk full")], true, "disk full"),
        (&[("", "421 too busy")], true, "too busy"),
    ];
    for (answers, retryable, said) in CASES {
        let (port, server) = server(Behaviour { answers, ..PLAIN }, None);
        let error = send(target(port, SmtpTls::None), &context()).unwrap_err();
        assert_eq!(error.retryable, retryable, "{error}");
        assert!(error.message.contains(said), "{error}");
        server.join().unwrap();
    }
}

#[test]
fn a_wrong_password_is_final_and_is_not_repeated() {
    const CASES: [(&[(&str, &str)], bool); 3] = [
        (&[("AUTH", "535 no: AG1lAHMzY3JldC1wYXNz")], false),
        (&[("AUTH", "454 try later: s3cret-pass")], true),
        (&[("EHLO", "250 no way to sign in")], true),
    ];
    for (answers, retryable) in CASES {
        let (port, server) = server(Behaviour { answers, ..PLAIN }, None);
        let target = SmtpTarget { user: user(), ..target(port, SmtpTls::None) };
        let error = send(target, &context()).unwrap_err();
        assert_eq!(error.retryable, retryable, "{error}");
        assert!(server.join().unwrap().mail.is_empty());
    }
}

#[test]
fn a_server_that_hangs_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    for silent_at in ["", "EHLO", "STARTTLS", "MAIL", "DATA"] {
        let identity = Identity::of("127.0.0.1", directory.path());
        let ca_file = identity.ca_file();
        let behaviour = Behaviour { silent_at: Some(silent_at), ..STARTTLS };
        let (port, server) = server(behaviour, Some(identity));
        let target = SmtpTarget { ca_file, ..target(port, SmtpTls::Starttls) };
        let error = send(target, &hurried()).unwrap_err();
        assert!(error.retryable, "{silent_at}: {error}");
        assert!(error.message.contains("within 500 ms"), "{silent_at}: {error}");
        // It hears that the client let go.
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_drips_is_given_up() {
    // Each byte comes soon, the end never: only a limit on the whole helps.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(b"2").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let error = send(target(port, SmtpTls::None), &hurried()).unwrap_err();
    assert!(error.retryable && error.message.contains("within 500 ms"), "{error}");
    server.join().unwrap();
}

#[test]
fn a_server_that_has_the_mail_and_hangs_has_the_mail() {
    let behaviour = Behaviour { silent_at: Some("QUIT"), ..PLAIN };
    let (port, server) = server(behaviour, None);
    send(target(port, SmtpTls::None), &context()).unwrap();
    assert!(server.join().unwrap().mail.contains("no space"));
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = send(target(port, SmtpTls::None), &context()).unwrap_err();
    assert!(error.retryable && error.message.contains("cannot be handed"), "{error}");
}
