//! Publishing to Amazon SNS, against a small server in its place.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use provault_domain::{SnsTarget, SubscriptionTarget};
use provault_iam::{Credentials, Secret, SignedRequest, sign_for};
use provault_notify::{
    DEFAULT_TIME_LIMIT, DeliveryContext, DeliveryError, Message, Receipt, deliver,
};

const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:backups";

struct Request {
    line: String,
    headers: HeaderMap,
    body: String,
}

impl Request {
    fn form(&self) -> BTreeMap<String, String> {
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
        };
        let pairs = self.body.split('&').map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(name, value)| (decode(name), decode(value))).collect()
    }
}

/// Takes one request and answers it.
fn service(status: &str, body: &str) -> (String, JoinHandle<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
    let handle = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut headers) = (String::new(), HeaderMap::new());
        reader.read_line(&mut line).unwrap();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let length = headers["content-length"].to_str().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        let body = String::from_utf8(body).unwrap();
        Request { line: line.trim_end().to_owned(), headers, body }
    });
    (url, handle)
}

fn publish(url: &str, topic: &str, message: &Message) -> Result<Receipt, DeliveryError> {
    let target = SubscriptionTarget::Sns(SnsTarget {
        topic_arn: topic.to_owned(),
        access_key_id: ID.to_owned(),
        endpoint: Some(url.to_owned()),
    });
    target.validate().unwrap();
    let context = DeliveryContext {
        delivery_id: "6f1c9f3e-0000-4000-8000-000000000001".to_owned(),
        topic_arn: "arn:aws:sns:us-east-1:111122223333:alerts".parse().unwrap(),
        at: "2026-08-02T18:46:02Z".parse().unwrap(),
        now: "2026-08-02T19:00:00Z".parse().unwrap(),
        subscription_id: "sub-1".to_owned(),
        account: "111122223333".parse().unwrap(),
        time_limit: DEFAULT_TIME_LIMIT,
    };
    deliver(&target, Some(SECRET), message, &context)
}

