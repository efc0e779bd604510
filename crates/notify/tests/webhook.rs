//! Webhooks against a small server that behaves well, badly and not at all.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use provault_domain::SubscriptionTarget;
use provault_notify::{
    DEFAULT_TIME_LIMIT, DeliveryContext, DeliveryError, Message, Receipt, deliver,
};

struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

fn read_request(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Request { line: line.trim_end().to_owned(), headers, body: String::from_utf8(body).unwrap() }
}

/// Takes one connection, reads the request and then does as told.
fn server(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> (String, JoinHandle<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook/secret?x=1", listener.local_addr().unwrap());
    let handle = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_request(&stream);
        answer(&mut stream);
        request
    });
    (url, handle)
}

fn answering(status: &str) -> (String, JoinHandle<Request>) {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\nhello");
    server(move |stream| stream.write_all(text.as_bytes()).unwrap())
}

fn context() -> DeliveryContext {
    DeliveryContext {
        delivery_id: "6f1c9f3e-0000-4000-8000-000000000001".to_owned(),
        topic_arn: "arn:aws:sns:us-east-1:111122223333:alerts".parse().unwrap(),
        at: "2026-08-02T18:46:02.788999Z".parse().unwrap(),
        now: "2026-08-02T19:00:00Z".parse().unwrap(),
        subscription_id: "sub-1".to_owned(),
        account: "111122223333".parse().unwrap(),
        time_limit: DEFAULT_TIME_LIMIT,
    }
}

/// For servers that never answer: short, so that the test is; its length decides nothing.
fn hurried() -> DeliveryContext {
    DeliveryContext { time_limit: Duration::from_millis(300), ..context() }
}

fn message() -> Message {
    Message {
        subject: "Notification from AWS Backup".to_owned(),
        text: "An AWS Backup job failed.\nReason: \"é\".".to_owned(),
        attributes: [("State".to_owned(), "FAILED".to_owned())].into(),
    }
}

fn post(url: &str, context: &DeliveryContext) -> Result<Receipt, DeliveryError> {
    deliver(&SubscriptionTarget::Webhook { url: url.to_owned() }, None, &message(), context)
}

#[test]
fn the_receiver_gets_an_sns_envelope() {
    let (url, handle) = answering("200 OK");
    let receipt = post(&url, &context()).unwrap();
    let request = handle.join().unwrap();
    assert!(receipt.detail.starts_with("HTTP 200 from http://127.0.0.1:"), "{}", receipt.detail);
    assert_eq!(request.line, "POST /hook/secret?x=1 HTTP/1.1");
    for (name, value) in [
        ("x-amz-sns-message-type", "Notification"),
        ("x-amz-sns-message-id", "6f1c9f3e-0000-4000-8000-000000000001"),
        ("x-amz-sns-topic-arn", "arn:aws:sns:us-east-1:111122223333:alerts"),
        ("x-amz-sns-subscription-arn", "arn:aws:sns:us-east-1:111122223333:alerts:sub-1"),
        ("content-type", "text/plain; charset=UTF-8"),
    ] {
        assert_eq!(request.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "Type": "Notification",
            "MessageId": "6f1c9f3e-0000-4000-8000-000000000001",
            "TopicArn": "arn:aws:sns:us-east-1:111122223333:alerts",
            "Subject": "Notification from AWS Backup",
            "Message": "An AWS Backup job failed.\nReason: \"é\".",
            "Timestamp": "2026-08-02T18:46:02.788Z",
            "MessageAttributes": {"State": {"Type": "String", "Value": "FAILED"}},
        })
    );
}

#[test]
fn a_retry_is_the_same_request() {
    let send = || {
        let (url, handle) = answering("503 Busy");
        assert!(post(&url, &context()).unwrap_err().retryable);
        let request = handle.join().unwrap();
        (request.headers["x-amz-sns-message-id"].clone(), request.body)
    };
    assert_eq!(send(), send());
}

#[test]
fn statuses() {
    for status in ["200 OK", "201 Created", "202 Accepted"] {
        let (url, handle) = answering(status);
        post(&url, &context()).unwrap();
        handle.join().unwrap();
    }
    for (status, retryable) in [
        ("400 Bad Request", false),
        ("401 Unauthorized", false),
        ("403 Forbidden", false),
        ("404 Not Found", false),
        ("408 Request Timeout", true),
        ("410 Gone", false),
        ("425 Too Early", true),
        ("429 Too Many Requests", true),
        ("500 Internal Server Error", true),
        ("502 Bad Gateway", true),
        ("503 Service Unavailable", true),
        ("504 Gateway Timeout", true),
        ("600 Odd", false),
    ] {
        let (url, handle) = answering(status);
        let error = post(&url, &context()).unwrap_err();
        handle.join().unwrap();
        assert_eq!(error.retryable, retryable, "{status}");
        assert!(error.message.contains(&status[..3]), "{error}");
        assert!(error.message.contains("hello"), "what the receiver said: {error}");
        assert!(!error.message.contains("secret"), "{error}");
    }
}

