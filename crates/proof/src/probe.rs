//! Asking a probe inside the isolation, and what the answer must hold: of HTTP and TCP the
//! application on the isolated loopback answers, of a command its output and exit code.
//!
//! Which answers are final:
//!
//! * "Not yet" is asked again until the service's start limit passes: no connection, one over which
//!   nothing came, no complete HTTP answer, HTTP 502, 503 and 504, and a command that exits with
//!   [`TEMPFAIL`]. An application that warms up should answer 503.
//! * Any other answer that does not hold what it must is asked for again only during a short
//!   settling time, counted from the first wrong answer on; then it is final. Otherwise every broken
//!   copy would take the whole start limit to be found broken.
//! * A command that is killed at its limit has answered: it is not asked again.
//! * An application that ends is asked no more.
//!
//! Of a body the first MiB counts.

mod http;
mod tcp;

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use provault_domain::probe::pattern;
use provault_domain::verdict::ProbeResult;
use provault_domain::{Assertion, Invalid, Probe};
use serde_json::Value;

use crate::isolation::{End, Ran, Trouble, unanswered};

/// Bytes of a body that are looked at.
pub const BODY_LIMIT: usize = 1 << 20;

/// Bytes of an answer that go into the evidence.
pub const OUTPUT_LIMIT: usize = 4096;

/// The exit code of a command that cannot tell yet: `EX_TEMPFAIL` of sysexits.h.
pub const TEMPFAIL: i32 = 75;

/// How much later than the capture a time of the data may be. A copy holds nothing newer than its
/// capture, so that a later time was not read from it; but the clock that wrote the data need not
/// be the clock that timed the capture. Five minutes are what Kerberos allows clocks to differ.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// The longest a single attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How the detail of an answer begins that did not come in time.
const OUT_OF_TIME: &str = "no good answer within ";
/// The same of a command that had to be ended.
const NOT_DONE: &str = "not done after ";

/// Whether what was told of an answer, or of a broken copy, says that time ran out: a slow host looks
/// the same as a broken application.
pub fn ran_out_of_time(detail: &str) -> bool {
    detail.contains(OUT_OF_TIME) || detail.contains(NOT_DONE)
}

/// Whether nothing speaks against a copy but that answers did not come in time.
pub fn only_out_of_time(answers: &[ProbeResult]) -> bool {
    let mut failed = answers.iter().filter(|answer| !answer.passed).peekable();
    failed.peek().is_some() && failed.all(|answer| ran_out_of_time(&answer.detail))
}

/// An answer, of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How it came.
    pub status: Status,
    /// At most [`BODY_LIMIT`] bytes of the body.
    pub body: Vec<u8>,
    /// Whether the body is longer.
    pub cut: bool,
}

/// What came with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// An HTTP status.
    Http(u16),
    /// Nothing: it came over a TCP connection.
    Tcp,
    /// The exit code of a command.
    Exit(i32),
}

impl Status {
    /// What is expected of the status where nothing is said of it: every HTTP answer and every
    /// command has one, so one that nobody asked about has to be the good one.
    fn default_for(self, assertions: &[Assertion]) -> Option<Assertion> {
        let named =
            |a: &Assertion| matches!(a, Assertion::Status { .. } | Assertion::ExitCode { .. });
        match self {
            _ if assertions.iter().any(named) => None,
            Self::Http(_) => Some(Assertion::Status { equals: 200 }),
            Self::Tcp => None,
            Self::Exit(_) => Some(Assertion::ExitCode { equals: 0 }),
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(status) => write!(f, "HTTP {status}"),
            Self::Tcp => f.write_str("connected"),
            Self::Exit(code) => write!(f, "exit code {code}"),
        }
    }
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

impl Answer {
    fn body_name(&self) -> &'static str {
        match self.status {
            Status::Http(_) => "the body",
            Status::Tcp => "what came",
            Status::Exit(_) => "the output",
        }
    }
}

/// Checks whether an answer holds what it must. Both outcomes say what was seen.
pub fn assess(
    answer: &Answer,
    assertions: &[Assertion],
    captured: impl Into<CaptureSpan>,
) -> Result<String, String> {
    let captured = captured.into();
    let default = answer.status.default_for(assertions);
    let failed: Vec<String> = default
        .iter()
        .chain(assertions)
        .filter_map(|assertion| check(answer, assertion, captured).err())
        .collect();
    if failed.is_empty() {
        let n = assertions.len();
        Ok(format!("{}, {n} of {n} assertions", answer.status))
    } else {
        Err(format!("{}: {}", answer.status, failed.join("; ")))
    }
}

