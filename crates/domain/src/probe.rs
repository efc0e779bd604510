//! Probes: the questions a restore test puts to a restored copy, and what the answers must hold.

use std::collections::BTreeMap;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::Invalid;

/// How to start the application of a restored copy. It runs in the root of the copy, in
/// isolation; the copy's path is in its environment as `PROVAULT_COPY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Program and arguments. A program with a `/` is taken relative to the copy unless absolute;
    /// one without is looked up in `PATH`.
    pub command: Vec<String>,
    /// Variables added to a clean environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Seconds the application may take until its first probe answers; default 60.
    #[serde(default = "default_start_timeout")]
    pub start_timeout_seconds: u64,
}

fn default_start_timeout() -> u64 {
    60
}

impl ServiceSpec {
    /// A service started by `command` with the default limits.
    pub fn new(command: Vec<String>) -> Self {
        Self {
            command,
            environment: BTreeMap::new(),
            start_timeout_seconds: default_start_timeout(),
        }
    }

    /// The command must name a program and the limit lie between 1 second and 1 hour.
    pub fn validate(&self) -> Result<(), Invalid> {
        validate_command("Service.Command", &self.command)?;
        validate_limit("Service.StartTimeoutSeconds", self.start_timeout_seconds)
    }
}

fn validate_command(member: &str, command: &[String]) -> Result<(), Invalid> {
    if command.first().is_none_or(String::is_empty) {
        return Err(Invalid::new(member, "it must name a program."));
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err(Invalid::new(member, "it must not hold a NUL character."));
    }
    Ok(())
}

fn validate_limit(member: &str, seconds: u64) -> Result<(), Invalid> {
    if (1..=3600).contains(&seconds) {
        Ok(())
    } else {
        Err(Invalid::new(member, "it must lie between 1 and 3600."))
    }
}

/// A question put to a restored copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Probe {
    /// An HTTP GET to the application on the isolated loopback.
    Http {
        /// Port the application listens on, inside the isolation.
        port: u16,
        /// Path and query, beginning with `/`.
        path: String,
        /// What the answer must hold; all of them.
        #[serde(default)]
        assertions: Vec<Assertion>,
    },
    /// A connection to the application on the isolated loopback, and what comes over it first.
    Tcp {
        /// Port the application listens on, inside the isolation.
        port: u16,
        /// Bytes sent once the connection stands; none for a server that speaks first.
        #[serde(default, with = "hex_text", skip_serializing_if = "Vec::is_empty")]
        send: Vec<u8>,
        /// What comes back must hold, all of them: [`Assertion::BodyContains`] and
        /// [`Assertion::BodyMatches`]. With none the connection is the answer.
        #[serde(default)]
        assertions: Vec<Assertion>,
        /// Seconds a single connection is listened to.
        #[serde(default = "default_listen_timeout")]
        timeout_seconds: u64,
    },
    /// A program that runs beside the application, in the same isolation and with no more rights,
    /// in the root of the copy. It needs no application: without one it is the copy's data that is
    /// asked.
    Command {
        /// Program and arguments, as in [`ServiceSpec::command`].
        command: Vec<String>,
        /// What must hold, all of them: [`Assertion::ExitCode`] and, of its standard output, all
        /// that look at a body.
        #[serde(default)]
        assertions: Vec<Assertion>,
        /// Seconds after which it is killed, and has failed.
        #[serde(default = "default_command_timeout")]
        timeout_seconds: u64,
    },
    /// Every restored file against the manifest taken at capture: presence, kind, size, content,
    /// mode, owner, modification time, link target. Runs before the application starts.
    Files,
}

/// Seconds a connection of a TCP probe is listened to unless the probe says otherwise.
pub fn default_listen_timeout() -> u64 {
    10
}

/// Seconds a command probe may take unless it says otherwise.
pub fn default_command_timeout() -> u64 {
    60
}

/// Bytes a TCP probe may send. A server may have to take them all before it answers.
const LONGEST_SEND: usize = 4096;

/// What an answer must hold. An HTTP probe without a `Status` assertion expects 200, a command
/// without an `ExitCode` one 0. The body is that of an HTTP answer, what came over a TCP
/// connection, or the standard output of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Assertion {
    /// The HTTP status is exactly this one.
    Status {
        /// 100 to 599.
        equals: u16,
    },
    /// The command's exit code is exactly this one.
    ExitCode {
        /// Such as 0.
        equals: u8,
    },
    /// The body holds this text.
    BodyContains {
        /// Case sensitive.
        text: String,
    },
    /// The body holds a match of this regular expression.
    BodyMatches {
        /// In the syntax of Rust's `regex` crate, over bytes: `^` and `$` are the ends of the whole
        /// body unless it begins with `(?m)`.
        pattern: String,
    },
    /// A number in a JSON body is at least this large: a row count above a floor.
    JsonAtLeast {
        /// RFC 6901 pointer, such as `/rows`.
        pointer: String,
        /// The floor.
        minimum: i64,
    },
    /// An RFC 3339 time in a JSON body is no older than this, measured back from the moment of
    /// capture: the data itself is fresh, not only the backup. Nor is it newer than the capture, by
    /// more than clocks may differ: such a time was not read from the copy's data.
    JsonNewerThan {
        /// RFC 6901 pointer, such as `/newest`.
        pointer: String,
        /// Seconds before the capture.
        max_age_seconds: u64,
    },
}

