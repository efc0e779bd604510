//! HTTP for the `object_store` crate, by the client that the rest of the program uses.
//!
//! The crate's own transport would bring in another TLS library and an async client with a
//! runtime. Ours blocks in the thread that waits for the answer anyway.

use std::error::Error;
use std::io::Read as _;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpService,
};
use ureq::http::{Method, Response, StatusCode, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, AsSendBody, Body};

use super::{StorageError, StorageErrorKind, StorageOptions};

/// Answers whose length is not known beforehand (listings, whole objects) are no larger than this,
/// in bytes.
const LARGEST: u64 = 256 << 20;
/// Answers to what is no reading are no larger than this, in bytes.
const LARGEST_RECEIPT: u64 = 16 << 20;
/// Of the body of a refusal, so many bytes are worth telling.
const TELLING: usize = 4096;

/// Why a request failed, in the words that the repository understands.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Trouble {
    pub(super) kind: StorageErrorKind,
    pub(super) message: String,
}

impl Trouble {
    /// The trouble at the bottom of an error, if there is one.
    pub(super) fn beneath<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(trouble) = error.downcast_ref() {
                return Some(trouble);
            }
            next = error.source();
        }
        None
    }

    fn into_error(self) -> HttpError {
        // Never one that the crate would try again by itself.
        HttpError::new(HttpErrorKind::Unknown, self)
    }
}

/// Sends requests; clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Http {
    agent: Agent,
    options: StorageOptions,
}

impl Http {
    /// A client that trusts the public authorities, or those in a PEM file.
    pub(super) fn new(options: &StorageOptions) -> Result<Self, StorageError> {
        let roots = match options.s3.get("AWS_CA_BUNDLE") {
            None => RootCerts::WebPki,
            Some(path) => authorities(path).map_err(|message| {
                StorageError::new("open", path, StorageErrorKind::Invalid, message)
            })?,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would need another signature; the crate tells what it means.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(options.timeout.min(Duration::from_secs(20))))
            .timeout_per_read(Some(options.timeout))
            .timeout_per_write(Some(options.timeout))
            .max_idle_connections_per_host(64)
            .user_agent(concat!("provault/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(Self { agent: config.new_agent(), options: options.clone() })
    }

    fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        let body = whole(body)?;
        // Both would be told twice.
        parts.headers.remove(header::CONTENT_LENGTH);
        let method = parts.method.clone();
        let range = asked_range(&parts.headers);
        let most = range.unwrap_or(if method == Method::GET { LARGEST } else { LARGEST_RECEIPT });
        let expected = if method == Method::GET { most.min(LARGEST) } else { 0 };
        let deadline = self.options.deadline(body.len() as u64 + expected);
        let sends = !body.is_empty() || [Method::PUT, Method::POST].contains(&method);
        let answered = if sends {
            let request = ureq::http::Request::from_parts(parts, &body[..]);
            self.run(request, deadline)
        } else {
            let request = ureq::http::Request::from_parts(parts, ());
            self.run(request, deadline)
        };
        let response = answered.map_err(|error| trouble(&error).into_error())?;
        receive(response, &method, most)
    }
}

impl Http {
    fn run(
        &self,
        request: ureq::http::Request<impl AsSendBody>,
        deadline: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let configured = self.agent.configure_request(request).timeout_global(Some(deadline));
        self.agent.run(configured.build())
    }
}

impl HttpConnector for Http {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Http {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.send(request) })
    }
}

