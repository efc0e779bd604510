//! Jobs whose rows cannot be read: they stay where they are, do not hold up the others, and are told of.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use provault_domain::{AccountId, BackupJob, CareRun, RestoreJob, RestoreTest};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::error::{CatalogError, Result};
use crate::job::Job;
use crate::page::{Select, body};
use crate::pool::Catalog;

/// An unfinished job that this program cannot read: nobody will work on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableJob {
    /// What it is, for people: `backup job`, `care run`, …
    pub what: &'static str,
    /// Its id.
    pub id: String,
    /// Its state's name in the API, from the column beside what cannot be read.
    pub state: String,
    /// What is wrong with it.
    pub message: String,
}

/// The ids of the jobs that a claim has told of: once in the life of a process is loud enough, a line every
/// second would drown the rest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<Mutex<HashSet<String>>>);

impl Told {
    /// Tells of a job that was passed over, the first time.
    pub(crate) fn once<J: Job>(&self, id: &str, error: &CatalogError) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned()) {
            tracing::error!(
                job = id,
                %error,
                "this {} cannot be read: it is passed over and will not be worked on; see `provault doctor`",
                J::NAME
            );
        }
    }
}

impl Catalog {
    /// The account's unfinished jobs, of all types, that cannot be read.
    pub async fn unreadable_jobs(&self, account: &AccountId) -> Result<Vec<UnreadableJob>> {
        let rows = Select::new("SELECT id, type, state, body FROM jobs")
            .and("account =", account)
            .only("done = 0")
            .then("ORDER BY created_at, id")
            .rows(&self.read)
            .await?;
        let mut found = Vec::new();
        for row in &rows {
            let read = match row.try_get::<&str, _>("type")? {
                BackupJob::TYPE => try_read::<BackupJob>(row),
                RestoreJob::TYPE => try_read::<RestoreJob>(row),
                RestoreTest::TYPE => try_read::<RestoreTest>(row),
                CareRun::TYPE => try_read::<CareRun>(row),
                other => Err(("job", format!("'{other}' is no type of a job"))),
            };
            if let Err((what, message)) = read {
                let (id, state) = (row.try_get("id")?, row.try_get("state")?);
                found.push(UnreadableJob { what, id, state, message });
            }
        }
        Ok(found)
    }
}

fn try_read<J: Job>(row: &AnyRow) -> std::result::Result<(), (&'static str, String)> {
    body::<J>(row).map(drop).map_err(|error| (J::NAME, error.to_string()))
}
