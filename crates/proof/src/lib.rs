//! The proof plane's tools: isolate a restored copy, ask it, break it, and clean up after it.
//!
//! A restore test restores a recovery point into a directory of its own and then uses this room:
//!
//! * [`token`] marks that directory before anything is in it, so that only what bears the mark is
//!   ever deleted;
//! * [`manifest`] compares every restored file with what was recorded at capture;
//! * [`isolation`] starts the application of the copy where it can reach nothing but the copy;
//! * [`probe`] asks it there and checks what the answers hold;
//! * [`mutant`] breaks further copies on purpose, because a probe that cannot fail proves nothing;
//! * [`probe_version`] says how long the answers of broken copies may be kept;
//! * [`room`] says whether there is room for a copy.
//!
//! When a test runs, and what its outcome means, is decided elsewhere; everything here blocks.
//!
//! Invariants:
//!
//! * Isolation is full or it is not: where the host forbids a part of it, nothing is started and
//!   the error is the host's ([`ProofError::fault`]), never a failed probe.
//! * Everything started ends before [`isolation::run_isolated`] returns, and with the process that
//!   called it, however that one ends: it all lives in one PID namespace whose first process ends
//!   at the end of a pipe.
//! * No path, command or secret stands in an argument list; requests travel through a pipe.
//! * Nothing here follows a symbolic link out of a copy.

pub mod error;
pub mod isolation;
pub mod manifest;
pub mod mutant;
pub mod probe;
pub mod token;

mod space;
mod tree;
mod version;

pub use error::ProofError;
pub use isolation::{
    ApplicationExit, HelperCommand, IsolationReport, IsolationRequest, IsolationSupport,
    helper_main, probe_support, run_isolated,
};
pub use manifest::{Difference, ManifestReport, compare};
pub use mutant::{Mutant, MutantChange, judge};
pub use space::{Room, free_bytes, room};
pub use token::{ReapError, TestArea, leftovers, reap};
pub use version::probe_version;
