//! A signed JSON client.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use provault_iam::{Credentials, CredentialsFile, SignedRequest, sign};
use serde_json::Value;
use ureq::http::header::{CONTENT_TYPE, HOST};
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Response};
use ureq::{Agent, Body};

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, as it came.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null when it is empty.
    pub fn json(&self) -> Value {
        if self.text.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text))
    }

    /// The error's name, as clients take it: from the header.
    pub fn error(&self) -> &str {
        self.headers.get("x-amzn-errortype").map_or("", |value| value.to_str().unwrap())
    }
}

/// A client with one access key.
#[derive(Clone)]
pub struct Api {
    origin: String,
    region: String,
    credentials: Credentials,
    agent: Agent,
}

impl Api {
    /// Server and key as the data directory has them.
    pub fn of_data_dir(data_dir: &Path) -> Self {
        let text = fs::read_to_string(data_dir.join("server.json")).unwrap();
        let announced: Value = serde_json::from_str(&text).unwrap();
        let file = CredentialsFile::load(data_dir.join("credentials")).unwrap();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(100)))
            .build();
        Self {
            origin: announced["Endpoint"].as_str().unwrap().to_owned(),
            region: announced["Region"].as_str().unwrap().to_owned(),
            credentials: file.profile("default").unwrap(),
            agent: config.into(),
        }
    }

    /// Sends bytes. `target` is path and query, encoded. An error is one of the connection.
    pub fn send(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
    ) -> Result<Answer, ureq::Error> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let host = self.origin.trim_start_matches("http://");
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = SignedRequest {
            method: &method,
            raw_path: path,
            raw_query: query,
            headers: &headers,
            body: body.unwrap_or_default(),
        };
        let now = jiff::Timestamp::now();
        let signed = sign(&request, &self.credentials, &self.region, now).unwrap();
        let mut builder = Request::builder().method(method).uri(format!("{}{target}", self.origin));
        for (name, value) in headers.iter().chain(&signed) {
            builder = builder.header(name, value);
        }
        let answer: Response<Body> = match body {
            Some(body) => self.agent.run(builder.body(body).unwrap())?,
            None => self.agent.run(builder.body(()).unwrap())?,
        };
        let (parts, mut body) = answer.into_parts();
        let text = body.read_to_string()?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, text })
    }

    /// Sends JSON and takes whatever comes back.
    pub fn call(&self, method: &str, target: &str, body: Option<&Value>) -> Answer {
        let bytes = body.map(|body| body.to_string().into_bytes());
        self.send(method, target, bytes.as_deref())
            .unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    fn succeed(&self, method: &str, target: &str, body: Option<&Value>) -> Value {
        let answer = self.call(method, target, body);
        let Answer { status, text, .. } = &answer;
        assert!((200..300).contains(status), "{method} {target} {body:?}: {status} {text}");
        answer.json()
    }

    /// `GET` that must succeed.
    pub fn get(&self, target: &str) -> Value {
        self.succeed("GET", target, None)
    }

    /// `PUT` that must succeed.
    pub fn put(&self, target: &str, body: &Value) -> Value {
        self.succeed("PUT", target, Some(body))
    }

    /// `POST` that must succeed.
    pub fn post(&self, target: &str, body: &Value) -> Value {
        self.succeed("POST", target, Some(body))
    }

    /// `DELETE` that must succeed.
    pub fn delete(&self, target: &str) -> Value {
        self.succeed("DELETE", target, None)
    }
}

/// Encodes one segment of a path, or one value of a query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
    }
    encoded
}
