//! HTTP probes: a question to the application on the isolated loopback, and what the answer must
//! hold.
//!
//! Which answers are final:
//!
//! * No connection, no complete answer, and 502, 503 and 504 mean "not yet": asked again until
//!   the service's start limit passes. An application that warms up should answer 503.
//! * Any other answer that does not hold what it must is asked for again only during a short
//!   settling time, counted from the first wrong answer of the application on; then it is final.
//!   Otherwise every broken copy would take the whole start limit to be found broken.
//! * An application that ends is asked no more.
//!
//! Redirects are not followed: a redirect is the answer. Of a body the first MiB counts.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use provault_domain::verdict::ProbeResult;
use provault_domain::{Assertion, Invalid, Probe};
use serde_json::Value;
use ureq::http::Uri;

use crate::isolation::unanswered;

/// Bytes of a body that are looked at.
pub const BODY_LIMIT: usize = 1 << 20;

/// How much later than the capture a time of the data may be. A copy holds nothing newer than its
/// capture, so that a later time was not read from it; but the clock that wrote the data need not
/// be the clock that timed the capture. Five minutes are what Kerberos allows clocks to differ.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// The longest a single attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How the detail of an answer begins that did not come in time.
const OUT_OF_TIME: &str = "no good answer within ";

/// Whether what was told of an answer, or of a broken copy, says that time ran out: a slow host looks
/// the same as a broken application.
pub fn ran_out_of_time(detail: &str) -> bool {
    detail.contains(OUT_OF_TIME)
}

/// Whether nothing speaks against a copy but that answers did not come in time.
pub fn only_out_of_time(answers: &[ProbeResult]) -> bool {
    let mut failed = answers.iter().filter(|answer| !answer.passed).peekable();
    failed.peek().is_some() && failed.all(|answer| ran_out_of_time(&answer.detail))
}

/// An answer of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// At most [`BODY_LIMIT`] bytes of the body.
    pub body: Vec<u8>,
    /// Whether the body is longer.
    pub cut: bool,
}

/// When a capture was read: nothing in it is newer than the end, and it is as old as the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureSpan {
    /// When the capture was taken.
    pub from: Timestamp,
    /// When the last of it was read.
    pub until: Timestamp,
}

impl From<Timestamp> for CaptureSpan {
    fn from(moment: Timestamp) -> Self {
        Self { from: moment, until: moment }
    }
}

/// Checks whether an answer holds what it must. Both outcomes say what was seen.
pub fn assess(
    answer: &Answer,
    assertions: &[Assertion],
    captured: impl Into<CaptureSpan>,
) -> Result<String, String> {
    let captured = captured.into();
    // Every HTTP answer has a status, so one that nobody asked about has to be the good one.
    let default = [Assertion::Status { equals: 200 }];
    let names_status = assertions.iter().any(|a| matches!(a, Assertion::Status { .. }));
    let default = if names_status { [].iter() } else { default.iter() };
    let failed: Vec<String> = default
        .chain(assertions)
        .filter_map(|assertion| check(answer, assertion, captured).err())
        .collect();
    if failed.is_empty() {
        let n = assertions.len();
        Ok(format!("HTTP {}, {n} of {n} assertions", answer.status))
    } else {
        Err(format!("HTTP {}: {}", answer.status, failed.join("; ")))
    }
}

fn check(answer: &Answer, assertion: &Assertion, captured: CaptureSpan) -> Result<(), String> {
    match assertion {
        Assertion::Status { equals } if answer.status == *equals => Ok(()),
        Assertion::Status { equals } => Err(format!("the status should be {equals}")),
        Assertion::BodyContains { text } => {
            let text_bytes = text.as_bytes();
            if answer.body.windows(text_bytes.len().max(1)).any(|window| window == text_bytes) {
                Ok(())
            } else {
                Err(format!("the body does not contain {text:?}{}", cut_note(answer)))
            }
        }
        Assertion::JsonAtLeast { pointer, minimum } => {
            let value = json(answer, pointer)?;
            let Value::Number(number) = &value else {
                return Err(format!("{pointer} is {}, not a number", short(&value)));
            };
            if at_least(number, *minimum) {
                Ok(())
            } else {
                Err(format!("{pointer} is {number}, below {minimum}"))
            }
        }
        Assertion::JsonNewerThan { pointer, max_age_seconds } => {
            let value = json(answer, pointer)?;
            let time: Timestamp = value
                .as_str()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| format!("{pointer} is {}, not an RFC 3339 time", short(&value)))?;
            let age = captured.from.duration_since(time);
            let ahead = time.duration_since(captured.until);
            let limit =
                SignedDuration::from_secs(i64::try_from(*max_age_seconds).unwrap_or(i64::MAX));
            if ahead > CLOCK_TOLERANCE {
                Err(format!(
                    "{pointer} is {time}, {} s after the capture; a copy holds nothing that new \
                     (at most {} s are allowed, for clocks that differ), so it is not the time of \
                     its data",
                    ahead.as_secs(),
                    CLOCK_TOLERANCE.as_secs()
                ))
            } else if age <= limit {
                Ok(())
            } else {
                Err(format!(
                    "{pointer} is {time}, {} s before the capture; at most {max_age_seconds} s \
                     are allowed",
                    age.as_secs()
                ))
            }
        }
    }
}

