//! One server to a catalog.
//!
//! Servers that share a catalog by mistake would take each other's jobs for those of a process that is gone
//! ([`Catalog::release_leases_of_others`]). An SQLite catalog lies in a data directory, which is locked. For
//! PostgreSQL the lock is an advisory one of a session that does nothing else: PostgreSQL gives it up when
//! the session ends, however that happens, and no earlier.
//!
//! A server that was frozen and wakes up after another has taken its place finds the lock gone, and what it
//! still writes for its jobs is refused, because their generation has moved on.

use std::time::Duration;

use sqlx::{AnyConnection, Connection, Row};

use crate::error::{CatalogError, Result};
use crate::pool::{Catalog, is_postgres, unreachable_at};

/// `provault` in ASCII. Locks are of one database, so nobody else's has to be avoided.
const KEY: i64 = 0x7072_6f76_6175_6c74;
/// How often the session is asked whether it is there.
const ASKED_EVERY: Duration = Duration::from_secs(2);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server whose machine is gone must not hold the lock for the hours that TCP would wait.
const SETTINGS: &str = "SET application_name = 'provault (sole use)'; SET tcp_keepalives_idle = 10; \
                        SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

/// The right to be the only server of a catalog, for as long as it is kept.
#[derive(Debug)]
pub struct SoleUse {
    url: String,
    session: Option<AnyConnection>,
}

impl Catalog {
    /// Takes the catalog at `url` for this server alone; [`CatalogError::InUse`] when another has it. To be
    /// done before anything else is. For SQLite there is nothing to do.
    pub async fn claim_sole_use(url: &str) -> Result<SoleUse> {
        sqlx::any::install_default_drivers();
        let session = if is_postgres(url) {
            Some(locked(url).await?.ok_or(CatalogError::InUse)?)
        } else {
            None
        };
        Ok(SoleUse { url: url.to_owned(), session })
    }
}

impl SoleUse {
    /// Returns once another server has the catalog; never, while there is none. A session that broke is
    /// taken anew, as often as it takes.
    pub async fn lost(mut self) {
        if self.session.is_none() {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(ASKED_EVERY).await;
            let asked = async {
                let session = self.session.as_mut()?;
                sqlx::raw_sql("SELECT 1").execute(session).await.ok()
            };
            if matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Some(_))) {
                continue;
            }
            // Closed without a word: nobody may be there to hear one.
            drop(self.session.take());
            match tokio::time::timeout(PATIENCE, locked(&self.url)).await {
                Ok(Ok(Some(session))) => {
                    tracing::warn!("the catalog's lock was lost and taken again");
                    self.session = Some(session);
                }
                Ok(Ok(None)) => return,
                Ok(Err(error)) => tracing::error!(%error, "the catalog's lock cannot be asked for"),
                Err(_) => tracing::error!("the catalog's lock cannot be asked for: no answer"),
            }
        }
    }
}

/// A session that holds the lock; `None` when another has it.
async fn locked(url: &str) -> Result<Option<AnyConnection>> {
    let unreachable = |error| unreachable_at(url, error);
    let mut session = AnyConnection::connect(url).await.map_err(unreachable)?;
    sqlx::raw_sql(SETTINGS).execute(&mut session).await.map_err(unreachable)?;
    let row = sqlx::query(
        "SELECT (CASE WHEN pg_try_advisory_lock($1) THEN 1 ELSE 0 END)::BIGINT AS held",
    )
    .bind(KEY)
    .fetch_one(&mut session)
    .await
    .map_err(unreachable)?;
    Ok((row.try_get::<i64, _>("held")? == 1).then_some(session))
}
