//! The HTTP client: signs, sends, retries, reads errors, pages.

use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use http::{Method, Uri};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use provault_iam::{Credentials, SignedRequest, sign};
use provault_wire::{OperationInput, ServiceError, provault};
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use crate::discover;
use crate::environment::Environment;
use crate::error::{ApiError, CliError};
use crate::options::GlobalOptions;

/// How often a request that was certainly not carried out is sent again.
const RETRIES: u32 = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte sent to the last one received. No operation of the API waits for a job.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);
/// A page of a thousand jobs takes about a megabyte.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// A server that hands out tokens for ever is broken.
const MAX_PAGES: usize = 10_000;

/// All but the unreserved characters of RFC 3986, as the signature wants it.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A blocking client of one server.
///
/// Every request is signed with SigV4. A request that was certainly not carried out (connection
/// refused, 429, 503, throttling) is sent up to 3 times more, waiting longer each time; one whose
/// connection broke in the middle only where it is a GET, which changes nothing. Connecting may
/// take 5 seconds, a whole call 60.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    endpoint: String,
    authority: HeaderValue,
    /// The endpoint's own path, before that of every operation; without a slash at its end.
    prefix: String,
    credentials: Credentials,
    region: String,
    further_regions: Vec<String>,
    first_wait: Duration,
    endpoint_hint: String,
    credentials_from: Option<String>,
}

/// An answer: typed, and as it came.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// What it says.
    pub typed: T,
    /// The JSON as the server sent it, also what this program does not know.
    pub json: Value,
}

/// How one attempt ended without an answer.
enum Failure {
    /// No connection: nothing was done. Whether trying again may help.
    NotSent { why: String, again: bool },
    /// Something may have been done.
    Torn(String),
}

/// The certificates in a PEM file.
fn read_authorities(path: &Path) -> Result<RootCerts, CliError> {
    let wrong = |why: &dyn std::fmt::Display| {
        CliError::usage(format!("the authorities in {} cannot be used: {why}", path.display()))
    };
    let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(&error))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(wrong(&"there is no certificate in it"));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

impl Client {
    /// A client of the server at `endpoint` (`http://HOST:PORT` or `https://…`, perhaps with a
    /// path), signing for `region`. Does not connect yet.
    pub fn new(endpoint: &str, credentials: Credentials, region: &str) -> Result<Self, CliError> {
        Self::believing(endpoint, credentials, region, None)
    }

