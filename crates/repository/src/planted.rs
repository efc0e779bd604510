//! Bugs that are planted to see whether the tests notice.
//!
//! A test that has never failed proves little. Each bug here is one of those that the order of
//! writing exists to prevent; `tests/tests/wrecks.rs` switches them on, one at a time, in the real
//! program, and demands that something breaks. `PROVAULT_PLANTED_BUG` names one. A build without
//! debug assertions, and so every release, has none of this: there the question is a constant. A
//! server with a planted bug does not start unless a test insists, and `cargo xtask test` looks that
//! the release does not even know the variable.

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The index lists a pack before the pack is stored.
    IndexBeforePack,
    /// Nothing is synced to disk.
    NoSync,
    /// A prune deletes at once what running jobs may still rely on.
    PruneWithoutWaiting,
}

impl Bug {
    #[cfg(debug_assertions)]
    fn name(self) -> &'static str {
        match self {
            Self::IndexBeforePack => "index-before-pack",
            Self::NoSync => "no-sync",
            Self::PruneWithoutWaiting => "prune-without-waiting",
        }
    }
}

/// The variable that names a bug.
#[cfg(debug_assertions)]
pub const VARIABLE: &str = "PROVAULT_PLANTED_BUG";

/// The name of the bug that this process was started with, whether there is such a bug or not.
#[cfg(debug_assertions)]
pub fn wanted() -> Option<&'static str> {
    static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var(VARIABLE).ok());
    wanted.as_deref().filter(|name| !name.is_empty())
}

/// Whether the bug is planted in this process.
#[cfg(debug_assertions)]
pub(crate) fn is_planted(bug: Bug) -> bool {
    wanted() == Some(bug.name())
}

/// Never.
#[cfg(not(debug_assertions))]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    /// Release builds have no debug assertions, and so no planted bugs.
    #[test]
    fn releases_have_no_debug_assertions() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        let (_, release) = manifest.split_once("[profile.release]").unwrap();
        assert!(!release.contains("debug-assertions"), "{release}");
        assert!(!release.contains("inherits = \"dev\""), "{release}");
    }
}