/// Integers are compared exactly, however large.
fn at_least(number: &serde_json::Number, minimum: i64) -> bool {
    if let Some(number) = number.as_i64() {
        return number >= minimum;
    }
    if number.is_u64() {
        return true; // larger than any i64
    }
    #[expect(clippy::cast_precision_loss, reason = "the other side is a fraction already")]
    number.as_f64().is_some_and(|number| number >= minimum as f64)
}

fn json(answer: &Answer, pointer: &str) -> Result<Value, String> {
    let document: Value = serde_json::from_slice(&answer.body)
        .map_err(|_| format!("the body is not JSON{}", cut_note(answer)))?;
    document.pointer(pointer).cloned().ok_or_else(|| format!("there is no {pointer} in the body"))
}

fn cut_note(answer: &Answer) -> &'static str {
    if answer.cut { " (only its first MiB was looked at)" } else { "" }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 {
        format!("{}…", text.chars().take(60).collect::<String>())
    } else {
        text
    }
}

/// The address of a probe, on the IPv4 or IPv6 loopback.
fn address(port: u16, path: &str, six: bool) -> Result<Uri, Invalid> {
    let host = if six { "[::1]" } else { "127.0.0.1" };
    format!("http://{host}:{port}{path}").parse().map_err(|error| {
        Invalid::new("Path", format!("'{path}' cannot be asked for ({error}); percent-encode it."))
    })
}

/// Refuses a probe whose address no HTTP client takes.
pub(crate) fn check_address(probe: &Probe) -> Result<(), Invalid> {
    match probe {
        Probe::Http { port, path, .. } => address(*port, path, false).map(drop),
        Probe::Files => Ok(()),
    }
}

/// One application being asked.
pub(crate) struct Asking<'a> {
    /// When the application was started.
    pub(crate) since: Instant,
    /// Until when "not yet" is taken for an answer.
    pub(crate) deadline: Instant,
    /// How long wrong answers may become right.
    pub(crate) settle: Duration,
    /// When they no longer may; set by the first wrong one.
    pub(crate) settled: Option<Instant>,
    /// When the recovery point was captured.
    pub(crate) captured: CaptureSpan,
    /// Waits, and says how the application ended if it did.
    pub(crate) ended: &'a dyn Fn(Duration) -> Option<String>,
}

impl Asking<'_> {
    /// Asks until there is a final answer.
    pub(crate) fn ask(&mut self, probe: &Probe) -> ProbeResult {
        let label = probe.label();
        let Probe::Http { port, path, assertions } = probe else {
            return unanswered(label, "no question for an application.".to_owned(), 0);
        };
        let mut pause = Duration::from_millis(10);
        loop {
            if let Some(how) = (self.ended)(Duration::ZERO) {
                return unanswered(label, format!("{how}."), self.millis());
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            let mut seen = None;
            let last = match attempt(*port, path, left.clamp(Duration::from_secs(1), ATTEMPT)) {
                Ok(answer) => {
                    let status = answer.status;
                    let millis = self.millis();
                    let result = |passed, detail| ProbeResult {
                        label: label.clone(),
                        passed,
                        detail,
                        http_status: Some(status),
                        millis,
                    };
                    match assess(&answer, assertions, self.captured) {
                        Ok(detail) => return result(true, detail),
                        Err(detail) => {
                            let now = Instant::now();
                            let not_yet = matches!(status, 502..=504);
                            let is_final =
                                !not_yet && now >= *self.settled.get_or_insert(now + self.settle);
                            if is_final || now >= self.deadline {
                                return result(false, detail);
                            }
                            seen = Some(status);
                            detail
                        }
                    }
                }
                Err(error) => error,
            };
            if Instant::now() >= self.deadline {
                let after = self.millis() / 1000;
                return ProbeResult {
                    label,
                    passed: false,
                    detail: format!("{OUT_OF_TIME}{after} s: {last}."),
                    http_status: seen,
                    millis: self.millis(),
                };
            }
            // An application that ends while we wait is noticed at the top of the loop.
            let _ = (self.ended)(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Asks once; the error says why there was no complete answer.
fn attempt(port: u16, path: &str, timeout: Duration) -> Result<Answer, String> {
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
    Ok(Answer { status, body, cut })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_alone_is_told_from_an_answer() {
        let answer = |passed, detail: &str| ProbeResult {
            label: "GET /".to_owned(),
            passed,
            detail: detail.to_owned(),
            http_status: None,
            millis: 5000,
        };
        let silent = answer(false, &format!("{OUT_OF_TIME}5 s: nothing listens on port 80."));
        let wrong = answer(false, "HTTP 200: the body is not JSON");
        let good = answer(true, "HTTP 200, 1 of 1 assertions");
        assert!(only_out_of_time(&[silent.clone(), good.clone()]));
        assert!(!only_out_of_time(&[silent.clone(), wrong]), "one answer was wrong");
        assert!(!only_out_of_time(&[good]) && !only_out_of_time(&[]));
        // As the result of a broken copy tells it.
        assert!(ran_out_of_time(&format!("{}: {}", silent.label, silent.detail)));
    }

    #[test]
    fn an_application_that_does_not_answer_runs_out_of_time() {
        let now = Instant::now();
        let mut asking = Asking {
            since: now,
            deadline: now,
            settle: Duration::ZERO,
            settled: None,
            captured: Timestamp::UNIX_EPOCH.into(),
            ended: &|_| None,
        };
        // Nobody may listen there: the port is reserved.
        let probe = Probe::Http { port: 1, path: "/".to_owned(), assertions: Vec::new() };
        assert!(only_out_of_time(&[asking.ask(&probe)]));
    }
}