fn authorities(path: &str) -> Result<RootCerts, String> {
    let pem = std::fs::read(path).map_err(|error| format!("AWS_CA_BUNDLE: {error}"))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        let item = item.map_err(|error| format!("AWS_CA_BUNDLE: {error}"))?;
        if let PemItem::Certificate(certificate) = item {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err("AWS_CA_BUNDLE: there is no certificate in it".to_owned());
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// The request's body in one piece, without a copy when it is one already.
fn whole(body: HttpRequestBody) -> Result<Bytes, HttpError> {
    let mut body = pin!(body);
    let mut context = Context::from_waker(Waker::noop());
    let mut pieces = Vec::new();
    // It lies in memory, so it is always ready.
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut context) {
        if let Ok(piece) = frame?.into_data() {
            pieces.push(piece);
        }
    }
    if pieces.len() == 1 {
        return Ok(pieces.remove(0));
    }
    let mut all = BytesMut::new();
    for piece in pieces {
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// How many bytes a request asks for, if it says so.
fn asked_range(headers: &header::HeaderMap) -> Option<u64> {
    let range = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
    let (first, last) = range.split_once('-')?;
    last.parse::<u64>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
}

/// Reads the answer to its end, but no more than was asked for, and sorts out those that tell of
/// trouble.
fn receive(
    response: Response<Body>,
    method: &Method,
    most: u64,
) -> Result<HttpResponse, HttpError> {
    let (parts, body) = response.into_parts();
    let success = parts.status.is_success();
    // A refusal may be as long as it likes; nobody reads it to its end.
    let most = if success { most } else { TELLING as u64 };
    let mut content = Vec::new();
    if *method != Method::HEAD {
        let body = body.into_with_config().limit(u64::MAX).reader();
        let read = body.take(most.saturating_add(1)).read_to_end(&mut content);
        read.map_err(|error| trouble(&error.into()).into_error())?;
    }
    if success && content.len() as u64 > most {
        let message = format!("the server sends more than the {most} bytes that it may");
        return Err(Trouble { kind: StorageErrorKind::Other, message }.into_error());
    }
    let status = parts.status;
    if success {
        return Ok(HttpResponse::from_parts(parts, content.into()));
    }
    let told = told(&content);
    let code = told.split(':').next().unwrap_or_default();
    let busy = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
        // Somebody else is at this very name: afterwards it is there or not.
        || status == StatusCode::CONFLICT
        || ["RequestTimeout", "SlowDown"].contains(&code);
    let full = status == StatusCode::INSUFFICIENT_STORAGE
        || ["StorageFull", "QuotaExceeded"].iter().any(|word| code.contains(word));
    // Told here for all operations alike: the crate knows it of some of them alone.
    let denied = [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED].contains(&status);
    let kind = match (full, busy) {
        (true, _) => StorageErrorKind::NoSpace,
        (false, true) => StorageErrorKind::Unavailable,
        (false, false) => StorageErrorKind::PermissionDenied,
    };
    if full || busy || denied {
        let told = if told.is_empty() { String::new() } else { format!(", {told}") };
        let message = format!("the server answers {status}{told}");
        return Err(Trouble { kind, message }.into_error());
    }
    Ok(HttpResponse::from_parts(parts, told.into()))
}

/// `Code: Message` from the XML of a refusal, or its first words.
fn told(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(&content[..content.len().min(TELLING)]);
    let between = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.to_owned())
    };
    match (between("Code"), between("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        _ => text.chars().take(200).collect(),
    }
}

/// Which of the client's errors pass by themselves.
fn trouble(error: &ureq::Error) -> Trouble {
    let kind = match error {
        ureq::Error::Timeout(_) => StorageErrorKind::TimedOut,
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::TimedOut => {
            StorageErrorKind::TimedOut
        }
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            // rustls refuses the server's certificate.
            StorageErrorKind::Other
        }
        ureq::Error::Io(_)
        | ureq::Error::ConnectionFailed
        | ureq::Error::HostNotFound
        | ureq::Error::Protocol(_) => StorageErrorKind::Unavailable,
        _ => StorageErrorKind::Other,
    };
    Trouble { kind, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_in_short() {
        let xml = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Not so fast.\
            </Message></Error>";
        assert_eq!(told(xml), "SlowDown: Not so fast.");
        assert_eq!(told(b"<Error><Code>AccessDenied</Code></Error>"), "AccessDenied");
        assert_eq!(told(&[b'x'; 9999]).len(), 200);
        assert_eq!(told(b""), "");
    }

    #[test]
    fn a_request_says_how_much_it_asks_for() {
        let mut headers = header::HeaderMap::new();
        assert_eq!(asked_range(&headers), None);
        headers.insert(header::RANGE, "bytes=100-1123".parse().unwrap());
        assert_eq!(asked_range(&headers), Some(1024));
        headers.insert(header::RANGE, "bytes=0-18446744073709551615".parse().unwrap());
        assert_eq!(asked_range(&headers), None);
    }

    /// A body that never ends.
    fn endless(status: u16) -> Response<Body> {
        let body = Body::builder().reader(std::io::repeat(b'x'));
        Response::builder().status(status).body(body).unwrap()
    }

    #[test]
    fn no_more_is_received_than_was_asked_for() {
        let sends = |bytes: &[u8]| Response::new(Body::builder().data(bytes));
        let received = receive(sends(&[7; 1000]), &Method::GET, 1000).unwrap();
        assert_eq!(received.status(), StatusCode::OK);
        for answer in [sends(&[7; 1001]), endless(206)] {
            let error = receive(answer, &Method::GET, 1000).unwrap_err();
            let trouble = Trouble::beneath(&error).unwrap();
            assert_eq!(trouble.kind, StorageErrorKind::Other);
            assert!(trouble.message.contains("1000 bytes"), "{trouble}");
        }
        // What it refuses, it refuses, in however many words.
        assert_eq!(receive(endless(404), &Method::GET, 10).unwrap().status(), 404);
        let error = receive(endless(503), &Method::GET, 10).unwrap_err();
        assert_eq!(Trouble::beneath(&error).unwrap().kind, StorageErrorKind::Unavailable);
    }
}
