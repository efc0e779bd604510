//! What the catalog answers when it cannot do what was asked.

use provault_domain::IllegalTransition;

/// Result of every operation of the catalog.
pub type Result<T> = std::result::Result<T, CatalogError>;

/// Why nothing was changed. Whatever the error, the transaction it happened in left no trace,
/// except where [`CatalogError::Database`] says that the connection broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The thing to change, or one it depends on, is not in the catalog.
    #[error("{what} does not exist")]
    NotFound {
        /// `vault NAME`, `job ID`, …
        what: String,
    },
    /// Something with the same unique value is there already.
    #[error("{what} exists already")]
    AlreadyExists {
        /// Which unique thing: `vault NAME`, `a plan with the request id ID`, …
        what: String,
    },
    /// It cannot be deleted while other things need it.
    #[error("{what} is still in use: {detail}")]
    NotEmpty {
        /// What was to be deleted.
        what: String,
        /// What needs it.
        detail: String,
    },
    /// The limit on the number of something would be exceeded.
    #[error("{what} would be too many; at most {limit}")]
    TooMany {
        /// `51 tags on ARN`, …
        what: String,
        /// The limit.
        limit: usize,
    },
    /// Somebody else changed it at the same time, or it is not in the state this needs. Reading
    /// it again and retrying helps in the first case.
    #[error("{what} was changed by somebody else or is in another state; read it again and retry")]
    Conflict {
        /// What.
        what: String,
    },
    /// The claim is no longer this worker's: it must stop working on the job at once.
    #[error("the lease on job {job_id} has passed to somebody else; stop working on it")]
    Fenced {
        /// The job.
        job_id: String,
    },
    /// The job's state machine refused the event.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The database could not do it.
    #[error(
        "the catalog database failed: {message}{}",
        if *.retryable { " (a retry may help)" } else { "" }
    )]
    Database {
        /// What it said.
        message: String,
        /// Whether trying again later may help: the connection broke, none was free, or the disk
        /// was full. When it broke during a commit, the change may have been made.
        retryable: bool,
    },
    /// A row holds what this program cannot read.
    #[error("{what} in the catalog is damaged: {message}")]
    Corrupt {
        /// Which row.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// Another server uses the catalog, and one is all it can have.
    #[error(
        "another server uses this catalog: stop it first, or give this one a catalog of its own"
    )]
    InUse,
    /// The catalog was made by a newer program, which may keep things this one would break.
    #[error(
        "the catalog has schema version {found}, this program knows up to {known}; nothing was changed. \
         Run the newer provault that wrote it{program}, or put a copy of the catalog from before the \
         upgrade in its place (catalog-before-NNNN.db beside it)"
    )]
    Newer {
        /// Version found.
        found: i64,
        /// Newest version known here.
        known: i64,
        /// ` (VERSION or newer)` of the program that wrote it, or nothing.
        program: String,
    },
    /// The catalog could not be copied before its schema is changed, so it was not changed.
    #[error(
        "before the catalog is upgraded it is copied to {place}, and that failed: {message}. Nothing was \
         changed. Make room there and start again; until then the older provault runs on it"
    )]
    NoCopy {
        /// Where the copy would lie.
        place: String,
        /// What went wrong.
        message: String,
    },
    /// The schema could not be brought up to date; the catalog is as it was.
    #[error(
        "the catalog could not be upgraded: {message}. It is as it was, so that the older provault runs \
         on it{}", copy.as_ref().map_or_else(String::new, |copy| format!("; a copy from before is {copy}"))
    )]
    NotUpgraded {
        /// Which version, and what the database said.
        message: String,
        /// The copy from before, where one was made.
        copy: Option<String>,
    },
    /// The address of the catalog cannot be used.
    #[error("'{url}' is no catalog address: {why}")]
    Address {
        /// As given, without a password.
        url: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl CatalogError {
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    pub(crate) fn exists(what: impl Into<String>) -> Self {
        Self::AlreadyExists { what: what.into() }
    }

    pub(crate) fn conflict(what: impl Into<String>) -> Self {
        Self::Conflict { what: what.into() }
    }

    pub(crate) fn in_use(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::NotEmpty { what: what.into(), detail: detail.into() }
    }
}

/// PostgreSQL: serialization failure, deadlock, lock not available.
const PG_CONTENTION: [&str; 3] = ["40001", "40P01", "55P03"];
/// PostgreSQL: shutting down, starting up, too many connections.
const PG_UNAVAILABLE: [&str; 5] = ["57P01", "57P02", "57P03", "53300", "25P03"];
/// SQLite's primary result codes for busy and locked are in the low byte of the extended ones.
const SQLITE_CONTENTION: [i64; 2] = [5, 6];
/// SQLite's primary result code for a full disk.
const SQLITE_FULL: i64 = 13;

impl From<sqlx::Error> for CatalogError {
    /// Contention becomes [`CatalogError::Conflict`], on which a transaction is run again. So do
    /// violated unique indexes and foreign keys: every operation looks before it writes, so that
    /// they only come up when somebody wrote in between; the second look finds and names it.
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        if let E::Database(error) = &error {
            let message = error.message().to_owned();
            let code = error.code().unwrap_or_default();
            let sqlite = code.parse::<i64>().ok().filter(|_| code.len() < 5);
            let contended = error.is_unique_violation()
                || error.is_foreign_key_violation()
                || PG_CONTENTION.contains(&&*code)
                || sqlite.is_some_and(|c| SQLITE_CONTENTION.contains(&(c & 0xff)));
            if contended {
                return Self::Conflict { what: format!("a row ({message})") };
            }
            if sqlite.is_some_and(|c| c & 0xff == SQLITE_FULL) {
                let advice = "free space on the file system that holds the catalog";
                return Self::Database { message: format!("{message}: {advice}"), retryable: true };
            }
            return Self::Database { message, retryable: PG_UNAVAILABLE.contains(&&*code) };
        }
        let retryable = matches!(error, E::Io(_) | E::PoolTimedOut | E::WorkerCrashed | E::Tls(_));
        Self::Database { message: error.to_string(), retryable }
    }
}
