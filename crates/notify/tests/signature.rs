//! Signed webhooks, against a receiver in Python that verifies them as the documentation says.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use provault_domain::SubscriptionTarget;
use provault_notify::{
    DEFAULT_TIME_LIMIT, DeliveryContext, DeliveryError, Message, Receipt, deliver,
};

const SECRET: &str = "5f0c3a52b9d84e0e9a1d7c6b2f4e8a90";

/// What the receiver does with the function of the documentation: 204 for what it takes, 401 for
/// what it refuses, 500 where it takes something that was changed.
const RECEIVER: &str = r#"
import http.server, sys

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 204 if verify(sys.argv[1], self.headers, body) else 401
        if verify(sys.argv[1], self.headers, body + b" ") or verify("", self.headers, body):
            status = 500
        self.send_response(status)
        self.end_headers()

    def log_message(self, *args):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// The Python of the how-to: the indented block that begins with an import.
fn documented() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/how-to/notifications.md");
    let page = std::fs::read_to_string(path).unwrap();
    let block: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("    import "))
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .collect();
    assert!(block.iter().any(|line| line.starts_with("def verify(")), "{block:#?}");
    block.join("\n")
}

struct Receiver {
    child: Child,
    url: String,
}

impl Receiver {
    fn start() -> Self {
        let program = documented() + RECEIVER;
        let mut child = Command::new("python3")
            .args(["-c", &program, SECRET])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 must be installed: it is the receiver of this test");
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let url = format!("http://127.0.0.1:{}/hook", port.trim());
        Self { child, url }
    }

    fn post(&self, secret: Option<&str>, now: Timestamp) -> Result<Receipt, DeliveryError> {
        let context = DeliveryContext {
            delivery_id: "delivery-1".to_owned(),
            topic_arn: "arn:aws:sns:us-east-1:111122223333:alerts".parse().unwrap(),
            // The event is old, as in a retry after a night; only the try's moment is signed.
            at: "2026-08-02T18:46:02.788Z".parse().unwrap(),
            now,
            subscription_id: "sub-1".to_owned(),
            account: "111122223333".parse().unwrap(),
            time_limit: DEFAULT_TIME_LIMIT,
        };
        let message = Message {
            subject: "Notification from AWS Backup".to_owned(),
            text: "An AWS Backup job failed.\nReason: \"é\".".to_owned(),
            attributes: [].into(),
        };
        let target = SubscriptionTarget::Webhook { url: self.url.clone() };
        deliver(&target, secret, &message, &context)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_receiver_of_the_documentation_takes_what_is_signed_and_nothing_else() {
    let receiver = Receiver::start();
    let now = Timestamp::now();
    let receipt = receiver.post(Some(SECRET), now).unwrap();
    assert!(receipt.detail.starts_with("HTTP 204"), "{}", receipt.detail);
    let hour = SignedDuration::from_hours(1);
    for (secret, at) in [
        (None, now),
        (Some("5f0c3a52b9d84e0e9a1d7c6b2f4e8a91"), now),
        (Some(SECRET), now - hour),
        (Some(SECRET), now + hour),
    ] {
        let error = receiver.post(secret, at).unwrap_err();
        assert!(error.message.contains("HTTP 401"), "{secret:?} at {at}: {error}");
        assert!(!error.message.contains(SECRET), "{error}");
    }
}
