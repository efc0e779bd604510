//! HTTP: one GET on the isolated loopback. Redirects are not followed: a redirect is the answer.

use std::io::{self, Read};
use std::time::Duration;

use provault_domain::Invalid;
use ureq::http::Uri;

use super::{Answer, BODY_LIMIT, Status};

/// The address of a probe, on the IPv4 or IPv6 loopback.
pub(super) fn address(port: u16, path: &str, six: bool) -> Result<Uri, Invalid> {
    let host = if six { "[::1]" } else { "127.0.0.1" };
    format!("http://{host}:{port}{path}").parse().map_err(|error| {
        Invalid::new("Path", format!("'{path}' cannot be asked for ({error}); percent-encode it."))
    })
}

/// Asks once, and gives the status and the answer; the error says why there was no complete one.
pub(super) fn attempt(port: u16, path: &str, timeout: Duration) -> Result<(u16, Answer), String> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent("provault-restore-test")
        .timeout_global(Some(timeout))
        .build();
    let agent = ureq::Agent::new_with_config(config);
    let ask = |six| {
        let address =
            address(port, path, six).map_err(|invalid| ureq::Error::BadUri(invalid.to_string()))?;
        agent.get(address).call()
    };
    // An application may listen on "localhost" and take that for ::1.
    let answer = match ask(false) {
        Err(error) if is_refused(&error) => ask(true),
        other => other,
    };
    let mut answer = answer.map_err(|error| {
        if is_refused(&error) {
            format!("nothing listens on port {port}")
        } else {
            format!("no answer on port {port}: {error}")
        }
    })?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    let limit = BODY_LIMIT as u64 + 1;
    answer
        .body_mut()
        .as_reader()
        .take(limit)
        .read_to_end(&mut body)
        .map_err(|error| format!("HTTP {status}, but the body broke off: {error}"))?;
    let cut = body.len() > BODY_LIMIT;
    body.truncate(BODY_LIMIT);
    Ok((status, Answer { status: Status::Http(status), body, cut }))
}

fn is_refused(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::ConnectionFailed => true,
        ureq::Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable
        ),
        _ => false,
    }
}
