//! A tiny HTTP server that verifies every signature and plays a script.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use provault_iam::{AccessKey, Credentials, KeyStatus, Principal, Secret, SignedRequest, verify};
use serde_json::Value;

pub(super) const REGION: &str = "eu-test-1";

pub(super) fn credentials() -> Credentials {
    Credentials {
        access_key_id: "AKIATESTTESTTESTTEST".to_owned(),
        secret_access_key: Secret::new("a/secret+of=forty"),
        session_token: None,
    }
}

/// What the server does with one request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// A whole answer.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// Reads the request and closes the connection.
    Hangup,
    /// Answers, and closes the connection afterwards without having said so.
    AnswerThenClose,
    /// Promises a body and closes the connection in the middle of it.
    Half,
}

pub(super) fn ok(body: &Value) -> Reply {
    Reply::Answer { status: 200, headers: Vec::new(), body: body.to_string() }
}

pub(super) fn error(status: u16, name: &str, message: &str) -> Reply {
    let body = serde_json::json!({ "Code": name, "Message": message }).to_string();
    let headers =
        vec![("x-amzn-ErrorType", name.to_owned()), ("x-amzn-RequestId", "req-1".to_owned())];
    Reply::Answer { status, headers, body }
}

/// A request as it came, with the verdict on its signature.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: String,
    /// The region signed for.
    pub signed: Result<String, String>,
}

impl Request {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn line(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("{} {}{mark}{}", self.method, self.path, self.query)
    }
}

type Handler = dyn FnMut(&Request) -> Reply + Send;

pub(super) struct Server {
    pub endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
    closed: Arc<AtomicUsize>,
}

impl Server {
    /// A server that asks `handler` for every reply. It ends with the test's process.
    pub fn start(handler: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let handler: Arc<Mutex<Handler>> = Arc::new(Mutex::new(handler));
        let (requests, closed) = (Arc::default(), Arc::default());
        let server =
            Self { endpoint, requests: Arc::clone(&requests), closed: Arc::clone(&closed) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen, closed) =
                    (Arc::clone(&handler), Arc::clone(&requests), Arc::clone(&closed));
                thread::spawn(move || {
                    serve(&stream, &seen, &handler);
                    drop(stream);
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    /// Waits until the server has closed so many connections.
    pub fn wait_until_closed(&self, count: usize) {
        while self.closed.load(Ordering::SeqCst) < count {
            thread::yield_now();
        }
    }

    /// A server that gives these replies one after the other, and 500 after the last.
    pub fn script(replies: Vec<Reply>) -> Self {
        let mut replies = replies.into_iter();
        Self::start(move |_| {
            replies.next().unwrap_or_else(|| error(500, "InternalFailure", "script is over"))
        })
    }

    /// All requests so far. Every one must have been signed rightly.
    pub fn requests(&self) -> Vec<Request> {
        let requests = self.requests.lock().unwrap().clone();
        for request in &requests {
            assert_eq!(request.signed.as_deref(), Ok(REGION), "{}", request.line());
        }
        requests
    }

    /// The regions that the requests so far were signed for, rightly.
    pub fn regions(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|request| request.signed.clone().unwrap()).collect()
    }

    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }
}

/// Answers on one connection for as long as both keep it open.
fn serve(stream: &TcpStream, seen: &Mutex<Vec<Request>>, handler: &Mutex<Handler>) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(request) = read(&mut reader) {
        let reply = handler.lock().unwrap()(&request);
        seen.lock().unwrap().push(request);
        let (text, close) = match reply {
            Reply::Hangup => return,
            Reply::Half => ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"Ba".to_owned(), true),
            Reply::AnswerThenClose => {
                ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned(), true)
            }
            Reply::Answer { status, headers, body } => {
                let mut lines = String::new();
                for (name, value) in headers {
                    lines += name;
                    lines += ": ";
                    lines += &value;
                    lines += "\r\n";
                }
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{lines}");
                (format!("{head}\r\n{body}"), false)
            }
        };
        if writer.write_all(text.as_bytes()).is_err() || close {
            return;
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HeaderMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value.trim()).unwrap(),
        );
    }
    let length = headers.get("content-length").map_or(0, |v| v.to_str().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let signed = verify(
        &SignedRequest {
            method: &Method::from_bytes(method.as_bytes()).unwrap(),
            raw_path: path,
            raw_query: query,
            headers: &headers,
            body: &body,
        },
        |id| (id == credentials().access_key_id).then(key),
        Timestamp::now(),
    );
    Some(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        body: String::from_utf8(body).unwrap(),
        signed: signed.map(|verified| verified.region).map_err(|error| error.to_string()),
    })
}

fn key() -> AccessKey {
    let Credentials { access_key_id, secret_access_key, .. } = credentials();
    AccessKey {
        access_key_id,
        secret: secret_access_key,
        principal: Principal::root("123456789012").unwrap(),
        created_at: Timestamp::UNIX_EPOCH,
        status: KeyStatus::Active,
        session: None,
    }
}
