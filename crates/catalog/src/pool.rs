//! The connection to the database, and the transactions all changes are made in.

#[cfg(test)]
mod tests;

use std::fs::{OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Connection, Row};

use crate::death::Watch;
use crate::error::{CatalogError, Result};
use crate::migrate;
use crate::unreadable::Told;

/// The catalog: a handle that is cheap to clone and may be used from many tasks.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// For reads outside a transaction.
    pub(crate) read: AnyPool,
    /// For transactions. On SQLite a single connection, so that writers queue up here and not on
    /// the file's lock; on PostgreSQL the same pool as `read`.
    pub(crate) write: AnyPool,
    /// Begins a transaction in which what was read stays true until the commit.
    pub(crate) begin: &'static str,
    /// Jobs that could not be read and were told of.
    pub(crate) told: Told,
}

/// Begins a transaction of SQLite.
pub(crate) const SQLITE_BEGIN: &str = "BEGIN IMMEDIATE";
/// Readers beside the one writer of an SQLite catalog.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL, readers and writers together.
const POSTGRES_CONNECTIONS: u32 = 16;

/// Said on every SQLite connection. WAL lets readers go on while the writer writes; FULL makes a
/// commit survive a power cut; another process that holds the file's lock is waited for.
const SQLITE_SETTINGS: &[&str] = &[
    "PRAGMA busy_timeout = 30000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
];

/// Said on every PostgreSQL connection. Without sequential scans a serializable transaction
/// locks the index ranges it read and not whole tables, which keeps unrelated jobs from failing
/// each other while tables are small. A server that hangs in a transaction must not hold up
/// the others.
const POSTGRES_SETTINGS: &[&str] = &[
    "SET enable_seqscan = off",
    "SET idle_in_transaction_session_timeout = '60s'",
    "SET application_name = 'provault'",
];

impl Catalog {
    /// Opens `sqlite:/path/catalog.db` (made when it is not there, for its owner alone; its
    /// directory must be there) or `postgres://…`, and brings the schema up to date, an SQLite catalog
    /// after a copy of it was made. Refuses a catalog from a newer program.
    pub async fn open(url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let file = url.strip_prefix("sqlite:");
        let catalog = if let Some(path) = file {
            Self::open_sqlite(path).await?
        } else if is_postgres(url) {
            Self::open_postgres(url).await?
        } else {
            return Err(CatalogError::Address {
                url: without_password(url),
                why: "use sqlite:/PATH/catalog.db or postgres://USER@HOST/DATABASE.".to_owned(),
            });
        };
        migrate::run(&catalog, file.map(Path::new)).await?;
        Ok(catalog)
    }

    pub(crate) async fn open_sqlite(path: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Err(CatalogError::Address { url: format!("sqlite:{path}"), why: why.to_owned() })
        };
        if path.is_empty() || path.contains(":memory:") {
            return refuse("a catalog needs a file; use sqlite:/PATH/catalog.db.");
        }
        if Path::new(path).is_dir() {
            return refuse("this is a directory; add a file name such as catalog.db.");
        }
        if let Err(error) = make_private(Path::new(path)) {
            return refuse(&format!(
                "this file cannot be made ({error}); its directory must be there and writable."
            ));
        }
        // Not rwc: a connection that is replaced later must not make an empty catalog where
        // somebody removed the file.
        let address = format!("sqlite:{}?mode=rw", escaped(path));
        // The writer first: it turns WAL on while nobody else is there.
        let write = connect(&address, 1, SQLITE_SETTINGS).await?;
        let read = connect(&address, SQLITE_READERS, SQLITE_SETTINGS).await?;
        // IMMEDIATE takes the write lock at once: two readers that both want to become writers
        // could only fail each other.
        Ok(Self { read, write, begin: SQLITE_BEGIN, told: Told::default() })
    }

    async fn open_postgres(url: &str) -> Result<Self> {
        let pool = connect(url, POSTGRES_CONNECTIONS, POSTGRES_SETTINGS).await?;
        let begin = "BEGIN ISOLATION LEVEL SERIALIZABLE";
        Ok(Self { read: pool.clone(), write: pool, begin, told: Told::default() })
    }

    /// How many bytes the database takes: SQLite's file without its log, PostgreSQL's whole database.
    pub async fn size_bytes(&self) -> Result<u64> {
        let sql = if self.begin == SQLITE_BEGIN {
            "SELECT page_count * page_size AS bytes FROM pragma_page_count(), pragma_page_size()"
        } else {
            "SELECT pg_database_size(current_database()) AS bytes"
        };
        let bytes: i64 = sqlx::query(sql).fetch_one(&self.read).await?.try_get("bytes")?;
        Ok(u64::try_from(bytes).unwrap_or_default())
    }

    /// Waits for running operations and closes all connections. Every later operation fails.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// A path within a URL: the rest of one may hold escapes and a query, a path may hold anything.
