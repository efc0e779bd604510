//! What a restore leaves that writes over its target and breaks off.

use std::path::Path;

/// How far a restore came that wrote over its target, as was asked, and did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenOff {
    /// In the middle of writing.
    Writing,
    /// All is written, and was not found to be what the recovery point holds.
    Comparing,
    /// Nobody knows: its process died, or it was not taken up again.
    Unknown,
}

impl BrokenOff {
    /// What that means for `target` and what to do about it, in sentences for people.
    pub fn told(self, target: &Path) -> String {
        let target = target.display();
        let state = match self {
            Self::Writing => {
                "is partly written: it holds neither what it held before nor what the recovery point holds"
            }
            Self::Comparing => {
                "is written over, but was not found to hold what the recovery point holds"
            }
            Self::Unknown => "may be partly written by an attempt of this restore that broke off",
        };
        format!(
            "The target at {target} {state}. Do not use it; restore onto it again, or onto another one."
        )
    }
}