impl Probe {
    /// Whether the question is put to a running application, so that one must be started.
    pub fn needs_service(&self) -> bool {
        match self {
            Probe::Http { .. } | Probe::Tcp { .. } => true,
            Probe::Command { .. } | Probe::Files => false,
        }
    }

    /// Whether it is asked inside the isolation of a copy.
    pub fn needs_isolation(&self) -> bool {
        match self {
            Probe::Http { .. } | Probe::Tcp { .. } | Probe::Command { .. } => true,
            Probe::Files => false,
        }
    }

    /// A short name for logs and evidence: `http:8080/path`, `tcp:6379`, `command:./check.sh` or
    /// `files`.
    pub fn label(&self) -> String {
        /// Of a command, which may hold a whole script.
        const LONGEST: usize = 60;
        match self {
            Probe::Http { port, path, .. } => format!("http:{port}{path}"),
            Probe::Tcp { port, .. } => format!("tcp:{port}"),
            Probe::Command { command, .. } => {
                let line = command.join(" ");
                let cut = if line.chars().count() > LONGEST { "…" } else { "" };
                format!("command:{}{cut}", line.chars().take(LONGEST).collect::<String>())
            }
            Probe::Files => "files".to_owned(),
        }
    }

    /// Refuses what could never be asked.
    pub fn validate(&self) -> Result<(), Invalid> {
        let (assertions, allowed): (_, fn(&Assertion) -> bool) = match self {
            Probe::Files => return Ok(()),
            Probe::Http { port, path, assertions } => {
                validate_port(*port)?;
                let plain = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
                if !plain {
                    return Err(Invalid::new(
                        "Path",
                        "it must begin with '/' and be percent-encoded ASCII.",
                    ));
                }
                (assertions, |assertion| !matches!(assertion, Assertion::ExitCode { .. }))
            }
            Probe::Tcp { port, send, assertions, timeout_seconds } => {
                validate_port(*port)?;
                if send.len() > LONGEST_SEND {
                    let message = format!("it must not hold more than {LONGEST_SEND} bytes.");
                    return Err(Invalid::new("Send", message));
                }
                validate_limit("TimeoutSeconds", *timeout_seconds)?;
                (assertions, |assertion| {
                    matches!(
                        assertion,
                        Assertion::BodyContains { .. } | Assertion::BodyMatches { .. }
                    )
                })
            }
            Probe::Command { command, assertions, timeout_seconds } => {
                validate_command("Command", command)?;
                validate_limit("TimeoutSeconds", *timeout_seconds)?;
                (assertions, |assertion| !matches!(assertion, Assertion::Status { .. }))
            }
        };
        for assertion in assertions {
            if !allowed(assertion) {
                let message = "this type of probe has nothing that such an assertion looks at.";
                return Err(Invalid::new("Assertions", message));
            }
            assertion.validate()?;
        }
        Ok(())
    }
}

fn validate_port(port: u16) -> Result<(), Invalid> {
    if port == 0 {
        return Err(Invalid::new("Port", "0 is not a port an application can be asked at."));
    }
    Ok(())
}

/// Makes a pattern of [`Assertion::BodyMatches`] ready to be looked for. It works on bytes: what
/// comes over a connection need not be text. Errors say what is wrong with the pattern.
pub fn pattern(pattern: &str) -> Result<Regex, Invalid> {
    /// Of the compiled pattern; enough for any banner, too little for `(x{999}){999}`.
    const LARGEST: usize = 1 << 20;
    RegexBuilder::new(pattern).unicode(false).size_limit(LARGEST).build().map_err(|error| {
        // The library draws the place over several lines; the last one says what is wrong.
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Invalid::new("Assertions", format!("'{pattern}' is not a regular expression: {why}."))
    })
}

/// Bytes in a document of text.
mod hex_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl Assertion {
    fn validate(&self) -> Result<(), Invalid> {
        let pointer = match self {
            Assertion::Status { equals } if !(100..=599).contains(equals) => {
                return Err(Invalid::new("Assertions", format!("{equals} is not an HTTP status.")));
            }
            Assertion::BodyContains { text } if text.is_empty() => {
                return Err(Invalid::new(
                    "Assertions",
                    "every body contains the empty text; name some.",
                ));
            }
            Assertion::BodyMatches { pattern: text } => {
                if pattern(text)?.is_match(b"") {
                    return Err(Invalid::new(
                        "Assertions",
                        format!(
                            "'{text}' matches the empty text, so it holds where nothing was answered."
                        ),
                    ));
                }
                return Ok(());
            }
            Assertion::JsonAtLeast { pointer, .. } | Assertion::JsonNewerThan { pointer, .. } => {
                pointer
            }
            Assertion::Status { .. }
            | Assertion::ExitCode { .. }
            | Assertion::BodyContains { .. } => return Ok(()),
        };
        if pointer.is_empty() || pointer.starts_with('/') {
            Ok(())
        } else {
            Err(Invalid::new(
                "Assertions",
                format!("'{pointer}' is not a JSON pointer; begin it with '/'."),
            ))
        }
    }
}