#[test]
fn an_answer_without_a_body_will_do() {
    let (url, handle) =
        server(|stream| stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap());
    post(&url, &context()).unwrap();
    handle.join().unwrap();
}

#[test]
fn redirects_are_not_followed() {
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = elsewhere.local_addr().unwrap();
        let text = format!(
            "HTTP/1.1 {status}\r\nlocation: http://{address}/secret\r\ncontent-length: 0\r\n\r\n"
        );
        let (url, handle) = server(move |stream| stream.write_all(text.as_bytes()).unwrap());
        let error = post(&url, &context()).unwrap_err();
        handle.join().unwrap();
        assert!(!error.retryable, "{error}");
        assert!(error.message.contains("Redirects are not followed"), "{error}");
        assert!(error.message.contains(&address.to_string()), "{error}");
        assert!(!error.message.contains("secret"), "{error}");
        elsewhere.set_nonblocking(true).unwrap();
        assert_eq!(elsewhere.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "{status}");
    }
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/secret", listener.local_addr().unwrap());
    drop(listener);
    let error = post(&url, &context()).unwrap_err();
    assert!(error.retryable && error.message.contains("cannot be reached"), "{error}");
    assert!(!error.message.contains("secret"), "{error}");
}

#[test]
fn the_receiver_closes_early() {
    for part in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\ncontent-le", "garbage\r\n\r\n"] {
        let (url, handle) = server(move |stream| stream.write_all(part.as_bytes()).unwrap());
        let error = post(&url, &context()).unwrap_err();
        handle.join().unwrap();
        assert!(error.retryable, "{part:?}: {error}");
    }
}

#[test]
fn a_silent_receiver_is_given_up() {
    // Holds the connection until the other side lets go.
    let (url, handle) = server(|stream| {
        let _ = stream.read(&mut [0; 1]);
    });
    let error = post(&url, &hurried()).unwrap_err();
    handle.join().unwrap();
    assert!(error.retryable && error.message.contains("did not answer within 300 ms"), "{error}");
}

#[test]
fn a_receiver_that_drips_is_given_up() {
    // Each byte comes soon, the end never: only a limit on the whole helps.
    let (url, handle) = server(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let error = post(&url, &hurried()).unwrap_err();
    handle.join().unwrap();
    assert!(error.retryable, "{error}");
}

#[test]
fn an_endless_body_after_a_good_status_is_cut_off() {
    let (url, handle) = server(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        // Ends when the client has read its share and closed.
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    post(&url, &context()).unwrap();
    handle.join().unwrap();
}

#[test]
fn a_body_that_never_comes_does_not_undo_a_good_status() {
    let (url, handle) = server(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").unwrap();
        let _ = stream.read(&mut [0; 1]);
    });
    post(&url, &hurried()).unwrap();
    handle.join().unwrap();
}

#[test]
fn addresses_that_are_none() {
    for url in [
        "",
        "hook",
        "ftp://example.org/",
        "http://",
        "http:///secret",
        "http://exa mple.org/secret",
        "http://example.org/secret\r\nX-Forged: yes",
        "http://example.org:99999/secret",
    ] {
        let error = post(url, &context()).unwrap_err();
        assert!(!error.retryable, "{url:?}: {error}");
        assert!(!error.message.contains("secret"), "{error}");
    }
}

#[test]
fn headers_cannot_be_smuggled_in() {
    // Whatever the message holds stands in the body alone.
    let forged = Message {
        subject: "a\r\nX-Forged: yes\r\n\r\nbody".to_owned(),
        text: "b\r\nX-Forged: yes".to_owned(),
        attributes: [("N\r\nX-Forged".to_owned(), "v\r\nX-Forged: yes".to_owned())].into(),
    };
    let (url, handle) = answering("200 OK");
    deliver(&SubscriptionTarget::Webhook { url }, None, &forged, &context()).unwrap();
    let request = handle.join().unwrap();
    assert!(!request.headers.contains_key("x-forged"));
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body["Subject"], forged.subject);
    // The two parts of the context that become headers are refused instead.
    for bad in [
        DeliveryContext { delivery_id: "a\r\nX-Forged: yes".to_owned(), ..context() },
        DeliveryContext { subscription_id: "a\r\nX-Forged: yes".to_owned(), ..context() },
    ] {
        let error = post("http://127.0.0.1:1/", &bad).unwrap_err();
        assert!(!error.retryable, "{error}");
    }
}

/// However the address is written: `2852039166` is 169.254.169.254 to the system's resolver.
#[test]
fn nothing_is_sent_to_an_address_of_the_link() {
    for url in ["http://169.254.169.254:1/", "http://2852039166:1/latest", "http://[fe80::1]:1/"] {
        let error = post(url, &hurried()).unwrap_err();
        assert!(error.message.contains("link-local"), "{url}: {}", error.message);
    }
}