    /// The same, and the server's certificate is believed only when an authority in the PEM file
    /// `authorities` stands behind it; else the public ones are believed.
    pub fn believing(
        endpoint: &str,
        credentials: Credentials,
        region: &str,
        authorities: Option<&Path>,
    ) -> Result<Self, CliError> {
        let roots = authorities.map_or(Ok(RootCerts::WebPki), read_authorities)?;
        let wrong = |why: &str| {
            CliError::usage(format!(
                "'{endpoint}' is no server address: {why}; write it like http://127.0.0.1:7070"
            ))
        };
        let uri: Uri = endpoint.parse().map_err(|e| wrong(&format!("{e}")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("it must begin with http:// or https://"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it must not hold a user name"));
        }
        if uri.query().is_some() {
            return Err(wrong("it must not have a query"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let loopback = host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if uri.scheme_str() == Some("http") && !loopback {
            return Err(CliError::usage(format!(
                "'{endpoint}' is another machine, and what is said over plain http there others can \
                 read, secrets too; use https:// (docs/how-to/https.md tells how), or a tunnel to \
                 its loopback address"
            )));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirected request would be signed for the wrong place.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(CALL_TIMEOUT))
            .max_idle_age(Duration::from_secs(3))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .user_agent(concat!("provault/", env!("CARGO_PKG_VERSION")))
            // This machine's own addresses are never behind a proxy.
            .proxy(if loopback { None } else { Proxy::try_from_env() })
            .build();
        Ok(Self {
            agent: config.new_agent(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            authority: HeaderValue::from_str(authority.as_str())
                .map_err(|e| wrong(&format!("{e}")))?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            credentials,
            region: region.to_owned(),
            further_regions: Vec::new(),
            first_wait: Duration::from_millis(200),
            endpoint_hint: "Is the server running, and is this its address?".to_owned(),
            credentials_from: None,
        })
    }

    /// A client of the server that the options, the environment or the data directory name.
    pub fn discover(options: &GlobalOptions) -> Result<Self, CliError> {
        Self::discover_in(options, &Environment::of_process())
    }

    pub(crate) fn discover_in(
        options: &GlobalOptions,
        env: &Environment,
    ) -> Result<Self, CliError> {
        let found = discover::discover(options, env)?;
        let mut client = Self::believing(
            &found.endpoint,
            found.credentials,
            &found.region,
            found.ca_file.as_deref(),
        )?;
        client.further_regions = found.further_regions;
        client.endpoint_hint = found.endpoint_hint;
        client.credentials_from = Some(found.credentials_from);
        Ok(client)
    }

    /// The wait before the first repetition; each further one waits three times longer.
    #[must_use]
    pub fn with_first_wait(mut self, wait: Duration) -> Self {
        self.first_wait = wait;
        self
    }

    /// The server's address, without a slash at its end.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The region requests are signed for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// A client for each region of the server, the first one's first. Where a region was chosen, or it is
    /// not known which there are, only this one.
    pub(crate) fn of_each_region(&self) -> Vec<Self> {
        let of = |region: &String| Self {
            region: region.clone(),
            further_regions: Vec::new(),
            ..self.clone()
        };
        std::iter::once(&self.region).chain(&self.further_regions).map(of).collect()
    }

    #[cfg(test)]
    pub(crate) fn with_further_regions(mut self, regions: &[&str]) -> Self {
        self.further_regions = regions.iter().map(|&region| region.to_owned()).collect();
        self
    }

    /// One call. `path` is percent-encoded already ([`segment`] does that for one part), the
    /// query is not. An empty answer reads as JSON `null` or `{}`, whichever `Out` takes.
    pub fn call<Out: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Out, CliError> {
        let query: Vec<String> = query
            .iter()
            .map(|(key, value)| format!("{}={}", segment(key), segment(value)))
            .collect();
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let answer = self.exchange(method, path, &query.join("&"), &body)?;
        self.read(method, path, &answer)
    }

    /// One operation of AWS Backup.
    pub fn ask<I: OperationInput>(&self, input: &I) -> Result<Answer<I::Output>, CliError> {
        let request = input.encode()?;
        let bytes = self.exchange(request.method, &request.path, &request.query, &request.body)?;
        self.answer(request.method, &request.path, &bytes)
    }

    /// A list operation of AWS Backup, all pages of it as one answer.
    pub fn ask_all<I: OperationInput>(&self, input: &I) -> Result<Answer<I::Output>, CliError> {
        let Some(key) = I::OPERATION.result_key() else { return self.ask(input) };
        let first = input.encode()?;
        let mut members = serde_json::to_value(input).map_err(provault_wire::EncodeError::from)?;
        self.gather(key, first.method, &first.path, |token| {
            if let Some(token) = token {
                members["NextToken"] = token.into();
            }
            let input: I = serde_json::from_value(members.clone())
                .map_err(provault_wire::EncodeError::from)?;
            Ok(self.ask(&input)?.json)
        })
    }

    /// One of our own operations; `path` is what follows [`provault::PREFIX`].
    pub fn own<Out: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer<Out>, CliError> {
        let path = format!("{}{path}", provault::PREFIX);
        let json: Value = self.call(method, &path, query, body)?;
        let typed = self.typed(method, &path, json.clone())?;
        Ok(Answer { typed, json })
    }

    /// A list of ours, all pages of it as one answer; `key` is the member that holds the results.
    pub fn own_all<Out: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        key: &str,
    ) -> Result<Answer<Out>, CliError> {
        let path = format!("{}{path}", provault::PREFIX);
        self.gather(key, "GET", &path, |token| {
            let mut query = query.to_vec();
            query.extend(token.map(|token| ("nextToken", token)));
            self.call("GET", &path, &query, None)
        })
    }

    /// Puts pages together under the first one.
    fn gather<T: DeserializeOwned>(
        &self,
        key: &str,
        method: &str,
        path: &str,
        mut page: impl FnMut(Option<&str>) -> Result<Value, CliError>,
    ) -> Result<Answer<T>, CliError> {
        let mut json = page(None)?;
        let mut token = take_token(&mut json);
        let mut pages = 1;
        while let Some(current) = token {
            let mut next = page(Some(&current))?;
            token = take_token(&mut next);
            pages += 1;
            if token.as_ref() == Some(&current) || pages > MAX_PAGES {
                return Err(self.unreadable(method, path, "its pages do not end"));
            }
            let more = next.get_mut(key).and_then(Value::as_array_mut).map(std::mem::take);
            match (json.get_mut(key).and_then(Value::as_array_mut), more) {
                (Some(all), Some(more)) => all.extend(more),
                (None, Some(more)) => json[key] = more.into(),
                (_, None) => {}
            }
        }
        let typed = self.typed(method, path, json.clone())?;
        Ok(Answer { typed, json })
    }

    fn answer<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        bytes: &[u8],
    ) -> Result<Answer<T>, CliError> {
        let json: Value = if bytes.is_empty() {
            Value::Object(serde_json::Map::new())
        } else {
            self.read(method, path, bytes)?
        };
        let typed = self.typed(method, path, json.clone())?;
        Ok(Answer { typed, json })
    }

    fn typed<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        json: Value,
    ) -> Result<T, CliError> {
        serde_json::from_value(json).map_err(|e| self.unreadable(method, path, &e.to_string()))
    }

    fn read<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        bytes: &[u8],
    ) -> Result<T, CliError> {
        let parsed = if bytes.is_empty() {
            serde_json::from_slice(b"null").or_else(|_| serde_json::from_slice(b"{}"))
        } else {
            serde_json::from_slice(bytes)
        };
        parsed.map_err(|e| self.unreadable(method, path, &e.to_string()))
    }

    fn unreadable(&self, method: &str, path: &str, why: &str) -> CliError {
        CliError::Answer {
            what: format!("{method} {path}"),
            why: why.to_owned(),
            endpoint: self.endpoint.clone(),
        }
    }

    /// Sends until there is an answer or no more sense in it; gives the body of a success.
    fn exchange(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, CliError> {
        let mut wait = self.first_wait;
        let mut attempt = 0;
        loop {
            let last = attempt == RETRIES;
            match self.attempt(method, path, query, body)? {
                Ok((status, _, bytes)) if (200..300).contains(&status) => return Ok(bytes),
                Ok((status, headers, bytes)) => {
                    let error = self.refusal(status, &headers, &bytes);
                    let again = matches!(status, 429 | 503) || error.name == "ThrottlingException";
                    if last || !again {
                        return Err(error.into());
                    }
                }
                Err(Failure::NotSent { again: true, .. }) if !last => {}
                Err(Failure::NotSent { why, .. }) => {
                    return Err(CliError::Unreachable {
                        endpoint: self.endpoint.clone(),
                        why,
                        hint: self.endpoint_hint.clone(),
                    });
                }
                Err(Failure::Torn(_)) if method == "GET" && !last => {}
                Err(Failure::Torn(why)) => {
                    return Err(CliError::Torn {
                        endpoint: self.endpoint.clone(),
                        method: method.to_owned(),
                        path: path.to_owned(),
                        why,
                    });
                }
            }
            thread::sleep(wait);
            wait *= 3;
            attempt += 1;
        }
    }

    #[allow(clippy::type_complexity)] // Status, headers, body: used once, just above.
    fn attempt(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> Result<Result<(u16, HeaderMap, Vec<u8>), Failure>, CliError> {
        let unsendable =
            |e: http::Error| CliError::usage(format!("the request cannot be sent: {e}"));
        let method = Method::from_bytes(method.as_bytes()).map_err(|e| unsendable(e.into()))?;
        let path = format!("{}{path}", self.prefix);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, self.authority.clone());
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = SignedRequest {
            method: &method,
            raw_path: &path,
            raw_query: query,
            headers: &headers,
            body,
        };
        // Each attempt anew: the date is signed too.
        let signature = sign(&request, &self.credentials, &self.region, Timestamp::now())?;
        headers.extend(signature);

        let origin = &self.endpoint[..self.endpoint.len() - self.prefix.len()];
        let mark = if query.is_empty() { "" } else { "?" };
        let mut builder =
            http::Request::builder().method(&method).uri(format!("{origin}{path}{mark}{query}"));
        if let Some(all) = builder.headers_mut() {
            *all = headers;
        }
        let bare = body.is_empty() && matches!(method, Method::GET | Method::DELETE);
        let sent = if bare {
            self.agent.run(builder.body(()).map_err(unsendable)?)
        } else {
            self.agent.run(builder.body(body).map_err(unsendable)?)
        };
        Ok(match sent {
            Ok(mut response) => {
                let status = response.status().as_u16();
                let headers = response.headers().clone();
                match response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec() {
                    Ok(bytes) => Ok((status, headers, bytes)),
                    Err(error) => Err(Failure::Torn(error.to_string())),
                }
            }
            Err(error) => Err(Failure::of(&error)),
        })
    }

    fn refusal(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ApiError {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let error = ServiceError::from_response(status, header("x-amzn-errortype"), body);
        let mut message = error.message;
        if message.is_empty() {
            "the server gave no reason".clone_into(&mut message);
        }
        let about_the_key = ["UnrecognizedClientException", "InvalidSignatureException"];
        if let (Some(from), true) = (&self.credentials_from, about_the_key.contains(&&*error.name))
        {
            message = format!("{message} [signed with {from}]");
        }
        ApiError {
            name: error.name.into_owned(),
            message,
            status,
            request_id: header("x-amzn-requestid").map(str::to_owned),
        }
    }
}

impl Failure {
    fn of(error: &ureq::Error) -> Self {
        use std::io::ErrorKind;

        let why = error.to_string();
        match error {
            ureq::Error::ConnectionFailed => Self::NotSent { why, again: true },
            ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => {
                Self::NotSent { why: "connection refused".to_owned(), again: true }
            }
            ureq::Error::Io(e)
                if matches!(
                    e.kind(),
                    ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
                ) =>
            {
                Self::NotSent { why, again: false }
            }
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve)
            | ureq::Error::HostNotFound
            | ureq::Error::BadUri(_)
            | ureq::Error::InvalidProxyUrl
            | ureq::Error::ConnectProxyFailed(_)
            | ureq::Error::Tls(_)
            | ureq::Error::TlsRequired
            | ureq::Error::Rustls(_) => Self::NotSent { why, again: false },
            _ => Self::Torn(why),
        }
    }
}

/// Percent-encodes one part of a path, or a key or value of a query.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn take_token(page: &mut Value) -> Option<String> {
    let token = page.as_object_mut()?.remove("NextToken")?;
    token.as_str().filter(|token| !token.is_empty()).map(str::to_owned)
}
