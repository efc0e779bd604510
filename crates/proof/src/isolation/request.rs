//! What is asked of the isolation, and what it reports.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use provault_domain::verdict::{IsolationLevel, ProbeResult};
use provault_domain::{Probe, ServiceSpec};
use serde::{Deserialize, Serialize};

/// How to start our own executable so that it calls [`crate::helper_main`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperCommand {
    /// The executable.
    pub program: PathBuf,
    /// Such as `__isolate`. The same arguments start every stage.
    pub args: Vec<OsString>,
}

impl HelperCommand {
    /// The executable that runs now, even when the file was replaced by a newer one since.
    pub fn this_program(args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self::new("/proc/self/exe", args)
    }

    /// A certain executable.
    pub fn new(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self { program: program.into(), args: args.into_iter().map(Into::into).collect() }
    }
}

/// What to run in isolation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IsolationRequest {
    /// The restored tree.
    #[serde(with = "path_bytes")]
    pub copy_root: PathBuf,
    /// Absolute paths that must not be seen inside: the resource's own path, the data directory.
    #[serde(with = "paths_bytes")]
    pub hidden: Vec<PathBuf>,
    /// The application; `None` where commands ask the copy itself, and to try out whether isolation
    /// works.
    pub service: Option<ServiceSpec>,
    /// The questions, asked in this order.
    pub probes: Vec<Probe>,
    /// When the recovery point was captured; freshness is measured back from here.
    pub captured_at: Timestamp,
    /// When the last of it was read: a living source may hold times up to here.
    pub captured_until: Timestamp,
    /// The test run token: in the environment of every process of the test.
    pub token: String,
    /// Seconds everything together may take once the application was started, however many
    /// probes there are. The service's own start limit holds as well.
    pub overall_limit_seconds: u64,
    /// Milliseconds during which a wrong answer is asked for again, from the first one on: an
    /// application may listen a moment before its data is loaded.
    pub settle_millis: u64,
}

impl IsolationRequest {
    /// A request with the default limits: one minute beyond the service's start limit and what the
    /// commands of probes may take, one second for wrong answers to become right.
    pub fn new(
        copy_root: PathBuf,
        service: impl Into<Option<ServiceSpec>>,
        probes: Vec<Probe>,
        captured_at: Timestamp,
        token: impl Into<String>,
    ) -> Self {
        let service = service.into();
        let start = service.as_ref().map_or(0, |service| service.start_timeout_seconds);
        let commands = probes.iter().map(|probe| match probe {
            Probe::Command { timeout_seconds, .. } => *timeout_seconds,
            _ => 0,
        });
        let overall = commands.fold(start.saturating_add(60), u64::saturating_add);
        Self {
            copy_root,
            hidden: Vec::new(),
            overall_limit_seconds: overall,
            service,
            probes,
            captured_at,
            captured_until: captured_at,
            token: token.into(),
            settle_millis: 1000,
        }
    }

    pub(super) fn check(directory: PathBuf) -> Self {
        Self {
            copy_root: directory,
            hidden: Vec::new(),
            service: None,
            probes: Vec::new(),
            captured_at: Timestamp::UNIX_EPOCH,
            captured_until: Timestamp::UNIX_EPOCH,
            token: "check".to_owned(),
            overall_limit_seconds: 10,
            settle_millis: 0,
        }
    }

    pub(super) fn overall_limit(&self) -> Duration {
        Duration::from_secs(self.overall_limit_seconds)
    }
}

/// How an application ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationExit {
    /// Its exit code, when it exited.
    pub code: Option<i32>,
    /// The signal that ended it, such as `SIGSEGV`.
    pub signal: Option<String>,
}

/// What happened in isolation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsolationReport {
    /// How the copy was held: full, or there is no report.
    pub level: Option<IsolationLevel>,
    /// One answer for each probe that is asked in isolation, in the order asked.
    pub probes: Vec<ProbeResult>,
    /// How the application ended, if it did before it was ended.
    pub exit: Option<ApplicationExit>,
    /// The last [`super::LOG_TAIL`] bytes the application wrote, standard output and error
    /// together.
    pub log_tail: String,
    /// Milliseconds from the call until the isolation stood.
    pub isolated_millis: u64,
    /// Milliseconds from the call until the application was started, if it could be.
    pub started_millis: Option<u64>,
    /// Milliseconds from the application's start to the first answer, if there was one.
    pub first_answer_millis: Option<u64>,
    /// What is worth knowing, such as a path that had to be covered.
    pub notes: Vec<String>,
}

/// Paths are bytes, JSON is text.
mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(path.as_os_str().as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = hex::decode(text).map_err(serde::de::Error::custom)?;
        Ok(PathBuf::from(OsString::from_vec(bytes)))
    }
}

mod paths_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(|path| hex::encode(path.as_os_str().as_bytes())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<PathBuf>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts
            .into_iter()
            .map(|text| hex::decode(text).map(|bytes| PathBuf::from(OsString::from_vec(bytes))))
            .collect::<Result<_, _>>()
            .map_err(serde::de::Error::custom)
    }
}