pub(crate) fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    path.bytes()
        .map(|byte| match byte {
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Makes an empty file for its owner alone, whatever the umask, when none is there. SQLite gives
/// the files it puts beside it (`-wal`, `-shm`) the same mode. A file that is there keeps the mode
/// its owner gave it.
fn make_private(path: &Path) -> io::Result<()> {
    const OWNER_ALONE: u32 = 0o600;
    /// Closing a file drops all locks this process has on it, those of SQLite too. So one at a
    /// time: the file is closed here before another open in this process goes on to SQLite.
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if path.try_exists()? {
        return Ok(());
    }
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(OWNER_ALONE).open(path)?;
    // A umask can only have taken bits away, perhaps the owner's own.
    file.set_permissions(Permissions::from_mode(OWNER_ALONE))
}

async fn connect(
    address: &str,
    connections: u32,
    settings: &'static [&'static str],
) -> Result<AnyPool> {
    // A pool would try a refused connection again until its time is up; whoever starts a server
    // wants to know at once.
    let first = AnyConnection::connect(address).await.map_err(|e| unreachable_at(address, e))?;
    first.close().await.map_err(|e| unreachable_at(address, e))?;
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_mins(1))
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                for setting in settings {
                    sqlx::raw_sql(*setting).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .connect(address)
        .await
        .map_err(|e| unreachable_at(address, e))
}

/// Whether an address is one of PostgreSQL.
pub(crate) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// The error with the address it is about.
pub(crate) fn unreachable_at(address: &str, error: sqlx::Error) -> CatalogError {
    let url = without_password(address);
    if let sqlx::Error::Configuration(why) = error {
        return CatalogError::Address { url, why: why.to_string() };
    }
    match CatalogError::from(error) {
        CatalogError::Database { message, retryable } => {
            CatalogError::Database { message: format!("{url}: {message}"), retryable }
        }
        other => other,
    }
}

/// `postgres://user:secret@host/…` without the secret, for messages.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((login, place)) = rest.split_once('@') else { return url.to_owned() };
    let user = login.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}@{place}")
}

/// How often a transaction that lost against others is run again, and the pauses between.
#[derive(Debug, Default)]
pub(crate) struct Attempts(u32);

const MAX_ATTEMPTS: u32 = 60;

impl Attempts {
    /// `None` after a pause when the transaction is to be run again.
    pub(crate) async fn failed(&mut self, error: CatalogError) -> Option<CatalogError> {
        self.0 += 1;
        if self.0 >= MAX_ATTEMPTS || !matches!(error, CatalogError::Conflict { .. }) {
            return Some(error);
        }
        // Random pauses, so that two losers do not meet again; longer ones the longer it goes on.
        let longest = 1_000_u64 << self.0.min(6);
        let random = RandomState::new().hash_one(self.0);
        tokio::time::sleep(Duration::from_micros(random % longest)).await;
        None
    }
}

/// A connection lent out for one transaction. It goes back to its pool only when the database
/// confirmed that this transaction is over; in every other case (an error while it begins, an end
/// that failed, a dropped future, a panic) it is closed, and the pool opens another in its place.
///
/// SQLite ends a transaction by itself when the disk is full or fails; what a connection is in the
/// middle of then, only the database knows. Closing rolls back whatever is open, for SQLite and
/// PostgreSQL alike, and the place in the pool stays taken meanwhile, so that SQLite's next writer
/// does not run into the lock of this one.
///
/// The statements are plain ones and not the driver's transactions: those count their depth on
/// their own, and a count that is wrong once makes the connection refuse all that follow.
pub(crate) struct Writer {
    connection: PoolConnection<Any>,
    clean: bool,
    watch: Watch,
    /// Rows that the connection had changed before, for a change that is to be recorded; SQLite only.
    changed_before: Option<i64>,
}

