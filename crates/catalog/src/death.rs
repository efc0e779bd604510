//! Death at a commit, for tests.
//!
//! A crash at the boundary of any transaction must lose nothing. To try them all, a test starts the
//! real program with `PROVAULT_KILL_AT_COMMIT=before:7`, and the process dies by SIGKILL when its
//! seventh commit is about to be made; with `after:7`, right when it has been made. With
//! `PROVAULT_KILL_SINCE=FILE` only those commits count that are made while that file is there. What
//! changed no row does not count, so that loops which look and find nothing do not blur the numbers.
//!
//! SQLite only, whose writers queue up: the numbers are the order of the commits. A build without
//! debug assertions, and so every release, has none of this.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::AnyConnection;

use crate::error::Result;
use crate::pool::{Catalog, SQLITE_BEGIN, changes};

/// When this process is to die.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(not(debug_assertions), allow(dead_code, reason = "there nobody is to die"))]
struct Doom {
    /// Whether the commit is made first.
    after: bool,
    /// The number of the commit, from 1.
    number: u64,
    /// The file without which no commit counts.
    since: Option<std::path::PathBuf>,
}

#[cfg(debug_assertions)]
fn doom() -> Option<&'static Doom> {
    static DOOM: std::sync::OnceLock<Option<Doom>> = std::sync::OnceLock::new();
    let doom = DOOM.get_or_init(|| {
        let said = std::env::var("PROVAULT_KILL_AT_COMMIT").ok()?;
        let since = std::env::var_os("PROVAULT_KILL_SINCE").map(std::path::PathBuf::from);
        parse(&said, since)
    });
    doom.as_ref()
}

/// Never.
#[cfg(not(debug_assertions))]
const fn doom() -> Option<&'static Doom> {
    None
}

#[cfg(debug_assertions)]
fn parse(said: &str, since: Option<std::path::PathBuf>) -> Option<Doom> {
    let (side, number) = said.split_once(':')?;
    let after = match side {
        "before" => false,
        "after" => true,
        _ => return None,
    };
    Some(Doom { after, number: number.parse().ok()?, since })
}

/// Commits that counted.
static COUNTED: AtomicU64 = AtomicU64::new(0);

/// A transaction as death sees it: how many rows its connection had changed before; nothing where
/// nobody is to die.
pub(crate) struct Watch(Option<i64>);

impl Watch {
    /// For a transaction that has not begun.
    pub(crate) const OFF: Self = Self(None);

    /// To be called when the transaction has begun.
    pub(crate) async fn begin(catalog: &Catalog, connection: &mut AnyConnection) -> Result<Self> {
        if doom().is_none() || catalog.begin != SQLITE_BEGIN {
            return Ok(Self::OFF);
        }
        Ok(Self(Some(changes(connection).await?)))
    }

    /// To be called right before the commit: gives its number, if it counts.
    pub(crate) async fn before(&self, connection: &mut AnyConnection) -> Result<Option<u64>> {
        let (Some(doom), Some(at_begin)) = (doom(), self.0) else { return Ok(None) };
        let idle = changes(connection).await? == at_begin;
        if idle || doom.since.as_ref().is_some_and(|file| !file.exists()) {
            return Ok(None);
        }
        let number = COUNTED.fetch_add(1, Ordering::SeqCst) + 1;
        if number == doom.number && !doom.after {
            die();
        }
        Ok(Some(number))
    }

    /// To be called right after the commit with this number.
    pub(crate) fn after(number: Option<u64>) {
        let due = |number| doom().is_some_and(|doom| doom.after && doom.number == number);
        if number.is_some_and(due) {
            die();
        }
    }
}

/// Nothing of this process runs after this.
fn die() {
    // Nobody can refuse a signal to itself; should it be so, the test finds a process that lives.
    if let Err(error) = kill(Pid::this(), Signal::SIGKILL) {
        tracing::error!(%error, "a process that was to die lives");
        return;
    }
    loop {
        std::thread::park();
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_doom_is_read_or_there_is_none() {
        let doom = |after, number| Some(Doom { after, number, since: None });
        assert_eq!(parse("before:7", None), doom(false, 7));
        assert_eq!(parse("after:12", None), doom(true, 12));
        for bad in ["", "7", "before", "before:", "after:x", "beside:3"] {
            assert_eq!(parse(bad, None), None, "{bad}");
        }
    }
}
