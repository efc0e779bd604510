//! What every state machine here has in common: effects, refusals, timed steps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Notification;

/// How often a job is begun when its servers end while it runs. Once more could be its own fault:
/// a job that takes its server down with it must not do so for ever.
pub const MOST_ATTEMPTS: u32 = 5;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
pub(crate) fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What must happen together with a change of state. The catalog writes effects in the same
/// transaction as the new state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Tell whoever asked to be told.
    Notify(Box<Notification>),
}

/// The event cannot happen in this state; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {state}: it cannot be {event} now")]
pub struct IllegalTransition {
    /// `backup job ID`, …
    pub what: String,
    /// The state it is in.
    pub state: String,
    /// The event that was refused, as a past participle.
    pub event: &'static str,
}

/// One timed step of a job, for logs and evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Such as `capture`, `restore`, `probe`.
    pub name: String,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds of the monotonic clock.
    pub millis: u64,
    /// Whether it ended well.
    pub ok: bool,
    /// What happened, for people.
    pub detail: String,
}

/// `#[serde]` names, `as_str`, `FromStr` and `Display` of a state enum, written once.
macro_rules! state_names {
    ($name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $name {
            /// Every state.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// The name in the API.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::Invalid;
            fn from_str(s: &str) -> Result<Self, $crate::Invalid> {
                match s {
                    $($text => Ok($name::$variant),)+
                    _ => Err($crate::Invalid::new(stringify!($name), format!("'{s}' is not a state."))),
                }
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use state_names;