impl Writer {
    /// Waits for a connection of the catalog's writers and begins a transaction on it.
    pub(crate) async fn begin(catalog: &Catalog) -> Result<Self> {
        let connection = catalog.write.acquire().await?;
        let mut writer = Self { connection, clean: false, watch: Watch::OFF, changed_before: None };
        sqlx::raw_sql(catalog.begin).execute(writer.connection()).await?;
        writer.watch = Watch::begin(catalog, writer.connection()).await?;
        if catalog.begin == SQLITE_BEGIN && crate::audit::is_due() {
            writer.changed_before = Some(changes(writer.connection()).await?);
        }
        Ok(writer)
    }

    /// Whether the transaction has changed a row, of a change that is to be recorded.
    pub(crate) async fn has_changed(&mut self) -> Result<bool> {
        if let Some(before) = self.changed_before {
            return Ok(changes(self.connection()).await? != before);
        }
        // PostgreSQL gives a transaction its number with its first change.
        let number = "SELECT CASE WHEN txid_current_if_assigned() IS NULL THEN 0 ELSE 1 END AS n";
        let row = sqlx::query(number).fetch_one(self.connection()).await?;
        Ok(row.try_get::<i32, _>("n")? != 0)
    }

    /// For the statements of the transaction.
    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }

    /// Ends the transaction: commits what went well, rolls back what did not, a refused commit
    /// too. The error is the first one.
    pub(crate) async fn finish<T>(mut self, outcome: Result<T>) -> Result<T> {
        let outcome = match outcome {
            Ok(value) => match self.commit().await {
                Ok(()) => {
                    self.clean = true;
                    return Ok(value);
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match sqlx::raw_sql("ROLLBACK").execute(self.connection()).await {
            Ok(_) => self.clean = true,
            // The transaction is gone all the same: the database ended it, or closing will.
            Err(error) => {
                tracing::warn!(%error, "a catalog transaction ended uncleanly; connection replaced");
            }
        }
        outcome
    }

    async fn commit(&mut self) -> Result<()> {
        let number = self.watch.before(&mut self.connection).await?;
        sqlx::raw_sql("COMMIT").execute(self.connection()).await?;
        Watch::after(number);
        Ok(())
    }
}

/// Rows that this connection of SQLite has changed since it was opened.
pub(crate) async fn changes(connection: &mut AnyConnection) -> Result<i64> {
    let row = sqlx::query("SELECT total_changes() AS n").fetch_one(connection).await?;
    Ok(row.try_get("n")?)
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.clean {
            self.connection.close_on_drop();
        }
    }
}

/// `transact!(catalog, |tx| { … Ok(value) })`: runs the block in a transaction and commits when
/// it is `Ok`. A block that ends in [`CatalogError::Conflict`] is run again some times, so it must
/// not consume what it captures; a refusal that no retry can change is to be returned as a value.
/// A block must end with the first statement that fails: SQLite may have ended the transaction
/// then, and a later statement would be made for good by itself.
///
/// A macro and not a function: a future that borrows from its caller and from the transaction
/// cannot be described by a closure's type and stay `Send`.
macro_rules! transact {
    ($catalog:expr, |$tx:ident| $body:block) => {{
        let mut attempts = $crate::pool::Attempts::default();
        loop {
            // Boxed: what awaits a transaction is not to be as large as all that one needs.
            let outcome = Box::pin(async {
                let mut writer = $crate::pool::Writer::begin($catalog).await?;
                let outcome: $crate::error::Result<_> = {
                    let $tx: &mut ::sqlx::AnyConnection = writer.connection();
                    async { $body }.await
                };
                let outcome = $crate::audit::with_change(&mut writer, outcome).await;
                writer.finish(outcome).await
            })
            .await;
            match outcome {
                Ok(value) => {
                    $crate::audit::committed();
                    break Ok(value);
                }
                Err(error) => {
                    if let Some(error) = attempts.failed(error).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}
pub(crate) use transact;

/// Whether a query has an answer.
pub(crate) async fn any(tx: &mut AnyConnection, sql: &'static str, args: &[&str]) -> Result<bool> {
    let mut query = sqlx::query(sql);
    for arg in args {
        query = query.bind((*arg).to_owned());
    }
    Ok(query.fetch_optional(tx).await?.is_some())
}