fn message() -> Message {
    let attributes = [("State", "FAILED"), ("Id", ""), ("EventType", "BACKUP_JOB")];
    Message {
        subject: "Nötification".to_owned(),
        text: "A job failed: 100 % & a=b + é\nReason: none.".to_owned(),
        attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

const DONE: &str = "<PublishResponse><PublishResult><MessageId>m-1</MessageId></PublishResult>\
                    </PublishResponse>";

#[test]
fn what_arrives_is_the_message_signed_as_a_whole() {
    let (url, handle) = service("200 OK", DONE);
    let receipt = publish(&url, TOPIC, &message()).unwrap();
    assert!(receipt.detail.contains("m-1"), "{}", receipt.detail);
    let request = handle.join().unwrap();
    assert_eq!(request.line, "POST / HTTP/1.1");
    let expected = [
        ("Action", "Publish"),
        ("Version", "2010-03-31"),
        ("TopicArn", TOPIC),
        // Only printable ASCII is allowed there.
        ("Subject", "N?tification"),
        ("Message", "A job failed: 100 % & a=b + é\nReason: none."),
        ("MessageAttributes.entry.1.Name", "EventType"),
        ("MessageAttributes.entry.1.Value.DataType", "String"),
        ("MessageAttributes.entry.1.Value.StringValue", "BACKUP_JOB"),
        ("MessageAttributes.entry.2.Name", "State"),
        ("MessageAttributes.entry.2.Value.DataType", "String"),
        ("MessageAttributes.entry.2.Value.StringValue", "FAILED"),
    ];
    let expected: BTreeMap<String, String> =
        expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(request.form(), expected);

    // Signed anew over what arrived, with the headers that say they are signed.
    let authorization = request.headers["authorization"].to_str().unwrap().to_owned();
    let (_, signed) = authorization.split_once("SignedHeaders=").unwrap();
    let (signed, _) = signed.split_once(',').unwrap();
    assert_eq!(signed, "content-type;host;x-amz-date");
    let mut headers = request.headers.clone();
    let others: Vec<HeaderName> = headers
        .keys()
        .filter(|name| !signed.split(';').any(|s| s == name.as_str()))
        .cloned()
        .collect();
    for name in others {
        headers.remove(name);
    }
    let again = SignedRequest {
        method: &Method::POST,
        raw_path: "/",
        raw_query: "",
        headers: &headers,
        body: request.body.as_bytes(),
    };
    let credentials = Credentials {
        access_key_id: ID.to_owned(),
        secret_access_key: Secret::new(SECRET),
        session_token: None,
    };
    let now = "2026-08-02T19:00:00Z".parse().unwrap();
    let expected = sign_for("sns", &again, &credentials, "eu-central-1", now).unwrap();
    assert_eq!(expected["authorization"], authorization.as_str());
    assert!(authorization.contains("/20260802/eu-central-1/sns/aws4_request"), "{authorization}");
}

#[test]
fn a_topic_with_an_order_gets_a_group_and_an_id_that_a_retry_has_too() {
    let (url, handle) = service("200 OK", DONE);
    publish(&url, &format!("{TOPIC}.fifo"), &message()).unwrap();
    let form = handle.join().unwrap().form();
    assert_eq!(form["MessageGroupId"], "sub-1");
    assert_eq!(form["MessageDeduplicationId"], "6f1c9f3e-0000-4000-8000-000000000001");
}

#[test]
fn a_text_that_is_too_long_is_cut_and_says_so() {
    let (url, handle) = service("200 OK", DONE);
    let long = Message { text: "é".repeat(200 * 1024), ..message() };
    publish(&url, TOPIC, &long).unwrap();
    let text = handle.join().unwrap().form()["Message"].clone();
    assert!(text.len() < 256 * 1024, "{}", text.len());
    assert!(text.starts_with("éé") && text.ends_with("The jobs tell the rest.)"));
}

#[test]
fn what_passes_by_itself_is_tried_again_and_a_refusal_is_not() {
    let error = |code: &str| {
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>No such \
             luck</Message></Error></ErrorResponse>"
        )
    };
    for (status, code, again) in [
        ("500 Internal Server Error", "InternalError", true),
        ("503 Service Unavailable", "", true),
        ("429 Too Many Requests", "ThrottledException", true),
        ("400 Bad Request", "Throttling", true),
        ("400 Bad Request", "InvalidParameter", false),
        ("403 Forbidden", "SignatureDoesNotMatch", false),
        ("403 Forbidden", "AuthorizationError", false),
        ("404 Not Found", "NotFound", false),
    ] {
        let (url, handle) = service(status, &error(code));
        let failed = publish(&url, TOPIC, &message()).unwrap_err();
        handle.join().unwrap();
        assert_eq!(failed.retryable, again, "{status} {code}: {failed}");
        assert!(failed.message.contains("No such luck"), "{failed}");
        assert!(!failed.message.contains(SECRET), "{failed}");
    }
}

/// What listens there may be anything; what it says stands in quotation marks, on one line, or nowhere.
#[test]
fn a_code_or_an_id_that_is_none_is_not_repeated() {
    let long = "a".repeat(65);
    for word in ["two\nlines", "a <b>", "&quot;", "ünd", "", long.as_str()] {
        let answer = format!("<E><Code>{word}</Code><Message>No such luck</Message></E>");
        let (url, handle) = service("403 Forbidden", &answer);
        let failed = publish(&url, TOPIC, &message()).unwrap_err().message;
        handle.join().unwrap();
        assert!(failed.contains("answers HTTP 403 (\"No such luck\")."), "{word:?}: {failed}");

        let (url, handle) = service("200 OK", &format!("<MessageId>{word}</MessageId>"));
        let receipt = publish(&url, TOPIC, &message()).unwrap();
        handle.join().unwrap();
        assert!(receipt.detail.starts_with("SNS message unknown by "), "{}", receipt.detail);
    }
}

#[test]
fn a_service_that_is_not_there_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert!(publish(&url, TOPIC, &message()).unwrap_err().retryable);
}
