//! Probes: the questions a restore test puts to a restored copy, and what the answers must hold.

use std::collections::BTreeMap;

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
        if self.command.first().is_none_or(String::is_empty) {
            return Err(Invalid::new("Service.Command", "it must name a program."));
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            return Err(Invalid::new("Service.Command", "it must not hold a NUL character."));
        }
        if !(1..=3600).contains(&self.start_timeout_seconds) {
            return Err(Invalid::new(
                "Service.StartTimeoutSeconds",
                "it must lie between 1 and 3600.",
            ));
        }
        Ok(())
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
    /// Every restored file against the manifest taken at capture: presence, kind, size, content,
    /// mode, owner, modification time, link target. Runs before the application starts.
    Files,
}

/// What an answer must hold. An HTTP probe without a `Status` assertion expects 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Assertion {
    /// The HTTP status is exactly this one.
    Status {
        /// 100 to 599.
        equals: u16,
    },
    /// The body holds this text.
    BodyContains {
        /// Case sensitive.
        text: String,
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
    /// Whether the question is put to a running application.
    pub fn needs_service(&self) -> bool {
        match self {
            Probe::Http { .. } => true,
            Probe::Files => false,
        }
    }

    /// A short name for logs and evidence: `http:8080/path` or `files`.
    pub fn label(&self) -> String {
        match self {
            Probe::Http { port, path, .. } => format!("http:{port}{path}"),
            Probe::Files => "files".to_owned(),
        }
    }

    /// Refuses what could never be asked.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Probe::Http { port, path, assertions } = self else { return Ok(()) };
        if *port == 0 {
            return Err(Invalid::new("Port", "0 is not a port an application can be asked at."));
        }
        let plain = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
        if !plain {
            return Err(Invalid::new(
                "Path",
                "it must begin with '/' and be percent-encoded ASCII.",
            ));
        }
        for assertion in assertions {
            assertion.validate()?;
        }
        Ok(())
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
            Assertion::JsonAtLeast { pointer, .. } | Assertion::JsonNewerThan { pointer, .. } => {
                pointer
            }
            Assertion::Status { .. } | Assertion::BodyContains { .. } => return Ok(()),
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