fn check(answer: &Answer, assertion: &Assertion, captured: CaptureSpan) -> Result<(), String> {
    match assertion {
        Assertion::Status { equals } if answer.status == Status::Http(*equals) => Ok(()),
        Assertion::Status { equals } => Err(format!("the status should be {equals}")),
        Assertion::ExitCode { equals } if answer.status == Status::Exit((*equals).into()) => Ok(()),
        Assertion::ExitCode { equals } => Err(format!("it should be {equals}")),
        Assertion::BodyContains { text } => {
            let text_bytes = text.as_bytes();
            if answer.body.windows(text_bytes.len().max(1)).any(|window| window == text_bytes) {
                Ok(())
            } else {
                Err(format!("{} does not contain {text:?}{}", answer.body_name(), cut_note(answer)))
            }
        }
        Assertion::BodyMatches { pattern: text } => {
            let pattern = pattern(text).map_err(|invalid| invalid.message)?;
            if pattern.is_match(&answer.body) {
                Ok(())
            } else {
                let (what, cut) = (answer.body_name(), cut_note(answer));
                Err(format!("{what} does not match '{text}'{cut}"))
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
        .map_err(|_| format!("{} is not JSON{}", answer.body_name(), cut_note(answer)))?;
    document
        .pointer(pointer)
        .cloned()
        .ok_or_else(|| format!("there is no {pointer} in {}", answer.body_name()))
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

/// Refuses a probe whose address no HTTP client takes.
pub(crate) fn check_address(probe: &Probe) -> Result<(), Invalid> {
    match probe {
        Probe::Http { port, path, .. } => http::address(*port, path, false).map(drop),
        Probe::Tcp { .. } | Probe::Command { .. } | Probe::Files => Ok(()),
    }
}

/// Starts a command inside and waits for its end, or ends it after a time.
pub(crate) type RunCommand<'a> = dyn Fn(&[String], Duration) -> Result<Ran, Trouble> + 'a;

/// One copy being asked.
pub(crate) struct Asking<'a> {
    /// When the application was started, or the isolation stood.
    pub(crate) since: Instant,
    /// Until when "not yet" is taken for an answer.
    pub(crate) deadline: Instant,
    /// When everything must be over.
    pub(crate) overall: Instant,
    /// How long wrong answers may become right.
    pub(crate) settle: Duration,
    /// When they no longer may; set by the first wrong one.
    pub(crate) settled: Option<Instant>,
    /// When the recovery point was captured.
    pub(crate) captured: CaptureSpan,
    /// Waits, and says how the application ended if it did.
    pub(crate) ended: &'a dyn Fn(Duration) -> Option<String>,
    /// Runs commands.
    pub(crate) run: &'a RunCommand<'a>,
}

/// What one try came to.
struct Tried {
    outcome: Outcome,
    detail: String,
    http_status: Option<u16>,
    output: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Everything held.
    Held,
    /// Something did not; it may while the application settles.
    Wrong,
    /// There was no answer yet.
    NotYet,
    /// Something did not, and never will.
    Final,
}

impl Tried {
    fn not_yet(detail: String) -> Self {
        Self { outcome: Outcome::NotYet, detail, http_status: None, output: None }
    }

    fn assessed(assessed: Result<String, String>, output: Option<String>) -> Self {
        let outcome = if assessed.is_ok() { Outcome::Held } else { Outcome::Wrong };
        let (Ok(detail) | Err(detail)) = assessed;
        Self { outcome, detail, http_status: None, output }
    }
}

impl Asking<'_> {
    /// Asks until there is a final answer. An error is the host's.
    pub(crate) fn ask(&mut self, probe: &Probe) -> Result<ProbeResult, Trouble> {
        let label = probe.label();
        let mut pause = Duration::from_millis(10);
        loop {
            if let Some(how) = (self.ended)(Duration::ZERO) {
                return Ok(unanswered(label, format!("{how}."), self.millis()));
            }
            let tried = self.attempt(probe)?;
            // A command may say that all is well of an application that died meanwhile.
            if tried.outcome == Outcome::Held
                && matches!(probe, Probe::Command { .. })
                && let Some(how) = (self.ended)(Duration::ZERO)
            {
                return Ok(unanswered(label, format!("{how}."), self.millis()));
            }
            let now = Instant::now();
            let is_final = match tried.outcome {
                Outcome::Held | Outcome::Final => true,
                Outcome::NotYet => false,
                Outcome::Wrong => now >= *self.settled.get_or_insert(now + self.settle),
            };
            if is_final || now >= self.deadline {
                let seconds = self.millis() / 1000;
                let detail = match tried.outcome {
                    Outcome::NotYet if tried.http_status.is_none() => {
                        format!("{OUT_OF_TIME}{seconds} s: {}.", tried.detail)
                    }
                    _ => tried.detail,
                };
                return Ok(ProbeResult {
                    label,
                    passed: tried.outcome == Outcome::Held,
                    detail,
                    http_status: tried.http_status,
                    millis: self.millis(),
                    output: tried.output,
                });
            }
            // An application that ends while we wait is noticed at the top of the loop.
            let _ = (self.ended)(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    fn attempt(&self, probe: &Probe) -> Result<Tried, Trouble> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_secs(1));
        Ok(match probe {
            Probe::Http { port, path, assertions } => {
                match http::attempt(*port, path, left.min(ATTEMPT)) {
                    Ok((status, answer)) => {
                        let assessed = assess(&answer, assertions, self.captured);
                        let mut tried = Tried::assessed(assessed, None);
                        tried.http_status = Some(status);
                        if tried.outcome == Outcome::Wrong && matches!(status, 502..=504) {
                            tried.outcome = Outcome::NotYet;
                        }
                        tried
                    }
                    Err(why) => Tried::not_yet(why),
                }
            }
            Probe::Tcp { port, send, assertions, timeout_seconds } => {
                let limit = left.min(Duration::from_secs(*timeout_seconds));
                let holds = |answer: &Answer| assess(answer, assertions, self.captured);
                match tcp::attempt(*port, send, limit, &holds) {
                    Ok((answer, assessed)) => {
                        let seen = shown(&answer.body[..answer.body.len().min(OUTPUT_LIMIT)]);
                        Tried::assessed(assessed, (!seen.is_empty()).then_some(seen))
                    }
                    Err(why) => Tried::not_yet(why),
                }
            }
            Probe::Command { command, assertions, timeout_seconds } => {
                let left = self.overall.saturating_duration_since(Instant::now());
                let left = left.max(Duration::from_secs(1));
                let limit = left.min(Duration::from_secs(*timeout_seconds));
                let ran = (self.run)(command, limit)?;
                self.judge(ran, assertions, limit)
            }
            Probe::Files => Tried {
                outcome: Outcome::Final,
                ..Tried::not_yet("no question that is asked in isolation.".to_owned())
            },
        })
    }

    fn judge(&self, ran: Ran, assertions: &[Assertion], limit: Duration) -> Tried {
        let Ran { end, stdout, cut, tail, last_line } = ran;
        let wrote = last_line
            .map_or_else(|| "it wrote nothing".to_owned(), |line| format!("it last wrote: {line}"));
        let output = (!tail.is_empty()).then_some(tail);
        let told =
            |detail, output| Tried { outcome: Outcome::Final, detail, http_status: None, output };
        let code = match end {
            End::NotStarted(why) => return told(format!("{why}."), output),
            End::Killed => {
                let detail = format!("{NOT_DONE}{} s, so it was ended; {wrote}.", limit.as_secs());
                return told(detail, output);
            }
            End::Exited(exit) => match (exit.code, exit.signal) {
                (Some(code), _) => code,
                (None, signal) => {
                    let signal = signal.unwrap_or_else(|| "a signal".to_owned());
                    return Tried::assessed(
                        Err(format!("it was ended by {signal}; {wrote}.")),
                        output,
                    );
                }
            },
        };
        let answer = Answer { status: Status::Exit(code), body: stdout, cut };
        let assessed = assess(&answer, assertions, self.captured)
            .map_err(|detail| format!("{detail}; {wrote}"));
        let mut tried = Tried::assessed(assessed, output);
        if tried.outcome == Outcome::Wrong && code == TEMPFAIL {
            tried.outcome = Outcome::NotYet;
        }
        tried
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Bytes for people. JSON and catalogs take any text, so only what is none is changed.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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
            output: None,
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
    fn an_application_that_dies_while_a_command_asks_is_noticed() {
        let died = std::cell::Cell::new(false);
        let now = Instant::now();
        let mut asking = Asking {
            since: now,
            deadline: now,
            overall: now + Duration::from_mins(1),
            settle: Duration::ZERO,
            settled: None,
            captured: Timestamp::UNIX_EPOCH.into(),
            ended: &|_| died.get().then(|| "the application exited with status 1".to_owned()),
            run: &|_, _| {
                died.set(true);
                let exit = crate::isolation::ApplicationExit { code: Some(0), signal: None };
                Ok(Ran {
                    end: End::Exited(exit),
                    stdout: Vec::new(),
                    cut: false,
                    tail: String::new(),
                    last_line: None,
                })
            },
        };
        let probe = Probe::Command {
            command: vec!["true".to_owned()],
            assertions: Vec::new(),
            timeout_seconds: 60,
        };
        let answer = asking.ask(&probe).unwrap_or_else(|_| panic!("no trouble"));
        assert!(!answer.passed, "{answer:?}");
        assert!(answer.detail.contains("exited with status 1"), "{answer:?}");
    }

    #[test]
    fn an_application_that_does_not_answer_runs_out_of_time() {
        let now = Instant::now();
        let mut asking = Asking {
            since: now,
            deadline: now,
            overall: now,
            settle: Duration::ZERO,
            settled: None,
            captured: Timestamp::UNIX_EPOCH.into(),
            ended: &|_| None,
            run: &|_, _| unreachable!("no command is asked"),
        };
        // Nobody may listen there: the port is reserved.
        let probe = Probe::Http { port: 1, path: "/".to_owned(), assertions: Vec::new() };
        assert!(only_out_of_time(&[asking.ask(&probe).unwrap_or_else(|_| panic!("no trouble"))]));
    }
}
